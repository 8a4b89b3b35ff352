//! How nodes and clients reach each other: the trait, the words, and one implementation over TCP.
//!
//! ```text
//!   node loop ──send(peer, channel, frame)──► outbox ──vectored write──► socket ═══► peer
//!             ◄──TransportEvent (one channel)── decode ◄──everything that has arrived──┘
//!   clients   ═══► handshake ──► on_client(ClientConnection)        one listening address for both
//! ```
//!
//! - [`frame`]: the length-prefixed frame; sizes are checked before anything is allocated.
//! - [`wire`]: what a peer frame's body means. `docs/wire.md` is the only text of the layout.
//! - [`handshake`]: what is said and checked before the first frame; pure functions.
//! - [`connection`]: framed halves of one connection, as clients and the server use them.
//! - [`tcp`]: [`tcp::TcpTransport`], the connections of one node.
//!
//! # Invariants
//! - For each peer and channel [`TransportEvent::Connected`] and [`TransportEvent::Closed`] alternate, and a frame
//!   comes only between the two: nothing of an old connection follows the news of its successor.
//! - Frames of one connection arrive in the order in which they were sent, each at most once. A frame for a peer
//!   that is not connected is dropped: the core sends again what matters.
//! - Nothing a stranger sends costs more memory than the stated limits, and nothing is decoded before the handshake
//!   has accepted.
//!
//! # Deliberately absent
//! Encryption and authentication (the hello has a slot for a client's identity), retransmission, and any knowledge
//! of Raft beyond the sender and receiver of a message.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::WriteError;
use crate::raft::message::Message;
use crate::types::{ClusterId, EntryId, Epoch, GroupId, Incarnation, Index, NodeId, Position};

mod accept;
mod admission;
pub mod connection;
pub mod dial;
pub mod formation;
pub mod frame;
pub mod handshake;
mod links;
mod peer;
pub mod repair;
pub mod snapshot;
pub mod tcp;
#[cfg(test)]
mod tests;
pub mod wire;

pub use admission::Credit;
pub use connection::ClientConnection;
pub use formation::{BackupId, FormationMessage};
pub use handshake::{Admission, ClientHello, JoinHello, Refusal, RefusalCode};
pub use repair::{RepairRefusal, RepairRequest};
pub use snapshot::{SnapshotRefusal, SnapshotRequest, SnapshotWant};

/// Which of a peer's two connections: a record of many megabytes on one must not delay a heartbeat on the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Channel {
    /// Heartbeats, votes, read indexes: small, and never behind anything large.
    Control,
    /// Appends, forwarded proposals and other large things.
    Bulk,
}

impl Channel {
    /// Both channels.
    pub const ALL: [Self; 2] = [Self::Control, Self::Bulk];
}

/// What one node says to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerFrame {
    /// The group it concerns.
    pub group: GroupId,
    /// What is said.
    pub body: PeerBody,
    /// Raw bytes that travel behind the body, neither encoded nor copied nor under the frame's checksum: records
    /// carry their own, and a forward names theirs in its body. A received frame has none or one piece here.
    pub attached: Vec<Bytes>,
}

impl PeerFrame {
    /// A frame without attached bytes.
    #[must_use]
    pub const fn new(group: GroupId, body: PeerBody) -> Self {
        Self { group, body, attached: Vec::new() }
    }
}

/// The kinds of peer frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerBody {
    /// Core to core. Attached: the records of an append.
    Raft(Message),
    /// The forming of a cluster. Attached to `Form`: the whole genesis record.
    Formation(FormationMessage),
    /// Proposals of a follower's callers, for the leader. Attached: the payloads, one behind the other; the lengths
    /// in `proposals` add up to the attached bytes, which decoding checks.
    Forward {
        /// The sender's name for this batch; never used twice, not even by an earlier life of the sender.
        number: u64,
        /// Milliseconds for which the callers still wait.
        wait_ms: u32,
        /// One for each payload.
        proposals: Vec<ForwardedProposal>,
    },
    /// What became of a forwarded batch. Attached: the machine's answers, one behind the other; `answer_lengths`
    /// add up to the attached bytes, which decoding checks.
    ForwardAnswer {
        /// The batch.
        number: u64,
        /// The leader's committed index.
        commit: Index,
        /// Where the batch stands in the log, or why not.
        result: Result<Forwarded, ForwardError>,
    },
    /// A node asks for records that it cannot read back.
    Repair(RepairRequest),
    /// What a peer can do about it. Attached to `Ok`: the records, from the first one asked for on, one behind the other
    /// as they stand on disk; at least one.
    RepairAnswer {
        /// The request.
        number: u64,
        /// The answering node's committed index, or why it gives nothing.
        result: Result<Index, RepairRefusal>,
    },
    /// A node asks for a piece of a snapshot.
    Snapshot(SnapshotRequest),
    /// What a peer can do about it. Attached to `Ok`: the manifest or the chunk, as it stands on disk, which carries
    /// checksums of its own.
    SnapshotAnswer {
        /// The request.
        number: u64,
        /// Why it gives nothing.
        result: Result<(), SnapshotRefusal>,
    },
}

/// A proposal on its way to the leader; its payload is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardedProposal {
    /// The embedder's number, as in the record header.
    pub channel: u16,
    /// May use the reserve of a full disk.
    pub reserve: bool,
    /// Length of the payload in bytes.
    pub bytes: u32,
}

/// A forwarded batch that is committed: its entries have contiguous indexes in one term.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forwarded {
    /// The first entry.
    pub first: EntryId,
    /// Length in bytes of each attached answer.
    pub answer_lengths: Vec<u32>,
    /// Position of each record.
    pub positions: Vec<Position>,
}

