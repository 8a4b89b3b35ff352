//! What both ends say before the first frame, and what they check.
//!
//! ```text
//!   dialling end                               accepting end
//!        ── hello: peer | client ─────────────────►   judge_hello
//!        ◄── welcome, or refusal with a reason ────
//!   judge_welcome
//!        ── hello: join ──────────────────────────►   judge_join (join.rs)
//!        ◄── admission, or refusal with a reason ──   and the end
//! ```
//!
//! Pure functions from bytes to verdicts: sockets and deadlines are with the callers. Layout in `docs/wire.md`. The
//! prefix, the protocol range and the refusal keep their layout in all releases, so that any two of them can tell
//! each other why they part.
//!
//! # Invariants
//! - At most [`MAX_HANDSHAKE_BYTES`] are read from a stranger, in all, before the verdict.
//! - Two ends that both belong to a cluster belong to the same one, in the same life of it. Where either belongs to none yet the connection
//!   is admitted, since formation has to pass through it, but only formation frames are sent or decoded on it.
//! - A peer that the members name presents the incarnation that they name. One that they do not name belongs to this
//!   cluster and was not removed from it, as far as is known here: it may have been added since (docs/decisions/0015). A
//!   directory that was wiped belongs to none. And it dialled *this* node on purpose.
//!
//! Deliberately absent: authentication. The `client` number is the slot where it will go.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::codec;
use crate::types::{ClusterId, Epoch, Incarnation, NodeId};

use super::{Channel, LocalIdentity};

mod join;
mod refusal;
#[cfg(test)]
mod tests;

pub use join::{Admission, JoinHello, judge_join};
pub use refusal::{Refusal, RefusalCode};

/// First bytes of either direction.
pub const MAGIC: [u8; 8] = *b"DLEDGER\0";
/// Magic, length and checksum of the content.
pub const PREFIX_BYTES: usize = 16;
/// The most that is read of a handshake, prefix included.
pub const MAX_HANDSHAKE_BYTES: usize = 4 << 10;
/// Oldest protocol this build speaks.
pub const PROTOCOL_MIN: u16 = 1;
/// Newest protocol this build speaks. The newest that both speak is used.
pub const PROTOCOL_MAX: u16 = 1;
/// Highest version of the record format that this build reads.
pub const RECORD_VERSION_READ: u16 = 1;
/// Version of the record format that this build writes; a peer must be able to read it.
const RECORD_VERSION_WRITTEN: u16 = 1;
/// Highest version of commands that this build applies.
pub const COMMAND_VERSION_READ: u16 = 1;
/// Version of commands that this build proposes; a peer must be able to apply it.
const COMMAND_VERSION_WRITTEN: u16 = 1;

const TAG_PEER: u8 = 1;
const TAG_CLIENT: u8 = 2;
const TAG_WELCOME: u8 = 3;
const TAG_REFUSAL: u8 = 4;
const TAG_JOIN: u8 = 5;
const TAG_ADMISSION: u8 = 6;
const CONTENT_VERSION: u8 = 1;
/// Tag, version, lowest and highest protocol.
const CONTENT_HEAD_BYTES: usize = 6;

/// How a node presents itself to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerHello {
    /// The sender's cluster, if it has one.
    pub cluster: Option<ClusterId>,
    /// Which life of it.
    pub epoch: Epoch,
    /// The sender.
    pub node: NodeId,
    /// The sender's life.
    pub incarnation: Incarnation,
    /// Whom the sender believes it has dialled.
    pub receiver: NodeId,
    /// What the connection is for.
    pub channel: Channel,
    /// Highest record version the sender reads.
    pub record_version: u16,
    /// Highest command version the sender applies.
    pub command_version: u16,
    /// Largest frame the sender accepts, in bytes.
    pub max_frame_bytes: u32,
}

/// How a client presents itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientHello {
    /// The slot for a client's identity; random or zero for now.
    pub client: u128,
    /// The cluster the client means; `None` takes any.
    pub cluster: Option<ClusterId>,
}

/// The first message on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hello {
    /// From a node.
    Peer(PeerHello),
    /// From a client.
    Client(ClientHello),
    /// From a node that wants to join.
    Join(JoinHello),
}

/// The answer that accepts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The protocol to be spoken.
    pub protocol: u16,
    /// The answering node's cluster, if it has one.
    pub cluster: Option<ClusterId>,
    /// Which life of it.
    pub epoch: Epoch,
    /// The answering node.
    pub node: NodeId,
    /// Its life.
    pub incarnation: Incarnation,
    /// Highest record version it reads.
    pub record_version: u16,
    /// Highest command version it applies.
    pub command_version: u16,
    /// Largest frame it accepts, in bytes.
    pub max_frame_bytes: u32,
}

