//! The bytes of one file, live and durable, in sectors.
//!
//! Invariants: `dirty` names exactly the live sectors written since the last sync, successful or not; sectors at or
//! beyond the length of their side are absent, and so are bytes beyond it in the last sector (zero). After a failed
//! sync live and durable differ where `dirty` says nothing: such bytes are lost at the next power cut.

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;

use super::{Fate, Pending};

/// Bytes of a sector: what a drive writes at once.
pub const SECTOR_BYTES: usize = 512;

type Sector = Arc<[u8; SECTOR_BYTES]>;

/// One file's bytes.
#[derive(Clone, Default)]
pub(super) struct Content {
    live: Side,
    durable: Side,
    dirty: BTreeSet<u64>,
    /// All sectors of zeros are this one: a log fills its files with zeros ahead of time.
    zeros: Option<Sector>,
}

/// The sectors of a file as one side has them; an absent sector is a hole and reads as zeros.
#[derive(Clone, Default)]
struct Side {
    sectors: BTreeMap<u64, Sector>,
    len: u64,
    /// Sectors that cannot be read until they are written as a whole.
    unreadable: BTreeSet<u64>,
}

impl Content {
    /// Length in bytes, as written.
    pub(super) fn len(&self) -> u64 {
        self.live.len
    }

    /// Bytes that the file occupies; holes occupy none.
    pub(super) fn allocated(&self) -> u64 {
        (self.live.sectors.len() as u64).saturating_mul(SECTOR_BYTES as u64)
    }

