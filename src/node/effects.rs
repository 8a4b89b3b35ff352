//! What goes into a replica and what comes out: plain values, so that threads, sockets and the simulator are all
//! just ways of carrying them.

use bytes::Bytes;

use crate::commitlog::WriteBatch;
use crate::error::{ReadError, SnapshotRequestError, WriteError};
use crate::raft::Membership;
use crate::transport::{Channel, PeerFrame};
use crate::types::{EntryId, Index, NodeId, Position, ReadyNumber, RoleChange};

use super::members::{MembersError, TransferError};

/// The caller's name for a question to this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket(pub u64);

/// One entry to be proposed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// A number free for the embedder; it stands in the record header.
    pub channel: u16,
    /// The bytes of the entry.
    pub payload: Bytes,
    /// The entry frees space (a delete), so it is taken even when only the disk's reserve is left.
    pub reserve: bool,
}

/// Work for the disk thread. Tasks are done in the order they were made.
#[derive(Debug)]
pub(crate) struct DiskTask {
    /// The Ready whose vote and records these are.
    pub number: ReadyNumber,
    /// What to write, and to sync before the number is reported back.
    pub batch: WriteBatch,
}

/// A frame for a peer.
#[derive(Debug)]
pub(crate) struct Outbound {
    /// The receiver.
    pub to: NodeId,
    /// Which of its connections.
    pub channel: Channel,
    /// What to send.
    pub frame: PeerFrame,
}

/// The answer to a caller.
#[derive(Debug)]
pub(crate) enum Answer {
    /// To a write.
    Write(Result<Proposed, WriteError>),
    /// To a read: the index that is applied here and makes the read linearizable.
    Read(Result<Index, ReadError>),
    /// To a snapshot that was asked for: the last entry in it.
    Snapshot(Result<EntryId, SnapshotRequestError>),
    /// To a piece of one that was asked for.
    Piece(Result<Bytes, SnapshotRequestError>),
    /// To a change of members: who belongs to the cluster now.
    Members(Result<Membership, MembersError>),
    /// To a transfer of leadership.
    Transfer(Result<(), TransferError>),
}

/// What became of entries that were proposed together: they stand in the log one behind the other, in one term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposed {
    /// Index and term of the first entry.
    pub first: EntryId,
    /// Where each entry's record stands in the log.
    pub positions: Vec<Position>,
    /// What the state machine answered to each.
    pub answers: Vec<Bytes>,
}

impl Proposed {
    /// The index of the last entry.
    #[must_use]
    pub fn last(&self) -> Index {
        self.first.index.plus(self.positions.len().saturating_sub(1) as u64)
    }
}

/// Where proposed entries stand, before they are committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Framed {
    /// Index and term of the first.
    pub first: EntryId,
    /// Where each record stands in the log.
    pub positions: Vec<Position>,
}

/// Everything that a turn made a replica want. The order within each list is to be kept.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// For the disk thread.
    pub disk: Vec<DiskTask>,
    /// For the network.
    pub send: Vec<Outbound>,
    /// For callers who want to know where their entries stand as soon as that is known.
    pub framed: Vec<(Ticket, Framed)>,
    /// For callers.
    pub answers: Vec<(Ticket, Answer)>,
    /// Role changes, oldest first.
    pub roles: Vec<RoleChange>,
    /// Peers whose bytes made no sense, with the reason.
    pub disconnect: Vec<(NodeId, String)>,
    /// Drop whole segments from the front of the log, up to this index at most.
    pub purge: Option<Index>,
    /// There is more to apply: call again soon, after letting others run.
    pub more: bool,
}