/// Why a forwarded batch was not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ForwardError {
    /// Certainly not proposed: the receiver does not lead.
    NotLeader {
        /// Who does, as far as the receiver knows.
        leader: Option<NodeId>,
    },
    /// It may have happened or may yet happen.
    Unknown(String),
    /// Certainly not done.
    Refused(WireWriteError),
}

/// The certain refusals of [`WriteError`], as they travel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WireWriteError {
    /// No leader before the deadline.
    Unavailable(String),
    /// A limit forbids it.
    TooLarge(String),
    /// Too much is under way.
    Overloaded(String),
    /// That node's disk has no room beyond its reserve.
    DiskFull(NodeId),
    /// The node has stopped.
    Stopped(String),
}

impl From<WireWriteError> for WriteError {
    fn from(wire: WireWriteError) -> Self {
        match wire {
            WireWriteError::Unavailable(text) => Self::Unavailable(text),
            WireWriteError::TooLarge(text) => Self::TooLarge(text),
            WireWriteError::Overloaded(text) => Self::Overloaded(text),
            WireWriteError::DiskFull(node) => Self::DiskFull(node),
            // Another node than the one whose caller hears of it.
            WireWriteError::Stopped(text) => Self::Unavailable(format!("the leader has stopped: {text}")),
        }
    }
}

impl From<WriteError> for ForwardError {
    fn from(error: WriteError) -> Self {
        Self::Refused(match error {
            WriteError::Unknown(text) => return Self::Unknown(text),
            WriteError::Unavailable(text) => WireWriteError::Unavailable(text),
            WriteError::TooLarge(text) => WireWriteError::TooLarge(text),
            WriteError::Overloaded(text) => WireWriteError::Overloaded(text),
            WriteError::DiskFull(node) => WireWriteError::DiskFull(node),
            // No node says so: to it, what a machine answers is bytes.
            WriteError::Rejected(rejection) => WireWriteError::TooLarge(rejection.to_string()),
            WriteError::Stopped(text) => WireWriteError::Stopped(text),
        })
    }
}

/// Who this node is and whom it will talk to: what its handshakes say and check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalIdentity {
    /// The cluster; `None` until formation.
    pub cluster: Option<ClusterId>,
    /// Which life of it; `NONE` until formation.
    pub epoch: Epoch,
    /// This node.
    pub node: NodeId,
    /// This life of its directory.
    pub incarnation: Incarnation,
    /// All members, with address and incarnation. One without an incarnation may have any that belongs to this cluster, or,
    /// while `cluster` is `None`, any at all. An entry for this node is ignored. Who is not named here may belong to the
    /// cluster all the same: this node may lag behind.
    pub members: BTreeMap<NodeId, (String, Option<Incarnation>)>,
    /// The membership that `members` tells of is committed: whoever it names may join.
    pub settled: bool,
    /// Ranges of numbers of nodes that were removed, both ends included.
    pub removed: Vec<(NodeId, NodeId)>,
    /// Largest whole frame in bytes, from peers and from clients; at most [`frame::MAX_FRAME_BYTES`].
    pub max_frame_bytes: u32,
}

impl LocalIdentity {
    /// Whether the node was a member and is none any more.
    #[must_use]
    pub fn has_removed(&self, node: NodeId) -> bool {
        !self.members.contains_key(&node) && self.removed.iter().any(|(first, last)| *first <= node && node <= *last)
    }
}

/// News from the transport.
#[derive(Debug)]
pub enum TransportEvent {
    /// A connection is open; frames may be sent.
    Connected {
        /// The other node.
        peer: NodeId,
        /// Which connection.
        channel: Channel,
        /// The life in which the peer presented itself.
        incarnation: Incarnation,
        /// Both ends named the same cluster. When false only formation frames pass, in both directions; such a
        /// connection is closed and made again once this node, or the peer, belongs to a cluster.
        formed: bool,
    },
    /// That connection is gone. What was sent on it may or may not have arrived.
    Closed {
        /// The other node.
        peer: NodeId,
        /// Which connection.
        channel: Channel,
    },
    /// A frame arrived.
    Frame {
        /// The sender; for a Raft message the same as its `from`.
        from: NodeId,
        /// The connection it came on.
        channel: Channel,
        /// What was said.
        frame: PeerFrame,
        /// Gives the frame's bytes back to the connection's reading when dropped. Drop it when the frame is dealt
        /// with: while too many bytes are out, nothing more is read from that connection.
        credit: Credit,
    },
    /// A connection was refused by either side, or closed for a reason that one side gave.
    Refused {
        /// The other node, where known.
        peer: Option<NodeId>,
        /// Its address.
        address: String,
        /// Why.
        reason: Refusal,
        /// The other end says so of this one.
        theirs: bool,
    },
}

/// A node's way to its peers. Calls never block and never fail: what cannot be sent is dropped, and the events say
/// who is connected.
pub trait Transport {
    /// Queues a frame. Dropped when the peer is not connected, when the frame is larger than either side allows, or
    /// when the connection is for formation and the frame is not. A peer that lets too many bytes wait loses its
    /// connection.
    fn send(&mut self, to: NodeId, channel: Channel, frame: PeerFrame);

    /// Changes what handshakes say and check from now on. Connections that the new identity would not have made
    /// (another cluster id, a peer that is no member, another incarnation) are closed, after what was queued on them
    /// has been written.
    fn set_identity(&mut self, identity: LocalIdentity);

    /// Closes both connections of a peer and tells it why. The lower node dials again after a short wait.
    fn disconnect(&mut self, peer: NodeId, reason: &str);
}
