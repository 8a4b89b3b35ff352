//! Between two quanta of applying the event loop runs: heartbeats and votes never wait for a long apply (kv.md).

use dledger::types::NodeId;

use super::{Property, Verdict, holds};

pub(crate) const PROPERTY: Property = Property {
    name: "bounded_turns",
    claim: "no turn applies for as long as an election takes, on a slow processor too (kv.md, apply)",
};

/// The longest that one turn may apply, in microseconds: well below the shortest election timeout, 150 ms.
const LONGEST: u64 = 100_000;

/// A turn of `node` applied for so many microseconds of a slow processor.
pub(crate) fn took(node: NodeId, cost: u64) -> Verdict {
    holds(cost <= LONGEST, || format!("one turn of node {node} applied for {} ms", cost / 1000))
}
