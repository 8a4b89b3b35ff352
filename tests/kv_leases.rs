//! Leases of the embedded store: real clocks, replicas in one process.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

mod replica_support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dledger::env::Clock;
use dledger::error::Rejection;
use dledger::node::Environment;
use dledger::types::{LeaseId, Monotonic, Role};
use dledger::{Config, Consistency, KvStore, WriteError};

/// Longer than any election here takes.
const LONG: Duration = Duration::from_secs(20);
const TTL: Duration = Duration::from_secs(1);
const HOUR_MS: u64 = 3_600_000;

/// A machine whose wall clock is off, and goes on to jump.
struct Off {
    wall_ms: AtomicU64,
    real: Arc<dyn Clock>,
}

impl Clock for Off {
    fn monotonic(&self) -> Monotonic {
        self.real.monotonic()
    }

    fn wall_ms(&self) -> u64 {
        self.wall_ms.fetch_add(HOUR_MS, Ordering::Relaxed)
    }
}

/// Three replicas on machines with wall clocks hours apart.
async fn open_all(configs: &[Config]) -> Vec<KvStore> {
    let mut stores = Vec::new();
    for (config, hours) in configs.iter().zip([2, 0, 4]) {
        let real = Environment::real();
        let wall_ms = AtomicU64::new(real.clock.wall_ms() - 2 * HOUR_MS + hours * HOUR_MS);
        let clock = Arc::new(Off { wall_ms, real: Arc::clone(&real.clock) });
        let store = KvStore::open_in(Environment { clock, ..real }, config.clone()).await.unwrap();
        stores.push(store.with_timeout(LONG));
    }
    stores
}

/// Waits until a replica has applied the end of a key.
async fn gone(store: &KvStore, key: &str) -> Instant {
    let until = Instant::now() + LONG;
    while store.get_with(key, Consistency::Stale).await.unwrap().is_some() {
        assert!(Instant::now() < until, "the key outlives its lease");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Instant::now()
}

async fn leader(stores: &[KvStore]) -> usize {
    let until = Instant::now() + LONG;
    loop {
        if let Some(at) = stores.iter().position(|store| store.status().role == Role::Leader) {
            return at;
        }
        assert!(Instant::now() < until, "nobody leads");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn lease_ends_without_traffic_on_every_replica_and_not_early_whatever_the_wall_clocks_say() {
    let directory = tempfile::tempdir().unwrap();
    let stores = open_all(&replica_support::members(directory.path(), 3)).await;
    for (at, store) in stores.iter().enumerate() {
        let id = store.node().status().id;
        let until = Instant::now() + LONG;
        // One that has not answered yet, or not for an election timeout, is refused.
        while leader(&stores).await != at {
            let asked = stores[leader(&stores).await].transfer_leadership(id).await;
            assert!(asked.is_ok() || Instant::now() < until, "{asked:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let granted = Instant::now();
        let lease = store.grant_lease(TTL).await.unwrap();
        store.put_leased("key", "value", lease).await.unwrap();
        assert_eq!(store.get("key").await.unwrap().unwrap().lease, lease);
        assert_eq!(store.leases().len(), 1);
        for replica in &stores {
            let lived = gone(replica, "key").await - granted;
            assert!(lived >= TTL, "{lived:?}");
        }
        assert!(store.leases().is_empty());
        let refused = WriteError::Rejected(Rejection::NoLease(lease));
        assert_eq!(store.put_leased("key", "late", lease).await, Err(refused.clone()));
        assert_eq!(store.keep_alive(lease).await, Err(refused));
    }
}

#[tokio::test]
async fn lease_kept_alive_outlives_its_leader_and_ends_once_nobody_keeps_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut stores = open_all(&replica_support::members(directory.path(), 3)).await;
    let lease = stores[0].grant_lease(TTL).await.unwrap();
    stores[0].put_leased("key", "value", lease).await.unwrap();
    let killed = stores.remove(leader(&stores).await);
    killed.shutdown().await;
    let until = Instant::now() + 2 * TTL;
    let mut sent = Instant::now();
    while Instant::now() < until {
        sent = Instant::now();
        assert_eq!(stores[0].keep_alive(lease).await, Ok(TTL));
        tokio::time::sleep(TTL / 10).await;
    }
    for replica in &stores {
        let lived = gone(replica, "key").await - sent;
        assert!(lived >= TTL, "{lived:?}");
    }
}

#[tokio::test]
async fn lease_revoked_takes_its_keys_at_once_and_others_stay() {
    let directory = tempfile::tempdir().unwrap();
    let store = KvStore::open(Config::single(directory.path())).await.unwrap();
    let (one, two) = (store.grant_lease(LONG).await.unwrap(), store.grant_lease(LONG).await.unwrap());
    store.put_leased("a", "1", one).await.unwrap();
    store.put_leased("b", "1", one).await.unwrap();
    store.put_leased("c", "1", two).await.unwrap();
    store.put("b", "free").await.unwrap();
    assert_eq!(store.revoke_lease(one).await.unwrap().count, 1);
    let refused = WriteError::Rejected(Rejection::NoLease(one));
    assert_eq!(store.revoke_lease(one).await, Err(refused));
    assert_eq!(store.get("a").await.unwrap(), None);
    assert_eq!(store.get("b").await.unwrap().unwrap().lease, LeaseId::ZERO);
    assert_eq!(store.get("c").await.unwrap().unwrap().lease, two);
}

#[tokio::test]
async fn lease_survives_a_restart_and_ends_after_it() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config::single(directory.path());
    let store = KvStore::open(config.clone()).await.unwrap();
    let lease = store.grant_lease(TTL).await.unwrap();
    store.put_leased("key", "value", lease).await.unwrap();
    store.node().snapshot().await.unwrap();
    store.shutdown().await;
    let store = KvStore::open(config).await.unwrap().with_timeout(LONG);
    store.keep_alive(lease).await.unwrap();
    gone(&store, "key").await;
}

#[tokio::test]
async fn lease_of_a_time_out_of_bounds_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = KvStore::open(Config::single(directory.path())).await.unwrap();
    for ttl in [Duration::ZERO, Duration::from_millis(499), Duration::from_secs(366 * 24 * 3600)] {
        assert!(matches!(store.grant_lease(ttl).await, Err(WriteError::TooLarge(_))), "{ttl:?}");
    }
}
