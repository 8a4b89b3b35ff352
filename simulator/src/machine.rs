//! The KV's state machine under watch: what it applied, captured and restored, and what that costs on a slow processor.
//!
//! A state is one number here: the sum over what readers see of the keys, and over the records beside them as a snapshot
//! has them.

use std::hash::{DefaultHasher, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use dledger::kv::answer::Answer;
use dledger::kv::history::History;
use dledger::kv::machine::KvMachine;
use dledger::kv::view::KvReader;
use dledger::state_machine::{Applied, ApplyError, Capture, CaptureError, Entry, StateMachine};
use dledger::types::{EntryId, Kind, LogTime};

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

/// What an entry says, for a second reading of it.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    pub(crate) time: LogTime,
    pub(crate) kind: Kind,
    pub(crate) payload: Bytes,
}

/// Something that a machine did.
#[derive(Clone, Debug)]
pub(crate) enum Deed {
    /// It applied an entry.
    Applied(Step, Content),
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

/// A state as a snapshot would have it.
pub(crate) type State = <KvMachine as StateMachine>::Capture;

/// What the world keeps of a machine.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    pub(crate) reader: KvReader,
    pub(crate) history: History,
    seen: Arc<Mutex<Seen>>,
    published: Arc<Mutex<State>>,
}

impl Watch {
    /// Takes what happened since the last call.
    pub(crate) fn take(&self) -> Seen {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The snapshot that the state began with since the last look, if it did.
    pub(crate) fn just_restored(&self) -> Option<EntryId> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let installed = |deed: &Deed| if let Deed::Installed(id, _state) = deed { Some(*id) } else { None };
        seen.deeds.iter().rev().find_map(installed)
    }

    /// The state that was last published, as one number.
    pub(crate) fn digest(&self) -> u64 {
        digest(&self.reader, &self.published.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The machine.
#[derive(Debug)]
pub(crate) struct Watched {
    inner: KvMachine,
    seen: Arc<Mutex<Seen>>,
    published: Arc<Mutex<State>>,
    entry: EntryId,
    content: Option<Content>,
    turns: u64,
}

impl Watched {
    /// A machine, and what to watch it with.
    pub(crate) fn new(inner: KvMachine) -> (Self, Watch) {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let published = Arc::new(Mutex::new(inner.capture()));
        let watch = Watch {
            reader: inner.reader(),
            history: inner.history(),
            seen: Arc::clone(&seen),
            published: Arc::clone(&published),
        };
        (Self { inner, seen, published, entry: EntryId::ZERO, content: None, turns: 0 }, watch)
    }

    fn did(&self, deed: Deed) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).deeds.push(deed);
    }

    fn show(&self) {
        *self.published.lock().unwrap_or_else(PoisonError::into_inner) = self.inner.capture();
    }

    fn note(&mut self, outcome: &Applied) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Applied::More => {
                self.turns += 1;
                seen.cost += TURN_KEYS * 1000 / KEYS_PER_MS;
            }
            Applied::Done(answer) => {
                let count = deleted(answer);
                seen.cost += 2 + count.saturating_sub(self.turns * TURN_KEYS) * 1000 / KEYS_PER_MS;
                self.turns = 0;
                if let Some(content) = self.content.take() {
                    let step = Step { id: self.entry, digest: step_digest(&content.payload, answer) };
                    seen.deeds.push(Deed::Applied(step, content));
                }
            }
        }
    }
}

impl StateMachine for Watched {
    type Capture = <KvMachine as StateMachine>::Capture;
    type Restore = <KvMachine as StateMachine>::Restore;

    fn apply(&mut self, entry: &Entry) -> Result<Applied, ApplyError> {
        let outcome = self.inner.apply(entry)?;
        self.entry = entry.id;
        self.content = Some(Content { time: entry.time, kind: entry.kind, payload: entry.payload.clone() });
        self.note(&outcome);
        Ok(outcome)
    }

    fn resume(&mut self) -> Result<Applied, ApplyError> {
        let outcome = self.inner.resume()?;
        self.note(&outcome);
        Ok(outcome)
    }

    fn publish(&mut self) -> Result<(), ApplyError> {
        self.inner.publish()?;
        if self.turns == 0 {
            self.show();
        }
        Ok(())
    }

    fn next_deadline(&self) -> Option<LogTime> {
        self.inner.next_deadline()
    }

    fn capture(&self) -> Self::Capture {
        let state = self.inner.capture();
        self.did(Deed::Captured(self.entry, digest(&self.inner.reader(), &state)));
        state
    }

    fn restore(&self) -> Self::Restore {
        self.inner.restore()
    }

    fn install(&mut self, state: Self::Restore, last: EntryId) -> Self::Restore {
        let before = self.inner.install(state, last);
        self.entry = last;
        self.show();
        self.did(Deed::Installed(last, digest(&self.inner.reader(), &self.inner.capture())));
        before
    }
}

/// All of a state, as one number: equal states have equal numbers.
pub(crate) fn digest(reader: &KvReader, state: &State) -> u64 {
    // Memory does not fail.
    let mut sum = of_keys(reader).unwrap_or_default();
    let of_records = state.items(&mut |item| {
        if is_key(item) {
            return Err(End);
        }
        sum = sum.wrapping_add(record_digest(item));
        Ok(())
    });
    match of_records {
        Ok(()) | Err(End) => sum,
    }
}

/// The records are over.
struct End;

impl From<CaptureError> for End {
    fn from(_error: CaptureError) -> Self {
        Self
    }
}

/// Whether an item of a snapshot is a key (docs/format.md).
fn is_key(item: &[u8]) -> bool {
    item.first() == Some(&1)
}

fn of_keys(reader: &KvReader) -> Result<u64, dledger::kv::backend::BackendError> {
    let mut sum = 0_u64;
    let mut scan = dledger::Scan::prefix(Bytes::new());
    let view = reader.view();
    loop {
        let page = view.scan(&scan)?;
        for item in &page.items {
            let numbers = [item.create_revision.get(), item.mod_revision.get(), item.version];
            sum = sum.wrapping_add(item_digest(&item.key, &item.value, numbers));
        }
        match scan.after(&page) {
            Some(next) => scan = next,
            None => return Ok(sum),
        }
    }
}

/// Checksum of a payload and the answer to it.
pub(crate) fn step_digest(payload: &[u8], answer: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(payload);
    hasher.update(answer);
    hasher.finalize()
}

/// How many keys an answer says were deleted.
pub(crate) fn deleted(answer: &[u8]) -> u64 {
    let answer = match Answer::decode(answer) {
        Ok(Answer::First { answer, .. }) => *answer,
        Ok(answer) => answer,
        Err(_unreadable) => return 0,
    };
    if let Answer::Deleted(count) = answer { count } else { 0 }
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

/// One record's part.
pub(crate) fn record_digest(record: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(b"beside");
    hasher.write(record);
    hasher.finish()
}
