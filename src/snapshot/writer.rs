//! Writing a snapshot: chunks to the data file, then the manifest that makes it whole.
//!
//! ```text
//!   begin            write …                       finish
//!   directory, data  chunk │ chunk │ … (synced     sync data, write manifest.tmp, sync it, sync directory,
//!   sync the parent  every megabyte)                rename to manifest, sync directory
//! ```
//! Until the rename the directory has no manifest and counts for nothing, whenever the power fails; the sync before it
//! makes the names of both files durable, so that a manifest never stands there alone. The first error is the last: a
//! failed sync is not tried again.

use std::io::IoSlice;
use std::path::PathBuf;
use std::sync::Arc;

use crc32fast::Hasher;

use super::chunk::{self, Body, CHUNK_HEADER_BYTES};
use super::error::{Name, SnapshotError};
use super::items::MAX_ITEM_BYTES;
use super::layout::{DATA_FILE, MANIFEST_FILE, NEW_MANIFEST_FILE};
use super::manifest::{Manifest, VERSION};
use super::store::{DATA_MAGIC, discard};
use crate::env::{Disk, File, OpenMode};
use crate::fields::Block;
use crate::simulation::plants::{Plant, Plants};
use crate::types::{ClusterId, EntryId, GroupId, LogBase};

/// Bytes between two syncs of the data file. All at once at the end, a large snapshot would make the log's own syncs
/// wait behind it.
const SYNC_BYTES: u64 = 1 << 20;

/// What a writer is made from.
pub(super) struct Start {
    pub(super) disk: Arc<dyn Disk>,
    /// The directory of all snapshots.
    pub(super) parent: PathBuf,
    /// The directory of this one, which the writer owns.
    pub(super) directory: PathBuf,
    pub(super) cluster: ClusterId,
    pub(super) group: GroupId,
    pub(super) base: LogBase,
    pub(super) chunk_bytes: u32,
    /// What the snapshot must turn out to be, when it is fetched from a peer.
    pub(super) announced: Option<Manifest>,
    /// Which rule a simulation breaks.
    pub(super) plants: Plants,
}

/// Writes a snapshot chunk by chunk. Dropped before [`ChunkWriter::finish`], it removes what it wrote as far as the disk
/// lets it; the rest goes when the store is opened.
pub struct ChunkWriter {
    start: Start,
    file: Arc<dyn File>,
    /// Bytes written, and how many of them are not synced.
    written: u64,
    unsynced: u64,
    chunks: u64,
    crc: Hasher,
    /// A chunk that is not full: only the end may follow.
    short: bool,
    /// How many items the end said there are.
    ended: Option<u64>,
    failed: bool,
    finished: bool,
}

impl ChunkWriter {
    /// Makes the data file in a directory that is new.
    pub(super) fn create(start: Start) -> Result<Self, SnapshotError> {
        let path = start.directory.join(DATA_FILE);
        let file = match start.disk.open(&path, OpenMode::Create) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(SnapshotError::Exists { id: start.base.entry });
            }
            Err(error) => {
                drop(discard(&*start.disk, &start.parent, &start.directory));
                return Err(error).name(&path, 0);
            }
            Ok(file) => file,
        };
        let crc = Hasher::new();
        let (chunks, short, ended) = (0, false, None);
        let (failed, finished) = (false, false);
        let mut writer = Self { start, file, written: 0, unsynced: 0, chunks, crc, short, ended, failed, finished };
        writer.append(&Block::with_prefix(DATA_MAGIC, VERSION).done())?;
        Ok(writer)
    }

    /// The entry whose snapshot it writes.
    #[must_use]
    pub fn id(&self) -> EntryId {
        self.start.base.entry
    }

    /// The number of the next chunk: where a transfer that broke off goes on.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.chunks
    }

    /// Verifies a chunk that came from a peer and writes it. Blocks on the disk; now and then on a sync.
    ///
    /// # Errors
    /// `Refused` when it is not the next chunk of this snapshot: nothing is written then, and the right one may follow.
    /// `DiskFull` and `Io`, after which only dropping it is left.
    pub fn write(&mut self, chunk: &[u8]) -> Result<(), SnapshotError> {
        let believed = self.start.plants.has(Plant::ChunkBelieved).then(|| chunk::resealed(chunk));
        let chunk = believed.as_deref().unwrap_or(chunk);
        let verified = chunk::verify(chunk).map_err(|reason| self.refused(reason))?;
        if verified.snapshot != self.id() {
            return Err(self.refused(format!("a chunk of snapshot {}", verified.snapshot)));
        }
        if verified.number != self.chunks {
            return Err(self.refused(format!("chunk {} instead of {}", verified.number, self.chunks)));
        }
        let full = self.start.chunk_bytes as usize;
        match verified.body {
            _ if self.ended.is_some() => Err(self.refused("a chunk behind the end")),
            Body::Items(_) if self.short || chunk.len() > full => Err(self.refused("chunks of another size")),
            Body::Items(_) => self.put(chunk),
            Body::End(items) => self.put_end(chunk, items),
        }
    }

    /// Makes the snapshot whole and durable. Blocks on the disk.
    ///
    /// # Errors
    /// `Refused` when the end has not come or it is not what was announced, `DiskFull`, `Io`: it is as if it had never
    /// been begun. When the very last sync fails, nobody knows; the next opening settles it.
    pub fn finish(mut self) -> Result<Manifest, SnapshotError> {
        let Some(items) = self.ended else { return Err(self.refused("it has no end yet")) };
        let manifest = Manifest {
            cluster: self.start.cluster,
            group: self.start.group,
            base: self.start.base.clone(),
            data_bytes: self.written,
            data_crc: self.crc.clone().finalize(),
            chunk_bytes: self.start.chunk_bytes,
            chunks: self.chunks,
            items,
        };
        let believed = self.start.plants.has(Plant::ChunkBelieved);
        if self.start.announced.as_ref().is_some_and(|announced| *announced != manifest) && !believed {
            return Err(self.refused("its data is not what the manifest announced"));
        }
        self.usable()?;
        self.failed = true;
        if !self.start.plants.has(Plant::SnapshotNotSynced) {
            self.file.sync().name(&self.path(DATA_FILE), self.unsynced)?;
        }
        self.publish(&manifest)?;
        self.finished = true;
        Ok(manifest)
    }

    fn publish(&self, manifest: &Manifest) -> Result<(), SnapshotError> {
        let Start { disk, directory, .. } = &self.start;
        let (unfinished, whole) = (self.path(NEW_MANIFEST_FILE), self.path(MANIFEST_FILE));
        let bytes = manifest.encode();
        let needed = bytes.len() as u64;
        let file = disk.open(&unfinished, OpenMode::Create).name(&unfinished, needed)?;
        file.write_all_at(&[IoSlice::new(&bytes)], 0).name(&unfinished, needed)?;
        if self.start.plants.has(Plant::SnapshotNotSynced) {
            return disk.rename(&unfinished, &whole).name(&whole, 0);
        }
        file.sync().name(&unfinished, needed)?;
        disk.sync_dir(directory).name(directory, 0)?;
        disk.rename(&unfinished, &whole).name(&whole, 0)?;
        disk.sync_dir(directory).name(directory, 0)
    }

    fn put(&mut self, chunk: &[u8]) -> Result<(), SnapshotError> {
        self.append(chunk)?;
        self.chunks += 1;
        self.short = chunk.len() < self.start.chunk_bytes as usize;
        Ok(())
    }

    fn put_end(&mut self, chunk: &[u8], items: u64) -> Result<(), SnapshotError> {
        self.append(chunk)?;
        self.chunks += 1;
        self.ended = Some(items);
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        self.usable()?;
        self.failed = true;
        let path = self.path(DATA_FILE);
        let length = bytes.len() as u64;
        self.file.write_all_at(&[IoSlice::new(bytes)], self.written).name(&path, length)?;
        self.written += length;
        self.unsynced += length;
        self.crc.update(bytes);
        if self.unsynced >= SYNC_BYTES {
            self.file.sync().name(&path, self.unsynced)?;
            self.unsynced = 0;
        }
        self.failed = false;
        Ok(())
    }

    fn usable(&self) -> Result<(), SnapshotError> {
        if self.failed { Err(self.refused("an earlier write of it failed")) } else { Ok(()) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.start.directory.join(name)
    }

    fn refused(&self, reason: impl Into<String>) -> SnapshotError {
        SnapshotError::Refused { id: self.id(), reason: reason.into() }
    }
}

