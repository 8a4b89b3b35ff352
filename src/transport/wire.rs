//! What the body of a peer frame means: tags, versions, and the checks that the shape alone cannot give.
//!
//! Each kind of body has a tag and its own version; the fixtures in `tests/fixtures/wire/` pin the bytes. A body of
//! an unknown tag or version is an error that closes the connection with that reason: a peer never guesses.
//! Deliberately absent: the frame around the body ([`super::frame`]) and clients' bodies (the server's protocol).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::codec::{self, DecodeError};
use crate::raft::message::Message;
use crate::types::{GroupId, Index};

use super::frame::{Frame, Head};
use super::{
    FormationMessage, ForwardError, Forwarded, ForwardedProposal, PeerBody, PeerFrame, RepairRefusal, RepairRequest,
    SnapshotRefusal, SnapshotRequest,
};

/// Tag of [`PeerBody::Raft`].
pub const TAG_RAFT: u8 = 1;
/// Tag of [`PeerBody::Formation`].
pub const TAG_FORMATION: u8 = 2;
/// Tag of [`PeerBody::Forward`].
pub const TAG_FORWARD: u8 = 3;
/// Tag of [`PeerBody::ForwardAnswer`].
pub const TAG_FORWARD_ANSWER: u8 = 4;
/// Tag of [`PeerBody::Repair`].
pub const TAG_REPAIR: u8 = 6;
/// Tag of [`PeerBody::RepairAnswer`].
pub const TAG_REPAIR_ANSWER: u8 = 7;
/// Tag of [`PeerBody::Snapshot`].
pub const TAG_SNAPSHOT: u8 = 8;
/// Tag of [`PeerBody::SnapshotAnswer`].
pub const TAG_SNAPSHOT_ANSWER: u8 = 9;
/// Tag of the last frame of a connection that is closed for a reason.
pub const TAG_GOODBYE: u8 = 5;
/// The version of every kind so far.
const VERSION: u8 = 1;

/// What a peer frame turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// For the node.
    Frame(PeerFrame),
    /// For the transport: the peer closes the connection and says why.
    Goodbye(String),
}

#[derive(Serialize, Deserialize)]
struct ForwardBody {
    number: u64,
    wait_ms: u32,
    /// CRC-32 of the attached bytes: unlike records, payloads and answers have none of their own, and a bit that
    /// flips on the way would be framed, committed and applied as if a caller had meant it.
    checksum: u32,
    proposals: Vec<ForwardedProposal>,
}

#[derive(Serialize, Deserialize)]
struct ForwardAnswerBody {
    number: u64,
    commit: Index,
    /// As in [`ForwardBody`].
    checksum: u32,
    result: Result<Forwarded, ForwardError>,
}

#[derive(Serialize, Deserialize)]
struct RepairAnswerBody {
    number: u64,
    result: Result<Index, RepairRefusal>,
}

#[derive(Serialize, Deserialize)]
struct SnapshotAnswerBody {
    number: u64,
    result: Result<(), SnapshotRefusal>,
}

/// Appends the encoded body of `frame` to `out` and returns what stands before it.
///
/// # Errors
/// `Malformed` when the attached bytes are not as many as the body says.
pub fn encode(frame: &PeerFrame, out: &mut Vec<u8>) -> Result<Head, DecodeError> {
    let attached = frame.attached.iter().map(Bytes::len).sum();
    let tag = match &frame.body {
        PeerBody::Raft(message) => {
            codec::encode_into("raft message", message, out)?;
            TAG_RAFT
        }
        PeerBody::Formation(message) => {
            codec::encode_into("formation message", message, out)?;
            TAG_FORMATION
        }
        PeerBody::Forward { number, wait_ms, proposals } => {
            check_sum("forwarded batch", proposals.iter().map(|proposal| proposal.bytes), attached)?;
            let checksum = checksum(&frame.attached);
            let body = ForwardBody { number: *number, wait_ms: *wait_ms, checksum, proposals: proposals.clone() };
            codec::encode_into("forwarded batch", &body, out)?;
            TAG_FORWARD
        }
        PeerBody::ForwardAnswer { number, commit, result } => {
            check_answers(result, attached)?;
            let checksum = checksum(&frame.attached);
            let body = ForwardAnswerBody { number: *number, commit: *commit, checksum, result: result.clone() };
            codec::encode_into("forward answer", &body, out)?;
            TAG_FORWARD_ANSWER
        }
        PeerBody::Repair(request) => {
            check_records("repair request", false, attached)?;
            codec::encode_into("repair request", request, out)?;
            TAG_REPAIR
        }
        PeerBody::RepairAnswer { number, result } => {
            check_records("repair answer", result.is_ok(), attached)?;
            codec::encode_into("repair answer", &RepairAnswerBody { number: *number, result: *result }, out)?;
            TAG_REPAIR_ANSWER
        }
        PeerBody::Snapshot(request) => {
            check_records("snapshot request", false, attached)?;
            codec::encode_into("snapshot request", request, out)?;
            TAG_SNAPSHOT
        }
        PeerBody::SnapshotAnswer { number, result } => {
            check_records("snapshot answer", result.is_ok(), attached)?;
            codec::encode_into("snapshot answer", &SnapshotAnswerBody { number: *number, result: *result }, out)?;
            TAG_SNAPSHOT_ANSWER
        }
    };
    Ok(Head { group: frame.group, tag, version: VERSION })
}

/// Appends the encoded body of a goodbye to `out` and returns what stands before it.
pub(super) fn encode_goodbye(reason: &str, out: &mut Vec<u8>) -> Result<Head, DecodeError> {
    codec::encode_into("goodbye", &reason, out)?;
    Ok(Head { group: GroupId::ZERO, tag: TAG_GOODBYE, version: VERSION })
}

