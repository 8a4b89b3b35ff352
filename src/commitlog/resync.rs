//! Finding the next record behind a header that cannot be read.
//!
//! ```text
//!   good │ ??????????????????????????? │ good │ good         each byte offset is tried: a record stands there when
//!        from ──► ──► ──► ──► ──► ──► found                  the checksum of its header holds and the header names
//!                                                            the very position that belongs to this offset
//! ```
//! Checksum and position are 96 bits that chance does not bring together; bytes inside a payload that look like a
//! record of exactly this place would have to be made on purpose, and are still told by the records behind them,
//! which they do not fit. Deliberately absent: what is made of the gap; that is `walk`.

use super::format::{HEADER_BYTES, RecordError, RecordHeader};
use super::segment::header::SegmentHeader;
use crate::config::MAX_RECORD_BYTES_LIMIT;
use crate::env::File;
use crate::fields::Fields;
use crate::types::{EntryId, Index, Term};

/// How much is searched at once.
const WINDOW_BYTES: u64 = 256 << 10;
/// What is tried by itself where a window cannot be read: the least that a drive loses.
const SECTOR_BYTES: u64 = 512;
/// Where the position stands in a record's header.
const POSITION_AT: usize = 24;

/// Where to look, and what would fit there.
pub(super) struct Search<'a> {
    pub(super) file: &'a dyn File,
    pub(super) segment: &'a SegmentHeader,
    /// The entry before the gap.
    pub(super) after: EntryId,
    /// Where the gap starts.
    pub(super) from: u64,
    /// Where the records end.
    pub(super) limit: u64,
    /// Where the file ends, which may be before.
    pub(super) file_bytes: u64,
    /// The entry that ends there, when it is known.
    pub(super) last: Option<EntryId>,
}

impl Search<'_> {
    /// The first record behind the gap, and its offset.
    ///
    /// # Errors
    /// `Unsupported` when an intact record of a later release stands there.
    pub(super) fn run(&self) -> Result<Option<(u64, RecordHeader)>, RecordError> {
        let mut start = self.from;
        while let Some((here, header)) = self.next_header(start)? {
            if self.fits(here, &header) && self.followed(here, &header)? {
                return Ok(Some((here, header)));
            }
            start = here;
        }
        Ok(None)
    }

    /// The first header behind an offset that is whole and stands where it says.
    fn next_header(&self, behind: u64) -> Result<Option<(u64, RecordHeader)>, RecordError> {
        let mut start = behind + 1;
        let overlap = HEADER_BYTES as u64 - 1;
        let limit = self.limit.min(self.file_bytes);
        while start + (HEADER_BYTES as u64) <= limit {
            let end = (start + WINDOW_BYTES + overlap).min(limit);
            for (offset, bytes) in readable(self.file, start, end) {
                if let Some(found) = self.in_bytes(offset, &bytes)? {
                    return Ok(Some(found));
                }
            }
            start += WINDOW_BYTES;
        }
        Ok(None)
    }

    fn in_bytes(&self, offset: u64, bytes: &[u8]) -> Result<Option<(u64, RecordHeader)>, RecordError> {
        for (at, window) in bytes.windows(HEADER_BYTES).enumerate() {
            let here = offset + at as u64;
            let position = Fields::at(window, POSITION_AT).and_then(|mut fields| fields.position());
            if position != Some(self.segment.position_of(here)) {
                continue;
            }
            match RecordHeader::decode(window, MAX_RECORD_BYTES_LIMIT) {
                Ok(header) => return Ok(Some((here, header))),
                Err(later @ RecordError::Unsupported { .. }) => return Err(later),
                Err(_) => {}
            }
        }
        Ok(None)
    }

    /// At least one record is missing before this one, and all that are have room there.
    fn fits(&self, here: u64, header: &RecordHeader) -> bool {
        let in_order = header.id.term >= self.after.term && header.id.term > Term(0);
        let below = self.last.is_none_or(|last| header.id.index <= last.index && header.id.term <= last.term);
        in_order
            && below
            && has_room(self.after.index, self.from, header.id.index, here)
            && here + u64::from(header.length) <= self.limit
    }

    /// What stands behind it does not speak against it: the next record, or, when that is bad as well, the first good
    /// one after it, or the end.
    fn followed(&self, here: u64, header: &RecordHeader) -> Result<bool, RecordError> {
        let end = here + u64::from(header.length);
        if end == self.limit {
            return Ok(self.last.is_none_or(|last| last.index == header.id.index));
        }
        let mut bytes = [0; HEADER_BYTES];
        if self.file.read_exact_at(&mut bytes, end).is_ok()
            && let Ok(next) = RecordHeader::decode(&bytes, MAX_RECORD_BYTES_LIMIT)
        {
            return Ok(next.verify_order(header.id, header.end()).is_ok());
        }
        Ok(match (self.next_header(end)?, self.last) {
            (Some((further, next)), _) => has_room(header.id.index, end, next.id.index, further),
            (None, Some(last)) => has_room(header.id.index, end, last.index.next(), self.limit),
            (None, None) => true,
        })
    }
}

/// Between an entry that ends at offset `from` and a record at `to` at least one is missing, and all that are have room.
fn has_room(after: Index, from: u64, index: Index, to: u64) -> bool {
    let missing = index.get().saturating_sub(after.get()).saturating_sub(1);
    missing > 0 && missing.saturating_mul(HEADER_BYTES as u64) <= to - from
}

/// The bytes of a range that can be read, in pieces: all of it, unless a sector is lost.
fn readable(file: &dyn File, start: u64, end: u64) -> Vec<(u64, Vec<u8>)> {
    let mut whole = vec![0; usize::try_from(end - start).unwrap_or(0)];
    if file.read_exact_at(&mut whole, start).is_ok() {
        return vec![(start, whole)];
    }
    let mut pieces: Vec<(u64, Vec<u8>)> = Vec::new();
    let mut at = start;
    while at < end {
        let next = ((at / SECTOR_BYTES + 1) * SECTOR_BYTES).min(end);
        let mut sector = vec![0; usize::try_from(next - at).unwrap_or(0)];
        if file.read_exact_at(&mut sector, at).is_ok() {
            match pieces.last_mut() {
                Some((offset, bytes)) if *offset + bytes.len() as u64 == at => bytes.append(&mut sector),
                _ => pieces.push((at, sector)),
            }
        }
        at = next;
    }
    pieces
}
