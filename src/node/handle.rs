//! The handle to a running node: cheap to clone, usable from any thread and any async runtime.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::{MutexGuard, Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use crate::commitlog::LogReader;
use crate::config::Config;
use crate::env::Clock;
use crate::error::{ReadError, SnapshotRequestError, WriteError};
use crate::raft::{Change, Membership, ReadBy};
use crate::transport::{Admission, SnapshotWant};
use crate::types::{ClusterId, EntryId, Index, NodeId, Role, RoleChange, Term};

use super::effects::{Framed, Proposal, Proposed};
use super::fresh::Fresh;
use super::members::{MembersError, TransferError};
use super::scrub::ScrubProgress;

mod committed;
mod members;
mod reads;

#[cfg(feature = "simulation")]
pub(super) use committed::entries_of;
pub use members::{MemberChange, MemberStatus, Standing};

/// What an entry costs of the pending budget beside its payload.
const ENTRY_OVERHEAD_BYTES: usize = 128;

/// What is known of a node at a moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The node.
    pub id: NodeId,
    /// Its cluster; `None` before formation.
    pub cluster: Option<ClusterId>,
    /// The life of that cluster: 1, and one more with each [recovery](crate::node::recover); 0 before formation.
    pub epoch: u64,
    /// Where it is reached.
    pub address: String,
    /// Its role.
    pub role: Role,
    /// Its term.
    pub term: Term,
    /// The leader it knows of.
    pub leader: Option<NodeId>,
    /// First index in its log.
    pub first: Index,
    /// Last index in its log.
    pub last: Index,
    /// Last index on its disk.
    pub durable: Index,
    /// Last index it knows to be committed.
    pub committed: Index,
    /// Last index applied to its state machine.
    pub applied: Index,
    /// Bytes that log and snapshots take on disk.
    pub disk_bytes: u64,
    /// Last index in its newest snapshot; zero without one.
    pub snapshot: Index,
    /// Bytes of snapshots that peers have sent since the node was started.
    pub snapshot_bytes_received: u64,
    /// Records that cannot be read back and wait to be mended by a peer.
    pub damaged: u64,
    /// Records mended since the node was started.
    pub mended: u64,
    /// How far the scrub, which reads everything once in [`Config::scrub_every`], has come.
    pub scrub: ScrubProgress,
    /// The members by the latest membership in its log, by number; before there is one, those that it was started with.
    pub members: Vec<MemberStatus>,
    /// What is wrong with this node, while something is.
    pub error: Option<String>,
    /// The release it runs.
    pub version: String,
}

/// Tells a caller what became of its question.
pub(crate) type Reply<T, E> = oneshot::Sender<Result<T, E>>;

/// What handles ask of the event loop.
#[derive(Debug)]
pub(crate) enum Command {
    /// Propose entries. The permit is the caller's share of the pending budget, held until the answer.
    Propose {
        term: Option<Term>,
        proposals: Vec<Proposal>,
        timeout: Duration,
        reply: Reply<Proposed, WriteError>,
        permit: OwnedSemaphorePermit,
        /// Hears where the entries stand as soon as this node has framed them.
        framed: Option<oneshot::Sender<Framed>>,
    },
    /// Make a read linearizable.
    Read { by: ReadBy, timeout: Duration, reply: Reply<Index, ReadError> },
    /// Take a snapshot of what is applied.
    Snapshot { reply: Reply<EntryId, SnapshotRequestError> },
    /// Read a piece of a snapshot.
    Piece { want: SnapshotWant, reply: Reply<Bytes, SnapshotRequestError> },
    /// Change who belongs to the cluster.
    ChangeMembers { change: Change, timeout: Duration, reply: Reply<Membership, MembersError> },
    /// Hand leadership over.
    Transfer { to: NodeId, reply: Reply<(), TransferError> },
    /// Read committed records.
    Entries { from: Index, max_bytes: u64, reply: Reply<Vec<Bytes>, ReadError> },
    /// The members have admitted this node, which wants to join; or why not yet.
    Join(Result<Admission, String>),
    /// Stop.
    Shutdown,
}

