//! The embedded store as a service uses it: real disks, real sockets, replicas in one process.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

mod replica_support;

use std::time::{Duration, Instant};

use bytes::Bytes;
use dledger::kv::BlockingKvStore;
use dledger::node::Proposal;
use dledger::types::Index;
use dledger::{Config, Consistency, KvStore, OpenError, ReadError, Scan, WriteError};

/// Longer than any election here takes.
const LONG: Duration = Duration::from_secs(20);

async fn open(config: &Config) -> KvStore {
    KvStore::open(config.clone()).await.unwrap().with_timeout(LONG)
}

async fn open_all(configs: &[Config]) -> Vec<KvStore> {
    let mut stores = Vec::new();
    for config in configs {
        stores.push(open(config).await);
    }
    stores
}

/// Opens a directory whose last handle was dropped: its node may take a moment to close it.
async fn reopen(config: &Config) -> KvStore {
    let until = Instant::now() + LONG;
    loop {
        match KvStore::open(config.clone()).await {
            Ok(store) => return store.with_timeout(LONG),
            Err(OpenError::Locked { .. }) if Instant::now() < until => {
                tokio::time::sleep(Duration::from_millis(5)).await
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// A configuration with small limits: keys of 16 bytes, values of 2,000, batches of 8,192.
fn small(mut config: Config) -> Config {
    (config.max_key_bytes, config.max_value_bytes, config.max_record_bytes) = (16, 2_000, 8 << 10);
    config
}

async fn values(store: &KvStore, scan: Scan) -> Vec<(Bytes, Bytes)> {
    let (mut values, mut scan) = (Vec::new(), Some(scan));
    while let Some(asked) = scan {
        let page = store.scan(asked.clone(), Consistency::Linearizable).await.unwrap();
        values.extend(page.items.iter().map(|item| (item.key.clone(), item.value.clone())));
        scan = asked.after(&page);
    }
    values
}

#[tokio::test]
async fn kv_store_write_on_any_replica_is_read_on_every_other_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let stores = open_all(&replica_support::members(directory.path(), 3)).await;
    for (at, writer) in stores.iter().enumerate() {
        for round in 0..5 {
            let value = format!("{at}-{round}");
            let revision = writer.put("key", value.clone()).await.unwrap();
            for reader in &stores {
                let seen = reader.get("key").await.unwrap().unwrap();
                assert_eq!((seen.value, seen.mod_revision), (Bytes::from(value.clone()), revision));
            }
        }
    }
    assert_eq!(stores[0].get("key").await.unwrap().unwrap().version, 15);
}

#[tokio::test]
async fn kv_store_prefix_delete_larger_than_a_turn_is_whole_on_every_replica() {
    let directory = tempfile::tempdir().unwrap();
    let stores = open_all(&replica_support::members(directory.path(), 3)).await;
    let pair = |number| (Bytes::from(format!("p/{number:04}")), Bytes::from("v"));
    stores[0].put_batch((0..1500).map(pair).collect()).await.unwrap();
    stores[1]
        .put_batch(vec![(Bytes::from("o"), Bytes::from("1")), (Bytes::from("q"), Bytes::from("2"))])
        .await
        .unwrap();
    let page = Scan { max_bytes: 2_000, ..Scan::prefix("p/") };
    assert_eq!(values(&stores[2], page).await, (0..1500).map(pair).collect::<Vec<_>>());
    let deleted = stores[1].delete_prefix("p/").await.unwrap();
    assert_eq!(deleted.count, 1500);
    for store in &stores {
        let left = values(store, Scan::default()).await;
        assert_eq!(left.iter().map(|(key, _)| &key[..]).collect::<Vec<_>>(), [&b"o"[..], b"q"]);
    }
    assert_eq!(stores[2].delete_prefix("").await.unwrap().count, 2);
}

#[tokio::test]
async fn kv_store_over_a_limit_is_refused_and_nothing_is_proposed() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&small(Config::single(directory.path().join("1")))).await;
    store.put("k", "v").await.unwrap();
    let before = store.status().last;
    let (long_key, long_value) = (Bytes::from(vec![b'k'; 17]), Bytes::from(vec![b'v'; 2_001]));
    let fits = |number: u8| (Bytes::from(vec![number; 16]), Bytes::from(vec![number; 2_000]));
    let refused = [
        store.put("", "v").await.unwrap_err(),
        store.put(long_key.clone(), "v").await.unwrap_err(),
        store.put("k", long_value.clone()).await.unwrap_err(),
        store.put_batch(vec![]).await.unwrap_err(),
        store.put_batch(vec![fits(1), (Bytes::from("k"), long_value)]).await.unwrap_err(),
        store.put_batch((0..4).map(fits).collect()).await.unwrap_err(),
        store.delete("").await.unwrap_err(),
        store.delete(long_key.clone()).await.unwrap_err(),
        store.delete_prefix(long_key).await.unwrap_err(),
    ];
    for error in refused {
        assert!(matches!(error, WriteError::TooLarge(_)), "{error}");
    }
    assert_eq!(store.status().last, before);
    assert_eq!(store.put_batch((0..3).map(fits).collect()).await.unwrap(), before.plus(3));
    assert_eq!(store.put("empty", "").await.unwrap(), before.plus(4));
    assert_eq!(store.get("empty").await.unwrap().unwrap().value, Bytes::new());
}

#[tokio::test]
async fn kv_store_batch_too_large_to_forward_leaves_the_connection_alone() {
    let directory = tempfile::tempdir().unwrap();
    let configs: Vec<Config> = replica_support::members(directory.path(), 3).into_iter().map(small).collect();
    let stores = open_all(&configs).await;
    for store in &stores {
        store.put("k", "v").await.unwrap();
        let batch =
            (0..2_000u64).map(|number| (Bytes::from(number.to_string()), Bytes::from(vec![b'v'; 2_000]))).collect();
        let error = store.put_batch(batch).await.unwrap_err();
        assert!(matches!(error, WriteError::TooLarge(_)), "{error}");
        store.put("k", "v").await.unwrap();
    }
}

#[tokio::test]
async fn kv_store_without_a_quorum_reads_stale_and_refuses_the_rest_in_time() {
    let directory = tempfile::tempdir().unwrap();
    let mut stores = open_all(&replica_support::members(directory.path(), 3)).await;
    stores[2].put("k", "v").await.unwrap();
    let left = stores.remove(2);
    for store in stores {
        store.shutdown().await;
    }
    let left = left.with_timeout(Duration::from_millis(700));
    assert_eq!(left.get_with("k", Consistency::Stale).await.unwrap().unwrap().value, "v");
    assert!(matches!(left.get("k").await, Err(ReadError::Unavailable(_))));
    // A leader that does not know yet that it is alone takes the write, and then cannot say.
    let error = left.put("k", "w").await.unwrap_err();
    assert!(matches!(error, WriteError::Unavailable(_) | WriteError::Unknown(_)), "{error}");
    let error = left.put("k", "w").await.unwrap_err();
    assert!(matches!(error, WriteError::Unavailable(_)), "{error}");
}

#[tokio::test]
async fn kv_store_dropped_and_opened_again_holds_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config::single(directory.path().join("1"));
    let store = open(&config).await;
    store.put("a", "1").await.unwrap();
    store.put("a", "2").await.unwrap();
    store.put("b", "3").await.unwrap();
    store.delete("b").await.unwrap();
    let (other, before) = (store.clone(), store.get("a").await.unwrap());
    drop(store);
    assert_eq!(other.get("a").await.unwrap(), before, "a clone keeps the replica running");
    drop(other);
    let store = reopen(&config).await;
    assert_eq!((store.get("a").await.unwrap(), store.get("b").await.unwrap()), (before, None));
}

