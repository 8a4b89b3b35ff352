//! A leader that is removed leaves once its removal is committed (thesis, 4.2.2), and nobody who was removed leads after.

use dledger::types::{NodeId, Term};

use super::{Property, Verdict, holds};

pub(crate) const PROPERTY: Property = Property {
    name: "removed_leaves",
    claim: "a leader gives its office up once its own removal is committed (thesis, 4.2.2)",
};

/// How long it may take to hand over, in microseconds: an election timeout of the slowest clock, and a heartbeat.
const LEAVES_AFTER: u64 = 1_000_000;

/// `node` leads in `term`, and has known for so many microseconds that it is none of the voters.
pub(crate) fn leads(node: NodeId, term: Term, known: u64) -> Verdict {
    holds(known < LEAVES_AFTER, || {
        format!("node {node} leads in term {term}, {} ms after its removal was committed", known / 1000)
    })
}