    /// Fills `buffer` from `offset` as written, or answers `UnexpectedEof`.
    pub(super) fn read(&self, mut buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64).filter(|end| *end <= self.live.len);
        if end.is_none() && !buffer.is_empty() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let mut offset = offset;
        while !buffer.is_empty() {
            let (sector, within) = place(offset);
            if self.live.unreadable.contains(&sector) {
                return Err(Errno::IO.into());
            }
            let (part, rest) = buffer.split_at_mut(buffer.len().min(SECTOR_BYTES - within));
            match self.live.sectors.get(&sector).and_then(|bytes| bytes.get(within..within + part.len())) {
                Some(bytes) => part.copy_from_slice(bytes),
                None => part.fill(0),
            }
            offset += part.len() as u64;
            buffer = rest;
        }
        Ok(())
    }

    /// Writes `bytes` at `offset`. `room` is what the disk has left for new sectors and shrinks with them; when it ends,
    /// so does the write, with `StorageFull`. The caller has checked that the range is one a file can have.
    pub(super) fn write(&mut self, mut bytes: &[u8], mut offset: u64, room: &mut u64) -> io::Result<()> {
        let zeros = Arc::clone(self.zeros.get_or_insert_with(|| Arc::new([0; SECTOR_BYTES])));
        while !bytes.is_empty() {
            let (sector, within) = place(offset);
            let (part, rest) = bytes.split_at(bytes.len().min(SECTOR_BYTES - within));
            // Writing a part of it would need the rest.
            if self.live.unreadable.contains(&sector) && part.len() < SECTOR_BYTES {
                return Err(Errno::IO.into());
            }
            self.live.unreadable.remove(&sector);
            let block = match self.live.sectors.entry(sector) {
                Entry::Occupied(block) => block.into_mut(),
                Entry::Vacant(hole) => {
                    *room = room.checked_sub(SECTOR_BYTES as u64).ok_or(ErrorKind::StorageFull)?;
                    hole.insert(Arc::clone(&zeros))
                }
            };
            if part == zeros.as_slice() {
                *block = Arc::clone(&zeros);
            } else if let Some(target) = Arc::make_mut(block).get_mut(within..within + part.len()) {
                target.copy_from_slice(part);
            }
            self.dirty.insert(sector);
            offset += part.len() as u64;
            self.live.len = self.live.len.max(offset);
            bytes = rest;
        }
        Ok(())
    }

    /// Makes what is pending durable.
    pub(super) fn sync(&mut self) {
        for sector in std::mem::take(&mut self.dirty) {
            if let Some(bytes) = self.live.sectors.get(&sector) {
                self.durable.sectors.insert(sector, Arc::clone(bytes));
                self.durable.unreadable.remove(&sector);
            }
        }
        self.durable.len = self.live.len;
    }

    /// What a failed sync leaves: nothing is durable that was not, and nothing is pending any more.
    pub(super) fn sync_failed(&mut self) {
        self.dirty.clear();
    }

    /// Flips the bits of one byte on both sides.
    pub(super) fn flip(&mut self, offset: u64) -> io::Result<()> {
        if offset >= self.live.len {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.change(offset, |byte| !byte);
        Ok(())
    }

    /// Puts bytes in the place of others on both sides.
    pub(super) fn replace(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if offset.checked_add(bytes.len() as u64).is_none_or(|end| end > self.live.len) {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        for (offset, byte) in (offset..).zip(bytes) {
            self.change(offset, |_before| *byte);
        }
        Ok(())
    }

    fn change(&mut self, offset: u64, new: impl Fn(u8) -> u8) {
        let (sector, within) = place(offset);
        for side in [&mut self.live, &mut self.durable] {
            if offset < side.len {
                let block = side.sectors.entry(sector).or_insert_with(|| Arc::new([0; SECTOR_BYTES]));
                if let Some(byte) = Arc::make_mut(block).get_mut(within) {
                    *byte = new(*byte);
                }
            }
        }
    }

    /// Makes the sector of an offset unreadable on both sides.
    pub(super) fn spoil(&mut self, offset: u64) -> io::Result<()> {
        if offset >= self.live.len {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let (sector, _within) = place(offset);
        self.live.unreadable.insert(sector);
        self.durable.unreadable.insert(sector);
        Ok(())
    }

    /// A power cut: the length, then each dirty sector, meets its fate; then both sides are the same.
    pub(super) fn settle(&mut self, path: &Path, fate: &mut impl FnMut(&Pending<'_>) -> Fate) {
        if self.live.len != self.durable.len {
            let (durable, written) = (self.durable.len, self.live.len);
            self.durable.len = match fate(&Pending::Length { path, durable, written }) {
                Fate::Lost => durable,
                Fate::Kept => written,
                Fate::Garbled => durable.midpoint(written),
            };
        }
        for sector in std::mem::take(&mut self.dirty) {
            let Some(written) = self.live.sectors.get(&sector) else { continue };
            match fate(&Pending::Sector { path, sector }) {
                Fate::Lost => {}
                Fate::Kept => {
                    self.durable.unreadable.remove(&sector);
                    self.durable.sectors.insert(sector, Arc::clone(written));
                }
                Fate::Garbled => {
                    self.durable.unreadable.remove(&sector);
                    let old = self.durable.sectors.get(&sector).map_or([0; SECTOR_BYTES], |bytes| **bytes);
                    self.durable.sectors.insert(sector, Arc::new(garble(&old, written, sector)));
                }
            }
        }
        self.durable.cut();
        self.live = self.durable.clone();
    }
}

impl Side {
    /// Drops what lies beyond the length.
    fn cut(&mut self) {
        let (sector, within) = place(self.len);
        drop(self.sectors.split_off(&if within == 0 { sector } else { sector + 1 }));
        if within > 0
            && let Some(last) = self.sectors.get_mut(&sector)
            && let Some(beyond) = Arc::make_mut(last).get_mut(within..)
        {
            beyond.fill(0);
        }
    }
}

/// The sector of an offset, and the place in it.
fn place(offset: u64) -> (u64, usize) {
    let bytes = SECTOR_BYTES as u64;
    (offset / bytes, usize::try_from(offset % bytes).unwrap_or_default())
}

/// A sector whose changed bytes hold garbage, the same for the same sector and bytes. Never the bytes written and
/// never the old ones, so that a garbled byte is always a wrong one.
fn garble(old: &[u8; SECTOR_BYTES], new: &[u8; SECTOR_BYTES], sector: u64) -> [u8; SECTOR_BYTES] {
    let mut out = *old;
    let mut noise = sector;
    for (byte, (old, new)) in out.iter_mut().zip(old.iter().zip(new)) {
        noise = mix(noise.wrapping_add(1));
        if old != new {
            let mut wrong = noise.to_le_bytes().first().copied().unwrap_or_default();
            while wrong == *old || wrong == *new {
                wrong = wrong.wrapping_add(1);
            }
            *byte = wrong;
        }
    }
    out
}

/// The output function of SplitMix64: a number that looks random and is the same for the same input.
pub(super) fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}
