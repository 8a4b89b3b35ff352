//! Reading the log, from any thread.
//!
//! ```text
//!   writer ──publishes──► View { segments, each up to a limit } ◄──loads── LogReader (any number of clones)
//! ```
//! A read sees only published records and verifies the checksums of every byte it returns; what it returns are
//! slices of the map, which stay valid after the segment is cut or removed. Reads block on the disk when the bytes
//! are not in memory. Deliberately absent: waiting for records that are not there yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use bytes::Bytes;

use super::format::{HEADER_BYTES, Record, RecordError, RecordHeader};
use super::hole::Hole;
use super::known::Known;
use super::live::LiveSegment;
use super::space::{Space, SpaceCell};
use crate::config::MAX_RECORD_BYTES_LIMIT;
use crate::env::Disk;
use crate::error::ReadError;
use crate::simulation::plants::{Plant, Plants};
use crate::types::{EntryId, Index, Position};

/// A segment as part of the log: records above `limit` were truncated away.
#[derive(Clone)]
pub(super) struct Part {
    pub(super) segment: Arc<LiveSegment>,
    pub(super) limit: Index,
}

impl Part {
    /// A segment that nothing was cut from.
    pub(super) fn whole(segment: Arc<LiveSegment>) -> Self {
        Self { segment, limit: Index(u64::MAX) }
    }

    /// The last index to be read in it; the one before it when there is none.
    pub(super) fn last(&self) -> Index {
        self.segment.published().min(self.limit)
    }
}

/// The segments of the log in order, never empty once the log is open.
#[derive(Clone)]
pub(super) struct View {
    pub(super) base: EntryId,
    pub(super) base_position: Position,
    pub(super) parts: Vec<Part>,
}

impl View {
    fn last(&self) -> Index {
        self.parts.last().map_or(self.base.index, Part::last)
    }

    pub(super) fn part_of(&self, index: Index) -> Option<&Part> {
        let behind = self.parts.partition_point(|part| part.segment.header.first() <= index);
        self.parts.get(behind.checked_sub(1)?).filter(|part| index <= part.last())
    }

    /// Where the record of an index ends. Where the segment does not tell, because the log was cut inside a hole of it, the
    /// next one does.
    pub(super) fn end_of(&self, disk: &dyn Disk, index: Index) -> Option<Position> {
        if index == self.base.index {
            return Some(self.base_position);
        }
        let segment = &*self.part_of(index)?.segment;
        let behind = || self.parts.iter().map(|part| &part.segment.header).find(|next| next.previous.index == index);
        let end = segment.end(disk, index).map(|end| segment.header.position_of(end));
        end.or_else(|| behind().map(|next| next.first_position))
    }

    fn part_at(&self, position: Position) -> Option<&Part> {
        let behind = self.parts.partition_point(|part| part.segment.header.first_position <= position);
        self.parts.get(behind.checked_sub(1)?)
    }
}

/// What the writer shares with readers.
pub(super) struct Shared {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) view: ArcSwap<View>,
    pub(super) space: SpaceCell,
    pub(super) disk_bytes: AtomicU64,
    pub(super) known: Known,
    pub(super) plants: Plants,
}

impl Shared {
    /// Whether a sound record is the one that belongs in its place. A drive that misdirects a write, or loses one, shows
    /// records there whose checksums hold.
    fn belongs(&self, header: &RecordHeader, segment: &LiveSegment, index: Index, offset: u64) -> bool {
        segment.holds_at(offset, index, header) || self.plants.has(Plant::PlaceNotChecked)
    }
}

/// Reads published records. Cheap to clone; every method may be called from any thread.
#[derive(Clone)]
pub struct LogReader {
    pub(super) shared: Arc<Shared>,
}

impl LogReader {
    /// The record of an index. O(1); copies no byte; verifies both checksums. Blocks on the disk.
    ///
    /// # Errors
    /// `OutOfRange` when the log does not hold the index, `Damaged` when its bytes are bad or cannot be read.
    pub fn read(&self, index: Index) -> Result<Record, ReadError> {
        let view = self.shared.view.load();
        let part = view.part_of(index).ok_or_else(|| out_of_range(&view, index))?;
        let segment = &*part.segment;
        if let Some(hole) = self.shared.known.holding(index) {
            return Err(hole.damage(index));
        }
        let (start, end) = self.bounds(segment, index)?;
        let _verifying = segment.read_gate();
        let record = take(segment, index, start, end)?;
        if self.shared.belongs(record.header(), segment, index, start) {
            Ok(record)
        } else {
            Err(misplaced(segment, index, start, record.header().id))
        }
    }

