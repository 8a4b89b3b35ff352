//! A segment in use: its file, its map, its terms, and how far it may be read.
//!
//! Shared by the writer and by readers on any thread. Invariants: `published` only grows, and grows only after the
//! record it names stands in the file and in the table of offsets; bytes below it never change,
//! those of a hole excepted (`mend`), which nobody holds and nobody looks at meanwhile (`gate`). A region is read
//! through the map only after this process has written it or has read it once by `pread`, where an unreadable
//! sector is an error and not a signal. What is read is told from what else a drive may show there by index, position
//! and, where it is known, term (`holds_at`).

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;

use super::format::RecordHeader;
use super::hole::Hole;
use super::index::{self, IndexFile, Offsets};
use super::segment::header::SegmentHeader;
use super::walk::Limit;
use crate::env::{Disk, File, Map, OpenMode};
use crate::simulation::marks::{Mark, reach};
use crate::types::{Index, Term, TermRun};

/// Regions are tried by `pread` in this size.
const PROBE_BYTES: u64 = 256 << 10;

/// One segment file in use.
pub(super) struct LiveSegment {
    pub(super) path: PathBuf,
    pub(super) index_path: PathBuf,
    pub(super) header: SegmentHeader,
    pub(super) file: Arc<dyn File>,
    /// The last index that readers may see; the one before the segment while there is none.
    published: AtomicU64,
    /// Bytes the file has.
    length: AtomicU64,
    offsets: RwLock<Offsets>,
    /// The terms of its records, as they were written, or as opening could tell them; empty where it could not. A sound
    /// record of another term is an older one that has come back.
    terms: RwLock<Vec<TermRun>>,
    map: RwLock<Option<(u64, Arc<dyn Map>)>>,
    /// One for each region of [`PROBE_BYTES`] that must be tried before it is mapped; none for a file that this
    /// process has written or scanned.
    untried: Vec<AtomicBool>,
    /// Where the records end, when that is known and they were not scanned.
    limit: Option<Limit>,
    /// Held by a reader from taking a slice of the map until what it hands out is verified, and by the writer alone
    /// while it mends: nobody looks at bytes that change.
    gate: RwLock<()>,
}

/// Where a segment's files are.
pub(super) struct Paths {
    pub(super) segment: PathBuf,
    pub(super) index: PathBuf,
}

impl LiveSegment {
    /// A segment that this process has written or scanned to its end; `ends` says where its records end.
    pub(super) fn known(paths: Paths, header: SegmentHeader, file: Arc<dyn File>, length: u64, ends: Vec<u32>) -> Self {
        let published = header.previous.index.plus(ends.len() as u64);
        Self::new(paths, header, file, length, (published, Offsets::Table(ends), Vec::new(), None))
    }

    /// A sealed segment whose records were not looked at; its footer says where they end.
    pub(super) fn sealed(paths: Paths, header: SegmentHeader, file: Arc<dyn File>, length: u64, limit: Limit) -> Self {
        let untried = (0..length.div_ceil(PROBE_BYTES)).map(|_region| AtomicBool::new(true)).collect();
        Self::new(paths, header, file, length, (limit.last.index, Offsets::Unloaded, untried, Some(limit)))
    }

    fn new(
        paths: Paths,
        header: SegmentHeader,
        file: Arc<dyn File>,
        length: u64,
        (published, offsets, untried, limit): (Index, Offsets, Vec<AtomicBool>, Option<Limit>),
    ) -> Self {
        Self {
            path: paths.segment,
            index_path: paths.index,
            header,
            file,
            published: AtomicU64::new(published.get()),
            length: AtomicU64::new(length),
            offsets: RwLock::new(offsets),
            terms: RwLock::default(),
            map: RwLock::new(None),
            untried,
            limit,
            gate: RwLock::new(()),
        }
    }

    /// The same with the terms of its records, unless some of them are lost in `holes`.
    pub(super) fn with_terms(self, runs: &[TermRun], holes: &[Hole]) -> Self {
        if holes.iter().any(|hole| hole.path == self.path && hole.unknown().is_some()) {
            return self;
        }
        Self { terms: RwLock::new(runs.to_vec()), ..self }
    }

