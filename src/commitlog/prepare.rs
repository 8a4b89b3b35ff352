//! Preparing space away from the hot path.
//!
//! ```text
//!   disk thread: prepare_job() ──► PrepareJob ──any thread──► run() ──► PrepareDone ──► prepared()
//!                                      ▲ shared stage ▼
//!   a write that cannot wait: takes the job back if it has not begun, else waits for its end
//! ```
//! A job fills a range with zeros and syncs it, so that later writes there change no metadata and cannot find the
//! disk full. Invariant: nobody writes records into a range while a job may still fill it: the writer takes the
//! stage's lock, which a running job holds, before it counts the range as prepared or fills it itself.

use std::fmt;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::live::LiveSegment;
use crate::env::{Disk, File, OpenMode};

/// First chunk of a segment: small groups stay small.
pub(super) const FIRST_CHUNK_BYTES: u64 = 256 << 10;
/// Chunks double up to this.
pub(super) const MAX_CHUNK_BYTES: u64 = 4 << 20;
/// Zeros written by one system call.
const FILL_BYTES: u64 = 1 << 20;
/// The zeros that are written, over and over.
const ZERO_BYTES: usize = 64 << 10;
static ZEROS: [u8; ZERO_BYTES] = [0; ZERO_BYTES];

/// What a job does.
pub(super) enum Work {
    /// Fills a range of the active segment, through a handle of its own: were it the writer's, a failed sync here
    /// could take the report of the error away from the writer's next sync.
    Extend { disk: Arc<dyn Disk>, path: PathBuf, from: u64, to: u64 },
    /// Makes a blank file.
    Blank { disk: Arc<dyn Disk>, path: PathBuf, bytes: u64 },
    /// Writes the index file of a sealed segment.
    Index { disk: Arc<dyn Disk>, segment: Arc<LiveSegment> },
}

impl Work {
    fn run(&self) -> io::Result<()> {
        match self {
            Self::Extend { disk, path, from, to } => fill(&*disk.open(path, OpenMode::Write)?, *from, *to),
            Self::Blank { disk, path, bytes } => make_blank(&**disk, path, *bytes).map(|_file| ()),
            Self::Index { disk, segment } => segment.write_index(&**disk),
        }
    }
}

/// How far a job is.
pub(super) enum Stage {
    Waiting(Work),
    TakenBack,
    Ended(io::Result<()>),
}

/// A job's stage, shared by the job and the writer that gave it out.
pub(super) type SharedStage = Arc<Mutex<Stage>>;

/// Work to be run on any thread. Dropping it unrun is allowed: the writer does the work itself when it must.
pub struct PrepareJob {
    stage: SharedStage,
}

impl fmt::Debug for PrepareJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrepareJob")
    }
}

impl fmt::Debug for PrepareDone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrepareDone")
    }
}

impl PrepareJob {
    /// A job to hand out and its stage to keep.
    pub(super) fn new(work: Work) -> (Self, SharedStage) {
        let stage = Arc::new(Mutex::new(Stage::Waiting(work)));
        (Self { stage: stage.clone() }, stage)
    }

    /// Does the work: writes and syncs, which blocks for milliseconds. Failures are in what it returns.
    #[must_use = "the writer must be told with `prepared`"]
    pub fn run(self) -> PrepareDone {
        {
            let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
            if let Stage::Waiting(work) = &*stage {
                let result = work.run();
                *stage = Stage::Ended(result);
            }
        }
        PrepareDone { stage: self.stage }
    }
}

/// A job that has run; to be given to `LogWriter::prepared`.
pub struct PrepareDone {
    pub(super) stage: SharedStage,
}

/// Ends a job: waits for it when it runs, takes it back when it has not begun.
pub(super) fn settle(stage: &SharedStage) -> Option<io::Result<()>> {
    let mut stage = stage.lock().unwrap_or_else(PoisonError::into_inner);
    match std::mem::replace(&mut *stage, Stage::TakenBack) {
        Stage::Waiting(_) | Stage::TakenBack => None,
        Stage::Ended(result) => Some(result),
    }
}

/// Fills a range with zeros and syncs them.
pub(super) fn fill(file: &dyn File, from: u64, to: u64) -> io::Result<()> {
    fill_unsynced(file, from, to)?;
    file.sync()
}

fn fill_unsynced(file: &dyn File, mut from: u64, to: u64) -> io::Result<()> {
    while from < to {
        let end = to.min(from + FILL_BYTES);
        let mut left = usize::try_from(end - from).unwrap_or(0);
        let mut parts = Vec::with_capacity(left.div_ceil(ZERO_BYTES));
        while left > 0 {
            let part = ZEROS.get(..left.min(ZERO_BYTES)).unwrap_or(&ZEROS);
            left -= part.len();
            parts.push(IoSlice::new(part));
        }
        file.write_all_at(&parts, from)?;
        from = end;
    }
    Ok(())
}

/// Makes a file of zeros, synced, in the place of any of that name. Leaves nothing behind when it fails.
pub(super) fn make_blank(disk: &dyn Disk, path: &Path, bytes: u64) -> io::Result<Arc<dyn File>> {
    match disk.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = disk.open(path, OpenMode::Create)?;
    match fill(&*file, 0, bytes) {
        Ok(()) => Ok(file),
        Err(error) => {
            drop(file);
            // The first error is the one to report; the file is removed at the next opening if not now.
            let _also_failed = disk.remove(path);
            Err(error)
        }
    }
}
