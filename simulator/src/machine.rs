//! The KV's state machine under watch: what it applied, captured and restored, and what that costs on a slow processor.

use std::hash::{DefaultHasher, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use dledger::kv::machine::KvMachine;
use dledger::kv::view::KvReader;
use dledger::state_machine::{Applied, ApplyError, Entry, StateMachine};
use dledger::types::{EntryId, Kind};

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

/// Something that a machine did.
#[derive(Clone, Debug)]
pub(crate) enum Deed {
    /// It applied an entry; with its payload, when that is a command.
    Applied(Step, Option<Bytes>),
    /// Its state was captured, after this entry.
    Captured(EntryId, u64),
    /// Its state is that of a snapshot now.
    Installed(EntryId, u64),
}

/// What a machine did since it was last looked at.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) deeds: Vec<Deed>,
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
    command: Option<Bytes>,
    turns: u64,
}

impl Watched {
    /// A machine, and what to watch it with.
    pub(crate) fn new(inner: KvMachine) -> (Self, Watch) {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let watch = Watch { reader: inner.reader(), seen: Arc::clone(&seen) };
        (Self { inner, seen, entry: (EntryId::ZERO, 0), command: None, turns: 0 }, watch)
    }

    fn did(&self, deed: Deed) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).deeds.push(deed);
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
                let step = Step { id: self.entry.0, digest: hasher.finalize() };
                seen.deeds.push(Deed::Applied(step, self.command.take()));
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
        self.command = matches!(entry.kind, Kind::Data).then(|| entry.payload.clone());
        self.note(&outcome);
        Ok(outcome)
    }

    fn resume(&mut self) -> Result<Applied, ApplyError> {
        let outcome = self.inner.resume()?;
        self.note(&outcome);
        Ok(outcome)
    }

    fn publish(&mut self) -> Result<(), ApplyError> {
        self.inner.publish()
    }

    fn capture(&self) -> Self::Capture {
        self.did(Deed::Captured(self.entry.0, digest(&self.inner.reader())));
        self.inner.capture()
    }

    fn restore(&self) -> Self::Restore {
        self.inner.restore()
    }

    fn install(&mut self, state: Self::Restore, last: EntryId) -> Self::Restore {
        let before = self.inner.install(state, last);
        self.entry = (last, 0);
        self.did(Deed::Installed(last, digest(&self.inner.reader())));
        before
    }
}

/// All keys and values, as one number: equal maps have equal numbers.
pub(crate) fn digest(reader: &KvReader) -> u64 {
    let mut sum = 0_u64;
    let mut scan = dledger::Scan::prefix(Bytes::new());
    let view = reader.view();
    loop {
        // Memory does not fail.
        let Ok(page) = view.scan(&scan) else { return 0 };
        for item in &page.items {
            let numbers = [item.create_revision.get(), item.mod_revision.get(), item.version];
            sum = sum.wrapping_add(item_digest(&item.key, &item.value, numbers));
        }
        match scan.after(&page) {
            Some(next) => scan = next,
            None => return sum,
        }
    }
}

/// One key's part of that number: create revision, mod revision and version are its `numbers`.
pub(crate) fn item_digest(key: &[u8], value: &[u8], numbers: [u64; 3]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write_usize(key.len());
    hasher.write(key);
    hasher.write(value);
    numbers.into_iter().for_each(|number| hasher.write_u64(number));
    hasher.finish()
}
