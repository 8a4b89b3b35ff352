//! The embedded store as any [`Kv`]: what is built on that trait works on it.
//!
//! Everything here hands on to the store's own methods. What runs in the background runs on the node's thread, so that it
//! needs no runtime of the caller; it ends with the node.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::types::{Index, LeaseId};

use super::super::api::{Kv, KvError};
use super::super::range::KeyRange;
use super::super::txn::{Txn, TxnDone};
use super::super::watch::{Watch, WatchOptions};
use super::super::{Consistency, Deleted, KeyValue, Scan, ScanPage};
use super::KvStore;

impl Kv for KvStore {
    async fn transact(&self, txn: Txn) -> Result<TxnDone, KvError> {
        Ok(Self::transact(self, txn).await?)
    }

    async fn delete_range(&self, range: KeyRange) -> Result<Deleted, KvError> {
        Ok(Self::delete_range(self, range).await?)
    }

    async fn get(&self, key: Bytes, consistency: Consistency) -> Result<Option<KeyValue>, KvError> {
        Ok(self.get_with(key, consistency).await?)
    }

    async fn scan(&self, scan: Scan, consistency: Consistency) -> Result<ScanPage, KvError> {
        Ok(Self::scan(self, scan, consistency).await?)
    }

    fn watch(&self, options: WatchOptions) -> Watch {
        Self::watch(self, options)
    }

    async fn grant_lease(&self, ttl: Duration) -> Result<LeaseId, KvError> {
        Ok(Self::grant_lease(self, ttl).await?)
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Duration, KvError> {
        Ok(Self::keep_alive(self, lease).await?)
    }

    async fn revoke_lease(&self, lease: LeaseId) -> Result<Deleted, KvError> {
        Ok(Self::revoke_lease(self, lease).await?)
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) -> Result<(), KvError> {
        self.node.spawn(task);
        Ok(())
    }

    async fn put(&self, key: Bytes, value: Bytes) -> Result<Index, KvError> {
        Ok(Self::put(self, key, value).await?)
    }

    async fn put_leased(&self, key: Bytes, value: Bytes, lease: LeaseId) -> Result<Index, KvError> {
        Ok(Self::put_leased(self, key, value, lease).await?)
    }

    async fn delete(&self, key: Bytes) -> Result<Deleted, KvError> {
        Ok(Self::delete(self, key).await?)
    }
}
