//! The state machine: replays committed commands into a backend.
//!
//! Contract (src/state_machine.rs): nothing but the map and the entry decides.
//!
//! A range delete removes its keys in bounded turns, but readers see it whole or not at all: its first turn publishes a
//! view in which the range is *leaving*, and no key of it is to be seen from then on.
//!
//! ```text
//!   apply          first turn                 resume …                 last turn
//!   range known ─► view: map, range leaving ─► view: smaller map, … ─► view: map without it
//! ```
//! Hiding the keys first, instead of publishing once at the end, lets each turn free what it removed: a view that still
//! held them all would be freed in one go: 200 ms and more were measured for half a million keys, which is an election.

use bytes::Bytes;

use crate::codec;
use crate::state_machine::{Applied, ApplyError, Entry, StateMachine};
use crate::types::{EntryId, Kind};

use super::backend::Backend;
use super::backend::memory::MemoryMap;
use super::capture::{KvCapture, KvRestore};
use super::command::Command;
use super::range::KeyRange;
use super::view::{KvReader, KvView};

/// Keys that one turn of a range delete removes.
const TURN_KEYS: usize = 256;
/// A turn that removes this many is work of many entries, and is not the last: what runs the machine counts turns.
const LONG_KEYS: usize = 16;

/// A range delete that is under way.
#[derive(Debug)]
struct Deleting {
    range: KeyRange,
    count: u64,
}

/// The KV's state machine.
#[derive(Debug)]
pub struct KvMachine<B: Backend = MemoryMap> {
    map: B,
    last: EntryId,
    deleting: Option<Deleting>,
    reader: KvReader<B::Snapshot>,
    turn_keys: usize,
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
        let last = EntryId::ZERO;
        let reader = KvReader::new(KvView::new(map.snapshot(), None, last.index));
        Self { map, last, deleting: None, reader, turn_keys: TURN_KEYS }
    }

    /// Breaks a rule, for a simulation.
    #[cfg(feature = "simulation")]
    #[doc(hidden)]
    pub fn plant(&mut self, plants: crate::simulation::plants::Plants) {
        if plants.has(crate::simulation::plants::Plant::RangeInOneTurn) {
            self.turn_keys = usize::MAX;
        }
    }

    /// What readers see of it: stays valid as the machine goes on.
    #[must_use]
    pub fn reader(&self) -> KvReader<B::Snapshot> {
        self.reader.clone()
    }

    fn turn(&mut self) -> Applied {
        let Some(deleting) = &mut self.deleting else { return Applied::Done(Bytes::new()) };
        let removed = self.map.delete_some(&deleting.range, self.turn_keys);
        deleting.count += removed as u64;
        if removed < self.turn_keys.min(LONG_KEYS) {
            let count = deleting.count;
            self.deleting = None;
            return Applied::Done(deleted(count));
        }
        self.show();
        Applied::More
    }

    fn show(&self) {
        let leaving = self.deleting.as_ref().map(|deleting| deleting.range.clone());
        self.reader.publish(KvView::new(self.map.snapshot(), leaving, self.last.index));
    }
}

impl<B: Backend> StateMachine for KvMachine<B> {
    type Capture = KvCapture<B::Snapshot>;
    type Restore = KvRestore<B>;

    fn apply(&mut self, entry: &Entry) -> Result<Applied, ApplyError> {
        match entry.kind {
            Kind::Data => {}
            Kind::NoOp | Kind::Membership => {
                self.last = entry.id;
                return Ok(Applied::Done(Bytes::new()));
            }
        }
        let command =
            Command::decode(&entry.payload).map_err(|error| ApplyError { id: entry.id, reason: error.to_string() })?;
        self.last = entry.id;
        Ok(match command {
            Command::Put { key, value } => {
                self.map.put(key, value, entry.id.index);
                Applied::Done(Bytes::new())
            }
            Command::Delete { key } => Applied::Done(deleted(u64::from(self.map.delete(key)))),
            Command::DeleteRange { from, to } => {
                let range = KeyRange { from: Bytes::copy_from_slice(from), to: to.map(Bytes::copy_from_slice) };
                self.deleting = Some(Deleting { range, count: 0 });
                self.turn()
            }
        })
    }

    fn resume(&mut self) -> Result<Applied, ApplyError> {
        Ok(self.turn())
    }

    fn publish(&mut self) {
        self.show();
    }

    fn capture(&self) -> Self::Capture {
        debug_assert!(self.deleting.is_none(), "captured while an entry is half applied");
        KvCapture::new(self.map.snapshot())
    }

    fn restore(&self) -> Self::Restore {
        KvRestore::new(self.map.fresh())
    }

    fn install(&mut self, state: Self::Restore, last: EntryId) -> Self::Restore {
        debug_assert!(self.deleting.is_none(), "replaced while an entry is half applied");
        let before = std::mem::replace(&mut self.map, state.into_map());
        self.last = last;
        self.show();
        KvRestore::new(before)
    }
}

/// The answer to a delete: how many keys went, as eight bytes, little-endian. It travels from leader to follower.
fn deleted(count: u64) -> Bytes {
    Bytes::copy_from_slice(&count.to_le_bytes())
}

/// Reads the answer to a delete.
pub(super) fn deleted_count(answer: &[u8]) -> Option<u64> {
    codec::decode("delete answer", answer).ok()
}

#[cfg(test)]
mod tests;
