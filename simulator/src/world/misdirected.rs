//! Disks that lose writes or misdirect them, and reported success (row 10 of the fault model).
//!
//! ```text
//!   written    │ A │ B │ C │     lost         │ A │ 0 │ C │     what the place held before
//!                                misdirected  │ A │ A │ C │     a record of the same length, its checksums right
//!                                stale        │ A │ b │ C │     one that B has replaced after a cut
//! ```
//! Of the blocks around the records one comes back as it was, as zeros, or as the same block of another segment; of the
//! progress slots both do. Where and when is as for what rots (`rot`), and so is what is promised about it. A sound
//! header of another segment is left out: it is refused as a file that was swapped (R3), which takes a person.

use std::path::{Path, PathBuf};

use dledger::commitlog::WriteBatch;
use dledger::env::OpenMode;
use dledger::env::memory::MemoryDisk;
use dledger::types::Index;

use super::World;
use super::rot::{BLOCK, Places};
use crate::faults::Fault;

/// Blocks of a segment before its records.
const SEGMENT_BLOCKS: u64 = 4;
/// The footer's among them.
const FOOTER_BLOCK: u64 = 3;
/// Copies of term and vote.
const VOTE_BLOCKS: u64 = 4;

/// What stands in the place of a write.
#[derive(Clone, Copy, Debug)]
enum Instead {
    /// What was there when the process started, or zeros.
    Before,
    /// What belongs elsewhere.
    Others,
}

impl World {
    /// The write of a record that a durable slot names is lost, or another's went there.
    pub(super) fn misdirect_record(&mut self, node: usize, index: Index) {
        let kind = self.nemesis.random.within(0..3);
        if kind == 0
            && let Some((path, start, bytes)) = self.replaced(node, index)
        {
            return self.put(node, &path, start, &bytes, "fault: replaced record back");
        }
        let Some((path, start, end)) = self.place_of(node, index) else { return };
        match self.like(node, index, end - start).filter(|_bytes| kind == 1) {
            Some(bytes) => self.put(node, &path, start, &bytes, "fault: record written over another"),
            None => {
                let zeros = vec![0; usize::try_from(end - start).unwrap_or_default()];
                self.put(node, &path, start, &zeros, "fault: write of a record lost");
            }
        }
    }

    fn place_of(&self, node: usize, index: Index) -> Option<(PathBuf, u64, u64)> {
        self.nodes.get(node)?.process.as_ref()?.place_of(index)
    }

    /// The bytes of another record of the same length, in any segment.
    fn like(&mut self, node: usize, index: Index, length: u64) -> Option<Vec<u8>> {
        let last = self.nodes.get(node)?.named_durable.get();
        let from = self.nemesis.random.within(0..last.max(1));
        let others = (0..last).map(|step| Index((from + step) % last + 1)).filter(|other| *other != index);
        let mut places = others.filter_map(|other| self.place_of(node, other));
        let (path, start, _end) = places.find(|(_path, start, end)| end - start == length)?;
        read(&self.nodes.get(node)?.disk, &path, start, length)
    }

    /// A record of the same length that stood at its index until it was cut, and the place of the one there now: at any
    /// index where records of one node are struck, else at this one.
    fn replaced(&mut self, node: usize, index: Index) -> Option<(PathBuf, u64, Vec<u8>)> {
        let named = self.nodes.get(node)?.named_durable;
        let one = self.rotting.places == Places::RecordsOfOne;
        let fits = |((at, found), bytes): (&(usize, Index), &Vec<u8>)| {
            let (path, start, end) = self.place_of(node, *found)?;
            let fits = *at == node && *found <= named && (one || *found == index) && end - start == bytes.len() as u64;
            (fits && self.is_sealed(node, &path)).then(|| (path, start, bytes.clone()))
        };
        let mut fitting: Vec<_> = self.rotting.replaced.iter().filter_map(fits).collect();
        let place = self.nemesis.random.place(fitting.len().max(1));
        (place < fitting.len()).then(|| fitting.swap_remove(place))
    }

    /// Whether a segment has its footer, which names the terms of its records over a restart. In one that has not, a
    /// record of another term that fits between its neighbours is beyond recognition (docs/guarantees.md, limits).
    fn is_sealed(&self, node: usize, path: &Path) -> bool {
        let footer = self.nodes.get(node).and_then(|it| read(&it.disk, path, FOOTER_BLOCK * BLOCK, BLOCK));
        footer.is_some_and(|footer| footer.iter().any(|byte| *byte != 0))
    }

