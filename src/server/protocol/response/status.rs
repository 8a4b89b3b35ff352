//! How a node is and who its cluster has, as bytes.

use serde::{Deserialize, Serialize};

use crate::server::kinds::{MemberStatus, NodeStatus, ScrubProgress, Standing};
use crate::types::{ClusterId, Index, NodeId, Role, Term};

#[derive(Serialize, Deserialize)]
pub(super) struct StatusFixed {
    id: NodeId,
    cluster: Option<ClusterId>,
    epoch: u64,
    address: String,
    role: WireRole,
    term: Term,
    leader: Option<NodeId>,
    first: Index,
    last: Index,
    durable: Index,
    committed: Index,
    applied: Index,
    disk_bytes: u64,
    damaged: u64,
    mended: u64,
    scrubbed: Index,
    scrub_rounds: u64,
    snapshot: Index,
    snapshot_bytes_received: u64,
    members: Vec<MemberFixed>,
    error: Option<String>,
    version: String,
}

#[derive(Serialize, Deserialize)]
pub(super) struct MemberFixed {
    id: NodeId,
    address: String,
    standing: WireStanding,
    priority: u8,
    replaces: Option<NodeId>,
    matched: Option<Index>,
    snapshotting: bool,
}

/// The order of the variants is part of the format.
#[derive(Clone, Copy, Serialize, Deserialize)]
enum WireStanding {
    Voter,
    Learner,
    Joining,
    Leaving,
}

/// The order of the variants is part of the format.
#[derive(Clone, Copy, Serialize, Deserialize)]
enum WireRole {
    Leader,
    Candidate,
    PreCandidate,
    Follower,
    Learner,
}

pub(super) fn status_fixed(status: &NodeStatus) -> StatusFixed {
    StatusFixed {
        id: status.id,
        cluster: status.cluster,
        epoch: status.epoch,
        address: status.address.clone(),
        role: match status.role {
            Role::Leader => WireRole::Leader,
            Role::Candidate => WireRole::Candidate,
            Role::PreCandidate => WireRole::PreCandidate,
            Role::Follower => WireRole::Follower,
            Role::Learner => WireRole::Learner,
        },
        term: status.term,
        leader: status.leader,
        first: status.first,
        last: status.last,
        durable: status.durable,
        committed: status.committed,
        applied: status.applied,
        disk_bytes: status.disk_bytes,
        damaged: status.damaged,
        mended: status.mended,
        scrubbed: status.scrub.upto,
        scrub_rounds: status.scrub.rounds,
        snapshot: status.snapshot,
        snapshot_bytes_received: status.snapshot_bytes_received,
        members: status.members.iter().map(member_fixed).collect(),
        error: status.error.clone(),
        version: status.version.to_string(),
    }
}

pub(super) fn member_fixed(member: &MemberStatus) -> MemberFixed {
    MemberFixed {
        id: member.id,
        address: member.address.clone(),
        standing: match member.standing {
            Standing::Voter => WireStanding::Voter,
            Standing::Learner => WireStanding::Learner,
            Standing::Joining => WireStanding::Joining,
            Standing::Leaving => WireStanding::Leaving,
        },
        priority: member.priority,
        replaces: member.replaces,
        matched: member.matched,
        snapshotting: member.snapshotting,
    }
}

pub(super) fn member_of(fixed: MemberFixed) -> MemberStatus {
    MemberStatus {
        id: fixed.id,
        address: fixed.address,
        standing: match fixed.standing {
            WireStanding::Voter => Standing::Voter,
            WireStanding::Learner => Standing::Learner,
            WireStanding::Joining => Standing::Joining,
            WireStanding::Leaving => Standing::Leaving,
        },
        priority: fixed.priority,
        replaces: fixed.replaces,
        matched: fixed.matched,
        snapshotting: fixed.snapshotting,
    }
}

pub(super) fn status_of(fixed: StatusFixed) -> NodeStatus {
    NodeStatus {
        id: fixed.id,
        cluster: fixed.cluster,
        epoch: fixed.epoch,
        address: fixed.address,
        role: match fixed.role {
            WireRole::Leader => Role::Leader,
            WireRole::Candidate => Role::Candidate,
            WireRole::PreCandidate => Role::PreCandidate,
            WireRole::Follower => Role::Follower,
            WireRole::Learner => Role::Learner,
        },
        term: fixed.term,
        leader: fixed.leader,
        first: fixed.first,
        last: fixed.last,
        durable: fixed.durable,
        committed: fixed.committed,
        applied: fixed.applied,
        disk_bytes: fixed.disk_bytes,
        damaged: fixed.damaged,
        mended: fixed.mended,
        scrub: ScrubProgress { upto: fixed.scrubbed, rounds: fixed.scrub_rounds },
        snapshot: fixed.snapshot,
        snapshot_bytes_received: fixed.snapshot_bytes_received,
        members: fixed.members.into_iter().map(member_of).collect(),
        error: fixed.error,
        version: fixed.version,
    }
}
