//! Writing the log.
//!
//! ```text
//!   write(batch):  vote ─► mend ─► cut, if asked ─► room ─► records (one vectored write) [─► slot] ─► sync ─► publish
//! ```
//! Invariants: a slot names only ends that were synced before it was written; readers see a record only once it is
//! written (and, with [`Durability::Sync`], synced); a batch stands in one segment, and everything before that
//! segment is synced before its first record is written; after the first failed write or sync nothing is written
//! any more. In the common case a batch costs one vectored write and one sync.
//!
//! Every method blocks on the disk. Deliberately absent: threads and timers. Whoever owns the writer calls it.

use std::io::IoSlice;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::base::Start;
use super::create;
use super::format::walk_trusted;
use super::hole::Hole;
use super::live::LiveSegment;
use super::meta::{Owner, VoteFile};
use super::open::LogOptions;
use super::poison::{LogFault, Poison, broken};
use super::prepare::SharedStage;
use super::reader::Shared;
use super::segment::footer::Summary;
use super::segment::slots::Slot;
use crate::config::Durability;
use crate::env::Disk;
use crate::error::OpenError;
use crate::simulation::marks::{Mark, reach};
use crate::simulation::plants::{Plant, Plants};
use crate::types::{EntryId, Index, Kind, LogBase, LogTime, Position, TermRun, Vote};

/// A slot is written with every so many batches: about 10 ms of them when the disk is busy all the time. The owner
/// calls [`LogWriter::idle`] when it is not.
const BATCHES_BETWEEN_SLOTS: u32 = 32;
/// A slot is written at the latest after so many bytes: bounds what opening after a crash must copy.
const BYTES_BETWEEN_SLOTS: u64 = 8 << 20;

/// What is to be written at once, in this order: the vote, the reset, the mending, the cut, the records.
#[derive(Clone, Debug, Default)]
pub struct WriteBatch {
    /// Term and vote to sync, whatever the durability.
    pub vote: Option<Vote>,
    /// The entry that stays last: everything above it is cut away first.
    pub truncate_after: Option<EntryId>,
    /// Whole records, in order, each element one or more of them. They follow the last entry, or the cut.
    pub records: Vec<Bytes>,
    /// An index known to be committed: the hint that opening starts from.
    pub committed: Index,
    /// Whole records that go over holes, each element one or more of them in order: same identities and positions as
    /// what they mend. They are durable when the write returns, whatever the durability. An element that does not fit
    /// is left out as a whole, records that are good already are passed over: [`super::LogReader::holes`] says what is
    /// left to mend.
    pub mend: Vec<Bytes>,
    /// The caller vouches that this log holds whatever it may have acknowledged ([`LogWriter::trust_last`]).
    pub trust_last: bool,
    /// A durable snapshot takes the place of the log, which starts over behind it ([`LogWriter::reset`]). To do it again,
    /// because what follows in the batch found the disk full, changes nothing.
    pub reset: Option<LogBase>,
}

/// The segment that takes records.
pub(super) struct Active {
    pub(super) segment: Arc<LiveSegment>,
    /// What stands in it, synced or not.
    pub(super) summary: Summary,
    /// Bytes below this offset exist and are zero where nothing was written.
    pub(super) prepared: u64,
    /// Size of the next chunk to prepare.
    pub(super) chunk: u64,
    /// The newest slot.
    pub(super) slot: Slot,
    /// How far it is synced.
    pub(super) synced: (Position, EntryId),
    pub(super) batches_since_slot: u32,
}

impl Active {
    /// The offset at which the next record goes.
    pub(super) fn end_offset(&self) -> u64 {
        let into = self.summary.end.get().saturating_sub(self.segment.header.first_position.get());
        self.segment.header.records_offset().saturating_add(into)
    }
}

/// Writes to the log: exactly one for each open log. `Send`; every method blocks on the disk.
pub struct LogWriter {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) log_dir: PathBuf,
    pub(super) options: LogOptions,
    pub(super) plants: Plants,
    pub(super) shared: Arc<Shared>,
    pub(super) vote: VoteFile,
    pub(super) active: Active,
    /// All membership records above the base, and the one in force there.
    pub(super) memberships: Vec<(Index, Bytes)>,
    /// Where the log begins.
    pub(super) start: Start,
    /// The highest generation that any segment has had.
    pub(super) generation: u64,
    pub(super) committed: Index,
    pub(super) poison: Poison,
    /// Bytes of the blank file kept for a full disk; 0 when there is none.
    pub(super) reserve_bytes: u64,
    /// Bytes of the segment made ahead; 0 when there is none.
    pub(super) spare_bytes: u64,
    /// Sealed segments whose index is still in memory.
    pub(super) unindexed: Vec<Arc<LiveSegment>>,
    /// The preparing under way.
    pub(super) job: Option<(SharedStage, super::room::Wanted)>,
    /// Something was written and not synced yet.
    pub(super) dirty: bool,
}

