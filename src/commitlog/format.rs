//! The record: an entry as bytes, the same in the log file, on the wire and on every replica.
//!
//! ```text
//!   0        4        8       16      24         32      40     41      42        44             48
//!   ├────────┼────────┼───────┼───────┼──────────┼───────┼──────┼───────┼─────────┼──────────────┼─ ─ ─ ─ ─ ─
//!   │ CRC of │ length │ index │ term  │ position │ time  │ kind │ flags │ channel │ CRC of the   │ payload
//!   │ 4..48  │        │       │       │          │       │      │       │         │ payload      │
//!   └────────┴────────┴───────┴───────┴──────────┴───────┴──────┴───────┴─────────┴──────────────┴─ ─ ─ ─ ─ ─
//! ```
//! Header and payload have checksums of their own, so that a record with a rotten payload still says which index
//! and term it was. A leader frames once; followers verify and store the same bytes. `docs/format.md` holds the
//! layout, golden tests pin it. Deliberately absent: files, segments and what a payload means.

use bytes::Bytes;
use thiserror::Error;

use crate::fields::Fields;
use crate::state_machine::Entry;
use crate::types::{EntryId, Kind, LogTime, Position, RECORD_HEADER_BYTES, Term};

/// Bytes of a record before its payload.
pub const HEADER_BYTES: usize = RECORD_HEADER_BYTES;

/// [`HEADER_BYTES`] as it is added to lengths.
const HEADER_LENGTH: u32 = 48;

/// What stands before the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// Bytes of the whole record, header included.
    pub length: u32,
    /// Index and term.
    pub id: EntryId,
    /// Byte offset of the record in the whole log.
    pub position: Position,
    /// When the leader took the entry, by the log's own clock.
    pub time: LogTime,
    /// What the entry is for.
    pub kind: Kind,
    /// No flag is known yet: always 0.
    pub flags: u8,
    /// A number free for the embedder.
    pub channel: u16,
    /// CRC-32 of the payload.
    pub payload_crc: u32,
}

/// Why bytes are not a record that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Nothing but zeros where the header should stand.
    #[error("no record was written here")]
    Unwritten,
    /// The bytes end before the record does.
    #[error("the record is cut short: {have} bytes of {needed}")]
    Incomplete {
        /// Bytes that the record, or its header, needs.
        needed: u64,
        /// Bytes that there are.
        have: u64,
    },
    /// The header does not match its checksum.
    #[error("the record's header does not match its checksum")]
    HeaderChecksum,
    /// The payload does not match its checksum; the header does, and names the entry.
    #[error("the payload of entry {id} does not match its checksum")]
    PayloadChecksum {
        /// The entry.
        id: EntryId,
    },
    /// The length in an intact header is below a header's or above the limit.
    #[error("entry {id} claims {length} bytes, from {HEADER_LENGTH} to {limit} are allowed")]
    Length {
        /// The entry.
        id: EntryId,
        /// The length found.
        length: u32,
        /// The largest allowed.
        limit: u32,
    },
    /// An intact record of a kind, or with a flag, that this release does not know.
    #[error("entry {id} has kind {kind} and flags {flags}, which only a later release knows")]
    Unsupported {
        /// The entry.
        id: EntryId,
        /// The kind found.
        kind: u8,
        /// The flags found.
        flags: u8,
    },
    /// An intact record that does not follow the one before it.
    #[error("entry {found} at position {position} does not follow entry {after}")]
    Order {
        /// The entry before it.
        after: EntryId,
        /// The entry found.
        found: EntryId,
        /// The position found.
        position: Position,
    },
}

impl RecordHeader {
    /// The header as it stands before the payload.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[4..8].copy_from_slice(&self.length.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.id.index.get().to_le_bytes());
        bytes[16..24].copy_from_slice(&self.id.term.get().to_le_bytes());
        bytes[24..32].copy_from_slice(&self.position.get().to_le_bytes());
        bytes[32..40].copy_from_slice(&self.time.get().to_le_bytes());
        bytes[40] = self.kind as u8;
        bytes[41] = self.flags;
        bytes[42..44].copy_from_slice(&self.channel.to_le_bytes());
        bytes[44..48].copy_from_slice(&self.payload_crc.to_le_bytes());
        let crc = crc32fast::hash(&bytes[4..]);
        bytes[0..4].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the header at the start of `bytes` and verifies its checksum; the payload is not looked at.
    ///
    /// # Errors
    /// Any [`RecordError`] but those of payload and order. `max_record_bytes` bounds the length.
    pub fn decode(bytes: &[u8], max_record_bytes: u32) -> Result<Self, RecordError> {
        let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(RecordError::Incomplete { needed: HEADER_BYTES as u64, have: bytes.len() as u64 });
        };
        if header.iter().all(|byte| *byte == 0) {
            return Err(RecordError::Unwritten);
        }
        let (stored_crc, covered) = header.split_at(4);
        if stored_crc != crc32fast::hash(covered).to_le_bytes() {
            return Err(RecordError::HeaderChecksum);
        }
        Self::read_fields(covered, max_record_bytes).unwrap_or(Err(RecordError::HeaderChecksum))
    }

    /// `None` only when `bytes` are too few, which `decode` has ruled out.
    fn read_fields(bytes: &[u8], limit: u32) -> Option<Result<Self, RecordError>> {
        let mut fields = Fields::new(bytes);
        let length = fields.u32()?;
        let id = EntryId::new(fields.index()?, Term(fields.u64()?));
        let position = fields.position()?;
        let time = fields.time()?;
        let (kind, flags) = (fields.u8()?, fields.u8()?);
        let (channel, payload_crc) = (fields.u16()?, fields.u32()?);
        if length < HEADER_LENGTH || length > limit {
            return Some(Err(RecordError::Length { id, length, limit }));
        }
        Some(match Kind::from_byte(kind).filter(|_known| flags == 0) {
            Some(kind) => Ok(Self { length, id, position, time, kind, flags, channel, payload_crc }),
            None => Err(RecordError::Unsupported { id, kind, flags }),
        })
    }

    /// Where the record after this one starts.
    #[must_use]
    pub fn end(&self) -> Position {
        self.position.plus(u64::from(self.length))
    }

    /// Verifies that `record` (header and payload) carries the payload that this header names.
    pub(super) fn verify_payload(&self, record: &[u8]) -> Result<(), RecordError> {
        match record.get(HEADER_BYTES..) {
            Some(payload) if crc32fast::hash(payload) == self.payload_crc => Ok(()),
            _ => Err(RecordError::PayloadChecksum { id: self.id }),
        }
    }

    /// Verifies that this record may stand behind entry `after`, which ends at `end`.
    pub(super) fn verify_order(&self, after: EntryId, end: Position) -> Result<(), RecordError> {
        let follows = self.id.index == after.index.next()
            && self.id.term >= after.term
            && self.position == end
            && self.id.term.get() > 0;
        let wrong = RecordError::Order { after, found: self.id, position: self.position };
        if follows { Ok(()) } else { Err(wrong) }
    }
}

