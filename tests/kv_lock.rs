//! Locks on embedded clusters of three: who holds, in which order, and what becomes of those who stall, leave or fail.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

mod recipes_support;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dledger::KvStore;
use dledger::kv::recipes::{Lock, LockGuard, Lost};
use dledger::kv::{Kv, KvError, Txn, TxnOp};
use dledger::types::Index;
use futures_util::FutureExt;

use recipes_support::{
    AGES, Cluster, LONG, Resource, SHORT, Tampered, count, until_another_leads, until_count, within,
};

fn lock<K: Kv>(store: &K, ttl: Duration) -> Lock<K> {
    Lock::new(store, "lock").with_ttl(ttl)
}

async fn acquire<K: Kv>(lock: &Lock<K>) -> LockGuard {
    within(lock.acquire()).await.unwrap()
}

/// A write to the store that is done only while the lock is held.
async fn fenced_write(store: &KvStore, guard: &LockGuard) -> bool {
    let txn = Txn { compare: vec![guard.condition()], then: vec![TxnOp::put("written", "x")], ..Txn::default() };
    store.transact(txn).await.unwrap().succeeded
}

#[tokio::test]
async fn lock_contended_on_all_replicas_has_one_holder_at_a_time_with_rising_tokens() {
    let cluster = Cluster::open().await;
    let (inside, resource) = (Arc::new(AtomicU32::new(0)), Arc::new(Mutex::new(Resource::default())));
    let contenders: Vec<_> = (0..6)
        .map(|contender| {
            let lock = lock(&cluster.stores[contender % 3], AGES);
            let (inside, resource) = (Arc::clone(&inside), Arc::clone(&resource));
            tokio::spawn(async move {
                for _round in 0..5 {
                    let guard = acquire(&lock).await;
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two at once");
                    resource.lock().unwrap().write(guard.token()).unwrap();
                    tokio::task::yield_now().await;
                    inside.fetch_sub(1, Ordering::SeqCst);
                    guard.release().await.unwrap();
                }
            })
        })
        .collect();
    for contender in contenders {
        within(contender).await.unwrap();
    }
    let tokens = resource.lock().unwrap().tokens().to_vec();
    assert_eq!(tokens.len(), 30);
    assert!(tokens.is_sorted_by(|one, next| one < next), "{tokens:?}");
    assert_eq!(count(&cluster.stores[0], "lock/").await, 0);
}

#[tokio::test]
async fn lock_contenders_hold_in_the_order_in_which_they_came_and_at_once() {
    let cluster = Cluster::open().await;
    let first = acquire(&lock(&cluster.stores[0], AGES)).await;
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut contenders = Vec::new();
    for number in 0..5usize {
        let (lock, order) = (lock(&cluster.stores[number % 3], AGES), Arc::clone(&order));
        contenders.push(tokio::spawn(async move {
            let guard = acquire(&lock).await;
            order.lock().unwrap().push(number);
            guard.release().await.unwrap();
        }));
        until_count(&cluster.stores[0], "lock/", number as u64 + 2).await;
    }
    let released = Instant::now();
    first.release().await.unwrap();
    for contender in contenders {
        within(contender).await.unwrap();
    }
    assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3, 4]);
    assert!(released.elapsed() < Duration::from_secs(10), "five hand-overs took {:?}", released.elapsed());
}

#[tokio::test]
async fn lock_release_wakes_the_next_contender_and_no_other() {
    let cluster = Cluster::open().await;
    let (counted, _gate) = Tampered::new(&cluster.stores[1]);
    let first = acquire(&lock(&cluster.stores[0], AGES)).await;
    let mut contenders = Vec::new();
    for number in 0..10 {
        let lock = lock(&counted, AGES);
        contenders.push(tokio::spawn(async move { lock.acquire().await }));
        until_count(&cluster.stores[0], "lock/", number + 2).await;
    }
    // Each of them looks once where it stands.
    let looked = async |times| {
        within(async {
            while counted.scans() < times {
                tokio::task::yield_now().await
            }
        })
        .await
    };
    looked(10).await;
    first.release().await.unwrap();
    let next = within(contenders.remove(0)).await.unwrap().unwrap();
    let sixth = contenders.remove(5);
    sixth.abort();
    until_count(&cluster.stores[0], "lock/", 9).await;
    next.release().await.unwrap();
    let next = within(contenders.remove(0)).await.unwrap().unwrap();
    // Two who came first, and one behind whoever went away.
    looked(13).await;
    assert_eq!(counted.scans(), 13);
    drop(next);
}

