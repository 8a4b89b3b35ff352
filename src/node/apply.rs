//! Feeds committed entries to the state machine, in order and in bounded quanta.
//!
//! Between two quanta the event loop runs: heartbeats, votes and the network never wait for a long apply. What a
//! quantum applied becomes visible to readers by one `publish`, and only then do callers hear of it, so a caller
//! that was told "done" finds its write.
//!
//! A machine on disk may wait for it, and so is not applied here: it is handed over together with the entries of a
//! quantum, to the apply thread, and comes back with the answers. While it is away nothing else is done with it.
//!
//! ```text
//!   in memory   run: fetch, apply, fetch, apply … publish ─► callers
//!   on disk     run: fetch, fetch … ──machine, entries──► apply_thread.rs: apply … publish
//!               back ◄─────────────machine, answers─────────────┘  └─► callers
//! ```

use bytes::Bytes;

use crate::error::ReadError;
use crate::simulation::marks::{Mark, reach};
use crate::state_machine::{Applied, ApplyError, Entry, StateMachine};
use crate::types::{EntryId, Index, LogBase, LogTime, Position};

use super::snapshots::Places;

/// Entries applied before others get a turn, if they are small.
const QUANTUM: usize = 256;
/// Payload in bytes that counts for one entry more: a payload is read and its checksum computed. The longest quantum
/// reads 4 MiB and one entry.
const ENTRY_BYTES: usize = 16 << 10;
/// What a turn of a long entry counts for: it does the work of many entries.
const LONG_TURN: usize = 16;

/// A state machine and how far it came.
#[derive(Debug)]
pub(crate) struct Applier<M> {
    /// `None` while it is away, on the apply thread.
    machine: Option<M>,
    /// What it says of itself, whether it is here or not.
    on_disk: bool,
    covers_log: bool,
    /// For the apply thread.
    order: Option<ApplyOrder<M>>,
    /// The last entry applied and published.
    applied: EntryId,
    /// The last entry handed to the machine; ahead of `applied` until `publish`.
    taken: EntryId,
    half: bool,
    unpublished: Vec<(EntryId, Bytes)>,
    failed: Option<String>,
    /// The entry that could not be read just now.
    damaged: Option<Index>,
    /// When the state changes by itself, as of the last `publish`.
    deadline: Option<LogTime>,
    /// Where the record of `taken` ends, and its log time.
    reached: (Position, LogTime),
    /// Where a snapshot is due, and whether `taken` is such a place.
    places: Places,
    due: bool,
}

/// A machine and the entries to apply to it.
#[derive(Debug)]
pub(crate) struct ApplyOrder<M> {
    machine: M,
    entries: Vec<Entry>,
}

/// The machine back, and what came of it.
#[derive(Debug)]
pub(crate) struct ApplyReport<M> {
    machine: M,
    /// Of the entries that are applied and visible.
    answers: Vec<(EntryId, Bytes)>,
    /// Why those behind them are not.
    failure: Option<String>,
}

impl<M: StateMachine> ApplyOrder<M> {
    /// Applies the entries and publishes. May block for as long as the machine's disk does.
    pub(crate) fn perform(self) -> ApplyReport<M> {
        let Self { mut machine, entries } = self;
        let (mut answers, mut failure) = (Vec::with_capacity(entries.len()), None);
        for entry in &entries {
            let (outcome, half) = whole(&mut machine, entry);
            match outcome {
                Ok(answer) => answers.push((entry.id, answer)),
                Err(error) => {
                    failure = Some(error.to_string());
                    // What was applied ahead of a failure counts, unless that left half an entry: none is published.
                    answers.retain(|_answer| !half);
                    break;
                }
            }
        }
        if !answers.is_empty()
            && let Err(error) = machine.publish()
        {
            answers.clear();
            failure = failure.or_else(|| Some(error.to_string()));
        }
        ApplyReport { machine, answers, failure }
    }
}

/// Applies an entry with as many turns as it takes, for nobody else waits for this thread; and whether it took several.
fn whole<M: StateMachine>(machine: &mut M, entry: &Entry) -> (Result<Bytes, ApplyError>, bool) {
    let (mut applied, mut half) = (machine.apply(entry), false);
    loop {
        match applied {
            Ok(Applied::Done(answer)) => return (Ok(answer), half),
            Ok(Applied::More) => {
                reach(Mark::LongEntry);
                half = true;
                applied = machine.resume();
            }
            Err(error) => return (Err(error), half),
        }
    }
}

