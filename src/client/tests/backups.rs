//! Backups, from the node that was asked and from another one that has the same snapshot.

use std::path::Path;

use super::*;
use crate::env::memory::MemoryDisk;
use crate::snapshot::{Snapshot, SnapshotOptions, SnapshotStore};
use crate::state_machine::{Capture, CaptureError};
use crate::types::{EntryId, GroupId, LogBase, Term};

struct Items(usize);

impl Capture for Items {
    fn items<E: From<CaptureError>>(&self, each: &mut dyn FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        (0..self.0).try_for_each(|number| each(&[number as u8; 30]))
    }
}

/// A snapshot of a few chunks.
fn snapshot() -> Snapshot {
    let disk = MemoryDisk::new();
    let whose = SnapshotOptions { cluster: ClusterId(1), group: GroupId::FIRST, chunk_bytes: 100 };
    let mut store = SnapshotStore::open(disk.handle(), Path::new("/groups/1"), whose).unwrap();
    let id = EntryId::new(Index(0), Term(1));
    store.write(LogBase { entry: id, ..LogBase::default() }, &Items(10)).unwrap();
    store.get(id).unwrap()
}

/// Gives a fake the pieces of a snapshot.
fn stock(store: &FakeStore, snapshot: &Snapshot) {
    let mut state = store.state();
    state.pieces.insert(None, snapshot.manifest().encode());
    for number in 0..snapshot.manifest().chunks {
        state.pieces.insert(Some(number), snapshot.chunk(number).unwrap());
    }
}

async fn rest_of(mut backup: Backup, mut bytes: Vec<u8>) -> Result<Vec<u8>, ClientError> {
    while let Some(piece) = backup.next().await? {
        bytes.extend_from_slice(&piece);
    }
    assert_eq!(bytes.len() as u64, backup.bytes());
    Ok(bytes)
}

/// What a backup of the snapshot must be.
fn wanted(snapshot: &Snapshot) -> Vec<u8> {
    let (_writer, mut bytes) =
        crate::snapshot::BackupWriter::begin(Path::new("x"), &snapshot.manifest().encode()).unwrap();
    (0..snapshot.manifest().chunks).for_each(|number| bytes.extend_from_slice(&snapshot.chunk(number).unwrap()));
    bytes
}

#[tokio::test(start_paused = true)]
async fn backup_is_taken_from_the_first_endpoint_after_a_linearizable_read() {
    let (net, stores) = Net::three();
    let snapshot = snapshot();
    stock(&stores[1], &snapshot);
    let backup = net.client(&[2, 1]).backup().await.unwrap();
    assert_eq!((stores[1].state().read_rounds, net.dials_to(1)), (1, 0));
    assert_eq!(rest_of(backup, Vec::new()).await.unwrap(), wanted(&snapshot));
}

#[tokio::test(start_paused = true)]
async fn backup_goes_on_with_the_next_chunk_from_another_node_that_has_the_snapshot() {
    let (net, stores) = Net::three();
    let snapshot = snapshot();
    stock(&stores[1], &snapshot);
    stock(&stores[2], &snapshot);
    let mut backup = net.client(&[2]).backup().await.unwrap();
    let mut bytes = backup.next().await.unwrap().unwrap().to_vec();
    bytes.extend_from_slice(&backup.next().await.unwrap().unwrap());
    net.cut(2).await;
    net.reach(2, Reach::Refused);
    assert_eq!(rest_of(backup, bytes).await.unwrap(), wanted(&snapshot));
}

#[tokio::test(start_paused = true)]
async fn backup_takes_no_piece_that_does_not_belong_there() {
    let (net, stores) = Net::three();
    let snapshot = snapshot();
    for store in &stores {
        stock(store, &snapshot);
    }
    let wrong = snapshot.chunk(2).unwrap();
    stores[0].state().pieces.insert(Some(1), wrong);
    let backup = net.client(&[1, 2, 3]).backup().await.unwrap();
    assert_eq!(rest_of(backup, Vec::new()).await.unwrap(), wanted(&snapshot));
}

#[tokio::test(start_paused = true)]
async fn backup_whose_rest_nobody_has_ends_as_unavailable() {
    let (net, stores) = Net::three();
    stock(&stores[1], &snapshot());
    let mut backup = net.client(&[2, 1, 3]).backup().await.unwrap();
    backup.next().await.unwrap();
    net.cut(2).await;
    net.reach(2, Reach::Refused);
    let ended = rest_of(backup, Vec::new()).await.unwrap_err();
    assert!(matches!(&ended, ClientError::Unavailable(text) if text.contains("must begin anew")), "{ended}");
}
