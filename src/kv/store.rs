//! The handle that a service embeds: a replica of the KV inside its own process.
//!
//! Limits of keys, values and batches are checked here, before anything is proposed: what is refused was certainly not
//! written.
//!
//! # When the outcome of a write is unknown
//! The leader may be lost when it has taken a write and not yet answered. Single writes are therefore numbered
//! (`numbering`): they are sent again under the same number until the timeout, are done once, and have the first
//! answer. What ends as unknown is what ran out of time. This costs one more entry when the handle first writes, 26 bytes
//! in each entry, and an answer that is kept until the next write; [`KvStore::unnumbered`] is the way around it.
//! Batches are not numbered.

mod blocking;
mod keep_alives;
mod kv;
mod range;
mod watching;
mod writes;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::config::{Backend, Config};
use crate::error::{OpenError, ReadError, WriteError};
use crate::node::{
    Environment, Hooks, MemberChange, MembersError, Membership, NodeHandle, NodeStatus, Proposal, TransferError,
};
use crate::numbering::Numbering;
use crate::server::Server;
use crate::types::{Index, NodeId, Term};

use super::backend::BackendError;
use super::backend::chosen::{ChosenMap, ChosenSnapshot};
use super::command::Command;
use super::limits::{LONGEST, Limits};
use super::machine::KvMachine;
use super::range::KeyRange;
use super::view::KvReader;
use super::{Consistency, Deleted, KeyValue, Scan, ScanPage};

pub(crate) use blocking::block_on;
pub use blocking::{
    BlockingElection, BlockingKvStore, BlockingLeaders, BlockingLeadership, BlockingLiveLease, BlockingLock,
    BlockingLockGuard, BlockingTyped, BlockingTypedWatch, BlockingWatch,
};
use keep_alives::KeepAlives;
pub use range::KvRange;
use watching::Watched;

/// How long a call waits when the handle was not given another timeout.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// A replica of the store. Clones are handles to the same replica; dropping the last one stops it. Methods may be
/// called from any thread and any async runtime.
///
/// Every replica serves every call: one that does not lead forwards writes to the leader and asks it for a read
/// index. While there is no leader, calls wait up to the handle's timeout.
///
/// Cheap to clone, `Send` and `Sync`. What is built on any [`Kv`](super::Kv) (locks, elections, typed values) works on it as
/// well.
///
/// ```
/// use dledger::kv::{Txn, TxnOp};
/// use dledger::{Consistency, KvStore, Scan};
///
/// # dledger::doctest::run(|store: KvStore| async move {
/// // let store = KvStore::open(config).await?;
/// let revision = store.put("user/1", "ann").await?;
/// store.put_batch(vec![("user/2".into(), "bob".into()), ("user/3".into(), "eve".into())]).await?;
///
/// let ann = store.get("user/1").await?.ok_or("absent")?;
/// assert_eq!((ann.value.as_ref(), ann.mod_revision, ann.version), (b"ann".as_ref(), revision, 1));
/// assert!(store.get_with("user/1", Consistency::Stale).await?.is_some());
/// assert_eq!(store.scan(Scan::prefix("user/"), Consistency::Linearizable).await?.items.len(), 3);
///
/// assert!(store.put_if_revision("user/1", "anne", revision).await?.is_some());
/// assert!(store.compare_and_set("user/2", "bob", "rob").await?.is_some());
/// let both = Txn { then: vec![TxnOp::delete("user/2"), TxnOp::put("user/4", "rob")], ..Txn::default() };
/// assert!(store.transact(both).await?.succeeded);
///
/// let lease = store.grant_lease(std::time::Duration::from_secs(30)).await?;
/// store.put_leased("user/5", "a guest", lease).await?;
/// store.keep_alive(lease).await?;
/// assert_eq!(store.leases()[0].keys, 1);
/// assert_eq!(store.revoke_lease(lease).await?.count, 1);
///
/// assert_eq!(store.delete("user/1").await?.count, 1);
/// assert_eq!(store.delete_prefix("user/").await?.count, 2);
/// assert_eq!(store.status().error, None);
/// # Ok(()) });
/// ```
#[derive(Clone, Debug)]
pub struct KvStore {
    node: NodeHandle,
    reader: KvReader<ChosenSnapshot>,
    watched: Watched,
    timeout: Duration,
    /// Shared by all handles to the replica, those of its remote clients included.
    keep_alives: Arc<KeepAlives>,
    /// The session of this handle and its clones; none when it does not number its writes.
    numbering: Option<Arc<Numbering>>,
}

