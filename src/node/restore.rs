//! Begins a new cluster with a backup: puts the backup where the nodes of that cluster find it, before their first start.
//!
//! ```text
//!   restore (offline, for each node)      first start
//!   FILE ── verified, copied ──► groups/1/restore ──► formation ──► snapshot at index + gap, log behind it
//!           identity, no cluster                      (all with the same backup)       then `restore` goes
//! ```
//! The new cluster has an id of its own, and its nodes incarnations of their own: nobody takes them for the old ones.
//! Its log begins [`RESTORE_GAP`] entries behind the backup, so that a revision that the old cluster gave after the
//! backup was taken is never given to another write.

use std::io::IoSlice;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use thiserror::Error;

use crate::commitlog::layout::{NEW_RESTORE_FILE, RESTORE_FILE, group_dir};
use crate::commitlog::{Identity, lock_empty_data_dir, store_identity};
use crate::config::Members;
use crate::env::{Disk, OpenMode};
use crate::error::OpenError;
use crate::failure::{Blame, create_dir_durably, remove_if_there};
use crate::snapshot::{BackupError, Manifest, Snapshot, open_backup};
use crate::transport::BackupId;
use crate::types::{EntryId, GroupId, Incarnation, Index, LogBase, NodeId};

use super::Environment;

/// How many indexes a restored cluster leaves out behind its backup: more than a cluster commits between the last backup
/// and its loss. A million entries a second take over an hour for as many.
pub const RESTORE_GAP: u64 = 1 << 32;

/// Bytes copied at once.
const COPY_BYTES: usize = 1 << 20;

/// What is to be restored, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreOptions {
    /// The backup.
    pub backup: PathBuf,
    /// The directory of the node, empty or absent.
    pub data_dir: PathBuf,
    /// The node.
    pub id: NodeId,
    /// All members of the new cluster, however many the old one had.
    pub cluster: Members,
}

/// Why nothing was restored. The directory is still as good as empty.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The options do not fit together.
    #[error("{0}")]
    Usage(String),
    /// The backup cannot be used.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The directory cannot be used.
    #[error(transparent)]
    Directory(#[from] OpenError),
}

/// Prepares an empty directory so that the node begins with a backup when it is first started. All of the backup is
/// verified before anything is written. What a restore left that was cut off may be restored over. Blocks on the disk.
///
/// # Errors
/// See [`RestoreError`].
pub fn restore(environment: &Environment, options: &RestoreOptions) -> Result<Manifest, RestoreError> {
    let RestoreOptions { backup, data_dir, id, cluster } = options;
    if !cluster.0.contains_key(id) {
        return Err(RestoreError::Usage(format!("node {id} is not among the members `{cluster}`; name it there")));
    }
    let disk = environment.disk.as_ref();
    let snapshot = open_backup(disk, backup)?;
    snapshot.verify().map_err(|error| BackupError::of(backup, error))?;
    Origin::of(snapshot.clone(), backup)?;
    let _lock = lock_empty_data_dir(disk, data_dir)?;
    let directory = group_dir(data_dir, GroupId::FIRST);
    create_dir_durably(disk, &directory)?;
    if let Err(error) = copy(disk, backup, &directory) {
        // The next attempt removes it too.
        drop(remove_if_there(disk, &directory.join(NEW_RESTORE_FILE)));
        return Err(error);
    }
    let identity = Identity {
        node: *id,
        incarnation: Incarnation(environment.entropy.next_u64() | 1),
        cluster: None,
        joined: false,
        members: cluster.clone(),
    };
    store_identity(disk, data_dir, &identity)?;
    Ok(snapshot.manifest().clone())
}

