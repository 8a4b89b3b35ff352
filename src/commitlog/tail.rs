//! The last segment: where its records end, and how much of that is beyond doubt. Reads only.
//!
//! ```text
//!   records ──────────────┬──── durable end ───────┬──── end ──────── zeros, or what a torn write left
//!     a bad one: a hole   │  a bad one: the end    │
//!       (R13)             │      (R16)             │
//! ```

use super::format::RecordError;
use super::hole::Hole;
use super::recovery::Cut;
use super::roll::MAX_SEGMENT_BYTES;
use super::scan::{ScanError, Scanner, is_blank};
use super::segment::BLOCK;
use super::segment::footer::Summary;
use super::segment::slots::Slot;
use super::survey::{Segment, add, bad_record, end_offset};
use super::walk::{Limit, walk};
use crate::env::File;
use crate::error::OpenError;
use crate::simulation::plants::{Plant, Plants};
use crate::types::{EntryId, Index, LogTime, Position};

/// Bytes read of a slot's block.
pub(super) const SLOT_READ_BYTES: usize = 64;

/// The last segment as found.
pub(super) struct Tail {
    /// All records, bad ones below the durable end included.
    pub(super) summary: Summary,
    /// Where each of them ends; 0 inside a hole where that is not known.
    pub(super) ends: Vec<u32>,
    /// The newest slot.
    pub(super) slot: Slot,
    /// The last entry below the durable end.
    pub(super) durable: (EntryId, LogTime, Position),
    /// Number of records below the durable end.
    pub(super) durable_count: usize,
    /// What stands behind the last good record.
    pub(super) behind: Behind,
    /// Records below the durable end that cannot be read back.
    pub(super) holes: Vec<Hole>,
    /// A hole may hold a membership record.
    pub(super) hides_membership: bool,
    /// Why acknowledged records may have stood behind the last one that was found.
    pub(super) doubt: Option<String>,
}

/// What stands behind the last good record.
pub(super) enum Behind {
    /// Zeros, to the end of the file.
    Blank,
    /// Something else: a torn write.
    Torn(Cut),
}

/// Reads the last segment.
pub(super) fn read(segment: &Segment, plants: Plants) -> Result<Tail, OpenError> {
    let (header, path, file) = (&segment.header, &segment.paths.segment, &*segment.file);
    let mut slot = newest_slot(segment);
    if let Some(slot) = slot.as_mut().filter(|_slot| plants.has(Plant::CorruptionIsEnd)) {
        (slot.durable_end, slot.last) = (header.first_position, header.previous);
    }
    let limit = match slot {
        None => None,
        Some(slot) => {
            let offset = header.offset_of(slot.durable_end).filter(|offset| *offset <= MAX_SEGMENT_BYTES);
            let offset = offset.ok_or_else(|| misplaced(segment, &slot))?;
            Some(Limit { last: slot.last, offset })
        }
    };
    let walked = walk(file, path, header, limit, segment.length)?;
    let (last, time, end) = (walked.summary.last, walked.summary.last_time, walked.summary.end);
    let no_slot = "neither progress slot of the last segment can be read, so nobody knows how far it was durable";
    let found = Slot { sequence: 0, durable_end: end, last, committed: Index::ZERO };
    let tail = Tail {
        durable: (last, time, end),
        durable_count: walked.ends.len(),
        summary: walked.summary,
        ends: walked.ends,
        slot: slot.unwrap_or(found),
        behind: Behind::Blank,
        holes: walked.holes,
        hides_membership: walked.hides_membership,
        // R12
        doubt: slot.is_none().then(|| no_slot.to_owned()),
    };
    above(segment, tail, plants)
}

/// Reads on above the durable end, where a bad record is a torn write.
fn above(segment: &Segment, mut tail: Tail, plants: Plants) -> Result<Tail, OpenError> {
    let (header, path) = (&segment.header, &segment.paths.segment);
    let start = end_offset(header, tail.durable.2);
    let mut scanner = Scanner::at(&*segment.file, segment.length, start, (tail.durable.0, tail.durable.2));
    scanner.believes_payloads = plants.has(Plant::TornTailAccepted);
    let stopped_by = loop {
        match scanner.next() {
            Ok(Some(found)) => {
                add(&mut tail.summary, &found);
                let end = found.offset + u64::from(found.header.length);
                tail.ends.push(u32::try_from(end).unwrap_or(u32::MAX));
            }
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    let end = end_offset(header, tail.summary.end);
    tail.behind = match stopped_by {
        Some(error @ ScanError::Record(RecordError::Unsupported { .. })) => {
            return Err(bad_record(path, &tail.summary, header, error));
        }
        // R17: what cannot be read is not blank.
        Some(error) if !is_blank(&*segment.file, end, segment.length).unwrap_or(false) => {
            let (path, index) = (path.clone(), tail.summary.last.index.next());
            Behind::Torn(Cut { path, offset: end, index, reason: error.to_string() })
        }
        Some(_) | None => Behind::Blank,
    };
    Ok(tail)
}

/// R23
fn misplaced(segment: &Segment, slot: &Slot) -> OpenError {
    OpenError::Corrupt {
        path: segment.paths.segment.clone(),
        offset: segment.header.slot_offset(slot.sequence),
        index: slot.last.index,
        reason: format!("a slot names position {}, where the segment does not reach", slot.durable_end),
    }
}

/// The newest readable slot of a segment.
pub(super) fn newest_slot(segment: &Segment) -> Option<Slot> {
    let read = |slot: u64| -> Option<Slot> {
        let mut bytes = [0; SLOT_READ_BYTES];
        segment.file.read_exact_at(&mut bytes, segment.header.slot_offset(slot)).ok()?;
        Slot::decode(&bytes, segment.header.generation)
    };
    Slot::newest(read(0), read(1))
}

/// Writes again, and syncs, the zeros behind the last record: what the cache shows of them the disk may not hold.
pub(super) fn blank_again(file: &dyn File, from: u64, to: u64) -> std::io::Result<()> {
    super::prepare::fill(file, from, to.max(from.div_ceil(BLOCK) * BLOCK))
}
