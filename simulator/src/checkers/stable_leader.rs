//! Nobody deposes a working leader: one that a healthy majority can reach stays in office, whoever comes back from a
//! partition and asks for votes (thesis, 9.6: pre-vote; 6.2: stickiness).

use dledger::types::{NodeId, Term};

use super::{Property, Verdict, holds};

pub(crate) const PROPERTY: Property =
    Property { name: "stable_leader", claim: "a leader that shares a healthy majority keeps its office (thesis, 9.6)" };

/// `node` lost its office of `term`; `majority` says whether it had been in a healthy majority for long enough.
pub(crate) fn deposed(node: NodeId, term: Term, majority: bool) -> Verdict {
    holds(!majority, || format!("node {node} lost its office of term {term}, though a healthy majority was with it"))
}
