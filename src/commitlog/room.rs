//! When space is prepared, and what is done when there is none.
//!
//! Space is prepared in chunks ahead of the write head, by jobs that run elsewhere; a write prepares by itself only
//! when the next chunk is not there yet. A job that finds the disk full is no failure: the log goes on in what is
//! prepared, then in the reserve, and says so in [`Space`]; jobs are tried again as soon as the disk has room.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::create;
use super::layout::{RESERVE_FILE, SPARE_FILE};
use super::live::LiveSegment;
use super::poison::{LogFault, broken};
use super::prepare::{self, MAX_CHUNK_BYTES, PrepareDone, PrepareJob, Work};
use super::segment::block_aligned;
use super::space::Space;
use super::writer::LogWriter;
use crate::failure::is_full;

/// The reserve is this part of a segment, within bounds.
const RESERVE_PART: u64 = 16;
const MIN_RESERVE_BYTES: u64 = 128 << 10;
const MAX_RESERVE_BYTES: u64 = 4 << 20;

/// What the outstanding job is to bring.
pub(super) enum Wanted {
    /// The active segment prepared up to this offset.
    Chunk { to: u64 },
    /// A blank file of this size.
    Reserve { bytes: u64 },
    /// A blank file of this size.
    Spare { bytes: u64 },
    /// An index file.
    Index,
}

/// Bytes of the reserve for segments of a size.
pub(super) fn reserve_bytes(segment_bytes: u64) -> u64 {
    (segment_bytes / RESERVE_PART).clamp(MIN_RESERVE_BYTES, MAX_RESERVE_BYTES)
}

impl LogWriter {
    /// Work that is due, to be run on any thread and given back to [`LogWriter::prepared`]; one at a time. `None`
    /// when nothing is due, when a job is outstanding, or when the disk is known to lack the room. Call it after
    /// each write, and now and then while [`Space`] is not open: that is how service resumes.
    pub fn prepare_job(&mut self) -> Option<PrepareJob> {
        if self.job.is_some() || self.poison.check().is_err() {
            return None;
        }
        let open = self.shared.space.get() == Space::Open;
        let Some((wanted, work, bytes)) = self.due() else {
            if !open && self.reserve_bytes > 0 && !self.lacks_room_for(self.active.chunk) {
                self.shared.space.set(Space::Open);
            }
            return None;
        };
        if !open && self.lacks_room_for(bytes) {
            return None;
        }
        let (job, stage) = PrepareJob::new(work);
        self.job = Some((stage, wanted));
        Some(job)
    }

    /// Takes a job back that has run. A job that a write could not wait for was settled by that write.
    ///
    /// # Errors
    /// `Poisoned`, when the job failed for another reason than a full disk.
    pub fn prepared(&mut self, done: PrepareDone) -> Result<(), LogFault> {
        self.poison.check()?;
        let ours = self.job.as_ref().is_some_and(|(stage, _)| Arc::ptr_eq(stage, &done.stage));
        if !ours {
            return Ok(());
        }
        let settled = self.settle_job();
        self.poison.note(settled)
    }

    /// Ends the outstanding job, if there is one, and takes what it brought.
    pub(super) fn settle_job(&mut self) -> Result<(), LogFault> {
        let Some((stage, wanted)) = self.job.take() else { return Ok(()) };
        match (prepare::settle(&stage), wanted) {
            (None, _) => return Ok(()),
            // The index is only a help; without it the table stays in memory.
            (Some(_), Wanted::Index) => return Ok(()),
            (Some(Err(error)), _) if is_full(&error) => {
                self.shared.space.set(Space::Reserve);
                return Ok(());
            }
            (Some(Err(error)), _) => return Err(broken("preparing space", &error)),
            (Some(Ok(())), Wanted::Chunk { to }) => self.chunk_ready(to),
            (Some(Ok(())), Wanted::Reserve { bytes }) => self.reserve_bytes = bytes,
            (Some(Ok(())), Wanted::Spare { bytes }) => self.spare_bytes = bytes,
        }
        self.made_room(true);
        Ok(())
    }

    /// Ends the outstanding job if it writes the index of a segment.
    pub(super) fn settle_index_job(&mut self) -> Result<(), LogFault> {
        match self.job {
            Some((_, Wanted::Index)) => self.settle_job(),
            Some(_) | None => Ok(()),
        }
    }

