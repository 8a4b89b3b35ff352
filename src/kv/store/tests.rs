//! The store on RocksDB: real disks, real sockets, replicas in one process.

use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::*;
use crate::config::Backend::{Memory, RocksDb};
use crate::kv::backend::rocks::{RocksMap, Tuning};
use crate::types::Role;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

fn single(directory: &Path, backend: Backend) -> Config {
    Config { backend, ..Config::single(directory) }
}

/// A cluster with these backends, on ports that were free a moment ago.
fn members(directory: &Path, backends: &[Backend]) -> Vec<Config> {
    let listeners: Vec<TcpListener> = backends.iter().map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let addresses = (1..).zip(&listeners).map(|(id, listener)| format!("{id}={}", listener.local_addr().unwrap()));
    let cluster = addresses.collect::<Vec<_>>().join(",");
    let config = |(id, backend): (u64, &Backend)| {
        let member = Config::member(id, &cluster, directory.join(id.to_string())).unwrap();
        Config { backend: *backend, ..member }
    };
    (1..).zip(backends).map(config).collect()
}

/// A log that is purged after a few hundred small entries.
fn purging(config: Config) -> Config {
    let config = Config { max_key_bytes: 100, max_value_bytes: 4096, max_record_bytes: 32 << 10, ..config };
    Config { segment_bytes: 64 << 10, snapshot_entries: 200, log_tail_bytes: 0, ..config }
}

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

/// Puts keys of this round, and again the one that all rounds share.
async fn write(store: &KvStore, round: u32, count: u32) {
    for first in (0..count).step_by(50) {
        let pair = |number| (format!("{round}-{number:05}").into(), Bytes::from(vec![b'v'; 200]));
        store.put_batch((first..count.min(first + 50)).map(pair).collect()).await.unwrap();
    }
    store.put("shared", round.to_string()).await.unwrap();
}

/// Entries of [`write`] that a segment holds, and more.
const SEGMENT_ENTRIES: u64 = 250;

/// Takes as many snapshots as a node keeps, of now and of one entry before, so that it purges what is before them. Under load
/// it may have left out some of those that were due.
async fn purge(store: &KvStore) {
    for _snapshot in 0..2 {
        store.put("shared", "purge").await.unwrap();
        store.node().snapshot().await.unwrap();
    }
}

