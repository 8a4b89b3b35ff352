//! The state at an index is the same on all replicas, however they came by it (faults.md, row 11): whenever a machine's
//! state is written down, restored or replaced, it is compared with what the entries up to there come to.
//!
//! So is every answer when it is first given. The comparison is with a second, plain reading of the commands (plain/).

use dledger::types::{EntryId, Index};

use super::{Property, Verdict, holds};
use crate::machine::{Content, Step};
use crate::plain::{Effect, Plain};

pub(crate) const PROPERTY: Property = Property {
    name: "same_state",
    claim: "a state at an index, and an answer, is what the entries up to there come to, on every replica (faults.md, row 11)",
};

/// What the entries come to, so far.
#[derive(Debug, Default)]
pub(crate) struct SameState {
    plain: Plain,
    /// By index, from 1 on.
    sums: Vec<u64>,
    effects: Vec<Effect>,
}

impl SameState {
    /// An entry was applied somewhere. Tells whether it was the first time.
    ///
    /// # Errors
    /// The machine gave another answer: a sentence.
    pub(crate) fn applied(&mut self, step: Step, content: &Content) -> Result<bool, String> {
        let index = step.id.index;
        if index.get() != self.sums.len() as u64 + 1 {
            return Ok(false);
        }
        let effect = self.plain.take(index, content);
        self.sums.push(self.plain.sum());
        let digest = crate::machine::step_digest(&content.payload, &effect.answer);
        let verdict =
            holds(digest == step.digest, || format!("entry {} was not answered as its command says", step.id));
        self.effects.push(effect);
        verdict.map(|()| true)
    }

    /// The state after the last entry that was applied anywhere.
    pub(crate) fn plain(&self) -> &Plain {
        &self.plain
    }

    /// What an entry did.
    pub(crate) fn effect(&self, index: Index) -> Option<&Effect> {
        self.effects.get(usize::try_from(index.get().checked_sub(1)?).ok()?)
    }

    /// What the entries up to `index` come to, if they were applied anywhere.
    pub(crate) fn at(&self, index: Index) -> Option<u64> {
        match index.get().checked_sub(1) {
            None => Some(0),
            Some(place) => self.sums.get(usize::try_from(place).ok()?).copied(),
        }
    }

    /// A state is said to be that after `id`; `how` says on which occasion.
    pub(crate) fn holds_at(&self, id: EntryId, state: u64, how: &str) -> Verdict {
        let known = self.at(id.index);
        holds(known == Some(state), || {
            format!("the state {how} as that after {id} is not what the entries up to there come to")
        })
    }
}
