//! Watches of embedded replicas, with real nodes: what they are told, whatever becomes of the nodes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test ends by panicking")]

mod replica_support;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use dledger::kv::{Changes, Compare, Condition, EventKind, Txn, TxnOp, Watch, WatchError, WatchOptions};
use dledger::node::MemberChange;
use dledger::types::{Index, LeaseId, NodeId, Role};
use dledger::{Config, Consistency, KvStore, Scan};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);
/// Shorter than a page waits: what is told in this time was not found out by asking anew.
const SOON: Duration = Duration::from_secs(8);

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

async fn next(watch: &mut Watch) -> Changes {
    tokio::time::timeout(SOON, watch.next()).await.unwrap().unwrap()
}

/// Everything up to the change of this key.
async fn until(watch: &mut Watch, last: &str) -> Vec<Changes> {
    let mut told = Vec::new();
    loop {
        told.push(next(watch).await);
        if told.iter().flat_map(|changes| &changes.events).any(|event| event.key == last) {
            return told;
        }
    }
}

/// What is left of the keys once all of it has happened.
fn replayed<'a>(told: impl IntoIterator<Item = &'a Changes>) -> BTreeMap<Bytes, Bytes> {
    let mut keys = BTreeMap::new();
    let mut before = Index::ZERO;
    for changes in told {
        assert!(changes.revision > before, "{} behind {before}", changes.revision);
        before = changes.revision;
        for event in &changes.events {
            match &event.kind {
                EventKind::Put { value, .. } => drop(keys.insert(event.key.clone(), value.clone())),
                EventKind::Delete => {
                    assert!(keys.remove(&event.key).is_some(), "{:?} was not there", event.key);
                }
            }
        }
    }
    keys
}

async fn content(store: &KvStore) -> BTreeMap<Bytes, Bytes> {
    let (mut content, mut scan) = (BTreeMap::new(), Some(Scan::default()));
    while let Some(asked) = scan {
        let page = store.scan(asked.clone(), Consistency::Linearizable).await.unwrap();
        content.extend(page.items.iter().map(|item| (item.key.clone(), item.value.clone())));
        scan = asked.after(&page);
    }
    content
}

/// The leader's place among the stores.
fn leader(stores: &[KvStore]) -> usize {
    stores.iter().position(|store| store.status().role == Role::Leader).unwrap()
}

