//! The bare log: append bytes, read them back by index or in order, hear of role changes.
//!
//! ```text
//!   append ──► leader frames (index, position known) ──► quorum has it synced ──► committed
//!                       │                                                           │
//!                 Batch::entries                                            Batch::committed
//! ```
//! For a message system the log entry *is* the message: nothing is stored twice, and what is read is a slice of the
//! log. The term in a role change is a fencing token: what is handed out under it can be told from what an earlier
//! or later leader hands out.

use bytes::Bytes;
use tokio::sync::watch;

use crate::commitlog::split;
use crate::config::Config;
use crate::error::{OpenError, ReadError, WriteError};
use crate::node::{
    Environment, Hooks, MemberChange, MembersError, Membership, NodeHandle, NodeStatus, Outcome, Proposal,
    TransferError,
};
use crate::state_machine::{Entry, NoMachine};
use crate::types::{EntryId, Index, Kind, NodeId, Position, RoleChange, Term};

use std::time::Duration;

/// How long a call waits when the handle was not given another timeout.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where an appended entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Its index and the term of the leader that took it.
    pub id: EntryId,
    /// Byte offset of its record in the whole log, the same on every replica.
    pub position: Position,
}

/// Entries that the leader has taken and that are on their way to a quorum.
#[derive(Debug)]
pub struct Batch {
    /// Where each entry stands, in the order they were given. Final only once committed: a leader that is lost
    /// before may lose them, and others may then stand there.
    pub entries: Vec<Appended>,
    outcome: Outcome,
}

impl Batch {
    /// Resolves once all entries are synced on a quorum and committed. Dropping it does not take them back.
    ///
    /// # Errors
    /// `Unknown` when nobody can say whether they are or will be.
    pub async fn committed(self) -> Result<(), WriteError> {
        self.outcome.wait().await.map(|_proposed| ())
    }
}

/// A replica of the log. Clones are handles to the same replica; dropping the last one stops it. Usable from any
/// thread and any async runtime.
#[derive(Clone, Debug)]
pub struct Ledger {
    node: NodeHandle,
    timeout: Duration,
}

impl Ledger {
    /// Opens the replica: recovers its directory, listens for peers, joins its cluster in the background.
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
        let node = NodeHandle::start(environment, config, NoMachine, Hooks::none()).await?;
        Ok(Self { node, timeout: DEFAULT_TIMEOUT })
    }

    /// The same replica with another timeout for each call.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { timeout, ..self.clone() }
    }

    /// Appends an entry; resolves once it is synced on a quorum and committed. A replica that does not lead hands
    /// it to the leader.
    ///
    /// # Errors
    /// See [`WriteError`]; dropping the future leaves the outcome unknown.
    pub async fn append(&self, payload: impl Into<Bytes>) -> Result<Appended, WriteError> {
        let batch = self.append_batch(vec![payload.into()]).await?;
        let entry = batch.entries.first().copied();
        batch.committed().await?;
        entry.ok_or_else(|| WriteError::Unknown("the leader did not say where the entry stands".to_owned()))
    }

    /// As [`Ledger::append`], but only if this replica itself leads in `term` when it takes the entry; it is never
    /// handed on. What a leader of one term decided to append can thereby not slip into a later one.
    ///
    /// # Errors
    /// `Unavailable`, and nothing was appended, when this replica does not lead in `term`; see [`WriteError`].
    pub async fn append_in(&self, term: Term, payload: impl Into<Bytes>) -> Result<Appended, WriteError> {
        let proposal = Proposal { channel: 0, payload: payload.into(), reserve: false };
        let done = self.node.propose_in(Some(term), vec![proposal], self.timeout).await?;
        match done.positions.first() {
            Some(position) => Ok(Appended { id: done.first, position: *position }),
            None => Err(WriteError::Unknown("the leader did not say where the entry stands".to_owned())),
        }
    }

    /// Appends entries one behind the other. On the leader it resolves as soon as their places are known, which is
    /// before they are committed; on another replica once they are committed.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn append_batch(&self, payloads: Vec<Bytes>) -> Result<Batch, WriteError> {
        let proposal = |payload| Proposal { channel: 0, payload, reserve: false };
        let proposals = payloads.into_iter().map(proposal).collect();
        let (framed, outcome) = self.node.propose_early(proposals, self.timeout).await?;
        let place = |(offset, position): (u64, &Position)| Appended {
            id: EntryId::new(framed.first.index.plus(offset), framed.first.term),
            position: *position,
        };
        Ok(Batch { entries: (0..).zip(&framed.positions).map(place).collect(), outcome })
    }

    /// The committed entry at `index`: an appended one, or one that the cluster itself made (see [`Entry::kind`]).
    /// Waits for this replica to hear of it when another replica already has it committed.
    ///
    /// # Errors
    /// `OutOfRange` when nothing is committed there, and see [`ReadError`].
    pub async fn get(&self, index: Index) -> Result<Entry, ReadError> {
        let entries = self.read(index, 1).await?;
        let out_of_range = ReadError::OutOfRange { asked: index, first: Index(1), last: self.node.committed() };
        entries.into_iter().next().ok_or(out_of_range)
    }

    /// Committed entries in order from `from` on: at least one, and about `max_bytes` of them. Payloads are slices
    /// of the log, not copies. Entries that were not appended by a caller are among them (see [`Entry::kind`]).
    ///
    /// # Errors
    /// `OutOfRange` when nothing is committed at `from`, and see [`ReadError`].
    pub async fn read(&self, from: Index, max_bytes: u64) -> Result<Vec<Entry>, ReadError> {
        if from > self.node.committed() {
            self.node.read_index(self.timeout).await?;
        }
        let mut entries = Vec::new();
        for piece in self.node.entries(from, max_bytes).await? {
            for record in split(&piece, self.node.config().max_record_bytes) {
                let record = record.map_err(|error| ReadError::Unavailable(error.to_string()))?;
                entries.push(record.to_entry());
            }
        }
        Ok(entries)
    }

    /// Calls `handler` with the present role before this returns, and with each change from then on, on the node's own
    /// thread: it must not block. Changes in quick succession may be seen as one. It is called until the replica stops.
    pub fn on_role_change(&self, handler: impl FnMut(RoleChange) + Send + 'static) {
        self.node.on_role_change(handler);
    }

    /// Role, term and leader as they change.
    #[must_use]
    pub fn role_changes(&self) -> watch::Receiver<RoleChange> {
        self.node.role_changes()
    }

    /// Changes who belongs to the cluster; see [`NodeHandle::change_members`].
    ///
    /// # Errors
    /// See [`MembersError`]; unlike an entry, it is not handed on by a replica that does not lead.
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

    /// What the replica was a moment ago. Does not wait.
    #[must_use]
    pub fn status(&self) -> NodeStatus {
        self.node.status()
    }

    /// Stops the replica and resolves once its files are closed.
    pub async fn shutdown(&self) {
        self.node.shutdown().await;
    }
}

/// True for an entry that a caller appended; the others are the cluster's own.
#[must_use]
pub fn is_appended(entry: &Entry) -> bool {
    entry.kind == Kind::Data
}