#[tokio::test]
async fn kv_store_with_a_timeout_longer_than_any_clock_tells_serves() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&Config::single(directory.path())).await.with_timeout(Duration::MAX);
    let written = store.put("k", "v").await.unwrap();
    for consistency in [Consistency::Linearizable, Consistency::Lease, Consistency::StaleWithin(Duration::MAX)] {
        assert_eq!(store.get_with("k", consistency).await.unwrap().unwrap().mod_revision, written);
    }
    store.unnumbered().delete("k").await.unwrap();
    store.shutdown().await;
}

#[tokio::test]
async fn kv_store_after_shutdown_says_that_it_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&Config::single(directory.path().join("1"))).await;
    store.put("k", "v").await.unwrap();
    store.shutdown().await;
    store.shutdown().await;
    assert!(matches!(store.put("k", "v").await, Err(WriteError::Stopped(_))));
    assert!(matches!(store.get("k").await, Err(ReadError::Stopped(_))));
    assert_eq!(store.get_with("k", Consistency::Stale).await.unwrap().unwrap().value, "v");
}

#[tokio::test]
async fn kv_store_stops_at_an_entry_of_a_later_release_and_never_skips_it() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config::single(directory.path().join("1"));
    let mut store = open(&config).await;
    let known = store.put("k", "v").await.unwrap();
    let from_the_future = Proposal { channel: 0, payload: Bytes::from_static(&[99, 1]), reserve: false };
    store.node().propose(vec![from_the_future], Duration::from_millis(300)).await.unwrap_err();
    for opened_again in [false, true] {
        if opened_again {
            drop(store);
            store = reopen(&config).await;
        }
        store = store.with_timeout(Duration::from_millis(300));
        let error = store.put("k", "later").await.unwrap_err();
        assert!(matches!(error, WriteError::Unknown(_) | WriteError::Unavailable(_)), "{error}");
        store.get("k").await.unwrap_err();
        let status = store.status();
        assert!(status.error.as_ref().is_some_and(|error| error.contains("tag 99")), "{:?}", status.error);
        assert_eq!(status.applied, known);
        let seen = store.get_with("k", Consistency::Stale).await.unwrap().unwrap();
        assert_eq!((seen.value, seen.mod_revision), (Bytes::from("v"), known));
    }
}

