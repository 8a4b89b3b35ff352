//! What a leader knows of one follower's log, and how much is under way to it.
//!
//! ```text
//!             reject, silence, reconnect
//!   Stream ─────────────────────────────────► Probe
//!     ▲    a window of appends in flight        │   one empty append in flight: does the follower hold `next - 1`?
//!     └─────────────────────────────────────────┘
//!             the probe's place was verified
//!
//!   matched <= verified (of this life of the follower),  matched < next
//! ```
//!
//! `matched` is durable there and counts towards commitment; `verified` has only arrived and steers the flow.

use std::collections::VecDeque;
use std::time::Duration;

use crate::simulation::marks::{Mark, reach};
use crate::types::{Index, Monotonic};

/// How appends go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Looking for the last place where the logs agree; the time when the probe that is under way was sent.
    Probe(Option<Monotonic>),
    /// Sending records from `next` on without waiting for answers.
    Stream,
}

/// One follower, as its leader sees it.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    /// The last index known to be on this follower's disk and equal to the leader's.
    pub(super) matched: Index,
    /// The last index that the follower said has arrived and fits.
    pub(super) verified: Index,
    /// The first index to send next.
    pub(super) next: Index,
    pub(super) mode: Mode,
    /// Appends sent and not known to be durable: last index and bytes of each.
    inflight: VecDeque<(Index, u64)>,
    inflight_bytes: u64,
    /// An order was given and the caller has not said what became of it.
    pub(super) ordered: bool,
    /// The caller could not send; do not order again before the follower has moved on or the next heartbeat.
    pub(super) held: bool,
    /// When the follower was last heard in this term.
    pub(super) heard: Monotonic,
    /// When anything last moved while something was under way, and the newest heartbeat round at that time.
    moved: Monotonic,
    moved_round: u64,
    /// Its disk has no room for what clients write.
    pub(super) full: bool,
    /// What it needs next is purged: it is to fetch a snapshot.
    pub(super) lacks: bool,
    /// Its log has a hole: it vouches for less than it has written.
    pub(super) holed: bool,
    /// What the leader had last when it began to watch how fast this follower comes after, and when that was.
    target: (Index, Monotonic),
    /// Whatever the leader had an election timeout ago, this follower has on its disk: as of the last look.
    pub(super) caught_up: bool,
    /// The last heartbeat round it answered.
    pub(super) round: u64,
    /// The committed index it was last told.
    pub(super) commit_sent: Index,
}

impl Progress {
    /// A follower of a leader that takes office with `next - 1` as its last entry. It starts with the benefit of
    /// the doubt: a reject turns to probing.
    pub(super) const fn new(next: Index, now: Monotonic) -> Self {
        Self {
            matched: Index::ZERO,
            verified: Index::ZERO,
            next,
            mode: Mode::Stream,
            inflight: VecDeque::new(),
            inflight_bytes: 0,
            ordered: false,
            held: false,
            heard: now,
            full: false,
            lacks: false,
            holed: false,
            target: (next, now),
            caught_up: false,
            moved: now,
            moved_round: 0,
            round: 0,
            commit_sent: Index::ZERO,
        }
    }

    /// Takes what was under way for lost and asks whether the follower holds the entry before `next`. When it does
    /// not, its answer says how far it came; starting at `matched` instead would send a follower that has not
    /// answered this leader yet its whole log once more.
    pub(super) fn probe(&mut self) {
        self.probe_after(self.next.prev());
    }

    fn probe_after(&mut self, index: Index) {
        self.mode = Mode::Probe(None);
        self.next = index.next();
        self.inflight.clear();
        self.inflight_bytes = 0;
        self.ordered = false;
        self.held = false;
    }

    /// The follower has `matched` on its disk and `verified` in its log; `round` is the newest heartbeat round sent.
    pub(super) fn accept(&mut self, matched: Index, verified: Index, round: u64, now: Monotonic) {
        if verified > self.verified || matched > self.matched {
            self.moved = now;
            self.moved_round = round;
            self.held = false;
        }
        self.verified = self.verified.max(verified);
        self.matched = self.matched.max(matched);
        self.release(self.matched);
        if matches!(self.mode, Mode::Probe(_)) && verified >= self.next.prev() {
            self.mode = Mode::Stream;
            self.lacks = false;
            self.next = verified.next();
        }
        self.next = self.next.max(self.matched.next());
    }

