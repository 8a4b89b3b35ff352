//! What the snapshots' tests share: a state of plain items, and a store on a disk in memory.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::path::{Path, PathBuf};

use bytes::Bytes;
use dledger::commitlog::layout::group_dir;
use dledger::env::memory::MemoryDisk;
use dledger::env::{Disk, OpenMode};
use dledger::snapshot::{BackupWriter, Snapshot, SnapshotError, SnapshotOptions, SnapshotStore, snapshot_dir};
use dledger::state_machine::{Capture, CaptureError, Restore, RestoreError};
use dledger::types::{ClusterId, EntryId, GroupId, Index, LogBase, LogTime, Position, Term};

/// A state that is its items.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct List(pub(crate) Vec<Vec<u8>>);

impl Capture for List {
    fn items<E: From<CaptureError>>(&self, each: &mut dyn FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        self.0.iter().try_for_each(|item| each(item))
    }
}

impl Restore for List {
    fn item(&mut self, item: &[u8]) -> Result<(), RestoreError> {
        if item == b"refused" {
            return Err(RestoreError("an item that no list takes".to_owned()));
        }
        self.0.push(item.to_vec());
        Ok(())
    }
}

/// `count` items of up to 50 bytes that differ by `seed`.
pub(crate) fn list(seed: usize, count: usize) -> List {
    let item = |number: usize| (0..(number * 13 + seed) % 50).map(|at| (at * 7 + number + seed) as u8).collect();
    List((0..count).map(item).collect())
}

pub(crate) fn options() -> SnapshotOptions {
    SnapshotOptions { cluster: ClusterId(0xc1), group: GroupId::FIRST, chunk_bytes: 200 }
}

pub(crate) fn id(index: u64) -> EntryId {
    EntryId::new(Index(index), Term(3))
}

pub(crate) fn base(index: u64) -> LogBase {
    LogBase {
        entry: id(index),
        position: Position(index * 100),
        time: LogTime(index * 1000),
        membership: (Index(1), Bytes::from_static(b"the members")),
    }
}

pub(crate) fn group() -> PathBuf {
    group_dir(Path::new("/data"), GroupId::FIRST)
}

pub(crate) fn dir() -> PathBuf {
    snapshot_dir(&group())
}

/// The path of a file of a snapshot.
pub(crate) fn file(index: u64, name: &str) -> PathBuf {
    dir().join(format!("{index:020}-3")).join(name)
}

pub(crate) fn open(memory: &MemoryDisk) -> SnapshotStore {
    SnapshotStore::open(memory.handle(), &group(), options()).unwrap()
}

/// The bytes of a backup of this snapshot.
pub(crate) fn backup_of(snapshot: &Snapshot) -> Vec<u8> {
    let (mut writer, mut bytes) = BackupWriter::begin(Path::new("backup"), &snapshot.manifest().encode()).unwrap();
    while let Some(number) = writer.next() {
        let chunk = snapshot.chunk(number).unwrap();
        writer.take(&chunk).unwrap();
        bytes.extend_from_slice(&chunk);
    }
    bytes
}

pub(crate) fn content(snapshot: &Snapshot) -> List {
    let mut state = List::default();
    snapshot.restore(&mut state).unwrap();
    state
}

/// The newest good snapshot and what is in it; what was passed over is a failure.
pub(crate) fn newest(store: &mut SnapshotStore) -> Result<Option<(EntryId, List)>, String> {
    let newest = store.newest().map_err(|error| error.to_string())?;
    match newest.passed_over.first() {
        Some((_id, error)) => Err(format!("passed over: {error}")),
        None => Ok(newest.good.map(|snapshot| (snapshot.manifest().id(), content(&snapshot)))),
    }
}

pub(crate) fn read_file(disk: &dyn Disk, path: &Path) -> Vec<u8> {
    let file = disk.open(path, OpenMode::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

pub(crate) fn write_file(disk: &dyn Disk, path: &Path, bytes: &[u8]) {
    drop(disk.remove(path));
    let file = disk.open(path, OpenMode::Create).unwrap();
    file.write_all_at(&[std::io::IoSlice::new(bytes)], 0).unwrap();
}

/// True for an error that says: these bytes are not to be trusted.
pub(crate) fn is_damage(error: &SnapshotError) -> bool {
    matches!(error, SnapshotError::Damaged { .. })
}
