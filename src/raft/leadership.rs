//! What a node holds besides its log: the state of its role, and of its election timer.

use std::collections::BTreeMap;

use crate::types::{Index, Monotonic, NodeId, Term};

use super::progress::Progress;
use super::quorum::{Quorum, Tally};
use super::read_index::Reads;
use super::read_lease::Lease;

/// What this node is to its group.
#[derive(Debug)]
pub(super) enum State {
    /// Follows, or waits; a learner stays here.
    Follower,
    /// Asks whether it could win; keeps term and leader meanwhile.
    PreCandidate(Ballot),
    /// Asks for votes of its term.
    Candidate(Ballot),
    /// Orders the log.
    Leader(Leadership),
}

/// A voter's answer to a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Given {
    /// No.
    Refused,
    /// Yes, by a node that may have lost what it acknowledged: counts only when every voter says yes.
    InDoubt,
    /// Yes.
    Granted,
}

impl Given {
    pub(super) const fn of(granted: bool) -> Self {
        if granted { Self::Granted } else { Self::Refused }
    }
}

/// Answers to a request for votes.
#[derive(Debug)]
pub(super) struct Ballot {
    /// The term that the votes are for.
    pub(super) term: Term,
    votes: BTreeMap<NodeId, Given>,
}

impl Ballot {
    pub(super) const fn new(term: Term) -> Self {
        Self { term, votes: BTreeMap::new() }
    }

    /// Notes an answer; the first one of each voter counts.
    pub(super) fn record(&mut self, voter: NodeId, given: Given) {
        self.votes.entry(voter).or_insert(given);
    }

    /// A refused pre-vote may be asked again, so there the last answer counts.
    pub(super) fn replace(&mut self, voter: NodeId, given: Given) {
        self.votes.insert(voter, given);
    }

    /// A majority wins whose own logs vouch for the candidate's. So does everybody together: then no voter has anything
    /// that the candidate lacks, whatever some of them have lost.
    pub(super) fn tally(&self, quorum: &Quorum) -> Tally {
        let given = |voter: NodeId| self.votes.get(&voter).copied();
        let majority = quorum.tally(|voter| given(voter).map(|given| given == Given::Granted));
        let everybody = quorum.unanimity(|voter| given(voter).map(|given| given != Given::Refused));
        match (majority, everybody) {
            (Tally::Won, _) | (_, Tally::Won) => Tally::Won,
            (Tally::Lost, Tally::Lost) => Tally::Lost,
            (Tally::Open | Tally::Lost, Tally::Open | Tally::Lost) => Tally::Open,
        }
    }
}

/// A leader's state; gone with the office.
#[derive(Debug)]
pub(super) struct Leadership {
    /// Every other member, by number.
    pub(super) peers: BTreeMap<NodeId, Progress>,
    /// The no-op of this office; nothing is committed by counting below it.
    pub(super) first_own: Index,
    /// When the next heartbeat is due.
    pub(super) heartbeat_at: Monotonic,
    /// The newest heartbeat round.
    pub(super) round: u64,
    pub(super) reads: Reads,
    pub(super) lease: Lease,
    /// When a quorum was last known to follow, and heartbeats sent since.
    pub(super) quorum_heard: Monotonic,
    pub(super) unanswered: u32,
}

impl Leadership {
    pub(super) const fn new(first_own: Index, now: Monotonic) -> Self {
        Self {
            peers: BTreeMap::new(),
            first_own,
            heartbeat_at: now,
            round: 0,
            reads: Reads::new(),
            lease: Lease::new(),
            quorum_heard: now,
            unanswered: 0,
        }
    }

    /// Begins with members that are new, and is done with those that are none any more. `next` is the first entry that
    /// a new one is offered; what it lacks before is found out by its answer.
    pub(super) fn meet(&mut self, members: &[NodeId], me: NodeId, next: Index, now: Monotonic) {
        self.peers.retain(|id, _peer| members.contains(id));
        for id in members.iter().filter(|id| **id != me) {
            self.peers.entry(*id).or_insert_with(|| Progress::new(next, now));
        }
    }
}

/// When this node grows impatient.
#[derive(Debug)]
pub(super) struct ElectionTimer {
    /// When to start or retry an election.
    pub(super) deadline: Monotonic,
    /// When the leader of this term was last heard; `None` when it was not, or its connection closed since.
    pub(super) heard_leader: Option<Monotonic>,
    /// Until when elections are retried at short intervals, after the leader's connection closed.
    pub(super) fast_until: Monotonic,
    /// Before this time another closed connection starts no election.
    pub(super) fast_again: Monotonic,
}