    /// What the follower has written leaves the window. With a hole in its log it vouches for less than that, and may
    /// need what comes next to get over it.
    pub(super) fn release(&mut self, written: Index) {
        while let Some((_last, bytes)) = self.inflight.front().copied().filter(|(last, _)| *last <= written) {
            self.inflight.pop_front();
            self.inflight_bytes = self.inflight_bytes.saturating_sub(bytes);
        }
    }

    /// The follower does not hold the entry before `next`, and agrees at best up to `hint`; `prev` is the place it
    /// was asked about. Answers to earlier questions change nothing. Below `base` this leader has nothing to send: there
    /// the probe is repeated at the pace of heartbeats until the follower has a snapshot.
    pub(super) fn reject(&mut self, prev: Index, hint: Index, base: Index, now: Monotonic) {
        match self.mode {
            Mode::Probe(_) if prev == self.next.prev() => {
                // It says itself that it lacks this place: should that contradict an earlier answer, its disk has
                // lost what it had, and counting less is always safe.
                let hint = hint.min(prev.prev());
                self.matched = self.matched.min(hint);
                self.probe_after(hint.max(base));
                if prev <= base {
                    self.lacks = true;
                    self.mode = Mode::Probe(Some(now));
                }
            }
            Mode::Stream if prev < self.next => {
                self.probe_after(hint.min(prev.prev()).max(self.matched).max(base));
            }
            Mode::Probe(_) | Mode::Stream => {}
        }
    }

    /// The follower's log starts behind `prev`, the place it was asked about, with an entry that this leader has: the
    /// one before it, at `index`, is where to go on.
    pub(super) fn skip_to(&mut self, prev: Index, index: Index) {
        if matches!(self.mode, Mode::Probe(_)) && prev == self.next.prev() {
            self.probe_after(index);
        }
    }

    /// This leader's log starts behind `base` from now on.
    pub(super) fn compact(&mut self, base: Index) {
        if self.next <= base {
            self.probe_after(base);
        }
    }

    /// A heartbeat of round `round` was answered: `verified` had arrived there. Finds out what was lost on the way: an
    /// append, a probe, or the follower's memory. `patience` is how long records may be under way without any sign.
    ///
    /// Answers to heartbeats and to appends travel on two connections. An answer to a round that was sent before
    /// anything last moved is merely late, and says nothing of loss.
    pub(super) fn look_for_loss(
        &mut self,
        (round, verified): (u64, Index),
        retry: Duration,
        patience: Duration,
        now: Monotonic,
    ) {
        match self.mode {
            Mode::Probe(Some(since)) if now.since(since) >= retry => self.mode = Mode::Probe(None),
            Mode::Probe(_) => {}
            Mode::Stream if verified >= self.next.prev() || round <= self.moved_round => {}
            Mode::Stream if self.inflight.is_empty() || now.since(self.moved) >= patience => {
                reach(Mark::LossProbed);
                self.probe();
            }
            Mode::Stream => {}
        }
    }

    /// One look at the rounds in which this follower comes after the leader (thesis, 4.2.1). A round lasts until it has
    /// what the leader had when the round began; a follower whose last round took no longer than `patience`, an
    /// election timeout, delays nobody for longer than an election would.
    pub(super) fn look_at_lag(&mut self, last: Index, patience: Duration, now: Monotonic) {
        let (target, since) = self.target;
        let in_time = now.since(since) <= patience;
        if self.matched >= target {
            self.caught_up = in_time;
            self.target = (last, now);
        } else if !in_time {
            self.caught_up = false;
        }
    }

    /// Could serve as a voter or a leader, by its own latest word: it answered within `patience`, comes after the
    /// leader, can read its log and has room. Whoever has not answered a heartbeat of this office has not said yet.
    pub(super) fn is_fit(&self, patience: Duration, now: Monotonic) -> bool {
        self.answers(patience, now) && self.caught_up && !self.full && !self.holed
    }

