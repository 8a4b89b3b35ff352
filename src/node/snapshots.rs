//! When this node writes its state down, which snapshots it keeps, and what of the log they make superfluous.
//!
//! ```text
//!   log         ├──────────┬──────────┬──────────┬──────────┬─────►   multiples of `snapshot_entries`, `snapshot_bytes`
//!   snapshots              s          s          s          s          taken when the log passes one
//!   kept (2)                                     s          s
//!   purged      ░░░░░░░░░░░░░░░░░░░░░░│                                before the oldest kept, and before the tail
//! ```
//! A snapshot is due at a place of the log, not some time after the last one: all nodes with the same knobs take those of
//! the same entries, the same bytes, and one that fetches a snapshot may go on with anybody's. A node that is still
//! writing one when the next is due leaves that one out.
//!
//! Nothing is purged before as many snapshots are there as are to be kept: should the newest turn out to be damaged, the
//! one before it and the log behind that take its place. A machine that keeps nothing is never written down: its log is
//! the data.

use crate::config::Config;
use crate::error::SnapshotRequestError;
use crate::simulation::marks::{Mark, reach};
use crate::simulation::plants::Plant;
use crate::snapshot::CHUNK_BYTES;
use crate::state_machine::StateMachine;
use crate::types::{EntryId, Index, LogBase, Monotonic, Position};

use super::effects::{Answer, Ticket};
use super::replica::Replica;
use super::snapshot_worker::{Kept, SnapshotOrder, SnapshotReport};

/// The knobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SnapshotKnobs {
    /// Entries from one snapshot to the next; 0: they do not count.
    pub(crate) entries: u64,
    /// Bytes of log from one snapshot to the next; 0: they do not count.
    pub(crate) bytes: u64,
    /// How many are kept.
    pub(crate) keep: usize,
    /// Bytes at the end of the log that stay.
    pub(crate) tail_bytes: u64,
    /// Bytes a second given to peers; 0: no limit.
    pub(crate) send_rate: u64,
    /// Bytes of a full chunk.
    pub(crate) chunk_bytes: u32,
}

impl SnapshotKnobs {
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            entries: config.snapshot_entries,
            bytes: config.snapshot_bytes,
            keep: usize::try_from(config.snapshots_kept).unwrap_or(usize::MAX),
            tail_bytes: config.log_tail_bytes,
            send_rate: config.snapshot_send_rate,
            chunk_bytes: CHUNK_BYTES,
        }
    }

    /// Of a state that is on disk itself one snapshot is kept: the state is the second copy.
    pub(crate) fn of_a_state(self, on_disk: bool) -> Self {
        Self { keep: if on_disk { 1 } else { self.keep }, ..self }
    }
}

/// The places of the log at which a snapshot is due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Places {
    entries: u64,
    bytes: u64,
}

impl Places {
    /// By the knobs, for a state of so many bytes: both distances are doubled until the state is no larger than the log
    /// between two snapshots. Doubled, so that every place is also one of a smaller state.
    pub(crate) fn new(knobs: SnapshotKnobs, state_bytes: u64) -> Self {
        let mut factor = 1u64;
        while knobs.bytes > 0 && knobs.bytes.saturating_mul(factor) < state_bytes {
            factor = factor.saturating_mul(2);
        }
        Self { entries: knobs.entries.saturating_mul(factor), bytes: knobs.bytes.saturating_mul(factor) }
    }

    /// Whether the entry at `index`, which ends at `end` and starts at `start`, reaches such a place.
    pub(crate) fn reached_by(self, index: Index, start: Position, end: Position) -> bool {
        let passes = |step: u64, before: u64, after: u64| step > 0 && before / step != after / step;
        passes(self.entries, index.prev().get(), index.get()) || passes(self.bytes, start.get(), end.get())
    }
}

/// The snapshots of one node.
#[derive(Debug)]
pub(crate) struct Snapshots {
    pub(super) knobs: SnapshotKnobs,
    kept: Kept,
    /// One is being written.
    taking: bool,
    /// Callers who want one of everything that was applied when they asked.
    asked: Vec<(Ticket, Index)>,
    /// Why the last one was not written.
    failure: Option<String>,
}

impl Snapshots {
    pub(crate) fn new(knobs: SnapshotKnobs, kept: Kept) -> Self {
        Self { knobs, kept, taking: false, asked: Vec::new(), failure: None }
    }
}

