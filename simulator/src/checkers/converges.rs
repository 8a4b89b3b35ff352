//! Once the faults stop, the cluster serves again, every member catches up, changes of members end, and all hold the same state, in memory as on
//! disk (paper, 5.3; kv.md, apply).

use dledger::raft::Membership;
use dledger::types::{Index, NodeId};

use super::{Property, Verdict, holds};

pub(crate) const PROPERTY: Property = Property {
    name: "converges",
    claim: "after the faults every member serves, holds the whole log, and has the same state; no change hangs",
};

/// How long after the faults every question must be answered, in microseconds.
pub(crate) const SERVES_AFTER: u64 = 1_500_000;

/// One node at the end.
#[derive(Debug)]
pub(crate) struct Final {
    pub(crate) node: NodeId,
    pub(crate) applied: Index,
    pub(crate) state: u64,
    pub(crate) failure: Option<String>,
    /// Why it lacks a snapshot that it needs.
    pub(crate) missing: Option<String>,
}

/// The run is over; `settled` was committed a while ago, `committed` is by now, and `state` is what the entries come to.
pub(crate) fn finish(
    nodes: &[Final],
    (settled, committed): (Index, Index),
    state: impl Fn(Index) -> Option<u64>,
) -> Verdict {
    for node in nodes {
        holds(node.failure.is_none(), || format!("node {} stopped applying: {:?}", node.node, node.failure))?;
        holds((settled..=committed).contains(&node.applied), || {
            format!("node {} has applied {}, committed is {committed}, and was {settled}", node.node, node.applied)
        })?;
        holds(state(node.applied) == Some(node.state), || {
            format!("node {} holds another state than all entries come to", node.node)
        })?;
        holds(node.missing.is_none(), || format!("node {} still waits: {:?}", node.node, node.missing))?;
    }
    Ok(())
}

/// The run is over; `last` is the last committed membership, and `only` says whether nobody wrote another one since.
/// Whoever `runs` must have become a voter by now, when that was wished for.
pub(crate) fn settles(last: Option<&Membership>, only: bool, runs: impl Fn(NodeId) -> bool) -> Verdict {
    let last = last.ok_or("nobody belongs to the cluster")?;
    holds(only && !last.is_joint(), || "a change of members is still under way".to_owned())?;
    match last.promotions.iter().find(|promotion| runs(promotion.learner)) {
        Some(promotion) => Err(format!("node {} still waits to become a voter", promotion.learner)),
        None => Ok(()),
    }
}

/// A question that was asked after [`SERVES_AFTER`] was not answered as it should be.
pub(crate) fn not_served(node: NodeId, reason: &str) -> Verdict {
    Err(format!("node {node} does not serve after the faults: {reason}"))
}
