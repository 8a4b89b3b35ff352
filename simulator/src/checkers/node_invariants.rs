//! What holds on every node at every step: `base <= applied <= committed <= last`, `durable <= last`; term, vote,
//! committed and applied never go back. The checks themselves are the core's own (`raft::invariants`).

use dledger::raft::Raft;
use dledger::raft::invariants::{Snapshot, check, check_delta};

use super::{Property, Verdict};

pub(crate) const PROPERTY: Property = Property {
    name: "node_invariants",
    claim: "base <= applied <= committed <= last, durable <= last, and nothing of this goes back (raft::invariants)",
};

/// The node before the last input.
#[derive(Clone, Debug)]
pub(crate) struct NodeInvariants {
    before: Snapshot,
}

impl NodeInvariants {
    /// A node that has just started.
    pub(crate) fn new(raft: &Raft) -> Self {
        Self { before: Snapshot::of(raft) }
    }

    /// Looks at the node after an input.
    pub(crate) fn step(&mut self, raft: &Raft) -> Verdict {
        check(raft)?;
        check_delta(&self.before, raft)?;
        self.before = Snapshot::of(raft);
        Ok(())
    }
}
