//! The KV's state machine under watch: what it applied, and what that would cost on a slow processor.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use dledger::kv::machine::KvMachine;
use dledger::kv::view::KvReader;
use dledger::state_machine::{Applied, ApplyError, Entry, StateMachine};
use dledger::types::EntryId;

/// Keys that a slow processor deletes in a millisecond.
const KEYS_PER_MS: u64 = 80;
/// Keys that one turn of a long entry deletes (src/kv/machine.rs).
const TURN_KEYS: u64 = 256;

/// An entry that was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) id: EntryId,
    /// Checksum of the entry's payload and of the machine's answer.
    pub(crate) digest: u32,
}

/// What a machine did since it was last looked at.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) steps: Vec<Step>,
    /// Processor time, in microseconds.
    pub(crate) cost: u64,
}

/// What the world keeps of a machine.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    pub(crate) reader: KvReader,
    seen: Arc<Mutex<Seen>>,
}

impl Watch {
    /// Takes what happened since the last call.
    pub(crate) fn take(&self) -> Seen {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The machine.
#[derive(Debug)]
pub(crate) struct Watched {
    inner: KvMachine,
    seen: Arc<Mutex<Seen>>,
    entry: (EntryId, u32),
    turns: u64,
}

impl Watched {
    /// A machine, and what to watch it with.
    pub(crate) fn new(inner: KvMachine) -> (Self, Watch) {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let watch = Watch { reader: inner.reader(), seen: Arc::clone(&seen) };
        (Self { inner, seen, entry: (EntryId::ZERO, 0), turns: 0 }, watch)
    }

    fn note(&mut self, outcome: &Applied) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Applied::More => {
                self.turns += 1;
                seen.cost += TURN_KEYS * 1000 / KEYS_PER_MS;
            }
            Applied::Done(answer) => {
                let count = answer.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
                seen.cost += 2 + count.saturating_sub(self.turns * TURN_KEYS) * 1000 / KEYS_PER_MS;
                self.turns = 0;
                let mut hasher = crc32fast::Hasher::new_with_initial(self.entry.1);
                hasher.update(answer);
                seen.steps.push(Step { id: self.entry.0, digest: hasher.finalize() });
            }
        }
    }
}

impl StateMachine for Watched {
    type Capture = <KvMachine as StateMachine>::Capture;
    type Restore = <KvMachine as StateMachine>::Restore;

    fn apply(&mut self, entry: &Entry) -> Result<Applied, ApplyError> {
        let outcome = self.inner.apply(entry)?;
        self.entry = (entry.id, crc32fast::hash(&entry.payload));
        self.note(&outcome);
        Ok(outcome)
    }

    fn resume(&mut self) -> Result<Applied, ApplyError> {
        let outcome = self.inner.resume()?;
        self.note(&outcome);
        Ok(outcome)
    }

    fn publish(&mut self) {
        self.inner.publish();
    }

    fn capture(&self) -> Self::Capture {
        self.inner.capture()
    }

    fn restore(&self) -> Self::Restore {
        self.inner.restore()
    }

    fn install(&mut self, state: Self::Restore, last: EntryId) -> Self::Restore {
        self.inner.install(state, last)
    }
}

/// All keys and values, as one number: equal maps have equal numbers.
pub(crate) fn digest(reader: &KvReader) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    let mut scan = dledger::Scan::prefix(Bytes::new());
    let view = reader.view();
    loop {
        let page = view.scan(&scan);
        for item in &page.items {
            hasher.update(&item.key);
            hasher.update(&item.value);
            for number in [item.create_revision.get(), item.mod_revision.get(), item.version] {
                hasher.update(&number.to_le_bytes());
            }
        }
        match scan.after(&page) {
            Some(next) => scan = next,
            None => return hasher.finalize(),
        }
    }
}
