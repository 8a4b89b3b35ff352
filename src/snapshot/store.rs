//! The snapshots of one group: begins them, finds the newest good one, removes old ones.
//!
//! ```text
//!   newest:  9-2 damaged ──► 7-2 verifies ──► that one, and 9-2 is reported
//!            └ of a later format: stop. Falling back would forget what an entry said that this release cannot read.
//! ```
//! One thread owns the store and blocks in it. What it hands out (writers, snapshots) may go to others.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::chunk::{MAX_CHUNK_BYTES, MIN_CHUNK_BYTES};
use super::error::{Name, SnapshotError};
use super::layout::{self, DATA_FILE, MANIFEST_FILE, NEW_MANIFEST_FILE};
use super::manifest::Manifest;
use super::reader::Snapshot;
use super::writer::{ChunkWriter, ItemWriter, Start};
use crate::env::Disk;
use crate::error::OpenError;
use crate::failure::{self, Blame};
use crate::simulation::plants::Plants;
use crate::state_machine::Capture;
use crate::types::{ClusterId, EntryId, GroupId, LogBase};

pub(super) const DATA_MAGIC: &[u8; 8] = b"DLEDGDAT";
/// The size of a full chunk, in bytes: few writes for a large snapshot, little to repeat when a transfer breaks off. A
/// constant and no knob, for nodes go on with each other's chunks only when those are of one size.
pub const CHUNK_BYTES: u32 = 256 << 10;

/// Whose snapshots they are.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotOptions {
    /// The cluster.
    pub cluster: ClusterId,
    /// The group.
    pub group: GroupId,
    /// Bytes of a full chunk of snapshots taken here: [`CHUNK_BYTES`], less in tests. Kept between
    /// [`MIN_CHUNK_BYTES`] and [`MAX_CHUNK_BYTES`].
    pub chunk_bytes: u32,
}

/// What was found by looking for the newest good snapshot.
#[derive(Debug, Default)]
pub struct Newest {
    /// The newest that verifies.
    pub good: Option<Snapshot>,
    /// Newer ones that cannot be used, the newest first, and why.
    pub passed_over: Vec<(EntryId, SnapshotError)>,
}

/// The snapshots of one group.
pub struct SnapshotStore {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    options: SnapshotOptions,
    /// Those that were found to be of no use.
    unusable: BTreeSet<EntryId>,
    plants: Plants,
}

impl SnapshotStore {
    /// Opens the snapshots of a group: makes their directory durable, removes what a crash left unfinished, and syncs the
    /// names of what is whole. Blocks on the disk; nobody else may have the group's directory open.
    ///
    /// # Errors
    /// `DiskFull` and `Io`.
    pub fn open(disk: Arc<dyn Disk>, group_dir: &Path, options: SnapshotOptions) -> Result<Self, OpenError> {
        let directory = layout::snapshot_dir(group_dir);
        failure::create_dir_durably(&*disk, &directory)?;
        for name in disk.list(&directory).blame(&directory)? {
            let path = directory.join(&name);
            let files = match disk.list(&path) {
                Ok(files) if layout::parse(&name).is_some() => files,
                Err(error) if error.kind() != ErrorKind::NotADirectory => return Err(error).blame(&path),
                // Not a name of ours: whoever put it there may keep it.
                Ok(_) | Err(_) => continue,
            };
            if files.iter().any(|file| file == MANIFEST_FILE) {
                // Its last sync may never have happened; nobody must rely on a name that a power cut takes back.
                disk.sync_dir(&path).blame(&path)?;
            } else {
                tracing::info!(path = %path.display(), "removing an unfinished snapshot");
                discard(&*disk, &directory, &path).blame(&path)?;
            }
        }
        let chunk_bytes = options.chunk_bytes.clamp(MIN_CHUNK_BYTES, MAX_CHUNK_BYTES);
        let options = SnapshotOptions { chunk_bytes, ..options };
        Ok(Self { disk, directory, options, unusable: BTreeSet::new(), plants: Plants::NONE })
    }

    /// Breaks a rule, for a simulation.
    pub(crate) fn plant(&mut self, plants: Plants) {
        self.plants = plants;
    }

    /// The entries whose snapshots are whole, the newest first. Whether they are good is not looked at. Blocks.
    ///
    /// # Errors
    /// `Io`.
    pub fn list(&self) -> Result<Vec<EntryId>, SnapshotError> {
        let names = self.disk.list(&self.directory).name(&self.directory, 0)?;
        let mut found = Vec::new();
        for id in names.iter().filter_map(|name| layout::parse(name)) {
            match self.disk.list(&self.path(id)) {
                Ok(files) if files.iter().any(|file| file == MANIFEST_FILE) => found.push(id),
                // A writer on another thread may have just given its own up.
                Err(error) if !matches!(error.kind(), ErrorKind::NotADirectory | ErrorKind::NotFound) => {
                    return Err(error).name(&self.path(id), 0);
                }
                Ok(_) | Err(_) => {}
            }
        }
        found.sort_unstable_by(|one, two| two.cmp(one));
        Ok(found)
    }

