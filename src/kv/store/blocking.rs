//! The handle for code without an async runtime: the same calls, each of which blocks its thread.
//!
//! Locks, elections, watches and typed values have theirs as well; they are made here.

mod block_on;
mod recipes;
mod typed;
mod watch;

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::Config;
use crate::error::{OpenError, ReadError, WriteError};
use crate::node::NodeStatus;
use crate::types::{Index, LeaseId};

use super::super::api::KvError;
use super::super::range::KeyRange;
use super::super::recipes::{Election, Lock};
use super::super::txn::{Txn, TxnDone};
use super::super::typed::Typed;
use super::super::watch::WatchOptions;
use super::super::{Consistency, Deleted, KeyValue, LeaseStatus, Scan, ScanPage};
use super::KvStore;

pub(crate) use block_on::block_on;
pub use recipes::{
    BlockingElection, BlockingLeaders, BlockingLeadership, BlockingLiveLease, BlockingLock, BlockingLockGuard,
};
pub use typed::{BlockingTyped, BlockingTypedWatch};
pub use watch::BlockingWatch;

/// A [`KvStore`] for code without an async runtime: each call blocks its thread until the answer is there. A call from
/// within an async task works too, for the replica runs on threads of its own, but it holds up whatever else that
/// thread would run meanwhile.
///
/// ```
/// use std::time::Duration;
///
/// use dledger::kv::{Txn, TxnOp, WatchOptions};
/// use dledger::{Consistency, KvStore};
/// # dledger::doctest::run(|store: KvStore| async move {
///
/// let store = store.blocking(); // or BlockingKvStore::open(config)?
/// let mut watch = store.watch(WatchOptions::prefix("user/"));
/// watch.begin()?;
///
/// store.put("user/1", "ann")?;
/// assert!(store.put_if_absent("user/1", "bob")?.is_none());
/// store.transact(Txn { then: vec![TxnOp::delete("user/1"), TxnOp::put("user/2", "ann")], ..Txn::default() })?;
/// assert_eq!(store.increment("visits", 1)?, 1);
/// assert_eq!(store.get("user/2", Consistency::Linearizable)?.ok_or("absent")?.value, "ann");
///
/// let lease = store.grant_lease(Duration::from_secs(60))?;
/// store.put_leased("user/3", "eve", lease)?;
/// assert_eq!(store.revoke_lease(lease)?.count, 1);
///
/// let changes: Vec<usize> = watch.by_ref().take(4).map(|changes| Ok(changes?.events.len())).collect::<Result<_, dledger::kv::WatchError>>()?;
/// assert_eq!(changes, [1, 2, 1, 1]);
///
/// let guard = store.lock("nightly-report").acquire()?;
/// println!("token {}", guard.token());
/// guard.release()?;
/// # Ok(()) });
/// ```
#[derive(Clone, Debug)]
pub struct BlockingKvStore {
    pub(super) store: KvStore,
}

impl BlockingKvStore {
    /// Opens the replica; see [`KvStore::open`].
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(config: Config) -> Result<Self, OpenError> {
        block_on(KvStore::open(config)).map(|store| Self { store })
    }

