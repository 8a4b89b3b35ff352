//! Snapshots: what is accepted is what the format says.
//!
//! ```text
//!   0 │ file (1) │ offset (2) │ bytes (up to 4)                one damage
//!   1 │ length of the manifest (2) │ manifest │ data …         two files of these bytes
//!   2 │ the same                                               the same, checksums and lengths made right
//! ```
//! Claims: a damaged snapshot is passed over for the one before it; one that is accepted has the items that a reader of
//! its own finds, and a copy made of its chunks has the same bytes; what a key-value store takes of the items it gives
//! back; memory follows the files.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use bytes::Buf;
use dledger::env::memory::MemoryDisk;
use dledger::env::{Disk, OpenMode};
use dledger::kv::machine::KvMachine;
use dledger::snapshot::{Manifest, Snapshot, SnapshotError, SnapshotOptions, SnapshotStore};
use dledger::state_machine::{Capture, CaptureError, Restore, StateMachine};
use dledger::types::{ClusterId, EntryId, GroupId, Index, LogBase, Term};

use crate::{Seed, forge, golden, memory};

const GROUP: &str = "/group";
const BURST_BYTES: usize = 4;
const NAMES: [&str; 2] = ["manifest", "data"];
/// The entry of the golden snapshot, and of the one before it.
const NEWER: EntryId = EntryId::new(Index(7), Term(3));
const OLDER: EntryId = EntryId::new(Index(3), Term(3));
const OLDER_ITEM: &[u8] = b"the one before";
/// What opening and looking ask for beside the bytes of the files.
const OWN_BYTES: usize = 64 << 10;

/// Takes one input.
pub fn run(mut data: &[u8]) {
    let mode = data.try_get_u8().unwrap_or(0) % 3;
    let golden = NAMES.map(golden_file);
    let [manifest, chunks] = match mode {
        0 => damaged(golden.clone(), data),
        1 => parts(data),
        _ => forged(parts(data)),
    };
    let disk = older().fork();
    write(&disk, NAMES[0], &manifest);
    write(&disk, NAMES[1], &chunks);
    let mut store = open(&disk);
    let limit = 4 * (manifest.len() + chunks.len()) + OWN_BYTES;
    let found = match memory::within(limit, || store.newest()) {
        Ok(found) => found,
        Err(SnapshotError::Unsupported { found, .. }) => return assert_ne!(found, 1),
        Err(error) => panic!("{error}"),
    };
    let good = found.good.expect("the one before is good");
    if good.manifest().id() == OLDER {
        assert_eq!(found.passed_over.len(), 1);
        assert!(mode != 0 || [&manifest, &chunks] != [&golden[0], &golden[1]], "the golden one is passed over");
        return;
    }
    assert!(mode != 0 || [&manifest, &chunks] == [&golden[0], &golden[1]], "damaged, and accepted");
    let items: Vec<Vec<u8>> = good.items().map(|item| item.expect("it was verified").to_vec()).collect();
    assert_eq!(Some(&items), read_items(&chunks).as_ref(), "other items than the file has");
    copy_is_equal(&good, &chunks);
    restores(&items);
}

/// A disk with the older snapshot.
fn older() -> &'static MemoryDisk {
    static DISK: OnceLock<MemoryDisk> = OnceLock::new();
    DISK.get_or_init(|| {
        let disk = MemoryDisk::new();
        let mut writer = open(&disk).begin(LogBase { entry: OLDER, ..LogBase::default() }).expect("an empty disk");
        writer.item(OLDER_ITEM).expect("an item");
        writer.finish().expect("a snapshot");
        disk.handle().create_dir_all(&directory()).expect("a directory");
        disk
    })
}

fn open(disk: &MemoryDisk) -> SnapshotStore {
    let options = SnapshotOptions { cluster: ClusterId(0xc1), group: GroupId::FIRST, chunk_bytes: 96 };
    SnapshotStore::open(disk.handle(), Path::new(GROUP), options).expect("a store opens whatever is in it")
}

fn directory() -> PathBuf {
    Path::new(GROUP).join("snapshot/00000000000000000007-3")
}

fn write(disk: &MemoryDisk, name: &str, bytes: &[u8]) {
    let disk: &dyn Disk = &*disk.handle();
    // Opening removes a directory without a manifest: it may be gone.
    disk.create_dir_all(&directory()).expect("a directory");
    let file = disk.open(&directory().join(name), OpenMode::Create).expect("a new file");
    file.write_all_at(&[IoSlice::new(bytes)], 0).expect("room");
}

/// The items that the format says are in these chunks.
fn read_items(mut data: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut bodies = Vec::new();
    data = data.get(16..)?;
    while forge::u32_at(data, 32) == 1 {
        let length = forge::u32_at(data, 4) as usize;
        bodies.extend_from_slice(data.get(40..length)?);
        data = data.get(length..)?;
    }
    let mut items = Vec::new();
    let mut rest = bodies.as_slice();
    while !rest.is_empty() {
        let end = (forge::u32_at(rest, 0) as usize).checked_add(4)?;
        items.push(rest.get(4..end)?.to_vec());
        rest = &rest[end..];
    }
    (data.len() == 48 && forge::u64_at(data, 40) == items.len() as u64).then_some(items)
}

