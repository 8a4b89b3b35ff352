//! A candidate wins an election if it receives votes from a majority of the servers for the same term (paper, 5.2), and
//! while they change from a majority of those before and of those after (paper, 6): by the latest membership of its log.

use dledger::raft::Membership;
use dledger::types::{NodeId, Term};

use super::one_vote::OneVote;
use super::{Property, Verdict, holds};
use crate::memberships::agree;

pub(crate) const PROPERTY: Property =
    Property { name: "elected", claim: "a quorum voted for each leader, in its own term (paper, 5.2 and 6)" };

/// `node` took office in `term`; `membership` is the latest of its log.
pub(crate) fn by(node: NodeId, term: Term, membership: Option<&Membership>, votes: &OneVote) -> Verdict {
    // Who takes office does so with its own vote.
    let own = |voter: NodeId| voter == node || votes.has_voted(voter, term, node);
    let voted = |voter: usize| own(NodeId(voter as u64 + 1));
    holds(membership.is_some_and(|membership| agree(&membership.quorum(), voted)), || {
        let voters: Vec<u64> = membership.into_iter().flat_map(Membership::members).map(|it| it.id.get()).collect();
        let voted: Vec<&u64> = voters.iter().filter(|id| voted(**id as usize - 1)).collect();
        format!("node {node} leads in term {term}, of the members {voters:?} only {voted:?} voted for it")
    })
}