/// A bit of everything that changes keys, from several replicas at once.
async fn work(stores: &[KvStore], rounds: u64) {
    let one = |at: usize| {
        let store = stores[at % stores.len()].clone();
        async move {
            for round in 0..rounds {
                let key = format!("k/{}", (round * 7 + at as u64) % 50);
                store.put(key.clone(), format!("{at}-{round}")).await.unwrap();
                let compare = vec![Compare::new(format!("k/{}", round % 50), Condition::Exists(true))];
                let then = vec![TxnOp::delete(format!("k/{}", round % 50)), TxnOp::Add { key: "sum".into(), by: 1 }];
                let otherwise = vec![TxnOp::put(format!("else/{round}"), "x")];
                store.transact(Txn { compare, then, otherwise }).await.unwrap();
                if round % 10 == 3 {
                    store.delete_prefix("else/1").await.unwrap();
                    store.delete("nothing").await.unwrap();
                }
            }
        }
    };
    tokio::join!(one(0), one(1), one(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kv_watch_on_every_replica_tells_the_same_once_and_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let stores = open_all(&replica_support::members(directory.path(), 3)).await;
    let start = |store: &KvStore| store.watch(WatchOptions::prefix("").from_revision(Index(1)).with_previous());
    let mut live: Vec<Watch> = stores.iter().map(start).collect();
    let watching: Vec<_> =
        live.drain(..).map(|mut watch| tokio::spawn(async move { until(&mut watch, "the end").await })).collect();
    work(&stores, 60).await;
    stores[1].put("the end", "").await.unwrap();
    let mut told = Vec::new();
    for one in watching {
        told.push(one.await.unwrap());
    }
    // One that begins late is told the same from the log.
    told.push(until(&mut start(&stores[2]), "the end").await);
    for other in &told[1..] {
        assert_eq!(*other, told[0]);
    }
    assert_eq!(replayed(&told[0]), content(&stores[0]).await);
    let mut values: BTreeMap<&Bytes, Bytes> = BTreeMap::new();
    for event in told[0].iter().flat_map(|changes| &changes.events) {
        assert_eq!(event.previous, values.remove(&event.key), "{event:?}");
        if let EventKind::Put { value, .. } = &event.kind {
            values.insert(&event.key, value.clone());
        }
    }
    let narrow = until(&mut stores[0].watch(WatchOptions::key("the end").from_revision(Index(1))), "the end").await;
    assert_eq!((narrow.len(), &narrow[0].events[0].previous), (1, &None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kv_watch_goes_on_over_failovers_here_and_elsewhere() {
    let directory = tempfile::tempdir().unwrap();
    let configs = replica_support::members(directory.path(), 3);
    let mut stores = open_all(&configs).await;
    stores[0].put("first", "").await.unwrap();
    let away = leader(&stores);
    let mut stays = stores[(away + 1) % 3].watch(WatchOptions::prefix("").from_revision(Index(1)));
    let mut moves = stores[away].watch(WatchOptions::prefix("").from_revision(Index(1)));
    let (mut one, mut other) = (until(&mut stays, "first").await, until(&mut moves, "first").await);
    work(&stores, 10).await;
    // A part of what there is, and the rest from another node.
    for _change in 0..7 {
        other.push(next(&mut moves).await);
    }
    stores.remove(away).shutdown().await;
    let from = moves.resume_from().unwrap();
    // What is at hand already is told; then it ends.
    let mut left = 0;
    let ended = loop {
        match tokio::time::timeout(LONG, moves.next()).await.unwrap() {
            Ok(_told) => left += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(ended, WatchError::Stopped(_)), "{ended} after {left}");
    stores[0].put("second", "").await.unwrap();
    let back = open(&configs[away]).await;
    back.put("the end", "").await.unwrap();
    let mut moved = back.watch(WatchOptions::prefix("").from_revision(from));
    one.extend(until(&mut stays, "the end").await);
    other.extend(until(&mut moved, "the end").await);
    assert_eq!(one, other);
    assert_eq!(replayed(&one), content(&back).await);
}

#[tokio::test]
async fn kv_watch_from_now_is_told_what_is_written_after_it_began_and_nothing_before() {
    let directory = tempfile::tempdir().unwrap();
    let stores = open_all(&replica_support::members(directory.path(), 3)).await;
    for round in 0..20 {
        let before = stores[0].put("k", format!("before {round}")).await.unwrap();
        let mut watches: Vec<Watch> = stores.iter().map(|store| store.watch(WatchOptions::key("k"))).collect();
        for watch in &mut watches {
            assert!(watch.begin().await.unwrap() > before);
        }
        let after = stores[1].put("k", format!("after {round}")).await.unwrap();
        for watch in &mut watches {
            let changes = next(watch).await;
            let value = Bytes::from(format!("after {round}"));
            assert_eq!(changes.revision, after);
            assert_eq!(changes.events[0].kind, EventKind::Put { value, lease: LeaseId::ZERO });
        }
    }
}

#[tokio::test]
async fn kv_watch_is_told_of_keys_that_went_with_their_lease() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&Config::single(directory.path().join("1"))).await;
    let mut watch = store.watch(WatchOptions::prefix("").with_previous());
    watch.begin().await.unwrap();
    let lease = store.grant_lease(Duration::from_millis(600)).await.unwrap();
    let put = store.put_leased("a", "1", lease).await.unwrap();
    store.put_leased("b", "2", lease).await.unwrap();
    let changes = next(&mut watch).await;
    assert_eq!((changes.revision, &changes.events[0].kind), (put, &EventKind::Put { value: "1".into(), lease }));
    next(&mut watch).await;
    let gone = next(&mut watch).await;
    let events: Vec<_> =
        gone.events.iter().map(|event| (&event.key[..], event.kind.clone(), event.previous.clone())).collect();
    let deleted = |key: &'static [u8], value: &'static str| (key, EventKind::Delete, Some(Bytes::from(value)));
    assert_eq!(events, [deleted(b"a", "1"), deleted(b"b", "2")]);
}

#[tokio::test]
async fn kv_watch_of_a_huge_deletion_is_one_unit_and_one_too_large_to_be_kept_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&Config::single(directory.path().join("1"))).await;
    let fill = |prefix: &'static str, count: u64, pad: usize| {
        let store = store.clone();
        async move {
            for part in 0..count / 500 {
                let key = |number: u64| Bytes::from(format!("{prefix}{number:06}{}", "x".repeat(pad)));
                let pairs = (part * 500..(part + 1) * 500).map(|number| (key(number), Bytes::from("v"))).collect();
                store.put_batch(pairs).await.unwrap();
            }
        }
    };
    fill("small/", 5_000, 0).await;
    fill("large/", 3_000, 1_000).await;
    let mut watch = store.watch(WatchOptions::prefix(""));
    let mut elsewhere = store.watch(WatchOptions::prefix("m"));
    watch.begin().await.unwrap();
    elsewhere.begin().await.unwrap();
    let small = store.delete_prefix("small/").await.unwrap();
    assert_eq!(small.count, 5_000);
    let whole = next(&mut watch).await;
    assert_eq!((whole.revision, whole.events.len()), (small.revision, 5_000));
    let large = store.delete_prefix("large/").await.unwrap();
    assert_eq!(large.count, 3_000);
    let oldest = large.revision.next();
    assert_eq!(watch.next().await, Err(WatchError::Compacted { oldest }));
    store.put("m", "").await.unwrap();
    assert_eq!(next(&mut elsewhere).await.events[0].key, "m", "what is lost is none of its keys");
    let mut again = store.watch(WatchOptions::prefix("").from_revision(oldest));
    assert_eq!(next(&mut again).await.events[0].key, "m");
}

#[tokio::test]
async fn kv_watch_of_previous_values_is_told_when_they_are_not_kept_any_more() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&Config::single(directory.path().join("1"))).await;
    let (large, first) = (Bytes::from(vec![7; 1 << 20]), store.put("k", "first").await.unwrap());
    for _round in 0..12 {
        store.put("k", large.clone()).await.unwrap();
    }
    let from_first = WatchOptions::key("k").from_revision(first);
    let mut told = store.watch(from_first.clone());
    for round in 0..13 {
        assert_eq!(next(&mut told).await.revision, first.plus(round));
    }
    let Err(WatchError::Compacted { oldest }) = store.watch(from_first.with_previous()).next().await else {
        panic!("the values before took 11 MiB")
    };
    assert!(oldest > first && oldest <= first.plus(12), "{oldest}");
    let mut kept = store.watch(WatchOptions::key("k").from_revision(oldest).with_previous());
    let changes = next(&mut kept).await;
    assert_eq!((changes.revision, &changes.events[0].previous), (oldest, &Some(large)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kv_watch_after_a_restart_goes_on_where_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let configs = replica_support::members(directory.path(), 3);
    let stores = open_all(&configs).await;
    work(&stores, 10).await;
    stores[0].put("the end", "").await.unwrap();
    let all = || WatchOptions::prefix("").from_revision(Index(1)).with_previous();
    let before = until(&mut stores[0].watch(all()), "the end").await;
    for store in stores {
        store.shutdown().await;
    }
    let stores = open_all(&configs).await;
    for store in &stores {
        assert_eq!(until(&mut store.watch(all()), "the end").await, before);
    }
}

/// Snapshots often, and as little log as there can be.
fn small(mut config: Config) -> Config {
    (config.snapshot_entries, config.snapshot_bytes, config.snapshots_kept) = (50, 0, 1);
    (config.log_tail_bytes, config.segment_bytes) = (0, 64 << 10);
    config
}

/// Writes until the front of the log is gone.
async fn purge(store: &KvStore) -> Index {
    let filler = "x".repeat(3_000);
    for number in 0..200 {
        store.put(format!("k/{}", number % 10), filler.clone()).await.unwrap();
    }
    let until = std::time::Instant::now() + LONG;
    while store.status().first <= Index(50) {
        assert!(std::time::Instant::now() < until, "{:?}", store.status());
        store.put("again", "").await.unwrap();
    }
    store.status().first
}

#[tokio::test]
async fn kv_watch_before_what_is_left_of_the_log_is_told_where_to_begin() {
    let directory = tempfile::tempdir().unwrap();
    let config = small(Config::single(directory.path().join("1")));
    let store = open(&config).await;
    let first = purge(&store).await;
    let from = |index| WatchOptions::prefix("").from_revision(index);
    let Err(WatchError::Compacted { oldest }) = store.watch(from(Index(1))).next().await else { panic!("purged") };
    assert!(oldest >= first, "{oldest} {first}");
    assert!(next(&mut store.watch(from(oldest))).await.revision >= oldest);
    let last = store.put("k/1", "last").await.unwrap();
    store.shutdown().await;
    // What led to the snapshot that it starts with is not known, though some of it is in the log.
    let store = open(&config).await;
    store.get("k/1").await.unwrap();
    let Err(WatchError::Compacted { oldest }) = store.watch(from(Index(1))).next().await else { panic!("restored") };
    assert_eq!(oldest, store.status().snapshot.next());
    let mut watch = store.watch(from(oldest.max(last)));
    assert_eq!(next(&mut watch).await.revision, oldest.max(last));
}

/// The log that a newcomer is waiting for is gone: it gets a snapshot while it is being watched.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kv_watch_overtaken_by_an_installed_snapshot_is_told_so() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = small(replica_support::members(directory.path(), 1).remove(0));
    let store = open(&cluster).await;
    let first = purge(&store).await;
    let joining = Config::joining(2, &cluster.listen, directory.path().join("2")).unwrap();
    let newcomer = open(&small(joining)).await;
    let mut watch = newcomer.watch(WatchOptions::prefix("").from_revision(Index(1)));
    let watching = tokio::spawn(async move { tokio::time::timeout(LONG, watch.next()).await.unwrap() });
    let address = newcomer.node().address().to_string();
    store.change_members(MemberChange::Add { id: NodeId(2), address, promote: false }).await.unwrap();
    let Err(WatchError::Compacted { oldest }) = watching.await.unwrap() else { panic!("it has no such log") };
    assert!(oldest >= first, "{oldest} {first}");
    let mut watch = newcomer.watch(WatchOptions::key("new").from_revision(oldest));
    let written = store.put("new", "").await.unwrap();
    assert_eq!(next(&mut watch).await.revision, written);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kv_watch_that_nobody_asks_misses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let stores = open_all(&replica_support::members(directory.path(), 3)).await;
    let mut watches = Vec::new();
    for at in 0..60 {
        let mut watch = stores[at % 3].watch(WatchOptions::key(format!("k/{at}")));
        watch.begin().await.unwrap();
        watches.push(watch);
    }
    for round in 0..40 {
        let pair = |at| (Bytes::from(format!("k/{at}")), Bytes::from(round.to_string()));
        stores[round % 3].put_batch((0..60).map(pair).collect()).await.unwrap();
    }
    for watch in &mut watches {
        for round in 0..40 {
            let changes = next(watch).await;
            assert_eq!(
                changes.events[0].kind,
                EventKind::Put { value: round.to_string().into(), lease: LeaseId::ZERO }
            );
        }
    }
}

#[tokio::test]
async fn kv_watch_does_not_keep_its_replica_running() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&Config::single(directory.path().join("1"))).await;
    let mut watch = store.watch(WatchOptions::key("k"));
    watch.begin().await.unwrap();
    let watching = tokio::spawn(async move { watch.next().await });
    store.put("other", "").await.unwrap();
    drop(store);
    let ended = tokio::time::timeout(LONG, watching).await.unwrap().unwrap();
    assert!(matches!(ended, Err(WatchError::Stopped(_))), "{ended:?}");
}