async fn content(store: &KvStore, consistency: Consistency) -> Vec<KeyValue> {
    let scan = Scan { max_bytes: u64::MAX, ..Scan::default() };
    store.scan(scan, consistency).await.unwrap().items
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !done() {
        assert!(Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn rocks_store_keeps_its_directory_to_itself_and_starts_again_from_it() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let config = single(directory.path(), RocksDb);
    let store = open(&config).await;
    write(&store, 1, 300).await;
    assert_eq!(store.delete_prefix("1-001").await.unwrap().count, 100);
    let before = content(&store, Consistency::Linearizable).await;
    store.shutdown().await;
    assert!(store.get_with("shared", Consistency::Stale).await.unwrap_err().to_string().contains("stopped"));
    let state = directory.path().join("groups/1/state");
    assert_eq!(std::fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o700);
    let again = open(&config).await;
    // Before it leads, and so before it has applied anything: all of it is there.
    assert_eq!(content(&again, Consistency::Stale).await, before);
    write(&again, 2, 10).await;
    assert_eq!(again.get("shared").await.unwrap().unwrap().version, 2);
    again.shutdown().await;
}

#[tokio::test]
async fn rocks_store_directory_opens_with_either_backend_in_turn() {
    let directory = tempfile::tempdir().unwrap();
    let mut before: Vec<KeyValue> = Vec::new();
    for (round, backend) in (1..).zip([Memory, RocksDb, RocksDb, Memory, Memory, RocksDb]) {
        let store = open(&purging(single(directory.path(), backend))).await;
        let mut found = content(&store, Consistency::Linearizable).await;
        assert_eq!(found, before, "round {round}, {backend}");
        write(&store, round, 450).await;
        purge(&store).await;
        let before_this = Index(u64::from(round - 1) * 451);
        until("the log is purged", || store.status().first.plus(SEGMENT_ENTRIES) > before_this).await;
        found = content(&store, Consistency::Linearizable).await;
        store.shutdown().await;
        before = found;
    }
    assert_eq!(before.len(), 6 * 450 + 1);
}

#[tokio::test]
async fn rocks_store_lost_state_is_made_again_from_snapshot_and_log() {
    let directory = tempfile::tempdir().unwrap();
    let config = purging(single(directory.path(), RocksDb));
    let store = open(&config).await;
    write(&store, 1, 700).await;
    purge(&store).await;
    until("the log is purged", || store.status().first > Index(100)).await;
    let before = content(&store, Consistency::Linearizable).await;
    store.shutdown().await;
    std::fs::remove_dir_all(directory.path().join("groups/1/state")).unwrap();
    let again = open(&config).await;
    assert_eq!(content(&again, Consistency::Linearizable).await, before);
    again.shutdown().await;
}

#[tokio::test]
async fn rocks_store_and_memory_bring_each_other_back_by_snapshot() {
    for backends in [[RocksDb, RocksDb, Memory], [Memory, Memory, RocksDb]] {
        let directory = tempfile::tempdir().unwrap();
        let configs: Vec<Config> = members(directory.path(), &backends).into_iter().map(purging).collect();
        let mut stores = open_all(&configs).await;
        write(&stores[0], 1, 50).await;
        stores[2].shutdown().await;
        let away = stores.pop().unwrap().status().last;
        let led = |store: &KvStore| store.status().leader.is_some_and(|leader| leader != configs[2].id);
        until("one of the others leads, and both know", || stores.iter().all(led)).await;
        write(&stores[0], 2, 900).await;
        purge(&stores[0]).await;
        purge(&stores[1]).await;
        let behind = |store: &KvStore| store.status().first > away.next();
        until("both have purged what the third has not", || stores.iter().all(behind)).await;
        stores.push(open(&configs[2]).await);
        until("it has caught up", || stores[2].status().applied >= stores[0].status().applied).await;
        assert!(stores[2].status().snapshot_bytes_received > 0, "{backends:?}: it was sent the log");
        write(&stores[2], 3, 20).await;
        let all = content(&stores[0], Consistency::Linearizable).await;
        for store in &stores {
            assert_eq!(content(store, Consistency::Linearizable).await, all, "{backends:?}");
        }
        for store in stores {
            store.shutdown().await;
        }
    }
}

/// RocksDB makes its writer wait for seconds, again and again, for it may flush so much a second and no more. Only the
/// callers of writes may feel that.
#[tokio::test(flavor = "multi_thread")]
async fn rocks_store_whose_writes_stall_goes_on_leading_and_following() {
    let directory = tempfile::tempdir().unwrap();
    let mut stores = Vec::new();
    for config in members(directory.path(), &[RocksDb; 3]) {
        let environment = Environment::real();
        let tuning = Tuning { write_buffer_bytes: 64 << 10, background_rate: 400 << 10 };
        let map = ChosenMap::Rocks(Box::new(RocksMap::tuned(environment.disk.clone(), tuning)));
        stores.push(KvStore::open_on(environment, config, map).await.unwrap().with_timeout(LONG));
    }
    stores[0].put("first", "1").await.unwrap();
    let leads = |store: &KvStore| store.status().role == Role::Leader;
    let leader = stores.iter().find(|store| leads(store)).unwrap().clone();
    let term = leader.status().term;
    // A write that is acknowledged late has waited for the machine.
    let writer = tokio::spawn({
        let leader = leader.clone();
        async move {
            let (mut random, mut longest) = (1u64, Duration::ZERO);
            for batch in 0..8 {
                let mut value = || {
                    let mut bytes = vec![0u8; 4096];
                    bytes.iter_mut().for_each(|byte| {
                        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        *byte = (random >> 56) as u8; // nothing to compress
                    });
                    Bytes::from(bytes)
                };
                let pairs = (0..128).map(|key| (format!("{batch}-{key}").into(), value())).collect();
                let start = Instant::now();
                leader.put_batch(pairs).await.unwrap();
                longest = longest.max(start.elapsed());
            }
            longest
        }
    });
    let mut turn = Duration::ZERO;
    while !writer.is_finished() {
        let start = Instant::now();
        leader.node().entries(Index(1), 1).await.unwrap(); // asked and answered on the event loop
        turn = turn.max(start.elapsed());
        for store in &stores {
            let status = store.status();
            assert_eq!(
                (status.term, status.leader),
                (term, Some(leader.status().id)),
                "an election because of a stall"
            );
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let longest = writer.await.unwrap();
    let election = leader.node().config().election_timeout;
    assert!(longest > 2 * election, "nothing stalled: {longest:?}");
    assert!(turn < longest / 2, "the event loop waited: {turn:?} of {longest:?}");
    for store in stores {
        store.shutdown().await;
    }
}

/// The leader of three went on leading when RocksDB could write no more: no write was answered although two could have
/// served them. Until then the disk of a RocksDB was only ever slow in a test.
#[tokio::test(flavor = "multi_thread")]
async fn rocks_store_that_cannot_write_gives_its_office_away_and_comes_back_when_started_again() {
    let directory = tempfile::tempdir().unwrap();
    let configs = members(directory.path(), &[RocksDb; 3]);
    let mut stores = open_all(&configs).await;
    write(&stores[0], 1, 100).await;
    let leads = |store: &KvStore| store.status().role == Role::Leader;
    let place = stores.iter().position(leads).unwrap();
    let broken = stores[place].clone();
    // No file can be made where its directory was.
    std::fs::remove_dir_all(configs[place].data_dir.join("groups/1/state/1")).unwrap();
    broken.node().snapshot().await.unwrap_err();
    drop(broken.put("shared", "broken").await);
    until("it says why it applies no more", || broken.status().error.is_some_and(|why| why.contains("RocksDB"))).await;
    until("another leads", || stores.iter().any(|store| leads(store) && store.status().id != broken.status().id)).await;
    let refused = broken.put("refused", "1").await.unwrap_err().to_string();
    assert!(refused.contains("RocksDB cannot"), "{refused}");
    let other = stores[(place + 1) % 3].clone();
    write(&other, 2, 100).await;
    stores[place].shutdown().await;
    stores[place] = open(&configs[place]).await;
    assert_eq!(
        content(&stores[place], Consistency::Linearizable).await,
        content(&other, Consistency::Linearizable).await
    );
    for store in stores {
        store.shutdown().await;
    }
}
