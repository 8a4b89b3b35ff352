//! The handle for code without an async runtime: the same calls, each of which blocks its thread.

mod block_on;

use bytes::Bytes;

use crate::config::Config;
use crate::error::{OpenError, ReadError, WriteError};
use crate::node::NodeStatus;
use crate::types::Index;

use super::super::{Consistency, Deleted, KeyValue, Scan, ScanPage};
use super::KvStore;

pub(crate) use block_on::block_on;

/// A [`KvStore`] for code without an async runtime: each call blocks its thread until the answer is there. A call from
/// within an async task works too, for the replica runs on threads of its own, but it holds up whatever else that
/// thread would run meanwhile.
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
