//! If a node has applied an entry at an index, no other node will ever apply a different entry for that index (paper,
//! figure 3), nor the same one to a different answer: machines are deterministic.

use dledger::types::{EntryId, Index};

use super::{Property, Verdict, holds};
use crate::machine::Step;
use crate::truth::Truth;

pub(crate) const PROPERTY: Property = Property {
    name: "state_machine_safety",
    claim: "all nodes apply the same entry at an index, with the same answer, once committed (paper, figure 3)",
};

/// What was applied first at each index.
#[derive(Debug, Default)]
pub(crate) struct StateMachineSafety {
    applied: Vec<Step>,
}

impl StateMachineSafety {
    /// A snapshot of `id` took the place of the state of a machine that stood at `before`.
    pub(crate) fn installed(before: Index, id: EntryId, truth: &Truth) -> Verdict {
        holds(id.index >= before, || format!("a snapshot of {id} took the place of the state at {before}"))?;
        holds(truth.committed_at(id.index) == Some(id), || {
            format!("installed a snapshot of {id}, but {:?} is committed there", truth.committed_at(id.index))
        })
    }

    /// A node, whose machine stood at `before`, applied `step`.
    pub(crate) fn applied(&mut self, before: Index, step: Step, truth: &Truth) -> Verdict {
        let id = step.id;
        holds(id.index == before.next(), || format!("applied {id} right after index {before}"))?;
        holds(truth.committed_at(id.index) == Some(id), || {
            format!("applied {id}, but {:?} is committed there", truth.committed_at(id.index))
        })?;
        let place = usize::try_from(id.index.get()).unwrap_or(usize::MAX).saturating_sub(1);
        match self.applied.get(place) {
            Some(first) => holds(*first == step, || format!("applied {step:?} where another node applied {first:?}")),
            None => {
                holds(place == self.applied.len(), || format!("applied {id}, though nobody applied the one before"))?;
                self.applied.push(step);
                Ok(())
            }
        }
    }
}
