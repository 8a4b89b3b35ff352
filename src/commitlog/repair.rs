//! The way out for a node that has no peers: looks for everything that is bad in a closed log and, when told to, cuts
//! the log before it.
//!
//! ```text
//!   examine ─► holes, lost segments, doubt                          changes nothing
//!   cut     ─► no slots, and no hole: the records of the last segment once more, and a new segment behind them
//!           ─► else copy every file that loses something into damaged-<index>-<n>/, synced
//!           ─► a new segment that starts at the first bad index, of the highest generation: now the log ends there
//! ```
//! A crash before the second step leaves the log as it was; after it the log is cut and the copies stand. What is cut
//! away was durable and acknowledged: records up to the committed hint certainly, those above it as far as nobody knows
//! better. The callers see to it that no peer can mend the log, that no node runs (they hold the directory's lock),
//! and that a person has asked for it. Deliberately absent: guessing at what the lost records said.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::base;
use super::create;
use super::doubt;
use super::hole::{self, Hole};
use super::identity::DirLock;
use super::layout::{self, NEW_SEGMENT_FILE};
use super::prepare::{self, FIRST_CHUNK_BYTES};
use super::restart;
use super::scan::Scanner;
use super::segment::footer::Summary;
use super::segment::header::SegmentHeader;
use super::segment::slots::Slot;
use super::survey::{self, Segment, Survey};
use super::tail;
use super::walk::{Limit, walk};
use crate::env::{Disk, File, OpenMode};
use crate::error::OpenError;
use crate::failure::{self, Blame};
use crate::simulation::plants::Plants;
use crate::types::{EntryId, GroupId, Index, LogTime, Position, TermRun};

/// How much is copied at once.
const COPY_BYTES: u64 = 1 << 20;
/// What is copied by itself where that cannot be read.
const SECTOR_BYTES: u64 = 512;

/// What is wrong with a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Examined {
    /// The records that cannot be read back, in index order.
    pub holes: Vec<Hole>,
    /// The first index of which the whole segment is lost.
    pub lost: Option<Index>,
    /// The last entry that anything still names.
    pub last: EntryId,
    /// An index known to have been committed; the truth may be further.
    pub committed: Index,
    /// Why acknowledged entries may have stood behind `last`.
    pub last_in_doubt: Option<String>,
    /// The entry before the first record.
    pub base: EntryId,
    /// The payload of the latest membership and the index of its entry, as far as anything still names one; index 0 when
    /// nothing does.
    pub membership: (Index, Bytes),
    /// Why an asynchronous log may have lost acknowledged entries with the power. What stands in it is sound all the same.
    pub power_lost: Option<String>,
    /// The terms of the records, in order.
    runs: Vec<TermRun>,
}

impl Examined {
    /// Whether the log has an entry: as [`super::LogState::has`].
    #[must_use]
    pub fn has(&self, entry: EntryId) -> bool {
        hole::holds((&self.runs, &self.holes), (self.base, self.last), entry)
    }

    /// The first index that cannot be read; `None` when all can.
    #[must_use]
    pub fn first_bad(&self) -> Option<Index> {
        self.holes.first().map(|hole| hole.first).into_iter().chain(self.lost).min()
    }

    /// Nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.first_bad().is_none() && self.last_in_doubt.is_none()
    }
}

/// What a cut took away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CutAway {
    /// The last entry that was kept.
    pub kept: EntryId,
    /// The last entry that was lost; `kept` when nothing was but the doubt.
    pub last: EntryId,
    /// An index known to have been committed: entries up to it were certainly acknowledged.
    pub committed: Index,
    /// Where the files stand as they were; `None` when nothing was cut.
    pub aside: Option<PathBuf>,
}

/// Reads all records of a group's log and says what is wrong. Changes nothing. Blocks.
///
/// # Errors
/// Those of opening that are no holes: foreign and unsupported files, good bytes that contradict each other, and `Io`.
pub fn examine(disk: &dyn Disk, group_dir: &Path) -> Result<Examined, OpenError> {
    look(disk, group_dir).map(|found| found.examined)
}

/// Cuts the log of a group before the first index that cannot be read, and ends the doubt about its last entry. The
/// files as they were are kept aside. `None` when nothing is wrong. Blocks.
///
/// # Errors
/// As [`examine`]; `Corrupt` when no record stands before the damage; `DiskFull` when there is no room for the copies.
pub fn cut(disk: &dyn Disk, lock: &DirLock, group: GroupId) -> Result<Option<CutAway>, OpenError> {
    let group_dir = layout::group_dir(lock.path(), group);
    let found = look(disk, &group_dir)?;
    if found.examined.is_sound() {
        return Ok(None);
    }
    let committed = found.examined.committed;
    let mut cut = CutAway { kept: found.examined.last, last: found.examined.last, committed, aside: None };
    let log_dir = layout::log_dir(&group_dir);
    if let Some(first) = found.examined.first_bad() {
        let header = found.header_at(&log_dir, first)?;
        cut.kept = header.previous;
        cut.aside = Some(found.copy_aside(disk, &group_dir, first)?);
        found.begin_at(disk, &log_dir, &header)?;
    } else if let Some(last) = found.without_slots() {
        let header = found.header_at(&log_dir, cut.kept.index.next())?;
        write_again(disk, last, header.first_position)?;
        found.begin_at(disk, &log_dir, &header)?;
    }
    doubt::clear(disk, &group_dir).blame(&group_dir)?;
    Ok(Some(cut))
}

