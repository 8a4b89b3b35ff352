//! A disk in memory that forgets what was not synced: for tests, those of embedders included.
//!
//! A process that is killed loses nothing: the page cache survives it. Only a lost power supply shows whether
//! "durable" was true, and that can be had here at any disk call, as often as wanted, and the same way every time.
//!
//! ```text
//!             write_all_at            sync                         create, rename, remove     sync_dir
//!   caller ───────────────► live ──────────────► durable   caller ──────────────────► live ──────────────► durable
//!             (sectors, length)                                      (names)
//!
//!   power_cut:  everything pending meets its fate, one sector, length or name at a time:
//!               Lost ──► as the durable side has it     Kept ──► as the live side has it
//!               Garbled ──► the bytes that were changed since the last sync hold garbage
//! ```
//! What is modelled:
//! - A sector is 512 bytes. Sectors, the file's length and names become durable independently and in any order.
//!   A garbled sector keeps the bytes that no write since the last sync has changed: a drive that loses power may spoil
//!   what it is writing, not what was there before.
//! - A file whose name was never synced with [`Disk::sync_dir`] may be gone with all its synced bytes, as may a new
//!   directory with all it holds. A rename happens wholly or not at all, and on its own.
//! - After a failed sync ([`MemoryDisk::fail_sync`]) reads go on showing the bytes, which no later sync makes durable
//!   unless they are written again: so do the page caches of real systems. Names of a failed `sync_dir` stay pending.
//! - A sector can be made unreadable ([`MemoryDisk::spoil_sector`]); a write of the whole of it heals it.
//! - Bytes that were synced can change ([`MemoryDisk::flip_byte`]), or be those of an earlier or another write
//!   ([`MemoryDisk::replace_bytes`]).
//! - Every handle, file, map and lock from before a power cut fails for ever, so that what is left of the old process
//!   cannot touch the disk of the new one. `Bytes` already handed out stay good.
//!
//! Deliberately absent: permissions, links, shortening of files, times, latency.
//!
//! ```
//! use dledger::env::{Disk, OpenMode, memory::{Fate, MemoryDisk}};
//! use std::{io::IoSlice, path::Path};
//!
//! let memory = MemoryDisk::new();
//! let disk = memory.handle();
//! let file = disk.open(Path::new("/a"), OpenMode::Create)?;
//! disk.sync_dir(Path::new("/"))?;
//! file.write_all_at(&[IoSlice::new(b"durable")], 0)?;
//! file.sync()?;
//! file.write_all_at(&[IoSlice::new(b"forgotten")], 7)?;
//!
//! memory.power_cut(|_| Fate::Lost);
//! assert!(file.len().is_err()); // the old process is gone
//! let file = memory.handle().open(Path::new("/a"), OpenMode::Read)?;
//! assert_eq!(file.len()?, 7);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! Embedders use it in the same way: every `open` of this crate that takes a [`Disk`] takes `memory.handle()`.

mod content;
mod handle;
mod state;
mod tree;

#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use content::SECTOR_BYTES;

use self::handle::Handle;
use self::state::State;
use super::Disk;

/// What a power cut does to one pending change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It never reached the disk.
    Lost,
    /// It reached the disk though nobody waited for it.
    Kept,
    /// The power failed while it was being written: a sector's changed bytes hold garbage, a length is somewhere
    /// between the old and the new one. Names are never garbled; a name treats this as [`Fate::Lost`].
    Garbled,
}

impl Fate {
    /// Fates drawn from a seed, each about as often as the others: the same seed and history give the same fates.
    pub fn seeded(seed: u64) -> impl FnMut(&Pending<'_>) -> Self {
        let mut state = seed;
        move |_| {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            match content::mix(state) % 3 {
                0 => Self::Lost,
                1 => Self::Kept,
                _ => Self::Garbled,
            }
        }
    }
}

/// A change that no sync has made durable yet. Paths are absolute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pending<'a> {
    /// A new name of a file or directory.
    Added {
        /// The name.
        path: &'a Path,
    },
    /// A name that was removed.
    Removed {
        /// The name.
        path: &'a Path,
    },
    /// A file that was renamed inside one directory. (Between directories it is one `Added` and one `Removed`.)
    Renamed {
        /// The old name.
        from: &'a Path,
        /// The new name, which it takes from whatever had it.
        to: &'a Path,
    },
    /// The length of a file.
    Length {
        /// The file.
        path: &'a Path,
        /// Its durable length, in bytes.
        durable: u64,
        /// Its length as written, in bytes.
        written: u64,
    },
    /// Bytes of a file.
    Sector {
        /// The file.
        path: &'a Path,
        /// Which sector of it, counted from 0: bytes `sector * 512` to `sector * 512 + 511`.
        sector: u64,
    },
}

/// How often the disk was called since it was made. Calls that failed are counted too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls that can change the disk: those that [`MemoryDisk::cut_power_at`] counts. At least the sum of the next three.
    pub mutating: u64,
    /// [`super::File::write_all_at`].
    pub writes: u64,
    /// [`super::File::sync`].
    pub syncs: u64,
    /// [`Disk::sync_dir`].
    pub dir_syncs: u64,
    /// Slices of maps that touched an unreadable sector: each would have killed a real process with a signal.
    pub map_faults: u64,
}