/// What a batch adds to a segment.
struct Gathered {
    bytes: u64,
    count: u64,
    last: EntryId,
    last_time: LogTime,
    runs: Vec<TermRun>,
    memberships: Vec<(Index, Bytes)>,
    /// Where each record ends, counted from the batch's start.
    ends: Vec<u64>,
}

impl LogWriter {
    /// Writes a batch. When this returns `Ok` the vote is durable and readers see the records; with
    /// [`Durability::Sync`] the records are durable too, else after the next [`LogWriter::flush`].
    ///
    /// # Errors
    /// `Full`: no record was written and nothing cut, the vote is durable; the same batch may be tried again.
    /// `Poisoned`: for good.
    pub fn write(&mut self, batch: &WriteBatch) -> Result<(), LogFault> {
        self.poison.check()?;
        let written = self.write_batch(batch);
        if matches!(written, Err(LogFault::Full { .. })) {
            reach(Mark::DiskFull);
            if self.plants.has(Plant::FullAcknowledged) {
                return Ok(());
            }
        }
        self.poison.note(written)
    }

    /// Syncs what was written and not synced.
    ///
    /// # Errors
    /// `Poisoned`.
    pub fn flush(&mut self) -> Result<(), LogFault> {
        self.poison.check()?;
        let synced = self.sync();
        self.poison.note(synced)
    }

    /// To be called once when nothing is left to write: syncs, and notes in a slot how far the log is durable, so
    /// that opening after a crash has nothing to doubt. Does nothing when the slot says so already.
    ///
    /// # Errors
    /// `Poisoned`.
    pub fn idle(&mut self, committed: Index) -> Result<(), LogFault> {
        self.poison.check()?;
        self.committed = self.committed.max(committed);
        let noted = self.note_progress();
        self.poison.note(noted)
    }

    /// Ends the doubt about the last entry ([`super::LogState::last_in_doubt`]): the caller vouches that this log holds
    /// whatever it may have acknowledged. Durable when this returns.
    ///
    /// # Errors
    /// `Poisoned`.
    pub fn trust_last(&mut self) -> Result<(), LogFault> {
        self.poison.check()?;
        let ended = self.end_doubt();
        self.poison.note(ended)
    }

    fn end_doubt(&self) -> Result<(), LogFault> {
        let group_dir = self.log_dir.parent().unwrap_or(&self.log_dir);
        let cleared = super::doubt::clear(&*self.disk, group_dir);
        cleared.map_err(|error| broken("ending the doubt about the last entry", &error))
    }

    /// A cut into entries that nobody recognises may take acknowledged ones along: their leader has them and sends them
    /// again, and until they are here the last entry is in doubt.
    fn doubt_cut(&self, after: Index) -> Result<(), LogFault> {
        let holes = self.shared.known.all();
        let cut_into = |hole: &&Hole| hole.unknown().is_some_and(|(first, last)| first <= after.next() && last > after);
        let Some(hole) = holes.iter().find(cut_into) else { return Ok(()) };
        self.note_doubt(&format!("entries {} to {} were damaged beyond recognition and cut", hole.first, hole.last))
    }

    /// Doubts the last entry from the next opening on, durable when this returns.
    pub(super) fn note_doubt(&self, reason: &str) -> Result<(), LogFault> {
        let group_dir = self.log_dir.parent().unwrap_or(&self.log_dir);
        super::doubt::store(&*self.disk, group_dir, reason).map_err(|error| {
            if let OpenError::DiskFull { needed, .. } = error {
                return LogFault::Full { needed };
            }
            broken("noting a doubt about the last entry", &std::io::Error::other(error.to_string()))
        })
    }

    /// Ends the writing: syncs what is not, and says so, so that an asynchronous log has nothing to doubt when it is
    /// opened again, whatever became of the machine.
    ///
    /// # Errors
    /// `Poisoned`.
    pub fn close(&mut self, committed: Index) -> Result<(), LogFault> {
        self.flush()?;
        self.idle(committed)?;
        let group_dir = self.log_dir.parent().unwrap_or(&self.log_dir);
        let ended = super::unsynced::end(&*self.disk, group_dir).map_err(|error| broken("closing the log", &error));
        self.poison.note(ended)
    }

    /// The last entry that the newest progress slot names as durable.
    #[cfg(feature = "simulation")]
    pub(crate) fn named_durable(&self) -> EntryId {
        self.active.slot.last
    }

    /// The vote that is durable.
    #[must_use]
    pub fn vote(&self) -> Vote {
        self.vote.vote()
    }

