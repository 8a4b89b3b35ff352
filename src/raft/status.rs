//! What the core tells about itself; for status pages and for its caller's decisions.

use std::time::Duration;

use crate::types::{EntryId, Index, NodeId, Role, Term, Vote};

use super::core::Raft;
use super::leadership::State;
use super::membership::Membership;

/// What a leader knows of another member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// The member.
    pub id: NodeId,
    /// The last index known to be on its disk and equal to the leader's.
    pub matched: Index,
    /// How long ago it was last heard.
    pub heard_ago: Duration,
    /// Appends under way to it.
    pub inflight_messages: usize,
    /// Bytes of records under way to it.
    pub inflight_bytes: u64,
    /// The leader is looking for the place where the logs agree.
    pub probing: bool,
    /// The leader has purged what it needs next: it fetches a snapshot.
    pub lacks: bool,
}

impl Raft {
    /// This node.
    #[must_use]
    pub const fn id(&self) -> NodeId {
        self.config.id
    }

    /// What this node is to its group now. A node that neither votes nor may stand is a learner, also when it was removed.
    #[must_use]
    pub fn role(&self) -> Role {
        match &self.state {
            State::Follower if !self.may_stand() => Role::Learner,
            State::Follower => Role::Follower,
            State::PreCandidate(_) => Role::PreCandidate,
            State::Candidate(_) => Role::Candidate,
            State::Leader(_) => Role::Leader,
        }
    }

    /// This node's term.
    #[must_use]
    pub const fn term(&self) -> Term {
        self.vote.term
    }

    /// Term and vote; not necessarily durable yet.
    #[must_use]
    pub const fn vote(&self) -> Vote {
        self.vote
    }

    /// Who leads this term, where known.
    #[must_use]
    pub const fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    /// The last index known to be committed.
    #[must_use]
    pub const fn committed(&self) -> Index {
        self.committed
    }

    /// The last index that the caller reported as applied.
    #[must_use]
    pub const fn applied_index(&self) -> Index {
        self.applied
    }

    /// The entry before the first one in the log.
    #[must_use]
    pub const fn base(&self) -> EntryId {
        self.terms.base()
    }

    /// The last entry of the log, durable or not.
    #[must_use]
    pub fn last(&self) -> EntryId {
        self.terms.last()
    }

    /// The last index that this node vouches for: on its disk, with all before it readable.
    #[must_use]
    pub fn durable(&self) -> Index {
        self.sound()
    }

    /// The last index that was written to this disk, behind any hole.
    #[must_use]
    pub const fn written(&self) -> Index {
        self.durable
    }

    /// How far entries may be applied now: what is committed, up to the first hole.
    #[must_use]
    pub fn applicable(&self) -> Index {
        self.committed.min(self.damage.limit())
    }

    /// The first entry that cannot be read back.
    #[must_use]
    pub const fn first_hole(&self) -> Option<Index> {
        self.damage.hole()
    }

    /// Entries that this node acknowledged may be missing at the end of its log.
    #[must_use]
    pub const fn in_doubt(&self) -> bool {
        self.damage.in_doubt()
    }

    /// The last index that this term's leader has verified to match its own log.
    #[must_use]
    pub const fn verified(&self) -> Index {
        self.verified
    }

    /// The term of the entry at `index`; `None` below the base and above the last entry.
    #[must_use]
    pub fn term_at(&self, index: Index) -> Option<Term> {
        self.terms.term_at(index)
    }

    /// The latest membership in the log; `None` before the cluster is formed, and while the only one is damaged.
    #[must_use]
    pub fn membership(&self) -> Option<&Membership> {
        self.memberships.latest()
    }

    /// The index of [`Raft::membership`]'s entry.
    #[must_use]
    pub fn membership_index(&self) -> Option<Index> {
        self.memberships.latest_index()
    }

    /// The entry of [`Raft::membership`]; of term 0 where the log begins behind it.
    #[must_use]
    pub fn membership_id(&self) -> Option<EntryId> {
        let index = self.memberships.latest_index()?;
        Some(EntryId::new(index, self.terms.term_at(index).unwrap_or_default()))
    }

    /// The last committed membership that this log tells of, and those since: any of them may turn out to rule.
    pub fn memberships_in_force(&self) -> impl Iterator<Item = &Membership> {
        self.memberships.since(self.committed)
    }

    /// The membership in force at `index`, and the index of its entry; `None` when it is not known.
    #[must_use]
    pub fn membership_at(&self, index: Index) -> Option<(Index, &Membership)> {
        self.memberships.at(index)
    }

    /// This node was removed, as it knows for certain.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.memberships.has_removed(self.config.id, self.committed)
    }

    /// The state machine has no connection to the log, which begins behind what it holds: a snapshot must be fetched.
    #[must_use]
    pub const fn is_detached(&self) -> bool {
        self.damage.is_detached()
    }

    /// On a leader, every other member, by number; empty elsewhere.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerStatus> {
        let State::Leader(office) = &self.state else { return Vec::new() };
        let status = |(id, peer): (&NodeId, &super::progress::Progress)| {
            let (inflight_messages, inflight_bytes) = peer.in_flight();
            PeerStatus {
                id: *id,
                matched: peer.matched,
                heard_ago: self.now.since(peer.heard),
                inflight_messages,
                inflight_bytes,
                probing: peer.mode != super::progress::Mode::Stream,
                lacks: peer.lacks,
            }
        };
        office.peers.iter().map(status).collect()
    }
}
