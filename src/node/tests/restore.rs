//! A node that begins with a backup: what it begins with, and the power cut at every disk call on the way there.

use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::cluster::{Hand, machine};
use super::recorder::Recorder;
use crate::commitlog::layout::{RESTORE_FILE, group_dir, log_dir};
use crate::config::Config;
use crate::env::OpenMode;
use crate::env::memory::{Fate, MemoryDisk};
use crate::error::OpenError;
use crate::node::data_dir::{self, Recovered};
use crate::node::{RESTORE_GAP, RestoreError, RestoreOptions, restore};
use crate::simulation::plants::Plants;
use crate::snapshot::{BackupWriter, SnapshotOptions, SnapshotStore};
use crate::state_machine::StateMachine;
use crate::types::{ClusterId, EntryId, GroupId, Index, LogBase, LogTime, NodeId, Position, Term};

pub(super) const BACKUP: &str = "/backups/one";
const LAST: EntryId = EntryId::new(Index(70), Term(4));

fn config() -> Config {
    let mut config = Config::member(1, "1=n:1", "/data").unwrap();
    config.segment_bytes = 64 << 10;
    config
}

fn base() -> LogBase {
    let membership = (Index(1), Bytes::from_static(b"the members of then"));
    LogBase { entry: LAST, position: Position(9_000), time: LogTime(1_800_000_000_000), membership }
}

/// What is in the backup: entries of the old cluster.
fn state() -> Vec<(Index, Bytes)> {
    (1..=40).map(|index| (Index(index), Bytes::from(vec![index as u8; 30]))).collect()
}

/// A recorder that has applied these.
fn recorder(state: Vec<(Index, Bytes)>) -> Recorder {
    let mut recorder = Recorder::default();
    let mut restored = recorder.restore();
    for (index, payload) in state {
        let item = [&index.get().to_le_bytes()[..], &payload].concat();
        crate::state_machine::Restore::item(&mut restored, &item).unwrap();
    }
    let _empty = recorder.install(restored, LAST);
    recorder
}

