//! A server always uses the latest configuration in its log, whether it is committed or not (paper, section 6): what a
//! node goes by is what stands last in its log, or was in force where its snapshot ends.

use dledger::raft::Raft;

use super::{Property, Verdict, holds};
use crate::truth::Truth;

pub(crate) const PROPERTY: Property = Property {
    name: "follows_membership",
    claim: "a node follows the latest membership of its log or of its snapshot, and none that was cut (paper, 6)",
};

/// Looks at the node after an input.
pub(crate) fn step(raft: &Raft, truth: &Truth) -> Verdict {
    let latest = truth.membership_of(raft).map(|(id, membership)| (id.index, membership));
    let followed = raft.membership_index().zip(raft.membership());
    holds(latest == followed, || {
        let entries = (latest.map(|(index, _)| index), raft.membership_index());
        format!(
            "node {} follows the membership of entry {:?}, its log ends with that of {:?}",
            raft.id(),
            entries.1,
            entries.0
        )
    })
}