/// Why there is no next entry to apply.
enum Stop {
    /// It cannot be read; it may be mended.
    Damaged(Index),
    /// For good, with the reason.
    Failed(String),
}

impl<M: StateMachine> Applier<M> {
    /// A machine that holds everything up to `base`.
    pub(crate) fn new(machine: M, base: &LogBase) -> Self {
        Self {
            deadline: machine.next_deadline(),
            on_disk: machine.on_disk(),
            covers_log: machine.covers_log(),
            machine: Some(machine),
            order: None,
            applied: base.entry,
            taken: base.entry,
            half: false,
            unpublished: Vec::new(),
            failed: None,
            damaged: None,
            reached: (base.position, base.time),
            places: Places::default(),
            due: false,
        }
    }

    /// Stop for a snapshot at these places of the log.
    pub(crate) fn due_at(&mut self, places: Places) {
        self.places = places;
    }

    /// Whether a snapshot is due of what is applied now; it is said once.
    pub(crate) fn take_due(&mut self) -> bool {
        std::mem::take(&mut self.due)
    }

    /// A snapshot is due of what is applied now, wherever that is.
    pub(crate) fn make_due(&mut self) {
        self.due = true;
    }

    /// Whether a snapshot of this machine takes the place of the log before it.
    pub(crate) const fn covers_log(&self) -> bool {
        self.covers_log
    }

    /// Whether the machine keeps its state on disk by itself.
    pub(crate) const fn on_disk(&self) -> bool {
        self.on_disk
    }

    /// The machine and entries for it, when it is to go to the apply thread.
    pub(crate) fn take_order(&mut self) -> Option<ApplyOrder<M>> {
        self.order.take()
    }

    /// The machine is back; `done` hears of each entry that is now applied and visible.
    pub(crate) fn back(&mut self, report: ApplyReport<M>, mut done: impl FnMut(EntryId, &Bytes)) {
        let ApplyReport { machine, answers, failure } = report;
        self.deadline = machine.next_deadline();
        self.machine = Some(machine);
        for (id, answer) in answers {
            self.applied = id;
            done(id, &answer);
        }
        if let Some(reason) = failure {
            self.fail(reason);
        }
    }

    fn fail(&mut self, reason: String) {
        tracing::error!(reason, "applying stopped");
        self.failed = Some(reason);
    }

    /// Whether the machine stands between two entries, with all that it was given published.
    fn is_between(&self) -> bool {
        self.machine.is_some() && !self.half && self.unpublished.is_empty()
    }

    /// The state after the last applied entry; `None` while an entry is half applied, and after one that failed.
    pub(crate) fn capture(&self) -> Option<M::Capture> {
        let machine = self.machine.as_ref().filter(|_here| self.is_between() && self.failed.is_none());
        machine.filter(|_here| self.covers_log).map(StateMachine::capture)
    }

    /// The last applied entry, where its record ends, and its log time.
    pub(crate) fn reached(&self) -> (EntryId, Position, LogTime) {
        (self.applied, self.reached.0, self.reached.1)
    }

    /// An empty state, to be restored from a snapshot; `None` while the machine is away.
    pub(crate) fn restore(&self) -> Option<M::Restore> {
        self.machine.as_ref().map(StateMachine::restore)
    }

    /// Whether another state may take the place of the machine's now.
    pub(crate) fn can_be_replaced(&self) -> bool {
        self.is_between() || (self.machine.is_some() && self.failed.is_some())
    }

    /// Puts a restored state in the place of the machine's; gives what was there. An entry that could not be applied is
    /// forgotten when the state reaches beyond it. Only when it [can be replaced](Self::can_be_replaced).
    pub(crate) fn install(&mut self, state: M::Restore, base: &LogBase) -> M::Restore {
        debug_assert!(self.can_be_replaced(), "replaced while it is away or half applied");
        let Some(machine) = &mut self.machine else { return state };
        (self.applied, self.taken) = (base.entry, base.entry);
        self.reached = (base.position, base.time);
        (self.failed, self.damaged, self.due, self.half) = (None, None, false, false);
        self.unpublished.clear();
        let before = machine.install(state, base.entry);
        self.deadline = machine.next_deadline();
        before
    }

    /// The last entry applied and visible.
    pub(crate) fn applied(&self) -> EntryId {
        self.applied
    }

    /// The log time at which the state changes by itself, as far as is applied.
    pub(crate) fn deadline(&self) -> Option<LogTime> {
        self.deadline
    }

