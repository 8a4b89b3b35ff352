mod commands;
mod watches;

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::kv::backend::Snapshot;
use crate::kv::{KeyValue, Scan, ScanPage};
use crate::state_machine::{Capture, CaptureError, Restore};
use crate::types::{Index, LeaseId, LogTime, Position, Term};

fn entry(index: u64, payload: Bytes) -> Entry {
    let id = EntryId::new(Index(index), Term(1));
    Entry { id, position: Position(0), time: LogTime(0), kind: Kind::Data, channel: 0, payload }
}

/// Applies a command whole.
fn apply(machine: &mut KvMachine, index: u64, command: Command<'_>) -> Bytes {
    let mut applied = machine.apply(&entry(index, command.encode())).unwrap();
    loop {
        match applied {
            Applied::Done(answer) => return answer,
            Applied::More => applied = machine.resume().unwrap(),
        }
    }
}

fn put(machine: &mut KvMachine, index: u64, key: &str) {
    apply(machine, index, Command::put(key.as_bytes(), b"v"));
}

fn deleted(count: u64) -> Bytes {
    Answer::Deleted(count).encode()
}

const ALL: Command<'static> = Command::DeleteRange { from: b"", to: None };

/// `count` keys, `k00001` and on, written by as many entries.
fn filled(count: u64) -> KvMachine {
    let mut machine = KvMachine::new();
    for index in 1..=count {
        put(&mut machine, index, &format!("k{index:05}"));
    }
    machine.publish().unwrap();
    machine
}

fn whole(machine: &KvMachine) -> ScanPage {
    machine.reader().view().scan(&Scan::default()).unwrap()
}

fn keys(page: &ScanPage) -> Vec<String> {
    page.items.iter().map(|item| String::from_utf8(item.key.to_vec()).unwrap()).collect()
}

#[test]
fn machine_counts_revisions_and_versions_of_a_life() {
    let mut machine = KvMachine::new();
    put(&mut machine, 5, "a");
    put(&mut machine, 7, "a");
    machine.publish().unwrap();
    let seen = machine.reader().get(b"a").unwrap().unwrap();
    assert_eq!((seen.create_revision, seen.mod_revision, seen.version), (Index(5), Index(7), 2));
    assert_eq!(Answer::decode(&apply(&mut machine, 8, Command::Delete { key: b"a" })).unwrap(), Answer::Deleted(1));
    assert_eq!(Answer::decode(&apply(&mut machine, 9, Command::Delete { key: b"a" })).unwrap(), Answer::Deleted(0));
    put(&mut machine, 10, "a");
    machine.publish().unwrap();
    let seen = machine.reader().get(b"a").unwrap().unwrap();
    assert_eq!((seen.create_revision, seen.mod_revision, seen.version), (Index(10), Index(10), 1));
}

#[test]
fn machine_answer_bytes_are_pinned() {
    let mut machine = filled(3);
    assert_eq!(apply(&mut machine, 4, Command::put(b"x", b"")), &b""[..]);
    assert_eq!(apply(&mut machine, 5, ALL), &b"\x01\x01\x04\0\0\0\0\0\0\0"[..]);
}

#[test]
fn machine_keeps_no_part_of_the_entry() {
    let mut machine = KvMachine::new();
    let entry = entry(1, Command::put(&[7; 100], &[8; 100]).encode());
    machine.apply(&entry).unwrap();
    machine.publish().unwrap();
    let seen = machine.reader().get(&[7; 100]).unwrap().unwrap();
    assert!(entry.payload.is_unique());
    assert_eq!(seen.value, &[8; 100][..]);
}

#[test]
fn machine_shows_nothing_before_it_is_published() {
    let mut machine = filled(1);
    put(&mut machine, 2, "later");
    assert_eq!(keys(&whole(&machine)), ["k00001"]);
    machine.publish().unwrap();
    assert_eq!(keys(&whole(&machine)), ["k00001", "later"]);
}

#[test]
fn machine_large_range_delete_takes_turns_and_is_seen_whole_or_not_at_all() {
    let mut machine = filled(1000);
    put(&mut machine, 1001, "j");
    put(&mut machine, 1002, "l");
    machine.publish().unwrap();
    let before = machine.reader().view();
    let range = Command::DeleteRange { from: b"k", to: Some(b"l") };
    let mut applied = machine.apply(&entry(1003, range.encode())).unwrap();
    let mut turns = 1;
    while applied == Applied::More {
        let reader = machine.reader();
        assert_eq!((keys(&whole(&machine)), reader.view().applied()), (vec!["j".into(), "l".into()], Index(1003)));
        assert!(reader.get(b"k00999").unwrap().is_none() && reader.get(b"l").unwrap().is_some());
        let back = reader.view().scan(&Scan { reverse: true, limit: Some(2), ..Scan::default() }).unwrap();
        assert_eq!(keys(&back), ["l", "j"]);
        applied = machine.resume().unwrap();
        turns += 1;
    }
    assert_eq!((turns, applied), (1000 / TURN_KEYS + 2, Applied::Done(Answer::Deleted(1000).encode())));
    machine.publish().unwrap();
    assert_eq!(keys(&whole(&machine)), ["j", "l"]);
    assert_eq!(before.scan(&Scan::default()).unwrap().count, 1002);
}

