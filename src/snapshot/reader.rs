//! Reading a snapshot: whole, to verify it; item by item, into a machine; chunk by chunk, for a peer.
//!
//! Reads go through `pread`, where an unreadable sector is an error. Every chunk is verified whenever it is read: what
//! was good at opening may have rotted since. A snapshot that is removed meanwhile stays readable to who has it open.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use crc32fast::Hasher;

use super::chunk::{self, Body, CHUNK_HEADER_BYTES};
use super::error::{Name, SnapshotError, damaged};
use super::items::Unpacker;
use super::layout::{DATA_FILE, MANIFEST_FILE};
use super::manifest::{MAX_MANIFEST_BYTES, Manifest, judge};
use super::store::DATA_MAGIC;
use crate::env::{Disk, File, OpenMode};
use crate::fields::PREFIX_BYTES;
use crate::simulation::plants::{Plant, Plants};
use crate::state_machine::Restore;
use crate::types::{ClusterId, EntryId, GroupId};

/// A snapshot that can be read, from any thread. Cheap to clone.
#[derive(Clone)]
pub struct Snapshot {
    manifest: Arc<Manifest>,
    file: Arc<dyn File>,
    path: Arc<Path>,
    plants: Plants,
    /// Where its data starts in the file: behind the head of a backup, else at the beginning.
    start: u64,
}

impl Snapshot {
    /// Opens the snapshot of a directory and checks that it is that of this entry. Its data is not looked at yet.
    pub(super) fn open(
        disk: &dyn Disk,
        directory: &Path,
        id: EntryId,
        owner: (ClusterId, GroupId),
    ) -> Result<Self, SnapshotError> {
        let path = directory.join(MANIFEST_FILE);
        let manifest = Manifest::decode(&path, &read_manifest(disk, &path)?)?;
        if (manifest.cluster, manifest.group, manifest.id()) != (owner.0, owner.1, id) {
            let Manifest { cluster, group, .. } = manifest;
            let reason = format!("it is of entry {}, cluster {cluster}, group {group}", manifest.id());
            return Err(SnapshotError::Foreign { path, reason });
        }
        let path = directory.join(DATA_FILE);
        let file = match disk.open(&path, OpenMode::Read) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(damaged(&path, 0, "it is gone")),
            opened => opened.name(&path, 0)?,
        };
        Ok(Self { manifest: Arc::new(manifest), file, path: path.into(), start: 0, plants: Plants::NONE })
    }

    /// The same, with a rule broken.
    pub(super) fn planted(self, plants: Plants) -> Self {
        Self { plants, ..self }
    }

    /// A snapshot whose data is the rest of `file` from `start` on.
    pub(super) fn within(manifest: Manifest, file: Arc<dyn File>, path: &Path, start: u64) -> Self {
        Self { manifest: Arc::new(manifest), file, path: path.into(), start, plants: Plants::NONE }
    }

    /// What it is of.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// One of its chunks, verified; numbers start at 0. Blocks on the disk.
    ///
    /// # Errors
    /// `Damaged`, and for a number that it does not have.
    pub fn chunk(&self, number: u64) -> Result<Bytes, SnapshotError> {
        let bytes = self.read_chunk(number)?;
        self.verify_chunk(number, &bytes)?;
        Ok(bytes)
    }

    /// Its items in order. Blocks on the disk, a chunk at a time.
    #[must_use]
    pub fn items(&self) -> Items<'_> {
        Items { snapshot: self, unpacker: Unpacker::default(), next: 0, seen: 0, ended: false }
    }

    /// Gives every item to a state that is being restored, and says that these were all. Blocks on the disk.
    ///
    /// # Errors
    /// `Damaged`, and `Restore` when the machine does not take an item or cannot keep them: the state is of no use then.
    pub fn restore<R: Restore>(&self, state: &mut R) -> Result<(), SnapshotError> {
        for item in self.items() {
            state.item(&item?)?;
        }
        Ok(state.finish(&self.manifest.base)?)
    }

    /// Reads and verifies all of it. Blocks on the disk.
    ///
    /// # Errors
    /// `Unsupported` and `Damaged`.
    pub fn verify(&self) -> Result<(), SnapshotError> {
        let length = self.file.len().name(&self.path, 0)?;
        let due = self.start.saturating_add(self.manifest.data_bytes);
        if length != due {
            let reason = format!("it has {length} bytes instead of {due}");
            return Err(damaged(&self.path, length.min(due), reason));
        }
        let mut head = [0; PREFIX_BYTES];
        self.read(&mut head, 0)?;
        judge(&self.path, &head, DATA_MAGIC)?;
        let mut crc = Hasher::new();
        crc.update(&head);
        let mut items = self.items();
        while let Some(chunk) = items.advance()? {
            crc.update(&chunk);
            while items.unpack()?.is_some() {}
        }
        if crc.finalize() == self.manifest.data_crc || self.plants.has(Plant::SnapshotUnverified) {
            return Ok(());
        }
        Err(damaged(&self.path, self.start, "all of it does not match the checksum in its manifest"))
    }

    fn read_chunk(&self, number: u64) -> Result<Bytes, SnapshotError> {
        let none = || {
            let end = self.start.saturating_add(self.manifest.data_bytes);
            damaged(&self.path, end, format!("it has no chunk {number}"))
        };
        let (offset, length) = self.manifest.place(number).ok_or_else(none)?;
        let mut bytes = vec![0; length];
        self.read(&mut bytes, offset)?;
        Ok(bytes.into())
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> Result<(), SnapshotError> {
        let place = self.start.saturating_add(offset);
        let failed = |error| damaged(&self.path, place, format!("it cannot be read: {error}"));
        self.file.read_exact_at(buffer, place).map_err(failed)
    }

    /// What is wrong with a chunk.
    fn wrong(&self, number: u64, reason: &str) -> SnapshotError {
        let offset = self.manifest.place(number).map_or(0, |(offset, _length)| offset);
        damaged(&self.path, self.start.saturating_add(offset), reason)
    }

    fn verify_chunk<'a>(&self, number: u64, bytes: &'a [u8]) -> Result<Body<'a>, SnapshotError> {
        let wrong = |reason: &str| self.wrong(number, reason);
        let planted = self.plants.has(Plant::SnapshotUnverified);
        let chunk = if planted { chunk::read(bytes) } else { chunk::verify(bytes) }.map_err(wrong)?;
        let last = number + 1 == self.manifest.chunks;
        let right_kind = match chunk.body {
            Body::End(items) => last && items == self.manifest.items,
            Body::Items(_) => !last,
        };
        if chunk.number != number || chunk.snapshot != self.manifest.id() || !right_kind {
            return Err(wrong("a chunk of another place stands here"));
        }
        Ok(chunk.body)
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").field("path", &self.path).field("manifest", &self.manifest).finish_non_exhaustive()
    }
}

