//! Reading a segment's records in order, by `pread`, verifying everything.
//!
//! Used where bytes may be bad: opening, rebuilding an index, offline inspection. Reads go through `pread` because
//! an unreadable sector is an error there and a signal through a map. Deliberately absent: deciding what a bad
//! record means; that is `recovery`.

use std::io;

use super::format::{HEADER_BYTES, RecordError, RecordHeader};
use super::segment::header::SegmentHeader;
use crate::config::MAX_RECORD_BYTES_LIMIT;
use crate::env::File;
use crate::types::{EntryId, Position};

/// How much is read at once, unless one record is larger.
const READ_BYTES: u64 = 256 << 10;

/// Why a scan cannot go on.
#[derive(Debug)]
pub(super) enum ScanError {
    /// The bytes are not the next record.
    Record(RecordError),
    /// The operating system cannot read them.
    Io(io::Error),
}

impl std::fmt::Display for ScanError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Record(error) => error.fmt(f),
            Self::Io(error) => error.fmt(f),
        }
    }
}

/// A record that was found.
#[derive(Debug)]
pub(super) struct Found<'a> {
    pub(super) header: RecordHeader,
    /// Where it stands in the file.
    pub(super) offset: u64,
    /// The whole record.
    pub(super) bytes: &'a [u8],
}

/// Walks the records of one segment.
pub(super) struct Scanner<'a> {
    file: &'a dyn File,
    /// Offset of the next record.
    offset: u64,
    /// Nothing is read from here on.
    limit: u64,
    after: EntryId,
    position: Position,
    buffer: Vec<u8>,
    buffer_start: u64,
    /// Payloads are not verified: a planted bug.
    pub(super) believes_payloads: bool,
    /// The header of the record that the last call passed over because its payload is bad.
    passed: Option<RecordHeader>,
}

impl<'a> Scanner<'a> {
    /// Starts at the first record; the file counts up to `limit`.
    pub(super) fn new(file: &'a dyn File, header: &SegmentHeader, limit: u64) -> Self {
        Self::at(file, limit, header.records_offset(), (header.previous, header.first_position))
    }

    /// Starts at `offset`, behind the entry that ends there at a position.
    pub(super) fn at(file: &'a dyn File, limit: u64, offset: u64, (after, position): (EntryId, Position)) -> Self {
        Self {
            file,
            offset,
            limit,
            after,
            position,
            buffer: Vec::new(),
            buffer_start: 0,
            believes_payloads: false,
            passed: None,
        }
    }

    /// Goes on at `offset`, behind the entry that ends there at a position.
    pub(super) fn jump(&mut self, offset: u64, (after, position): (EntryId, Position)) {
        (self.offset, self.after, self.position) = (offset, after, position);
    }

    /// The entry before the next record.
    pub(super) fn after(&self) -> EntryId {
        self.after
    }

    /// The header of the record whose payload was bad, when the last call has failed and gone on behind it.
    pub(super) fn passed(&self) -> Option<RecordHeader> {
        self.passed
    }

    /// Offset of the next record, or of what is not one.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next record, verified; `None` at the limit. After a payload that does not match or cannot be read, the
    /// scan may go on behind that record ([`Scanner::passed`]); after any other error it stays where it is.
    pub(super) fn next(&mut self) -> Result<Option<Found<'_>>, ScanError> {
        self.passed = None;
        if self.offset >= self.limit {
            return Ok(None);
        }
        self.fill(HEADER_BYTES as u64)?;
        let header = RecordHeader::decode(self.buffered(HEADER_BYTES as u64), MAX_RECORD_BYTES_LIMIT)
            .map_err(ScanError::Record)?;
        header.verify_order(self.after, self.position).map_err(ScanError::Record)?;
        let length = u64::from(header.length);
        let have = self.limit - self.offset;
        if length > have {
            return Err(ScanError::Record(RecordError::Incomplete { needed: length, have }));
        }
        let filled = self.fill(length);
        let offset = self.offset;
        self.jump(offset + length, (header.id, header.end()));
        self.passed = Some(header);
        filled?;
        let from = usize::try_from(offset - self.buffer_start).unwrap_or(usize::MAX);
        let bytes = self.buffer.get(from..from.saturating_add(header.length as usize)).unwrap_or_default();
        if !self.believes_payloads {
            header.verify_payload(bytes).map_err(ScanError::Record)?;
        }
        self.passed = None;
        Ok(Some(Found { header, offset, bytes }))
    }

    /// Makes the buffer hold `needed` bytes from `offset` on, or as many as there are.
    fn fill(&mut self, needed: u64) -> Result<(), ScanError> {
        let needed_end = self.offset.saturating_add(needed).min(self.limit);
        let buffer_end = self.buffer_start + self.buffer.len() as u64;
        if self.buffer_start <= self.offset && needed_end <= buffer_end {
            return Ok(());
        }
        let ample_end = needed_end.max(self.offset.saturating_add(READ_BYTES)).min(self.limit);
        // Bytes that cannot be read harm only the record that they belong to.
        self.read(ample_end).or_else(|_elsewhere| self.read(needed_end)).map_err(ScanError::Io)
    }

    fn read(&mut self, end: u64) -> io::Result<()> {
        self.buffer.resize(usize::try_from(end - self.offset).unwrap_or(0), 0);
        self.buffer_start = self.offset;
        let read = self.file.read_exact_at(&mut self.buffer, self.offset);
        if read.is_err() {
            self.buffer.clear();
        }
        read
    }

    fn buffered(&self, bytes: u64) -> &[u8] {
        let from = usize::try_from(self.offset - self.buffer_start).unwrap_or(usize::MAX);
        let rest = self.buffer.get(from..).unwrap_or_default();
        rest.get(..usize::try_from(bytes).unwrap_or(usize::MAX)).unwrap_or(rest)
    }
}

/// True when the file holds nothing but zeros from `offset` to `end`.
pub(super) fn is_blank(file: &dyn File, mut offset: u64, end: u64) -> io::Result<bool> {
    let mut buffer = Vec::new();
    while offset < end {
        let chunk = (end - offset).min(READ_BYTES);
        buffer.resize(usize::try_from(chunk).unwrap_or(0), 0);
        file.read_exact_at(&mut buffer, offset)?;
        if buffer.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        offset += chunk;
    }
    Ok(true)
}
