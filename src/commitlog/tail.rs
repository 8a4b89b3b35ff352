//! The last segment: where its records end, and how much of that is beyond doubt. Reads only.
//!
//! ```text
//!   records ──────────────┬──── durable end ───────┬──── end ──────── zeros, or what a torn write left
//!     a bad one: corrupt  │  a bad one: the end    │
//!       (R13)             │      (R16)             │
//! ```

use super::failure::Blame;
use super::format::RecordError;
use super::recovery::Cut;
use super::scan::{ScanError, Scanner, is_blank};
use super::segment::BLOCK;
use super::segment::footer::Summary;
use super::segment::slots::Slot;
use super::survey::{Segment, add, bad_record, empty_summary};
use crate::env::File;
use crate::error::OpenError;
use crate::simulation::plants::{Plant, Plants};
use crate::types::{EntryId, LogTime, Position};

/// Bytes read of a slot's block.
const SLOT_READ_BYTES: usize = 64;

/// The last segment as found.
pub(super) struct Tail {
    /// All good records.
    pub(super) summary: Summary,
    /// Where each of them ends.
    pub(super) ends: Vec<u32>,
    /// The newest slot.
    pub(super) slot: Slot,
    /// The last entry below the durable end.
    pub(super) durable: (EntryId, LogTime, Position),
    /// Number of records below the durable end.
    pub(super) durable_count: usize,
    /// What stands behind the last good record.
    pub(super) behind: Behind,
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
    let (header, path) = (&segment.header, &segment.paths.segment);
    let slot = read_slots(segment)?;
    let mut scanner = Scanner::new(&*segment.file, header, segment.length);
    scanner.believes_payloads = plants.has(Plant::TornTailAccepted);
    let mut tail = Tail {
        summary: empty_summary(header),
        ends: Vec::new(),
        slot,
        durable: (header.previous, header.previous_time, header.first_position),
        durable_count: 0,
        behind: Behind::Blank,
    };
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
        let summary = &tail.summary;
        if summary.end <= slot.durable_end {
            tail.durable = (summary.last, summary.last_time, summary.end);
            tail.durable_count = tail.ends.len();
        }
    };
    let end = header.offset_of(tail.summary.end).unwrap_or(0);
    if tail.summary.end < slot.durable_end {
        // R13
        let error = stopped_by.unwrap_or(ScanError::Record(RecordError::Incomplete {
            needed: slot.durable_end.get(),
            have: tail.summary.end.get(),
        }));
        return Err(bad_record(path, &tail.summary, header, error));
    }
    if (tail.durable.0, tail.durable.2) != (slot.last, slot.durable_end) {
        // R13
        let reason = format!("entry {} ends where entry {} should", tail.durable.0, slot.last);
        return Err(OpenError::Corrupt { path: path.clone(), offset: end, index: slot.last.index, reason });
    }
    tail.behind = match stopped_by {
        Some(error @ (ScanError::Io(_) | ScanError::Record(RecordError::Unsupported { .. }))) => {
            return Err(bad_record(path, &tail.summary, header, error));
        }
        Some(ScanError::Record(error)) if !is_blank(&*segment.file, end, segment.length).blame(path)? => {
            let (path, index) = (path.clone(), tail.summary.last.index.next());
            Behind::Torn(Cut { path, offset: end, index, reason: error.to_string() })
        }
        Some(ScanError::Record(_)) | None => Behind::Blank,
    };
    Ok(tail)
}

fn read_slots(segment: &Segment) -> Result<Slot, OpenError> {
    // R12: slots are written one at a time, so a torn write leaves one.
    newest_slot(segment).ok_or_else(|| OpenError::Corrupt {
        path: segment.paths.segment.clone(),
        offset: segment.header.slot_offset(0),
        index: segment.header.first(),
        reason: "neither progress slot can be read".to_owned(),
    })
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
