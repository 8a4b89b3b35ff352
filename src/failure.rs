//! From an operating system's error to an error that names the file, and the few steps on directories whose errors
//! need thought.

use std::io::{self, IoSlice};
use std::path::Path;

use crate::env::{Disk, OpenMode};
use crate::error::OpenError;

/// Names the file that an operation failed on.
pub(crate) trait Blame<T> {
    /// Any error is one of the operating system's.
    fn blame(self, path: &Path) -> Result<T, OpenError>;

    /// As [`Blame::blame`], where a full disk is told apart: `needed` bytes were to be written.
    fn blame_room(self, path: &Path, needed: u64) -> Result<T, OpenError>;
}

impl<T> Blame<T> for io::Result<T> {
    fn blame(self, path: &Path) -> Result<T, OpenError> {
        self.map_err(|source| OpenError::Io { path: path.to_owned(), source })
    }

    fn blame_room(self, path: &Path, needed: u64) -> Result<T, OpenError> {
        self.map_err(|source| {
            if is_full(&source) {
                OpenError::DiskFull { path: path.to_owned(), needed }
            } else {
                OpenError::Io { path: path.to_owned(), source }
            }
        })
    }
}

/// True when the disk, or this user's share of it, has no room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Removes a file; one that is not there is no error.
pub(crate) fn remove_if_there(disk: &dyn Disk, path: &Path) -> Result<(), OpenError> {
    match disk.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).blame(path),
        _ => Ok(()),
    }
}

/// Gives a file other bytes, durable when this returns; a crash leaves the old ones or the new ones. They are written to
/// `unfinished` first, which stands in the same directory.
pub(crate) fn replace_file(disk: &dyn Disk, unfinished: &Path, path: &Path, bytes: &[u8]) -> Result<(), OpenError> {
    remove_if_there(disk, unfinished)?;
    let needed = bytes.len() as u64;
    let file = disk.open(unfinished, OpenMode::Create).blame_room(unfinished, needed)?;
    file.write_all_at(&[IoSlice::new(bytes)], 0).blame_room(unfinished, needed)?;
    file.sync().blame_room(unfinished, needed)?;
    disk.rename(unfinished, path).blame_room(unfinished, needed)?;
    let directory = path.parent().unwrap_or(path);
    disk.sync_dir(directory).blame(directory)
}

/// How many parents of a log or snapshot directory are synced although they exist: group, groups, data directory and
/// the one that names it. A crash may have come between their making and their sync.
const OWN_LEVELS: usize = 4;

/// Creates a directory and its missing parents so that their names are durable.
pub(crate) fn create_dir_durably(disk: &dyn Disk, path: &Path) -> Result<(), OpenError> {
    let parents = || path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty());
    let missing = parents().take_while(|parent| disk.list(parent).is_err()).count();
    disk.create_dir_all(path).blame_room(path, 0)?;
    for (level, parent) in parents().enumerate().take(OWN_LEVELS.max(missing + 1)) {
        match disk.sync_dir(parent) {
            // A directory that was there before us and that we may not read, such as a home of homes.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && level >= missing => {}
            synced => synced.blame(parent)?,
        }
    }
    Ok(())
}