impl Drop for ChunkWriter {
    fn drop(&mut self) {
        if !self.finished {
            let Start { disk, parent, directory, .. } = &self.start;
            if let Err(error) = discard(&**disk, parent, directory) {
                tracing::warn!(%error, "an unfinished snapshot stays until the next start");
            }
        }
    }
}

impl std::fmt::Debug for ChunkWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChunkWriter").field("id", &self.id()).field("next", &self.chunks).finish_non_exhaustive()
    }
}

/// Writes a snapshot item by item.
#[derive(Debug)]
pub struct ItemWriter {
    chunks: ChunkWriter,
    /// The chunk that is being filled; room for its header stands in front.
    chunk: Vec<u8>,
    items: u64,
}

impl ItemWriter {
    /// Fills chunks, the first of which the writer has not been given yet.
    pub(super) fn new(chunks: ChunkWriter) -> Self {
        let mut chunk = Vec::with_capacity(chunks.start.chunk_bytes as usize);
        chunk.resize(CHUNK_HEADER_BYTES, 0);
        Self { chunks, chunk, items: 0 }
    }

    /// Bytes that were handed to the disk so far.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.chunks.written
    }

    /// Writes the next item. Blocks on the disk when it fills a chunk.
    ///
    /// # Errors
    /// `TooLarge`, `DiskFull` and `Io`, after which only dropping it is left.
    pub fn item(&mut self, item: &[u8]) -> Result<(), SnapshotError> {
        let length = match u32::try_from(item.len()) {
            Ok(length) if item.len() <= MAX_ITEM_BYTES => length,
            Ok(_) | Err(_) => return Err(SnapshotError::TooLarge { bytes: item.len(), limit: MAX_ITEM_BYTES }),
        };
        self.bytes(&length.to_le_bytes())?;
        self.bytes(item)?;
        self.items += 1;
        Ok(())
    }

    /// Writes the end, and makes the snapshot whole and durable. Blocks on the disk.
    ///
    /// # Errors
    /// As for [`ChunkWriter::finish`].
    pub fn finish(mut self) -> Result<Manifest, SnapshotError> {
        if self.chunk.len() > CHUNK_HEADER_BYTES {
            self.flush()?;
        }
        let end = chunk::end(self.chunks.next(), self.chunks.id(), self.items);
        self.chunks.put_end(&end, self.items)?;
        self.chunks.finish()
    }

    fn bytes(&mut self, mut bytes: &[u8]) -> Result<(), SnapshotError> {
        let full = self.chunks.start.chunk_bytes as usize;
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(full.saturating_sub(self.chunk.len())));
            self.chunk.extend_from_slice(now);
            bytes = later;
            if self.chunk.len() >= full {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SnapshotError> {
        chunk::seal(&mut self.chunk, self.chunks.next(), self.chunks.id());
        self.chunks.put(&self.chunk)?;
        self.chunk.truncate(CHUNK_HEADER_BYTES);
        Ok(())
    }
}
