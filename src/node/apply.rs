//! Feeds committed entries to the state machine, in order and in bounded quanta.
//!
//! Between two quanta the event loop runs: heartbeats, votes and the network never wait for a long apply. What a
//! quantum applied becomes visible to readers by one `publish`, and only then do callers hear of it, so a caller
//! that was told "done" finds its write.

use bytes::Bytes;

use crate::commitlog::HEADER_BYTES;
use crate::error::ReadError;
use crate::simulation::marks::{Mark, reach};
use crate::state_machine::{Applied, Entry, StateMachine};
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
    machine: M,
    /// The last entry applied and published.
    applied: EntryId,
    /// The last entry handed to the machine; ahead of `applied` until `publish`.
    taken: EntryId,
    half: bool,
    unpublished: Vec<(EntryId, Bytes)>,
    failed: Option<String>,
    /// The entry that could not be read just now.
    damaged: Option<Index>,
    /// Where the record of `taken` ends, and its log time.
    reached: (Position, LogTime),
    /// Where a snapshot is due, and whether `taken` is such a place.
    places: Places,
    due: bool,
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
            machine,
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

    /// Whether a snapshot of this machine takes the place of the log before it.
    pub(crate) fn covers_log(&self) -> bool {
        self.machine.covers_log()
    }

    /// Whether the machine stands between two entries, with all that it was given published.
    fn is_between(&self) -> bool {
        !self.half && self.unpublished.is_empty()
    }

    /// The state after the last applied entry; `None` while an entry is half applied, and after one that failed.
    pub(crate) fn capture(&self) -> Option<M::Capture> {
        (self.is_between() && self.failed.is_none() && self.covers_log()).then(|| self.machine.capture())
    }

    /// The last applied entry, where its record ends, and its log time.
    pub(crate) fn reached(&self) -> (EntryId, Position, LogTime) {
        (self.applied, self.reached.0, self.reached.1)
    }

    /// An empty state, to be restored from a snapshot.
    pub(crate) fn restore(&self) -> M::Restore {
        self.machine.restore()
    }

    /// Whether another state may take the place of the machine's now.
    pub(crate) fn can_be_replaced(&self) -> bool {
        self.is_between() || self.failed.is_some()
    }

    /// Puts a restored state in the place of the machine's; gives what was there. An entry that could not be applied is
    /// forgotten when the state reaches beyond it.
    pub(crate) fn install(&mut self, state: M::Restore, base: &LogBase) -> M::Restore {
        (self.applied, self.taken) = (base.entry, base.entry);
        self.reached = (base.position, base.time);
        (self.failed, self.damaged, self.due, self.half) = (None, None, false, false);
        self.unpublished.clear();
        self.machine.install(state, base.entry)
    }

    /// The last entry applied and visible.
    pub(crate) fn applied(&self) -> EntryId {
        self.applied
    }

    /// Why nothing more is applied, when so.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    /// The entry that the last quantum could not read: nothing behind it is applied before it is mended.
    pub(crate) fn damaged(&self) -> Option<Index> {
        self.damaged
    }

    /// Applies one quantum of what is committed. `fetch` gives an entry; `done` hears of each entry that is now
    /// applied and visible. True when there is more to do at once.
    pub(crate) fn run(
        &mut self,
        committed: Index,
        mut fetch: impl FnMut(Index) -> Result<Entry, ReadError>,
        mut done: impl FnMut(EntryId, &Bytes),
    ) -> bool {
        if self.failed.is_some() {
            return false;
        }
        self.damaged = None;
        let mut left = QUANTUM;
        while left > 0 && (self.half || !self.due) {
            if !self.half && self.taken.index >= committed {
                break;
            }
            match self.advance(&mut fetch) {
                Ok(work) => left = left.saturating_sub(work),
                Err(Stop::Damaged(index)) => {
                    self.damaged = Some(index);
                    break;
                }
                Err(Stop::Failed(reason)) => {
                    tracing::error!(reason, "applying stopped");
                    self.failed = Some(reason);
                    break;
                }
            }
        }
        if self.half {
            return self.failed.is_none();
        }
        // What was applied ahead of a failure counts.
        if let Some((last, _answer)) = self.unpublished.last() {
            self.machine.publish();
            self.applied = *last;
            for (id, answer) in self.unpublished.drain(..) {
                done(id, &answer);
            }
        }
        self.failed.is_none() && self.damaged.is_none() && self.taken.index < committed
    }

    /// One turn of an entry, and for how many small entries it counts.
    fn advance(&mut self, fetch: &mut impl FnMut(Index) -> Result<Entry, ReadError>) -> Result<usize, Stop> {
        let mut work = 1;
        let outcome = if self.half {
            self.machine.resume()
        } else {
            let entry = fetch(self.taken.index.next()).map_err(|error| match error.damaged_index() {
                Some(index) => Stop::Damaged(index),
                None => Stop::Failed(error.to_string()),
            })?;
            let end = entry.position.plus((HEADER_BYTES + entry.payload.len()) as u64);
            self.taken = entry.id;
            self.reached = (end, entry.time);
            self.due = self.places.reached_by(entry.id.index, entry.position, end);
            work += entry.payload.len() / ENTRY_BYTES;
            self.machine.apply(&entry)
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
mod tests {
    use super::*;
    use crate::state_machine::{ApplyError, NoMachine};
    use crate::types::{Kind, Term};

    /// Counts; an entry whose payload is `[n]` takes `n` extra turns, `!` cannot be applied.
    #[derive(Default)]
    struct Machine {
        left: u8,
        log: String,
    }

    impl StateMachine for Machine {
        type Capture = ();
        type Restore = ();

        fn apply(&mut self, entry: &Entry) -> Result<Applied, ApplyError> {
            self.log.push_str(&format!("a{} ", entry.id.index));
            match entry.payload.first() {
                Some(b'!') => Err(ApplyError { id: entry.id, reason: "no".to_owned() }),
                Some(turns) => {
                    self.left = *turns;
                    Ok(Applied::More)
                }
                None => Ok(Applied::Done(Bytes::new())),
            }
        }

        fn resume(&mut self) -> Result<Applied, ApplyError> {
            self.left -= 1;
            self.log.push_str("r ");
            Ok(if self.left == 0 { Applied::Done(Bytes::new()) } else { Applied::More })
        }

        fn publish(&mut self) {
            assert_eq!(self.left, 0, "never published half applied");
            self.log.push_str("p ");
        }

        fn capture(&self) {}

        fn restore(&self) {}

        fn install(&mut self, _state: (), _last: EntryId) {}
    }

    fn entry(index: Index) -> Entry {
        Entry {
            id: EntryId::new(index, Term(1)),
            position: Position(0),
            time: LogTime(0),
            kind: Kind::Data,
            channel: 0,
            payload: Bytes::new(),
        }
    }

    fn run(applier: &mut Applier<Machine>, committed: u64, payload: &'static [u8]) -> (bool, Vec<u64>) {
        let mut done = Vec::new();
        let fetch = |index| {
            let payload = if index == Index(2) { Bytes::from_static(payload) } else { Bytes::new() };
            Ok(Entry { payload, ..entry(index) })
        };
        let more = applier.run(Index(committed), fetch, |id, _answer| done.push(id.index.get()));
        (more, done)
    }

    #[test]
    fn apply_publishes_once_a_quantum_and_before_callers_hear() {
        let mut applier = Applier::new(Machine::default(), &LogBase::default());
        assert_eq!(run(&mut applier, 3, b""), (false, vec![1, 2, 3]));
        assert_eq!(applier.machine.log, "a1 a2 a3 p ");
        assert_eq!(applier.applied().index, Index(3));
    }

    #[test]
    fn apply_of_many_entries_stops_after_a_quantum() {
        let mut applier = Applier::new(Machine::default(), &LogBase::default());
        let (more, done) = run(&mut applier, 300, b"");
        assert_eq!((more, done.len()), (true, QUANTUM));
        let (more, done) = run(&mut applier, 300, b"");
        assert_eq!((more, done.len()), (false, 300 - QUANTUM));
    }

    #[test]
    fn apply_of_a_long_entry_hides_it_and_its_callers_until_whole() {
        let mut applier = Applier::new(Machine::default(), &LogBase::default());
        let turns: &[u8] = &[20];
        assert_eq!(run(&mut applier, 3, turns), (true, vec![]));
        assert_eq!(applier.applied().index, Index(0));
        assert_eq!(run(&mut applier, 3, turns), (false, vec![1, 2, 3]));
    }

    /// A quantum counted each turn of a long entry like one small entry, and so took 65,536 keys of a range delete: a
    /// slow machine sent no heartbeat for longer than an election takes. The measurement behind it was of a fast one.
    #[test]
    fn apply_of_a_long_entry_leaves_off_after_a_few_turns() {
        let mut applier = Applier::new(Machine::default(), &LogBase::default());
        run(&mut applier, 3, &[255]);
        assert_eq!(applier.machine.log.matches('r').count(), QUANTUM / LONG_TURN - 1);
    }

    /// A quantum counted entries alone, and so read 2 GiB of the largest ones while no heartbeat was sent or heard. The
    /// tests had long work of small entries only.
    #[test]
    fn apply_of_large_entries_leaves_off_after_a_few() {
        let mut applier = Applier::new(NoMachine, &LogBase::default());
        let payload = Bytes::from(vec![0; 1 << 20]);
        let mut done = 0;
        let fetch = |index| Ok(Entry { payload: payload.clone(), ..entry(index) });
        assert!(applier.run(Index(256), fetch, |_id, _answer| done += 1), "there is more to do");
        assert_eq!(done, QUANTUM.div_ceil(1 + (1 << 20) / ENTRY_BYTES));
    }

    #[test]
    fn apply_waits_at_a_damaged_entry_and_goes_on_when_it_is_mended() {
        let mut applier = Applier::new(Machine::default(), &LogBase::default());
        let damaged = |index| ReadError::Damaged { path: "x".into(), offset: 1, index, reason: "rot".to_owned() };
        let fetch = |index| if index == Index(2) { Err(damaged(index)) } else { Ok(entry(index)) };
        assert!(!applier.run(Index(3), fetch, |_id, _answer| {}), "there is nothing to do at once");
        assert_eq!((applier.applied().index, applier.damaged(), applier.failure()), (Index(1), Some(Index(2)), None));
        assert!(!applier.run(Index(3), |index| Ok(entry(index)), |_id, _answer| {}));
        assert_eq!((applier.applied().index, applier.damaged()), (Index(3), None));
    }

    #[test]
    fn apply_of_an_unknown_entry_stops_for_good_and_says_why() {
        let mut applier = Applier::new(Machine::default(), &LogBase::default());
        assert_eq!(run(&mut applier, 3, b"!"), (false, vec![1]), "what stood before it is applied");
        assert_eq!((applier.applied().index, &applier.machine.log[..]), (Index(1), "a1 a2 p "));
        assert!(applier.failure().unwrap().contains("cannot apply entry 2@1: no"));
        assert_eq!(run(&mut applier, 3, b""), (false, vec![]));
    }
}