/// The second message on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Go on with frames.
    Welcome(Welcome),
    /// A node that wants to join is a member. The connection is closed after this.
    Admission(Admission),
    /// The connection is closed after this.
    Refusal(Refusal),
}

/// Why the prefix is not one of this protocol. Nothing is answered to a stranger.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PrefixError {
    /// Other first bytes.
    #[error("the other end does not speak the dledger protocol")]
    Magic,
    /// More than [`MAX_HANDSHAKE_BYTES`].
    #[error("a handshake of {0} bytes is over the limit of {MAX_HANDSHAKE_BYTES}")]
    TooLong(u32),
}

/// Length and checksum of the content that follows a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// Bytes of content; the whole handshake is within [`MAX_HANDSHAKE_BYTES`].
    pub length: usize,
    checksum: u32,
}

/// Reads a prefix.
///
/// # Errors
/// When it is not of this protocol or announces too much.
pub fn read_prefix(prefix: &[u8; PREFIX_BYTES]) -> Result<Prefix, PrefixError> {
    let [magic @ .., l0, l1, l2, l3, c0, c1, c2, c3] = prefix;
    if *magic != MAGIC {
        return Err(PrefixError::Magic);
    }
    let announced = u32::from_le_bytes([*l0, *l1, *l2, *l3]);
    let length = usize::try_from(announced).unwrap_or(usize::MAX);
    if length > MAX_HANDSHAKE_BYTES - PREFIX_BYTES {
        return Err(PrefixError::TooLong(announced));
    }
    Ok(Prefix { length, checksum: u32::from_le_bytes([*c0, *c1, *c2, *c3]) })
}

/// The bytes of a hello, prefix included.
#[must_use]
pub fn encode_hello(hello: &Hello) -> Vec<u8> {
    match hello {
        Hello::Peer(peer) => seal(TAG_PEER, peer),
        Hello::Client(client) => seal(TAG_CLIENT, client),
        Hello::Join(join) => seal(TAG_JOIN, join),
    }
}

/// The bytes of an answer, prefix included.
#[must_use]
pub fn encode_answer(answer: &Answer) -> Vec<u8> {
    match answer {
        Answer::Welcome(welcome) => seal(TAG_WELCOME, welcome),
        Answer::Admission(admission) => seal(TAG_ADMISSION, admission),
        Answer::Refusal(refusal) => seal(TAG_REFUSAL, &refusal.to_wire()),
    }
}

/// Reads the content of a hello; the answer names the protocol to speak.
///
/// # Errors
/// The refusal to answer with.
pub fn decode_hello(prefix: Prefix, content: &[u8]) -> Result<(u16, Hello), Refusal> {
    let opened = open(prefix, content)?;
    let protocol = opened.protocol()?;
    let hello = match (opened.tag, opened.version) {
        (TAG_PEER, CONTENT_VERSION) => codec::decode("peer hello", opened.body).map(Hello::Peer),
        (TAG_CLIENT, CONTENT_VERSION) => codec::decode("client hello", opened.body).map(Hello::Client),
        (TAG_JOIN, CONTENT_VERSION) => codec::decode("join", opened.body).map(Hello::Join),
        (tag, version) => return Err(Refusal::unsupported(tag, version)),
    };
    Ok((protocol, hello.map_err(|error| Refusal::malformed(&error))?))
}

/// Reads the content of an answer.
///
/// # Errors
/// The answer cannot be understood; what the other end said in a refusal is an `Ok`.
pub fn decode_answer(prefix: Prefix, content: &[u8]) -> Result<Answer, Refusal> {
    let opened = open(prefix, content)?;
    if opened.tag == TAG_REFUSAL {
        let wire = codec::decode("refusal", opened.body).map_err(|error| Refusal::malformed(&error))?;
        return Ok(Answer::Refusal(Refusal::from_wire(wire)));
    }
    let protocol = opened.protocol()?;
    if (opened.tag, opened.version) == (TAG_ADMISSION, CONTENT_VERSION) {
        let admission = codec::decode("admission", opened.body).map_err(|error| Refusal::malformed(&error))?;
        return Ok(Answer::Admission(admission));
    }
    if (opened.tag, opened.version) != (TAG_WELCOME, CONTENT_VERSION) {
        return Err(Refusal::unsupported(opened.tag, opened.version));
    }
    let welcome: Welcome = codec::decode("welcome", opened.body).map_err(|error| Refusal::malformed(&error))?;
    if !(PROTOCOL_MIN..=protocol).contains(&welcome.protocol) {
        return Err(Refusal::protocol(welcome.protocol, welcome.protocol));
    }
    Ok(Answer::Welcome(welcome))
}

