//! Leases against a cluster that answers by heart, in tokio's own time.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};

use super::*;
use crate::error::Rejection;
use crate::kv::watch::{Watch, WatchAsk, WatchError, WatchOptions, WatchPage, WatchSource};
use crate::kv::{Consistency, Deleted, KeyRange, KeyValue, Scan, ScanPage, Txn, TxnDone};
use crate::types::Index;

const TTL: Duration = Duration::from_secs(3);
/// As much of it as may be relied on.
const RELIED: Duration = Duration::from_millis(2_999);
/// What an answer takes.
const SLOW: Duration = Duration::from_millis(400);

/// Answers each question about leases after [`SLOW`], or never when it has no answer left.
#[derive(Clone, Default)]
struct ByHeart {
    answers: Arc<Mutex<VecDeque<Result<(), KvError>>>>,
    asked: Arc<Mutex<Vec<Instant>>>,
}

impl ByHeart {
    fn new(answers: impl IntoIterator<Item = Result<(), KvError>>) -> Self {
        Self { answers: Arc::new(Mutex::new(answers.into_iter().collect())), asked: Arc::default() }
    }

    async fn answer(&self) -> Result<(), KvError> {
        self.asked.lock().unwrap().push(Instant::now());
        let Some(answer) = self.answers.lock().unwrap().pop_front() else { return std::future::pending().await };
        sleep(SLOW).await;
        answer
    }

    fn asked(&self) -> Vec<Instant> {
        self.asked.lock().unwrap().clone()
    }
}

fn unasked<T>() -> Result<T, KvError> {
    Err(KvError::Refused("knows of leases alone".to_owned()))
}

impl WatchSource for ByHeart {
    fn now(&self) -> BoxFuture<'static, Result<Index, WatchError>> {
        std::future::pending().boxed()
    }

    fn page(&self, _ask: WatchAsk) -> BoxFuture<'static, Result<WatchPage, WatchError>> {
        std::future::pending().boxed()
    }
}

impl Kv for ByHeart {
    async fn transact(&self, _txn: Txn) -> Result<TxnDone, KvError> {
        unasked()
    }

    async fn delete_range(&self, _range: KeyRange) -> Result<Deleted, KvError> {
        unasked()
    }

    async fn get(&self, _key: Bytes, _consistency: Consistency) -> Result<Option<KeyValue>, KvError> {
        unasked()
    }

    async fn scan(&self, _scan: Scan, _consistency: Consistency) -> Result<ScanPage, KvError> {
        unasked()
    }

    fn watch(&self, options: WatchOptions) -> Watch {
        Watch::new(Arc::new(self.clone()), options)
    }

    async fn grant_lease(&self, _ttl: Duration) -> Result<LeaseId, KvError> {
        self.answer().await.map(|()| LeaseId(7))
    }

    async fn keep_alive(&self, _lease: LeaseId) -> Result<Duration, KvError> {
        self.answer().await.map(|()| TTL)
    }

    async fn revoke_lease(&self, _lease: LeaseId) -> Result<Deleted, KvError> {
        self.answer().await.map(|()| Deleted { count: 1, revision: Index(9) })
    }
}

fn rejected() -> KvError {
    Rejection::NoLease(LeaseId(7)).into()
}

fn unknown() -> KvError {
    KvError::Unknown("lost".to_owned())
}

fn lease() -> KeptLease {
    KeptLease { id: LeaseId(7), ttl: TTL, confirmed: Instant::now() }
}

#[tokio::test(start_paused = true)]
async fn lease_is_relied_on_from_when_its_grant_and_each_keep_alive_were_sent() {
    let (kv, began) = (ByHeart::new([Err(unknown()), Ok(()), Ok(()), Ok(())]), Instant::now());
    let mut lease = KeptLease::grant(&kv, TTL).await.unwrap();
    let [_lost, granted] = kv.asked()[..] else { panic!("{:?}", kv.asked()) };
    assert_eq!((granted - began, lease.until()), (SLOW + RETRY_PAUSE, granted + RELIED));

    let told = Mutex::new(Vec::new());
    let lost = lease.keep(&kv, |until| told.lock().unwrap().push(until)).await;
    assert_eq!(lost, Lost::Unconfirmed);
    let asked = kv.asked();
    let (first, second) = (granted + TTL / 3, granted + TTL / 3 * 2);
    assert_eq!((asked[2], asked[3]), (first, second));
    assert_eq!(*told.lock().unwrap(), [first + RELIED, second + RELIED]);
}

#[tokio::test(start_paused = true)]
async fn lease_is_not_relied_on_for_the_part_of_a_millisecond_that_the_cluster_may_not_count() {
    let beyond = Duration::from_micros(999);
    let lease = KeptLease::grant(&ByHeart::new([Ok(())]), TTL + beyond).await.unwrap();
    // Written within a millisecond of which the entry is stamped with the beginning, for so many whole ones.
    assert!(lease.until() <= lease.confirmed - beyond + TTL, "{:?}", lease.until() - lease.confirmed);
}

#[tokio::test(start_paused = true)]
async fn lease_that_is_to_live_for_ever_is_refused_like_any_other() {
    let refused = KvError::Refused("too long".to_owned());
    let granted = KeptLease::grant(&ByHeart::new([Err(refused.clone())]), Duration::MAX).await;
    assert_eq!(granted.unwrap_err(), refused);
}

#[tokio::test(start_paused = true)]
async fn lease_that_nobody_confirms_is_lost_when_its_time_is_up_and_tried_until_then() {
    let (kv, began) = (ByHeart::default(), Instant::now());
    assert_eq!(lease().keep(&kv, |_until| panic!("confirmed")).await, Lost::Unconfirmed);
    assert_eq!((began.elapsed(), kv.asked().len()), (RELIED, 2));
}

#[tokio::test(start_paused = true)]
async fn lease_that_has_ended_or_whose_node_stops_is_lost_at_once() {
    let stopped = KvError::Stopped("x".to_owned());
    for (error, expected) in [(rejected(), Lost::Ended), (stopped, Lost::Stopped)] {
        let (kv, began) = (ByHeart::new([Err(unknown()), Err(error)]), Instant::now());
        assert_eq!(lease().keep(&kv, |_until| panic!("confirmed")).await, expected);
        assert_eq!(began.elapsed(), TTL / 3 + SLOW + RETRY_PAUSE + SLOW);
    }
}

#[tokio::test(start_paused = true)]
async fn lease_revoked_twice_for_a_lost_answer_was_held_to_the_end() {
    assert_eq!(lease().revoke(&ByHeart::new([Ok(())])).await, Ok(()));
    assert_eq!(lease().revoke(&ByHeart::new([Err(unknown()), Err(rejected())])).await, Ok(()));
    assert_eq!(lease().revoke(&ByHeart::new([Err(rejected())])).await, Err(Lost::Ended));
    let unavailable = KvError::Unavailable("x".to_owned());
    assert_eq!(lease().revoke(&ByHeart::new([Err(unavailable), Err(rejected())])).await, Err(Lost::Ended));
    let began = Instant::now();
    assert_eq!(lease().revoke(&ByHeart::default()).await, Err(Lost::Unconfirmed));
    assert_eq!(began.elapsed(), RELIED);
}

#[tokio::test(start_paused = true)]
async fn lease_for_longer_than_any_clock_tells_is_refused_by_the_store() {
    let refused = KvError::Refused("over the limit".to_owned());
    let kv = ByHeart::new([Err(refused.clone())]);
    assert_eq!(KeptLease::grant(&kv, Duration::MAX).await.unwrap_err(), refused);
}
