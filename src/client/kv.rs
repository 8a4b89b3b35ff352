//! A client as any [`Kv`]: what is built on that trait works over the network.

use std::time::Duration;

use bytes::Bytes;

use crate::kv::{Deleted, KeyRange, Kv, KvError, Txn, TxnDone, Watch, WatchOptions};
use crate::server::kinds::{Consistency, KeyValue, Scan, ScanPage};
use crate::types::{Index, LeaseId};

use super::Client;

impl Kv for Client {
    async fn transact(&self, txn: Txn) -> Result<TxnDone, KvError> {
        Ok(Self::transact(self, txn).await?)
    }

    async fn delete_range(&self, range: KeyRange) -> Result<Deleted, KvError> {
        Ok(Self::delete_range(self, range).await?)
    }

    async fn get(&self, key: Bytes, consistency: Consistency) -> Result<Option<KeyValue>, KvError> {
        Ok(Self::get(self, key, consistency).await?)
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
