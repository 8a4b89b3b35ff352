//! Servers update stable storage before responding to requests (paper, figure 2): a granted vote and a claim of
//! durable entries may leave a node only when its disk has them.

use dledger::raft::Raft;
use dledger::raft::message::{AppendOutcome, Body};
use dledger::transport::{PeerBody, PeerFrame};
use dledger::types::{EntryId, Index, NodeId, Term};

use super::{Property, Verdict, holds};
use crate::truth::{DiskTruth, Truth};

pub(crate) const PROPERTY: Property = Property {
    name: "sent_after_sync",
    claim: "a vote or an append is answered only once it is synced (paper, figure 2)",
};

/// What a node wants to say must have a form on the wire.
pub(crate) const SENDABLE: Property = Property {
    name: "sendable",
    claim: "every frame that a node sends can be encoded within the limits (docs/wire.md)",
};

/// A frame leaves a node whose disk holds `disk`.
pub(crate) fn sent(raft: &Raft, to: NodeId, frame: &PeerFrame, disk: &DiskTruth, truth: &Truth) -> Verdict {
    let PeerBody::Raft(message) = &frame.body else { return Ok(()) };
    match message.body {
        Body::VoteAnswer { granted: true } | Body::VoteInDoubt => {
            let vote = disk.vote;
            // A disk that has gone on to a later term cannot give this one's vote again.
            let bound = vote.term > message.term || (vote.term, vote.voted_for) == (message.term, to);
            holds(bound, || format!("a vote for {to} in term {} leaves, the disk has {vote:?}", message.term))
        }
        Body::AppendAnswer { outcome: AppendOutcome::Accepted { durable, verified } } => {
            holds(disk.vote.term >= message.term, || {
                format!("an append of term {} is answered, the disk knows term {}", message.term, disk.vote.term)
            })?;
            claims(raft, message.term, durable.min(verified), disk, truth)
        }
        Body::HeartbeatAnswer { durable, verified, .. } => {
            claims(raft, message.term, durable.min(verified), disk, truth)
        }
        Body::PreVote { .. }
        | Body::PreVoteAnswer { .. }
        | Body::PreVoteInDoubt { .. }
        | Body::Vote { .. }
        | Body::VoteAnswer { granted: false }
        | Body::Append { .. }
        | Body::AppendAnswer { outcome: AppendOutcome::Rejected { .. } }
        | Body::Heartbeat { .. }
        | Body::ReadIndex { .. }
        | Body::ReadIndexAnswer { .. }
        | Body::HandOver => Ok(()),
    }
}

fn claims(raft: &Raft, of: Term, durable: Index, disk: &DiskTruth, truth: &Truth) -> Verdict {
    let id = match raft.term_at(durable) {
        // Of what is before its log a node says that it is committed.
        _ if durable < raft.base().index => truth.committed_at(durable),
        // A later leader's append came in the turn in which this was said to an earlier one: it was about what the disk still
        // has there.
        Some(term) if term > of => {
            let held = disk.at(durable).filter(|held| held.term <= of);
            Some(held.unwrap_or(EntryId::new(durable, of)))
        }
        Some(term) => Some(EntryId::new(durable, term)),
        None => None,
    };
    let Some(id) = id.filter(|_id| durable > Index::ZERO) else { return Ok(()) };
    holds(truth.vouches(disk, id), || {
        let (held, snapshot) = (disk.at(durable), disk.newest_snapshot());
        format!("entry {id} is said to be durable, the disk has {held:?} there and a snapshot of {snapshot}")
    })
}
