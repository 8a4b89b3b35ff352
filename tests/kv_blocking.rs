//! Everything that a service can do with an embedded store, on plain threads without a runtime; and what handles are to the
//! compiler.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

mod replica_support;

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use dledger::kv::recipes::Lost;
use dledger::kv::store::{
    BlockingElection, BlockingLeaders, BlockingLeadership, BlockingLiveLease, BlockingLock, BlockingLockGuard,
    BlockingTyped, BlockingWatch,
};
use dledger::kv::{EventKind, KeyRange, Kv, Txn, TxnOp, Watch, WatchError, WatchOptions};
use dledger::types::Index;
use dledger::{BlockingKvStore, Client, Config, Consistency, Election, KvStore, LiveLease, Lock, Typed, WriteError};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(30);
/// A time to live that no test outlives.
const AGES: Duration = Duration::from_secs(600);
/// Short enough for "nothing comes".
const MOMENT: Duration = Duration::from_millis(100);

/// Three replicas, opened without a runtime.
fn open() -> (tempfile::TempDir, Vec<BlockingKvStore>) {
    let directory = tempfile::tempdir().unwrap();
    let configs = replica_support::members(directory.path(), 3);
    let stores = configs.into_iter().map(|config| BlockingKvStore::open(config).unwrap()).collect();
    (directory, stores)
}

#[test]
fn blocking_lock_is_handed_over_between_threads_in_order() {
    let (_directory, stores) = open();
    let lock = |at: usize| stores[at].lock("lock").with_ttl(AGES).with_label(at.to_string());
    let first = lock(0).acquire().unwrap();
    assert!(lock(1).try_acquire().unwrap().is_none());
    assert!(lock(1).acquire_within(MOMENT).unwrap().is_none());
    assert_eq!(first.lost_within(MOMENT), None);
    let (tell, told) = mpsc::channel();
    let waiting = thread::spawn({
        let lock = lock(1);
        move || {
            let guard = lock.acquire().unwrap();
            tell.send(guard.token()).unwrap();
            guard.release().unwrap();
        }
    });
    assert!(told.recv_timeout(MOMENT).is_err());
    let token = first.token();
    assert!(first.is_held() && lock(2).holder().unwrap().unwrap().value == "0");
    first.release().unwrap();
    assert!(told.recv_timeout(LONG).unwrap() > token);
    waiting.join().unwrap();
    // A guard that is dropped releases as well.
    drop(lock(2).acquire().unwrap());
    let last = lock(0).acquire_within(LONG).unwrap().unwrap();
    stores[0].shutdown();
    assert_eq!(last.lost_within(LONG), Some(Lost::Stopped));
}

#[test]
fn blocking_election_is_won_observed_and_resigned_by_threads() {
    let (_directory, stores) = open();
    let mut leaders = stores[2].election("office").observe();
    assert_eq!(leaders.next_leader().unwrap(), None);
    assert_eq!(leaders.next_leader_within(MOMENT).unwrap(), None);
    let first = stores[0].election("office").with_ttl(AGES).campaign("a").unwrap();
    assert!(stores[1].election("office").campaign_within("b", MOMENT).unwrap().is_none());
    first.proclaim("a2").unwrap();
    let told = loop {
        let told = leaders.next_leader_within(LONG).unwrap().unwrap().unwrap();
        assert_eq!(told.token, first.token());
        if told.value == "a2" {
            break told;
        }
    };
    assert_eq!(stores[1].election("office").leader().unwrap(), Some(told));
    first.resign().unwrap();
    assert_eq!(leaders.next_leader_within(LONG).unwrap(), Some(None));
}

#[test]
fn blocking_watch_tells_each_change_once_and_ends_with_its_node() {
    let (_directory, stores) = open();
    let mut watch = stores[1].watch(WatchOptions::prefix("k/"));
    watch.begin().unwrap();
    assert_eq!(watch.next_within(MOMENT).unwrap(), None);
    let put = stores[0].put("k/1", "v").unwrap();
    let lease = stores[0].live_lease(AGES).unwrap();
    assert!(lease.is_alive() && lease.lost_within(MOMENT).is_none());
    let leased = stores[2].put_leased("k/2", "v", lease.id()).unwrap();
    lease.revoke().unwrap();
    let changes = watch.next_within(LONG).unwrap().unwrap();
    assert_eq!((changes.revision, changes.events[0].key.as_ref()), (put, b"k/1".as_ref()));
    assert_eq!(watch.resume_from().map(|from| from > put), Some(true));
    let rest: Vec<_> = watch.by_ref().take(2).map(Result::unwrap).collect();
    assert_eq!(rest[0].revision, leased);
    assert_eq!(rest[1].events[0].kind, EventKind::Delete);
    stores[1].shutdown();
    let last: Vec<_> = watch.collect();
    assert!(matches!(last.as_slice(), [Err(WatchError::Stopped(_))]), "{last:?}");
}

