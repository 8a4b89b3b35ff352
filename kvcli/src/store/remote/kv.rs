//! Transactions, leases, watches and what recipes need, of a cluster over the network.

use std::time::Duration;

use bytes::Bytes;
use dledger::Client;
use dledger::client::RangeReader;
use dledger::kv::{LeaseStatus, Txn, TxnDone, Watch, WatchOptions};
use dledger::types::LeaseId;

use super::super::{Consistency, Deleted, Scan};
use super::{Remote, failure};
use crate::exit::Failure;

/// How long a program that is about to end waits for its session to be ended. One that is not ends by itself.
const CLOSE_WITHIN: Duration = Duration::from_millis(500);

impl Remote {
    pub(crate) async fn put_leased(&self, key: Bytes, value: Bytes, lease: LeaseId) -> Result<u64, Failure> {
        self.client.put_leased(key, value, lease).await.map(|revision| revision.get()).map_err(failure)
    }

    pub(crate) async fn transact(&self, txn: Txn) -> Result<TxnDone, Failure> {
        self.client.transact(txn).await.map_err(failure)
    }

    pub(crate) async fn grant_lease(&self, ttl: Duration) -> Result<LeaseId, Failure> {
        self.client.grant_lease(ttl).await.map_err(failure)
    }

    pub(crate) async fn keep_alive(&self, lease: LeaseId) -> Result<Duration, Failure> {
        self.client.keep_alive(lease).await.map_err(failure)
    }

    pub(crate) async fn revoke_lease(&self, lease: LeaseId) -> Result<Deleted, Failure> {
        self.client.revoke_lease(lease).await.map_err(failure)
    }

    pub(crate) async fn leases(&self) -> Result<Vec<LeaseStatus>, Failure> {
        self.client.leases().await.map_err(failure)
    }

    pub(crate) fn watch(&self, options: WatchOptions) -> Watch {
        self.client.watch(options)
    }

    pub(crate) fn range(&self, scan: Scan, consistency: Consistency) -> RangeReader {
        self.client.range(scan, consistency)
    }

    /// What recipes are built on.
    pub(crate) fn kv(&self) -> Client {
        self.client.clone()
    }

    /// Ends the session of the writes so far.
    pub(crate) async fn close(&self) {
        let _ends_by_itself = tokio::time::timeout(CLOSE_WITHIN, self.client.close()).await;
    }
}
