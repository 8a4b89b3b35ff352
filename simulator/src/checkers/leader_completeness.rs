//! If an entry is committed in a given term, it is in the logs of the leaders of all later terms (paper, figure 3).

use dledger::raft::Raft;

use super::{Property, Verdict, holds};
use crate::truth::Truth;

pub(crate) const PROPERTY: Property =
    Property { name: "leader_completeness", claim: "a new leader's log holds every committed entry (paper, figure 3)" };

/// A node has just taken office.
pub(crate) fn elected(raft: &Raft, truth: &Truth) -> Verdict {
    for id in truth.committed.iter().rev() {
        if id.term < raft.term() {
            holds(raft.term_at(id.index) == Some(id.term), || {
                let has = raft.term_at(id.index).map_or_else(|| "nothing".to_owned(), |term| format!("term {term}"));
                format!("node {} leads in term {} without {id}: it has {has} there", raft.id(), raft.term())
            })?;
        }
    }
    Ok(())
}
