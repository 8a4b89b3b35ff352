//! A state machine that remembers what it applied, for the tests of replicas.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use crate::state_machine::{Applied, ApplyError, Capture, CaptureError, Entry, Restore, RestoreError, StateMachine};
use crate::types::{EntryId, Index, Kind, LogTime};

/// Remembers what it applied.
#[derive(Clone, Default)]
pub(super) struct Recorder {
    applied: Arc<Mutex<Vec<(Index, Bytes)>>>,
    /// The log time at which something is due, and stays so; zero for never.
    due: Arc<AtomicU64>,
}

impl StateMachine for Recorder {
    type Capture = Items;
    type Restore = Items;

    fn apply(&mut self, entry: &Entry) -> Result<Applied, ApplyError> {
        if entry.kind == Kind::Data {
            self.applied.lock().unwrap().push((entry.id.index, entry.payload.clone()));
        }
        Ok(Applied::Done(Bytes::new()))
    }

    fn resume(&mut self) -> Result<Applied, ApplyError> {
        Ok(Applied::Done(Bytes::new()))
    }

    fn publish(&mut self) -> Result<(), ApplyError> {
        Ok(())
    }

    fn next_deadline(&self) -> Option<LogTime> {
        let due = LogTime(self.due.load(Ordering::Relaxed));
        (due > LogTime(0)).then_some(due)
    }

    fn capture(&self) -> Items {
        Items(self.applied.lock().unwrap().clone())
    }

    fn restore(&self) -> Items {
        Items::default()
    }

    fn install(&mut self, state: Items, last: EntryId) -> Items {
        assert!(state.0.iter().all(|(index, _payload)| *index <= last.index));
        Items(std::mem::replace(&mut *self.applied.lock().unwrap(), state.0))
    }
}

impl Recorder {
    /// From this log time on something is due, for ever.
    pub(super) fn make_due(&self, at: LogTime) {
        self.due.store(at.get(), Ordering::Relaxed);
    }

    pub(super) fn what_it_applied(&self) -> Vec<(Index, Bytes)> {
        self.applied.lock().unwrap().clone()
    }
}

/// What a recorder remembers, an entry an item.
#[derive(Default)]
pub(super) struct Items(Vec<(Index, Bytes)>);

impl Capture for Items {
    fn items<E: From<CaptureError>>(&self, each: &mut dyn FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        self.0.iter().try_for_each(|(index, payload)| each(&[&index.get().to_le_bytes()[..], payload].concat()))
    }
}

impl Restore for Items {
    fn item(&mut self, item: &[u8]) -> Result<(), RestoreError> {
        let (index, payload) = item.split_at(8);
        self.0.push((Index(u64::from_le_bytes(index.try_into().unwrap())), Bytes::copy_from_slice(payload)));
        Ok(())
    }
}
