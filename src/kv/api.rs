//! The operations that a replica in this process and a client over the network have in common.
//!
//! What is built on a store (locks, elections, typed views) is built on this trait, once, and serves both. The writes that
//! are transactions with a name are written here, from [`Kv::transact`]; who has a shorter way does them himself.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use thiserror::Error;

use crate::error::{ReadError, Rejection, WriteError};
use crate::types::{Index, LeaseId};

use super::range::KeyRange;
use super::txn::{OpResult, Txn, TxnDone, TxnOp};
use super::watch::{Watch, WatchError, WatchOptions};
use super::{Consistency, Deleted, KeyValue, Scan, ScanPage};

/// Why an operation has no answer, whichever way the store was asked.
///
/// ```
/// use dledger::kv::{Kv, KvError};
/// # dledger::doctest::run(|store| async move {
///
/// # store.put("visits", "many").await?;
/// match Kv::increment(&store, "visits".into(), 1).await {
///     Ok(visits) => println!("visit {visits}"),
///     Err(KvError::Unknown(_)) => println!("counted or not: look before you count again"),
///     Err(KvError::Unavailable(_)) => println!("not counted, and worth another try"),
///     Err(error) => println!("not counted: {error}"), // says what to do
/// }
/// # Ok(()) });
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KvError {
    /// It may have happened or may yet happen.
    #[error("outcome unknown: {0}; read before you write again")]
    Unknown(String),
    /// It certainly did not happen: nobody could be asked in time.
    #[error("unavailable: {0}; try again later")]
    Unavailable(String),
    /// It certainly did not happen: a limit, a full disk or a wrong request.
    #[error("refused: {0}")]
    Refused(String),
    /// It certainly changed nothing, as all replicas agree.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The changes that were asked for are gone.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// The node has stopped.
    #[error("the node has stopped: {0}")]
    Stopped(String),
}

impl From<WriteError> for KvError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Unknown(reason) => Self::Unknown(reason),
            WriteError::Unavailable(reason) => Self::Unavailable(reason),
            WriteError::TooLarge(reason) | WriteError::Overloaded(reason) => Self::Refused(reason),
            WriteError::DiskFull(node) => Self::Refused(format!("the disk of node {node} is full; free some space")),
            WriteError::Rejected(rejection) => Self::Rejected(rejection),
            WriteError::Stopped(reason) => Self::Stopped(reason),
        }
    }
}

impl From<ReadError> for KvError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Unavailable(reason) => Self::Unavailable(reason),
            ReadError::TooLarge(reason) => Self::Refused(reason),
            ReadError::Stopped(reason) => Self::Stopped(reason),
            ReadError::OutOfRange { .. } | ReadError::Damaged { .. } | ReadError::State(_) => {
                Self::Unavailable(error.to_string())
            }
        }
    }
}