    /// The term that the record of an index has, when that is known without reading it.
    pub(super) fn term_of(&self, index: Index) -> Option<Term> {
        let runs = self.terms.read().unwrap_or_else(PoisonError::into_inner);
        let behind = runs.partition_point(|run| run.first <= index);
        runs.get(behind.checked_sub(1)?).map(|run| run.term)
    }

    /// Takes the terms of all records from somebody who has just read them, up to `last`; false when they are not what
    /// was written. What was known of a part only, behind records that were lost, is known of all of them then.
    pub(super) fn learn_terms(&self, runs: &[TermRun], last: Index) -> bool {
        let mut terms = self.terms.write().unwrap_or_else(PoisonError::into_inner);
        if terms.first().is_some_and(|run| run.first == self.header.first()) {
            return terms.iter().filter(|run| run.first <= last).eq(runs);
        }
        *terms = runs.to_vec();
        true
    }

    /// Whether a record is the one that belongs at an offset of this segment, and not one that a drive has put there.
    pub(super) fn holds_at(&self, offset: u64, index: Index, record: &RecordHeader) -> bool {
        let right = record.id.index == index
            && self.header.offset_of(record.position) == Some(offset)
            && self.term_of(index).is_none_or(|term| term == record.id.term);
        if !right {
            reach(Mark::Misplaced);
        }
        right
    }

    /// The last index that readers may see.
    pub(super) fn published(&self) -> Index {
        Index(self.published.load(Ordering::Acquire))
    }

    /// Shows records to readers: they end at `ends`, have the terms of `runs`, and stand behind those already shown.
    pub(super) fn publish(&self, ends: &[u32], runs: &[TermRun]) {
        {
            let mut terms = self.terms.write().unwrap_or_else(PoisonError::into_inner);
            let known = terms.last().map(|run| run.term);
            terms.extend(runs.iter().filter(|run| Some(run.term) != known));
        }
        if let Offsets::Table(table) = &mut *self.offsets.write().unwrap_or_else(PoisonError::into_inner) {
            table.extend_from_slice(ends);
        }
        self.published.fetch_add(ends.len() as u64, Ordering::Release);
    }

    /// Bytes the file has.
    pub(super) fn length(&self) -> u64 {
        self.length.load(Ordering::Acquire)
    }

    /// The file has become longer.
    pub(super) fn grown_to(&self, length: u64) {
        self.length.fetch_max(length, Ordering::AcqRel);
    }

    /// Start and end offset of a record; `None` when its place cannot be found out.
    pub(super) fn bounds(&self, disk: &dyn Disk, index: Index) -> Option<(u64, u64)> {
        let records_offset = self.header.records_offset();
        self.with_offsets(disk, index, |offsets, nth| offsets.bounds(nth, records_offset))
    }

    /// End offset of a record; `None` when it cannot be found out.
    pub(super) fn end(&self, disk: &dyn Disk, index: Index) -> Option<u64> {
        self.with_offsets(disk, index, Offsets::end)
    }

    fn with_offsets<T>(&self, disk: &dyn Disk, index: Index, ask: impl Fn(&Offsets, u64) -> Option<T>) -> Option<T> {
        let nth = index.get().checked_sub(self.header.first().get())?;
        {
            let offsets = self.offsets.read().unwrap_or_else(PoisonError::into_inner);
            if !matches!(*offsets, Offsets::Unloaded) {
                return ask(&offsets, nth);
            }
        }
        let mut offsets = self.offsets.write().unwrap_or_else(PoisonError::into_inner);
        if matches!(*offsets, Offsets::Unloaded) {
            *offsets = self.load(disk);
        }
        ask(&offsets, nth)
    }

    /// Notes where records end that were hidden until now: the first of them is `index`, `start` is where it starts.
    pub(super) fn found_out(&self, index: Index, start: u64, ends: &[u32]) {
        let nth = usize::try_from(index.get().saturating_sub(self.header.first().get())).unwrap_or(usize::MAX);
        let start = u32::try_from(start).unwrap_or(u32::MAX);
        if let Offsets::Table(table) = &mut *self.offsets.write().unwrap_or_else(PoisonError::into_inner) {
            if let Some(before) = nth.checked_sub(1).and_then(|before| table.get_mut(before)) {
                *before = start;
            }
            for (known, end) in table.iter_mut().skip(nth).zip(ends) {
                *known = *end;
            }
        }
    }

