//! Mending: whole verified records over the bytes of a hole.
//!
//! ```text
//!   note which bytes ─► write over the hole ─► sync ─► show readers ─► drop the note
//!        (durable)       (readers shut out)
//! ```
//! The one exception to "published bytes never change", and these bytes were good for nothing: every record written
//! here has an index inside a known hole, the hole's own term, position and bounds, and both checksums right. A power
//! cut leaves any of its sectors old or new, which is a hole still, or a mended record. A process that dies between
//! write and sync leaves records that read well and are perhaps only in the cache: the note makes the next opening
//! write them again (R24).

use std::io::{self, IoSlice};
use std::path::Path;

use bytes::Bytes;

use super::format::{Record, split};
use super::hole::Hole;
use super::known::Change;
use super::layout::{LogFile, MENDING_FILE};
use super::live::LiveSegment;
use super::poison::{LogFault, broken};
use super::reader::{LogReader, Part};
use super::recovery::{RecoveryReport, Rule};
use super::segment::block_aligned;
use super::writer::LogWriter;
use crate::config::MAX_RECORD_BYTES_LIMIT;
use crate::env::{Disk, File, OpenMode};
use crate::error::OpenError;
use crate::failure::{self, Blame};
use crate::fields::{Block, Fields, checksum_holds};
use crate::types::{EntryId, Index, Kind, TermRun};

/// What a drive loses at once, at the least.
const SECTOR_BYTES: u64 = 512;
/// How much is written again at once.
const REWRITE_BYTES: u64 = 1 << 20;
/// Bytes of a note before the segment's name: offset, length, length of the name.
const NOTE_BYTES: usize = 20;

/// Why records were not written over a hole.
enum Unmended {
    /// They do not belong there; nothing was written.
    Unfit(String),
    /// The disk failed.
    Fault(LogFault),
}

impl LogWriter {
    /// Mends what the records of each piece fit; what does not is left as it is, and told to the log.
    pub(super) fn mend(&mut self, pieces: &[Bytes]) -> Result<(), LogFault> {
        for piece in pieces {
            match self.mend_piece(piece) {
                Ok(()) => {}
                Err(Unmended::Unfit(reason)) => tracing::warn!(reason, "records do not mend the log"),
                Err(Unmended::Fault(fault)) => return Err(fault),
            }
        }
        Ok(())
    }

    fn mend_piece(&mut self, piece: &Bytes) -> Result<(), Unmended> {
        let records: Result<Vec<Record>, _> = split(piece, MAX_RECORD_BYTES_LIMIT).collect();
        let records = records.map_err(|error| Unmended::Unfit(error.to_string()))?;
        let shared = self.shared.clone();
        let change = shared.known.change();
        let holes = shared.known.all();
        // Records that are whole by now are passed over; the rest falls into runs without a gap, in one segment each.
        let holding = |record: &Record| holes.iter().find(|hole| hole.holds(record.header().id.index));
        let path_of = |record: &Record| holding(record).map(|hole| hole.path.as_path());
        for run in records.chunk_by(|one, next| path_of(one) == path_of(next)) {
            if run.first().and_then(holding).is_some() {
                self.mend_run(run, &holes, &change)?;
            }
        }
        Ok(())
    }

    fn mend_run(&mut self, run: &[Record], holes: &[Hole], change: &Change<'_>) -> Result<(), Unmended> {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { return Ok(()) };
        let (first, last) = (first.header(), last.header());
        let touched: Vec<&Hole> =
            holes.iter().filter(|hole| hole.first <= last.id.index && hole.last >= first.id.index).collect();
        let part = self.part(first.id.index)?;
        let segment = &*part.segment;
        for record in run {
            check(record, &touched).map_err(Unmended::Unfit)?;
            self.check_place(record, segment)?;
        }
        self.check_neighbours(first.id, last.id)?;
        let outside = || Unmended::Unfit(format!("entry {} is not of {}", first.id, segment.path.display()));
        let offset = segment.header.offset_of(first.position).ok_or_else(outside)?;
        let end = segment.header.offset_of(last.end()).ok_or_else(outside)?;
        let mut bytes: Vec<u8> = run.iter().flat_map(|record| record.bytes().iter().copied()).collect();
        self.fill_sectors(&part, (offset, first.id.index), (end, last.id.index), &mut bytes, holes)?;
        self.write_over(segment, offset, &bytes)?;
        let ends = run.iter().filter_map(|record| segment.header.offset_of(record.header().end()));
        let ends: Vec<u32> = ends.map(|end| u32::try_from(end).unwrap_or(u32::MAX)).collect();
        segment.found_out(first.id.index, offset, &ends);
        let left = touched.first().filter(|hole| hole.first < first.id.index);
        let left = left.map(|hole| hole.clipped(first.id.index.prev(), first.position));
        let right = touched.last().filter(|hole| hole.last > last.id.index);
        let right = right.map(|hole| hole.behind(last.id.index, last.end(), end));
        change.replace((first.id.index, last.id.index), left.into_iter().chain(right).collect());
        for record in run.iter().filter(|record| record.header().kind == Kind::Membership) {
            self.remember_membership(record);
        }
        Ok(())
    }

