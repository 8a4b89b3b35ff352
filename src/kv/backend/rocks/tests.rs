use std::cell::RefCell;
use std::path::PathBuf;

use super::super::conformance;
use super::*;
use crate::env::os::OsDisk;
use crate::kv::command::Command;
use crate::kv::machine::KvMachine;
use crate::kv::{KeyValue, Scan, Txn};
use crate::state_machine::{Applied, Capture, CaptureError, Entry, Restore, StateMachine};
use crate::types::{EntryId, Kind, LeaseId, LogTime, Position, SessionId, Term};

mod kills;

thread_local! {
    /// Removed at the end of the test that made them.
    static DIRECTORIES: RefCell<Vec<tempfile::TempDir>> = const { RefCell::new(Vec::new()) };
}

/// A directory of this test's own.
fn scratch() -> PathBuf {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    DIRECTORIES.with_borrow_mut(|all| all.push(directory));
    path
}

/// Buffers so small that a few hundred keys are flushed and merged.
fn small() -> Tuning {
    Tuning { write_buffer_bytes: 64 << 10, background_rate: 0 }
}

fn map(tuning: Tuning) -> RocksMap {
    RocksMap::tuned(Arc::new(OsDisk::new()), tuning)
}

fn opened() -> RocksMap {
    let mut map = map(small());
    assert_eq!(map.open(&scratch()).unwrap(), Held::default());
    map
}

conformance::tests!(opened());

type Machine = KvMachine<RocksMap>;

/// A machine on what the directory holds, and how far that is.
fn machine(directory: &Path) -> (Machine, LogBase) {
    let mut machine = KvMachine::on(map(small()));
    let base = machine.open(directory).unwrap();
    (machine, base)
}

/// The log: entry `index` of it. Keys come again and again, large values now and then, ranges large and small go.
fn entry(index: u64) -> Entry {
    let key = format!("k{:03}", index * 7919 % 400);
    let value = vec![b'v'; if index.is_multiple_of(50) { 20_000 } else { 300 }];
    let (kind, payload) = match index {
        1 => (Kind::Membership, Bytes::from_static(b"members")),
        index if index % 90 == 0 => (Kind::Data, Command::DeleteRange { from: b"k1", to: None }.encode()),
        index if index % 31 == 0 => (Kind::NoOp, Bytes::new()),
        // A lease of 300 ms every 40 entries, a session of 900 ms every 120; an entry is 10 ms behind the one before.
        index if index % 40 == 7 => (Kind::Data, Command::GrantLease { ttl_ms: 300 }.encode()),
        index if index % 120 == 3 => (Kind::Data, Command::OpenSession { ttl_ms: 900 }.encode()),
        index if index % 3 == 0 => {
            let session = SessionId(index / 120 * 120 + 3);
            let (number, first_unanswered) = (index / 6, (index / 6).saturating_sub(4));
            let command = match index % 4 {
                0 => Command::Txn(Txn::add(key, 1)).encode(),
                1 => Command::DeleteRange { from: b"k2", to: Some(b"k3") }.encode(),
                _ => Command::put(key.as_bytes(), &value).encode(),
            };
            (Kind::Data, Command::Numbered { session, number, first_unanswered, command: &command }.encode())
        }
        index if index % 4 == 0 => {
            let lease = LeaseId((index.saturating_sub(7)) / 40 * 40 + 7);
            (Kind::Data, Command::Put { key: key.as_bytes(), value: &value, lease }.encode())
        }
        index if index % 5 == 0 => (Kind::Data, Command::Delete { key: key.as_bytes() }.encode()),
        _ => (Kind::Data, Command::put(key.as_bytes(), &value).encode()),
    };
    let (position, time) = (Position(index * 100_000), LogTime(index * 10));
    Entry { id: EntryId::new(Index(index), Term(1)), position, time, kind, channel: 0, payload }
}

/// Applies entries up to `last`, a quantum at a time.
fn apply<M: StateMachine>(machine: &mut M, from: u64, last: u64, quantum: u64) {
    for index in from..=last {
        let mut applied = machine.apply(&entry(index)).unwrap();
        while applied == Applied::More {
            applied = machine.resume().unwrap();
        }
        if index % quantum == 0 || index == last {
            machine.publish().unwrap();
        }
    }
}