impl<M: StateMachine> Replica<M> {
    /// The last index that a snapshot covers of what this machine holds: holes up to there block nothing.
    pub(super) fn covered_by_snapshots(&self) -> Index {
        let applied = self.applier.applied().index;
        self.snapshots.kept.ids.iter().map(|id| id.index).find(|index| *index <= applied).unwrap_or_default()
    }

    /// A log may begin behind every snapshot when the machine's own state reaches there. Nobody else could be helped with
    /// that: a snapshot is due at once.
    pub(super) fn cover_begin_of_log(&mut self, base: Index) {
        let newest = self.snapshots.kept.ids.first().map_or(Index::ZERO, |newest| newest.index);
        if self.applier.on_disk() && newest < base && base <= self.applier.applied().index {
            self.applier.make_due();
        }
    }

    /// The disk has yet to discard the log that a snapshot took the place of.
    pub(crate) fn is_starting_over(&self) -> bool {
        self.log.first().prev() < self.raft.base().index
    }

    /// What there is of snapshots.
    pub(crate) fn snapshots(&self) -> &Kept {
        &self.snapshots.kept
    }

    /// Why the last snapshot was not written.
    pub(crate) fn snapshot_failure(&self) -> Option<&str> {
        self.snapshots.failure.as_deref()
    }

    /// Orders for the snapshot worker.
    pub(crate) fn take_snapshot_orders(&mut self) -> Vec<SnapshotOrder<M>> {
        std::mem::take(&mut self.snapshot_orders)
    }

    /// A caller wants everything that is applied now to be in a snapshot; it hears when that is durable.
    pub(crate) fn ask_for_snapshot(&mut self, ticket: Ticket) {
        if !self.applier.covers_log() {
            let refused = Err(SnapshotRequestError::NoState);
            return self.effects.answers.push((ticket, Answer::Snapshot(refused)));
        }
        self.snapshots.asked.push((ticket, self.applier.applied().index));
        self.answer_askers();
    }

    /// The worker has done something.
    pub(crate) fn snapshot_report(&mut self, now: Monotonic, report: SnapshotReport<M>) {
        match report {
            SnapshotReport::Taken(taken) => self.taken(taken),
            SnapshotReport::Served { to, result } => self.served(to, result),
            SnapshotReport::Begun(begun) => self.copy_begun(now, begun),
            SnapshotReport::Stored(stored) => self.chunk_stored(now, stored),
            SnapshotReport::Loaded(loaded) => self.loaded(now, loaded),
        }
    }

    fn taken(&mut self, taken: Result<Kept, String>) {
        self.snapshots.taking = false;
        match taken {
            Ok(kept) => {
                reach(Mark::SnapshotTaken);
                self.snapshots.failure = None;
                self.now_kept(kept);
                self.answer_askers();
            }
            Err(reason) => {
                for (ticket, _index) in std::mem::take(&mut self.snapshots.asked) {
                    let failed = Err(SnapshotRequestError::Failed(reason.clone()));
                    self.effects.answers.push((ticket, Answer::Snapshot(failed)));
                }
                self.snapshots.failure = Some(reason);
            }
        }
    }

    /// Other snapshots are there now: what of the log do they make superfluous?
    pub(super) fn now_kept(&mut self, kept: Kept) {
        self.snapshots.kept = kept;
        self.set_places();
        self.purge();
    }

    /// Tells the applier where to stop for a snapshot.
    pub(super) fn set_places(&mut self) {
        if self.applier.covers_log() {
            self.applier.due_at(Places::new(self.snapshots.knobs, self.snapshots.kept.newest_bytes));
        }
    }

    /// Drops what the oldest snapshot covers, but for the tail and what peers that fetch a snapshot will want next.
    fn purge(&mut self) {
        let Kept { ids, .. } = &self.snapshots.kept;
        if ids.len() < self.snapshots.knobs.keep {
            return;
        }
        let Some(oldest) = ids.iter().take(self.snapshots.knobs.keep).map(|id| id.index).min() else { return };
        let planted = self.plants.has(Plant::PurgeToApplied);
        self.purge_to(if planted { self.applier.applied().index } else { oldest });
    }

    fn purge_to(&mut self, oldest: Index) {
        let tail = Position(self.end.get().saturating_sub(self.snapshots.knobs.tail_bytes));
        let pinned = self.serving.fetched_by_peers().map(|id| id.index).min().unwrap_or(oldest);
        let applied = self.applier.applied().index;
        let upto = oldest.min(applied).min(self.log.last_before_segment_of(tail)).min(pinned);
        // The disk may purge before it starts over behind an installed snapshot: what is there still may be of another
        // history, and goes with that.
        if upto >= self.log.first() && !self.is_starting_over() {
            self.effects.purge = Some(upto);
        }
    }

