//! When the scrub takes its next step: the whole log once in a set time, a little at a time.
//!
//! ```text
//!   scrub thread: wait ──► one step of the log ──► bad blocks ──► disk thread (writes them again)
//!                  ▲               └── holes: known to the log's readers, mended from peers in the next turn
//!                  └── as long as its share of the log is of the whole
//! ```
//! It begins somewhere, drawn at random: a node that is restarted often would else look at the same beginning again and
//! again. Deliberately absent: threads; the simulator takes the very same steps.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::commitlog::{LogReader, Scrubbed};
use crate::types::{Index, Monotonic};

/// Bytes that one step reads, about: some milliseconds of a disk that others wait for too.
const STEP_BYTES: u64 = 1 << 20;
/// Shortest pause between two steps.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);

/// How far the scrub has come since the node was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubProgress {
    /// Everything from the first index up to this one was read in the present round, or since the start.
    pub upto: Index,
    /// How often the whole log was read.
    pub rounds: u64,
}

/// The scrub of one log.
pub(crate) struct Scrub {
    reader: LogReader,
    every: Duration,
    next: Index,
    due: Monotonic,
    /// When the present round began; `None` while it is one that began in the middle.
    began: Option<Monotonic>,
    progress: ScrubProgress,
}

impl Scrub {
    /// Reads the whole log once in `every`; never when that is zero. `random` says where it begins.
    pub(crate) fn new(reader: LogReader, every: Duration, random: u64, now: Monotonic) -> Self {
        let first = reader.first();
        let count = reader.last().get().saturating_sub(first.prev().get()).max(1);
        let next = first.plus(random % count);
        let began = (next == first).then_some(now);
        Self { reader, every, next, due: now.after(SHORTEST_PAUSE), began, progress: ScrubProgress::default() }
    }

    /// When the next step is due.
    pub(crate) fn next_deadline(&self) -> Option<Monotonic> {
        (!self.every.is_zero()).then_some(self.due)
    }

    /// How far it is.
    pub(crate) const fn progress(&self) -> ScrubProgress {
        self.progress
    }

    /// Takes one step. Blocks on the disk.
    pub(crate) fn step(&mut self, now: Monotonic) -> Scrubbed {
        let step = self.reader.scrub(self.next, STEP_BYTES);
        self.next = step.next;
        let mut pause = self.share(step.bytes);
        if step.at_end {
            // A log that fits one step is read once a round, not without end.
            let left = self.began.map_or(pause, |began| self.every.saturating_sub(now.since(began)));
            self.progress.rounds += u64::from(self.began.is_some());
            pause = pause.max(left);
            self.began = Some(now.after(pause));
        }
        self.progress.upto = if step.at_end { self.reader.last() } else { self.next.prev() };
        self.due = now.after(pause.max(SHORTEST_PAUSE));
        step
    }

    /// The time that so many bytes of the log may take.
    fn share(&self, bytes: u64) -> Duration {
        let whole = self.reader.disk_bytes().max(bytes).max(1);
        self.every.mul_f64(bytes as f64 / whole as f64)
    }
}