    /// To be held while a slice is taken and verified.
    pub(super) fn read_gate(&self) -> RwLockReadGuard<'_, ()> {
        self.gate.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be held while published bytes are written over.
    pub(super) fn write_gate(&self) -> RwLockWriteGuard<'_, ()> {
        self.gate.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn load(&self, disk: &dyn Disk) -> Offsets {
        if let Some(file) = IndexFile::open(disk, &self.index_path, self.header.name()) {
            return Offsets::File(file);
        }
        let ends = index::rebuild(&*self.file, &self.path, &self.header, self.limit, self.length());
        let wanted = self.published().get().saturating_sub(self.header.previous.index.get());
        if ends.len() as u64 >= wanted && !ends.contains(&0) {
            // The table serves as well as the file; a disk without room only costs the next opening a rebuild.
            let _without_room = index::write(disk, &self.index_path, &self.header, &ends);
        }
        Offsets::Table(ends)
    }

    /// Finds out anew where the records stand, when that is taken from a file: it may have rotted since.
    pub(super) fn reload_offsets(&self, disk: &dyn Disk) {
        let mut offsets = self.offsets.write().unwrap_or_else(PoisonError::into_inner);
        if matches!(*offsets, Offsets::File(_)) {
            *offsets = self.load(disk);
        }
    }

    /// Makes an index file anew that cannot be used: from memory, else from the records.
    pub(super) fn renew_index(&self, disk: &dyn Disk) -> io::Result<()> {
        self.reload_offsets(disk);
        self.write_index(disk)
    }

    /// Whether there is an index file that cannot be used.
    pub(super) fn has_bad_index(&self, disk: &dyn Disk) -> bool {
        let exists = disk.open(&self.index_path, OpenMode::Read).is_ok();
        exists && IndexFile::open(disk, &self.index_path, self.header.name()).is_none()
    }

    /// Writes the index file of a segment that takes no more records, and lets go of the table in memory.
    pub(super) fn write_index(&self, disk: &dyn Disk) -> io::Result<()> {
        {
            let offsets = self.offsets.read().unwrap_or_else(PoisonError::into_inner);
            let Offsets::Table(ends) = &*offsets else { return Ok(()) };
            if ends.contains(&0) {
                return Ok(());
            }
            index::write(disk, &self.index_path, &self.header, ends)?;
        }
        if let Some(file) = IndexFile::open(disk, &self.index_path, self.header.name()) {
            *self.offsets.write().unwrap_or_else(PoisonError::into_inner) = Offsets::File(file);
        }
        Ok(())
    }

    /// The bytes of a range below the published end, as a slice of the map; as a copy where a sector nearby cannot be
    /// read. The caller holds the gate.
    pub(super) fn slice(&self, start: u64, end: u64) -> io::Result<Bytes> {
        let len = usize::try_from(end.saturating_sub(start)).map_err(|_too_long| io::ErrorKind::InvalidInput)?;
        if self.probe(start, end).is_err() {
            let mut bytes = vec![0; len];
            self.file.read_exact_at(&mut bytes, start)?;
            return Ok(bytes.into());
        }
        {
            let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
            if let Some((mapped, map)) = &*map
                && *mapped >= end
            {
                return map.slice(start, len);
            }
        }
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        let length = self.length();
        let made = self.file.map(length)?;
        let slice = made.slice(start, len);
        *map = Some((length, made));
        slice
    }

    fn probe(&self, start: u64, end: u64) -> io::Result<()> {
        let mut scratch = Vec::new();
        for region in start / PROBE_BYTES..end.div_ceil(PROBE_BYTES) {
            let Some(untried) = usize::try_from(region).ok().and_then(|region| self.untried.get(region)) else {
                return Ok(());
            };
            if untried.load(Ordering::Acquire) {
                let from = region * PROBE_BYTES;
                let bytes = self.length().saturating_sub(from).min(PROBE_BYTES);
                scratch.resize(usize::try_from(bytes).unwrap_or(0), 0);
                self.file.read_exact_at(&mut scratch, from)?;
                untried.store(false, Ordering::Release);
            }
        }
        Ok(())
    }
}