#[test]
fn kv_store_blocking_serves_plain_threads_without_a_runtime() {
    let directory = tempfile::tempdir().unwrap();
    let store = BlockingKvStore::open(Config::single(directory.path().join("1"))).unwrap();
    let writers: Vec<_> = (0..4)
        .map(|thread| {
            let store = store.clone();
            std::thread::spawn(move || {
                for number in 0..20 {
                    store.put(format!("{thread}/{number}"), "v").unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.join().unwrap();
    }
    let count = Scan { count_only: true, ..Scan::default() };
    assert_eq!(store.scan(count, Consistency::Linearizable).unwrap().count, 80);
    assert_eq!(store.delete_prefix("1/").unwrap().count, 20);
    assert_eq!(store.get("2/3", Consistency::Linearizable).unwrap().unwrap().version, 1);
    assert_eq!(store.status().error, None);
    store.shutdown();
    assert!(matches!(store.put("k", "v"), Err(WriteError::Stopped(_))));
}

/// A task of tokio has a budget of some hundred answers; used up, its futures answer "later" until the task has
/// given way, which one that blocks never does.
#[tokio::test]
async fn kv_store_blocking_within_a_task_outlives_the_budget_of_the_task() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&Config::single(directory.path().join("1"))).await.blocking();
    store.put("k", "v").unwrap();
    for _call in 0..500 {
        assert!(store.get("k", Consistency::Linearizable).unwrap().is_some());
    }
}

#[tokio::test]
async fn kv_store_with_an_endless_timeout_writes() {
    let directory = tempfile::tempdir().unwrap();
    let stores = open_all(&replica_support::members(directory.path(), 1)).await;
    let store = stores[0].with_timeout(Duration::MAX);
    let revision = store.put("key", "value").await.unwrap();
    assert_eq!(store.get("key").await.unwrap().unwrap().mod_revision, revision);
}

#[tokio::test]
async fn kv_store_revisions_are_indexes_of_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&Config::single(directory.path().join("1"))).await;
    let first = store.put("k", "1").await.unwrap();
    let last = store.put_batch(vec![("k".into(), "2".into()), ("l".into(), "3".into())]).await.unwrap();
    assert_eq!(last, first.plus(2));
    let deleted = store.delete("l").await.unwrap();
    assert_eq!((deleted.count, deleted.revision), (1, first.plus(3)));
    let seen = store.get("k").await.unwrap().unwrap();
    assert_eq!((seen.create_revision, seen.mod_revision, seen.version), (first, first.plus(1), 2));
    let page = store.scan(Scan::default(), Consistency::Linearizable).await.unwrap();
    assert!(page.revision >= deleted.revision && page.revision > Index(0));
}

#[tokio::test]
async fn store_keep_alives_that_come_together_go_into_few_entries() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&Config::single(directory.path())).await;
    let lease = store.grant_lease(LONG).await.unwrap();
    let before = store.status().last.get();
    let keeping: Vec<_> = (0..3_000)
        .map(|_caller| {
            let store = store.clone();
            tokio::spawn(async move { store.keep_alive(lease).await })
        })
        .collect();
    for kept in keeping {
        assert_eq!(kept.await.unwrap().unwrap(), LONG);
    }
    let entries = store.get("absent").await.map(|_absent| store.status().last.get() - before).unwrap();
    assert!((3..100).contains(&entries), "{entries} entries");
}