    /// Keeps what a write is about to cut: it may come back.
    pub(super) fn note_replaced(&mut self, node: usize, batch: &WriteBatch) {
        let Some(after) = batch.truncate_after.filter(|_after| self.profile.has(Fault::Misdirected)) else { return };
        let Some(process) = self.nodes.get(node).and_then(|it| it.process.as_ref()) else { return };
        let mut index = after.index.next();
        while let Ok(record) = process.log().read(index) {
            self.rotting.replaced.insert((node, index), record.bytes().to_vec());
            index = index.next();
        }
    }

    /// The last write of a block beside the records is lost, or another's went there.
    pub(super) fn lose_block(&mut self, node: usize) {
        let random = &mut self.nemesis.random;
        let Some(it) = self.nodes.get(node).filter(|it| it.process.is_some()) else { return };
        let files = it.log_files();
        // There is one file with term and vote among many segments.
        let place = if random.chance(500) { files.len() - 1 } else { random.place(files.len()) };
        let instead = if random.chance(500) { Instead::Before } else { Instead::Others };
        let Some(path) = files.get(place) else { return };
        let segments: Vec<&PathBuf> = files.iter().filter(|path| extension(path) == "seg").collect();
        let (block, source, from) = match (extension(path), instead) {
            ("seg", Instead::Others) => {
                let block = random.within(1..SEGMENT_BLOCKS);
                (block, segments.get(random.place(segments.len())).copied(), block)
            }
            ("seg", Instead::Before) => (random.within(0..SEGMENT_BLOCKS), None, 0),
            ("idx", _) => (0, None, 0),
            (_vote, Instead::Others) => (random.within(0..VOTE_BLOCKS), Some(path), random.within(0..VOTE_BLOCKS)),
            (_vote, Instead::Before) => (random.within(0..VOTE_BLOCKS), None, 0),
        };
        let Some(now) = read(&it.disk, path, block * BLOCK, BLOCK) else { return };
        let before = || it.disk_before.as_ref().and_then(|disk| read(disk, path, block * BLOCK, BLOCK));
        let bytes = match source {
            Some(source) => read(&it.disk, source, from * BLOCK, BLOCK),
            None => before().filter(|before| *before != now).or(Some(vec![0; now.len()])),
        };
        // A block over itself, or zeros over zeros, would be none.
        let Some(bytes) = bytes.filter(|bytes| *bytes != now) else { return };
        let mark = match source {
            Some(_) => "fault: block written over another",
            None => "fault: write of a block lost",
        };
        self.put(node, &path.clone(), block * BLOCK, &bytes, mark);
        self.rotting.done = true;
        self.restart_over_rot(node);
    }

    /// Both progress slots of the last segment are as they were when the process started, or as if they had never been.
    pub(super) fn lose_slots(&mut self, node: usize) {
        let Some(it) = self.nodes.get(node) else { return };
        let Some(process) = &it.process else { return };
        let Some((path, _start, _end)) = process.place_of(process.log().last()) else { return };
        let before = it.disk_before.as_ref().and_then(|disk| read(disk, &path, BLOCK, 2 * BLOCK));
        let bytes = before.unwrap_or_else(|| vec![0; 2 * BLOCK as usize]);
        self.put(node, &path, BLOCK, &bytes, "fault: writes of both slots lost");
        self.rotting.done = true;
        self.restart_over_rot(node);
    }

    fn put(&mut self, node: usize, path: &Path, at: u64, bytes: &[u8], mark: &'static str) {
        let Some(it) = self.nodes.get(node) else { return };
        let put = it.disk.replace_bytes(path, at, bytes);
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        self.trace.event(self.now, node + 1, "misdirected", &[at], || format!("{mark}: {name} at {at}: {put:?}"));
        self.marks.met(mark);
    }
}

fn extension(path: &Path) -> &str {
    path.extension().and_then(|it| it.to_str()).unwrap_or_default()
}

/// Bytes of a file; `None` where there is none, or it is too short, or some of them cannot be read.
fn read(disk: &MemoryDisk, path: &Path, offset: u64, length: u64) -> Option<Vec<u8>> {
    let file = disk.handle().open(path, OpenMode::Read).ok()?;
    let mut bytes = vec![0; usize::try_from(length.min(file.len().ok()?.checked_sub(offset)?)).ok()?];
    file.read_exact_at(&mut bytes, offset).ok()?;
    Some(bytes)
}
