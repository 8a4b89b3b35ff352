//! From one segment to the next: when it is full, and when the log is cut.
//!
//! ```text
//!   sync the old ─► make the new, whole (create.rs) ─► seal the old ─► show readers ─► remove what was cut
//! ```
//! A cut is durable with the new segment: its generation is higher, so from its first index on it wins over every
//! older file. Bytes that readers may hold are never overwritten, and files that were cut are removed, not reused.

use std::sync::Arc;

use super::create;
use super::layout::{NEW_SEGMENT_FILE, RESERVE_FILE, SPARE_FILE};
use super::live::LiveSegment;
use super::poison::{LogFault, broken};
use super::prepare::{self, FIRST_CHUNK_BYTES, MAX_CHUNK_BYTES};
use super::reader::{Part, View};
use super::segment::footer::Summary;
use super::segment::header::SegmentHeader;
use super::segment::slots::Slot;
use super::space::Space;
use super::writer::{Active, LogWriter, rule_broken};
use crate::env::{File, OpenMode};
use crate::simulation::marks::{Mark, reach};
use crate::types::{EntryId, Index, LogTime, Position};

/// Offsets in a segment are 32 bits wide in its index.
pub(super) const MAX_SEGMENT_BYTES: u64 = 1 << 31;

impl LogWriter {
    /// Starts a segment behind `previous` with room for records of `bytes`.
    pub(super) fn begin_segment(
        &mut self,
        previous: (EntryId, LogTime, Position),
        bytes: u64,
        footer_body: u64,
    ) -> Result<(), LogFault> {
        self.settle_job()?;
        self.sync()?;
        let header = self.next_header(previous);
        let needed = create::bytes_needed(header.records_offset().saturating_add(bytes), footer_body);
        if needed > MAX_SEGMENT_BYTES {
            return Err(rule_broken(format!("a batch of {bytes} bytes does not fit into one segment")));
        }
        let (file, unfinished, length) = self.blank_file(needed)?;
        let failed = |error: &std::io::Error| broken("making a segment", error);
        let empty = Slot::empty(&header, 0, self.committed.min(previous.0.index));
        let unfinished = self.log_dir.join(unfinished);
        let slot = create::finish(&*self.disk, &self.log_dir, &unfinished, &file, &header, empty, self.plants)
            .map_err(|error| failed(&error))?;
        reach(Mark::Rolled);
        self.generation = header.generation;
        self.close_active(previous)?;
        let paths = create::paths(&self.log_dir, header.name());
        let segment = Arc::new(LiveSegment::known(paths, header, file, length, Vec::new()));
        let old = std::mem::replace(&mut self.active, fresh(segment, previous, slot, length));
        self.active.chunk = old.chunk;
        self.memberships.retain(|(index, _)| *index <= previous.0.index);
        self.show(previous.0, old.segment);
        self.count_bytes();
        Ok(())
    }

    fn next_header(&self, (previous, previous_time, first_position): (EntryId, LogTime, Position)) -> SegmentHeader {
        let owner = self.owner();
        let in_force = self.memberships.iter().rev().find(|(index, _)| *index <= previous.index);
        // A hole may hide a newer one: then the header names none.
        let since = in_force.map_or(Index::ZERO, |(index, _)| *index);
        let hidden = self.shared.known.from(since.next()).is_some_and(|hole| hole.first <= previous.index);
        let in_force = in_force.filter(|_known| !hidden);
        SegmentHeader {
            cluster: owner.cluster,
            group: owner.group,
            generation: self.generation + 1,
            first_position,
            previous,
            previous_time,
            wall_ms: self.options.wall_ms,
            membership: in_force.cloned().unwrap_or_default(),
        }
    }

    /// A blank file of at least `needed` bytes: the spare, else a new one, else the reserve.
    pub(super) fn blank_file(&mut self, needed: u64) -> Result<(Arc<dyn File>, &'static str, u64), LogFault> {
        if self.spare_bytes >= needed {
            let length = std::mem::take(&mut self.spare_bytes);
            return self.open_blank(SPARE_FILE).map(|file| (file, SPARE_FILE, length));
        }
        let path = self.log_dir.join(NEW_SEGMENT_FILE);
        let ample = needed.max(FIRST_CHUNK_BYTES.min(self.options.segment_bytes));
        for length in [ample, needed] {
            if self.lacks_room_for(length) {
                continue;
            }
            match prepare::make_blank(&*self.disk, &path, length) {
                Ok(file) => {
                    self.made_room(length == ample);
                    return Ok((file, NEW_SEGMENT_FILE, length));
                }
                Err(error) if crate::failure::is_full(&error) => {}
                Err(error) => return Err(broken("making a segment", &error)),
            }
        }
        if self.reserve_bytes >= needed {
            self.shared.space.set(Space::Reserve);
            let length = std::mem::take(&mut self.reserve_bytes);
            return self.open_blank(RESERVE_FILE).map(|file| (file, RESERVE_FILE, length));
        }
        self.shared.space.set(Space::Exhausted);
        Err(LogFault::Full { needed })
    }

    fn open_blank(&self, name: &str) -> Result<Arc<dyn File>, LogFault> {
        let opened = self.disk.open(&self.log_dir.join(name), OpenMode::Write);
        opened.map_err(|error| broken("opening a blank segment", &error))
    }

    /// Seals the active segment at `previous`, unless nothing of it is left.
    fn close_active(&mut self, (last, last_time, end): (EntryId, LogTime, Position)) -> Result<(), LogFault> {
        let active = &mut self.active;
        let written_end = active.end_offset();
        if last.index < active.segment.header.first() {
            return Ok(());
        }
        active.summary.clip(last, last_time, end);
        let sealed = create::seal(&*active.segment.file, &active.segment.header, &active.summary, written_end);
        let length = sealed.map_err(|error| broken(&active.segment.path.display().to_string(), &error))?;
        active.segment.grown_to(length);
        self.unindexed.push(active.segment.clone());
        Ok(())
    }

    /// Shows readers the log that ends with `last` and goes on in the new active segment.
    fn show(&mut self, last: EntryId, old: Arc<LiveSegment>) {
        let view = self.shared.view.load_full();
        let is_cut = |part: &Part| part.segment.header.first() > last.index;
        let mut parts: Vec<Part> = view.parts.iter().filter(|part| !is_cut(part)).cloned().collect();
        if let Some(part) = parts.last_mut() {
            part.limit = part.limit.min(last.index);
        }
        parts.push(Part::whole(self.active.segment.clone()));
        {
            let known = self.shared.known.change();
            self.shared.view.store(Arc::new(View { parts, ..View::clone(&view) }));
            known.cut(last.index, self.active.segment.header.first_position);
        }
        drop(old);
        self.unindexed.retain(|segment| segment.header.first() <= last.index);
        for part in view.parts.iter().filter(|part| is_cut(part)) {
            // What cannot be removed now is removed at the next opening: the higher generation wins over it.
            let _left_for_later = self.disk.remove(&part.segment.path);
            let _may_be_absent = self.disk.remove(&part.segment.index_path);
        }
    }
}

/// An active segment without records.
pub(super) fn fresh(
    segment: Arc<LiveSegment>,
    (last, last_time, end): (EntryId, LogTime, Position),
    slot: Slot,
    prepared: u64,
) -> Active {
    let summary = Summary { last, last_time, end, ..Summary::default() };
    let chunk = prepared.clamp(FIRST_CHUNK_BYTES, MAX_CHUNK_BYTES);
    Active { segment, summary, prepared, chunk, slot, synced: (end, last), batches_since_slot: 0 }
}
