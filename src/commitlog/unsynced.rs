//! Whether an asynchronous log may have lost acknowledged entries with the power: a file that stands while it is open.
//!
//! ```text
//!   opened ──► file names this run of the machine ──► closed in order: everything is synced, the file goes
//!                        └── found at the next opening: same run    the process died, the machine kept its writes
//!                                                       another run the power failed: the last entry is in doubt
//! ```
//! A log that syncs before it acknowledges has no such file.

use std::io;
use std::path::Path;

use super::layout::{NEW_UNSYNCED_FILE, UNSYNCED_FILE};
use crate::config::Durability;
use crate::env::{Disk, OpenMode};
use crate::error::OpenError;
use crate::failure::{self, Blame};

/// What is read of the file at most.
const MAX_NAME_BYTES: u64 = 256;

/// Why acknowledged entries may be missing; `None` when none can be. An unreadable file tells of another run.
pub(super) fn lost(disk: &dyn Disk, group_dir: &Path) -> Result<Option<String>, OpenError> {
    let path = group_dir.join(UNSYNCED_FILE);
    let file = match disk.open(&path, OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(OpenError::Io { path, source }),
    };
    let mut name = vec![0; usize::try_from(file.len().unwrap_or(0).min(MAX_NAME_BYTES)).unwrap_or(0)];
    let read = file.read_exact_at(&mut name, 0);
    let same = disk.boot_id().is_some_and(|id| read.is_ok() && name == id.as_bytes());
    Ok((!same).then(|| {
        "the machine has restarted since this log was last written, and it was not synced before it acknowledged"
            .to_owned()
    }))
}

/// Says, durably, from now on in which run of the machine the log is written; for one that is synced before it
/// acknowledges, that there is nothing to say.
pub(super) fn begin(disk: &dyn Disk, group_dir: &Path, durability: Durability) -> Result<(), OpenError> {
    let Durability::Async { .. } = durability else { return end(disk, group_dir).blame(group_dir) };
    let (unfinished, path) = (group_dir.join(NEW_UNSYNCED_FILE), group_dir.join(UNSYNCED_FILE));
    failure::replace_file(disk, &unfinished, &path, disk.boot_id().unwrap_or_default().as_bytes())
}

/// Everything is synced and nothing more will be written. Durable when this returns.
pub(super) fn end(disk: &dyn Disk, group_dir: &Path) -> io::Result<()> {
    match disk.remove(&group_dir.join(UNSYNCED_FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => disk.sync_dir(group_dir),
    }
}
