//! The state machine: replays committed commands into a backend.
//!
//! Contract (src/state_machine.rs): nothing but the state and the entry decides. What the commands do is in
//! machine/apply.rs, what there is beside the keys in beside.rs; here is how an entry passes through.
//!
//! A range delete removes its keys in bounded turns, but readers see it whole or not at all: its first turn publishes a
//! view in which the range is *leaving*, and no key of it is to be seen from then on.
//!
//! ```text
//!   apply          first turn                 resume …                 last turn
//!   range known ─► view: map, range leaving ─► view: smaller map, … ─► view: map without it
//! ```
//! A backend on disk that is opened again in the midst of it is told to go on: what it holds is that of the entry, but for
//! the keys that are leaving, and those go before anything else is done.
//!
//! Hiding the keys first, instead of publishing once at the end, lets each turn free what it removed: a view that still
//! held them all would be freed in one go: 200 ms and more were measured for half a million keys, which is an election.

mod apply;

use std::path::Path;

use bytes::Bytes;

use crate::simulation::plants::{Plant, Plants};
use crate::state_machine::{Applied, ApplyError, Entry, StateError, StateMachine};
use crate::types::{EntryId, Index, Kind, LogBase, LogTime};

use super::answer::Answer;
use super::backend::memory::MemoryMap;
use super::backend::{Backend, BackendError, Leaving};
use super::beside::Beside;
use super::capture::{KvCapture, KvRestore};
use super::command::Command;
use super::effects::Effects;
use super::history::History;
use super::leases::Leases;
use super::view::{KvReader, KvView};

use apply::Stop;

/// Keys that one turn of a range delete removes.
const TURN_KEYS: usize = 256;
/// A turn that removes this many is work of many entries, and is not the last: what runs the machine counts turns.
const LONG_KEYS: usize = 16;

/// The KV's state machine.
#[derive(Debug)]
pub struct KvMachine<B: Backend = MemoryMap> {
    map: B,
    /// What the map is of: everything up to the last entry applied, or half applied.
    base: LogBase,
    /// Leases and sessions.
    beside: Beside,
    /// What entries did that they do not say themselves, for watches.
    effects: Effects,
    /// A range delete that is under way.
    deleting: Option<Leaving>,
    /// What the backend said: what it has of the quantum may be half of an entry, and is not committed.
    broken: Option<BackendError>,
    reader: KvReader<B::Snapshot>,
    turn_keys: usize,
    plants: Plants,
}

impl Default for KvMachine {
    fn default() -> Self {
        Self::new()
    }
}

impl KvMachine {
    /// An empty machine in memory.
    #[must_use]
    pub fn new() -> Self {
        Self::on(MemoryMap::default())
    }
}

impl<B: Backend> KvMachine<B> {
    /// A machine that keeps its keys in an empty backend.
    #[must_use]
    pub fn on(map: B) -> Self {
        let (base, beside) = (LogBase::default(), Beside::default());
        let reader = KvReader::new(KvView::new(map.snapshot(), beside.leases.clone(), None, &base));
        let effects = Effects::default();
        Self {
            map,
            base,
            beside,
            effects,
            deleting: None,
            broken: None,
            reader,
            turn_keys: TURN_KEYS,
            plants: Plants::NONE,
        }
    }

    /// Breaks a rule, for a simulation.
    #[cfg(feature = "simulation")]
    #[doc(hidden)]
    pub fn plant(&mut self, plants: Plants) {
        self.plants = plants;
        if plants.has(Plant::RangeInOneTurn) {
            self.turn_keys = usize::MAX;
        }
    }

    /// Leases and sessions, as they are written down.
    #[cfg(all(test, feature = "rocksdb"))]
    pub(super) fn records_beside_the_keys(&self) -> Vec<Vec<u8>> {
        self.beside.records().map(|record| record.encode()).collect()
    }

    /// What readers see of it: stays valid as the machine goes on.
    #[must_use]
    pub fn reader(&self) -> KvReader<B::Snapshot> {
        self.reader.clone()
    }

    /// What watches are told by: stays valid as the machine goes on.
    #[must_use]
    pub fn history(&self) -> History {
        History::new(self.effects.newest())
    }

    fn turn(&mut self) -> Result<Applied, BackendError> {
        let Some(mut deleting) = self.deleting.take() else { return Ok(Applied::Done(Bytes::new())) };
        let removed = self.map.delete_some(&deleting.range, self.turn_keys)?;
        deleting.count += removed.len() as u64;
        self.beside.unbind(removed.iter().map(|(key, _stored)| &key[..]));
        let revision = self.base.entry.index;
        for (key, before) in &removed {
            self.effects.gone(revision, key, before);
        }
        if removed.len() < self.turn_keys.min(LONG_KEYS) {
            self.effects.all_gone(revision);
            let answer = Answer::Deleted(deleting.count).encode();
            return Ok(Applied::Done(self.answered(deleting.asked, answer)));
        }
        self.deleting = Some(deleting);
        self.commit()?;
        Ok(Applied::More)
    }

