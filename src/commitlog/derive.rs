//! A segment's header made again when its block cannot be read (R5).
//!
//! | field | from |
//! |---|---|
//! | first index, generation | the file's name; a slot, the footer or the first record must agree |
//! | length of the header | where that slot, footer or record stands |
//! | first position | the first record, an empty segment's slot, else where the predecessor's last record ends |
//! | previous entry and time | the predecessor's records; the log's base, where nothing stands before |
//! | membership | the predecessor's, unless a hole may hide a newer one |
//! | cluster, group | the other segments, else the vote file |
//! | wall clock | lost: opening writes its own |
//!
//! What nothing vouches for is not made up: then the file stays refused. Reads only.

use bytes::Bytes;

use super::format::{HEADER_BYTES, RecordHeader};
use super::layout::SegmentName;
use super::meta::Owner;
use super::scan::Scanner;
use super::segment::BLOCK;
use super::segment::footer::{FooterHead, Summary};
use super::segment::header::{MAX_HEADER_BYTES, SegmentHeader};
use super::segment::slots::Slot;
use super::survey::Segment;
use super::tail::SLOT_READ_BYTES;
use super::walk::walk;
use crate::config::MAX_RECORD_BYTES_LIMIT;
use crate::env::File;
use crate::types::{EntryId, Index, LogBase, LogTime, Position};

/// Blocks between the header and the footer, and between the header and the first record.
const TO_FOOTER: u64 = 2;
const TO_RECORDS: u64 = 3;
/// Most blocks that a header takes.
const MAX_HEADER_BLOCKS: u64 = (MAX_HEADER_BYTES as u64).div_ceil(BLOCK);

/// What the file itself still tells.
struct Own {
    /// Blocks of the header.
    blocks: u64,
    slot: Option<Slot>,
    /// The header of the first record.
    record: Option<RecordHeader>,
}

/// The header of the segment `name`, whose predecessor in the log is `before`; without one the log begins at `base`.
/// `None` when nothing vouches for it.
pub(super) fn header(
    file: &dyn File,
    name: SegmentName,
    (before, base): (Option<&Segment>, &LogBase),
    owner: Owner,
) -> Option<SegmentHeader> {
    let own = look(file, name)?;
    let stood = match before {
        None if name.first == base.first() => Some(Before::base(base)),
        None => None,
        Some(before) => base_in(before, name.first.prev()),
    }?;
    let empty = own.slot.filter(|slot| slot.last == stood.previous).map(|slot| slot.durable_end);
    let told = own.record.map(|record| record.position).or(empty.filter(|_end| own.record.is_none()));
    let first_position = told.or(stood.end)?;
    if stood.end.is_some_and(|end| end != first_position) {
        return None;
    }
    let header = |membership: (Index, Bytes)| SegmentHeader {
        cluster: owner.cluster,
        group: owner.group,
        generation: name.generation,
        first_position,
        previous: stood.previous,
        previous_time: stood.time,
        wall_ms: 0,
        membership,
    };
    let candidates = [stood.membership.clone(), (Index::ZERO, Bytes::new())];
    let mut fitting = candidates.into_iter().map(header);
    fitting.find(|header| header.slot_offset(0) == own.blocks * BLOCK)
}

/// A header for a file that a higher generation wins over: only its name and owner still matter. `None` when nothing in
/// the file says that it is that segment.
pub(super) fn beaten(file: &dyn File, name: SegmentName, owner: Owner) -> Option<SegmentHeader> {
    look(file, name)?;
    Some(SegmentHeader {
        cluster: owner.cluster,
        group: owner.group,
        generation: name.generation,
        first_position: Position::ZERO,
        previous: EntryId { index: name.first.prev(), ..EntryId::ZERO },
        previous_time: LogTime::ZERO,
        wall_ms: 0,
        membership: (Index::ZERO, Bytes::new()),
    })
}