/// A disk in memory whose power can be cut; see the module's documentation. Clones are the same disk.
#[derive(Clone, Default)]
pub struct MemoryDisk {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for MemoryDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryDisk").field("counts", &self.counts()).finish_non_exhaustive()
    }
}

impl MemoryDisk {
    /// An empty disk of unlimited capacity. Only the root directory exists; relative paths stand below it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A handle for one "process": it works until the next power cut or kill.
    #[must_use]
    pub fn handle(&self) -> Arc<dyn Disk> {
        Arc::new(Handle::new(Arc::clone(&self.shared)))
    }

    /// Cuts the power and restores it: each pending change meets the fate that `fate` chooses for it, all handles,
    /// files, maps and locks are dead, and what is on the disk now is durable. Planned faults that have not struck are
    /// forgotten; capacity and dropped syncs stay.
    ///
    /// Names are asked for first, from the root down, then the lengths and sectors of the files that are still there.
    /// `fate` must not call the disk.
    pub fn power_cut(&self, fate: impl FnMut(&Pending<'_>) -> Fate) {
        self.shared.state().power_cut(fate);
    }

    /// Kills the process: all handles, files, maps and locks are dead, nothing is lost and nothing becomes durable by
    /// it. After a failure planned with [`MemoryDisk::cut_power_at`] has struck, it turns that into the death of the
    /// process during the same call.
    pub fn kill_process(&self) {
        self.shared.state().kill_process();
    }

    /// Plans a power failure *during* the `call`-th call, counted from now (1 is the next), that can change the disk:
    /// creating, renaming, removing, locking, writing and both syncs. That call and every call after it, reads
    /// included, fail until [`MemoryDisk::power_cut`] says what became of the pending changes, its own among them, or
    /// [`MemoryDisk::kill_process`] says that it was not the power that failed. A
    /// sync that the failure strikes has made nothing durable. 0 takes the plan back.
    pub fn cut_power_at(&self, call: u64) {
        self.shared.state().plan_cut(call);
    }

    /// True once a failure planned with [`MemoryDisk::cut_power_at`] has struck, until the next power cut or kill.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.shared.state().is_off()
    }

    /// Makes the `call`-th sync of a file or directory, counted from now (1 is the next), fail with `EIO`. 0 takes the
    /// plan back.
    pub fn fail_sync(&self, call: u64) {
        self.shared.state().fail_sync.plan(call);
    }

    /// Makes the `call`-th write, counted from now (1 is the next), fail with `EIO` after half of its bytes were
    /// written. 0 takes the plan back.
    pub fn fail_write(&self, call: u64) {
        self.shared.state().fail_write.plan(call);
    }

    /// Limits the bytes that files may occupy, in whole sectors; `None` lifts the limit. Writes that need more fail
    /// with `StorageFull`, after writing what there was room for.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.shared.state().capacity = bytes;
    }

    /// Leaves room for so many more bytes, in whole sectors: a limit as [`MemoryDisk::set_capacity`] sets it.
    pub fn set_free(&self, bytes: u64) {
        let mut state = self.shared.state();
        state.capacity = Some(state.tree.allocated().saturating_add(bytes));
    }

    /// Makes [`super::File::sync`] do nothing and answer success: a lying disk, to prove that a test would notice.
    pub fn drop_syncs(&self, drop: bool) {
        self.shared.state().drop_syncs = drop;
    }

    /// Makes [`Disk::sync_dir`] do nothing and answer success.
    pub fn drop_dir_syncs(&self, drop: bool) {
        self.shared.state().drop_dir_syncs = drop;
    }

    /// An independent copy of the disk as it is now, pending changes and planned faults included, on which no process
    /// runs and the power is on. A test that wants to see many fates of one moment cuts the power of one copy for each.
    #[must_use]
    pub fn fork(&self) -> Self {
        let state = self.shared.state().fork();
        Self { shared: Arc::new(Shared { state: Mutex::new(state) }) }
    }

    /// Lets one byte of a file rot: flips all its bits, on the disk and in what reads show.
    ///
    /// # Errors
    /// `NotFound` when there is no such file, `UnexpectedEof` when it is too short.
    pub fn flip_byte(&self, path: &Path, offset: u64) -> io::Result<()> {
        self.shared.state().flip_byte(path, offset)
    }

    /// Puts bytes in the place of others, on the disk and in what reads show: what a drive does that has lost a write
    /// (there is what stood there before) or misdirected one (there is what belongs elsewhere) and reported success.
    /// A sector that cannot be read stays so.
    ///
    /// # Errors
    /// `NotFound` when there is no such file, `UnexpectedEof` when it is too short.
    pub fn replace_bytes(&self, path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.shared.state().replace_bytes(path, offset, bytes)
    }

    /// Makes the sector of a byte unreadable, on the disk and in what reads show: reading any of it, or writing a part
    /// of it, fails with `EIO`, until a write covers the whole sector. A drive does so with a sector that it has lost.
    ///
    /// # Errors
    /// `NotFound` when there is no such file, `UnexpectedEof` when it is too short.
    pub fn spoil_sector(&self, path: &Path, offset: u64) -> io::Result<()> {
        self.shared.state().spoil_sector(path, offset)
    }

    /// How often the disk was called.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.shared.state().counts
    }
}

/// What all handles of a disk share: everything stands behind one lock, so that every run with the same calls in the
/// same order is the same.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
}

impl Shared {
    /// The state. A panic of a test that held it does not matter to the next one.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