fn content<B: Backend>(machine: &KvMachine<B>) -> Vec<KeyValue> {
    let view = machine.reader().view();
    view.scan(&Scan { max_bytes: u64::MAX, ..Scan::default() }).unwrap().items
}

/// Keys, and what is beside them.
fn whole<B: Backend>(machine: &KvMachine<B>) -> (Vec<KeyValue>, Vec<Vec<u8>>) {
    (content(machine), machine.records_beside_the_keys())
}

/// What every machine holds after entry `last`.
fn truth(last: u64) -> (Vec<KeyValue>, Vec<Vec<u8>>) {
    let mut memory = KvMachine::new();
    apply(&mut memory, 1, last, 10);
    whole(&memory)
}

fn items<M: StateMachine>(machine: &M) -> Vec<Vec<u8>> {
    let mut items = Vec::new();
    let taken = machine.capture().items(&mut |item| {
        items.push(item.to_vec());
        Ok::<(), CaptureError>(())
    });
    taken.unwrap();
    items
}

fn base(index: u64) -> LogBase {
    let entry = entry(index);
    let membership = (Index(1), Bytes::from_static(b"members"));
    LogBase { entry: entry.id, position: entry.end(), time: entry.time, membership }
}

fn restored<B: Backend>(machine: &mut KvMachine<B>, items: &[Vec<u8>], base: &LogBase) {
    let mut state = machine.restore();
    items.iter().try_for_each(|item| state.item(item)).unwrap();
    state.finish(base).unwrap();
    drop(machine.install(state, base.entry));
}

