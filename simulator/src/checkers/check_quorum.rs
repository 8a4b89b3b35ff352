//! A leader that hears no quorum for an election timeout steps down, so that its clients find another (thesis, 6.2).

use dledger::types::{NodeId, Term};

use super::{Property, Verdict, holds};

pub(crate) const PROPERTY: Property =
    Property { name: "check_quorum", claim: "a leader that is cut off from its quorum steps down (thesis, 6.2)" };

/// How long a leader may take to notice, in microseconds: two election timeouts and a slow clock.
pub(crate) const NOTICED_AFTER: u64 = 900_000;

/// `node` leads in `term` and has been cut off from every quorum for `cut_off` microseconds.
pub(crate) fn alone(node: NodeId, term: Term, cut_off: u64) -> Verdict {
    holds(cut_off < NOTICED_AFTER, || {
        format!("node {node} still leads in term {term}, {} ms after it lost its quorum", cut_off / 1000)
    })
}