    /// Was heard within `patience`, and answered a heartbeat of this office.
    pub(super) fn answers(&self, patience: Duration, now: Monotonic) -> bool {
        self.round > 0 && now.since(self.heard) < patience
    }

    /// Room in the window: `None` when it is full, else how many bytes, and whether the window is empty.
    pub(super) fn room(&self, max_bytes: u64, max_messages: usize) -> Option<(u64, bool)> {
        if self.inflight.is_empty() {
            return Some((max_bytes, true));
        }
        let bytes = max_bytes.saturating_sub(self.inflight_bytes);
        (bytes > 0 && self.inflight.len() < max_messages).then_some((bytes, false))
    }

    /// What became of an order: records up to `last`, or nothing when `last` is before `next`.
    pub(super) fn sent(&mut self, last: Index, bytes: u64, now: Monotonic) {
        if !std::mem::take(&mut self.ordered) {
            return;
        }
        match self.mode {
            Mode::Probe(_) => self.mode = Mode::Probe(Some(now)),
            Mode::Stream if last >= self.next => {
                if self.inflight.is_empty() {
                    self.moved = now;
                }
                self.inflight.push_back((last, bytes));
                self.inflight_bytes = self.inflight_bytes.saturating_add(bytes);
                self.next = last.next();
            }
            Mode::Stream => {
                self.held = true;
                self.commit_sent = Index::ZERO;
            }
        }
    }