#[tokio::test]
async fn lock_holder_that_stalls_past_its_lease_knows_it_and_is_fenced() {
    let cluster = Cluster::open().await;
    let (stalling, gate) = Tampered::new(&cluster.stores[0]);
    let mut resource = Resource::default();
    let old = acquire(&lock(&stalling, SHORT)).await;
    resource.write(old.token()).unwrap();
    assert!(old.is_held() && fenced_write(&cluster.stores[0], &old).await);

    let began = Instant::now();
    gate.send(false).unwrap();
    let new = acquire(&lock(&cluster.stores[1], AGES)).await;
    assert!(began.elapsed() >= SHORT / 2, "taken over after {:?}", began.elapsed());
    assert!(!old.is_held() && new.is_held() && new.token() > old.token());
    assert_eq!(within(old.lost()).await, Lost::Unconfirmed);
    resource.write(new.token()).unwrap();

    // It wakes up and acts as if nothing had happened.
    gate.send(true).unwrap();
    assert_eq!(resource.write(old.token()), Err(new.token()));
    assert!(!fenced_write(&cluster.stores[0], &old).await && fenced_write(&cluster.stores[0], &new).await);
    assert_eq!(old.release().await, Err(Lost::Unconfirmed));
    new.release().await.unwrap();
}

#[tokio::test]
async fn lock_held_across_the_loss_of_the_leader_stays_held_and_is_handed_over_after() {
    const TTL: Duration = Duration::from_secs(4);
    let cluster = Cluster::open().await;
    let (leader, [one, two]) = cluster.by_role().await;
    let guard = acquire(&lock(&one, TTL)).await;
    let waiting = tokio::spawn({
        let lock = lock(&two, TTL);
        async move { lock.acquire().await }
    });
    until_count(&one, "lock/", 2).await;
    let id = leader.node().config().id;
    leader.shutdown().await;
    until_another_leads(&one, id).await;
    // Longer than a lease: nobody could have held on without being kept alive.
    let mut lost = Box::pin(guard.lost());
    assert!(tokio::time::timeout(TTL * 5 / 4, &mut lost).await.is_err(), "lost");
    assert!(guard.is_held() && !waiting.is_finished());
    assert!(fenced_write(&two, &guard).await);
    let token = guard.token();
    guard.release().await.unwrap();
    assert_eq!(lost.await, Lost::GivenUp);
    let next = within(waiting).await.unwrap().unwrap();
    assert!(next.token() > token && next.is_held());
}

#[tokio::test]
async fn lock_of_a_node_that_stops_is_lost_at_once_and_free_when_its_lease_ends() {
    let cluster = Cluster::open().await;
    let (_leader, [holder, other]) = cluster.by_role().await;
    let guard = acquire(&lock(&holder, SHORT)).await;
    holder.shutdown().await;
    assert_eq!(within(guard.lost()).await, Lost::Stopped);
    assert!(!guard.is_held());
    assert_eq!(guard.release().await, Err(Lost::Stopped));
    assert!(matches!(lock(&holder, SHORT).acquire().await, Err(KvError::Stopped(_))));
    acquire(&lock(&other, SHORT)).await.release().await.unwrap();
}

#[tokio::test]
async fn lock_guard_that_is_dropped_releases_in_the_background() {
    let mut cluster = Cluster::open().await;
    let guard = acquire(&lock(&cluster.stores[0], AGES)).await;
    drop(guard);
    // The last handle of a replica may go with the guard: it is kept until the lock is released.
    let guard = acquire(&lock(&cluster.stores[1], AGES)).await;
    cluster.stores.remove(1);
    drop(guard);
    acquire(&lock(&cluster.stores[0], AGES)).await.release().await.unwrap();
}

#[tokio::test]
async fn lock_contender_that_goes_away_at_any_moment_leaves_no_place_behind() {
    let cluster = Cluster::open().await;
    let store = &cluster.stores[0];
    let held = acquire(&lock(store, AGES)).await;
    let never = lock(&cluster.stores[1], AGES);
    assert!(never.acquire().now_or_never().is_none());
    for millis in 0..15 {
        assert!(tokio::time::timeout(Duration::from_millis(millis), never.acquire()).await.is_err());
    }
    let waiting = tokio::spawn(async move { never.acquire().await });
    until_count(store, "lock/", 2).await;
    waiting.abort();
    until_count(store, "lock/", 1).await;
    assert!(held.is_held());
    held.release().await.unwrap();
    until_count(store, "lock/", 0).await;
}