/// A store of keys and values: [`KvStore`](super::KvStore) in this process, or a [`Client`](crate::client::Client) of one
/// elsewhere. Write what is to serve both against this trait. Handles are cheap to clone, and clones are the same store.
///
/// All methods are cancel-safe in this sense: a dropped future leaves a write's outcome unknown, and everything else as it
/// was.
///
/// ```
/// use dledger::kv::{Kv, KvError};
/// use dledger::Consistency;
///
/// /// Counts a visit, whoever else counts at the same time.
/// async fn visit(store: &impl Kv, page: &str) -> Result<i64, KvError> {
///     let key = format!("visits/{page}");
///     if store.put_if_absent(key.clone().into(), "1".into()).await?.is_some() {
///         return Ok(1);
///     }
///     store.increment(key.into(), 1).await
/// }
/// ```
pub trait Kv: Clone + Send + Sync + 'static {
    /// Does a transaction, as one entry of the log.
    ///
    /// # Errors
    /// See [`KvError`]; a branch that was not taken is an answer, not an error.
    fn transact(&self, txn: Txn) -> impl Future<Output = Result<TxnDone, KvError>> + Send;

    /// Deletes all keys of a range, as one change.
    ///
    /// # Errors
    /// See [`KvError`].
    fn delete_range(&self, range: KeyRange) -> impl Future<Output = Result<Deleted, KvError>> + Send;

    /// Reads a key.
    ///
    /// # Errors
    /// See [`KvError`]; never `Unknown`.
    fn get(
        &self,
        key: Bytes,
        consistency: Consistency,
    ) -> impl Future<Output = Result<Option<KeyValue>, KvError>> + Send;

    /// Reads one page of a range.
    ///
    /// # Errors
    /// See [`KvError`]; never `Unknown`.
    fn scan(&self, scan: Scan, consistency: Consistency) -> impl Future<Output = Result<ScanPage, KvError>> + Send;

    /// Watches keys. Asks nobody yet: see [`Watch::begin`].
    fn watch(&self, options: WatchOptions) -> Watch;

    /// Makes a lease that lives `ttl` of log time without being kept alive.
    ///
    /// # Errors
    /// See [`KvError`].
    fn grant_lease(&self, ttl: Duration) -> impl Future<Output = Result<LeaseId, KvError>> + Send;

    /// Lets a lease live its time to live from now on; the answer is that time. Keep-alives of many leases that come
    /// together are one entry.
    ///
    /// # Errors
    /// `Rejected` when the lease has ended; see [`KvError`].
    fn keep_alive(&self, lease: LeaseId) -> impl Future<Output = Result<Duration, KvError>> + Send;

    /// Ends a lease and deletes its keys; the count is of those that went with the same entry.
    ///
    /// # Errors
    /// `Rejected` when the lease has ended already; see [`KvError`].
    fn revoke_lease(&self, lease: LeaseId) -> impl Future<Output = Result<Deleted, KvError>> + Send;

    /// Runs a task of a recipe to its end, beside the caller and whether or not the caller goes on; with timers of tokio.
    /// By default, in the tokio runtime that it is called in.
    ///
    /// # Errors
    /// `Refused` when there is no such runtime.
    fn spawn(&self, task: BoxFuture<'static, ()>) -> Result<(), KvError> {
        let no_runtime = |_none| KvError::Refused("this must be called within a tokio runtime".to_owned());
        let _detached = tokio::runtime::Handle::try_current().map_err(no_runtime)?.spawn(task);
        Ok(())
    }

    /// Sets a key; the new revision.
    ///
    /// # Errors
    /// See [`KvError`].
    fn put(&self, key: Bytes, value: Bytes) -> impl Future<Output = Result<Index, KvError>> + Send {
        self.put_leased(key, value, LeaseId::ZERO)
    }

    /// Sets a key that lives as long as a lease; the new revision.
    ///
    /// # Errors
    /// `Rejected` when the lease has ended; see [`KvError`].
    fn put_leased(
        &self,
        key: Bytes,
        value: Bytes,
        lease: LeaseId,
    ) -> impl Future<Output = Result<Index, KvError>> + Send {
        let put = Txn { then: vec![TxnOp::put_leased(key, value, lease)], ..Txn::default() };
        async move { Ok(self.transact(put).await?.revision) }
    }

    /// Deletes a key; the count is 0 when there was none.
    ///
    /// # Errors
    /// See [`KvError`].
    fn delete(&self, key: Bytes) -> impl Future<Output = Result<Deleted, KvError>> + Send {
        let delete = Txn { then: vec![TxnOp::delete(key)], ..Txn::default() };
        async move {
            let done = self.transact(delete).await?;
            let there = done.results.contains(&OpResult::Deleted(true));
            Ok(Deleted { count: u64::from(there), revision: done.revision })
        }
    }

    /// Sets a key if there is none; the new revision, or `None` when there is one.
    ///
    /// # Errors
    /// See [`KvError`].
    fn put_if_absent(&self, key: Bytes, value: Bytes) -> impl Future<Output = Result<Option<Index>, KvError>> + Send {
        async move { Ok(self.transact(Txn::put_if_absent(key, value)).await?.if_succeeded()) }
    }

    /// Sets a key if it was last written at `revision` (zero: if it is absent); the new revision, or `None`.
    ///
    /// # Errors
    /// See [`KvError`].
    fn put_if_revision(
        &self,
        key: Bytes,
        value: Bytes,
        revision: Index,
    ) -> impl Future<Output = Result<Option<Index>, KvError>> + Send {
        async move { Ok(self.transact(Txn::put_if_revision(key, value, revision)).await?.if_succeeded()) }
    }

    /// Sets a key if its value is `expected`; the new revision, or `None`.
    ///
    /// # Errors
    /// See [`KvError`].
    fn compare_and_set(
        &self,
        key: Bytes,
        expected: Bytes,
        value: Bytes,
    ) -> impl Future<Output = Result<Option<Index>, KvError>> + Send {
        async move { Ok(self.transact(Txn::compare_and_set(key, expected, value)).await?.if_succeeded()) }
    }

    /// Adds to the number that a key holds as decimal text (an absent key holds 0); the sum.
    ///
    /// # Errors
    /// `Rejected` when it holds no number or the sum does not fit; see [`KvError`].
    fn increment(&self, key: Bytes, by: i64) -> impl Future<Output = Result<i64, KvError>> + Send {
        async move {
            let done = self.transact(Txn::add(key, by)).await?;
            done.sum().map_err(|reason| KvError::Unknown(reason.to_owned()))
        }
    }
}