/// Copies the file, durable under its name when this returns.
fn copy(disk: &dyn Disk, backup: &Path, directory: &Path) -> Result<(), RestoreError> {
    let unfinished = directory.join(NEW_RESTORE_FILE);
    let unreadable = |source| BackupError::Io { path: backup.to_owned(), source };
    let from = disk.open(backup, OpenMode::Read).map_err(unreadable)?;
    let length = from.len().map_err(unreadable)?;
    remove_if_there(disk, &unfinished)?;
    let to = disk.open(&unfinished, OpenMode::Create).blame_room(&unfinished, length)?;
    let mut buffer = vec![0; COPY_BYTES];
    let mut done = 0;
    while done < length {
        let left = usize::try_from(length - done).unwrap_or(usize::MAX);
        let piece = buffer.get_mut(..left.min(COPY_BYTES)).unwrap_or_default();
        from.read_exact_at(piece, done).map_err(unreadable)?;
        to.write_all_at(&[IoSlice::new(piece)], done).blame_room(&unfinished, length - done)?;
        done += piece.len() as u64;
    }
    to.sync().blame_room(&unfinished, length)?;
    disk.rename(&unfinished, &directory.join(RESTORE_FILE)).blame_room(&unfinished, 0)?;
    disk.sync_dir(directory).blame(directory)?;
    Ok(())
}

/// What a node begins with that was restored.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    /// The state.
    pub(crate) snapshot: Snapshot,
    /// What it is of, in the log of the new cluster.
    pub(crate) base: LogBase,
    /// Which backup it is.
    pub(crate) id: BackupId,
}

impl Origin {
    /// What the backup in this file gives.
    pub(crate) fn of(snapshot: Snapshot, path: &Path) -> Result<Self, BackupError> {
        let manifest = snapshot.manifest();
        let foreign = |reason: String| BackupError::Foreign { path: path.to_owned(), reason };
        if manifest.group != GroupId::FIRST {
            return Err(foreign(format!("it is of group {}, which no node has", manifest.group)));
        }
        let EntryId { index, term } = manifest.id();
        let (Some(last), Some(_next_term)) = (index.get().checked_add(RESTORE_GAP), term.get().checked_add(1)) else {
            return Err(foreign(format!("there is no room behind its last entry {}", manifest.id())));
        };
        let id =
            BackupId { cluster: manifest.cluster, entry: manifest.id(), checksum: crc32fast::hash(&manifest.encode()) };
        let entry = EntryId::new(Index(last), term);
        let base = LogBase { entry, membership: (Index::ZERO, Bytes::new()), ..manifest.base.clone() };
        Ok(Self { snapshot, base, id })
    }
}

/// The backup that a node begins with; `None` when there is none.
pub(crate) fn origin(disk: &dyn Disk, data_dir: &Path) -> Result<Option<Origin>, OpenError> {
    let directory = group_dir(data_dir, GroupId::FIRST);
    let path = directory.join(RESTORE_FILE);
    if !is_there(disk, &directory, RESTORE_FILE)? {
        return Ok(None);
    }
    let opened = open_backup(disk, &path).and_then(|snapshot| Origin::of(snapshot, &path));
    opened.map(Some).map_err(|error| unusable(&path, error))
}

/// Removes the backup of a node that has begun with it.
pub(crate) fn forget_origin(disk: &dyn Disk, data_dir: &Path) -> Result<(), OpenError> {
    let directory = group_dir(data_dir, GroupId::FIRST);
    if !is_there(disk, &directory, RESTORE_FILE)? {
        return Ok(());
    }
    remove_if_there(disk, &directory.join(RESTORE_FILE))?;
    disk.sync_dir(&directory).blame(&directory)
}

fn is_there(disk: &dyn Disk, directory: &Path, file: &str) -> Result<bool, OpenError> {
    match disk.list(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        listed => listed.blame(directory).map(|names| names.iter().any(|name| name == file)),
    }
}

/// The error of a node whose backup cannot be used.
pub(crate) fn unusable(path: &Path, error: BackupError) -> OpenError {
    match error {
        BackupError::Unsupported { path, found, supported } => OpenError::Unsupported { path, found, supported },
        BackupError::Io { path, source } => OpenError::Io { path, source },
        BackupError::Damaged { offset, reason, .. } => {
            let reason = format!("{reason}; or restore the backup once more into an empty directory");
            OpenError::Corrupt { path: path.to_owned(), offset, index: Index::ZERO, reason }
        }
        BackupError::Foreign { reason, .. } => OpenError::Foreign { path: path.to_owned(), reason },
    }
}
