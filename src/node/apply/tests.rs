//! Quanta, long entries, and what is not applied.

use super::super::snapshots::SnapshotKnobs;
use super::*;
use crate::state_machine::NoMachine;
use crate::types::{Kind, Term};

/// Counts; an entry whose payload is `[n]` takes `n` extra turns, `!` cannot be applied.
#[derive(Default)]
struct Machine {
    left: u8,
    log: String,
    on_disk: bool,
    full: bool,
}

impl StateMachine for Machine {
    type Capture = ();
    type Restore = ();

    fn on_disk(&self) -> bool {
        self.on_disk
    }

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

    fn publish(&mut self) -> Result<(), ApplyError> {
        assert_eq!(self.left, 0, "never published half applied");
        self.log.push_str("p ");
        match self.full {
            true => Err(ApplyError { id: EntryId::ZERO, reason: "disk full".to_owned() }),
            false => Ok(()),
        }
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
    assert_eq!(applier.machine.as_ref().unwrap().log, "a1 a2 a3 p ");
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
    assert_eq!(applier.machine.as_ref().unwrap().log.matches('r').count(), QUANTUM / LONG_TURN - 1);
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
    assert_eq!((applier.applied().index, &applier.machine.as_ref().unwrap().log[..]), (Index(1), "a1 a2 p "));
    assert!(applier.failure().unwrap().contains("cannot apply entry 2@1: no"));
    assert_eq!(run(&mut applier, 3, b""), (false, vec![]));
}

#[test]
fn apply_of_a_quantum_that_cannot_be_published_tells_nobody() {
    for on_disk in [false, true] {
        let machine = Machine { full: true, on_disk, ..Machine::default() };
        let mut applier = Applier::new(machine, &LogBase::default());
        let mut done = run(&mut applier, 3, b"").1;
        if let Some(order) = applier.take_order() {
            applier.back(order.perform(), |id, _answer| done.push(id.index.get()));
        }
        assert_eq!((done, applier.applied().index), (vec![], Index(0)));
        assert!(applier.failure().unwrap().contains("disk full") && applier.capture().is_none());
    }
}

#[test]
fn apply_to_a_machine_on_disk_lends_it_with_a_quantum_and_does_nothing_while_it_is_away() {
    let machine = Machine { on_disk: true, ..Machine::default() };
    let mut applier = Applier::new(machine, &LogBase::default());
    let turns: &[u8] = &[20];
    assert_eq!(run(&mut applier, 300, turns), (false, vec![]));
    assert!(!applier.can_be_replaced() && applier.restore().is_none() && applier.capture().is_none());
    assert_eq!(run(&mut applier, 300, turns), (false, vec![]));
    let order = applier.take_order().unwrap();
    assert_eq!(order.entries.len(), QUANTUM);
    assert!(applier.take_order().is_none());
    let mut done = 0;
    applier.back(order.perform(), |_id, _answer| done += 1);
    assert_eq!((done, applier.applied().index), (QUANTUM, Index(QUANTUM as u64)));
    assert!(applier.can_be_replaced() && applier.capture().is_some());
    assert_eq!(applier.machine.as_ref().unwrap().log.matches('r').count(), 20);
    run(&mut applier, 300, turns);
    assert_eq!(applier.take_order().unwrap().entries.len(), 300 - QUANTUM);
}

#[test]
fn apply_on_disk_stops_at_an_unknown_entry_and_counts_what_stood_before_it() {
    let machine = Machine { on_disk: true, ..Machine::default() };
    let mut applier = Applier::new(machine, &LogBase::default());
    run(&mut applier, 3, b"!");
    let mut done = Vec::new();
    let order = applier.take_order().unwrap();
    applier.back(order.perform(), |id, _answer| done.push(id.index.get()));
    assert_eq!((done, applier.applied().index), (vec![1], Index(1)));
    assert!(applier.failure().unwrap().contains("cannot apply entry 2@1: no"));
    run(&mut applier, 3, b"");
    assert!(applier.take_order().is_none(), "nothing more is applied");
}

#[test]
fn apply_on_disk_ends_a_quantum_where_a_snapshot_is_due() {
    let machine = Machine { on_disk: true, ..Machine::default() };
    let mut applier = Applier::new(machine, &LogBase::default());
    let knobs = SnapshotKnobs { entries: 10, bytes: 0, keep: 1, tail_bytes: 0, send_rate: 0, chunk_bytes: 0 };
    applier.due_at(Places::new(knobs, 0));
    run(&mut applier, 30, b"");
    let order = applier.take_order().unwrap();
    assert_eq!(order.entries.len(), 10);
    applier.back(order.perform(), |_id, _answer| {});
    assert!(applier.take_due() && !applier.take_due());
}
