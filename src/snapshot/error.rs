//! Why a snapshot cannot be written, read or used.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::failure::is_full;
use crate::state_machine::{CaptureError, RestoreError};
use crate::types::EntryId;

/// Why a snapshot was not written, or cannot be used. Whatever failed, the other snapshots are as they were.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The disk has no room for it. What was written of it is removed.
    #[error("{} has no room for a snapshot: {needed} bytes more were to be written; free some space", path.display())]
    DiskFull {
        /// The file.
        path: PathBuf,
        /// Bytes that the failed write had.
        needed: u64,
    },
    /// Stored bytes do not match their checksum, are not where they belong, or cannot be read.
    #[error("{} is damaged at offset {offset}: {reason}; an earlier snapshot, or one of a peer, must take its place", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Byte offset in the file.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// A later release wrote it, or an earlier one that is no longer read.
    #[error("{} has format version {found}, this release reads {supported}; use the release that wrote it", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The version it names.
        found: u32,
        /// The newest version this build reads.
        supported: u32,
    },
    /// It is whole and belongs to another cluster, group or entry than its place says.
    #[error("{} is not a snapshot of this group: {reason}; remove it, or put it where it belongs", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What differs.
        reason: String,
    },
    /// There is one of this entry, or one is being written.
    #[error("a snapshot of entry {id} is there already, or is being written")]
    Exists {
        /// The entry.
        id: EntryId,
    },
    /// An item is longer than [`super::MAX_ITEM_BYTES`].
    #[error("an item of {bytes} bytes does not fit into a snapshot, which takes {limit}")]
    TooLarge {
        /// Bytes of the item.
        bytes: usize,
        /// The most there may be.
        limit: usize,
    },
    /// A chunk is not the next one of this snapshot, or the snapshot is not what was announced.
    #[error("snapshot {id} refuses what came: {reason}; fetch it again")]
    Refused {
        /// The snapshot that is being written.
        id: EntryId,
        /// What is wrong.
        reason: String,
    },
    /// The machine could not read its own state.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The machine does not take an item.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The operating system failed.
    #[error("{}: {source}; see to the disk and who may use it", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
}

/// Names the file that an operation failed on.
pub(super) trait Name<T> {
    /// A failed call on a file or directory; `needed` bytes were to be written.
    fn name(self, path: &Path, needed: u64) -> Result<T, SnapshotError>;
}

impl<T> Name<T> for io::Result<T> {
    fn name(self, path: &Path, needed: u64) -> Result<T, SnapshotError> {
        self.map_err(|source| {
            let path = path.to_owned();
            if is_full(&source) { SnapshotError::DiskFull { path, needed } } else { SnapshotError::Io { path, source } }
        })
    }
}

/// What is wrong with bytes at an offset.
pub(super) fn damaged(path: &Path, offset: u64, reason: impl Into<String>) -> SnapshotError {
    SnapshotError::Damaged { path: path.to_owned(), offset, reason: reason.into() }
}