/// A log with everything that was found out about it.
struct Found {
    segments: Vec<Segment>,
    superseded: Vec<Segment>,
    /// What each segment holds, up to the next one.
    summaries: Vec<Summary>,
    examined: Examined,
}

fn look(disk: &dyn Disk, group_dir: &Path) -> Result<Found, OpenError> {
    let log_dir = layout::log_dir(group_dir);
    let start = base::load(disk, group_dir, None)?.unwrap_or_default();
    let Survey { segments, superseded, .. } = survey::survey(disk, &log_dir, &start, Plants::NONE)?;
    let (doubt, power_lost) = (doubt::load(disk, group_dir)?, super::unsynced::lost(disk, group_dir)?);
    let mut examined = Examined { last_in_doubt: doubt, power_lost, ..Examined::default() };
    let mut summaries = Vec::new();
    // Opening carries a reset out that was begun.
    let begun = start.resetting && segments.is_empty();
    if !begun && segments.first().is_none_or(|first| first.header.previous != start.base.entry) {
        return Err(OpenError::LostSegment { path: log_dir, index: start.base.first() });
    }
    (examined.base, examined.last) = (start.base.entry, start.base.entry);
    examined.membership = start.base.membership.clone();
    for (place, segment) in segments.iter().enumerate() {
        let next = segments.get(place + 1).map(|next| &next.header);
        let summary = examine_segment(segment, next, &mut examined)?;
        let committed = tail::newest_slot(segment).map_or(Index::ZERO, |slot| slot.committed);
        examined.committed = examined.committed.max(committed);
        examined.last = next.map_or(summary.last, |_next| examined.last);
        examined.runs.extend(&summary.runs);
        let named = summary.memberships.last().unwrap_or(&segment.header.membership);
        if named.0 > examined.membership.0 {
            examined.membership = named.clone();
        }
        summaries.push(summary);
    }
    examined.holes.sort_by_key(|hole| hole.first);
    Ok(Found { segments, superseded, summaries, examined })
}

fn examine_segment(
    segment: &Segment,
    next: Option<&SegmentHeader>,
    examined: &mut Examined,
) -> Result<Summary, OpenError> {
    let (file, path, header) = (&*segment.file, &segment.paths.segment, &segment.header);
    let limit = match (next, &segment.footer) {
        (None, None) => {
            let tail = tail::read(segment, Plants::NONE)?;
            examined.holes.extend(tail.holes);
            examined.last_in_doubt = examined.last_in_doubt.take().or(tail.doubt);
            return Ok(tail.summary);
        }
        // R8: the segment behind it is lost, or starts further on.
        (_, Some(footer)) if next.is_none_or(|next| footer.last.index < next.previous.index) => {
            examined.lost = examined.lost.or(Some(footer.last.index.next()));
            (footer.last, footer.end)
        }
        (Some(next), _) => (next.previous, next.first_position),
        (None, Some(footer)) => (footer.last, footer.end),
    };
    let limit = Limit { last: limit.0, offset: survey::end_offset(header, limit.1) };
    let walked = walk(file, path, header, Some(limit), segment.length)?;
    let known = segment.footer.as_ref();
    examined.holes.extend(walked.holes.into_iter().map(|hole| match known {
        Some(footer) if hole.unknown().is_some() => hole.with_terms(&footer.runs),
        Some(_) | None => hole,
    }));
    let runs = known.map(|footer| footer.runs.iter().copied().filter(|run| run.first <= limit.last.index).collect());
    Ok(Summary { runs: runs.unwrap_or_else(|| walked.summary.runs.clone()), ..walked.summary })
}