/// What will become of entries that were proposed.
#[derive(Debug)]
pub struct Outcome {
    answer: oneshot::Receiver<Result<Proposed, WriteError>>,
    done: Option<Proposed>,
}

impl Outcome {
    /// Resolves once the entries are durable on a quorum and applied on this node.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn wait(mut self) -> Result<Proposed, WriteError> {
        match self.done.take() {
            Some(done) => Ok(done),
            None => self.wait_mut().await,
        }
    }

    async fn wait_mut(&mut self) -> Result<Proposed, WriteError> {
        let unknown = |_dropped| Err(WriteError::Unknown("the node stopped".to_owned()));
        (&mut self.answer).await.unwrap_or_else(unknown)
    }
}

/// What the event loop shows to handles.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) address: SocketAddr,
    pub(crate) commands: mpsc::UnboundedSender<Command>,
    pub(crate) budget: Arc<Semaphore>,
    /// Held by the one caller that takes its share of the budget and sends its entries.
    pub(crate) line: tokio::sync::Mutex<()>,
    pub(crate) runtime: tokio::runtime::Handle,
    pub(crate) roles: watch::Receiver<RoleChange>,
    pub(crate) stopped: watch::Receiver<Option<String>>,
    pub(crate) status: Mutex<NodeStatus>,
    pub(crate) committed: AtomicU64,
    pub(crate) fresh: Fresh,
    pub(crate) clock: Arc<dyn Clock>,
    /// The last index that is committed and stands in the log on this disk.
    pub(crate) readable: AtomicU64,
    /// Told when more is applied.
    pub(crate) news: Notify,
    pub(crate) log: arc_swap::ArcSwapOption<LogReader>,
}

/// Stops the node when the last handle of its owner is dropped.
#[derive(Debug)]
struct Owner(mpsc::UnboundedSender<Command>);

impl Drop for Owner {
    fn drop(&mut self) {
        let _already_stopped = self.0.send(Command::Shutdown);
    }
}

/// A running node. Clones are handles to the same node; dropping the last one stops it.
#[derive(Clone)]
pub struct NodeHandle {
    pub(crate) shared: Arc<Shared>,
    _owner: Option<Arc<Owner>>,
}

impl std::fmt::Debug for NodeHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (id, address) = (self.shared.config.id, self.shared.address);
        f.debug_struct("NodeHandle").field("id", &id).field("address", &address).finish_non_exhaustive()
    }
}

impl NodeHandle {
    pub(crate) fn owning(shared: Arc<Shared>) -> Self {
        let owner = Arc::new(Owner(shared.commands.clone()));
        Self { shared, _owner: Some(owner) }
    }

    /// A handle that does not keep the node running: for what the node itself runs.
    pub(crate) fn visiting(shared: Arc<Shared>) -> Self {
        Self { shared, _owner: None }
    }

    /// Where timers and tasks for callers run who may have no runtime of their own.
    pub(crate) fn runtime(&self) -> &tokio::runtime::Handle {
        &self.shared.runtime
    }

    /// Proposes entries; they get contiguous indexes in one term. Resolves once they are durable on a quorum and
    /// applied on this node. A node that does not lead forwards to the leader; while there is none, it waits.
    ///
    /// Dropping the future leaves the outcome unknown: entries that were proposed may still be committed.
    ///
    /// # Errors
    /// See [`WriteError`]; only `Unknown` leaves open whether the entries are in the log.
    pub async fn propose(&self, proposals: Vec<Proposal>, timeout: Duration) -> Result<Proposed, WriteError> {
        self.propose_in(None, proposals, timeout).await
    }

