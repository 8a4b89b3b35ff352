//! The frame: what travels on every connection once the handshake is done. Layout in `docs/wire.md`.
//!
//! ```text
//!   ┌────────┬──────────┬───────┬─────────────┬─────┬─────────┬──────┬──────────┬──────────────────┐
//!   │ length │ checksum │ group │ body length │ tag │ version │ zero │ body …   │ attached bytes … │
//!   └────────┴──────────┴───────┴─────────────┴─────┴─────────┴──────┴──────────┴──────────────────┘
//!    u32      u32        u64     u32           u8    u8        u16     under the   not under it:
//!    └─────────────── 24 bytes, under the checksum ───────────────┘   checksum    records have their own
//! ```
//!
//! # Invariants
//! - A length beyond the limit is refused from the first four bytes; memory grows with what has arrived, never with
//!   what is claimed.
//! - The stream may be cut anywhere: decoding gives the same frames for every way of splitting it.
//! - Body and attached bytes of a received frame are slices of the read buffer; attached bytes of a frame to send
//!   are written from where they lie.
//!
//! Deliberately absent: what tags mean ([`super::wire`] for peers, the server's protocol for clients).

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;

use crate::types::GroupId;

/// Bytes before the body.
pub const HEADER_BYTES: usize = 24;
/// No limit on a frame may be larger than this: the decoder of bodies stops there too.
pub const MAX_FRAME_BYTES: u32 = 64 << 20;
/// Attached pieces shorter than this are copied behind the body: an own entry in a vectored write costs more.
const COPY_BELOW_BYTES: usize = 512;
/// Room kept free in the read buffer before each reading.
const MIN_SPARE_BYTES: usize = 4 << 10;
/// How much the read buffer may grow at once, as a multiple of what has arrived.
const GROWTH: usize = 4;

/// Why bytes are not a frame, or cannot become one. The stream cannot be read on after any of these.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Longer than allowed.
    #[error("a frame of {length} bytes is over the limit of {limit}")]
    TooLong {
        /// Its length in bytes; saturated.
        length: u64,
        /// The limit in bytes.
        limit: u32,
    },
    /// The lengths contradict each other.
    #[error("malformed frame: length {length} cannot hold a header and a body of {body}")]
    Lengths {
        /// Claimed length of the frame.
        length: u32,
        /// Claimed length of the body.
        body: u32,
    },
    /// Header or body were altered on the way, or the sender does not speak this protocol.
    #[error("malformed frame: its checksum does not match")]
    Checksum,
    /// Two bytes that must be zero are not.
    #[error("malformed frame: its reserved bytes are not zero")]
    Reserved,
}

/// A received frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The group it concerns.
    pub group: GroupId,
    /// The kind of body.
    pub tag: u8,
    /// The version of that kind.
    pub version: u8,
    /// The encoded body: a slice of the read buffer.
    pub body: Bytes,
    /// What travelled behind the body: a slice of the read buffer. It keeps up to a whole buffer alive: copy what
    /// is to be kept for long.
    pub attached: Bytes,
}

impl Frame {
    /// Bytes of the whole frame.
    #[must_use]
    pub fn length(&self) -> usize {
        HEADER_BYTES + self.body.len() + self.attached.len()
    }
}

/// What a frame says of itself before its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The group it concerns.
    pub group: GroupId,
    /// The kind of body.
    pub tag: u8,
    /// The version of that kind.
    pub version: u8,
}

/// Frames to be written: a run of bytes with attached pieces in between, as a [`Buf`] for vectored writes.
///
/// `remaining` counts the bytes not yet written; no part is ever empty.
#[derive(Debug, Default)]
pub struct FrameBatch {
    parts: VecDeque<Bytes>,
    parts_bytes: usize,
    /// Behind all parts.
    tail: BytesMut,
}

impl FrameBatch {
    /// Appends a frame. The attached pieces are kept, not copied (but for tiny ones).
    ///
    /// # Errors
    /// `TooLong` when the frame would be longer than `limit`; nothing is appended then.
    pub fn push(&mut self, head: Head, body: &[u8], attached: &[Bytes], limit: u32) -> Result<(), FrameError> {
        let length = frame_length(body.len(), attached);
        let too_long = FrameError::TooLong { length: u64::try_from(length).unwrap_or(u64::MAX), limit };
        let (Ok(length), Ok(body_length)) = (u32::try_from(length), u32::try_from(body.len())) else {
            return Err(too_long);
        };
        if length > limit {
            return Err(too_long);
        }
        self.tail.extend_from_slice(&header(head, length, body_length, body));
        self.tail.extend_from_slice(body);
        for piece in attached {
            if piece.len() < COPY_BELOW_BYTES {
                self.tail.extend_from_slice(piece);
                continue;
            }
            if !self.tail.is_empty() {
                self.parts_bytes += self.tail.len();
                self.parts.push_back(self.tail.split().freeze());
            }
            self.parts_bytes += piece.len();
            self.parts.push_back(piece.clone());
        }
        Ok(())
    }
}

impl Buf for FrameBatch {
    fn remaining(&self) -> usize {
        self.parts_bytes + self.tail.len()
    }

    fn chunk(&self) -> &[u8] {
        self.parts.front().map_or(&self.tail, |part| part)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let runs = self.parts.iter().map(|part| &**part).chain((!self.tail.is_empty()).then_some(&*self.tail));
        let mut filled = 0;
        for (slot, run) in slices.iter_mut().zip(runs) {
            *slot = IoSlice::new(run);
            filled += 1;
        }
        filled
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(part) = self.parts.front_mut() {
            let step = count.min(part.len());
            part.advance(step);
            self.parts_bytes -= step;
            count -= step;
            if !part.is_empty() {
                return;
            }
            self.parts.pop_front();
        }
        self.tail.advance(count);
    }
}