#[test]
fn blocking_store_offers_conditional_writes_transactions_ranges_and_types() {
    let (_directory, stores) = open();
    let store = &stores[0];
    let first = store.put_if_absent("k", "1").unwrap().unwrap();
    assert_eq!(store.put_if_absent("k", "2").unwrap(), None);
    assert!(store.put_if_revision("k", "2", first).unwrap().is_some());
    assert_eq!(store.put_if_revision("k", "3", first).unwrap(), None);
    assert!(store.compare_and_set("k", "2", "7").unwrap().is_some());
    assert_eq!(store.compare_and_set("k", "2", "8").unwrap(), None);
    assert_eq!(store.increment("k", 5).unwrap(), 12);
    assert!(matches!(store.increment("k", i64::MAX), Err(WriteError::Rejected(_))));
    let txn = Txn { then: vec![TxnOp::put("l", "x"), TxnOp::put("m", "x")], ..Txn::default() };
    assert!(store.transact(txn).unwrap().succeeded);
    assert_eq!(store.delete_range(KeyRange { from: "l".into(), to: None }).unwrap().count, 2);
    let lease = store.grant_lease(AGES).unwrap();
    assert_eq!(store.keep_alive(lease).unwrap(), AGES);
    assert_eq!((store.leases()[0].lease, store.revoke_lease(lease).unwrap().count), (lease, 0));
    assert_eq!(store.store().blocking().get("k", Consistency::Stale).unwrap().unwrap().value, "12");

    let numbers = stores[1].typed::<u32>("number/");
    let mut watch = numbers.watch();
    watch.begin().unwrap();
    assert_eq!(watch.next_within(MOMENT).unwrap(), None);
    numbers.put("one", &1).unwrap();
    assert!(numbers.put_if_revision("one", &2, Index::ZERO).unwrap().is_none());
    assert_eq!(numbers.update("one", |old| old.unwrap_or_default() + 10).unwrap().value, 11);
    assert_eq!(numbers.get("one").unwrap().unwrap().value, 11);
    stores[2].put("number/bad", "x").unwrap();
    assert_eq!(stores[2].typed::<u32>("number/").delete("one").unwrap().count, 1);
    let seen: Vec<Option<Option<u32>>> =
        watch.by_ref().take(4).map(|changes| changes.ok().map(|changes| changes.events[0].value)).collect();
    assert_eq!(seen, [Some(Some(1)), Some(Some(11)), None, Some(None)], "it goes on behind a value of another type");
}

/// Compiles or does not.
#[test]
fn handles_of_all_kinds_go_to_any_thread_and_stores_are_clones_of_each_other() {
    fn shared<T: Send + Sync + 'static>() {}
    fn cloned<T: Clone + Send + Sync + 'static>() {}
    fn sent<T: Send>(_future: &T) {}
    fn futures<K: Kv>(kv: &K) {
        let (lock, election, typed) = (Lock::new(kv, "l"), Election::new(kv, "e"), Typed::<K, String>::new(kv, "t"));
        sent(&lock.acquire());
        sent(&election.campaign("x"));
        sent(&election.observe().next());
        sent(&LiveLease::grant(kv, LONG));
        sent(&typed.list());
        sent(&typed.update("k", Option::unwrap_or_default));
        sent(&typed.watch().next());
        sent(&kv.watch(WatchOptions::key("k")).next());
    }
    cloned::<KvStore>();
    cloned::<BlockingKvStore>();
    cloned::<Client>();
    cloned::<Lock<KvStore>>();
    cloned::<Election<KvStore>>();
    cloned::<Typed<KvStore, String>>();
    cloned::<BlockingLock>();
    cloned::<BlockingElection>();
    cloned::<BlockingTyped<String>>();
    shared::<Watch>();
    shared::<LiveLease>();
    shared::<BlockingWatch>();
    shared::<BlockingLockGuard>();
    shared::<BlockingLeadership>();
    shared::<BlockingLeaders>();
    shared::<BlockingLiveLease>();
    let directory = tempfile::tempdir().unwrap();
    let store = BlockingKvStore::open(Config::single(directory.path().join("1"))).unwrap();
    futures(store.store());
}