    /// Space was prepared: as much as it should be, or only what a write could not do without.
    pub(super) fn made_room(&self, ample: bool) {
        self.shared.space.set(if ample && self.reserve_bytes > 0 { Space::Open } else { Space::Reserve });
        self.count_bytes();
    }

    fn chunk_ready(&mut self, to: u64) {
        self.active.prepared = self.active.prepared.max(to);
        self.active.chunk = (self.active.chunk * 2).min(MAX_CHUNK_BYTES);
        self.active.segment.grown_to(to);
    }

    fn due(&mut self) -> Option<(Wanted, Work, u64)> {
        let active = &self.active;
        let capacity = block_aligned(self.options.segment_bytes);
        let (end, disk) = (active.end_offset(), self.disk.clone());
        if active.prepared.saturating_sub(end) < active.chunk / 2 && active.prepared < capacity {
            let (from, to) = (active.prepared, capacity.min(active.prepared + active.chunk));
            let path = active.segment.path.clone();
            return Some((Wanted::Chunk { to }, Work::Extend { disk, path, from, to }, to - from));
        }
        if self.reserve_bytes == 0 {
            let bytes = reserve_bytes(self.options.segment_bytes);
            let path = self.log_dir.join(RESERVE_FILE);
            return Some((Wanted::Reserve { bytes }, Work::Blank { disk, path, bytes }, bytes));
        }
        if self.spare_bytes == 0 && end >= capacity / 4 * 3 {
            let (bytes, path) = (active.chunk.min(capacity), self.log_dir.join(SPARE_FILE));
            return Some((Wanted::Spare { bytes }, Work::Blank { disk, path, bytes }, bytes));
        }
        let segment: Arc<LiveSegment> = self.unindexed.pop()?;
        Some((Wanted::Index, Work::Index { disk, segment }, 0))
    }

    /// True when the disk says that it has no room for so much: spares filling what is left of it in vain.
    pub(super) fn lacks_room_for(&self, bytes: u64) -> bool {
        self.disk.free_bytes(&self.log_dir).is_ok_and(|free| free < bytes)
    }

    /// True when a batch may go into the active segment, prepared or not.
    pub(super) fn fits_active(&self, bytes: u64, footer_body: u64) -> bool {
        self.active.summary.count == 0 && self.needed(bytes, footer_body) <= self.active.prepared
            || self.needed(bytes, footer_body) <= block_aligned(self.options.segment_bytes)
    }

    fn needed(&self, bytes: u64, footer_body: u64) -> u64 {
        create::bytes_needed(
            self.active.end_offset().saturating_add(bytes),
            self.active.summary.body_bytes().saturating_add(footer_body),
        )
    }

    /// Makes sure that a batch, and the footer behind it, fits into prepared space; on a full disk that may be the
    /// reserve.
    pub(super) fn make_room(&mut self, bytes: u64, footer_body: u64) -> Result<(), LogFault> {
        let needed = self.needed(bytes, footer_body);
        if needed <= self.active.prepared {
            return Ok(());
        }
        self.settle_job()?;
        let from = self.active.prepared;
        if needed <= from {
            return Ok(());
        }
        let capacity = block_aligned(self.options.segment_bytes);
        let ample = needed.saturating_add(self.active.chunk).min(capacity).max(needed);
        for to in [ample, needed] {
            if self.lacks_room_for(to - from) {
                continue;
            }
            match prepare::fill(&*self.active.segment.file, from, to) {
                Ok(()) => {
                    self.chunk_ready(to);
                    self.made_room(to == ample);
                    return Ok(());
                }
                Err(error) if is_full(&error) => {}
                Err(error) => return Err(broken(&self.active.segment.path.display().to_string(), &error)),
            }
        }
        let summary = &self.active.summary;
        self.begin_segment((summary.last, summary.last_time, summary.end), bytes, footer_body)
    }

    /// Counts anew what the log's files take on disk.
    pub(super) fn count_bytes(&self) {
        let view = self.shared.view.load();
        let segments: u64 = view.parts.iter().map(|part| part.segment.length()).sum();
        self.shared.disk_bytes.store(segments + self.reserve_bytes + self.spare_bytes, Ordering::Relaxed);
    }
}