/// Puts the bytes of a backup on a disk.
pub(super) fn write_backup(disk: &MemoryDisk) {
    let other = MemoryDisk::new();
    let whose = SnapshotOptions { cluster: ClusterId(0x01d), group: GroupId::FIRST, chunk_bytes: 300 };
    let mut store = SnapshotStore::open(other.handle(), Path::new("/old/groups/1"), whose).unwrap();
    store.write(base(), &recorder(state()).capture()).unwrap();
    let snapshot = store.get(LAST).unwrap();
    let (mut writer, mut bytes) = BackupWriter::begin(Path::new(BACKUP), &snapshot.manifest().encode()).unwrap();
    while let Some(number) = writer.next() {
        let chunk = snapshot.chunk(number).unwrap();
        writer.take(&chunk).unwrap();
        bytes.extend_from_slice(&chunk);
    }
    let disk = disk.handle();
    disk.create_dir_all(Path::new("/backups")).unwrap();
    let file = disk.open(Path::new(BACKUP), OpenMode::Create).unwrap();
    file.write_all_at(&[IoSlice::new(&bytes)], 0).unwrap();
    file.sync().unwrap();
    disk.sync_dir(Path::new("/backups")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
}

fn options() -> RestoreOptions {
    RestoreOptions { backup: BACKUP.into(), data_dir: "/data".into(), id: NodeId(1), cluster: config().cluster }
}

fn restore_on(disk: &MemoryDisk, hand: &Arc<Hand>) -> Result<(), RestoreError> {
    restore(&machine(disk, hand), &options()).map(drop)
}

/// Starts the node: it forms its cluster when it has not yet.
fn start(disk: &MemoryDisk, hand: &Arc<Hand>) -> Result<(Recovered, Recorder), OpenError> {
    let (environment, config) = (machine(disk, hand), config());
    let mut directory = data_dir::open(&environment, &config, &config.cluster)?;
    if directory.identity.cluster.is_none() {
        let formation = data_dir::formation(&directory, &config, config.cluster.clone());
        let random = u128::from(environment.entropy.next_u64());
        let genesis = formation.mint(random, LogTime(environment.clock.wall_ms())).unwrap();
        data_dir::adopt(&environment, &config, &mut directory, &genesis)?;
    }
    let mut recorder = Recorder::default();
    let recovered = data_dir::recover(&environment, &config, &directory.identity, &mut recorder, Plants::NONE)?;
    Ok((recovered, recorder))
}

#[track_caller]
fn assert_began_with_the_backup(disk: &MemoryDisk, (recovered, recorder): &(Recovered, Recorder)) {
    let gap = EntryId::new(Index(LAST.index.get() + RESTORE_GAP), LAST.term);
    let genesis = EntryId::new(gap.index.next(), Term(LAST.term.get() + 1));
    let log = &recovered.opened.state;
    assert_eq!((log.base, log.last, recovered.base.entry), (gap, genesis, gap));
    assert_eq!((log.vote.term, log.committed_hint), (genesis.term, genesis.index));
    let record = recovered.opened.reader.read(genesis.index).unwrap();
    assert_eq!(record.header().position, base().position);
    assert_eq!(record.header().time, base().time, "log time never goes back, though this machine's clock did");
    assert_eq!(recorder.what_it_applied(), state());
    let left = disk.handle().list(&group_dir(Path::new("/data"), GroupId::FIRST)).unwrap();
    assert!(!left.iter().any(|name| name == RESTORE_FILE), "{left:?}");
}

#[test]
fn restored_node_begins_a_gap_behind_its_backup_with_its_state() {
    let (disk, hand) = (MemoryDisk::new(), Arc::<Hand>::default());
    write_backup(&disk);
    restore_on(&disk, &hand).unwrap();
    assert_began_with_the_backup(&disk, &start(&disk, &hand).unwrap());
    let again = restore_on(&disk, &hand).unwrap_err();
    assert!(matches!(again, RestoreError::Directory(OpenError::NotEmpty { .. })), "{again}");
    assert_began_with_the_backup(&disk, &start(&disk, &hand).unwrap());
}

#[test]
fn restored_node_whose_log_is_gone_is_refused_and_does_not_begin_once_more() {
    let (disk, hand) = (MemoryDisk::new(), Arc::<Hand>::default());
    write_backup(&disk);
    restore_on(&disk, &hand).unwrap();
    drop(start(&disk, &hand).unwrap());
    let log = log_dir(&group_dir(Path::new("/data"), GroupId::FIRST));
    for name in disk.handle().list(&log).unwrap() {
        disk.handle().remove(&log.join(name)).unwrap();
    }
    let refused = start(&disk, &hand).err().map(|error| error.to_string()).unwrap_or_default();
    let genesis = LAST.index.get() + RESTORE_GAP + 1;
    assert!(refused.contains(&format!("lacks the segment that holds index {genesis}")), "{refused}");
}

#[test]
fn restored_directory_is_for_the_members_it_was_restored_for() {
    let (disk, hand) = (MemoryDisk::new(), Arc::<Hand>::default());
    write_backup(&disk);
    restore_on(&disk, &hand).unwrap();
    let other = Config::member(1, "1=n:1,2=n:2", "/data").unwrap();
    let refused = data_dir::open(&machine(&disk, &hand), &other, &other.cluster).err();
    assert!(matches!(refused, Some(OpenError::Identity { .. })), "{refused:?}");
    let stranger = RestoreOptions { id: NodeId(2), ..options() };
    let refused = restore(&machine(&MemoryDisk::new(), &hand), &stranger).unwrap_err();
    assert!(refused.to_string().contains("node 2 is not among the members"), "{refused}");
}

/// Restores and starts with a power cut at a disk call, and then until it works. False when the call never came.
fn cut_at(call: u64, seed: u64) -> bool {
    let (disk, hand) = (MemoryDisk::new(), Arc::<Hand>::default());
    write_backup(&disk);
    disk.cut_power_at(call);
    let restored = restore_on(&disk, &hand).is_ok();
    let struck = !restored || start(&disk, &hand).is_err();
    disk.cut_power_at(0);
    disk.power_cut(Fate::seeded(seed));
    match restore_on(&disk, &hand) {
        Ok(()) => assert!(!restored, "a restore that was reported done was forgotten"),
        // It had come so far that the identity stands; the node goes on from there.
        Err(RestoreError::Directory(OpenError::NotEmpty { .. })) => {}
        Err(error) => panic!("cut at {call}: the directory can be used no more: {error}"),
    }
    let started = start(&disk, &hand).unwrap_or_else(|error| panic!("cut at {call}: {error}"));
    assert_began_with_the_backup(&disk, &started);
    struck
}

#[test]
fn restored_node_after_a_power_cut_at_any_disk_call_begins_with_all_of_its_backup() {
    let mut call = 1;
    while (0..3).map(|seed| cut_at(call, call * 3 + seed)).fold(false, |any, struck| any | struck) {
        call += 1;
    }
    assert!(call > 60, "only {call} disk calls were cut");
}