/// Appends one record to `out`: header, checksums, payload, in one pass over the payload's bytes in cache.
///
/// The caller has checked the payload against the record limit, which is far below 4 GiB.
pub fn frame(
    out: &mut Vec<u8>,
    id: EntryId,
    position: Position,
    time: LogTime,
    kind: Kind,
    channel: u16,
    payload: &[u8],
) {
    let header = RecordHeader {
        length: framed_length(payload.len()),
        id,
        position,
        time,
        kind,
        flags: 0,
        channel,
        payload_crc: crc32fast::hash(payload),
    };
    out.reserve(HEADER_BYTES + payload.len());
    out.extend_from_slice(&header.encode());
    out.extend_from_slice(payload);
}

/// Bytes of the record that holds a payload of `payload_bytes`.
#[must_use]
pub fn framed_length(payload_bytes: usize) -> u32 {
    u32::try_from(payload_bytes).unwrap_or(u32::MAX).saturating_add(HEADER_LENGTH)
}

/// A whole record whose checksums hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    header: RecordHeader,
    bytes: Bytes,
}

impl Record {
    /// Takes the record at the start of `bytes` and verifies both checksums. No byte is copied.
    ///
    /// # Errors
    /// Any [`RecordError`] but that of order.
    pub fn decode(bytes: &Bytes, max_record_bytes: u32) -> Result<Self, RecordError> {
        let header = RecordHeader::decode(bytes, max_record_bytes)?;
        let length = header.length as usize;
        let Some(whole) = bytes.get(..length) else {
            return Err(RecordError::Incomplete { needed: length as u64, have: bytes.len() as u64 });
        };
        header.verify_payload(whole)?;
        Ok(Self { header, bytes: bytes.slice(..length) })
    }

    /// What stands before the payload.
    #[must_use]
    pub fn header(&self) -> &RecordHeader {
        &self.header
    }

    /// The payload: a slice of the same bytes.
    #[must_use]
    pub fn payload(&self) -> Bytes {
        self.bytes.slice(HEADER_BYTES..)
    }

    /// The whole record.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The entry that a state machine is handed.
    #[must_use]
    pub fn to_entry(&self) -> Entry {
        let RecordHeader { id, position, time, kind, channel, .. } = self.header;
        Entry { id, position, time, kind, channel, payload: self.payload() }
    }
}

/// The records in `bytes`, one behind the other, both checksums and their order verified. Ends after the first
/// error; bytes that end inside a record are an error.
pub fn split(bytes: &Bytes, max_record_bytes: u32) -> impl Iterator<Item = Result<Record, RecordError>> {
    Split { rest: bytes.clone(), max_record_bytes, before: None, failed: false }
}

struct Split {
    rest: Bytes,
    max_record_bytes: u32,
    before: Option<(EntryId, Position)>,
    failed: bool,
}

impl Split {
    fn take(&mut self) -> Result<Record, RecordError> {
        let record = Record::decode(&self.rest, self.max_record_bytes)?;
        if let Some((after, end)) = self.before {
            record.header.verify_order(after, end)?;
        }
        self.before = Some((record.header.id, record.header.end()));
        self.rest = self.rest.slice(record.bytes.len()..);
        Ok(record)
    }
}

impl Iterator for Split {
    type Item = Result<Record, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.rest.is_empty() {
            return None;
        }
        let taken = self.take();
        self.failed = taken.is_err();
        Some(taken)
    }
}

/// Reads index, term, position, length and kind of the records in `bytes` without verifying anything: for bytes
/// that were framed or verified a moment ago.
pub(crate) fn walk_trusted(bytes: &[u8]) -> impl Iterator<Item = (RecordHeader, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let header = RecordHeader::read_fields(rest.get(4..HEADER_BYTES)?, u32::MAX)?.ok()?;
        let (record, behind) = rest.split_at_checked(header.length as usize)?;
        rest = behind;
        Some((header, record))
    })
}

#[cfg(test)]
mod tests;