    /// Opens the snapshot of an entry. Only its manifest is verified; its chunks are when they are read. Blocks.
    ///
    /// # Errors
    /// `Damaged`, `Unsupported`, `Foreign` and `Io`.
    pub fn get(&self, id: EntryId) -> Result<Snapshot, SnapshotError> {
        let owner = (self.options.cluster, self.options.group);
        Snapshot::open(&*self.disk, &self.path(id), id, owner).map(|snapshot| snapshot.planted(self.plants))
    }

    /// Finds the newest snapshot that verifies, reading all of it. Those that are damaged or not of this group are passed
    /// over, reported and left where they are. Blocks as long as reading takes.
    ///
    /// # Errors
    /// `Unsupported` when a later release wrote the newest that is not damaged, and `Io`: whether there is a good one is
    /// not known then.
    pub fn newest(&mut self) -> Result<Newest, SnapshotError> {
        let mut newest = Newest::default();
        for id in self.list()? {
            let looked = self.get(id).and_then(|snapshot| snapshot.verify().map(|()| snapshot));
            match looked {
                Ok(snapshot) => {
                    self.unusable.remove(&id);
                    newest.good = Some(snapshot);
                    break;
                }
                Err(error @ (SnapshotError::Damaged { .. } | SnapshotError::Foreign { .. })) => {
                    tracing::error!(%error, "passing over snapshot {id}");
                    self.unusable.insert(id);
                    newest.passed_over.push((id, error));
                }
                Err(error) => {
                    if matches!(error, SnapshotError::Unsupported { .. }) {
                        self.unusable.insert(id);
                    }
                    return Err(error);
                }
            }
        }
        Ok(newest)
    }

    /// Begins a snapshot of the state after `base.entry`, to be written item by item. Blocks on the disk.
    ///
    /// # Errors
    /// `Exists` when there is one of that entry that was not found to be damaged, or one is being written; `DiskFull`
    /// and `Io`.
    pub fn begin(&mut self, base: LogBase) -> Result<ItemWriter, SnapshotError> {
        self.writer(base, self.options.chunk_bytes, None).map(ItemWriter::new)
    }

    /// Begins a copy of a peer's snapshot, to be written chunk by chunk. One that the disk has no room for is not begun:
    /// most of it would be sent in vain, over and over. Blocks on the disk.
    ///
    /// # Errors
    /// As for [`SnapshotStore::begin`]; `Foreign` when it is not of this group.
    pub fn begin_copy(&mut self, manifest: Manifest) -> Result<ChunkWriter, SnapshotError> {
        let SnapshotOptions { cluster, group, .. } = self.options;
        if (manifest.cluster, manifest.group) != (cluster, group) {
            let reason = format!("it is of cluster {}, group {}", manifest.cluster, manifest.group);
            return Err(SnapshotError::Foreign { path: self.path(manifest.id()), reason });
        }
        let needed = manifest.data_bytes;
        if self.disk.free_bytes(&self.directory).is_ok_and(|free| free < needed) {
            return Err(SnapshotError::DiskFull { path: self.path(manifest.id()), needed });
        }
        self.writer(manifest.base.clone(), manifest.chunk_bytes, Some(manifest))
    }

    /// Writes the snapshot of a captured state. Blocks until it is durable.
    ///
    /// # Errors
    /// Those of [`SnapshotStore::begin`] and [`ItemWriter`], and `Capture` when the state cannot be read.
    pub fn write<C: Capture>(&mut self, base: LogBase, state: &C) -> Result<Manifest, SnapshotError> {
        let mut writer = self.begin(base)?;
        state.items(&mut |item| writer.item(item))?;
        writer.finish()
    }

    /// Takes note that a snapshot was found to be damaged: it counts for nothing until it verifies again.
    pub fn disregard(&mut self, id: EntryId) {
        self.unusable.insert(id);
    }

    /// The snapshots that may be used, the newest first, with the bytes of their data. Blocks on the disk.
    ///
    /// # Errors
    /// `Io`.
    pub fn usable(&self) -> Result<Vec<(EntryId, u64)>, SnapshotError> {
        let usable = self.list()?.into_iter().filter(|id| !self.unusable.contains(id));
        Ok(usable.filter_map(|id| self.get(id).ok().map(|found| (id, found.manifest().data_bytes))).collect())
    }