    /// Appends under way and their bytes.
    pub(super) fn in_flight(&self) -> (usize, u64) {
        (self.inflight.len(), self.inflight_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETRY: Duration = Duration::from_millis(50);
    const PATIENCE: Duration = Duration::from_millis(150);

    fn at(millis: u64) -> Monotonic {
        Monotonic::from_micros(millis * 1000)
    }

    fn send(progress: &mut Progress, last: u64, bytes: u64) {
        progress.ordered = true;
        progress.sent(Index(last), bytes, at(0));
    }

    #[test]
    fn progress_window_is_bounded_in_bytes_and_messages_and_admits_one_record_when_empty() {
        let mut progress = Progress::new(Index(1), at(0));
        assert_eq!(progress.room(100, 2), Some((100, true)));
        send(&mut progress, 1, 5000);
        assert_eq!(progress.room(100, 2), None, "one record above the bound fills the window");
        progress.accept(Index(1), Index(1), 1, at(1));
        send(&mut progress, 2, 10);
        assert_eq!(progress.room(100, 2), Some((90, false)));
        send(&mut progress, 3, 10);
        assert_eq!(progress.room(100, 2), None, "two messages");
        progress.accept(Index(3), Index(3), 1, at(1));
        assert_eq!((progress.in_flight(), progress.next), ((0, 0), Index(4)));
    }

    #[test]
    fn progress_reject_probes_and_later_rejects_of_the_same_window_change_nothing() {
        let mut progress = Progress::new(Index(10), at(0));
        send(&mut progress, 10, 1);
        send(&mut progress, 11, 1);
        progress.reject(Index(9), Index(5), Index::ZERO, at(0));
        assert_eq!((progress.mode, progress.next), (Mode::Probe(None), Index(6)));
        progress.reject(Index(10), Index(5), Index::ZERO, at(0));
        assert_eq!(progress.next, Index(6));
        progress.reject(Index(5), Index(5), Index::ZERO, at(0));
        assert_eq!(progress.next, Index(5), "a probe always moves back");
    }

    #[test]
    fn progress_of_an_accepted_probe_streams_after_what_the_follower_has() {
        let mut progress = Progress::new(Index(10), at(0));
        progress.reject(Index(9), Index(5), Index::ZERO, at(0));
        progress.accept(Index(3), Index(4), 1, at(0));
        assert_eq!(progress.mode, Mode::Probe(None), "an older answer does not verify the probe's place");
        progress.accept(Index(3), Index(7), 1, at(0));
        assert_eq!((progress.mode, progress.next, progress.matched), (Mode::Stream, Index(8), Index(3)));
    }

    #[test]
    fn progress_without_any_sign_is_probed_after_patience_but_a_slow_disk_is_not() {
        let mut progress = Progress::new(Index(1), at(0));
        send(&mut progress, 5, 1);
        progress.look_for_loss((2, Index(5)), RETRY, PATIENCE, at(1000));
        assert_eq!(progress.mode, Mode::Stream, "all has arrived, the disk is slow");
        progress.look_for_loss((2, Index(4)), RETRY, PATIENCE, at(149));
        assert_eq!(progress.mode, Mode::Stream);
        progress.look_for_loss((2, Index(4)), RETRY, PATIENCE, at(150));
        assert_eq!((progress.mode, progress.next), (Mode::Probe(None), Index(6)));
        progress.ordered = true;
        progress.sent(Index(5), 0, at(150));
        progress.look_for_loss((2, Index(4)), RETRY, PATIENCE, at(199));
        assert_eq!(progress.mode, Mode::Probe(Some(at(150))));
        progress.look_for_loss((2, Index(4)), RETRY, PATIENCE, at(200));
        assert_eq!(progress.mode, Mode::Probe(None), "a lost probe is sent again");
    }

    /// A follower with a hole vouches for nothing behind it. With its window full of that, it was never sent what would
    /// have shown that the hole is not its leader's.
    #[test]
    fn progress_window_is_free_of_what_is_written_though_nobody_vouches_for_it() {
        let mut progress = Progress::new(Index(1), at(0));
        progress.ordered = true;
        progress.sent(Index(3), 64, at(1));
        progress.accept(Index(1), Index(3), 1, at(2));
        assert_eq!(progress.room(64, 8), None);
        progress.release(Index(3));
        assert_eq!((progress.room(64, 8), progress.matched), (Some((64, true)), Index(1)));
    }

    /// The answer to the news that went instead released it at once: where a leader could not read a record, it asked
    /// its disk for it in every round trip, without end.
    #[test]
    fn progress_that_could_not_be_sent_is_not_ordered_again_until_something_moves() {
        let mut progress = Progress::new(Index(1), at(0));
        progress.ordered = true;
        progress.sent(Index(0), 0, at(1));
        progress.accept(Index(0), Index(0), 1, at(2));
        assert!(progress.held, "an answer without news");
        progress.accept(Index(0), Index(1), 1, at(3));
        assert!(!progress.held, "it has more now");
    }

    #[test]
    fn progress_has_caught_up_when_a_round_is_done_within_patience_and_not_for_ever() {
        let mut progress = Progress::new(Index(10), at(0));
        let look = |progress: &mut Progress, matched: u64, last: u64, millis: u64| {
            progress.accept(Index(matched), Index(matched), 1, at(millis));
            progress.look_at_lag(Index(last), PATIENCE, at(millis));
            progress.caught_up
        };
        assert!(!look(&mut progress, 5, 12, 50), "the first round is not done");
        assert!(!look(&mut progress, 10, 30, 200), "it took too long; the second one goes to 30");
        assert!(!look(&mut progress, 29, 40, 250));
        assert!(look(&mut progress, 31, 50, 300));
        assert!(look(&mut progress, 49, 60, 400), "the third one goes to 50");
        assert!(!look(&mut progress, 49, 60, 451), "and takes too long");
    }

    #[test]
    fn progress_of_a_follower_that_forgot_is_probed_though_nothing_is_under_way() {
        let mut progress = Progress::new(Index(1), at(0));
        send(&mut progress, 5, 1);
        progress.accept(Index(5), Index(5), 1, at(1));
        progress.look_for_loss((1, Index(0)), RETRY, PATIENCE, at(2));
        assert_eq!(progress.mode, Mode::Stream, "an answer that was overtaken by a later one");
        progress.look_for_loss((2, Index(0)), RETRY, PATIENCE, at(2));
        assert_eq!((progress.mode, progress.next), (Mode::Probe(None), Index(6)));
        progress.reject(Index(5), Index(2), Index::ZERO, at(0));
        assert_eq!((progress.next, progress.matched), (Index(3), Index(2)));
    }
}