    fn note_progress(&mut self) -> Result<(), LogFault> {
        self.sync()?;
        let slot = self.active.slot;
        let known = self.committed.min(self.active.summary.last.index);
        if (slot.durable_end, slot.committed) == (self.active.summary.end, known) {
            return Ok(());
        }
        self.write_slot()?;
        self.dirty = true;
        self.sync()
    }

    fn write_batch(&mut self, batch: &WriteBatch) -> Result<(), LogFault> {
        self.committed = self.committed.max(batch.committed);
        if let Some(vote) = batch.vote.filter(|vote| *vote != self.vote.vote()) {
            self.vote.write(vote, self.plants).map_err(|error| broken("writing term and vote", &error))?;
        }
        if let Some(base) = &batch.reset {
            self.start_over(base.clone())?;
        }
        if batch.trust_last {
            self.end_doubt()?;
        }
        self.mend(&batch.mend)?;
        let cut = batch.truncate_after.filter(|after| after.index < self.active.summary.last.index);
        let (after, time, end) = match cut {
            None => (self.active.summary.last, self.active.summary.last_time, self.active.summary.end),
            Some(after) => self.entry_to_keep(after, &batch.records)?,
        };
        if batch.truncate_after.is_some_and(|wanted| wanted != after) {
            return Err(rule_broken(format!(
                "the log ends with {after}, it cannot be cut after {:?}",
                batch.truncate_after
            )));
        }
        let gathered = gather(&batch.records, after, time, end)?;
        let footer_body = gathered.runs.len() as u64 * 16
            + gathered.memberships.iter().map(|(_, payload)| 12 + payload.len() as u64).sum::<u64>();
        if cut.is_some() {
            self.doubt_cut(after.index)?;
        }
        if cut.is_some() || !self.fits_active(gathered.bytes, footer_body) {
            self.begin_segment((after, time, end), gathered.bytes, footer_body)?;
        } else if gathered.count > 0 {
            self.make_room(gathered.bytes, footer_body)?;
        }
        if gathered.count == 0 { Ok(()) } else { self.write_records(batch, gathered) }
    }

    /// Log time and end of an entry that a cut leaves last.
    fn entry_to_keep(&self, after: EntryId, new: &[Bytes]) -> Result<(EntryId, LogTime, Position), LogFault> {
        if let Some(hole) = self.shared.known.holding(after.index) {
            return self.entry_in_hole(after, &hole, new);
        }
        let reader = super::reader::LogReader { shared: self.shared.clone() };
        let base = self.shared.view.load();
        if after == base.base {
            return Ok((base.base, self.start.base.time, base.base_position));
        }
        let error = match reader.read(after.index) {
            Ok(record) => return Ok((record.header().id, record.header().time, record.header().end())),
            Err(error) => error,
        };
        match reader.hole_at(after.index) {
            Some(hole) => self.entry_in_hole(after, &hole, new),
            None => Err(rule_broken(format!("cannot cut after {after}: {error}"))),
        }
    }

    /// An entry that cannot be read may stay last too: its end is that of the hole, or where the new records start.
    fn entry_in_hole(
        &self,
        after: EntryId,
        hole: &Hole,
        new: &[Bytes],
    ) -> Result<(EntryId, LogTime, Position), LogFault> {
        let start = new.first().and_then(|bytes| walk_trusted(bytes).next()).map(|(header, _)| header.position);
        let view = self.shared.view.load();
        let segment = view.part_of(after.index).map(|part| &part.segment);
        let known = segment
            .and_then(|segment| segment.end(&*self.disk, after.index).map(|end| segment.header.position_of(end)));
        let inside = |start: &Position| *start > hole.position && *start < hole.end;
        let end = match known {
            None if after.index == hole.last => Some(hole.end),
            None => start.filter(inside),
            Some(known) => Some(known),
        };
        let right = hole.identity(after.index).is_none_or(|known| known == after);
        match end.filter(|end| right && start.is_none_or(|start| start == *end)) {
            Some(end) => Ok((after, segment.map_or(LogTime::ZERO, |segment| segment.header.previous_time), end)),
            None => Err(rule_broken(format!("cannot cut after {after}: it cannot be read and must be mended first"))),
        }
    }