impl KvStore {
    /// Opens the replica: recovers its directory, listens for peers and clients, joins its cluster in the
    /// background. Resolves once it has recovered and listens, not once there is a leader.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(config: Config) -> Result<Self, OpenError> {
        Self::open_in(Environment::real(), config).await
    }

    /// Opens the replica on another disk, clock and entropy than the operating system's. RocksDB uses the operating
    /// system's disk all the same.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open_in(environment: Environment, config: Config) -> Result<Self, OpenError> {
        let map = ChosenMap::new(config.backend, &environment.disk)?;
        Self::open_on(environment, config, map).await
    }

    /// The same with a map of its own making.
    pub(crate) async fn open_on(environment: Environment, config: Config, map: ChosenMap) -> Result<Self, OpenError> {
        let machine = KvMachine::on(map);
        let (reader, watched) = (machine.reader(), Watched::new(machine.history()));
        let (served, told) = (reader.clone(), watched.clone());
        let server = Server::new(config.max_clients);
        let keep_alives = Arc::new(KeepAlives::default());
        let gathered = Arc::clone(&keep_alives);
        let on_client = Box::new(move |node, connection| {
            // Remote clients number their writes themselves.
            let (reader, watched, keep_alives) = (served.clone(), told.clone(), Arc::clone(&gathered));
            let store = Self { node, reader, watched, timeout: DEFAULT_TIMEOUT, keep_alives, numbering: None };
            server.serve(store, connection);
        });
        let node = NodeHandle::start(environment, config, machine, Hooks { on_client }).await?;
        let numbering = Some(Arc::default());
        Ok(Self { node, reader, watched, timeout: DEFAULT_TIMEOUT, keep_alives, numbering })
    }

    /// The same replica for writes that are sent once and never again: what is lost on the way ends as unknown at once.
    #[must_use]
    pub fn unnumbered(&self) -> Self {
        Self { numbering: None, ..self.clone() }
    }

    /// The same replica with another timeout for each call, of a year at most.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { timeout: timeout.min(LONGEST), ..self.clone() }
    }

    /// Sets a key; the answer is its new revision. Resolves once the write is synced on a quorum and applied here.
    ///
    /// # Errors
    /// See [`WriteError`]; dropping the future leaves the outcome unknown.
    pub async fn put(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Result<Index, WriteError> {
        let (key, value) = (key.into(), value.into());
        Ok(self.write(&Command::put(&key, &value)).await?.written()?)
    }

    /// Sets several keys, one behind the other in the log; the answer is the revision of the last. They are not one
    /// atomic change: readers may see a first part of them. A batch is not numbered: it is sent once.
    ///
    /// # Errors
    /// See [`WriteError`]; `TooLarge`, and nothing is written, when there are none, when one of them is over a limit,
    /// or when all of them together are over that of a record.
    pub async fn put_batch(&self, pairs: Vec<(Bytes, Bytes)>) -> Result<Index, WriteError> {
        self.put_batch_in(None, pairs).await
    }

    /// As [`KvStore::put_batch`], but only if this replica leads in `term` when it proposes: never forwarded.
    pub(crate) async fn put_batch_in(
        &self,
        term: Option<Term>,
        pairs: Vec<(Bytes, Bytes)>,
    ) -> Result<Index, WriteError> {
        let proposals =
            pairs.iter().map(|(key, value)| self.put_proposal(key, value)).collect::<Result<Vec<_>, _>>()?;
        Ok(self.node.propose_in(term, proposals, self.timeout).await?.last())
    }

    /// Deletes a key; the count is 0 when there was none.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn delete(&self, key: impl Into<Bytes>) -> Result<Deleted, WriteError> {
        let key = key.into();
        Ok(self.write(&Command::Delete { key: &key }).await?.deleted()?)
    }

    /// Deletes every key that starts with `prefix`, as one change; the empty prefix deletes all.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn delete_prefix(&self, prefix: impl Into<Bytes>) -> Result<Deleted, WriteError> {
        self.delete_range(KeyRange::of_prefix(prefix.into())).await
    }

    /// Reads a key; linearizable. With a backend on disk, all reads may wait for the disk on the thread that polls.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<KeyValue>, ReadError> {
        self.get_with(key, Consistency::Linearizable).await
    }

    /// Reads a key.
    ///
    /// # Errors
    /// See [`ReadError`]; a stale read of a backend in memory has none.
    pub async fn get_with(
        &self,
        key: impl AsRef<[u8]>,
        consistency: Consistency,
    ) -> Result<Option<KeyValue>, ReadError> {
        self.catch_up(consistency).await?;
        Ok(self.reader.get(key.as_ref())?)
    }

    /// Reads one page of a range as one consistent view; [`Scan::after`] gives the scan of the next page, which may
    /// see later writes.
    ///
    /// # Errors
    /// See [`ReadError`]; a stale read of a backend in memory has none.
    pub async fn scan(&self, scan: Scan, consistency: Consistency) -> Result<ScanPage, ReadError> {
        self.catch_up(consistency).await?;
        let mut pager = self.reader.pager(scan);
        while pager.step()? {
            yield_now().await;
        }
        Ok(pager.page())
    }

    /// What the replica was a moment ago. Does not wait.
    #[must_use]
    pub fn status(&self) -> NodeStatus {
        self.node.status()
    }

    /// Changes who belongs to the cluster; see [`NodeHandle::change_members`].
    ///
    /// # Errors
    /// See [`MembersError`]; unlike a write, it is not handed on by a replica that does not lead.
    pub async fn change_members(&self, change: MemberChange) -> Result<Membership, MembersError> {
        self.node.change_members(change, self.timeout).await
    }

    /// Makes a voter the leader; see [`NodeHandle::transfer_leadership`].
    ///
    /// # Errors
    /// See [`TransferError`].
    pub async fn transfer_leadership(&self, to: NodeId) -> Result<(), TransferError> {
        self.node.transfer_leadership(to).await
    }

    /// The node below: roles, log, address.
    #[must_use]
    pub fn node(&self) -> &NodeHandle {
        &self.node
    }

    /// The same replica for code without an async runtime.
    #[must_use]
    pub fn blocking(&self) -> BlockingKvStore {
        BlockingKvStore { store: self.clone() }
    }

    /// Stops the replica and resolves once its files are closed.
    pub async fn shutdown(&self) {
        self.node.shutdown().await;
    }

    /// What the newest published view is read from.
    pub(crate) fn reader(&self) -> &KvReader<ChosenSnapshot> {
        &self.reader
    }

    /// Whether a read may wait for the disk.
    pub(crate) fn reads_disk(&self) -> bool {
        match self.node.config().backend {
            Backend::Memory => false,
            Backend::RocksDb => true,
        }
    }

    /// Resolves once what is published here is as fresh as was asked for.
    pub(crate) async fn catch_up(&self, consistency: Consistency) -> Result<(), ReadError> {
        match consistency {
            Consistency::Linearizable => self.node.read_index(self.timeout).await.map(|_index| ()),
            Consistency::Lease => self.node.read_index_by_lease(self.timeout).await.map(|_index| ()),
            Consistency::StaleWithin(bound) => self.node.read_index_within(bound, self.timeout).await.map(|_index| ()),
            Consistency::Stale => Ok(()),
        }
    }

    fn put_proposal(&self, key: &[u8], value: &[u8]) -> Result<Proposal, WriteError> {
        let command = Command::put(key, value);
        self.limits().check(&command).map_err(WriteError::TooLarge)?;
        Ok(Proposal { channel: 0, payload: command.encode(), reserve: false })
    }

    fn limits(&self) -> Limits {
        let config = self.node.config();
        Limits { max_key_bytes: config.max_key_bytes as usize, max_value_bytes: config.max_value_bytes as usize }
    }
}

impl From<BackendError> for ReadError {
    fn from(error: BackendError) -> Self {
        Self::State(error.to_string())
    }
}

/// Lets other tasks run once, on any runtime.
async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return std::task::Poll::Ready(());
        }
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

#[cfg(feature = "rocksdb")]
#[cfg(test)]
mod tests;