/// Deletes of just under a turn's keys counted as small entries: a quantum of 256 of them removed 65,000 keys at once.
/// The bound was tried with one huge range only.
#[test]
fn machine_range_delete_of_less_than_a_turn_is_long_work_all_the_same() {
    let mut machine = filled(TURN_KEYS as u64 - 1);
    let range = |machine: &mut KvMachine, index, to: &[u8]| {
        machine.apply(&entry(index, Command::DeleteRange { from: b"k", to: Some(to) }.encode())).unwrap()
    };
    assert_eq!(range(&mut machine, 600, b"k00016"), Applied::Done(deleted(LONG_KEYS as u64 - 1)), "fifteen");
    assert_eq!(range(&mut machine, 601, b"l"), Applied::More);
    assert_eq!(machine.resume().unwrap(), Applied::Done(deleted((TURN_KEYS - LONG_KEYS) as u64)));
}

#[test]
fn machine_key_put_again_after_its_range_was_deleted_is_seen() {
    let mut machine = filled(600);
    assert_eq!(apply(&mut machine, 601, ALL), deleted(600));
    put(&mut machine, 602, "k00003");
    machine.publish().unwrap();
    assert_eq!(machine.reader().get(b"k00003").unwrap().unwrap().create_revision, Index(602));
}

#[test]
fn machine_range_delete_of_full_turns_ends_with_an_empty_one() {
    let mut machine = filled(2 * TURN_KEYS as u64);
    assert_eq!(apply(&mut machine, 600, ALL), deleted(2 * TURN_KEYS as u64));
    assert_eq!(apply(&mut machine, 601, ALL), deleted(0));
}

#[test]
fn machine_stops_at_a_command_it_does_not_know() {
    let mut machine = filled(1);
    let error = machine.apply(&entry(3, Bytes::from_static(&[77, 1]))).unwrap_err();
    assert!(error.reason.contains("tag 77") && error.id.index == Index(3), "{error}");
    machine.apply(&entry(3, Bytes::from_static(&[1, 1, 9]))).unwrap_err();
    machine.publish().unwrap();
    assert_eq!(machine.reader().view().applied(), Index(1));
}

#[test]
fn machine_passes_over_what_is_not_a_command() {
    let mut machine = filled(1);
    for (index, kind) in [(2, Kind::NoOp), (3, Kind::Membership)] {
        let entry = Entry { kind, ..entry(index, Bytes::from_static(b"not a command")) };
        assert_eq!(machine.apply(&entry).unwrap(), Applied::Done(Bytes::new()));
    }
    machine.publish().unwrap();
    assert_eq!(machine.reader().view().applied(), Index(3));
    assert_eq!(keys(&whole(&machine)), ["k00001"]);
}

#[test]
fn view_stays_the_same_while_the_machine_goes_on() {
    let mut machine = filled(3);
    let before = machine.reader().view();
    apply(&mut machine, 4, ALL);
    machine.publish().unwrap();
    assert_eq!(before.scan(&Scan::default()).unwrap().count, 3);
    assert_eq!(whole(&machine).count, 0);
}

/// All items of a machine's state.
fn items(machine: &KvMachine) -> Vec<Vec<u8>> {
    let mut items = Vec::new();
    let outcome: Result<(), CaptureError> = machine.capture().items(&mut |item| {
        items.push(item.to_vec());
        Ok(())
    });
    outcome.unwrap();
    items
}

/// A state made from items.
fn restored(machine: &KvMachine, items: &[Vec<u8>]) -> KvRestore {
    let mut state = machine.restore();
    for item in items {
        state.item(item).unwrap();
    }
    state
}

#[test]
fn machine_captured_state_stays_as_it_was_and_keeps_the_order_of_keys() {
    let mut machine = filled(500);
    let capture = machine.capture();
    assert_eq!(apply(&mut machine, 501, ALL), deleted(500));
    machine.publish().unwrap();
    let mut keys = Vec::new();
    let outcome: Result<(), CaptureError> = capture.items(&mut |item| {
        keys.push(item[10..16].to_vec());
        Ok(())
    });
    assert_eq!((outcome, keys.len(), keys.is_sorted()), (Ok(()), 500, true));
    assert!(items(&machine).is_empty());
}

#[test]
fn machine_capture_ends_at_the_first_error_of_who_takes_its_items() {
    let machine = filled(10);
    let mut taken = 0;
    let outcome = machine.capture().items(&mut |_item| {
        taken += 1;
        if taken == 4 { Err(CaptureError("full".to_owned())) } else { Ok(()) }
    });
    assert_eq!((outcome, taken), (Err(CaptureError("full".to_owned())), 4));
}

