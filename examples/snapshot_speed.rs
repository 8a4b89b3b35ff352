//! What a snapshot of the key-value store costs: `snapshot_speed [KEYS] [DIRECTORY]`; in a release build with 1000000
//! keys the figures mean something. While one thread writes the snapshot, another goes on applying puts.
#![expect(clippy::print_stdout, clippy::indexing_slicing, reason = "an example shows what it does")]
use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dledger::env::{Disk, OpenMode, os::OsDisk};
use dledger::kv::{command::Command, machine::KvMachine};
use dledger::snapshot::{CHUNK_BYTES, SnapshotOptions, SnapshotStore};
use dledger::state_machine::{Entry, StateMachine};
use dledger::types::{ClusterId, EntryId, GroupId, Index, Kind, LogBase, LogTime, Position, Term};

/// Entries that a node applies between two publishes.
const QUANTUM: u64 = 256;
const CAPTURES: u32 = 1000;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Applies a put of 24 bytes of key and 64 of value.
fn put(machine: &mut KvMachine, index: u64, key: u64) -> Outcome<()> {
    let (key, value) = (format!("key-{key:020}"), [b'v'; 64]);
    let id = EntryId::new(Index(index), Term(1));
    let payload = Command::put(key.as_bytes(), &value).encode();
    let entry = Entry { id, position: Position(0), time: LogTime(0), kind: Kind::Data, channel: 0, payload };
    machine.apply(&entry)?;
    Ok(())
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let done = work();
    let took = start.elapsed();
    println!("{what:<44} {took:>12.2?}");
    (done, took)
}

/// Writes as many bytes as the snapshot has, in writes of the same size with as many syncs, and nothing else.
fn raw_writes(disk: &dyn Disk, path: &Path, bytes: u64) -> Outcome<()> {
    let file = disk.open(path, OpenMode::Create)?;
    let chunk = vec![7; CHUNK_BYTES as usize];
    for (number, offset) in (0..bytes).step_by(CHUNK_BYTES as usize).enumerate() {
        file.write_all_at(&[IoSlice::new(&chunk)], offset)?;
        if number % 32 == 31 {
            file.sync()?;
        }
    }
    file.sync()?;
    Ok(disk.remove(path)?)
}

/// Applies puts to keys all over the map, a quantum a millisecond, and says how long the quanta took.
fn apply_while(machine: &mut KvMachine, keys: u64, what: &str, mut running: impl FnMut() -> bool) -> Outcome<()> {
    let (mut index, mut took) = (keys, Vec::new());
    while running() || took.is_empty() {
        let start = Instant::now();
        for _put in 0..QUANTUM {
            index += 1;
            put(machine, index, index.wrapping_mul(0x9E37_79B9_7F4A_7C15) % keys)?;
        }
        machine.publish()?;
        took.push(start.elapsed());
        // The rate of a busy cluster; a processor that does nothing else would only measure itself.
        std::thread::sleep(Duration::from_millis(1));
    }
    took.sort_unstable();
    let (count, half) = (took.len(), took.len() / 2);
    println!("{what:<44} {:>12.2?} median, {:.2?} longest of {count}", took[half], took[count - 1]);
    Ok(())
}

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let keys = arguments.next().map_or(Ok(20_000), |keys| keys.parse::<u64>())?.max(1);
    let scratch = match arguments.next() {
        Some(directory) => tempfile::tempdir_in(directory)?,
        None => tempfile::tempdir()?,
    };
    let mut machine = KvMachine::new();
    (1..=keys).try_for_each(|index| put(&mut machine, index, index - 1))?;
    machine.publish()?;
    let (_captures, took) = timed("1000 captures", || (0..CAPTURES).for_each(|_| drop(machine.capture())));
    println!("{:<44} {:>12.2?}", "a capture", took / CAPTURES);

    let disk: Arc<dyn Disk> = Arc::new(OsDisk::new());
    let options = SnapshotOptions { cluster: ClusterId(1), group: GroupId::FIRST, chunk_bytes: CHUNK_BYTES };
    let mut store = SnapshotStore::open(Arc::clone(&disk), scratch.path(), options)?;
    let mut left = 100;
    apply_while(&mut machine, keys, "256 puts, nothing else going on", || {
        left -= 1;
        left > 0
    })?;
    let (capture, base) =
        (machine.capture(), LogBase { entry: EntryId::new(Index(keys), Term(1)), ..LogBase::default() });
    let write = std::thread::spawn(move || -> Outcome<_> {
        let start = Instant::now();
        let manifest = store.write(base, &capture)?;
        let took = start.elapsed();
        timed("freeing the capture", || drop(capture));
        Ok((store, manifest, took))
    });
    apply_while(&mut machine, keys, "256 puts, while a snapshot is written", || !write.is_finished())?;
    let (mut store, manifest, took) = write.join().map_err(|_panic| "the writer has panicked")??;
    let megabytes = manifest.data_bytes as f64 / 1e6;
    println!("{:<44} {took:>12.2?}", "writing it, synced");
    println!(
        "{:<44} {:>10.0} MB/s",
        format!("{megabytes:.1} MB, {} items", manifest.items),
        megabytes / took.as_secs_f64()
    );
    let (raw, took) = timed("bare writes and syncs of as many bytes", || {
        raw_writes(&*disk, &scratch.path().join("raw"), manifest.data_bytes)
    });
    raw?;
    println!("{:<44} {:>10.0} MB/s", "", megabytes / took.as_secs_f64());

    let (newest, _took) = timed("opening it, all checksums", || store.newest());
    let snapshot = newest?.good.ok_or("the snapshot that was written is not there")?;
    let mut state = machine.restore();
    let (restored, _took) = timed("restoring it", || snapshot.restore(&mut state));
    restored?;
    let (before, _took) = timed("installing it", || machine.install(state, snapshot.manifest().id()));
    timed("freeing the state before", || drop(before));
    assert_eq!(machine.reader().view().applied(), Index(keys));
    println!("restored {} keys", snapshot.manifest().items);
    Ok(())
}