/// What this node says to `receiver`.
#[must_use]
pub fn peer_hello(identity: &LocalIdentity, receiver: NodeId, channel: Channel) -> Hello {
    Hello::Peer(PeerHello {
        cluster: identity.cluster,
        epoch: identity.epoch,
        node: identity.node,
        incarnation: identity.incarnation,
        receiver,
        channel,
        record_version: RECORD_VERSION_READ,
        command_version: COMMAND_VERSION_READ,
        max_frame_bytes: identity.max_frame_bytes,
    })
}

/// The accepting end's verdict on a hello.
///
/// # Errors
/// The refusal to answer with.
pub fn judge_hello(identity: &LocalIdentity, protocol: u16, hello: &Hello) -> Result<Answer, Refusal> {
    match hello {
        Hello::Client(client) => judge_client(identity, client)?,
        Hello::Join(join) => return judge_join(identity, join).map(Answer::Admission),
        Hello::Peer(peer) => {
            judge_life(identity, peer.node, peer.incarnation)?;
            if peer.receiver != identity.node {
                return Err(Refusal::receiver(identity.node, peer.receiver));
            }
            judge_cluster(identity, peer.node, (peer.cluster, peer.epoch))?;
            judge_member(identity, peer.node, peer.incarnation, peer.cluster)?;
            judge_versions(identity.node, peer.node, peer.record_version, peer.command_version)?;
            // One that is not known here cannot be dialled from here.
            if peer.node > identity.node && identity.members.contains_key(&peer.node) {
                return Err(Refusal::direction(identity.node, peer.node));
            }
        }
    }
    Ok(Answer::Welcome(Welcome {
        protocol,
        cluster: identity.cluster,
        epoch: identity.epoch,
        node: identity.node,
        incarnation: identity.incarnation,
        record_version: RECORD_VERSION_READ,
        command_version: COMMAND_VERSION_READ,
        max_frame_bytes: identity.max_frame_bytes,
    }))
}

/// The dialling end's verdict on the welcome of the node it dialled as `peer`.
///
/// # Errors
/// Why the connection must be closed.
pub fn judge_welcome(identity: &LocalIdentity, peer: NodeId, welcome: &Welcome) -> Result<(), Refusal> {
    judge_life(identity, welcome.node, welcome.incarnation)?;
    if welcome.node != peer {
        return Err(Refusal::receiver(welcome.node, peer));
    }
    judge_cluster(identity, peer, (welcome.cluster, welcome.epoch))?;
    judge_member(identity, peer, welcome.incarnation, welcome.cluster)?;
    judge_versions(identity.node, peer, welcome.record_version, welcome.command_version)
}

/// Both ends name the same cluster: more than formation may pass.
#[must_use]
pub fn is_formed(own: Option<ClusterId>, other: Option<ClusterId>) -> bool {
    own.is_some() && own == other
}

/// Whether a connection that was admitted when this node belonged to `cluster`, to `peer` in that life of it, is still to
/// be used now that `identity` says who this node is and whom it knows; `formed`: both ends named the same cluster then.
#[must_use]
pub fn suits(
    identity: &LocalIdentity,
    cluster: Option<ClusterId>,
    (peer, incarnation): (NodeId, Incarnation),
    formed: bool,
) -> bool {
    identity.cluster == cluster
        && match identity.members.get(&peer) {
            Some((_, Some(known))) => *known == incarnation,
            Some((_, None)) => cluster.is_none() || formed,
            None => formed && !identity.has_removed(peer),
        }
}

fn judge_client(identity: &LocalIdentity, client: &ClientHello) -> Result<(), Refusal> {
    match (identity.cluster, client.cluster) {
        (_, None) => Ok(()),
        (None, Some(_)) => Err(Refusal::not_formed(identity.node)),
        (Some(own), Some(meant)) if own == meant => Ok(()),
        (Some(own), Some(meant)) => Err(Refusal::client_cluster(identity.node, own, meant)),
    }
}

/// Meeting one's own incarnation is meeting oneself, or a copy of one's directory.
fn judge_life(identity: &LocalIdentity, peer: NodeId, incarnation: Incarnation) -> Result<(), Refusal> {
    if incarnation == identity.incarnation { Err(Refusal::self_connection(identity.node, peer)) } else { Ok(()) }
}

