//! The embedded store as any [`Kv`]: what is built on that trait works on it.
//!
//! Everything here hands on to the store's own methods. What runs in the background runs on the node's thread, so that it
//! needs no runtime of the caller; it ends with the node.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};

use crate::types::{Index, LeaseId};

use super::super::api::{Kv, KvError};
use super::super::range::KeyRange;
use super::super::txn::{Txn, TxnDone};
use super::super::watch::{Watch, WatchAsk, WatchError, WatchOptions, WatchPage, WatchSource};
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
        Watch::new(Arc::new(NoHistory(self.clone())), options)
    }

    async fn grant_lease(&self, ttl: Duration) -> Result<LeaseId, KvError> {
        Ok(Self::grant_lease(self, ttl).await?)
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Duration, KvError> {
        Ok(Self::keep_alive(self, lease).await?)
    }

    async fn revoke_lease(&self, lease: LeaseId) -> Result<u64, KvError> {
        Ok(Self::revoke_lease(self, lease).await?.count)
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

/// What a watch is told while the store keeps no history: that it is gone. Not at once, so that nobody asks in a circle.
struct NoHistory(KvStore);

const NO_HISTORY_PAUSE: Duration = Duration::from_millis(5);

impl WatchSource for NoHistory {
    fn now(&self) -> BoxFuture<'static, Result<Index, WatchError>> {
        let oldest = self.0.node.committed().next();
        std::future::ready(Ok(oldest)).boxed()
    }

    fn page(&self, _ask: WatchAsk) -> BoxFuture<'static, Result<WatchPage, WatchError>> {
        let store = self.0.clone();
        let (told, tell) = tokio::sync::oneshot::channel();
        self.0.node.spawn(async move {
            tokio::time::sleep(NO_HISTORY_PAUSE).await;
            let _asker_gone = told.send(());
        });
        let oldest = move |_slept| Err(WatchError::Compacted { oldest: store.node.committed().next() });
        tell.map(oldest).boxed()
    }
}