impl Found {
    /// The header of a segment that starts with `first`, which is bad while everything before it is good.
    fn header_at(&self, log_dir: &Path, first: Index) -> Result<SegmentHeader, OpenError> {
        let kept = first.prev();
        let generations = self.segments.iter().chain(&self.superseded).map(|segment| segment.header.generation);
        let generation = generations.max().unwrap_or(0) + 1;
        // All that is left behind the base is bad: what the base was made from, a snapshot or a backup, still stands.
        let behind_base = self.segments.first().filter(|first| !kept.is_zero() && first.header.previous.index == kept);
        if let Some(first) = behind_base {
            return Ok(SegmentHeader { generation, ..first.header.clone() });
        }
        let holder = self.segments.iter().rfind(|segment| segment.header.first() <= kept);
        let Some(holder) = holder else {
            let reason = "no record stands before it that could be kept".to_owned();
            let hole = self.examined.holes.first();
            let (path, offset) = hole.map_or((log_dir.to_owned(), 0), |hole| (hole.path.clone(), hole.offset));
            return Err(OpenError::Corrupt { path, offset, index: first, reason });
        };
        let (previous, previous_time, first_position) = end_of(holder, kept)?;
        let memberships = self.summaries.iter().flat_map(|summary| &summary.memberships);
        let in_force = memberships.rev().find(|(index, _)| *index <= kept);
        Ok(SegmentHeader {
            generation,
            first_position,
            previous,
            previous_time,
            membership: in_force.unwrap_or(&holder.header.membership).clone(),
            ..holder.header.clone()
        })
    }

    /// Copies every file of the log that holds or should hold an index from `first` on.
    fn copy_aside(&self, disk: &dyn Disk, group_dir: &Path, first: Index) -> Result<PathBuf, OpenError> {
        let taken = disk.list(group_dir).blame(group_dir)?;
        let names = (1..=u64::MAX).map(|number| format!("damaged-{first}-{number}"));
        let name = names.into_iter().find(|name| !taken.contains(name)).unwrap_or_default();
        let aside = group_dir.join(name);
        failure::create_dir_durably(disk, &aside)?;
        let behind = self.segments.iter().skip(1).map(|next| Some(next.header.first())).chain([None]);
        for (segment, behind) in self.segments.iter().zip(behind) {
            if behind.is_none_or(|behind| behind > first) {
                let path = &segment.paths.segment;
                let to = aside.join(segment.header.name().segment_file());
                copy(disk, &segment.file, segment.length, &to).blame_room(path, segment.length)?;
            }
        }
        disk.sync_dir(&aside).blame(&aside)?;
        Ok(aside)
    }

    /// The last segment, when nothing in it says how far it was durable: then the log must go on in another one.
    fn without_slots(&self) -> Option<&Segment> {
        self.segments.last().filter(|last| tail::newest_slot(last).is_none())
    }

    fn begin_at(&self, disk: &dyn Disk, log_dir: &Path, header: &SegmentHeader) -> Result<(), OpenError> {
        let unfinished = log_dir.join(NEW_SEGMENT_FILE);
        let length = FIRST_CHUNK_BYTES.max(create::bytes_needed(header.records_offset(), 0));
        let file = prepare::make_blank(disk, &unfinished, length).blame_room(&unfinished, length)?;
        let slot = Slot::empty(header, 0, self.examined.committed.min(header.previous.index));
        create::finish(disk, log_dir, &unfinished, &file, header, slot, Plants::NONE)
            .blame_room(&unfinished, length)?;
        Ok(())
    }
}

/// The entry of an index, its log time, and where it ends.
fn end_of(segment: &Segment, index: Index) -> Result<(EntryId, LogTime, Position), OpenError> {
    let mut scanner = Scanner::new(&*segment.file, &segment.header, segment.length);
    loop {
        match scanner.next() {
            Ok(Some(found)) if found.header.id.index == index => {
                return Ok((found.header.id, found.header.time, found.header.end()));
            }
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => {
                let (path, offset) = (segment.paths.segment.clone(), scanner.offset());
                let reason = "it could be read a moment ago".to_owned();
                return Err(OpenError::Corrupt { path, offset, index, reason });
            }
        }
    }
}

/// Writes the records of a segment again as they are, up to a position, and syncs them: without a slot nothing of them is
/// known to be.
fn write_again(disk: &dyn Disk, segment: &Segment, end: Position) -> Result<(), OpenError> {
    let (path, header) = (&segment.paths.segment, &segment.header);
    let file = disk.open(path, OpenMode::Write).blame(path)?;
    let (from, to) = (header.records_offset(), survey::end_offset(header, end));
    restart::copy(segment, &*file, from, to, from).blame(path)?;
    file.sync().blame(path)
}

/// Copies a file, synced; sectors that cannot be read are zeros in the copy.
fn copy(disk: &dyn Disk, from: &Arc<dyn File>, length: u64, to: &Path) -> io::Result<()> {
    let file = disk.open(to, OpenMode::Create)?;
    let mut at = 0;
    while at < length {
        let mut bytes = vec![0; usize::try_from((length - at).min(COPY_BYTES)).unwrap_or(0)];
        if from.read_exact_at(&mut bytes, at).is_err() {
            bytes.fill(0);
            for (sector, part) in (0_u64..).zip(bytes.chunks_mut(SECTOR_BYTES as usize)) {
                if from.read_exact_at(part, at + sector * SECTOR_BYTES).is_err() {
                    part.fill(0);
                }
            }
        }
        file.write_all_at(&[IoSlice::new(&bytes)], at)?;
        at += bytes.len() as u64;
    }
    file.sync()
}