fn copy_is_equal(snapshot: &Snapshot, data: &[u8]) {
    let disk = MemoryDisk::new();
    let mut store = open(&disk);
    let sent = snapshot.manifest().encode();
    let manifest = Manifest::decode(Path::new("sent"), &sent).expect("what was read is written to be read");
    assert_eq!(&manifest, snapshot.manifest());
    let mut writer = store.begin_copy(manifest).expect("a copy begins");
    while writer.next() < snapshot.manifest().chunks {
        writer.write(&snapshot.chunk(writer.next()).expect("it was verified")).expect("its next chunk");
    }
    writer.finish().expect("all of it came");
    let file = disk.handle().open(&directory().join("data"), OpenMode::Read).expect("the copy");
    let mut copied = vec![0; file.len().expect("a length") as usize];
    file.read_exact_at(&mut copied, 0).expect("all of it");
    assert!(copied == data, "the copy has other bytes");
}

/// What a store takes it gives back.
fn restores(items: &[Vec<u8>]) {
    let mut machine = KvMachine::new();
    let mut state = machine.restore();
    let taken: Vec<&Vec<u8>> = items.iter().take_while(|item| state.item(item).is_ok()).collect();
    drop(machine.install(state, NEWER));
    let mut given = Vec::new();
    let outcome: Result<(), CaptureError> = machine.capture().items(&mut |item| {
        given.push(item.to_vec());
        Ok(())
    });
    assert_eq!(outcome, Ok(()));
    assert!(given.iter().eq(taken), "a key was lost or made up");
}

fn golden_file(name: &str) -> Vec<u8> {
    golden::dump(&golden::text(&format!("format/v1/groups/1/snapshot/00000000000000000007-3/{name}.hex")))
}

fn damaged(mut files: [Vec<u8>; 2], mut data: &[u8]) -> [Vec<u8>; 2] {
    let file = usize::from(data.try_get_u8().unwrap_or(0)) % files.len();
    let bytes = &mut files[file];
    let offset = usize::from(data.try_get_u16_le().unwrap_or(0)) % bytes.len();
    let burst = data.len().min(BURST_BYTES).min(bytes.len() - offset);
    bytes[offset..offset + burst].copy_from_slice(&data[..burst]);
    files
}

fn parts(mut data: &[u8]) -> [Vec<u8>; 2] {
    let length = usize::from(data.try_get_u16_le().unwrap_or(0)).min(data.len());
    let (manifest, chunks) = data.split_at(length);
    [manifest.to_vec(), chunks.to_vec()]
}

fn forged([mut manifest, mut data]: [Vec<u8>; 2]) -> [Vec<u8>; 2] {
    forge::snapshot_data(&mut data);
    forge::snapshot_manifest(&mut manifest, &data);
    [manifest, data]
}

/// The golden snapshot as it is and with its checksums made anew, damages of its fields, and items of a key-value store.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let [manifest, data] = NAMES.map(golden_file);
    let both = |mode: u8, manifest: &[u8], data: &[u8]| {
        [&[mode][..], &(manifest.len() as u16).to_le_bytes(), manifest, data].concat()
    };
    let mut seeds = vec![
        ("golden".to_owned(), both(1, &manifest, &data)),
        ("golden-forged".to_owned(), both(2, &manifest, &data)),
        ("unharmed".to_owned(), vec![0]),
        ("keys".to_owned(), keys()),
    ];
    for (file, fields) in [(0u8, &[0u8, 8, 16, 20, 48, 80, 96, 112, 124][..]), (1, &[0, 8, 16, 20, 24, 32, 48, 52, 56])]
    {
        for at in fields {
            seeds.push((format!("damage-{file}-{at}"), vec![0, file, *at, 0, 1, 2, 3, 4]));
        }
    }
    seeds
}

/// A snapshot of a key-value store.
fn keys() -> Vec<u8> {
    let lines = golden::text("kv/items-v1.txt");
    let mut items: Vec<Vec<u8>> = lines.lines().filter(|line| !line.starts_with('#')).map(golden::hex).collect();
    items.sort();
    let disk = MemoryDisk::new();
    let mut store = open(&disk);
    let mut writer = store.begin(LogBase { entry: NEWER, ..LogBase::default() }).expect("an empty disk");
    items.iter().for_each(|item| writer.item(item).expect("an item"));
    writer.finish().expect("a snapshot");
    let [manifest, data] = NAMES.map(|name| {
        let file = disk.handle().open(&directory().join(name), OpenMode::Read).expect("a file");
        let mut bytes = vec![0; file.len().expect("a length") as usize];
        file.read_exact_at(&mut bytes, 0).expect("all of it");
        bytes
    });
    [&[2][..], &(manifest.len() as u16).to_le_bytes(), &manifest, &data].concat()
}