    /// Removes what is older than the newest `keep` (at least one), but for `pinned`; the answer names what was removed. One that was found
    /// damaged counts for nothing, but stays as long as no newer good one is there: a machine
    /// without peers may have nothing else. Those that this release cannot read, or of another group, stay. Blocks. Who still
    /// reads one that is removed may find it damaged.
    ///
    /// # Errors
    /// `Io`.
    pub fn retain(&mut self, keep: usize, pinned: &[EntryId]) -> Result<Vec<EntryId>, SnapshotError> {
        let all = self.list()?;
        let looked: Vec<(EntryId, Result<Snapshot, SnapshotError>)> =
            all.iter().map(|id| (*id, self.get(*id))).collect();
        let usable = looked.iter().filter(|(id, opened)| opened.is_ok() && !self.unusable.contains(id));
        let kept: BTreeSet<EntryId> = usable.map(|(id, _opened)| *id).take(keep.max(1)).collect();
        let mut removed = Vec::new();
        for (id, opened) in looked {
            let old = kept.last().is_some_and(|newest| id < *newest);
            let others = matches!(opened, Err(SnapshotError::Unsupported { .. } | SnapshotError::Foreign { .. }));
            if old && !kept.contains(&id) && !pinned.contains(&id) && !others {
                self.remove(id)?;
                removed.push(id);
            }
        }
        Ok(removed)
    }

    fn remove(&mut self, id: EntryId) -> Result<(), SnapshotError> {
        let path = self.path(id);
        discard(&*self.disk, &self.directory, &path).name(&path, 0)?;
        self.unusable.remove(&id);
        Ok(())
    }

    fn writer(
        &mut self,
        base: LogBase,
        chunk_bytes: u32,
        announced: Option<Manifest>,
    ) -> Result<ChunkWriter, SnapshotError> {
        let (id, directory) = (base.entry, self.path(base.entry));
        if self.list()?.contains(&id) {
            if !self.unusable.contains(&id) {
                return Err(SnapshotError::Exists { id });
            }
            self.remove(id)?;
        }
        self.disk.create_dir_all(&directory).name(&directory, 0)?;
        let start = Start {
            disk: Arc::clone(&self.disk),
            parent: self.directory.clone(),
            directory,
            cluster: self.options.cluster,
            group: self.options.group,
            base,
            chunk_bytes,
            announced,
            plants: self.plants,
        };
        let writer = ChunkWriter::create(start)?;
        // From here on the writer removes the directory when something fails.
        self.disk.sync_dir(&self.directory).name(&self.directory, 0)?;
        Ok(writer)
    }

    fn path(&self, id: EntryId) -> PathBuf {
        self.directory.join(layout::name(id))
    }
}

/// Finds the newest good snapshot of a group from outside, as [`SnapshotStore::newest`] does: nothing is made or removed.
/// Blocks as long as reading takes.
///
/// # Errors
/// As for [`SnapshotStore::newest`].
pub fn newest_of(disk: Arc<dyn Disk>, group_dir: &Path, options: SnapshotOptions) -> Result<Newest, SnapshotError> {
    let directory = layout::snapshot_dir(group_dir);
    match disk.list(&directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Newest::default()),
        listed => listed.name(&directory, 0)?,
    };
    SnapshotStore { disk, directory, options, unusable: BTreeSet::new(), plants: Plants::NONE }.newest()
}

impl std::fmt::Debug for SnapshotStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnapshotStore").field("directory", &self.directory).finish_non_exhaustive()
    }
}

/// Removes all snapshots of a group, whosever they are: for a node that never belonged to a cluster. Blocks.
///
/// # Errors
/// `Io`.
pub fn remove_all(disk: &dyn Disk, group_dir: &Path) -> Result<(), SnapshotError> {
    let directory = layout::snapshot_dir(group_dir);
    let names = match disk.list(&directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        listed => listed.name(&directory, 0)?,
    };
    for name in names.iter().filter(|name| layout::parse(name).is_some()) {
        let path = directory.join(name);
        discard(disk, &directory, &path).name(&path, 0)?;
    }
    Ok(())
}

/// Removes a snapshot's directory. The manifest goes first, and durably: a power cut in between leaves an unfinished
/// snapshot and not a damaged one. Files that are nobody's stay, and the directory with them.
pub(super) fn discard(disk: &dyn Disk, parent: &Path, directory: &Path) -> io::Result<()> {
    let absent_is_fine = |removed: io::Result<()>| match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    };
    absent_is_fine(disk.remove(&directory.join(MANIFEST_FILE)))?;
    disk.sync_dir(directory)?;
    absent_is_fine(disk.remove(&directory.join(NEW_MANIFEST_FILE)))?;
    absent_is_fine(disk.remove_gradually(&directory.join(DATA_FILE)))?;
    match disk.remove_dir(directory) {
        Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {
            tracing::warn!(path = %directory.display(), "holds files that are not of a snapshot; it stays");
        }
        removed => absent_is_fine(removed)?,
    }
    disk.sync_dir(parent)
}
