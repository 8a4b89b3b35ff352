//! A backup: one snapshot in one file, to begin another cluster with.
//!
//! ```text
//!   0         16                20        24
//!   │ prefix  │ manifest bytes  │ CRC     │ manifest … │ data, as it stands in the snapshot's data file …
//! ```
//! [`BackupWriter`] makes the bytes of one from pieces that a node sends; [`open_backup`] makes a [`Snapshot`] of one,
//! which is verified and read as any other. Deliberately absent: where a backup is kept, and what is begun with it.

use std::io;
use std::path::{Path, PathBuf};

use crc32fast::Hasher;
use thiserror::Error;

use super::chunk::{self, Body};
use super::error::{SnapshotError, damaged};
use super::manifest::{MAX_MANIFEST_BYTES, Manifest, VERSION as SNAPSHOT_VERSION};
use super::reader::Snapshot;
use super::store::DATA_MAGIC;
use crate::env::{Disk, OpenMode};
use crate::fields::{Block, CRC_BYTES, Fields, PREFIX_BYTES, Prefix, checksum_holds, prefix};

const MAGIC: &[u8; 8] = b"DLEDGBAK";
/// The format version of backups that this release writes and the newest it reads.
const VERSION: u32 = 1;
/// Prefix, length of the manifest, and the checksum of that length.
const HEAD_BYTES: usize = PREFIX_BYTES + 2 * CRC_BYTES;

/// Why a file is no backup that could be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BackupError {
    /// It is something else.
    #[error("{} is not a backup: {reason}; name a file that `kvcli backup` wrote", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A later release wrote it.
    #[error("{} is a backup of format version {found}, this release reads {supported}; use the release that wrote it", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The version it names.
        found: u32,
        /// The newest version this build reads.
        supported: u32,
    },
    /// It was a backup once.
    #[error("the backup {} is damaged at offset {offset}: {reason}; use another copy or an earlier one", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Byte offset in the file.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// The operating system failed.
    #[error("{}: {source}; see to the file and who may read it", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
}

impl BackupError {
    /// What reading the snapshot in the file `path` ended with.
    #[must_use]
    pub fn of(path: &Path, error: SnapshotError) -> Self {
        match error {
            SnapshotError::Damaged { path, offset, reason } => Self::Damaged { path, offset, reason },
            SnapshotError::Unsupported { path, found, supported } => Self::Unsupported { path, found, supported },
            SnapshotError::Foreign { path, reason } => Self::Foreign { path, reason },
            SnapshotError::Io { path, source } => Self::Io { path, source },
            SnapshotError::DiskFull { .. }
            | SnapshotError::Exists { .. }
            | SnapshotError::TooLarge { .. }
            | SnapshotError::Refused { .. }
            | SnapshotError::Capture(_)
            | SnapshotError::Restore(_) => Self::Foreign { path: path.to_owned(), reason: error.to_string() },
        }
    }
}

/// Opens the snapshot in a backup. Its manifest is verified; its chunks are when they are read, and all of them by
/// [`Snapshot::verify`]. Blocks on the disk.
///
/// # Errors
/// See [`BackupError`].
pub fn open_backup(disk: &dyn Disk, path: &Path) -> Result<Snapshot, BackupError> {
    let io = |source| BackupError::Io { path: path.to_owned(), source };
    let broken = |offset: usize, reason: &str| BackupError::of(path, damaged(path, offset as u64, reason));
    let file = disk.open(path, OpenMode::Read).map_err(io)?;
    let length = file.len().map_err(io)?;
    let mut head = vec![0; HEAD_BYTES.min(usize::try_from(length).unwrap_or(usize::MAX))];
    file.read_exact_at(&mut head, 0).map_err(io)?;
    match prefix(&head, MAGIC, VERSION) {
        Prefix::Ours => {}
        Prefix::Version(found) => {
            return Err(BackupError::Unsupported { path: path.to_owned(), found, supported: VERSION });
        }
        Prefix::Damaged => return Err(broken(0, "its first bytes do not match their checksum")),
        Prefix::Foreign => {
            let reason = if length == 0 { "it is empty" } else { "it begins with other bytes" }.to_owned();
            return Err(BackupError::Foreign { path: path.to_owned(), reason });
        }
    }
    let manifest_bytes = Fields::at(&head, PREFIX_BYTES).and_then(|mut fields| fields.u32()).map(u64::from);
    let manifest_bytes = manifest_bytes.filter(|_| checksum_holds(&head, PREFIX_BYTES, PREFIX_BYTES + CRC_BYTES));
    let start = manifest_bytes.map(|bytes| HEAD_BYTES as u64 + bytes).filter(|start| *start <= length);
    let (Some(manifest_bytes), Some(start)) = (manifest_bytes.filter(|bytes| *bytes <= MAX_MANIFEST_BYTES), start)
    else {
        return Err(broken(PREFIX_BYTES, "the length of its manifest does not match its checksum, or it is cut short"));
    };
    let mut manifest = vec![0; usize::try_from(manifest_bytes).unwrap_or_default()];
    file.read_exact_at(&mut manifest, HEAD_BYTES as u64).map_err(io)?;
    let manifest = Manifest::decode(path, &manifest).map_err(|error| {
        let newer = matches!(error, SnapshotError::Unsupported { .. });
        if newer { BackupError::of(path, error) } else { broken(HEAD_BYTES, "its manifest is damaged") }
    })?;
    Ok(Snapshot::within(manifest, file, path, start))
}

