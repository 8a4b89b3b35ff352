//! The state as items of a snapshot, `[tag: u8][version: u8][body]`: first the records beside the keys (side.rs), in the
//! order of their names, then one a key, in the order of keys.
//!
//! ```text
//!   key   01 01 │ key: length (8), bytes │ value: length (8), bytes │ create revision (8) │ mod revision (8) │ version (8)
//! ```
//! The bytes are pinned by tests/fixtures/kv: a later release must read them. The order makes equal states equal bytes,
//! whichever backend keeps them, and is checked on the way in.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::codec::{self, DecodeError};
use crate::simulation::plants::{Plant, Plants};
use crate::state_machine::{Capture, CaptureError, Restore, RestoreError};
use crate::types::{Index, LogBase};

use super::backend::memory::MemoryMap;
use super::backend::{Backend, BackendError, Snapshot, Stored};
use super::beside::Beside;
use super::command::Raw;
use super::range::KeyRange;
use super::side::{Side, SideName};

const KEY: u8 = 1;
const VERSION: u8 = 1;

/// The state as of one entry. Taking it costs what a snapshot of the backend costs.
#[derive(Debug)]
pub struct KvCapture<S = MemoryMap> {
    snapshot: S,
    beside: Beside,
    plants: Plants,
}

impl<S> KvCapture<S> {
    pub(super) fn new(snapshot: S, beside: Beside, plants: Plants) -> Self {
        Self { snapshot, beside, plants }
    }

    /// Whether a simulation leaves this record out.
    fn leaves_out(&self, record: &Side) -> bool {
        match record {
            Side::Answer { .. } => self.plants.has(Plant::AnswersLeftOut),
            Side::Bound { .. } => self.plants.has(Plant::BindingsLeftOut) || self.plants.has(Plant::LeasesLeftOut),
            Side::Lease { .. } => self.plants.has(Plant::LeasesLeftOut),
            Side::Session { .. } => false,
        }
    }
}

