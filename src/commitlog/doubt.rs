//! Whether the last entry is known: a file that says why not, kept until somebody vouches for the log again.
//!
//! When both progress slots of the last segment are lost, nobody knows whether acknowledged records stood behind the
//! last one that was found. Opening goes on in a new segment whose slots say nothing of that, so that the doubt needs a
//! place of its own, or the next opening would have forgotten it.

use std::io;
use std::path::Path;

use super::layout::{DOUBT_FILE, NEW_DOUBT_FILE};
use crate::env::{Disk, OpenMode};
use crate::error::OpenError;
use crate::failure;

/// What is read of the reason: the file's being there is what counts.
const MAX_REASON_BYTES: usize = 4096;

/// Why the last entry is not known; `None` when it is.
pub(super) fn load(disk: &dyn Disk, group_dir: &Path) -> Result<Option<String>, OpenError> {
    let path = group_dir.join(DOUBT_FILE);
    let file = match disk.open(&path, OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(OpenError::Io { path, source }),
    };
    let length = usize::try_from(file.len().unwrap_or(0)).unwrap_or(usize::MAX).min(MAX_REASON_BYTES);
    let mut bytes = vec![0; length];
    let reason = match file.read_exact_at(&mut bytes, 0) {
        Ok(()) => String::from_utf8_lossy(&bytes).trim().to_owned(),
        Err(error) => format!("an earlier opening had lost its progress slots ({error})"),
    };
    Ok(Some(reason))
}

/// Notes the doubt, durable when this returns.
pub(super) fn store(disk: &dyn Disk, group_dir: &Path, reason: &str) -> Result<(), OpenError> {
    let (unfinished, path) = (group_dir.join(NEW_DOUBT_FILE), group_dir.join(DOUBT_FILE));
    failure::replace_file(disk, &unfinished, &path, format!("{reason}\n").as_bytes())
}

/// Ends the doubt, durable when this returns.
pub(super) fn clear(disk: &dyn Disk, group_dir: &Path) -> io::Result<()> {
    match disk.remove(&group_dir.join(DOUBT_FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => disk.sync_dir(group_dir),
    }
}