/// Makes the bytes of a backup from the manifest and the chunks of a snapshot, each verified as it comes.
#[derive(Debug)]
pub struct BackupWriter {
    manifest: Manifest,
    next: u64,
    crc: Hasher,
}

impl BackupWriter {
    /// Begins with the bytes of a manifest. The answer is the writer, and the bytes that stand before the first chunk.
    ///
    /// # Errors
    /// Those of [`Manifest::decode`]; `path` is what they name.
    pub fn begin(path: &Path, manifest: &[u8]) -> Result<(Self, Vec<u8>), SnapshotError> {
        let decoded = Manifest::decode(path, manifest)?;
        let data_head = Block::with_prefix(DATA_MAGIC, SNAPSHOT_VERSION).done();
        let mut crc = Hasher::new();
        crc.update(&data_head);
        let head = Block::with_prefix(MAGIC, VERSION)
            .u32(u32::try_from(manifest.len()).unwrap_or(u32::MAX))
            .sealed_from(PREFIX_BYTES)
            .raw(manifest)
            .raw(&data_head)
            .done();
        Ok((Self { manifest: decoded, next: 0, crc }, head))
    }

    /// What the backup is of.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Bytes of the chunks that have not come.
    #[must_use]
    pub fn data_left(&self) -> u64 {
        let came = self.manifest.place(self.next).map_or(self.manifest.data_bytes, |(offset, _length)| offset);
        self.manifest.data_bytes - came
    }

    /// The number of the chunk that is due; `None` once all have come.
    #[must_use]
    pub fn next(&self) -> Option<u64> {
        (self.next < self.manifest.chunks).then_some(self.next)
    }

    /// Verifies the chunk that is due; its bytes are the next ones of the backup.
    ///
    /// # Errors
    /// `Refused` when it is not that chunk of this snapshot, and for the last one when all of them are not what the
    /// manifest says. Nothing changes then.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        let refused = |reason: String| SnapshotError::Refused { id: self.manifest.id(), reason };
        let chunk = chunk::verify(bytes).map_err(|reason| refused(reason.to_owned()))?;
        if (chunk.snapshot, chunk.number) != (self.manifest.id(), self.next) {
            let came = format!("chunk {} of snapshot {} instead of {}", chunk.number, chunk.snapshot, self.next);
            return Err(refused(came));
        }
        let last = self.next + 1 == self.manifest.chunks;
        let fits = match chunk.body {
            Body::End(items) => last && items == self.manifest.items,
            Body::Items(_) => !last,
        };
        if !fits || self.manifest.place(self.next).is_none_or(|(_offset, length)| length != bytes.len()) {
            return Err(refused("a chunk of another length or kind".to_owned()));
        }
        let mut crc = self.crc.clone();
        crc.update(bytes);
        if last && crc.clone().finalize() != self.manifest.data_crc {
            return Err(refused("its data is not what the manifest announced".to_owned()));
        }
        self.crc = crc;
        self.next += 1;
        Ok(())
    }
}
