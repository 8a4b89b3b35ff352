//! Removing dropped segments away from the hot path.
//!
//! ```text
//!   disk thread: drop_front() ──► Removal ──any thread──► run() ──► Removed ──► removed()
//! ```
//! Freeing a large file that is in memory takes as long as dozens of syncs, and whoever lets go of its last map or handle
//! pays for it: so the segments themselves go along. Nothing depends on the files being gone. One that is still there, for
//! a job was never run or a crash came first, goes with the next one or at the next opening.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::layout::LogFile;
use super::poison::{LogFault, broken};
use super::reader::View;
use super::writer::LogWriter;
use crate::env::Disk;

/// Files that are no part of the log any more, to be removed on any thread. Dropping it unrun is allowed.
pub struct Removal {
    disk: Arc<dyn Disk>,
    log_dir: PathBuf,
    /// What has a lower one goes.
    generation: u64,
    /// Keeps the segments open until their files have no name.
    dropped: Option<Arc<View>>,
}

/// A removal that was run; to be given to [`LogWriter::removed`].
#[derive(Debug)]
pub struct Removed(io::Result<()>);

impl fmt::Debug for Removal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Removal").field("generation", &self.generation).finish_non_exhaustive()
    }
}

impl Removal {
    /// Removes the files and makes that durable; blocks for many milliseconds. Failures are in what it returns.
    #[must_use = "the writer must be told with `removed`"]
    pub fn run(self) -> Removed {
        let removed = Removed(self.remove());
        drop(self.dropped);
        removed
    }

    /// One that cannot be removed now is left to the next time; another removal may have come first.
    fn remove(&self) -> io::Result<()> {
        for file in self.disk.list(&self.log_dir)? {
            let (LogFile::Segment(name) | LogFile::Index(name)) = LogFile::of(&file) else { continue };
            if name.generation >= self.generation {
                continue;
            }
            match self.disk.remove(&self.log_dir.join(&file)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(file, %error, "a file that is no part of the log any more cannot be removed");
                }
                Ok(()) | Err(_) => {}
            }
        }
        self.disk.sync_dir(&self.log_dir)
    }
}

impl LogWriter {
    /// The removal of every file of a generation that was dropped, and of `dropped`, the log before that.
    pub(super) fn removal(&self, dropped: Option<Arc<View>>) -> Removal {
        let (disk, log_dir) = (Arc::clone(&self.disk), self.log_dir.clone());
        Removal { disk, log_dir, generation: self.start.generation, dropped }
    }

    /// Takes a removal back that has run.
    ///
    /// # Errors
    /// `Poisoned`, when the disk failed.
    pub fn removed(&mut self, removed: Removed) -> Result<(), LogFault> {
        self.poison.check()?;
        let synced = removed.0.map_err(|error| broken("removing the front of the log", &error));
        self.poison.note(synced)
    }
}
