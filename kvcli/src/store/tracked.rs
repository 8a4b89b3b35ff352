//! A store whose background tasks can be waited for.
//!
//! A recipe of the library gives up what it began in a task of its own. A program that is about to end must let such a task
//! come to its end, or what was begun stays for as long as its lease.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use dledger::kv::{Deleted, Kv, KvError};
use dledger::kv::{KeyRange, KeyValue, Scan, ScanPage, Txn, TxnDone, Watch, WatchOptions};
use dledger::types::LeaseId;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::Consistency;

/// A store, and how many background tasks it runs.
#[derive(Clone)]
pub(crate) struct Tracked<K> {
    kv: K,
    tasks: watch::Sender<usize>,
}

impl<K: Kv> Tracked<K> {
    pub(crate) fn new(kv: K) -> Self {
        Self { kv, tasks: watch::Sender::new(0) }
    }

    /// Resolves once no task runs.
    pub(crate) async fn idle(&self) {
        // The sender lives in `self`.
        let mut tasks = self.tasks.subscribe();
        let _never_closed = tasks.wait_for(|tasks| *tasks == 0).await;
    }
}

/// Counts a task for as long as it lives, however it ends.
struct Running(watch::Sender<usize>);

impl Running {
    fn begin(tasks: &watch::Sender<usize>) -> Self {
        tasks.send_modify(|tasks| *tasks += 1);
        Self(tasks.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.send_modify(|tasks| *tasks -= 1);
    }
}

impl<K: Kv> Kv for Tracked<K> {
    fn transact(&self, txn: Txn) -> impl Future<Output = Result<TxnDone, KvError>> + Send {
        self.kv.transact(txn)
    }

    fn delete_range(&self, range: KeyRange) -> impl Future<Output = Result<Deleted, KvError>> + Send {
        self.kv.delete_range(range)
    }

    fn get(
        &self,
        key: Bytes,
        consistency: Consistency,
    ) -> impl Future<Output = Result<Option<KeyValue>, KvError>> + Send {
        self.kv.get(key, consistency)
    }

    fn scan(&self, scan: Scan, consistency: Consistency) -> impl Future<Output = Result<ScanPage, KvError>> + Send {
        self.kv.scan(scan, consistency)
    }

    fn watch(&self, options: WatchOptions) -> Watch {
        self.kv.watch(options)
    }

    fn grant_lease(&self, ttl: Duration) -> impl Future<Output = Result<LeaseId, KvError>> + Send {
        self.kv.grant_lease(ttl)
    }

    fn keep_alive(&self, lease: LeaseId) -> impl Future<Output = Result<Duration, KvError>> + Send {
        self.kv.keep_alive(lease)
    }

    fn revoke_lease(&self, lease: LeaseId) -> impl Future<Output = Result<Deleted, KvError>> + Send {
        self.kv.revoke_lease(lease)
    }

    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) -> Result<(), KvError> {
        let runtime = Handle::try_current().map_err(|error| KvError::Refused(error.to_string()))?;
        let running = Running::begin(&self.tasks);
        let _detached = runtime.spawn(async move {
            task.await;
            drop(running);
        });
        Ok(())
    }
}