    fn write_records(&mut self, batch: &WriteBatch, gathered: Gathered) -> Result<(), LogFault> {
        let active = &mut self.active;
        let start = active.end_offset();
        let parts: Vec<IoSlice<'_>> = batch.records.iter().map(|bytes| IoSlice::new(bytes)).collect();
        let file = &active.segment.file;
        file.write_all_at(&parts, start).map_err(|error| broken(&active.segment.path.display().to_string(), &error))?;
        self.dirty = true;
        active.batches_since_slot += 1;
        let unnoted = active.synced.0.get().saturating_sub(active.slot.durable_end.get());
        if unnoted > 0 && (active.batches_since_slot >= BATCHES_BETWEEN_SLOTS || unnoted >= BYTES_BETWEEN_SLOTS) {
            self.write_slot()?;
        }
        let active = &mut self.active;
        let summary = &mut active.summary;
        summary.count += gathered.count;
        summary.end = summary.end.plus(gathered.bytes);
        (summary.last, summary.last_time) = (gathered.last, gathered.last_time);
        let known = summary.runs.last().map(|run| run.term);
        summary.runs.extend(gathered.runs.iter().filter(|run| Some(run.term) != known));
        summary.memberships.extend(gathered.memberships.iter().cloned());
        self.memberships.extend(gathered.memberships);
        if self.plants.has(Plant::SlotNamesUnsynced) {
            self.write_slot()?;
        }
        if self.options.durability == Durability::Sync {
            self.sync()?;
        }
        let ends: Vec<u32> = gathered.ends.iter().map(|end| u32::try_from(start + end).unwrap_or(u32::MAX)).collect();
        self.active.segment.publish(&ends, &gathered.runs);
        Ok(())
    }

    /// Writes the next slot: it names what is synced now, and becomes durable with the next sync.
    pub(super) fn write_slot(&mut self) -> Result<(), LogFault> {
        self.next_slot();
        let active = &self.active;
        create::write_slot(&*active.segment.file, &active.segment.header, &active.slot)
            .map_err(|error| broken(&active.segment.path.display().to_string(), &error))
    }

    /// Draws up the next slot.
    pub(super) fn next_slot(&mut self) {
        let active = &mut self.active;
        let early = self.plants.has(Plant::SlotNamesUnsynced);
        let synced = if early { (active.summary.end, active.summary.last) } else { active.synced };
        active.slot = Slot {
            sequence: active.slot.sequence + 1,
            durable_end: synced.0,
            last: synced.1,
            committed: self.committed.min(synced.1.index),
        };
        active.batches_since_slot = 0;
    }

    /// Syncs the active segment; everything before it is synced already.
    pub(super) fn sync(&mut self) -> Result<(), LogFault> {
        if self.dirty {
            let active = &mut self.active;
            let synced = match self.plants.has(Plant::AppendNotSynced) {
                true => Ok(()),
                false => active.segment.file.sync(),
            };
            let synced = synced.or_else(|error| match self.plants.has(Plant::FailedSyncRetried) {
                true => active.segment.file.sync(),
                false => Err(error),
            });
            synced.map_err(|error| broken(&active.segment.path.display().to_string(), &error))?;
            active.synced = (active.summary.end, active.summary.last);
            self.dirty = false;
        }
        Ok(())
    }
}

/// The fault of a caller that broke the order of the log: nothing was written, and nothing will be.
pub(super) fn rule_broken(reason: String) -> LogFault {
    LogFault::Poisoned { reason }
}

/// Reads what a batch adds, in one pass over its record headers.
fn gather(records: &[Bytes], after: EntryId, time: LogTime, end: Position) -> Result<Gathered, LogFault> {
    let mut gathered = Gathered {
        bytes: 0,
        count: 0,
        last: after,
        last_time: time,
        runs: Vec::new(),
        memberships: Vec::new(),
        ends: Vec::new(),
    };
    for bytes in records {
        let start = gathered.bytes;
        for (header, record) in walk_trusted(bytes) {
            let expected = end.plus(gathered.bytes);
            header.verify_order(gathered.last, expected).map_err(|error| rule_broken(error.to_string()))?;
            if gathered.runs.last().is_none_or(|run| run.term != header.id.term) {
                gathered.runs.push(TermRun { first: header.id.index, term: header.id.term });
            }
            if header.kind == Kind::Membership {
                let from = bytes.len().min(usize::try_from(gathered.bytes - start).unwrap_or(usize::MAX));
                let payload = bytes.slice(from..from + record.len()).slice(super::format::HEADER_BYTES..);
                gathered.memberships.push((header.id.index, payload));
            }
            (gathered.last, gathered.last_time) = (header.id, header.time);
            gathered.bytes += record.len() as u64;
            gathered.count += 1;
            gathered.ends.push(gathered.bytes);
        }
        if gathered.bytes - start != bytes.len() as u64 {
            return Err(rule_broken(format!("the bytes behind entry {} are not whole records", gathered.last)));
        }
    }
    Ok(gathered)
}

impl LogWriter {
    /// Whose log this is.
    pub(super) fn owner(&self) -> Owner {
        Owner { cluster: self.options.cluster, group: self.options.group }
    }
}