/// Finds a slot, the footer or the first record of this very segment; where it stands says how long the header was.
fn look(file: &dyn File, name: SegmentName) -> Option<Own> {
    for blocks in 1..=MAX_HEADER_BLOCKS {
        let slot = |nth: u64| {
            let mut bytes = [0; SLOT_READ_BYTES];
            file.read_exact_at(&mut bytes, (blocks + nth) * BLOCK).ok()?;
            Slot::decode(&bytes, name.generation).filter(|slot| slot.sequence % 2 == nth)
        };
        let slot = Slot::newest(slot(0), slot(1));
        let mut bytes = [0; 128];
        let footer = file.read_exact_at(&mut bytes, (blocks + TO_FOOTER) * BLOCK).ok();
        let footer = footer.and_then(|()| FooterHead::decode(&bytes, name.generation));
        let mut bytes = [0; HEADER_BYTES];
        let record = file.read_exact_at(&mut bytes, (blocks + TO_RECORDS) * BLOCK).ok();
        let record = record.and_then(|()| RecordHeader::decode(&bytes, MAX_RECORD_BYTES_LIMIT).ok());
        let record = record.filter(|record| record.id.index == name.first);
        if slot.is_some() || footer.is_some() || record.is_some() {
            return Some(Own { blocks, slot, record });
        }
    }
    None
}

/// What stands before a segment.
struct Before {
    previous: EntryId,
    time: LogTime,
    /// Where the previous entry ends, when the predecessor tells.
    end: Option<Position>,
    membership: (Index, Bytes),
}

impl Before {
    fn base(base: &LogBase) -> Self {
        let LogBase { entry, position, time, membership } = base.clone();
        Self { previous: entry, time, end: Some(position), membership }
    }
}

/// What the predecessor knows of an entry of its own that a segment follows.
fn base_in(before: &Segment, index: Index) -> Option<Before> {
    let whole = before.footer.as_ref().filter(|footer| footer.last.index == index);
    let Some(footer) = whole else { return base_by_walking(before, index) };
    let end = Some(footer.end);
    Some(Before { previous: footer.last, time: footer.last_time, end, membership: in_force(before, footer, index) })
}

/// As [`base_in`], for a predecessor that was cut or has no footer.
fn base_by_walking(before: &Segment, index: Index) -> Option<Before> {
    let path = &before.paths.segment;
    let walked = walk(&*before.file, path, &before.header, None, before.length).ok()?;
    if walked.summary.last.index < index || index < before.header.previous.index {
        return None;
    }
    let run = walked.summary.runs.iter().rev().find(|run| run.first <= index);
    let previous = run.map_or(before.header.previous, |run| EntryId::new(index, run.term));
    let hidden = walked.holes.iter().any(|hole| hole.holds(index) && hole.identity(index).is_none());
    let nth = usize::try_from(index.get() - before.header.previous.index.get()).ok()?.checked_sub(1);
    let end = match nth {
        None => before.header.first_position,
        Some(nth) => before.header.position_of(walked.ends.get(nth).copied().filter(|end| *end > 0)?.into()),
    };
    if hidden {
        return None;
    }
    let membership =
        if walked.hides_membership { (Index::ZERO, Bytes::new()) } else { in_force(before, &walked.summary, index) };
    let time = time_of(before, index, walked.summary.last_time, &walked.summary);
    Some(Before { previous, time, end: Some(end), membership })
}

fn time_of(before: &Segment, index: Index, last_time: LogTime, summary: &Summary) -> LogTime {
    if summary.last.index == index {
        return last_time;
    }
    let mut scanner = Scanner::new(&*before.file, &before.header, before.length);
    while let Ok(Some(found)) = scanner.next() {
        if found.header.id.index == index {
            return found.header.time;
        }
    }
    before.header.previous_time
}

fn in_force(before: &Segment, summary: &Summary, index: Index) -> (Index, Bytes) {
    let newest = summary.memberships.iter().rev().find(|(at, _)| *at <= index);
    newest.unwrap_or(&before.header.membership).clone()
}
