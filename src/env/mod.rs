//! The seams to the machine: disk, clock and entropy.
//!
//! ```text
//!   commitlog, node ──► Disk, File, Map ──► os.rs      (files; mmap.rs holds the only unsafe code)
//!                                      └──► memory.rs  (sectors in memory; power can be cut)
//!   node            ──► Clock, Entropy ──► os.rs
//! ```
//! Everything above reaches the machine through these traits only, so that one process can hold a cluster whose
//! disks, clocks and luck are all chosen by a test. [`memory::MemoryDisk`] is public for that: services that embed
//! this crate can cut the power under their own tests.

pub mod memory;
mod mmap;
pub mod os;

#[cfg(test)]
mod tests;

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::types::Monotonic;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, to read.
    Read,
    /// An existing file, to read and write.
    Write,
    /// A new file, to read and write; `AlreadyExists` when there is one.
    Create,
}

/// A file system. Every method blocks. A created, renamed or removed name survives a power loss only once its
/// directory was synced with [`Disk::sync_dir`].
pub trait Disk: Send + Sync + 'static {
    /// Creates a directory and its missing parents, mode 0700. No error when it exists. Each new name is durable once
    /// the directory that holds it was synced.
    ///
    /// # Errors
    /// Those of the operating system.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// The names in a directory, sorted.
    ///
    /// # Errors
    /// `NotFound` when there is no such directory.
    fn list(&self, directory: &Path) -> io::Result<Vec<String>>;

    /// Opens a file; new files have mode 0600.
    ///
    /// # Errors
    /// `NotFound`, `AlreadyExists` by mode, and those of the operating system.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>>;

    /// Renames a file over whatever has the new name.
    ///
    /// # Errors
    /// Those of the operating system.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// `NotFound` when there is none.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Removes a file that may be large and that nobody reads or has mapped any more, without holding up who writes and
    /// syncs other files meanwhile. Takes longer than [`Disk::remove`], and blocks; cut off in between, it leaves a
    /// shorter file.
    ///
    /// # Errors
    /// As for [`Disk::remove`].
    fn remove_gradually(&self, path: &Path) -> io::Result<()> {
        self.remove(path)
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// `NotFound` when there is none, `NotADirectory` when it is a file, `DirectoryNotEmpty` when it holds a name.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// An error means that nobody knows what is durable; it must not be retried.
    fn sync_dir(&self, directory: &Path) -> io::Result<()>;

    /// Takes the exclusive lock of a file, created when absent; held until the answer is dropped. Never waits.
    ///
    /// # Errors
    /// `WouldBlock` when another process, or another holder in this one, has it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>>;

    /// Bytes that can still be written below this directory.
    ///
    /// # Errors
    /// Those of the operating system.
    fn free_bytes(&self, directory: &Path) -> io::Result<u64>;

    /// Names this run of the machine: as long as it stays the same, what was written is there, synced or not, whatever
    /// became of the process that wrote it. `None` when the machine does not tell. At most 256 bytes.
    fn boot_id(&self) -> Option<String>;
}

/// An open file. Methods take `&self` and may be called from several threads; every method blocks.
pub trait File: Send + Sync {
    /// Length in bytes.
    ///
    /// # Errors
    /// Those of the operating system.
    fn len(&self) -> io::Result<u64>;

    /// True when the length is 0.
    ///
    /// # Errors
    /// Those of [`File::len`].
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` when the file ends first. An unreadable sector is an error here, where through a map it
    /// would be a signal.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of `parts`, one behind the other, from `offset`. Not durable before [`File::sync`].
    ///
    /// # Errors
    /// `StorageFull` when the disk is full; after any error the written range holds unspecified bytes.
    fn write_all_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()>;

    /// Makes written bytes, and the length needed to read them, durable (`fdatasync`).
    ///
    /// # Errors
    /// After an error nobody knows what is durable, and a second call may wrongly succeed: never retry.
    fn sync(&self) -> io::Result<()>;

    /// Maps the first `len` bytes for reading. The map shows later writes.
    ///
    /// # Errors
    /// `UnexpectedEof` when the file is shorter; those of the operating system.
    fn map(&self, len: u64) -> io::Result<Arc<dyn Map>>;
}

/// A read-only map of a file.
pub trait Map: Send + Sync {
    /// The bytes of a range, without copying where the machine can. The answer keeps the map alive.
    ///
    /// The caller promises that nobody writes to this range as long as the answer lives: the commitlog asks only for
    /// bytes below its published end, and keeps its one exception, mending, away from ranges that are looked at.
    ///
    /// # Errors
    /// `UnexpectedEof` when the range leaves the map.
    fn slice(&self, offset: u64, len: usize) -> io::Result<Bytes>;
}

/// Clocks of a machine.
pub trait Clock: Send + Sync + 'static {
    /// The monotonic clock: timers and leases.
    fn monotonic(&self) -> Monotonic;

    /// The wall clock in milliseconds since the Unix epoch: only for segment headers and formation.
    fn wall_ms(&self) -> u64;
}

/// Random numbers: timeouts, incarnations, cluster ids.
pub trait Entropy: Send + Sync + 'static {
    /// A random number.
    fn next_u64(&self) -> u64;
}
