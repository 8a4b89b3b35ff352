//! What the state has beside its keys: leases and sessions, as one thing to change, to write down and to read back.
//!
//! All of it is in memory, whichever backend keeps the keys. A backend on disk is handed the records that a quantum
//! changed, with the commit of that quantum.

use crate::types::LogTime;

use super::backend::Backend;
use super::leases::Leases;
use super::sessions::Sessions;
use super::side::{Side, SideName};

/// Leases and sessions. A clone costs nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Beside {
    pub(super) leases: Leases,
    pub(super) sessions: Sessions,
    /// Records that were changed since they were last handed over.
    pub(super) dirty: Vec<SideName>,
}

impl Beside {
    /// When something ends for lack of a sign of life.
    pub(super) fn next_deadline(&self) -> Option<LogTime> {
        let deadlines = [self.leases.next_deadline(), self.sessions.next_deadline()];
        deadlines.into_iter().flatten().min()
    }

    /// These keys are gone.
    pub(super) fn unbind<'a>(&mut self, keys: impl Iterator<Item = &'a [u8]>) {
        if self.leases.bind_nothing() {
            return;
        }
        for key in keys {
            self.leases.unbind(key, &mut self.dirty);
        }
    }

    /// Gives what was changed to a backend that keeps it; others are spared the work.
    pub(super) fn hand_over<B: Backend>(&mut self, backend: &mut B) {
        let mut dirty = std::mem::take(&mut self.dirty);
        if backend.on_disk() {
            dirty.sort();
            dirty.dedup();
            for name in dirty.drain(..) {
                backend.side(name.bytes(), self.record(&name).map(|record| record.encode()));
            }
        }
        dirty.clear();
        self.dirty = dirty;
    }

    fn record(&self, name: &SideName) -> Option<Side> {
        self.leases.record(name).or_else(|| self.sessions.record(name))
    }

    /// All records, in the order of their names.
    pub(super) fn records(&self) -> impl Iterator<Item = Side> {
        self.leases.records().chain(self.sessions.records())
    }

    /// Takes in the bytes of a record; gives its name.
    ///
    /// # Errors
    /// Why they cannot be part of a state.
    pub(super) fn load(&mut self, record: &[u8]) -> Result<SideName, String> {
        let side = Side::decode(record).map_err(|error| error.to_string())?;
        let name = side.name();
        let fits = match &side {
            Side::Lease { .. } | Side::Bound { .. } => self.leases.load(&side),
            Side::Session { .. } | Side::Answer { .. } => self.sessions.load(side),
        };
        if fits { Ok(name) } else { Err("a record belongs to a lease or session that is not there".to_owned()) }
    }
}