    fn part(&self, index: Index) -> Result<Part, Unmended> {
        let view = self.shared.view.load();
        view.part_of(index).cloned().ok_or_else(|| Unmended::Unfit(format!("index {index} is not in the log")))
    }

    /// Where the place of a record is known, it is that one.
    fn check_place(&self, record: &Record, segment: &LiveSegment) -> Result<(), Unmended> {
        let header = record.header();
        let Some((start, end)) = segment.bounds(&*self.disk, header.id.index) else { return Ok(()) };
        let claimed = (segment.header.offset_of(header.position), segment.header.offset_of(header.end()));
        if claimed == (Some(start), Some(end)) {
            return Ok(());
        }
        Err(Unmended::Unfit(format!("entry {} at position {} has another place", header.id, header.position)))
    }

    /// Terms never fall: those of good records on both sides bound what may stand between.
    fn check_neighbours(&self, first: EntryId, last: EntryId) -> Result<(), Unmended> {
        let reader = LogReader { shared: self.shared.clone() };
        let term = |index: Index| reader.read(index).ok().map(|record| record.header().id.term);
        let above = term(first.index.prev()).is_none_or(|before| before <= first.term);
        let below = term(last.index.next()).is_none_or(|behind| last.term <= behind);
        if above && below { Ok(()) } else { Err(Unmended::Unfit(format!("entry {first} is of a term that cannot be"))) }
    }

    /// A sector that cannot be read can only be written as a whole. Where the records end inside one, zeros go behind
    /// them: nothing counts behind the last record of a part, and whatever else stands there is in a hole as well. One
    /// in which they begin is mended with those before them first.
    fn fill_sectors(
        &self,
        part: &Part,
        (start, first): (u64, Index),
        (end, last): (u64, Index),
        bytes: &mut Vec<u8>,
        holes: &[Hole],
    ) -> Result<(), Unmended> {
        let file = &*part.segment.file;
        let unreadable = |offset: u64| {
            let mut sector = [0; 1];
            !offset.is_multiple_of(SECTOR_BYTES)
                && file
                    .read_exact_at(&mut sector, offset)
                    .is_err_and(|error| error.kind() != io::ErrorKind::UnexpectedEof)
        };
        let shared =
            |index: Index| Unmended::Unfit(format!("index {index} shares an unreadable sector with its neighbour"));
        if unreadable(start) {
            return Err(shared(first));
        }
        if unreadable(end) {
            let sector_end = end.next_multiple_of(SECTOR_BYTES);
            if last < part.last() && !lost_from(part, last.next(), holes, sector_end) {
                return Err(shared(last));
            }
            let filled = if last < part.last() { sector_end } else { block_aligned(end) };
            bytes.resize(bytes.len() + usize::try_from(filled - end).unwrap_or(0), 0);
        }
        Ok(())
    }

    fn write_over(&self, segment: &LiveSegment, offset: u64, bytes: &[u8]) -> Result<(), Unmended> {
        let failed = |error: &io::Error| Unmended::Fault(broken(&segment.path.display().to_string(), error));
        let mine = segment.path == self.active.segment.path;
        let opened = if mine { Ok(segment.file.clone()) } else { self.disk.open(&segment.path, OpenMode::Write) };
        let file = opened.map_err(|error| failed(&error))?;
        // Without room for a note it is not done: another time.
        note(&*self.disk, &self.log_dir, segment, offset, bytes.len()).map_err(|error| {
            if failure::is_full(&error) { Unmended::Unfit(error.to_string()) } else { failed(&error) }
        })?;
        {
            let _nobody_reads = segment.write_gate();
            match file.write_all_at(&[IoSlice::new(bytes)], offset) {
                // Only where the file was cut short can it need room, and a hole with some of its bytes right is one.
                Err(error) if failure::is_full(&error) => return Err(Unmended::Unfit(error.to_string())),
                written => written.map_err(|error| failed(&error))?,
            }
        }
        file.sync().map_err(|error| failed(&error))?;
        segment.grown_to(offset + bytes.len() as u64);
        // One that comes back after a power cut only has the same bytes written again.
        let _left_for_opening = self.disk.remove(&self.log_dir.join(MENDING_FILE));
        Ok(())
    }

