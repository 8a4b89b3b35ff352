//! Refusals: a code for programs and a sentence for people, for each way in which a connection cannot be.

use std::fmt;

use thiserror::Error;

use crate::types::{ClusterId, Epoch, NodeId};

use super::{PROTOCOL_MAX, PROTOCOL_MIN};

/// Longest text of a refusal, in bytes: it must fit a handshake.
const MAX_TEXT_BYTES: usize = 1 << 10;

/// Why a connection was refused or closed, for programs. The numbers travel and are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u16)]
pub enum RefusalCode {
    /// A reason that only a later release knows; its text tells.
    Other = 0,
    /// The bytes are not what the protocol asks for.
    Malformed = 1,
    /// No protocol version is spoken by both.
    Protocol = 2,
    /// A kind of message or a version of it that this build does not know.
    Unsupported = 3,
    /// Another cluster.
    Cluster = 4,
    /// The node does not belong to a cluster yet, and the client asks for one.
    NotFormed = 5,
    /// The node that was dialled is another one than meant.
    Receiver = 6,
    /// The dialling node is no member.
    UnknownNode = 7,
    /// The member lives another life than it had at formation: it has lost its disk.
    Incarnation = 8,
    /// A node met itself, or a copy of its directory.
    SelfConnection = 9,
    /// The peer cannot read the records that this build writes.
    RecordVersion = 10,
    /// The peer cannot apply the commands that this build proposes.
    CommandVersion = 11,
    /// The lower node dials, the higher accepts.
    Direction = 12,
    /// The handshake was not finished in time.
    Timeout = 13,
    /// One end asked for the connection to be closed.
    Disconnected = 14,
    /// A peer broke a rule of the connection after the handshake.
    Violation = 15,
    /// The node was removed from the cluster.
    Removed = 16,
    /// The same cluster, in another life of it: it was recovered without one of the two.
    Epoch = 17,
}

impl RefusalCode {
    pub(super) const KNOWN: [Self; 17] = [
        Self::Malformed,
        Self::Protocol,
        Self::Unsupported,
        Self::Cluster,
        Self::NotFormed,
        Self::Receiver,
        Self::UnknownNode,
        Self::Incarnation,
        Self::SelfConnection,
        Self::RecordVersion,
        Self::CommandVersion,
        Self::Direction,
        Self::Timeout,
        Self::Disconnected,
        Self::Violation,
        Self::Removed,
        Self::Epoch,
    ];

    pub(super) fn from_number(number: u16) -> Self {
        Self::KNOWN.into_iter().find(|code| *code as u16 == number).unwrap_or(Self::Other)
    }
}

/// Why a connection was refused or closed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{text}")]
pub struct Refusal {
    /// For programs.
    pub code: RefusalCode,
    /// For people.
    pub text: String,
}

