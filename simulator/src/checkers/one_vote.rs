//! Each server votes for at most one candidate in a given term (paper, 5.2), also when it restarts in between.

use std::collections::BTreeMap;

use dledger::raft::message::Body;
use dledger::transport::{PeerBody, PeerFrame};
use dledger::types::{NodeId, Term};

use super::{Property, Verdict, holds};

pub(crate) const PROPERTY: Property =
    Property { name: "one_vote", claim: "a node grants one vote a term, also over restarts (paper, 5.2)" };

/// The votes granted.
#[derive(Debug, Default)]
pub(crate) struct OneVote {
    granted: BTreeMap<(NodeId, Term), NodeId>,
}

impl OneVote {
    /// A frame leaves `from`.
    pub(crate) fn sent(&mut self, from: NodeId, to: NodeId, frame: &PeerFrame) -> Verdict {
        let PeerBody::Raft(message) = &frame.body else { return Ok(()) };
        if matches!(message.body, Body::VoteAnswer { granted: true } | Body::VoteInDoubt) {
            self.votes(from, message.term, to)
        } else {
            Ok(())
        }
    }

    /// Whether `voter` gave `candidate` its vote of `term`.
    pub(crate) fn has_voted(&self, voter: NodeId, term: Term, candidate: NodeId) -> bool {
        self.granted.get(&(voter, term)) == Some(&candidate)
    }

    /// `voter` gave its vote of `term` to `candidate`; a leader gave itself its own.
    pub(crate) fn votes(&mut self, voter: NodeId, term: Term, candidate: NodeId) -> Verdict {
        let first = *self.granted.entry((voter, term)).or_insert(candidate);
        holds(first == candidate, || format!("node {voter} voted for {first} and for {candidate} in term {term}"))
    }
}
