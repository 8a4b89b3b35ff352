//! Making a segment, so that it appears whole or not at all.
//!
//! ```text
//!   blank file (.tmp) ─► records, if any ─► header, both slots ─► sync ─► rename to .seg ─► sync directory
//! ```
//! The successor is made like this before its predecessor is sealed: a sealed last segment means a lost file.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use super::layout::SegmentName;
use super::live::Paths;
use super::segment::footer::Summary;
use super::segment::header::SegmentHeader;
use super::segment::slots::Slot;
use super::segment::{BLOCK, BLOCK_BYTES, block_aligned};
use crate::env::{Disk, File};
use crate::simulation::plants::{Plant, Plants};

/// Where the files of a segment are.
pub(super) fn paths(log_dir: &Path, name: SegmentName) -> Paths {
    Paths { segment: log_dir.join(name.segment_file()), index: log_dir.join(name.index_file()) }
}

/// Bytes that a file needs for everything up to the end of its records and the footer that will seal it.
pub(super) fn bytes_needed(records_end: u64, footer_body: u64) -> u64 {
    block_aligned(block_aligned(records_end).saturating_add(footer_body)).saturating_add(BLOCK)
}

/// Turns an unfinished file, whose records are in it, into a segment, durable when this returns. Answers its slot,
/// which may name the records: nobody reads it before the rename, and that comes after the sync.
pub(super) fn finish(
    disk: &dyn Disk,
    log_dir: &Path,
    unfinished: &Path,
    file: &Arc<dyn File>,
    header: &SegmentHeader,
    slot: Slot,
    plants: Plants,
) -> io::Result<Slot> {
    let newer = Slot { sequence: slot.sequence + 1, ..slot };
    file.write_all_at(&[IoSlice::new(&header.encode())], 0)?;
    write_slot(&**file, header, &slot)?;
    write_slot(&**file, header, &newer)?;
    file.sync()?;
    disk.rename(unfinished, &paths(log_dir, header.name()).segment)?;
    if !plants.has(Plant::NoDirectorySync) {
        disk.sync_dir(log_dir)?;
    }
    Ok(newer)
}

/// Writes a slot to its place; not synced.
pub(super) fn write_slot(file: &dyn File, header: &SegmentHeader, slot: &Slot) -> io::Result<()> {
    file.write_all_at(&[IoSlice::new(&slot.encode(header.generation))], header.slot_offset(slot.sequence))
}

/// Seals a segment. `written_end` is the offset behind the last byte that a reader may hold; the file may become
/// longer by the body. Answers the file's least length.
pub(super) fn seal(file: &dyn File, header: &SegmentHeader, summary: &Summary, written_end: u64) -> io::Result<u64> {
    let mut body = summary.encode_body();
    let body_offset = block_aligned(written_end);
    // Whole blocks: a sector that cannot be read can only be written as a whole.
    let mut head = summary.encode_head(header.generation, body_offset, &body);
    head.resize(BLOCK_BYTES, 0);
    body.resize(body.len().next_multiple_of(BLOCK_BYTES), 0);
    if !body.is_empty() {
        file.write_all_at(&[IoSlice::new(&body)], body_offset)?;
    }
    file.write_all_at(&[IoSlice::new(&head)], header.footer_offset())?;
    file.sync()?;
    Ok(body_offset + body.len() as u64)
}