    /// See [`KvStore::put`].
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn put(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Result<Index, WriteError> {
        block_on(self.store.put(key, value))
    }

    /// See [`KvStore::put_batch`].
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn put_batch(&self, pairs: Vec<(Bytes, Bytes)>) -> Result<Index, WriteError> {
        block_on(self.store.put_batch(pairs))
    }

    /// See [`KvStore::put_leased`].
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn put_leased(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
        lease: LeaseId,
    ) -> Result<Index, WriteError> {
        block_on(self.store.put_leased(key, value, lease))
    }

    /// See [`KvStore::put_if_absent`].
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn put_if_absent(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Result<Option<Index>, WriteError> {
        block_on(self.store.put_if_absent(key, value))
    }

    /// See [`KvStore::put_if_revision`].
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn put_if_revision(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
        revision: Index,
    ) -> Result<Option<Index>, WriteError> {
        block_on(self.store.put_if_revision(key, value, revision))
    }

    /// See [`KvStore::compare_and_set`].
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn compare_and_set(
        &self,
        key: impl Into<Bytes>,
        expected: impl Into<Bytes>,
        value: impl Into<Bytes>,
    ) -> Result<Option<Index>, WriteError> {
        block_on(self.store.compare_and_set(key, expected, value))
    }

    /// See [`KvStore::increment`].
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn increment(&self, key: impl Into<Bytes>, by: i64) -> Result<i64, WriteError> {
        block_on(self.store.increment(key, by))
    }

    /// See [`KvStore::transact`].
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn transact(&self, txn: Txn) -> Result<TxnDone, WriteError> {
        block_on(self.store.transact(txn))
    }

    /// See [`KvStore::delete`].
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn delete(&self, key: impl Into<Bytes>) -> Result<Deleted, WriteError> {
        block_on(self.store.delete(key))
    }

    /// See [`KvStore::delete_prefix`].
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn delete_prefix(&self, prefix: impl Into<Bytes>) -> Result<Deleted, WriteError> {
        block_on(self.store.delete_prefix(prefix))
    }

    /// See [`KvStore::delete_range`].
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn delete_range(&self, range: KeyRange) -> Result<Deleted, WriteError> {
        block_on(self.store.delete_range(range))
    }

    /// See [`KvStore::get_with`].
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn get(&self, key: impl AsRef<[u8]>, consistency: Consistency) -> Result<Option<KeyValue>, ReadError> {
        block_on(self.store.get_with(key, consistency))
    }

    /// See [`KvStore::scan`].
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn scan(&self, scan: Scan, consistency: Consistency) -> Result<ScanPage, ReadError> {
        block_on(self.store.scan(scan, consistency))
    }

    /// See [`KvStore::grant_lease`].
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn grant_lease(&self, ttl: Duration) -> Result<LeaseId, WriteError> {
        block_on(self.store.grant_lease(ttl))
    }

    /// See [`KvStore::keep_alive`].
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn keep_alive(&self, lease: LeaseId) -> Result<Duration, WriteError> {
        block_on(self.store.keep_alive(lease))
    }

    /// See [`KvStore::revoke_lease`].
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn revoke_lease(&self, lease: LeaseId) -> Result<Deleted, WriteError> {
        block_on(self.store.revoke_lease(lease))
    }

    /// A lease that is kept alive in the background; see [`LiveLease::grant`](super::super::recipes::LiveLease::grant).
    ///
    /// # Errors
    /// See [`KvError`].
    pub fn live_lease(&self, ttl: Duration) -> Result<BlockingLiveLease, KvError> {
        BlockingLiveLease::grant(&self.store, ttl)
    }

    /// See [`KvStore::leases`].
    #[must_use]
    pub fn leases(&self) -> Vec<LeaseStatus> {
        self.store.leases()
    }

    /// See [`KvStore::watch`]. Asks nobody yet.
    #[must_use]
    pub fn watch(&self, options: WatchOptions) -> BlockingWatch {
        BlockingWatch::new(self.store.watch(options))
    }

    /// A lock of this name; see [`Lock::new`].
    #[must_use]
    pub fn lock(&self, name: impl AsRef<[u8]>) -> BlockingLock {
        BlockingLock::new(Lock::new(&self.store, name))
    }

    /// An election of this name; see [`Election::new`].
    #[must_use]
    pub fn election(&self, name: impl AsRef<[u8]>) -> BlockingElection {
        BlockingElection::new(Election::new(&self.store, name))
    }

    /// Values of one type under a prefix; see [`Typed::new`].
    #[must_use]
    pub fn typed<T: Serialize + DeserializeOwned + Send + Sync>(&self, prefix: impl Into<Bytes>) -> BlockingTyped<T> {
        BlockingTyped::new(Typed::new(&self.store, prefix))
    }

    /// The same replica for async code.
    #[must_use]
    pub fn store(&self) -> &KvStore {
        &self.store
    }

    /// See [`KvStore::status`].
    #[must_use]
    pub fn status(&self) -> NodeStatus {
        self.store.status()
    }

    /// See [`KvStore::shutdown`].
    pub fn shutdown(&self) {
        block_on(self.store.shutdown());
    }
}