    /// Keeps what was done and shows it.
    fn commit(&mut self) -> Result<(), BackendError> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        self.beside.hand_over(&mut self.map);
        self.map.commit(&self.base, self.deleting.as_ref())?;
        self.show();
        // Of an entry that is half applied, nothing is told.
        let last = self.base.entry.index;
        self.effects.publish(if self.deleting.is_some() { last.prev() } else { last });
        Ok(())
    }

    fn show(&self) {
        let leaving = self.deleting.as_ref().map(|deleting| deleting.range.clone());
        let leases = self.beside.leases.clone();
        self.reader.publish(KvView::new(self.map.snapshot(), leases, leaving, &self.base));
    }

    /// Takes up what the backend holds, and goes on with the deletion that it was in the midst of.
    fn take_up(&mut self, directory: &Path) -> Result<(), BackendError> {
        let held = self.map.open(directory)?;
        for record in &held.sides {
            self.beside.load(record).map_err(BackendError)?;
        }
        (self.base, self.deleting) = (held.base, held.leaving);
        let unfinished = self.deleting.is_some();
        while self.deleting.is_some() {
            self.turn()?;
        }
        if unfinished {
            self.beside.hand_over(&mut self.map);
            self.map.commit(&self.base, None)?;
        }
        self.show();
        self.effects.restart(self.base.entry.index);
        Ok(())
    }

    fn cannot(&self, error: &BackendError) -> ApplyError {
        ApplyError { id: self.base.entry, reason: error.to_string() }
    }
}

/// What the log's base is behind an entry.
fn base_behind(before: &LogBase, entry: &Entry) -> LogBase {
    let membership = match entry.kind {
        // In memory of its own: it keeps no part of the log alive.
        Kind::Membership => (entry.id.index, Bytes::copy_from_slice(&entry.payload)),
        Kind::Data | Kind::NoOp => before.membership.clone(),
    };
    LogBase { entry: entry.id, position: entry.end(), time: entry.time, membership }
}

impl<B: Backend> Drop for KvMachine<B> {
    fn drop(&mut self) {
        if let Some(parting) = self.map.parting() {
            self.reader.publish(KvView::new(parting, Leases::default(), None, &self.base));
        }
    }
}

impl<B: Backend> StateMachine for KvMachine<B> {
    type Capture = KvCapture<B::Snapshot>;
    type Restore = KvRestore<B>;

    fn on_disk(&self) -> bool {
        self.map.on_disk()
    }

    fn open(&mut self, directory: &Path) -> Result<LogBase, StateError> {
        self.take_up(directory).map_err(|error| StateError(error.to_string()))?;
        Ok(self.base.clone())
    }

    fn apply(&mut self, entry: &Entry) -> Result<Applied, ApplyError> {
        let behind = base_behind(&self.base, entry);
        let before = std::mem::replace(&mut self.base, behind);
        let applied = match (entry.kind, Command::decode(&entry.payload)) {
            (Kind::Membership, _) => return Ok(Applied::Done(Bytes::new())),
            (Kind::NoOp, _) => self.end_due(),
            (Kind::Data, Ok(command)) => self.command(command),
            (Kind::Data, Err(error)) => Err(Stop::Unreadable(error.to_string())),
        };
        applied.map_err(|stop| {
            let reason = match stop {
                Stop::Broken(error) => self.broken.insert(error).to_string(),
                Stop::Unreadable(reason) => reason,
            };
            (self.base, self.deleting) = (before, None);
            self.effects.abandon(entry.id.index);
            ApplyError { id: entry.id, reason }
        })
    }

    fn resume(&mut self) -> Result<Applied, ApplyError> {
        self.turn().map_err(|error| {
            self.broken = Some(error.clone());
            self.cannot(&error)
        })
    }

    fn publish(&mut self) -> Result<(), ApplyError> {
        if self.plants.has(Plant::ExpiryBetweenEntries) && self.deleting.is_none() {
            self.end_due().map_err(|_stop| ApplyError { id: self.base.entry, reason: String::new() })?;
        }
        self.commit().map_err(|error| self.cannot(&error))
    }

    fn next_deadline(&self) -> Option<LogTime> {
        self.beside.next_deadline()
    }

    fn capture(&self) -> Self::Capture {
        debug_assert!(self.deleting.is_none(), "captured while an entry is half applied");
        KvCapture::new(self.map.snapshot(), self.beside.clone(), self.plants)
    }

    fn restore(&self) -> Self::Restore {
        KvRestore::new(self.map.fresh())
    }

    fn install(&mut self, state: Self::Restore, last: EntryId) -> Self::Restore {
        let (map, beside, base) = state.into_parts();
        let mut before = std::mem::replace(&mut self.map, map);
        self.map.replaces(&mut before);
        self.beside = beside;
        // One that was never finished has no base of its own.
        self.base = LogBase { entry: last, ..base };
        (self.deleting, self.broken) = (None, None);
        self.show();
        let planted = self.plants.has(Plant::WatchGapBehindSnapshot);
        self.effects.restart(if planted { Index::ZERO } else { last.index });
        KvRestore::new(before)
    }
}

#[cfg(test)]
mod tests;
