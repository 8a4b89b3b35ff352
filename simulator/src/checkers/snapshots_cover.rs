//! A snapshot takes the place of the log before it, and nothing else does: what is dropped is in a durable snapshot of this
//! very node, and no snapshot is of more than this node has applied (storage.md, log base, snapshots, retention).

use dledger::types::{EntryId, Index, NodeId};

use super::{Property, Verdict, holds};
use crate::truth::{DiskTruth, Truth};

pub(crate) const PROPERTY: Property = Property {
    name: "snapshots_cover",
    claim: "a log begins where a durable snapshot of its node reaches, and snapshot <= applied (storage.md)",
};

/// The log of `node` is about to begin behind `base`, or has just been purged up to there.
pub(crate) fn begins(node: NodeId, base: EntryId, disk: &DiskTruth, truth: &Truth) -> Verdict {
    let newest = disk.newest_snapshot();
    holds(newest.index >= base.index, || {
        format!("the log of node {node} begins behind {base}, its newest durable snapshot is of {newest}")
    })?;
    holds(truth.committed_at(base.index) == Some(base), || {
        format!("the log of node {node} begins behind {base}, {:?} is committed there", truth.committed_at(base.index))
    })
}

/// What `node` takes for its newest snapshot, after an input.
pub(crate) fn chain(node: NodeId, newest: Option<EntryId>, applied: Index) -> Verdict {
    let newest = newest.unwrap_or_default();
    holds(newest.index <= applied, || format!("node {node} has a snapshot of {newest} and has applied {applied}"))
}

/// A caller who asked for a snapshot when `asked` was applied is told that there is one of `id`.
pub(crate) fn answered(id: EntryId, asked: Index, disk: &DiskTruth, truth: &Truth) -> Verdict {
    holds(id.index >= asked, || format!("a snapshot of {id} is the answer to who asked at {asked}"))?;
    holds(truth.vouches(disk, id) && disk.newest_snapshot().index >= id.index, || {
        format!("there is said to be a snapshot of {id}, durable is one of {}", disk.newest_snapshot())
    })
}
