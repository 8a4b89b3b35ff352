//! If an entry is committed in a given term, it is in the logs of the leaders of all later terms (paper, figure 3).

use dledger::raft::Raft;

use super::{Property, Verdict, holds};
use crate::truth::{DiskTruth, Truth};

pub(crate) const PROPERTY: Property = Property {
    name: "leader_completeness",
    claim: "a new leader's log, or its snapshot, holds every committed entry (paper, figure 3)",
};

/// A node has just taken office; `disk` is its own.
pub(crate) fn elected(raft: &Raft, disk: &DiskTruth, truth: &Truth) -> Verdict {
    let (base, newest) = (raft.base(), disk.newest_snapshot());
    holds(newest.index >= base.index, || {
        format!("node {} leads with a log that begins behind {base}, its snapshot is of {newest}", raft.id())
    })?;
    for id in truth.committed.iter().rev() {
        if id.term < raft.term() && id.index >= base.index {
            let found = raft.term_at(id.index);
            // What is beyond recognition in the log may be in the snapshot.
            let covered = found.is_none() && id.index <= newest.index;
            holds(found == Some(id.term) || covered, || {
                let has = found.map_or_else(|| "nothing".to_owned(), |term| format!("term {term}"));
                format!("node {} leads in term {} without {id}: it has {has} there", raft.id(), raft.term())
            })?;
        }
    }
    Ok(())
}
