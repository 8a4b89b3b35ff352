//! From an index to the place of its record.
//!
//! While a segment takes records, a table in memory holds where each ends. Once it is sealed the table goes to a
//! file beside it, one slot of (offset, length) a record, which is then mapped: get by index stays O(1) without
//! holding a table for every record of a large log. The file is never synced and never trusted further than its
//! checksum: one that is absent, bad or of another generation is rebuilt from the record headers, and every record
//! that is read is verified to be the one that was asked for.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use super::layout::SegmentName;
use super::scan::Scanner;
use super::segment::header::SegmentHeader;
use super::walk::{Limit, walk};
use crate::env::{Disk, File, Map, OpenMode};
use crate::fields::{Block, Fields, PREFIX_BYTES, Prefix, prefix};

const MAGIC: &[u8; 8] = b"DLEDGIDX";
const VERSION: u32 = 1;
/// Bytes before the first slot.
const HEADER_BYTES: usize = 48;
/// Where the checksummed part starts.
const COVERED_FROM: usize = PREFIX_BYTES + 4;
/// Bytes of one slot.
const SLOT_BYTES: u64 = 8;
/// How much is verified at once.
const READ_BYTES: usize = 256 << 10;

/// Where the records of one segment stand.
pub(super) enum Offsets {
    /// Not needed yet.
    Unloaded,
    /// The offset at which each record ends, 0 where that is not known; the first starts at the segment's records.
    Table(Vec<u32>),
    /// The same on disk.
    File(IndexFile),
}

impl Offsets {
    /// Start and end of the `nth` record; `None` when it is not known.
    pub(super) fn bounds(&self, nth: u64, records_offset: u64) -> Option<(u64, u64)> {
        match self {
            Self::Unloaded => None,
            Self::Table(ends) => {
                let nth = usize::try_from(nth).ok()?;
                let end = known(*ends.get(nth)?)?;
                let start = match nth.checked_sub(1) {
                    Some(before) => known(*ends.get(before)?)?,
                    None => records_offset,
                };
                Some((start, end))
            }
            Self::File(file) => file.bounds(nth),
        }
    }

    /// Where the `nth` record ends; that of the last one in a hole is known although its start may not be.
    pub(super) fn end(&self, nth: u64) -> Option<u64> {
        match self {
            Self::Unloaded => None,
            Self::Table(ends) => known(*ends.get(usize::try_from(nth).ok()?)?),
            Self::File(file) => file.bounds(nth).map(|(_start, end)| end),
        }
    }
}

fn known(end: u32) -> Option<u64> {
    Some(u64::from(end)).filter(|end| *end > 0)
}

/// An index file that was verified and is mapped.
pub(super) struct IndexFile {
    map: Arc<dyn Map>,
    count: u64,
}

impl IndexFile {
    /// Opens and verifies the index of a segment; `None` when it is absent or cannot be used.
    pub(super) fn open(disk: &dyn Disk, path: &Path, segment: SegmentName) -> Option<Self> {
        let file = disk.open(path, OpenMode::Read).ok()?;
        let mut head = [0; HEADER_BYTES];
        file.read_exact_at(&mut head, 0).ok()?;
        if prefix(&head, MAGIC, VERSION) != Prefix::Ours {
            return None;
        }
        let mut fields = Fields::at(&head, PREFIX_BYTES)?;
        let (crc, _zero) = (fields.u32()?, fields.u32()?);
        let (generation, first, count) = (fields.u64()?, fields.index()?, fields.u64()?);
        if (SegmentName { first, generation }) != segment {
            return None;
        }
        let length = count.checked_mul(SLOT_BYTES)?.checked_add(HEADER_BYTES as u64)?;
        (length == file.len().ok()? && Self::checksum(&*file, length).ok()? == crc).then_some(())?;
        Some(Self { map: file.map(length).ok()?, count })
    }

    fn checksum(file: &dyn File, length: u64) -> io::Result<u32> {
        let mut hasher = crc32fast::Hasher::new();
        let mut buffer = vec![0; READ_BYTES];
        let mut offset = COVERED_FROM as u64;
        while offset < length {
            let chunk = usize::try_from(length - offset).unwrap_or(READ_BYTES).min(READ_BYTES);
            buffer.resize(chunk, 0);
            file.read_exact_at(&mut buffer, offset)?;
            hasher.update(&buffer);
            offset += chunk as u64;
        }
        Ok(hasher.finalize())
    }

    fn bounds(&self, nth: u64) -> Option<(u64, u64)> {
        if nth >= self.count {
            return None;
        }
        let slot = self.map.slice(HEADER_BYTES as u64 + nth * SLOT_BYTES, 8).ok()?;
        let mut fields = Fields::new(&slot);
        let (offset, length) = (u64::from(fields.u32()?), u64::from(fields.u32()?));
        Some((offset, offset + length))
    }
}

/// The bytes of an index file.
pub(super) fn encode(segment: &SegmentHeader, ends: &[u32]) -> Vec<u8> {
    let records_offset = u32::try_from(segment.records_offset()).unwrap_or(u32::MAX);
    let starts = std::iter::once(records_offset).chain(ends.iter().copied());
    let covered = Block::with_capacity(HEADER_BYTES + ends.len() * 8)
        .u32(0)
        .u64(segment.generation)
        .u64(segment.first().get())
        .u64(ends.len() as u64)
        .padded(HEADER_BYTES - COVERED_FROM);
    let covered =
        starts.zip(ends).fold(covered, |block, (start, end)| block.u32(start).u32(end.saturating_sub(start))).done();
    Block::with_prefix(MAGIC, VERSION).u32(crc32fast::hash(&covered)).raw(&covered).done()
}

/// Writes the index of a sealed segment. Neither synced nor atomic: a bad file is rebuilt.
pub(super) fn write(disk: &dyn Disk, path: &Path, segment: &SegmentHeader, ends: &[u32]) -> io::Result<()> {
    match disk.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let bytes = encode(segment, ends);
    disk.open(path, OpenMode::Create)?.write_all_at(&[IoSlice::new(&bytes)], 0)
}

/// Reads where each record ends, from the records themselves, up to `limit`; without one, as far as records follow each
/// other. A payload that cannot be read does not matter here.
pub(super) fn rebuild(
    file: &dyn File,
    path: &Path,
    segment: &SegmentHeader,
    limit: Option<Limit>,
    file_bytes: u64,
) -> Vec<u32> {
    if limit.is_some()
        && let Ok(walked) = walk(file, path, segment, limit, file_bytes)
    {
        return walked.ends;
    }
    let mut scanner = Scanner::new(file, segment, file_bytes);
    let mut ends = Vec::new();
    loop {
        let before = scanner.offset();
        let at_end = scanner.next().is_ok_and(|found| found.is_none());
        if at_end || scanner.offset() == before {
            return ends;
        }
        ends.push(u32::try_from(scanner.offset()).unwrap_or(u32::MAX));
    }
}