    /// Whole records from an index on, one behind the other, both checksums verified: at least one, then as many as
    /// fit `max_bytes`. Each element holds the records of one segment without a copy. Blocks on the disk.
    ///
    /// # Errors
    /// As for [`LogReader::read`]; a bad record behind a good one ends the answer before it.
    pub fn read_from(&self, index: Index, max_bytes: u64) -> Result<Vec<Bytes>, ReadError> {
        let view = self.shared.view.load();
        let hole = self.shared.known.from(index);
        if let Some(hole) = hole.as_ref().filter(|hole| hole.holds(index) && view.part_of(index).is_some()) {
            return Err(hole.damage(index));
        }
        let last = view.last().min(hole.map_or(Index(u64::MAX), |hole| hole.first.prev()));
        let (mut next, mut room, mut pieces) = (index, max_bytes, Vec::new());
        loop {
            let Some(part) = view.part_of(next) else {
                return if pieces.is_empty() { Err(out_of_range(&view, index)) } else { Ok(pieces) };
            };
            match self.read_part(part, (next, last), room, pieces.is_empty()) {
                Ok((piece, reached)) if !piece.is_empty() => {
                    room = room.saturating_sub(piece.len() as u64);
                    pieces.push(piece);
                    next = reached.next();
                    if reached < part.last() || next > last || room == 0 {
                        return Ok(pieces);
                    }
                }
                Err(error) if pieces.is_empty() => return Err(error),
                Ok(_) | Err(_) => return Ok(pieces),
            }
        }
    }

    /// The record that starts at a position. O(1). Blocks on the disk.
    ///
    /// # Errors
    /// `OutOfRange` (with the index read as 0) when the log has no such position; `Damaged` when no good record
    /// starts there.
    pub fn read_at(&self, position: Position) -> Result<Record, ReadError> {
        let view = self.shared.view.load();
        let outside = || out_of_range(&view, Index::ZERO);
        let segment = &*view.part_at(position).ok_or_else(outside)?.segment;
        let end = view.last();
        let log_end = self.end_of(end).ok_or_else(outside)?;
        if position >= log_end {
            return Err(outside());
        }
        if let Some(hole) = self.shared.known.around(position) {
            return Err(hole.damage(hole.first));
        }
        let start = segment.header.offset_of(position).ok_or_else(outside)?;
        let _verifying = segment.read_gate();
        let header = read_header(segment, Index::ZERO, start)?;
        let right = self.shared.belongs(&header, segment, header.id.index, start);
        if !right || view.part_of(header.id.index).is_none() {
            return Err(misplaced(segment, header.id.index, start, header.id));
        }
        take(segment, header.id.index, start, start + u64::from(header.length))
    }

    /// Where the record after `index` starts. `None` outside the log, or when a damaged record hides it.
    #[must_use]
    pub fn end_of(&self, index: Index) -> Option<Position> {
        self.shared.view.load().end_of(&*self.shared.disk, index)
    }

    /// The first index in the log, which a purge moves; one above [`LogReader::last`] when the log is empty.
    #[must_use]
    pub fn first(&self) -> Index {
        self.shared.view.load().base.index.next()
    }

    /// The last published index; the base's when the log is empty.
    #[must_use]
    pub fn last(&self) -> Index {
        self.shared.view.load().last()
    }

    /// Where the next record will start.
    #[must_use]
    pub fn end(&self) -> Position {
        let view = self.shared.view.load();
        let behind = view.parts.last().filter(|part| part.segment.published() == part.segment.header.previous.index);
        match behind {
            Some(empty) => empty.segment.header.first_position,
            None => self.end_of(view.last()).unwrap_or(view.base_position),
        }
    }

    /// The last index before the segment in which a position stands; the base's when there is none before it. What is
    /// purged up to there leaves everything from that position on.
    #[must_use]
    pub fn last_before_segment_of(&self, position: Position) -> Index {
        let view = self.shared.view.load();
        let part = view.parts.iter().rev().find(|part| part.segment.header.first_position <= position);
        part.map_or(view.base.index, |part| part.segment.header.previous.index)
    }

