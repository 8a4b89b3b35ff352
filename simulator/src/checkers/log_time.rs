//! Log time never goes back, runs at the pace of its leader's monotonic clock, and knows no wall clock (storage.md).

use dledger::types::{EntryId, LogTime};

use super::{Property, Verdict, holds};
use crate::truth::Truth;

pub(crate) const PROPERTY: Property = Property {
    name: "log_time",
    claim: "stamps never go back and pass no faster than the fastest monotonic clock (storage.md)",
};

/// How much faster than true time the fastest clock of a run goes, with room for rounding.
pub(crate) const FASTEST: f64 = 2.1;
/// Room for a clock's resolution and for the time before the first record.
const SLACK_MS: u64 = 50;

/// Log time so far.
#[derive(Debug, Default)]
pub(crate) struct LogTimes {
    first: Option<LogTime>,
}

impl LogTimes {
    /// `id` was committed at `now` microseconds.
    pub(crate) fn committed(&mut self, id: EntryId, now: u64, truth: &Truth) -> Verdict {
        let Some(time) = truth.records.get(&id).map(|known| known.time) else { return Ok(()) };
        let first = *self.first.get_or_insert(time);
        let before = truth.committed_at(id.index.prev()).and_then(|id| truth.records.get(&id));
        holds(before.is_none_or(|before| before.time <= time), || {
            format!("the stamp of {id} is below that before it")
        })?;
        let passed = time.get().saturating_sub(first.get());
        // Milliseconds of a run are far below what a float holds exactly.
        let most = (now as f64 / 1000.0 * FASTEST) as u64 + SLACK_MS;
        holds(passed <= most, || format!("log time has passed {passed} ms at {id}, {} us into the run", now))
    }
}