    /// Why nothing more is applied, when so.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    /// The entry that the last quantum could not read: nothing behind it is applied before it is mended.
    pub(crate) fn damaged(&self) -> Option<Index> {
        self.damaged
    }

    /// Applies one quantum of what is committed, or orders the apply thread to. `fetch` gives an entry; `done` hears of
    /// each entry that is now applied and visible. True when there is more to do at once.
    pub(crate) fn run(
        &mut self,
        committed: Index,
        mut fetch: impl FnMut(Index) -> Result<Entry, ReadError>,
        done: impl FnMut(EntryId, &Bytes),
    ) -> bool {
        let Some(mut machine) = self.machine.take_if(|_here| self.failed.is_none()) else { return false };
        self.damaged = None;
        if self.on_disk {
            let entries = self.quantum(committed, fetch);
            match entries.is_empty() {
                true => self.machine = Some(machine),
                false => self.order = Some(ApplyOrder { machine, entries }),
            }
            return false;
        }
        let mut left = QUANTUM;
        while left > 0 && (self.half || !self.due) {
            if !self.half && self.taken.index >= committed {
                break;
            }
            match self.advance(&mut machine, &mut fetch) {
                Ok(work) => left = left.saturating_sub(work),
                Err(stop) => {
                    self.stop(stop);
                    break;
                }
            }
        }
        if !self.half {
            self.publish(&mut machine, done);
        }
        self.machine = Some(machine);
        let more = self.half || (self.damaged.is_none() && self.taken.index < committed);
        more && self.failed.is_none()
    }

    /// The entries of a quantum, which count as taken.
    fn quantum(&mut self, committed: Index, mut fetch: impl FnMut(Index) -> Result<Entry, ReadError>) -> Vec<Entry> {
        let (mut entries, mut left) = (Vec::new(), QUANTUM);
        while left > 0 && !self.due && self.taken.index < committed {
            match self.take(&mut fetch) {
                Ok((entry, work)) => {
                    entries.push(entry);
                    left = left.saturating_sub(work);
                }
                Err(stop) => {
                    self.stop(stop);
                    break;
                }
            }
        }
        entries
    }

    fn stop(&mut self, stop: Stop) {
        match stop {
            Stop::Damaged(index) => self.damaged = Some(index),
            Stop::Failed(reason) => self.fail(reason),
        }
    }

    /// Publishes what was applied, that ahead of a failure included.
    fn publish(&mut self, machine: &mut M, mut done: impl FnMut(EntryId, &Bytes)) {
        let Some((last, _answer)) = self.unpublished.last() else { return };
        if let Err(error) = machine.publish() {
            self.unpublished.clear();
            return self.fail(error.to_string());
        }
        self.applied = *last;
        self.deadline = machine.next_deadline();
        for (id, answer) in self.unpublished.drain(..) {
            done(id, &answer);
        }
    }

    /// The next entry, and for how many small ones it counts.
    fn take(&mut self, fetch: &mut impl FnMut(Index) -> Result<Entry, ReadError>) -> Result<(Entry, usize), Stop> {
        let entry = fetch(self.taken.index.next()).map_err(|error| match error.damaged_index() {
            Some(index) => Stop::Damaged(index),
            None => Stop::Failed(error.to_string()),
        })?;
        let end = entry.end();
        self.taken = entry.id;
        self.reached = (end, entry.time);
        self.due = self.places.reached_by(entry.id.index, entry.position, end);
        let work = 1 + entry.payload.len() / ENTRY_BYTES;
        Ok((entry, work))
    }

    /// One turn of an entry, and for how many small entries it counts.
    fn advance(
        &mut self,
        machine: &mut M,
        fetch: &mut impl FnMut(Index) -> Result<Entry, ReadError>,
    ) -> Result<usize, Stop> {
        let (outcome, mut work) = if self.half {
            (machine.resume(), 1)
        } else {
            let (entry, work) = self.take(fetch)?;
            (machine.apply(&entry), work)
        };
        match outcome.map_err(|error| Stop::Failed(error.to_string()))? {
            Applied::More => {
                reach(Mark::LongEntry);
                self.half = true;
                work += LONG_TURN - 1;
            }
            Applied::Done(answer) => {
                self.half = false;
                self.unpublished.push((self.taken, answer));
            }
        }
        Ok(work)
    }
}

#[cfg(test)]
mod tests;