/// Reads a peer frame.
///
/// # Errors
/// `Unsupported` for a tag or version of a later release; `Malformed` or `Trailing` when the body is not what its
/// tag says, or when the attached bytes are not as many as it says.
pub fn decode(frame: Frame) -> Result<PeerFrame, DecodeError> {
    let Frame { group, tag, version, body, attached } = frame;
    let tags = [
        TAG_RAFT,
        TAG_FORMATION,
        TAG_FORWARD,
        TAG_FORWARD_ANSWER,
        TAG_REPAIR,
        TAG_REPAIR_ANSWER,
        TAG_SNAPSHOT,
        TAG_SNAPSHOT_ANSWER,
    ];
    let known = tags.contains(&tag) && version == VERSION;
    let unsupported = DecodeError::Unsupported { what: "peer frame", tag, version };
    let body = match tag {
        _ if !known => return Err(unsupported),
        TAG_RAFT => PeerBody::Raft(codec::decode::<Message>("raft message", &body)?),
        TAG_FORMATION => PeerBody::Formation(codec::decode::<FormationMessage>("formation message", &body)?),
        TAG_FORWARD => {
            let ForwardBody { number, wait_ms, checksum, proposals } = codec::decode("forwarded batch", &body)?;
            verify("forwarded batch", checksum, &attached)?;
            check_sum("forwarded batch", proposals.iter().map(|proposal| proposal.bytes), attached.len())?;
            PeerBody::Forward { number, wait_ms, proposals }
        }
        TAG_FORWARD_ANSWER => {
            let ForwardAnswerBody { number, commit, checksum, result } = codec::decode("forward answer", &body)?;
            verify("forward answer", checksum, &attached)?;
            check_answers(&result, attached.len())?;
            PeerBody::ForwardAnswer { number, commit, result }
        }
        TAG_REPAIR => {
            check_records("repair request", false, attached.len())?;
            PeerBody::Repair(codec::decode::<RepairRequest>("repair request", &body)?)
        }
        TAG_REPAIR_ANSWER => {
            let RepairAnswerBody { number, result } = codec::decode("repair answer", &body)?;
            check_records("repair answer", result.is_ok(), attached.len())?;
            PeerBody::RepairAnswer { number, result }
        }
        TAG_SNAPSHOT => {
            check_records("snapshot request", false, attached.len())?;
            PeerBody::Snapshot(codec::decode::<SnapshotRequest>("snapshot request", &body)?)
        }
        TAG_SNAPSHOT_ANSWER => {
            let SnapshotAnswerBody { number, result } = codec::decode("snapshot answer", &body)?;
            check_records("snapshot answer", result.is_ok(), attached.len())?;
            PeerBody::SnapshotAnswer { number, result }
        }
        _ => return Err(unsupported),
    };
    let attached = if attached.is_empty() { Vec::new() } else { vec![attached] };
    Ok(PeerFrame { group, body, attached })
}

/// Reads a peer frame or a goodbye.
pub(super) fn receive(frame: Frame) -> Result<Received, DecodeError> {
    if frame.tag == TAG_GOODBYE && frame.version == VERSION {
        return codec::decode("goodbye", &frame.body).map(Received::Goodbye);
    }
    decode(frame).map(Received::Frame)
}

/// Cuts what travelled attached into its parts; without copying from the one piece that a received frame has, while a
/// frame that was handed over in memory may have several. `None` when the lengths do not add up to exactly what there
/// is; a decoded frame never gives that.
#[must_use]
pub fn split_attached(attached: &[Bytes], lengths: impl IntoIterator<Item = u32>) -> Option<Vec<Bytes>> {
    let mut rest = match attached {
        [whole] => whole.clone(),
        pieces => Bytes::from(pieces.concat()),
    };
    let mut parts = Vec::new();
    for length in lengths {
        let length = usize::try_from(length).ok().filter(|length| *length <= rest.len())?;
        parts.push(rest.split_to(length));
    }
    rest.is_empty().then_some(parts)
}

fn checksum(attached: &[Bytes]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for piece in attached {
        hasher.update(piece);
    }
    hasher.finalize()
}

fn verify(what: &'static str, claimed: u32, attached: &[u8]) -> Result<(), DecodeError> {
    if crc32fast::hash(attached) == claimed {
        return Ok(());
    }
    Err(DecodeError::Malformed { what, reason: "the attached bytes do not match their checksum".to_owned() })
}

fn check_answers(result: &Result<Forwarded, ForwardError>, attached: usize) -> Result<(), DecodeError> {
    let lengths = result.as_ref().map(|forwarded| forwarded.answer_lengths.as_slice()).unwrap_or_default();
    check_sum("forward answer", lengths.iter().copied(), attached)
}

/// Records, manifests and chunks are attached to what promises them, and to nothing else.
fn check_records(what: &'static str, promised: bool, attached: usize) -> Result<(), DecodeError> {
    if promised == (attached > 0) {
        return Ok(());
    }
    let reason = format!("{attached} bytes are attached where they are {}", if promised { "due" } else { "not" });
    Err(DecodeError::Malformed { what, reason })
}

fn check_sum(what: &'static str, lengths: impl Iterator<Item = u32>, attached: usize) -> Result<(), DecodeError> {
    let sum: u64 = lengths.map(u64::from).fold(0, u64::saturating_add);
    if u64::try_from(attached) == Ok(sum) {
        return Ok(());
    }
    Err(DecodeError::Malformed { what, reason: format!("{attached} bytes are attached where it names {sum}") })
}

#[cfg(test)]
mod tests;