#[tokio::test]
async fn lock_contender_whose_lease_ends_while_it_waits_goes_to_the_end_of_the_queue() {
    let cluster = Cluster::open().await;
    let held = acquire(&lock(&cluster.stores[0], AGES)).await;
    let (cut_off, gate) = Tampered::new(&cluster.stores[1]);
    let unlucky = tokio::spawn({
        let lock = lock(&cut_off, SHORT);
        async move { lock.acquire().await }
    });
    until_count(&cluster.stores[0], "lock/", 2).await;
    gate.send(false).unwrap();
    until_count(&cluster.stores[0], "lock/", 1).await;
    let other = tokio::spawn({
        let lock = lock(&cluster.stores[2], AGES);
        async move { lock.acquire().await }
    });
    until_count(&cluster.stores[0], "lock/", 2).await;
    gate.send(true).unwrap();
    until_count(&cluster.stores[0], "lock/", 3).await;
    held.release().await.unwrap();
    let other = within(other).await.unwrap().unwrap();
    assert!(!unlucky.is_finished());
    let token = other.token();
    other.release().await.unwrap();
    assert!(within(unlucky).await.unwrap().unwrap().token() > token);
}

#[tokio::test]
async fn lock_whose_key_is_deleted_by_somebody_is_lost_at_once() {
    let cluster = Cluster::open().await;
    let guard = acquire(&lock(&cluster.stores[0], AGES)).await;
    assert_eq!(cluster.stores[1].delete_prefix("lock/").await.unwrap().count, 1);
    assert_eq!(within(guard.lost()).await, Lost::Ended);
    assert!(!guard.is_held());
    assert_eq!(guard.release().await, Err(Lost::Ended));
}

#[tokio::test]
async fn lock_whose_answers_get_lost_is_taken_once() {
    let cluster = Cluster::open().await;
    let (tampered, _gate) = Tampered::new(&cluster.stores[0]);
    tampered.lose_answer();
    let guard = acquire(&lock(&tampered, AGES)).await;
    assert_eq!(count(&cluster.stores[0], "lock/").await, 1);
    let holder = lock(&tampered, AGES).holder().await.unwrap().unwrap();
    assert_eq!((holder.token, holder.lease), (guard.token(), guard.lease()));
}

#[tokio::test]
async fn lock_that_is_tried_for_no_or_a_short_while_is_left_alone() {
    let cluster = Cluster::open().await;
    let mine = lock(&cluster.stores[0], AGES).with_label("mine");
    assert_eq!(mine.holder().await.unwrap(), None);
    let guard = within(mine.try_acquire()).await.unwrap().unwrap();
    let other = lock(&cluster.stores[1], AGES);
    assert_eq!(other.holder().await.unwrap().unwrap().value, "mine");
    assert!(within(other.try_acquire()).await.unwrap().is_none());
    assert!(within(other.acquire_within(Duration::from_millis(200))).await.unwrap().is_none());
    until_count(&cluster.stores[2], "lock/", 1).await;
    guard.release().await.unwrap();
    let guard = within(other.acquire_within(LONG)).await.unwrap().unwrap();
    guard.release().await.unwrap();
}

#[tokio::test]
async fn lock_passes_over_keys_below_its_name_that_are_nobodys_place() {
    let cluster = Cluster::open().await;
    let store = &cluster.stores[0];
    for key in ["lock/", "lock/0000000000000001", "lock/zzzz", "lock/inner/0000000000000001"] {
        store.put(key, "foreign").await.unwrap();
    }
    let inner = within(Lock::new(store, "lock/inner").acquire()).await.unwrap();
    let guard = within(lock(store, AGES).try_acquire()).await.unwrap().unwrap();
    assert!(guard.token() > inner.token() && inner.token() > Index::ZERO);
}

#[tokio::test]
async fn lock_with_a_time_to_live_that_no_lease_has_is_refused() {
    let cluster = Cluster::open().await;
    let refused = within(lock(&cluster.stores[0], Duration::from_millis(10)).acquire()).await;
    assert!(matches!(refused, Err(KvError::Refused(_))), "{refused:?}");
}
