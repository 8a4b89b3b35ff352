//! A stale read with a bound shows everything that was acknowledged so long before it began (`Consistency::StaleWithin`).

use dledger::types::Index;

use super::{Property, Verdict, holds};

pub(crate) const PROPERTY: Property = Property {
    name: "bounded",
    claim: "a stale read shows every write that was acknowledged more than its bound before it began, by its node's clock",
};

/// What was acknowledged, and when.
#[derive(Debug, Default)]
pub(crate) struct Bounded {
    /// Times, each with the highest index that was acknowledged by then.
    acknowledged: Vec<(u64, Index)>,
}

impl Bounded {
    /// A client was told at `now` that its write, whose last entry is this, is done.
    pub(crate) fn done(&mut self, now: u64, last: Index) {
        let highest = self.acknowledged.last().map_or(last, |(_at, highest)| last.max(*highest));
        self.acknowledged.push((now, highest));
    }

    /// A read that began at `asked` was answered from a state of this index; `bound` in true microseconds.
    pub(crate) fn shows(&self, shown: Index, asked: u64, bound: u64) -> Verdict {
        let due = asked.saturating_sub(bound);
        let before = self.acknowledged.partition_point(|(at, _highest)| *at < due);
        let Some((at, highest)) = before.checked_sub(1).and_then(|last| self.acknowledged.get(last)) else {
            return Ok(());
        };
        holds(shown >= *highest, || {
            let (late, allowed) = ((asked - at) / 1000, bound / 1000);
            format!(
                "a read shows {shown}; {highest} was acknowledged {late} ms before it began, {allowed} were allowed"
            )
        })
    }
}