    /// The log's front is gone up to `base`.
    pub(crate) fn purged(&mut self, now: Monotonic, base: EntryId) {
        reach(Mark::Purged);
        self.raft.compact(now, base);
        self.drain(now);
    }

    /// Takes a snapshot if one is due or asked for. The machine stands between two entries and has published.
    pub(super) fn take_due_snapshot(&mut self) {
        if !self.applier.can_be_replaced() {
            return; // A place that a long entry reaches is due once that is done.
        }
        let due = self.applier.take_due() || !self.snapshots.asked.is_empty();
        let (applied, newest) = (self.applier.applied(), self.covered_by_snapshots());
        let members_known = self.raft.membership_at(applied.index).is_some();
        if !due || self.snapshots.taking || applied.index <= newest || self.is_installing() || !members_known {
            return;
        }
        let Some(state) = self.applier.capture() else { return };
        self.snapshots.taking = true;
        let (knobs, pinned) = (self.snapshots.knobs, self.serving.pinned().collect());
        let base = self.base_of_applied();
        if self.plants.has(Plant::PurgeBeforeSnapshot) {
            self.purge_to(base.entry.index);
        }
        self.snapshot_orders.push(SnapshotOrder::Take { base, state, keep: knobs.keep, pinned });
    }

    /// Where a log can start behind what is applied.
    fn base_of_applied(&self) -> LogBase {
        let (mut entry, mut position, time) = self.applier.reached();
        if self.plants.has(Plant::SnapshotNamesCommitted) {
            let named = self.raft.committed();
            let known = self.raft.term_at(named).zip(self.log.end_of(named));
            (entry, position) = known.map_or((entry, position), |(term, end)| (EntryId::new(named, term), end));
        }
        let named = match self.plants.has(Plant::SnapshotNamesOldMembers) {
            true => self.raft.base().index.next(),
            false => entry.index,
        };
        let membership = self.raft.membership_at(named).filter(|_| !self.plants.has(Plant::MembershipForgotten));
        let membership = membership.map(|(index, membership)| (index, membership.encode().into()));
        LogBase { entry, position, time, membership: membership.unwrap_or_default() }
    }

    fn answer_askers(&mut self) {
        let newest = self.snapshots.kept.ids.first().copied().unwrap_or_default();
        let answers = &mut self.effects.answers;
        self.snapshots.asked.retain(|(ticket, index)| {
            let waits = *index > newest.index || newest == EntryId::ZERO;
            if !waits {
                answers.push((*ticket, Answer::Snapshot(Ok(newest))));
            }
            waits
        });
    }

    /// The node stops: nobody hears of a snapshot any more.
    pub(super) fn abandon_askers(&mut self, reason: &str) {
        for (ticket, _index) in std::mem::take(&mut self.snapshots.asked) {
            let stopped = Err(SnapshotRequestError::Stopped(reason.to_owned()));
            self.effects.answers.push((ticket, Answer::Snapshot(stopped)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn knobs(entries: u64, bytes: u64) -> SnapshotKnobs {
        SnapshotKnobs { entries, bytes, keep: 2, tail_bytes: 0, send_rate: 0, chunk_bytes: CHUNK_BYTES }
    }

    fn due(places: Places, index: u64, start: u64, end: u64) -> bool {
        places.reached_by(Index(index), Position(start), Position(end))
    }

    #[test]
    fn snapshot_places_are_the_multiples_that_an_entry_reaches() {
        let places = Places::new(knobs(10, 1000), 0);
        assert!(!due(places, 9, 100, 200) && due(places, 10, 200, 300) && !due(places, 11, 300, 400));
        assert!(!due(places, 12, 400, 999) && due(places, 13, 999, 1000) && due(places, 14, 1000, 4500));
        assert_eq!(Places::new(knobs(0, 0), 1 << 30), Places::default());
        assert!(!due(Places::default(), 1 << 40, 0, 1 << 50), "both switched off");
    }

    #[test]
    fn snapshot_places_of_a_larger_state_are_some_of_those_of_a_smaller_one() {
        for (state, factor) in [(0, 1), (1000, 1), (1001, 2), (2000, 2), (2001, 4), (7000, 8)] {
            assert_eq!(Places::new(knobs(10, 1000), state), Places { entries: 10 * factor, bytes: 1000 * factor });
        }
    }
}
