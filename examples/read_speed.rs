//! What a read costs, by how fresh it must be: three replicas in this process, many callers of the leader and of a follower,
//! and somebody who writes meanwhile.
//!
//! ```text
//!   cargo run --release --example read_speed -- 256 3
//! ```
//! The numbers are callers and seconds for each kind. Callers run on their own threads, as many as the machine has; so do
//! the three replicas and the writer, so that on few cores they take from each other.
#![expect(clippy::print_stdout, reason = "it prints what it measures")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dledger::{Config, Consistency, KvStore};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const KEYS: u64 = 10_000;
const CLUSTER: &str = "1=127.0.0.1:7161,2=127.0.0.1:7162,3=127.0.0.1:7163";
/// Reads after which a caller lets others run: one that never has to wait would keep its thread for ever.
const TURN: u64 = 64;

fn key(number: u64) -> String {
    format!("key-{:06}", number.wrapping_mul(0x9E37_79B9_7F4A_7C15) % KEYS)
}

/// Gets a second of so many callers.
async fn gets(store: &KvStore, consistency: Consistency, callers: u64, time: Duration) -> Outcome<f64> {
    let stop = Arc::new(AtomicBool::new(false));
    let started = Instant::now();
    let caller = |caller: u64| {
        let (store, stop) = (store.clone(), Arc::clone(&stop));
        tokio::spawn(async move {
            let mut done = 0;
            while !stop.load(Ordering::Relaxed) {
                for _read in 0..TURN {
                    let found = store.get_with(key(caller * 7919 + done), consistency).await?;
                    found.ok_or_else(|| dledger::ReadError::Unavailable("a key is missing".to_owned()))?;
                    done += 1;
                }
                tokio::task::yield_now().await;
            }
            Ok::<u64, dledger::ReadError>(done)
        })
    };
    let callers: Vec<_> = (0..callers).map(caller).collect();
    tokio::time::sleep(time).await;
    stop.store(true, Ordering::Relaxed);
    let mut done = 0;
    for caller in callers {
        done += caller.await??;
    }
    Ok(done as f64 / started.elapsed().as_secs_f64())
}

/// Overwrites keys, one after the other.
async fn writer(store: KvStore, written: Arc<AtomicU64>) {
    for number in 0.. {
        if store.put(key(number), "again").await.is_err() {
            return;
        }
        written.fetch_add(1, Ordering::Relaxed);
    }
}

/// The replica that leads, and another.
async fn leader_and_follower(stores: &[KvStore]) -> Outcome<(KvStore, KvStore)> {
    loop {
        let leader = stores.first().and_then(|store| store.node().role_changes().borrow().leader);
        let of = |leads: bool| stores.iter().find(|store| (Some(store.status().id) == leader) == leads);
        if let (Some(_), Some(leader), Some(follower)) = (leader, of(true), of(false)) {
            return Ok((leader.clone(), follower.clone()));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let callers = arguments.next().map_or(Ok(64), |callers| callers.parse::<u64>())?.max(1);
    let time = Duration::from_secs_f64(arguments.next().map_or(Ok(0.2), |seconds| seconds.parse::<f64>())?);
    let scratch = tempfile::tempdir()?;
    let mut stores = Vec::new();
    for id in 1..=3 {
        let config = Config::member(id, CLUSTER, scratch.path().join(id.to_string()))?;
        let config = Config { read_lease: Duration::from_millis(500), ..config };
        stores.push(KvStore::open(config).await?);
    }
    let any = stores.first().cloned().ok_or("there is no replica")?;
    for first in (0..KEYS).step_by(500) {
        let pairs = (first..first + 500).map(|number| (format!("key-{number:06}").into(), "value".into()));
        any.put_batch(pairs.collect()).await?;
    }
    let (leader, follower) = leader_and_follower(&stores).await?;
    let written = Arc::new(AtomicU64::new(0));
    let writes = tokio::spawn(writer(leader.clone(), Arc::clone(&written)));
    println!("{callers} callers, {KEYS} keys, one writer");
    let bound = Consistency::StaleWithin(Duration::from_millis(10));
    for consistency in [Consistency::Linearizable, Consistency::Lease, bound, Consistency::Stale] {
        for (place, store) in [("leader", &leader), ("follower", &follower)] {
            let before = (written.load(Ordering::Relaxed), Instant::now());
            let rate = gets(store, consistency, callers, time).await?;
            let puts = written.load(Ordering::Relaxed) - before.0;
            let puts = puts as f64 / before.1.elapsed().as_secs_f64();
            println!("{:<14} at the {place:<9} {rate:>11.0} gets/s  {puts:>7.0} puts/s", consistency.to_string());
        }
    }
    writes.abort();
    drop(any);
    for store in stores {
        store.shutdown().await;
    }
    Ok(())
}