#[test]
fn machine_with_an_installed_state_shows_it_to_readers_it_already_had() {
    let (source, mut machine) = (filled(3), filled(1));
    put(&mut machine, 2, "gone");
    machine.publish().unwrap();
    let (reader, before) = (machine.reader(), machine.reader().view());
    let state = restored(&machine, &items(&source));
    let old = machine.install(state, EntryId::new(Index(900), Term(2)));
    assert_eq!(reader.view().applied(), Index(900));
    assert_eq!(whole(&machine).items, whole(&source).items);
    assert!(reader.get(b"gone").unwrap().is_none() && before.get(b"gone").unwrap().is_some());
    assert_eq!(old.into_parts().0.snapshot().get(b"gone").unwrap().map(|stored| stored.version), Some(1));
    apply(&mut machine, 901, Command::put(b"k00001", b"new"));
    machine.publish().unwrap();
    let seen = reader.get(b"k00001").unwrap().unwrap();
    assert_eq!((seen.create_revision, seen.mod_revision, seen.version), (Index(1), Index(901), 2));
}

/// A command in a form that proptest can make and print.
#[derive(Clone, Debug)]
enum Change {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    DeleteRange(Vec<u8>, Option<Vec<u8>>),
}

impl Change {
    fn command(&self) -> Command<'_> {
        match self {
            Self::Put(key, value) => Command::put(key, value),
            Self::Delete(key) => Command::Delete { key },
            Self::DeleteRange(from, to) => Command::DeleteRange { from, to: to.as_deref() },
        }
    }
}

fn any_key() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(prop_oneof![0u8..4, Just(255)], 1..4)
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        8 => (any_key(), proptest::collection::vec(any::<u8>(), 0..3)).prop_map(|(key, value)| Change::Put(key, value)),
        2 => any_key().prop_map(Change::Delete),
        1 => (any_key(), proptest::option::of(any_key())).prop_map(|(from, to)| Change::DeleteRange(from, to)),
    ]
}

type Model = BTreeMap<Vec<u8>, KeyValue>;

/// What a change does to a sorted map, and its answer.
fn change(model: &mut Model, change: &Change, revision: Index) -> Bytes {
    let before = model.len();
    match change {
        Change::Put(key, value) => {
            let old = model.get(key);
            let new = KeyValue {
                lease: LeaseId::ZERO,
                key: key.clone().into(),
                value: value.clone().into(),
                create_revision: old.map_or(revision, |old| old.create_revision),
                mod_revision: revision,
                version: old.map_or(1, |old| old.version + 1),
            };
            model.insert(key.clone(), new);
            return Bytes::new();
        }
        Change::Delete(key) => drop(model.remove(key)),
        Change::DeleteRange(from, to) => {
            model.retain(|key, _| key < from || to.as_ref().is_some_and(|to| key >= to));
        }
    }
    deleted((before - model.len()) as u64)
}

proptest! {
    #[test]
    fn machine_random_commands_agree_with_a_sorted_map_whatever_the_turns(
        changes in proptest::collection::vec((any_change(), any::<bool>()), 1..150),
        turn_keys in 1usize..10,
    ) {
        let (mut machine, mut other, mut model) = (KvMachine::new(), KvMachine::new(), Model::new());
        machine.turn_keys = turn_keys;
        for ((made, publish), index) in changes.iter().zip(1..) {
            let expected = change(&mut model, made, Index(index));
            prop_assert_eq!(&apply(&mut machine, index, made.command()), &expected);
            prop_assert_eq!(&apply(&mut other, index, made.command()), &expected);
            if *publish {
                machine.publish().unwrap();
                let expected: Vec<KeyValue> = model.values().cloned().collect();
                prop_assert_eq!(whole(&machine).items, expected);
            }
        }
        machine.publish().unwrap();
        other.publish().unwrap();
        prop_assert_eq!(whole(&machine), whole(&other));
        for (key, expected) in model {
            prop_assert_eq!(machine.reader().get(&key).unwrap(), Some(expected));
        }
    }

    #[test]
    fn machine_restored_from_its_items_is_equal_and_goes_on_equally(
        before in proptest::collection::vec(any_change(), 0..100),
        after in proptest::collection::vec(any_change(), 0..50),
        other in proptest::collection::vec(any_change(), 0..20),
    ) {
        let (mut machine, mut copy) = (KvMachine::new(), KvMachine::new());
        for (made, index) in before.iter().zip(1..) {
            apply(&mut machine, index, made.command());
        }
        // What the copy held is nothing to the state that it is given.
        for (made, index) in other.iter().zip(1..) {
            apply(&mut copy, index, made.command());
        }
        machine.publish().unwrap();
        let (taken, last) = (items(&machine), EntryId::new(Index(before.len() as u64), Term(1)));
        let state = restored(&copy, &taken);
        copy.install(state, last);
        prop_assert_eq!(whole(&copy), whole(&machine));
        prop_assert_eq!(copy.reader().view().applied(), machine.reader().view().applied());
        prop_assert_eq!(items(&copy), taken);
        for (made, index) in after.iter().zip(last.index.get() + 1..) {
            prop_assert_eq!(apply(&mut copy, index, made.command()), apply(&mut machine, index, made.command()));
        }
        prop_assert_eq!(items(&copy), items(&machine));
    }
}