/// Length of a frame with this body and these attached pieces, header included; saturates.
fn frame_length(body: usize, attached: &[Bytes]) -> usize {
    attached.iter().fold(HEADER_BYTES.saturating_add(body), |sum, piece| sum.saturating_add(piece.len()))
}

fn header(head: Head, length: u32, body_length: u32, body: &[u8]) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[0..4].copy_from_slice(&length.to_le_bytes());
    header[8..16].copy_from_slice(&head.group.get().to_le_bytes());
    header[16..20].copy_from_slice(&body_length.to_le_bytes());
    header[20] = head.tag;
    header[21] = head.version;
    let checksum = checksum(&header, body);
    header[4..8].copy_from_slice(&checksum.to_le_bytes());
    header
}

/// CRC-32 over the header, without the checksum's own four bytes, and the body.
fn checksum(header: &[u8; HEADER_BYTES], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&header[0..4]);
    hasher.update(&header[8..]);
    hasher.update(body);
    hasher.finalize()
}

/// The header of a frame under way, as claimed by the other side.
#[derive(Clone, Copy, Debug)]
struct Claim {
    length: usize,
    body_end: usize,
    head: Head,
}

/// Turns a byte stream into frames.
#[derive(Debug)]
pub struct FrameDecoder {
    buffer: BytesMut,
    /// Of the frame at the start of the buffer, once its header and body are there: both are checked once.
    claim: Option<Claim>,
    limit: u32,
    read_bytes: usize,
}

impl FrameDecoder {
    /// A decoder that refuses frames longer than `limit` bytes and asks for `read_bytes` of room at a time.
    #[must_use]
    pub fn new(limit: u32, read_bytes: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            claim: None,
            limit: limit.min(MAX_FRAME_BYTES),
            read_bytes: read_bytes.max(MIN_SPARE_BYTES),
        }
    }

    /// The longest frame that is accepted, in bytes.
    #[must_use]
    pub const fn limit(&self) -> u32 {
        self.limit
    }

    /// Changes the longest frame that is accepted, from the next frame on.
    pub fn set_limit(&mut self, limit: u32) {
        self.limit = limit.min(MAX_FRAME_BYTES);
    }

    /// Where to put bytes that arrive; has room for at least one. Grows only when full, and then by no more than
    /// a multiple of what has arrived of the frame under way.
    pub fn space(&mut self) -> &mut BytesMut {
        let arrived = self.buffer.len();
        let missing = self.claimed_length().unwrap_or(0).saturating_sub(arrived);
        let spare = self.buffer.capacity() - arrived;
        let enough = if missing == 0 { MIN_SPARE_BYTES } else { missing.min(MIN_SPARE_BYTES) };
        if spare < enough {
            self.buffer.reserve(missing.min(arrived.saturating_mul(GROWTH)).max(self.read_bytes));
        }
        &mut self.buffer
    }

    /// Bytes that have arrived and are not handed out yet; when 0 the stream may end here.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// Bytes of memory the buffer holds.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.buffer.capacity()
    }

    /// The next whole frame, if all of it has arrived.
    ///
    /// # Errors
    /// The stream is not one of frames within the limit; it cannot be read on.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some(claim) = self.claim()? else { return Ok(None) };
        if self.buffer.len() < claim.length {
            return Ok(None);
        }
        self.claim = None;
        let whole = self.buffer.split_to(claim.length).freeze();
        Ok(Some(Frame {
            group: claim.head.group,
            tag: claim.head.tag,
            version: claim.head.version,
            body: whole.slice(HEADER_BYTES..claim.body_end),
            attached: whole.slice(claim.body_end..),
        }))
    }

    /// The length claimed by the first four bytes, once the header is there and found possible.
    fn claimed_length(&self) -> Option<usize> {
        if let Some(claim) = &self.claim {
            return Some(claim.length);
        }
        let length = self.buffer.first_chunk::<4>().map(|bytes| u32::from_le_bytes(*bytes))?;
        (length <= self.limit).then(|| usize::try_from(length).unwrap_or(0))
    }

    /// Checks the lengths as soon as they are there, and the checksum as soon as the body is.
    fn claim(&mut self) -> Result<Option<Claim>, FrameError> {
        if let Some(claim) = self.claim {
            return Ok(Some(claim));
        }
        let Some(first) = self.buffer.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*first);
        if length > self.limit {
            return Err(FrameError::TooLong { length: u64::from(length), limit: self.limit });
        }
        let shortest = u32::try_from(HEADER_BYTES).unwrap_or(u32::MAX);
        if length < shortest {
            return Err(FrameError::Lengths { length, body: 0 });
        }
        let Some(header) = self.buffer.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let mut fields = &header[4..];
        let claimed_checksum = fields.get_u32_le();
        let group = GroupId(fields.get_u64_le());
        let body = fields.get_u32_le();
        let head = Head { group, tag: fields.get_u8(), version: fields.get_u8() };
        if fields.get_u16_le() != 0 {
            return Err(FrameError::Reserved);
        }
        let lengths = FrameError::Lengths { length, body };
        let (Ok(length), Ok(body)) = (usize::try_from(length), usize::try_from(body)) else { return Err(lengths) };
        let Some(body_end) = HEADER_BYTES.checked_add(body).filter(|end| *end <= length) else { return Err(lengths) };
        let Some(body) = self.buffer.get(HEADER_BYTES..body_end) else { return Ok(None) };
        if checksum(header, body) != claimed_checksum {
            return Err(FrameError::Checksum);
        }
        let claim = Claim { length, body_end, head };
        self.claim = Some(claim);
        Ok(Some(claim))
    }
}

#[cfg(test)]
mod tests;