    fn remember_membership(&mut self, record: &Record) {
        let index = record.header().id.index;
        if let Err(place) = self.memberships.binary_search_by_key(&index, |(known, _)| *known) {
            self.memberships.insert(place, (index, record.payload()));
        }
    }
}

/// Whether everything that counts from an index on, up to an offset, is known to be lost.
fn lost_from(part: &Part, index: Index, holes: &[Hole], until: u64) -> bool {
    let segment = &*part.segment;
    let mut next = index;
    let mut end = 0;
    for hole in holes.iter().filter(|hole| hole.path == segment.path) {
        if hole.holds(next) {
            end = segment.header.offset_of(hole.end).unwrap_or(end);
            next = hole.last.next();
        }
    }
    end >= until || next > part.last()
}

/// Whether a record is one that a hole lacks.
fn check(record: &Record, holes: &[&Hole]) -> Result<(), String> {
    let header = record.header();
    let Some(hole) = holes.iter().find(|hole| hole.holds(header.id.index)) else {
        return Err(format!("entry {} is in no hole", header.id));
    };
    let right_term = hole.identity(header.id.index).is_none_or(|known| known == header.id);
    let starts =
        if header.id.index == hole.first { header.position == hole.position } else { header.position > hole.position };
    let ends = if header.id.index == hole.last { header.end() == hole.end } else { header.end() < hole.end };
    if right_term && starts && ends {
        return Ok(());
    }
    Err(format!(
        "entry {} from position {} to {} does not fit the hole {} to {} from {} to {}",
        header.id,
        header.position,
        header.end(),
        hole.first,
        hole.last,
        hole.position,
        hole.end
    ))
}

impl Hole {
    /// What is left of it behind `last`, which ends at a position and at an offset of its file.
    fn behind(&self, last: Index, position: crate::types::Position, offset: u64) -> Self {
        let first = last.next();
        let here = self.identity(first).map(|id| TermRun { first, term: id.term });
        let later = self.terms.iter().filter(|run| run.first > first).copied();
        Self { first, terms: here.into_iter().chain(later).collect(), position, offset, ..self.clone() }
    }
}

/// Notes durably which bytes are about to be written over.
fn note(disk: &dyn Disk, log_dir: &Path, segment: &LiveSegment, offset: u64, length: usize) -> io::Result<()> {
    let path = log_dir.join(MENDING_FILE);
    match disk.remove(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let name = segment.header.name().segment_file();
    let text = Block::default()
        .u64(offset)
        .u64(length as u64)
        .u32(u32::try_from(name.len()).unwrap_or(u32::MAX))
        .raw(name.as_bytes())
        .sealed_from(0)
        .done();
    let file = disk.open(&path, OpenMode::Create)?;
    file.write_all_at(&[IoSlice::new(&text)], 0)?;
    file.sync()?;
    disk.sync_dir(log_dir)
}

/// R24: writes the bytes of an interrupted mend again as they are, and syncs them.
pub(super) fn complete(disk: &dyn Disk, log_dir: &Path, report: &mut RecoveryReport) -> Result<(), OpenError> {
    let Some((name, offset, length)) = read_note(disk, log_dir) else { return Ok(()) };
    let path = log_dir.join(&name);
    let file = match disk.open(&path, OpenMode::Write) {
        // The segment was cut away since.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened.blame(&path)?,
    };
    report.note(Rule::Mending);
    let end = offset.saturating_add(length).min(file.len().blame(&path)?);
    let mut at = offset;
    while at < end {
        let mut bytes = vec![0; usize::try_from((end - at).min(REWRITE_BYTES)).unwrap_or(0)];
        // What cannot be read is a hole still.
        if file.read_exact_at(&mut bytes, at).is_ok() {
            file.write_all_at(&[IoSlice::new(&bytes)], at).blame_room(&path, bytes.len() as u64)?;
        }
        at += bytes.len() as u64;
    }
    file.sync().blame(&path)
}

/// The note of an interrupted mend. One that is torn was never acted on.
fn read_note(disk: &dyn Disk, log_dir: &Path) -> Option<(String, u64, u64)> {
    let file: std::sync::Arc<dyn File> = disk.open(&log_dir.join(MENDING_FILE), OpenMode::Read).ok()?;
    let mut bytes = vec![0; usize::try_from(file.len().ok()?).ok()?.min(256)];
    file.read_exact_at(&mut bytes, 0).ok()?;
    let mut fields = Fields::new(&bytes);
    let (offset, length, name_bytes) = (fields.u64()?, fields.u64()?, fields.u32()? as usize);
    let name = String::from_utf8(fields.bytes(name_bytes)?.to_vec()).ok()?;
    let whole = checksum_holds(&bytes, 0, NOTE_BYTES + name_bytes);
    (whole && matches!(LogFile::of(&name), LogFile::Segment(_))).then_some((name, offset, length))
}
