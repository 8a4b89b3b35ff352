//! Done means: committed, applied on the node that says so, and there for ever. Refused means: never in any log
//! (architecture.md, the path of a write).

use dledger::node::Proposed;
use dledger::types::{EntryId, Index};

use super::{Property, Verdict, holds};
use crate::truth::Truth;

pub(crate) const PROPERTY: Property = Property {
    name: "acknowledged",
    claim: "a write that was acknowledged is committed, applied here and never lost; a refused one never happens",
};

/// What clients were promised.
#[derive(Debug, Default)]
pub(crate) struct Acknowledged {
    done: Vec<(EntryId, u64)>,
    refused: Vec<u64>,
}

impl Acknowledged {
    /// A client is told that its entries, with payloads of these checksums, are done.
    pub(crate) fn done(&mut self, write: &Proposed, payloads: &[u64], applied: Index, truth: &Truth) -> Verdict {
        holds(write.positions.len() == payloads.len() && write.answers.len() == payloads.len(), || {
            format!("{} entries were proposed, {} positions answered", payloads.len(), write.positions.len())
        })?;
        for (step, payload) in payloads.iter().enumerate() {
            let id = EntryId::new(write.first.index.plus(step as u64), write.first.term);
            holds(truth.committed_at(id.index) == Some(id), || format!("{id} is called done and is not committed"))?;
            let known = truth.records.get(&id).map(|known| known.payload);
            holds(known == Some(*payload), || format!("{id} is called done and holds somebody else's payload"))?;
            let position = truth.records.get(&id).map(|known| known.position);
            holds(position == write.positions.get(step).copied(), || {
                format!("{id} does not stand where it is said to")
            })?;
            self.done.push((id, *payload));
        }
        holds(applied >= write.last(), || format!("{} is called done, {applied} is applied here", write.last()))
    }

    /// A client is told that its entries certainly never happen.
    pub(crate) fn refused(&mut self, payloads: impl Iterator<Item = u64>) {
        self.refused.extend(payloads);
    }

    /// The run is over.
    pub(crate) fn finish(&self, truth: &Truth, payloads: &std::collections::BTreeSet<u64>) -> Verdict {
        for (id, payload) in &self.done {
            let known = truth.committed_at(id.index).and_then(|id| truth.records.get(&id)).map(|known| known.payload);
            holds(known == Some(*payload), || format!("{id} was acknowledged and is gone"))?;
        }
        for payload in &self.refused {
            holds(!payloads.contains(payload), || "a write that was refused is committed".to_owned())?;
        }
        Ok(())
    }
}