impl Refusal {
    /// A refusal; the text is cut to what a handshake can carry and freed of control characters, since it is
    /// printed at the other end.
    #[must_use]
    pub fn new(code: RefusalCode, text: impl fmt::Display) -> Self {
        let mut text: String = text.to_string().chars().filter(|character| !character.is_control()).collect();
        let end = (0..=MAX_TEXT_BYTES.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        Self { code, text }
    }

    pub(super) fn to_wire(&self) -> (u16, String) {
        (self.code as u16, self.text.clone())
    }

    /// What the other end said. It is told to people, so a refusal without words gets some.
    pub(super) fn from_wire((number, text): (u16, String)) -> Self {
        let code = RefusalCode::from_number(number);
        let said = Self::new(code, text);
        if !said.text.is_empty() {
            return said;
        }
        Self::new(code, format_args!("the other end refused the connection without a reason, by code {number}"))
    }

    pub(super) fn checksum() -> Self {
        Self::new(RefusalCode::Malformed, "malformed handshake: its checksum does not match")
    }

    pub(super) fn cut_short() -> Self {
        Self::new(RefusalCode::Malformed, "malformed handshake: it is cut short")
    }

    pub(in super::super) fn malformed(error: &dyn fmt::Display) -> Self {
        Self::new(RefusalCode::Malformed, error)
    }

    pub(in super::super) fn out_of_place() -> Self {
        Self::new(RefusalCode::Malformed, "the other end answered another question than the one asked")
    }

    pub(in super::super) fn timeout() -> Self {
        Self::new(RefusalCode::Timeout, "the handshake was not finished in time")
    }

    pub(super) fn unsupported(tag: u8, version: u8) -> Self {
        let text = format!("unsupported handshake: tag {tag}, version {version}; a newer release may have sent it");
        Self::new(RefusalCode::Unsupported, text)
    }

    pub(super) fn protocol(lowest: u16, highest: u16) -> Self {
        let text = format!(
            "no common protocol: one end speaks {lowest} to {highest}, the other {PROTOCOL_MIN} to {PROTOCOL_MAX}; \
             upgrade the older one"
        );
        Self::new(RefusalCode::Protocol, text)
    }

    pub(super) fn cluster(own: NodeId, own_cluster: ClusterId, peer: NodeId, cluster: ClusterId) -> Self {
        let text = format!(
            "node {own} belongs to cluster {own_cluster} and node {peer} to cluster {cluster}; check the addresses \
             in `cluster`"
        );
        Self::new(RefusalCode::Cluster, text)
    }

    pub(super) fn epoch(one: (NodeId, Epoch), other: (NodeId, Epoch)) -> Self {
        let ((behind, old), (_ahead, new)) = if one.1.number <= other.1.number { (one, other) } else { (other, one) };
        let text = if old.number == new.number {
            format!(
                "node {} and node {} were each made a cluster of their own by a recovery, both of epoch {old}: decide \
                 which one stays, stop the other and remove its directory",
                one.0, other.0
            )
        } else {
            format!(
                "this cluster was recovered (epoch {new}) without node {behind}, which is of epoch {old}: stop node \
                 {behind}, remove its directory, and let it join anew under a new number"
            )
        };
        Self::new(RefusalCode::Epoch, text)
    }

    pub(super) fn client_cluster(node: NodeId, own: ClusterId, meant: ClusterId) -> Self {
        let text = format!("node {node} belongs to cluster {own}, not to {meant}; check the endpoints");
        Self::new(RefusalCode::Cluster, text)
    }

    pub(super) fn not_formed(node: NodeId) -> Self {
        let text = format!("node {node} does not belong to a cluster yet; wait until all members have started");
        Self::new(RefusalCode::NotFormed, text)
    }

    pub(super) fn not_joined(node: NodeId) -> Self {
        let text = format!("node {node} still waits to be admitted by the nodes that its `join` names");
        Self::new(RefusalCode::NotFormed, text)
    }

    pub(super) fn receiver(found: NodeId, meant: NodeId) -> Self {
        let text = format!("this is node {found}, not node {meant}; check the addresses in `cluster`");
        Self::new(RefusalCode::Receiver, text)
    }

    pub(super) fn unknown_node(own: NodeId, peer: NodeId) -> Self {
        let text = format!("node {peer} is not a member in the eyes of node {own}; check `cluster` on both");
        Self::new(RefusalCode::UnknownNode, text)
    }

    pub(super) fn incarnation(own: NodeId, peer: NodeId) -> Self {
        let text = format!(
            "node {own} does not know this incarnation of node {peer}: its data directory is not the one that \
             joined the cluster; restore that directory, or add the node under a number that was never used"
        );
        Self::new(RefusalCode::Incarnation, text)
    }

    /// Also what members say when they close its connections.
    pub(in super::super) fn removed(own: NodeId, peer: NodeId) -> Self {
        let text = format!(
            "node {peer} was removed from the cluster, as node {own} knows; stop it and delete its data directory"
        );
        Self::new(RefusalCode::Removed, text)
    }

    pub(super) fn not_added(own: NodeId, peer: NodeId) -> Self {
        let text = format!("node {peer} is not a member in the eyes of node {own} yet; have the leader add it");
        Self::new(RefusalCode::UnknownNode, text)
    }

    pub(super) fn not_settled(own: NodeId) -> Self {
        let text = format!("a change of members is under way, as node {own} knows; ask again");
        Self::new(RefusalCode::NotFormed, text)
    }

    pub(super) fn self_connection(own: NodeId, peer: NodeId) -> Self {
        let text = format!(
            "node {own} has met itself under the address of node {peer}, or a copy of its own data directory; check \
             the addresses in `cluster`"
        );
        Self::new(RefusalCode::SelfConnection, text)
    }

    pub(super) fn record_version(own: NodeId, written: u16, peer: NodeId, read: u16) -> Self {
        let text = format!(
            "node {own} writes records of version {written} and node {peer} reads up to {read}; upgrade node {peer}"
        );
        Self::new(RefusalCode::RecordVersion, text)
    }

    pub(super) fn command_version(own: NodeId, written: u16, peer: NodeId, read: u16) -> Self {
        let text = format!(
            "node {own} proposes commands of version {written} and node {peer} applies up to {read}; upgrade node \
             {peer}"
        );
        Self::new(RefusalCode::CommandVersion, text)
    }

    pub(super) fn direction(own: NodeId, peer: NodeId) -> Self {
        let text = format!("node {peer} must wait to be dialled by node {own}: the lower node dials");
        Self::new(RefusalCode::Direction, text)
    }
}
