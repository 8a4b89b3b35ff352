//! The longest pause of writes while a snapshot is taken: `snapshot_pause [KEYS] [NODES] [RATE] [DIRECTORY]`; in a release
//! build with 1000000 keys the figures mean something.
//!
//! Open loop: write `n` is due at `n / RATE`, and its latency counts from then, so that a pause counts for all that it held
//! up. The machine has pauses of its own. Two threads measure them at the same time: one sleeps and looks how late it is
//! woken, one writes 512 bytes and syncs them, on the same disk.
#![expect(clippy::print_stdout, clippy::indexing_slicing, reason = "an example shows what it does")]
use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use dledger::env::{Disk, OpenMode, os::OsDisk};
use dledger::{Config, KvStore};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

/// Keys of one batch while the store is filled.
const BATCH: u64 = 500;
/// A round without a snapshot takes this long; one with a snapshot takes as long as that does.
const QUIET: Duration = Duration::from_secs(2);
const ROUNDS: usize = 3;
/// All nodes and the load share one machine: how long an election takes is not what is measured.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pause of the threads that measure the machine.
const PROBE: Duration = Duration::from_millis(1);

/// What is written, and where the probes write.
#[derive(Clone, Copy)]
struct Load<'a> {
    keys: u64,
    rate: u64,
    scratch: &'a Path,
}

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn pair(key: u64) -> (Bytes, Bytes) {
    (Bytes::from(format!("key-{key:020}")), Bytes::from_static(&[b'v'; 64]))
}

/// Measures something again and again until told to stop.
fn probe(stop: &Arc<AtomicBool>, mut once: impl FnMut() -> Outcome<Duration> + Send + 'static) -> Probe {
    let stop = Arc::clone(stop);
    std::thread::spawn(move || {
        let mut seen = Vec::new();
        while !stop.load(Ordering::Relaxed) || seen.is_empty() {
            seen.push(once()?);
        }
        Ok(seen)
    })
}

type Probe = std::thread::JoinHandle<Outcome<Vec<Duration>>>;

/// How late a thread is woken.
fn wake() -> Outcome<Duration> {
    let start = Instant::now();
    std::thread::sleep(PROBE);
    Ok(start.elapsed().saturating_sub(PROBE))
}

/// Writes into a file whose space is there already, as the log does.
fn syncs(directory: &Path) -> Outcome<impl FnMut() -> Outcome<Duration> + Send + 'static> {
    let path = directory.join("probe");
    let disk = OsDisk::new();
    let file = disk.open(&path, OpenMode::Create)?;
    file.write_all_at(&[IoSlice::new(&[0; 4096])], 0)?;
    file.sync()?;
    disk.remove(&path)?;
    Ok(move || {
        std::thread::sleep(PROBE);
        let start = Instant::now();
        file.write_all_at(&[IoSlice::new(&[7; 512])], 0)?;
        file.sync()?;
        Ok(start.elapsed())
    })
}

fn say(what: &str, mut seen: Vec<Duration>) {
    seen.sort_unstable();
    let at = |part: usize| seen[(seen.len() - 1) * part / 1000];
    println!(
        "  {what:<22} {:>10.2?} p50 {:>10.2?} p99 {:>10.2?} p99.9 {:>10.2?} longest of {}",
        at(500),
        at(990),
        at(999),
        at(1000),
        seen.len()
    );
}

/// Puts at the rate until `done`, and says how long they took, and what the machine did meanwhile.
async fn put_while(store: &KvStore, load: Load<'_>, done: impl Future<Output = ()>) -> Outcome<()> {
    let stop = Arc::new(AtomicBool::new(false));
    let (waking, syncing) = (probe(&stop, wake), probe(&stop, syncs(load.scratch)?));
    let (store, keys, rate) = (store.clone(), load.keys, load.rate);
    let (over, runtime, start) = (Arc::clone(&stop), Handle::current(), Instant::now());
    // A thread of its own: a timer of the runtime is up to a millisecond late.
    let pacing = tokio::task::spawn_blocking(move || {
        let (mut puts, mut next) = (JoinSet::new(), 0u64);
        while !over.load(Ordering::Relaxed) {
            let due = start + Duration::from_nanos(next * 1_000_000_000 / rate);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let (store, (key, value)) = (store.clone(), pair(next.wrapping_mul(0x9E37_79B9_7F4A_7C15) % keys));
            puts.spawn_on(async move { store.put(key, value).await.map(|_revision| due.elapsed()) }, &runtime);
            next += 1;
        }
        puts
    });
    done.await;
    stop.store(true, Ordering::Relaxed);
    let (mut puts, mut seen) = (pacing.await?, Vec::new());
    while let Some(put) = puts.join_next().await {
        seen.push(put??);
    }
    let join = |probe: Probe| probe.join().map_err(|_panic| "a probe has panicked")?;
    say("puts", seen);
    say("a thread is woken late", join(waking)?);
    say("512 bytes are synced", join(syncing)?);
    Ok(())
}

/// Takes a snapshot on every node at once.
async fn snapshot_all(stores: &[KvStore]) -> Outcome<u64> {
    let mut taking = JoinSet::new();
    for store in stores {
        let node = store.node().clone();
        taking.spawn(async move { node.snapshot().await });
    }
    let mut newest = 0;
    while let Some(taken) = taking.join_next().await {
        newest = newest.max(taken??.index.get());
    }
    Ok(newest)
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |place: usize, default: u64| arguments.get(place).map_or(Ok(default), |text| text.parse());
    let (keys, nodes, rate) = (number(0, 5_000)?.max(1), number(1, 3)?.clamp(1, 5), number(2, 1_000)?.max(1));
    let scratch = match arguments.get(3) {
        Some(directory) => tempfile::tempdir_in(directory)?,
        None => tempfile::tempdir()?,
    };
    let members: Vec<String> = (1..=nodes).map(|id| format!("{id}=127.0.0.1:{}", 7240 + id)).collect();
    let mut opening = JoinSet::new();
    for id in 1..=nodes {
        let mut config = Config::member(id, &members.join(","), scratch.path().join(id.to_string()))?;
        config.election_timeout = PATIENCE;
        opening.spawn(KvStore::open(config));
    }
    let stores = opening.join_all().await.into_iter().collect::<Result<Vec<_>, _>>()?;
    for first in (0..keys).step_by(BATCH as usize) {
        stores[0].put_batch((first..keys.min(first + BATCH)).map(pair).collect()).await?;
    }
    let (load, quiet) = (Load { keys, rate, scratch: scratch.path() }, QUIET.min(Duration::from_millis(keys)));
    for _round in 0..ROUNDS {
        println!("no snapshot");
        put_while(&stores[0], load, tokio::time::sleep(quiet)).await?;
        println!("snapshot");
        let (mut taken, start) = (Ok(0), Instant::now());
        put_while(&stores[0], load, async { taken = snapshot_all(&stores).await }).await?;
        println!("  on {nodes} nodes, of {keys} keys, in {:.2?}, of entry {}", start.elapsed(), taken?);
    }
    for store in stores {
        store.shutdown().await;
    }
    Ok(())
}
