//! An entry is committed once a quorum has it durable, and only then: what a leader counts must be on the disks it
//! counts (raft.md, rules 2, 3 and 6; paper, 5.3 and 5.4.2).

use dledger::types::EntryId;

use super::{Property, Verdict, holds};
use crate::truth::Truth;

pub(crate) const PROPERTY: Property = Property {
    name: "durable_quorum",
    claim: "a committed entry is synced on a majority's disks, and is never another one (paper, 5.3)",
};

/// A node says that `id` is committed: notes it when nobody said so before.
/// `forgetful` disks may have lost what they once held: those that acknowledge before they sync.
pub(crate) fn committed(id: EntryId, truth: &mut Truth, forgetful: usize) -> Verdict {
    if let Some(known) = truth.committed_at(id.index) {
        return holds(known == id, || format!("{id} is said to be committed where {known} was"));
    }
    holds(id.index == truth.last_committed().next(), || format!("{id} is committed before its predecessors"))?;
    let (have, nodes) = (truth.disks_with(id) + forgetful, truth.disks.len());
    holds(have * 2 > nodes, || format!("{id} is said to be committed with {have} of {nodes} disks that hold it"))?;
    truth.committed.push(id);
    Ok(())
}