/// Before it is asked who is a member: whom a recovery left behind is none any more, and is to hear why.
fn judge_cluster(
    identity: &LocalIdentity,
    peer: NodeId,
    (cluster, epoch): (Option<ClusterId>, Epoch),
) -> Result<(), Refusal> {
    match (identity.cluster, cluster) {
        (Some(own), Some(other)) if own != other => Err(Refusal::cluster(identity.node, own, peer, other)),
        (Some(_), Some(_)) if identity.epoch != epoch => {
            Err(Refusal::epoch((identity.node, identity.epoch), (peer, epoch)))
        }
        (Some(_) | None, Some(_) | None) => Ok(()),
    }
}

/// An incarnation other than the one that is known is a node that has lost its disk, and with it what it promised. Where
/// none is known here, whoever names this cluster will do: it was admitted in the life that it presents, while a node
/// whose directory was wiped names none.
fn judge_member(
    identity: &LocalIdentity,
    peer: NodeId,
    incarnation: Incarnation,
    cluster: Option<ClusterId>,
) -> Result<(), Refusal> {
    let belongs = is_formed(identity.cluster, cluster);
    match identity.members.get(&peer) {
        _ if peer == identity.node || peer.is_zero() => Err(Refusal::self_connection(identity.node, peer)),
        Some((_, Some(known))) if *known == incarnation => Ok(()),
        Some((_, Some(_))) => Err(Refusal::incarnation(identity.node, peer)),
        Some((_, None)) if identity.cluster.is_none() || belongs => Ok(()),
        Some((_, None)) => Err(Refusal::incarnation(identity.node, peer)),
        None if identity.has_removed(peer) => Err(Refusal::removed(identity.node, peer)),
        None if belongs => Ok(()),
        // It waits to be admitted, and has no say in who is a member.
        None if identity.cluster.is_none() && identity.members.is_empty() => Err(Refusal::not_joined(identity.node)),
        None => Err(Refusal::unknown_node(identity.node, peer)),
    }
}

fn judge_versions(own: NodeId, peer: NodeId, record: u16, command: u16) -> Result<(), Refusal> {
    if record < RECORD_VERSION_WRITTEN {
        return Err(Refusal::record_version(own, RECORD_VERSION_WRITTEN, peer, record));
    }
    if command < COMMAND_VERSION_WRITTEN {
        return Err(Refusal::command_version(own, COMMAND_VERSION_WRITTEN, peer, command));
    }
    Ok(())
}

struct Opened<'a> {
    tag: u8,
    version: u8,
    protocol_min: u16,
    protocol_max: u16,
    body: &'a [u8],
}

impl Opened<'_> {
    /// The newest protocol that both ends speak.
    fn protocol(&self) -> Result<u16, Refusal> {
        let newest = self.protocol_max.min(PROTOCOL_MAX);
        if newest < self.protocol_min.max(PROTOCOL_MIN) {
            return Err(Refusal::protocol(self.protocol_min, self.protocol_max));
        }
        Ok(newest)
    }
}

fn open(prefix: Prefix, content: &[u8]) -> Result<Opened<'_>, Refusal> {
    if content.len() != prefix.length || crc32fast::hash(content) != prefix.checksum {
        return Err(Refusal::checksum());
    }
    let Some(([tag, version, min0, min1, max0, max1], body)) = content.split_first_chunk::<CONTENT_HEAD_BYTES>() else {
        return Err(Refusal::cut_short());
    };
    Ok(Opened {
        tag: *tag,
        version: *version,
        protocol_min: u16::from_le_bytes([*min0, *min1]),
        protocol_max: u16::from_le_bytes([*max0, *max1]),
        body,
    })
}

/// Prefix, head and body. A body that the codec cannot write is a bug of ours and leaves an empty body, which the
/// other end refuses.
fn seal<T: Serialize>(tag: u8, body: &T) -> Vec<u8> {
    let mut content = vec![tag, CONTENT_VERSION];
    content.extend_from_slice(&PROTOCOL_MIN.to_le_bytes());
    content.extend_from_slice(&PROTOCOL_MAX.to_le_bytes());
    if let Err(error) = codec::encode_into("handshake", body, &mut content) {
        tracing::error!(%error, "a handshake could not be encoded");
    }
    let mut bytes = Vec::with_capacity(PREFIX_BYTES + content.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&u32::try_from(content.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(&content).to_le_bytes());
    bytes.extend_from_slice(&content);
    bytes
}
