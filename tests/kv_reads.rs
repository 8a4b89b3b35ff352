//! How fresh reads of the embedded store are, and what they need for it: replicas in one process whose clocks stand when the
//! test says so.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

mod replica_support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dledger::env::Clock;
use dledger::env::os::{OsDisk, OsEntropy};
use dledger::node::Environment;
use dledger::types::{Monotonic, NodeId};
use dledger::{Config, Consistency, KvStore, ReadError};

/// Longer than any election here takes.
const LONG: Duration = Duration::from_secs(20);
/// How long it is watched that something does not happen.
const A_WHILE: Duration = Duration::from_millis(300);
/// What members promise their leader.
const PROMISE: Duration = Duration::from_secs(1);

/// A clock for all replicas of a test.
struct Hand {
    start: Instant,
    /// Where it stands, in microseconds; it goes while this is 0.
    stands_at: AtomicU64,
}

impl Hand {
    fn new() -> Arc<Self> {
        Arc::new(Self { start: Instant::now(), stands_at: AtomicU64::new(0) })
    }

    fn stop(&self) {
        self.stands_at.store(self.monotonic().as_micros(), Ordering::SeqCst);
    }

    fn go(&self) {
        self.stands_at.store(0, Ordering::SeqCst);
    }

    fn turn_on(&self, by: Duration) {
        self.stands_at.fetch_add(u64::try_from(by.as_micros()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for Hand {
    fn monotonic(&self) -> Monotonic {
        match self.stands_at.load(Ordering::SeqCst) {
            0 => Monotonic::from_micros(1).after(self.start.elapsed()),
            stands_at => Monotonic::from_micros(stands_at),
        }
    }

    fn wall_ms(&self) -> u64 {
        1_700_000_000_000
    }
}

async fn open(hand: &Arc<Hand>, config: Config) -> KvStore {
    let (disk, entropy) = (Arc::new(OsDisk::new()), Arc::new(OsEntropy::new()));
    let environment = Environment { disk, clock: Arc::clone(hand) as Arc<dyn Clock>, entropy };
    KvStore::open_in(environment, config).await.unwrap().with_timeout(LONG)
}

/// Three replicas that hold `k`, the leader first.
async fn three(hand: &Arc<Hand>, directory: &Path, read_lease: Duration) -> Vec<KvStore> {
    let mut stores = Vec::new();
    for config in replica_support::members(directory, 3) {
        stores.push(open(hand, Config { read_lease, ..config }).await);
    }
    stores[0].put("k", "v").await.unwrap();
    let leader: Option<NodeId> = stores[0].node().role_changes().borrow().leader;
    stores.sort_by_key(|store| Some(store.status().id) != leader);
    // Every replica has it, and a quorum has just answered the leader.
    for store in stores.iter().rev() {
        store.get("k").await.unwrap().unwrap();
    }
    stores
}

/// What a read comes to within a while.
async fn read(store: &KvStore, consistency: Consistency) -> Option<Result<String, ReadError>> {
    let read = tokio::time::timeout(A_WHILE, store.get_with("k", consistency)).await.ok()?;
    Some(read.map(|found| String::from_utf8(found.unwrap().value.to_vec()).unwrap()))
}

async fn is_read(store: &KvStore, consistency: Consistency) -> bool {
    match read(store, consistency).await {
        Some(value) => value.unwrap() == "v",
        None => false,
    }
}

#[tokio::test]
async fn kv_reads_by_lease_need_no_quorum_until_the_lease_is_over() {
    let (directory, hand) = (tempfile::tempdir().unwrap(), Hand::new());
    let mut stores = three(&hand, directory.path(), PROMISE).await;
    hand.stop();
    let leader = stores.remove(0);
    for store in stores {
        store.shutdown().await;
    }
    assert!(is_read(&leader, Consistency::Lease).await);
    assert!(!is_read(&leader, Consistency::Linearizable).await, "nobody answers its round");
    hand.turn_on(PROMISE * 4 / 5);
    assert!(!is_read(&leader, Consistency::Lease).await, "another one may lead by now");
    assert!(is_read(&leader, Consistency::Stale).await);
}

#[tokio::test]
async fn kv_reads_by_lease_of_a_follower_ask_the_leader_and_nobody_else() {
    let (directory, hand) = (tempfile::tempdir().unwrap(), Hand::new());
    let mut stores = three(&hand, directory.path(), PROMISE).await;
    hand.stop();
    stores.remove(2).shutdown().await;
    assert!(is_read(&stores[1], Consistency::Lease).await);
    stores.remove(0).shutdown().await;
    assert!(!is_read(&stores[0], Consistency::Lease).await);
}

#[tokio::test]
async fn kv_reads_by_lease_are_linearizable_reads_where_there_is_none() {
    let (directory, hand) = (tempfile::tempdir().unwrap(), Hand::new());
    let mut stores = three(&hand, directory.path(), Duration::ZERO).await;
    assert!(is_read(&stores[0], Consistency::Lease).await && is_read(&stores[1], Consistency::Lease).await);
    hand.stop();
    let leader = stores.remove(0);
    for store in stores {
        store.shutdown().await;
    }
    assert!(!is_read(&leader, Consistency::Lease).await);
}

#[tokio::test]
async fn kv_reads_with_a_bound_go_by_the_last_linearizable_read_while_it_is_no_older() {
    let (directory, hand) = (tempfile::tempdir().unwrap(), Hand::new());
    let mut stores = three(&hand, directory.path(), Duration::ZERO).await;
    let follower = stores.remove(1);
    hand.stop();
    assert!(is_read(&follower, Consistency::Linearizable).await);
    for store in stores {
        store.shutdown().await;
    }
    let within = |millis| Consistency::StaleWithin(Duration::from_millis(millis));
    assert!(is_read(&follower, within(0)).await, "the clock stands");
    hand.turn_on(Duration::from_millis(50));
    assert!(is_read(&follower, within(50)).await);
    assert!(!is_read(&follower, within(49)).await, "it has to ask, and there is nobody");
    hand.go();
    follower.shutdown().await;
    assert!(matches!(read(&follower, within(10_000)).await, Some(Err(ReadError::Stopped(_)))));
    assert!(matches!(read(&follower, Consistency::Lease).await, Some(Err(ReadError::Stopped(_)))));
}
