//! Clusters of three in this process for tests of recipes, and a store that can be tampered with.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

#[path = "../replica_support/mod.rs"]
mod replica_support;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dledger::kv::{Deleted, KeyRange, KeyValue, Kv, KvError, Scan, ScanPage, Txn, TxnDone, Watch, WatchOptions};
use dledger::types::{Index, LeaseId, Role};
use dledger::{Consistency, KvStore};
use futures_util::future::BoxFuture;
use tempfile::TempDir;
use tokio::sync::watch;

/// Longer than anything here takes.
pub(crate) const LONG: Duration = Duration::from_secs(30);
/// A time to live that no test outlives: what happens sooner did not wait for it.
pub(crate) const AGES: Duration = Duration::from_secs(600);
/// A time to live that a test can wait for, and that outlives an election.
pub(crate) const SHORT: Duration = Duration::from_secs(2);

/// Before a follower stands for election: on a machine that many clusters share, a leader is not replaced for being slow, which
/// would end writes under way as unknown.
const PATIENT: Duration = Duration::from_millis(800);

/// Three replicas in this process.
pub(crate) struct Cluster {
    pub(crate) stores: Vec<KvStore>,
    _directory: TempDir,
}

impl Cluster {
    pub(crate) async fn open() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut stores = Vec::new();
        for mut config in replica_support::members(directory.path(), 3) {
            config.election_timeout = PATIENT;
            stores.push(KvStore::open(config).await.unwrap().with_timeout(LONG));
        }
        Self { stores, _directory: directory }
    }

    /// The replica that leads, and the two others.
    pub(crate) async fn by_role(&self) -> (KvStore, [KvStore; 2]) {
        let mut roles = self.stores[0].node().role_changes();
        let leader = within(roles.wait_for(|change| change.leader.is_some())).await.unwrap().leader.unwrap();
        let (leads, others): (Vec<_>, Vec<_>) =
            self.stores.iter().cloned().partition(|store| store.node().config().id == leader);
        (leads[0].clone(), others.try_into().unwrap())
    }
}

/// Resolves in time, or the test fails.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, future).await.expect("not in time")
}

/// How many keys start so.
pub(crate) async fn count(store: &KvStore, prefix: &str) -> u64 {
    let scan = Scan { count_only: true, ..Scan::prefix(prefix.to_owned()) };
    store.scan(scan, Consistency::Linearizable).await.unwrap().count
}

/// Resolves once so many keys start so.
pub(crate) async fn until_count(store: &KvStore, prefix: &str, expected: u64) {
    let options = || WatchOptions::prefix(prefix.to_owned());
    let look = async {
        loop {
            let mut changes = Kv::watch(store, options());
            changes.begin().await.unwrap();
            if count(store, prefix).await == expected {
                return;
            }
            // One that has no history says so; the keys are counted anew then as well.
            let _changes = changes.next().await;
        }
    };
    within(look).await;
}

/// Resolves once a replica other than this one leads.
pub(crate) async fn until_another_leads(store: &KvStore, than: dledger::types::NodeId) {
    let mut roles = store.node().role_changes();
    let elected = |change: &dledger::types::RoleChange| {
        change.leader.is_some_and(|leader| leader != than) && change.role != Role::Candidate
    };
    within(roles.wait_for(elected)).await.unwrap();
}

/// A store as somebody sees it who is cut off from time to time, or whose answers get lost.
#[derive(Clone)]
pub(crate) struct Tampered {
    pub(crate) kv: KvStore,
    open: watch::Receiver<bool>,
    lose_answer: Arc<AtomicBool>,
    scans: Arc<AtomicU64>,
}

/// Cuts a [`Tampered`] store off while it holds false.
pub(crate) type Gate = watch::Sender<bool>;

impl Tampered {
    pub(crate) fn new(kv: &KvStore) -> (Self, Gate) {
        let (gate, open) = watch::channel(true);
        (Self { kv: kv.clone(), open, lose_answer: Arc::default(), scans: Arc::default() }, gate)
    }

    /// The answer of the next transaction gets lost.
    pub(crate) fn lose_answer(&self) {
        self.lose_answer.store(true, Ordering::SeqCst);
    }

    /// How many scans were asked for.
    pub(crate) fn scans(&self) -> u64 {
        self.scans.load(Ordering::SeqCst)
    }

    async fn pass(&self) {
        self.open.clone().wait_for(|open| *open).await.unwrap();
    }
}

impl Kv for Tampered {
    async fn transact(&self, txn: Txn) -> Result<TxnDone, KvError> {
        self.pass().await;
        let done = Kv::transact(&self.kv, txn).await;
        match self.lose_answer.swap(false, Ordering::SeqCst) {
            true => Err(KvError::Unknown("tampered with".to_owned())),
            false => done,
        }
    }

    async fn delete_range(&self, range: KeyRange) -> Result<Deleted, KvError> {
        self.pass().await;
        Kv::delete_range(&self.kv, range).await
    }

    async fn get(&self, key: Bytes, consistency: Consistency) -> Result<Option<KeyValue>, KvError> {
        self.pass().await;
        Kv::get(&self.kv, key, consistency).await
    }

    async fn scan(&self, scan: Scan, consistency: Consistency) -> Result<ScanPage, KvError> {
        self.scans.fetch_add(1, Ordering::SeqCst);
        self.pass().await;
        Kv::scan(&self.kv, scan, consistency).await
    }

    fn watch(&self, options: WatchOptions) -> Watch {
        Kv::watch(&self.kv, options)
    }

    async fn grant_lease(&self, ttl: Duration) -> Result<LeaseId, KvError> {
        self.pass().await;
        Kv::grant_lease(&self.kv, ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Duration, KvError> {
        self.pass().await;
        Kv::keep_alive(&self.kv, lease).await
    }

    async fn revoke_lease(&self, lease: LeaseId) -> Result<Deleted, KvError> {
        self.pass().await;
        Kv::revoke_lease(&self.kv, lease).await
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) -> Result<(), KvError> {
        self.kv.spawn(task)
    }
}

/// What a lock protects: refuses a lower token than it has seen, and remembers who wrote.
#[derive(Debug, Default)]
pub(crate) struct Resource {
    tokens: Vec<Index>,
}

impl Resource {
    pub(crate) fn write(&mut self, token: Index) -> Result<(), Index> {
        match self.tokens.last() {
            Some(last) if *last > token => Err(*last),
            _ => {
                self.tokens.push(token);
                Ok(())
            }
        }
    }

    pub(crate) fn tokens(&self) -> &[Index] {
        &self.tokens
    }
}
