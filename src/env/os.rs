//! The machine's own disk, clocks and entropy.
//!
//! Writes go through `pwritev` and syncs through `fdatasync`, never through a map: that is faster per sync and every
//! error comes back as an error. Reads of ranges that are not yet known to be good use `pread`; maps are made in
//! `mmap.rs`.
//!
//! Deliberately absent: asynchronous I/O, direct I/O, pre-allocation (the commitlog writes its own zeros, which also
//! proves that the space is there) and any retry of a failed sync.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind, IoSlice};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::{Clock, Disk, Entropy, File, Map, OpenMode, mmap};
use crate::types::Monotonic;

/// Mode of the directories this crate makes: the data is the owner's alone.
const DIRECTORY_MODE: u32 = 0o700;
/// Mode of the files this crate makes.
const FILE_MODE: u32 = 0o600;

/// What a file that is removed gradually becomes shorter by at a time, in bytes. On ext4 the removal of
/// 134 MB in one go held up every sync of other files for 18 to 27 ms; in these steps the longest took 1 to 2 ms.
const REMOVED_AT_ONCE: u64 = 2 << 20;

/// The file system of the operating system.
///
/// Paths are taken as they come: relative ones stand below the process's working directory.
///
/// ```
/// use dledger::env::{Disk, OpenMode, os::OsDisk};
/// use std::io::IoSlice;
///
/// let scratch = tempfile::tempdir()?;
/// let disk = OsDisk::new();
/// let file = disk.open(&scratch.path().join("a"), OpenMode::Create)?;
/// file.write_all_at(&[IoSlice::new(b"kept")], 0)?;
/// file.sync()?;                       // the bytes
/// disk.sync_dir(scratch.path())?;     // the name
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct OsDisk;

impl OsDisk {
    /// The machine's file system.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

impl Disk for OsDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(directory)? {
            // A name that is not UTF-8 is none of ours; shown lossily, it fits no name that we look for.
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true);
        match mode {
            OpenMode::Read => {}
            OpenMode::Write => {
                options.write(true);
            }
            OpenMode::Create => {
                options.write(true).create_new(true).mode(FILE_MODE);
            }
        }
        Ok(Arc::new(OsFile { file: options.open(path)? }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_gradually(&self, path: &Path) -> io::Result<()> {
        let file = fs::File::options().write(true).open(path)?;
        let mut length = file.metadata()?.len();
        while length > REMOVED_AT_ONCE {
            length -= REMOVED_AT_ONCE;
            file.set_len(length)?;
        }
        fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        fs::File::open(directory)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        // Never truncated: a holder may keep something readable in it.
        let file =
            fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(FILE_MODE).open(path)?;
        // `flock` belongs to the open file, not to the process: a second holder in this process is refused as well,
        // and the lock goes when the file is closed, however the process ends.
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(file))
    }

    fn free_bytes(&self, directory: &Path) -> io::Result<u64> {
        let space = rustix::fs::statvfs(directory)?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }

    fn boot_id(&self) -> Option<String> {
        let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(id.trim().to_owned()).filter(|id| !id.is_empty())
    }
}

/// One open file of the operating system.
struct OsFile {
    file: fs::File,
}

impl File for OsFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if buffer.is_empty() {
            return Ok(());
        }
        if end_of(offset, buffer.len()).is_none() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.file.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let total: usize = parts.iter().map(|part| part.len()).sum();
        if total == 0 {
            return Ok(());
        }
        if end_of(offset, total).is_none() {
            return Err(ErrorKind::FileTooLarge.into());
        }
        let mut parts = parts.to_vec();
        let mut rest = parts.as_mut_slice();
        let mut offset = offset;
        // Empty parts in front would make the kernel answer "0 written" with work left.
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            // The kernel takes at most `IOV_MAX` parts a call (rustix cuts there) and may take fewer bytes than given.
            match rustix::io::pwritev(&self.file, rest, offset) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => {
                    IoSlice::advance_slices(&mut rest, written);
                    offset = offset.saturating_add(written as u64);
                }
                Err(Errno::INTR) => {}
                // To the caller a full quota is a full disk: something to refuse and to wait out.
                Err(errno @ Errno::DQUOT) => return Err(io::Error::new(ErrorKind::StorageFull, errno)),
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn map(&self, len: u64) -> io::Result<Arc<dyn Map>> {
        mmap::map(&self.file, len)
    }
}

/// The end of a range of a file; `None` when no file can be that long.
fn end_of(offset: u64, len: usize) -> Option<u64> {
    let end = offset.checked_add(u64::try_from(len).ok()?)?;
    (end <= i64::MAX.unsigned_abs()).then_some(end)
}

/// The clocks of the operating system. Monotonic time counts from when this value was made.
#[derive(Clone, Copy, Debug)]
pub struct OsClock {
    start: Instant,
}

impl OsClock {
    /// Clocks whose monotonic time starts now.
    #[must_use]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for OsClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for OsClock {
    fn monotonic(&self) -> Monotonic {
        Monotonic::default().after(self.start.elapsed())
    }

    fn wall_ms(&self) -> u64 {
        // A clock set before 1970 reads as 1970: the wall clock decides nothing.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

/// The random numbers of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsEntropy;

impl OsEntropy {
    /// The machine's random numbers.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

impl Entropy for OsEntropy {
    fn next_u64(&self) -> u64 {
        // Where the system call is forbidden (some sandboxes), the standard library's own seed still differs between
        // processes and calls; what is asked of these numbers is that they do not collide, not that nobody guesses.
        getrandom::u64().unwrap_or_else(|_| RandomState::new().hash_one(SystemTime::now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_that_is_removed_gradually_is_gone_and_an_absent_one_is_told() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("large");
        for length in [0, 1, REMOVED_AT_ONCE, 2 * REMOVED_AT_ONCE + 1] {
            let file = fs::File::create(&path).unwrap();
            file.set_len(length).unwrap();
            OsDisk::new().remove_gradually(&path).unwrap();
            assert_eq!(OsDisk::new().remove_gradually(&path).unwrap_err().kind(), ErrorKind::NotFound);
            assert!(file.metadata().unwrap().len() <= REMOVED_AT_ONCE, "no more than that goes at once");
        }
    }
}
