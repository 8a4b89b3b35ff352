//! A leader never overwrites or deletes entries in its log; it only appends (paper, figure 3).

use dledger::raft::Raft;
use dledger::types::{EntryId, Index, Role, Term};

use super::{Property, Verdict, holds};

pub(crate) const PROPERTY: Property = Property {
    name: "leader_append_only",
    claim: "a leader never cuts or overwrites entries of its own log (paper, figure 3)",
};

/// One node's office so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LeaderAppendOnly {
    office: Option<(Term, EntryId)>,
}

impl LeaderAppendOnly {
    /// Looks at the node after an input.
    pub(crate) fn step(&mut self, raft: &Raft) -> Verdict {
        if raft.role() != Role::Leader {
            self.office = None;
            return Ok(());
        }
        let before = self.office.replace((raft.term(), raft.last()));
        let Some((term, last)) = before.filter(|(term, _last)| *term == raft.term()) else { return Ok(()) };
        let there = if last.index == Index::ZERO { Some(last.term) } else { raft.term_at(last.index) };
        holds(there == Some(last.term), || format!("the leader of term {term} has lost its entry {last}"))
    }
}
