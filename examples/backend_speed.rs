//! What a backend costs: puts, gets, the longest time that the event loop was away, and a start. One node, every write synced.
//!
//! ```text
//!   cargo run --release --features rocksdb --example backend_speed -- rocksdb 200000 [DIRECTORY]
//! ```
//! Run it with `memory` and `rocksdb` in turns: the machine's own pace changes from minute to minute.
#![expect(clippy::print_stdout, reason = "it prints what it measures")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use dledger::types::Index;
use dledger::{Backend, Config, Consistency, KvStore};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Puts in one batch.
const BATCH: u64 = 256;
/// Callers of the second round, with one put under way each.
const CALLERS: u64 = 64;
const PUTS_A_CALLER: u64 = 100;
const GETS: u64 = 20_000;
const VALUE_BYTES: usize = 100;

fn key(number: u64) -> String {
    format!("key-{number:010}")
}

/// One of the keys, anywhere among them.
fn any(number: u64, keys: u64) -> u64 {
    number.wrapping_mul(0x9E37_79B9_7F4A_7C15) % keys
}

fn say(what: &str, count: u64, took: Duration) {
    println!(
        "{what:<44} {:>10.0}/s {:>10.2?} each",
        count as f64 / took.as_secs_f64(),
        took / u32::try_from(count).unwrap_or(1)
    );
}

/// Asks the event loop again and again; the answer is the longest that it took.
async fn longest_turn(store: KvStore, stop: Arc<AtomicBool>) -> Duration {
    let mut longest = Duration::ZERO;
    while !stop.load(Ordering::Relaxed) {
        let start = Instant::now();
        drop(store.node().entries(Index(1), 1).await);
        longest = longest.max(start.elapsed());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    longest
}

async fn puts(store: &KvStore, keys: u64) -> Outcome<()> {
    let value = Bytes::from(vec![b'v'; VALUE_BYTES]);
    let start = Instant::now();
    for first in (0..keys).step_by(BATCH as usize) {
        let pairs = (first..keys.min(first + BATCH)).map(|number| (key(number).into(), value.clone()));
        store.put_batch(pairs.collect()).await?;
    }
    say(&format!("puts, batches of {BATCH}, one after the other"), keys, start.elapsed());
    let start = Instant::now();
    let callers = (0..CALLERS).map(|caller| {
        let (store, value) = (store.clone(), value.clone());
        tokio::spawn(async move {
            for put in 0..PUTS_A_CALLER {
                store.put(key(any(caller * PUTS_A_CALLER + put, keys)), value.clone()).await?;
            }
            Ok::<(), dledger::WriteError>(())
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await??;
    }
    say(&format!("overwrites, {CALLERS} callers"), CALLERS * PUTS_A_CALLER, start.elapsed());
    Ok(())
}

async fn gets(store: &KvStore, keys: u64) -> Outcome<()> {
    let start = Instant::now();
    for get in 0..GETS {
        store.get_with(key(any(get, keys)), Consistency::Stale).await?.ok_or("a key is missing")?;
    }
    say("gets of any key, stale", GETS, start.elapsed());
    Ok(())
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let backend: Backend = arguments.next().as_deref().unwrap_or("memory").parse()?;
    let keys = arguments.next().map_or(Ok(20_000), |keys| keys.parse::<u64>())?.max(1);
    let scratch = match arguments.next() {
        Some(directory) => tempfile::tempdir_in(directory)?,
        None => tempfile::tempdir()?,
    };
    let config = Config { backend, ..Config::single(scratch.path().join("data")) };
    println!("{backend}, {keys} keys with values of {VALUE_BYTES} bytes");
    let store = KvStore::open(config.clone()).await?;
    store.put("first", "1").await?;
    let stop = Arc::new(AtomicBool::new(false));
    let turn = tokio::spawn(longest_turn(store.clone(), Arc::clone(&stop)));
    puts(&store, keys).await?;
    stop.store(true, Ordering::Relaxed);
    println!("{:<44} {:>12.2?}", "longest that the event loop let anybody wait", turn.await?);
    gets(&store, keys).await?;
    let start = Instant::now();
    store.shutdown().await;
    println!("{:<44} {:>12.2?}", "stop", start.elapsed());
    drop(store);
    let start = Instant::now();
    let store = KvStore::open(config).await?;
    println!("{:<44} {:>12.2?}", "open", start.elapsed());
    store.get("first").await?.ok_or("the first key is missing")?;
    println!("{:<44} {:>12.2?}", "and until a linearizable read is answered", start.elapsed());
    gets(&store, keys).await?;
    store.shutdown().await;
    Ok(())
}
