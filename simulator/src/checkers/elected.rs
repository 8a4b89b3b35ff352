//! A candidate wins an election if it receives votes from a majority of the servers for the same term (paper, 5.2).

use dledger::types::{NodeId, Term};

use super::{Property, Verdict, holds};

pub(crate) const PROPERTY: Property =
    Property { name: "elected", claim: "a majority voted for each leader, in its own term (paper, 5.2)" };

/// `node` took office in `term`, in which so many of the nodes had given it their vote.
pub(crate) fn by(node: NodeId, term: Term, votes: usize, nodes: usize) -> Verdict {
    holds(votes * 2 > nodes, || format!("node {node} leads in term {term} with the votes of {votes} of {nodes} nodes"))
}