fn generations(directory: &Path) -> Vec<String> {
    let names = std::fs::read_dir(directory).unwrap().map(|item| item.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[test]
fn rocks_closed_and_opened_holds_everything_with_the_base_of_the_log() {
    let directory = scratch();
    let (mut first, held) = machine(&directory);
    assert_eq!(held, LogBase::default());
    apply(&mut first, 1, 200, 16);
    drop(first);
    let (mut again, held) = machine(&directory);
    assert_eq!((held, whole(&again)), (base(200), truth(200)));
    apply(&mut again, 201, 300, 16);
    assert_eq!(whole(&again), truth(300));
}

#[test]
fn rocks_state_after_any_number_of_entries_equals_that_in_memory() {
    let (mut rocks, mut memory) = (machine(&scratch()).0, KvMachine::new());
    for last in 1..=360 {
        apply(&mut rocks, last, last, 1);
        apply(&mut memory, last, last, 1);
        if last % 9 == 0 {
            assert_eq!(whole(&rocks), whole(&memory), "after {last}");
        }
    }
}

#[test]
fn rocks_and_memory_take_each_others_snapshots_and_give_the_same_bytes() {
    let (mut rocks, mut memory) = (machine(&scratch()).0, KvMachine::new());
    apply(&mut rocks, 1, 170, 16);
    apply(&mut memory, 1, 170, 16);
    assert_eq!(items(&rocks), items(&memory));
    let directory = scratch();
    let (mut from_memory, _) = machine(&directory);
    apply(&mut from_memory, 1, 20, 16);
    restored(&mut from_memory, &items(&memory), &base(170));
    let mut from_rocks = KvMachine::new();
    restored(&mut from_rocks, &items(&rocks), &base(170));
    for last in [170, 300] {
        apply(&mut from_memory, 171, last, 16);
        apply(&mut from_rocks, 171, last, 16);
        assert_eq!((whole(&from_memory), whole(&from_rocks)), (truth(last), truth(last)));
    }
    assert_eq!(generations(&directory), ["2"], "what was there before is removed");
    drop(from_memory);
    assert_eq!(machine(&directory).1, base(300));
}

#[test]
fn rocks_restored_state_is_durable_before_it_is_installed_and_gone_when_refused() {
    let directory = scratch();
    let (mut rocks, _) = machine(&directory);
    apply(&mut rocks, 1, 20, 16);
    let mut memory = KvMachine::new();
    apply(&mut memory, 1, 170, 16);
    let mut state = rocks.restore();
    items(&memory).iter().try_for_each(|item| state.item(item)).unwrap();
    state.finish(&base(170)).unwrap();
    assert_eq!((generations(&directory).len(), whole(&rocks)), (2, truth(20)));
    drop(state);
    assert_eq!((generations(&directory), whole(&rocks)), (vec!["1".to_owned()], truth(20)));
}

#[test]
fn rocks_snapshot_outlives_a_swap_and_its_files_go_with_it() {
    let directory = scratch();
    let (mut rocks, _) = machine(&directory);
    apply(&mut rocks, 1, 50, 16);
    let (reader, kept) = (rocks.reader(), rocks.reader().view());
    restored(&mut rocks, &[], &base(100));
    assert_eq!(kept.scan(&Scan { max_bytes: u64::MAX, ..Scan::default() }).unwrap().items, truth(50).0);
    assert_eq!((reader.view().scan(&Scan::default()).unwrap().count, generations(&directory).len()), (0, 2));
    drop(kept);
    assert_eq!(generations(&directory), ["2"]);
}

#[test]
fn rocks_reader_of_a_machine_that_is_gone_has_an_error_and_keeps_nothing_open() {
    let directory = scratch();
    let (mut rocks, _) = machine(&directory);
    apply(&mut rocks, 1, 20, 16);
    let reader = rocks.reader();
    drop(rocks);
    assert!(reader.get(b"k001").unwrap_err().to_string().contains("stopped"));
    assert_eq!(machine(&directory).1, base(20));
}

#[test]
fn rocks_opened_in_the_midst_of_a_range_delete_finishes_it_first() {
    let directory = scratch();
    let (mut rocks, _) = machine(&directory);
    let put = |index: u64| {
        let payload = Command::put(format!("k{index:05}").as_bytes(), b"v").encode();
        Entry { payload, kind: Kind::Data, ..entry(index) }
    };
    for index in 1..=1000 {
        rocks.apply(&put(index)).unwrap();
    }
    rocks.publish().unwrap();
    let payload = Command::DeleteRange { from: b"k00100", to: Some(b"k00900") }.encode();
    let range = Entry { payload, kind: Kind::Data, ..entry(1001) };
    assert_eq!(rocks.apply(&range).unwrap(), Applied::More);
    drop(rocks);
    let (again, held) = machine(&directory);
    assert_eq!((held.entry.index, content(&again).len()), (Index(1001), 200));
    drop(again);
    assert_eq!(content(&machine(&directory).0).len(), 200);
}

#[test]
fn rocks_range_delete_of_many_keys_takes_no_longer_for_its_last_turns() {
    let mut map = opened();
    for key in 0..2_000u32 {
        map.put(&key.to_be_bytes(), b"v", Index(1)).unwrap();
    }
    map.commit(&base(1), None).unwrap();
    let all = KeyRange::default();
    let leaving = Leaving { range: all.clone(), ..Leaving::default() };
    for _turn in 0..4 {
        assert_eq!(map.delete_some(&all, 250).unwrap().len(), 250);
        map.commit(&base(2), Some(&leaving)).unwrap();
    }
    let rest = map.rest_of(&all);
    assert_eq!(*rest.from, 999u32.to_be_bytes(), "the next turn begins where the last one ended");
    map.put(&7u32.to_be_bytes(), b"v", Index(3)).unwrap();
    assert_eq!(map.delete_some(&all, 2_000).unwrap().len(), 1_001, "a key put before that is not missed");
}

/// A range that ends before the place that an earlier one was deleted up to made a map be asked for keys from there to before
/// it, which panics. The tests by hand deleted from one range at a time.
#[test]
fn rocks_range_that_ends_within_what_was_deleted_before_is_empty() {
    let mut map = opened();
    for key in [b"a", b"b", b"c"] {
        map.put(key, b"v", Index(1)).unwrap();
    }
    assert_eq!(map.delete_some(&KeyRange::default(), 2).unwrap().len(), 2);
    let shorter = KeyRange { from: Bytes::new(), to: Some(Bytes::from_static(b"aa")) };
    assert_eq!(map.delete_some(&shorter, 10).unwrap().len(), 0);
    assert_eq!(map.delete_some(&KeyRange::default(), 10).unwrap().len(), 1);
}

#[test]
fn rocks_directory_of_a_later_release_is_refused_and_left_alone() {
    let directory = scratch();
    let (mut rocks, _) = machine(&directory);
    apply(&mut rocks, 1, 20, 16);
    drop(rocks);
    let home = Home::new(Arc::new(OsDisk::new()), small());
    let (db, _held) = home.open(&directory).unwrap().unwrap();
    let mut batch = WriteBatch::default();
    batch.put(format::BASE, [9, 1, 2, 3]);
    db.write(batch).unwrap();
    drop(db);
    let error = KvMachine::on(map(small())).open(&directory).unwrap_err().to_string();
    assert!(error.contains("version 9") && error.contains("made anew"), "{error}");
    assert_eq!(generations(&directory), ["1"]);
}

#[test]
fn rocks_damaged_list_of_files_is_put_aside_and_removed_when_there_is_another_state() {
    let directory = scratch();
    let (mut rocks, _) = machine(&directory);
    apply(&mut rocks, 1, 200, 16);
    drop(rocks);
    let manifest = std::fs::read_dir(directory.join("1")).unwrap().map(|item| item.unwrap().path());
    let manifest = manifest.filter(|path| path.to_str().unwrap().contains("MANIFEST")).max().unwrap();
    let mut bytes = std::fs::read(&manifest).unwrap();
    bytes[10] ^= 0xFF;
    std::fs::write(&manifest, bytes).unwrap();
    let (mut again, held) = machine(&directory);
    assert_eq!(held, LogBase::default());
    apply(&mut again, 1, 200, 16);
    assert_eq!((whole(&again), generations(&directory).len()), (truth(200), 2));
    drop(again);
    assert_eq!((machine(&directory).1, generations(&directory)), (base(200), vec!["2".to_owned()]));
}

#[test]
fn rocks_damaged_file_is_an_error_for_readers_and_stops_apply_with_what_to_do() {
    let directory = scratch();
    let (mut rocks, _) = machine(&directory);
    apply(&mut rocks, 1, 89, 16);
    drop(rocks);
    for item in std::fs::read_dir(directory.join("1")).unwrap() {
        let path = item.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "sst") {
            let mut bytes = std::fs::read(&path).unwrap();
            // The base stands in the first block, and what describes the table behind all blocks.
            let (from, to) = (bytes.len() / 4, bytes.len() / 2);
            bytes[from..to].iter_mut().for_each(|byte| *byte ^= 0x55);
            std::fs::write(&path, bytes).unwrap();
        }
    }
    let mut again = KvMachine::on(map(small()));
    assert_ne!(again.open(&directory).unwrap(), LogBase::default(), "what opening reads was hit as well");
    let view = again.reader().view();
    let read = view.scan(&Scan { max_bytes: u64::MAX, ..Scan::default() });
    assert!(read.unwrap_err().to_string().contains("made anew"));
    let failed = (90..180).find_map(|index| again.apply(&entry(index)).err());
    assert!(failed.unwrap().to_string().contains("made anew"));
    again.publish().unwrap_err();
}

#[test]
fn rocks_names_that_are_not_its_own_are_left_alone() {
    let directory = scratch();
    std::fs::create_dir(directory.join("notes")).unwrap();
    std::fs::create_dir(directory.join("7")).unwrap();
    let (mut rocks, _) = machine(&directory);
    apply(&mut rocks, 1, 20, 16);
    assert_eq!(generations(&directory), ["8", "notes"]);
}

#[test]
fn rocks_capture_makes_durable_what_lets_the_log_go() {
    let directory = scratch();
    let (mut rocks, _) = machine(&directory);
    apply(&mut rocks, 1, 80, 16);
    let taken = items(&rocks);
    // As after `kill -9`: what was not flushed is not there.
    let copy = scratch();
    std::fs::create_dir(copy.join("1")).unwrap();
    for item in std::fs::read_dir(directory.join("1")).unwrap() {
        let path = item.unwrap().path();
        std::fs::copy(&path, copy.join("1").join(path.file_name().unwrap())).unwrap();
    }
    let (opened, held) = machine(&copy);
    assert_eq!((held, items(&opened)), (base(80), taken));
}
