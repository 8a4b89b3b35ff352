//! What a leader knows of one follower, and how much it may send.
//!
//! ```text
//!             matched              next            last
//!   ──────────────┼──────────────────┼───────────────┤
//!     durable and │     in flight    │  to be sent
//!     verified    │ (bytes, messages)│
//!
//!   Probe ──accepted──► Replicate ──rejected, silent, connection lost──► Probe
//! ```
//! A probe is one append at a time; replication is a window bounded in bytes and messages. An empty window admits
//! one message of any size, so that a record larger than the window is not stuck.

use std::collections::VecDeque;

use crate::types::{Index, Monotonic};

/// How records go to a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// Where the logs part is not known: one append, then wait for its answer.
    Probe {
        /// The append's answer is awaited.
        waiting: bool,
    },
    /// The logs agree up to `next`: send ahead.
    Replicate,
}

/// One follower.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    /// Durable there and verified to match.
    pub(super) matched: Index,
    /// The next index to send.
    pub(super) next: Index,
    pub(super) pace: Pace,
    /// Last index and bytes of each append on its way.
    inflight: VecDeque<(Index, u64)>,
    inflight_bytes: u64,
    /// When it last said anything in this term.
    pub(super) heard: Monotonic,
    /// When an append was last answered, or the first of those on their way was sent.
    pub(super) answered: Monotonic,
    /// The highest ReadIndex round it has confirmed.
    pub(super) round: u64,
    /// The committed index it was last told.
    pub(super) told: Index,
    /// Something changed since the last order to send.
    pub(super) stirred: bool,
}

impl Progress {
    /// A follower about which a new leader, whose last entry is `last`, knows nothing.
    pub(super) fn new(last: Index, now: Monotonic) -> Self {
        Self {
            matched: Index::ZERO,
            next: last.next(),
            pace: Pace::Probe { waiting: false },
            inflight: VecDeque::new(),
            inflight_bytes: 0,
            heard: now,
            answered: now,
            round: 0,
            told: Index::ZERO,
            stirred: true,
        }
    }

    /// Bytes that may be sent now; `None` when it must wait.
    pub(super) fn room(&self, max_bytes: u64, max_messages: usize) -> Option<u64> {
        match self.pace {
            Pace::Probe { waiting: true } => None,
            Pace::Probe { waiting: false } => Some(max_bytes),
            Pace::Replicate if self.inflight.is_empty() => Some(max_bytes),
            Pace::Replicate if self.inflight.len() >= max_messages || self.inflight_bytes >= max_bytes => None,
            Pace::Replicate => Some(max_bytes - self.inflight_bytes),
        }
    }

    /// An append up to `last` went out.
    pub(super) fn sent(&mut self, last: Index, bytes: u64, now: Monotonic) {
        self.stirred = true;
        if self.inflight.is_empty() {
            self.answered = now;
        }
        self.inflight.push_back((last, bytes));
        self.inflight_bytes += bytes;
        match &mut self.pace {
            Pace::Probe { waiting } => *waiting = true,
            Pace::Replicate => self.next = last.next(),
        }
    }

    /// Everything up to `durable` is durable there and matches. A probe is thereby answered: the follower has its
    /// records, and replication goes on behind them.
    pub(super) fn accepted(&mut self, durable: Index, now: Monotonic) {
        self.stirred = true;
        self.answered = now;
        self.matched = self.matched.max(durable);
        if self.pace == (Pace::Probe { waiting: true }) {
            self.pace = Pace::Replicate;
            self.next = self.inflight.back().map_or(self.next, |(last, _bytes)| last.next());
        }
        while let Some((last, bytes)) = self.inflight.front()
            && *last <= self.matched
        {
            self.inflight_bytes -= bytes;
            self.inflight.pop_front();
        }
        self.next = self.next.max(self.matched.next());
    }

    /// Looks for where the logs part, from `next` on.
    pub(super) fn probe(&mut self, next: Index) {
        self.stirred = true;
        self.pace = Pace::Probe { waiting: false };
        self.next = next.max(self.matched.next());
        self.inflight.clear();
        self.inflight_bytes = 0;
    }

    /// What was on its way may be lost: a probe is sent again, replication goes back to what is certain.
    pub(super) fn look_again(&mut self) {
        match self.pace {
            Pace::Probe { .. } => self.probe(self.next),
            Pace::Replicate if !self.inflight.is_empty() => self.probe(self.matched.next()),
            Pace::Replicate => {}
        }
    }

    /// True for a rejection of `prev` that says something new: of the probe on its way, or of an append ahead of
    /// what matches. Others answer appends that a later one has overtaken.
    pub(super) fn believes_rejection(&self, prev: Index) -> bool {
        match self.pace {
            Pace::Probe { .. } => prev.next() == self.next && prev > self.matched,
            Pace::Replicate => prev > self.matched,
        }
    }

    /// True while it is not known where the logs part.
    pub(super) fn is_probing(&self) -> bool {
        matches!(self.pace, Pace::Probe { .. })
    }

    /// True when an append's answer is awaited.
    pub(super) fn is_waiting(&self) -> bool {
        !self.inflight.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Monotonic = Monotonic::from_micros(0);

    fn replicating() -> Progress {
        let mut progress = Progress::new(Index(10), NOW);
        progress.sent(Index(10), 0, NOW);
        progress.accepted(Index(10), NOW);
        progress
    }

    #[test]
    fn progress_probe_is_one_append_at_a_time() {
        let mut progress = Progress::new(Index(10), NOW);
        assert_eq!(progress.room(100, 8), Some(100));
        progress.sent(Index(12), 50, NOW);
        assert_eq!(progress.room(100, 8), None);
        progress.accepted(Index(12), NOW);
        assert_eq!((progress.pace, progress.next, progress.room(100, 8)), (Pace::Replicate, Index(13), Some(100)));
    }

    #[test]
    fn progress_window_is_bounded_in_bytes_and_messages_but_never_shut_when_empty() {
        let mut progress = replicating();
        progress.sent(Index(11), 1000, NOW);
        assert_eq!(progress.room(100, 8), None, "one message of any size, then full");
        progress.accepted(Index(11), NOW);
        progress.sent(Index(12), 30, NOW);
        assert_eq!(progress.room(100, 8), Some(70));
        assert_eq!(progress.room(100, 1), None);
    }

    #[test]
    fn progress_never_falls_behind_what_is_matched() {
        let mut progress = replicating();
        progress.probe(Index(3));
        assert_eq!(progress.next, Index(11));
        progress.accepted(Index(5), NOW);
        assert_eq!(progress.matched, Index(10));
    }
}