    /// Bytes that the log's files take on disk, the reserve included.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        self.shared.disk_bytes.load(Ordering::Relaxed)
    }

    /// The records that are known to be unreadable, in index order. A read of one of them is answered from here.
    #[must_use]
    pub fn holes(&self) -> Vec<Hole> {
        self.shared.known.all().to_vec()
    }

    /// Whether there is room for more.
    #[must_use]
    pub fn space(&self) -> Space {
        self.shared.space.get()
    }

    /// The file that holds the record of an index, with the offsets of its first byte and behind its last.
    #[cfg(feature = "simulation")]
    pub(crate) fn place_of(&self, index: Index) -> Option<(std::path::PathBuf, u64, u64)> {
        let view = self.shared.view.load();
        let segment = &view.part_of(index)?.segment;
        let (start, end) = segment.bounds(&*self.shared.disk, index)?;
        Some((segment.path.clone(), start, end))
    }

    fn bounds(&self, segment: &LiveSegment, index: Index) -> Result<(u64, u64), ReadError> {
        segment
            .bounds(&*self.shared.disk, index)
            .ok_or_else(|| damaged(segment, index, 0, "a damaged record before it hides where it stands".to_owned()))
    }

    /// Records of one segment from `index` on; empty when the first does not fit and need not be taken.
    fn read_part(
        &self,
        part: &Part,
        (index, last): (Index, Index),
        room: u64,
        at_least_one: bool,
    ) -> Result<(Bytes, Index), ReadError> {
        let segment = &*part.segment;
        let (start, first_end) = self.bounds(segment, index)?;
        let (_start, last_end) = self.bounds(segment, part.last().min(last))?;
        if first_end - start > room && !at_least_one {
            return Ok((Bytes::new(), index));
        }
        let end = first_end.max(last_end.min(start.saturating_add(room)));
        let _verifying = segment.read_gate();
        let bytes = segment.slice(start, end).map_err(|error| damaged(segment, index, start, error.to_string()))?;
        let (mut taken, mut reached) = (0, index.prev());
        while let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
            match self.verify_first(segment, rest, reached.next(), start + taken as u64) {
                Ok(length) => taken += length,
                Err(Unfit::CutShort) if taken > 0 => break,
                Err(Unfit::Bad(_)) if taken > 0 => break,
                Err(Unfit::CutShort) => {
                    return Err(damaged(segment, index, start, "the record does not end where it should".to_owned()));
                }
                Err(Unfit::Bad(reason)) => return Err(damaged(segment, index, start, reason)),
            }
            reached = reached.next();
        }
        if taken == 0 {
            return Err(damaged(segment, index, start, "its index gives the record no bytes".to_owned()));
        }
        Ok((bytes.slice(..taken), reached))
    }

    /// Verifies that `bytes` start with the record of `index`, and says how long it is.
    fn verify_first(&self, segment: &LiveSegment, bytes: &[u8], index: Index, offset: u64) -> Result<usize, Unfit> {
        let header = match RecordHeader::decode(bytes, MAX_RECORD_BYTES_LIMIT) {
            Ok(header) => header,
            Err(RecordError::Incomplete { .. }) => return Err(Unfit::CutShort),
            Err(error) => return Err(Unfit::Bad(error.to_string())),
        };
        let Some(whole) = bytes.get(..header.length as usize) else { return Err(Unfit::CutShort) };
        if !self.shared.belongs(&header, segment, index, offset) {
            return Err(Unfit::Bad(format!("entry {} stands there instead", header.id)));
        }
        header.verify_payload(whole).map_err(|error| Unfit::Bad(error.to_string()))?;
        Ok(whole.len())
    }
}

enum Unfit {
    CutShort,
    Bad(String),
}

fn read_header(segment: &LiveSegment, index: Index, start: u64) -> Result<RecordHeader, ReadError> {
    let bytes = segment
        .slice(start, start.saturating_add(HEADER_BYTES as u64))
        .map_err(|error| damaged(segment, index, start, error.to_string()))?;
    RecordHeader::decode(&bytes, MAX_RECORD_BYTES_LIMIT)
        .map_err(|error| damaged(segment, index, start, error.to_string()))
}

fn take(segment: &LiveSegment, index: Index, start: u64, end: u64) -> Result<Record, ReadError> {
    let bytes = segment.slice(start, end).map_err(|error| damaged(segment, index, start, error.to_string()))?;
    Record::decode(&bytes, MAX_RECORD_BYTES_LIMIT).map_err(|error| damaged(segment, index, start, error.to_string()))
}

fn damaged(segment: &LiveSegment, index: Index, offset: u64, reason: String) -> ReadError {
    ReadError::Damaged { path: segment.path.clone(), offset, index, reason }
}

fn misplaced(segment: &LiveSegment, index: Index, offset: u64, found: EntryId) -> ReadError {
    damaged(segment, index, offset, format!("entry {found} stands there instead"))
}

fn out_of_range(view: &View, asked: Index) -> ReadError {
    ReadError::OutOfRange { asked, first: view.base.index.next(), last: view.last() }
}