    /// As [`NodeHandle::propose`]; with a term, only if this node itself leads in that term when it takes the
    /// entries, and `Unavailable` otherwise: they are never forwarded.
    ///
    /// # Errors
    /// See [`NodeHandle::propose`].
    pub async fn propose_in(
        &self,
        term: Option<Term>,
        proposals: Vec<Proposal>,
        timeout: Duration,
    ) -> Result<Proposed, WriteError> {
        let (turn, permit) = self.admit(&proposals, timeout).await?;
        let (reply, answer) = oneshot::channel();
        self.send(Command::Propose { term, proposals, timeout, reply, permit, framed: None })
            .map_err(|()| WriteError::Stopped(self.why_stopped()))?;
        drop(turn);
        answer.await.unwrap_or_else(|_dropped| Err(WriteError::Unknown(self.why_stopped())))
    }

    /// As [`NodeHandle::propose`], but resolves as soon as it is known where the entries stand: on the leader when
    /// it has framed them, on another node when they are committed. The outcome is awaited apart.
    ///
    /// # Errors
    /// See [`NodeHandle::propose`].
    pub async fn propose_early(
        &self,
        proposals: Vec<Proposal>,
        timeout: Duration,
    ) -> Result<(Framed, Outcome), WriteError> {
        let (turn, permit) = self.admit(&proposals, timeout).await?;
        let (reply, answer) = oneshot::channel();
        let (tell, told) = oneshot::channel();
        self.send(Command::Propose { term: None, proposals, timeout, reply, permit, framed: Some(tell) })
            .map_err(|()| WriteError::Stopped(self.why_stopped()))?;
        drop(turn);
        let mut outcome = Outcome { answer, done: None };
        match told.await {
            Ok(framed) => Ok((framed, outcome)),
            Err(_not_framed_here) => {
                let done = outcome.wait_mut().await?;
                let framed = Framed { first: done.first, positions: done.positions.clone() };
                outcome.done = Some(done);
                Ok((framed, outcome))
            }
        }
    }

    /// Calls `handler` with the present role before this returns, and with each change from then on, on the node's
    /// thread: it must not block. Changes in quick succession may be seen as one.
    pub fn on_role_change(&self, mut handler: impl FnMut(RoleChange) + Send + 'static) {
        let mut roles = self.shared.roles.clone();
        // Not left to the task: a node that stops at once would never run it.
        let present = *roles.borrow_and_update();
        handler(present);
        self.shared.runtime.spawn(async move {
            while roles.changed().await.is_ok() {
                let change = *roles.borrow_and_update();
                handler(change);
            }
        });
    }