impl<S: Snapshot> Capture for KvCapture<S> {
    fn items<E: From<CaptureError>>(&self, each: &mut dyn FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let unreadable = |error: BackendError| E::from(CaptureError(error.to_string()));
        // The snapshot lets the log before it go: from here on that is not needed for a map on disk either.
        self.snapshot.flush().map_err(unreadable)?;
        for record in self.beside.records().filter(|record| !self.leaves_out(record)) {
            each(&record.encode())?;
        }
        let (mut item, mut outcome) = (Vec::new(), Ok(()));
        let visited = self.snapshot.visit(&KeyRange::default(), false, &mut |key, stored| {
            item.clear();
            outcome = encode(key, stored, &mut item).map_err(E::from).and_then(|()| each(&item));
            if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        let _broken_off = visited.map_err(unreadable)?;
        outcome
    }
}

/// A state on its way out of a snapshot.
#[derive(Debug)]
pub struct KvRestore<B: Backend = MemoryMap> {
    map: B,
    beside: Beside,
    last_side: Option<SideName>,
    last_key: Option<Vec<u8>>,
    /// What the state is of, once all of it is there.
    base: LogBase,
}

impl<B: Backend> KvRestore<B> {
    pub(super) fn new(map: B) -> Self {
        let base = LogBase::default();
        Self { map, beside: Beside::default(), last_side: None, last_key: None, base }
    }

    pub(super) fn into_parts(self) -> (B, Beside, LogBase) {
        (self.map, self.beside, self.base)
    }

    fn side(&mut self, record: &[u8]) -> Result<(), RestoreError> {
        let name = self.beside.load(record).map_err(RestoreError)?;
        if self.last_key.is_some() || self.last_side.as_ref().is_some_and(|last| *last >= name) {
            return Err(RestoreError("records are out of order".to_owned()));
        }
        self.map.side(name.bytes(), Some(record.to_vec()));
        self.last_side = Some(name);
        Ok(())
    }
}

impl<B: Backend> Restore for KvRestore<B> {
    fn item(&mut self, item: &[u8]) -> Result<(), RestoreError> {
        if Side::is_one(item) {
            return self.side(item);
        }
        let (key, stored) = decode(item).map_err(|error| RestoreError(error.to_string()))?;
        if self.last_key.as_deref().is_some_and(|last| last >= key) {
            return Err(RestoreError("keys are out of order".to_owned()));
        }
        if stored.version == 0 || stored.create_revision > stored.mod_revision {
            return Err(RestoreError("a key has revisions that cannot be".to_owned()));
        }
        self.map.load(key, stored).map_err(|error| RestoreError(error.to_string()))?;
        let last = self.last_key.get_or_insert_default();
        last.clear();
        last.extend_from_slice(key);
        Ok(())
    }

    fn finish(&mut self, base: &LogBase) -> Result<(), RestoreError> {
        self.base = base.clone();
        self.map.loaded(base).map_err(|error| RestoreError(error.to_string()))
    }
}

fn encode(key: &[u8], stored: &Stored, item: &mut Vec<u8>) -> Result<(), CaptureError> {
    let Stored { value, create_revision, mod_revision, version } = stored;
    item.extend([KEY, VERSION]);
    codec::encode_into("key", &(Raw(key), Raw(value), *create_revision, *mod_revision, *version), item)
        .map_err(|error| CaptureError(error.to_string()))
}

fn decode(item: &[u8]) -> Result<(&[u8], Stored), DecodeError> {
    match item {
        [KEY, VERSION, body @ ..] => {
            let (Raw(key), Raw(value), create_revision, mod_revision, version): (_, _, Index, Index, u64) =
                codec::decode_borrowed("key", body)?;
            Ok((key, Stored { value: Arc::from(value), create_revision, mod_revision, version }))
        }
        [tag, version, ..] => Err(DecodeError::Unsupported { what: "item", tag: *tag, version: *version }),
        [] | [_] => Err(DecodeError::Malformed { what: "item", reason: "too short".to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn restore() -> KvRestore {
        KvRestore::new(MemoryMap::default())
    }

    fn item(key: &[u8], create: u64, modified: u64, version: u64) -> Vec<u8> {
        let stored = Stored {
            value: Arc::from(&b"value"[..]),
            create_revision: Index(create),
            mod_revision: Index(modified),
            version,
        };
        let mut bytes = Vec::new();
        encode(key, &stored, &mut bytes).unwrap();
        assert_eq!(decode(&bytes).unwrap(), (key, stored));
        bytes
    }

    #[test]
    fn capture_item_bytes_are_pinned() {
        let golden = include_str!("../../tests/fixtures/kv/items-v1.txt");
        let lines: Vec<&str> = golden.lines().filter(|line| !line.starts_with('#')).collect();
        let hex = |item: Vec<u8>| item.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(lines, [hex(item(b"k", 5, 7, 2)), hex(item(b"", 1, 1, 1))]);
    }

    #[test]
    fn restore_of_an_item_of_a_later_version_is_refused_and_never_guessed() {
        for (bytes, reason) in [(&[KEY, 2][..], "version 2"), (&[9, 1], "tag 9"), (&[KEY], "short"), (&[], "short")] {
            let error = restore().item(bytes).unwrap_err();
            assert!(error.to_string().contains(reason), "{error}");
        }
        let whole = item(b"k", 1, 1, 1);
        for end in 2..whole.len() {
            restore().item(&whole[..end]).unwrap_err();
        }
        restore().item(&[&whole[..], b"x"].concat()).unwrap_err();
    }

    #[test]
    fn restore_of_keys_out_of_order_or_of_impossible_revisions_is_refused() {
        let mut state = restore();
        state.item(&item(b"b", 1, 1, 1)).unwrap();
        for key in [b"a", b"b"] {
            assert!(state.item(&item(key, 1, 1, 1)).unwrap_err().to_string().contains("order"));
        }
        state.item(&item(b"ba", 1, 1, 1)).unwrap();
        for (create, modified, version) in [(2, 1, 1), (1, 1, 0)] {
            state.item(&item(b"c", create, modified, version)).unwrap_err();
        }
    }

    proptest! {
        #[test]
        fn restore_of_any_bytes_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80), known: bool) {
            let head: &[u8] = if known { &[KEY, VERSION] } else { &[] };
            let mut state = restore();
            let bytes = [head, &bytes].concat();
            prop_assert_eq!(state.item(&bytes).is_ok(), state.last_key.is_some());
        }
    }
}