fn read_manifest(disk: &dyn Disk, path: &Path) -> Result<Vec<u8>, SnapshotError> {
    let file = disk.open(path, OpenMode::Read).name(path, 0)?;
    let length = file.len().name(path, 0)?;
    if length > MAX_MANIFEST_BYTES {
        return Err(damaged(path, 0, format!("it has {length} bytes")));
    }
    let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
    file.read_exact_at(&mut bytes, 0).map_err(|error| damaged(path, 0, format!("it cannot be read: {error}")))?;
    Ok(bytes)
}

/// The items of a snapshot, in order, each verified. Ends after the first error.
#[derive(Debug)]
pub struct Items<'a> {
    snapshot: &'a Snapshot,
    unpacker: Unpacker,
    next: u64,
    seen: u64,
    ended: bool,
}

impl Items<'_> {
    /// Reads and verifies the next chunk; `None` when the one before was the end.
    fn advance(&mut self) -> Result<Option<Bytes>, SnapshotError> {
        if self.ended {
            return Ok(None);
        }
        let bytes = self.snapshot.read_chunk(self.next)?;
        match self.snapshot.verify_chunk(self.next, &bytes)? {
            Body::Items(_) => self.unpacker.feed(bytes.slice(CHUNK_HEADER_BYTES..)),
            Body::End(items) if items == self.seen && self.unpacker.is_between_items() => self.ended = true,
            Body::End(_) => return Err(self.wrong("it has other items than it says")),
        }
        self.next += 1;
        Ok(Some(bytes))
    }

    /// The next item of the chunks so far.
    fn unpack(&mut self) -> Result<Option<Bytes>, SnapshotError> {
        let item = self.unpacker.next().map_err(|reason| self.wrong(reason))?;
        self.seen += u64::from(item.is_some());
        Ok(item)
    }

    fn wrong(&self, reason: &str) -> SnapshotError {
        self.snapshot.wrong(self.next, reason)
    }

    fn step(&mut self) -> Result<Option<Bytes>, SnapshotError> {
        loop {
            if let Some(item) = self.unpack()? {
                return Ok(Some(item));
            }
            if self.advance()?.is_none() {
                return Ok(None);
            }
        }
    }
}

impl Iterator for Items<'_> {
    type Item = Result<Bytes, SnapshotError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let step = self.step();
        self.ended |= !matches!(step, Ok(Some(_)));
        step.transpose()
    }
}
