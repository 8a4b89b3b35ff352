//! What a disk in memory knows beside its files: power, generations, locks, planned faults and counters.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::Path;

use rustix::io::Errno;

use super::tree::{NodeKey, Tree, names};
use super::{Counts, Fate, Pending};

/// The state of a disk in memory.
#[derive(Clone, Default)]
pub(super) struct State {
    pub(super) tree: Tree,
    pub(super) counts: Counts,
    pub(super) fail_sync: Countdown,
    pub(super) fail_write: Countdown,
    pub(super) capacity: Option<u64>,
    pub(super) drop_syncs: bool,
    pub(super) drop_dir_syncs: bool,
    cut: Countdown,
    off: bool,
    generation: u64,
    power_cuts: u64,
    locks: BTreeSet<Vec<String>>,
}

/// A fault that strikes at a call still to come.
#[derive(Clone, Copy, Default)]
pub(super) struct Countdown(u64);

impl Countdown {
    /// Strikes at the `call`-th call from now; never when 0.
    pub(super) fn plan(&mut self, call: u64) {
        self.0 = call;
    }

    /// Counts a call: true when this is the one.
    fn strikes(&mut self) -> bool {
        let strikes = self.0 == 1;
        self.0 = self.0.saturating_sub(1);
        strikes
    }
}

impl State {
    /// How often the power was cut.
    pub(super) const fn power_cuts(&self) -> u64 {
        self.power_cuts
    }

    /// The generation of handles made now.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn plan_cut(&mut self, call: u64) {
        self.cut.plan(call);
    }

    pub(super) fn is_off(&self) -> bool {
        self.off
    }

    /// Fails when the power is off or the handle is of a process that is gone.
    pub(super) fn check(&self, generation: u64) -> io::Result<()> {
        if self.generation != generation {
            return Err(io::Error::other("the process that opened this is gone: its power was cut or it was killed"));
        }
        if self.off { Err(power_is_off()) } else { Ok(()) }
    }

    /// Runs a call that can change the disk. When the planned power failure strikes, the call does what it can leave
    /// pending and then fails.
    pub(super) fn change<T>(
        &mut self,
        generation: u64,
        work: impl FnOnce(&mut Self) -> io::Result<T>,
    ) -> io::Result<T> {
        self.check(generation)?;
        self.counts.mutating += 1;
        self.off = self.cut.strikes();
        let done = work(self);
        if self.off { Err(power_is_off()) } else { done }
    }

    /// `File::write_all_at`, of parts already joined. Called inside [`State::change`].
    pub(super) fn write(&mut self, key: NodeKey, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.counts.writes += 1;
        let mut room = self.free_bytes();
        if self.fail_write.strikes() {
            let half = bytes.get(..bytes.len() / 2).unwrap_or_default();
            self.tree.content_mut(key)?.write(half, offset, &mut room)?;
            return Err(Errno::IO.into());
        }
        self.tree.content_mut(key)?.write(bytes, offset, &mut room)
    }

    /// `File::sync`. Called inside [`State::change`].
    pub(super) fn sync(&mut self, key: NodeKey) -> io::Result<()> {
        self.counts.syncs += 1;
        let fails = self.fail_sync.strikes();
        let lazy = self.off || self.drop_syncs;
        let content = self.tree.content_mut(key)?;
        if fails {
            content.sync_failed();
            return Err(Errno::IO.into());
        }
        if !lazy {
            content.sync();
        }
        Ok(())
    }

    /// `Disk::sync_dir`. Called inside [`State::change`].
    pub(super) fn sync_dir(&mut self, directory: &Path) -> io::Result<()> {
        self.counts.dir_syncs += 1;
        let fails = self.fail_sync.strikes();
        self.tree.sync_dir(directory, !(fails || self.off || self.drop_dir_syncs))?;
        if fails { Err(Errno::IO.into()) } else { Ok(()) }
    }

    /// Takes a lock; the answer names it for [`State::unlock`]. Called inside [`State::change`].
    pub(super) fn lock(&mut self, path: &Path) -> io::Result<Vec<String>> {
        let name = names(path)?;
        if self.tree.find_file(path).is_err() {
            self.tree.create_file(path)?;
        }
        // Without power there is no process to hold it, and no guard that would give it back.
        if !self.off && !self.locks.insert(name.clone()) {
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(name)
    }

    pub(super) fn unlock(&mut self, generation: u64, name: &[String]) {
        if self.generation == generation {
            self.locks.remove(name);
        }
    }

    /// Notes that a handle of a file was dropped.
    pub(super) fn closed(&mut self, generation: u64, key: NodeKey) {
        if self.generation == generation {
            self.tree.closed(key);
        }
    }

    pub(super) fn free_bytes(&self) -> u64 {
        self.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(self.tree.allocated()))
    }

    pub(super) fn flip_byte(&mut self, path: &Path, offset: u64) -> io::Result<()> {
        let key = self.tree.find_file(path)?;
        self.tree.content_mut(key)?.flip(offset)
    }

    pub(super) fn replace_bytes(&mut self, path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let key = self.tree.find_file(path)?;
        self.tree.content_mut(key)?.replace(bytes, offset)
    }

    pub(super) fn spoil_sector(&mut self, path: &Path, offset: u64) -> io::Result<()> {
        let key = self.tree.find_file(path)?;
        self.tree.content_mut(key)?.spoil(offset)
    }

    pub(super) fn kill_process(&mut self) {
        self.generation += 1;
        self.off = false;
        self.locks.clear();
        self.tree.all_closed();
    }

    /// A copy on which no process runs.
    pub(super) fn fork(&self) -> Self {
        let mut copy = self.clone();
        copy.kill_process();
        copy
    }

    pub(super) fn power_cut(&mut self, mut fate: impl FnMut(&Pending<'_>) -> Fate) {
        self.tree.settle(&mut fate);
        self.power_cuts += 1;
        self.kill_process();
        self.cut.plan(0);
        self.fail_sync.plan(0);
        self.fail_write.plan(0);
    }
}

fn power_is_off() -> io::Error {
    io::Error::other("the power is off")
}
