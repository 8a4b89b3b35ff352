//! The handle that a service embeds: a replica of the KV inside its own process.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;

use crate::config::Config;
use crate::error::{OpenError, ReadError, WriteError};
use crate::node::{Environment, Hooks, NodeHandle, NodeStatus, Proposal, Proposed};
use crate::server::Server;
use crate::types::{Index, Term};

use super::command::Command;
use super::machine::{KvMachine, deleted_count};
use super::view::KvReader;
use super::{Consistency, Deleted, KeyValue, Scan, ScanPage};

/// How long a call waits when the handle was not given another timeout.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// A replica of the store. Clones are handles to the same replica; dropping the last one stops it. Methods may be
/// called from any thread and any async runtime.
///
/// Every replica serves every call: one that does not lead forwards writes to the leader and asks it for a read
/// index. While there is no leader, calls wait up to the handle's timeout.
#[derive(Clone, Debug)]
pub struct KvStore {
    node: NodeHandle,
    reader: KvReader,
    timeout: Duration,
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

    /// Opens the replica on another disk, clock and entropy than the operating system's.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open_in(environment: Environment, config: Config) -> Result<Self, OpenError> {
        let machine = KvMachine::new();
        let reader = machine.reader();
        let served = reader.clone();
        let server = Server::new(config.max_clients);
        let on_client = Box::new(move |node, connection| {
            server.serve(Self { node, reader: served.clone(), timeout: DEFAULT_TIMEOUT }, connection);
        });
        let node = NodeHandle::start(environment, config, machine, Hooks { on_client }).await?;
        Ok(Self { node, reader, timeout: DEFAULT_TIMEOUT })
    }

    /// The same replica with another timeout for each call.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { timeout, ..self.clone() }
    }

    /// Sets a key; the answer is its new revision. Resolves once the write is synced on a quorum and applied here.
    ///
    /// # Errors
    /// See [`WriteError`]; dropping the future leaves the outcome unknown.
    pub async fn put(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Result<Index, WriteError> {
        let command = self.put_command(key.into(), value.into())?;
        Ok(self.propose(None, vec![command]).await?.last())
    }

    /// Sets several keys, one behind the other in the log; the answer is the revision of the last. They are not one
    /// atomic change: readers may see a first part of them.
    ///
    /// # Errors
    /// See [`WriteError`]; nothing is written when one of them is over a limit.
    pub async fn put_batch(&self, pairs: Vec<(Bytes, Bytes)>) -> Result<Index, WriteError> {
        self.put_batch_in(None, pairs).await
    }

    /// As [`KvStore::put_batch`], but only if this replica leads in `term` when it proposes: never forwarded.
    pub(crate) async fn put_batch_in(
        &self,
        term: Option<Term>,
        pairs: Vec<(Bytes, Bytes)>,
    ) -> Result<Index, WriteError> {
        let commands = pairs.into_iter().map(|(key, value)| self.put_command(key, value)).collect::<Result<_, _>>()?;
        Ok(self.propose(term, commands).await?.last())
    }

    /// Deletes a key; the count is 0 when there was none.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn delete(&self, key: impl Into<Bytes>) -> Result<Deleted, WriteError> {
        let key = key.into();
        self.check_key(&key)?;
        self.deleting(Command::Delete { key }).await
    }

    /// Deletes every key that starts with `prefix`, as one change; the empty prefix deletes all.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn delete_prefix(&self, prefix: impl Into<Bytes>) -> Result<Deleted, WriteError> {
        self.deleting(Command::delete_prefix(prefix.into())).await
    }

    /// Reads a key; linearizable.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<KeyValue>, ReadError> {
        self.get_with(key, Consistency::Linearizable).await
    }

    /// Reads a key.
    ///
    /// # Errors
    /// See [`ReadError`]; a stale read has none.
    pub async fn get_with(
        &self,
        key: impl AsRef<[u8]>,
        consistency: Consistency,
    ) -> Result<Option<KeyValue>, ReadError> {
        self.catch_up(consistency).await?;
        Ok(self.reader.view().get(key.as_ref()))
    }

    /// Reads one page of a range as one consistent view; [`Scan::after`] gives the scan of the next page, which may
    /// see later writes.
    ///
    /// # Errors
    /// See [`ReadError`]; a stale read has none.
    pub async fn scan(&self, scan: Scan, consistency: Consistency) -> Result<ScanPage, ReadError> {
        self.catch_up(consistency).await?;
        let view = self.reader.view();
        let mut page = ScanPage::default();
        while view.scan_step(&scan, &mut page) {
            yield_now().await;
        }
        Ok(page)
    }

    /// What the replica was a moment ago. Does not wait.
    #[must_use]
    pub fn status(&self) -> NodeStatus {
        self.node.status()
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
    pub(crate) fn reader(&self) -> &KvReader {
        &self.reader
    }

    async fn catch_up(&self, consistency: Consistency) -> Result<(), ReadError> {
        match consistency {
            Consistency::Linearizable => self.node.read_index(self.timeout).await.map(|_index| ()),
            Consistency::Stale => Ok(()),
        }
    }

    async fn deleting(&self, command: Command) -> Result<Deleted, WriteError> {
        let done = self.propose(None, vec![command]).await?;
        let count = done.answers.first().and_then(|answer| deleted_count(answer));
        match count {
            Some(count) => Ok(Deleted { count, revision: done.last() }),
            None => Err(WriteError::Unknown("the keys are deleted, but how many does not decode".to_owned())),
        }
    }

    async fn propose(&self, term: Option<Term>, commands: Vec<Command>) -> Result<Proposed, WriteError> {
        let proposals = commands
            .iter()
            .map(|command| Proposal {
                channel: 0,
                payload: command.encode(),
                reserve: !matches!(command, Command::Put { .. }),
            })
            .collect();
        self.node.propose_in(term, proposals, self.timeout).await
    }

    fn put_command(&self, key: Bytes, value: Bytes) -> Result<Command, WriteError> {
        self.check_key(&key)?;
        let limit = self.node.config().max_value_bytes as usize;
        if value.len() > limit {
            return Err(WriteError::TooLarge(format!("a value of {} bytes is over the limit of {limit}", value.len())));
        }
        Ok(Command::Put { key, value })
    }

    fn check_key(&self, key: &Bytes) -> Result<(), WriteError> {
        let limit = self.node.config().max_key_bytes as usize;
        if key.is_empty() {
            return Err(WriteError::TooLarge("a key needs at least one byte".to_owned()));
        }
        if key.len() > limit {
            return Err(WriteError::TooLarge(format!("a key of {} bytes is over the limit of {limit}", key.len())));
        }
        Ok(())
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

/// A [`KvStore`] for code without an async runtime: each call blocks its thread until the answer is there. Not to
/// be called on a thread that runs async tasks, which it would hold up.
#[derive(Clone, Debug)]
pub struct BlockingKvStore {
    store: KvStore,
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

/// Polls a future on this thread, which parks in between. The futures above bring their own timers.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(value) => return value,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}