    /// Runs a task on the node's thread: it must not block. It is dropped when the node stops.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let _detached = self.shared.runtime.spawn(task);
    }

    /// Takes the caller's share of the pending budget, waiting for it as long as the deadline allows. Calls that were
    /// first polled one after the other get theirs in this order: the turn is to be held until the entries are sent,
    /// since a waiter that was given its share has yet to run, and one that comes now would pass it.
    async fn admit(
        &self,
        proposals: &[Proposal],
        timeout: Duration,
    ) -> Result<(MutexGuard<'_, ()>, OwnedSemaphorePermit), WriteError> {
        let limit = usize::try_from(self.shared.config.max_pending_bytes).unwrap_or(Semaphore::MAX_PERMITS);
        let cost: usize = proposals.iter().map(|proposal| proposal.payload.len() + ENTRY_OVERHEAD_BYTES).sum();
        let share = u32::try_from(cost.min(limit)).unwrap_or(u32::MAX);
        let budget = Arc::clone(&self.shared.budget);
        if let Ok(turn) = self.shared.line.try_lock()
            && let Ok(permit) = Arc::clone(&budget).try_acquire_many_owned(share)
        {
            return Ok((turn, permit));
        }
        let waited = {
            let _context = self.shared.runtime.enter();
            tokio::time::timeout(timeout, async {
                let turn = self.shared.line.lock().await;
                budget.acquire_many_owned(share).await.map(|permit| (turn, permit))
            })
        };
        match waited.await {
            Ok(Ok(admitted)) => Ok(admitted),
            Ok(Err(_closed)) => Err(WriteError::Stopped(self.why_stopped())),
            Err(_elapsed) => Err(WriteError::Overloaded(format!("{limit} bytes of writes wait for their commit"))),
        }
    }

    /// Writes the state of this node down, as it does by itself from time to time, and resolves, with the last entry in
    /// it, once that is durable. Everything that was applied here when the call was made is in it. Writes and reads go
    /// on meanwhile. Dropping the future changes nothing.
    ///
    /// # Errors
    /// `NoState` when the log of this node is its data, `Failed`, `Stopped`.
    pub async fn snapshot(&self) -> Result<EntryId, SnapshotRequestError> {
        let stopped = || SnapshotRequestError::Stopped(self.why_stopped());
        let (reply, answer) = oneshot::channel();
        self.send(Command::Snapshot { reply }).map_err(|()| stopped())?;
        answer.await.unwrap_or_else(|_dropped| Err(stopped()))
    }

    /// A piece of one of this node's snapshots, as peers are given it: a manifest, or a chunk as it stands on the disk,
    /// verified. No faster than [`Config::snapshot_send_rate`] allows to all who ask.
    ///
    /// # Errors
    /// `Absent` when there is no such snapshot, or it cannot be read; `Stopped`.
    pub async fn snapshot_piece(&self, want: SnapshotWant) -> Result<Bytes, SnapshotRequestError> {
        let stopped = || SnapshotRequestError::Stopped(self.why_stopped());
        let (reply, answer) = oneshot::channel();
        self.send(Command::Piece { want, reply }).map_err(|()| stopped())?;
        answer.await.unwrap_or_else(|_dropped| Err(stopped()))
    }

    /// Committed records from `from` on: whole, verified, contiguous, at least one and about `max_bytes` of them.
    ///
    /// # Errors
    /// `OutOfRange` for an index that is not committed or no longer held, `Damaged`, `Stopped`.
    pub async fn entries(&self, from: Index, max_bytes: u64) -> Result<Vec<Bytes>, ReadError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Entries { from, max_bytes, reply }).map_err(|()| ReadError::Stopped(self.why_stopped()))?;
        answer.await.unwrap_or_else(|_dropped| Err(ReadError::Stopped(self.why_stopped())))
    }

    /// What the node was a moment ago. Does not wait.
    #[must_use]
    pub fn status(&self) -> NodeStatus {
        let mut status = self.shared.status.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(reason) = self.shared.stopped.borrow().as_ref() {
            status.error.get_or_insert_with(|| reason.clone());
        }
        status
    }

    /// Where a member is reached; `None` for a node that is no member. Asked for every answer to a client, so it
    /// copies nothing else of the status.
    pub(crate) fn address_of(&self, id: NodeId) -> Option<String> {
        let status = self.shared.status.lock().unwrap_or_else(PoisonError::into_inner);
        status.members.iter().find(|member| member.id == id).map(|member| member.address.clone())
    }

    /// The configuration the node was started with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// The address the node listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// Role, term and leader as they change. A slow reader sees the newest, not each.
    #[must_use]
    pub fn role_changes(&self) -> watch::Receiver<RoleChange> {
        self.shared.roles.clone()
    }

    /// The log on this node's disk; `None` before the cluster has formed. It may hold entries that are not committed.
    #[must_use]
    pub fn log(&self) -> Option<Arc<LogReader>> {
        self.shared.log.load_full()
    }

    /// The last index that this node knows to be committed.
    #[must_use]
    pub fn committed(&self) -> Index {
        Index(self.shared.committed.load(Ordering::Acquire))
    }

    /// Stops the node: lets writes under way finish for a moment, syncs, closes. Resolves once its files are closed.
    pub async fn shutdown(&self) {
        let _already_stopped = self.send(Command::Shutdown);
        self.stopped().await;
    }

    /// Resolves, with the reason, once the node has stopped.
    pub async fn stopped(&self) -> String {
        let mut stopped = self.shared.stopped.clone();
        match stopped.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_gone) => "the node's thread ended".to_owned(),
        }
    }

    fn send(&self, command: Command) -> Result<(), ()> {
        self.shared.commands.send(command).map_err(|_gone| ())
    }

    fn why_stopped(&self) -> String {
        self.shared.stopped.borrow().clone().unwrap_or_else(|| "it was shut down".to_owned())
    }
}
