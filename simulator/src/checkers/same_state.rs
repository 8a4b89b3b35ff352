//! The state at an index is the same on all replicas, however they came by it (faults.md, row 11): whenever a machine's
//! state is written down, restored or replaced, it is compared with what the entries up to there come to.
//!
//! The comparison is a second, plain reading of the commands: a map, and a sum over its items that changes with each.

use std::collections::BTreeMap;

use bytes::Bytes;
use dledger::kv::command::Command;
use dledger::types::{EntryId, Index};

use super::{Property, Verdict, holds};
use crate::machine::item_digest;

pub(crate) const PROPERTY: Property = Property {
    name: "same_state",
    claim: "a state at an index is what the entries up to there come to, on every replica (faults.md, row 11)",
};

/// A key's create revision, mod revision and version, and its part of the sum.
type Item = ([u64; 3], u64);

/// What the entries come to, so far.
#[derive(Debug, Default)]
pub(crate) struct SameState {
    items: BTreeMap<Bytes, Item>,
    sum: u64,
    /// By index, from 1 on.
    sums: Vec<u64>,
}

impl SameState {
    /// An entry was applied somewhere; `command` is its payload, if it has any for the machine.
    pub(crate) fn applied(&mut self, index: Index, command: Option<&[u8]>) {
        if index.get() != self.sums.len() as u64 + 1 {
            return;
        }
        match command.map(Command::decode) {
            Some(Ok(Command::Put { key, value, .. })) => self.put(key, value, index.get()),
            Some(Ok(Command::Delete { key })) => self.remove(key),
            Some(Ok(Command::DeleteRange { from, to })) => {
                let leaving = |key: &&Bytes| key.as_ref() >= from && to.is_none_or(|to| key.as_ref() < to);
                let keys: Vec<Bytes> = self.items.keys().filter(leaving).cloned().collect();
                keys.iter().for_each(|key| self.remove(key));
            }
            // No client here proposes others.
            Some(Ok(_) | Err(_)) | None => {}
        }
        self.sums.push(self.sum);
    }

    fn put(&mut self, key: &[u8], value: &[u8], index: u64) {
        let numbers = match self.items.get(key) {
            Some(([create, _, version], _)) => [*create, index, version + 1],
            None => [index, index, 1],
        };
        self.remove(key);
        let part = item_digest(key, value, numbers);
        self.sum = self.sum.wrapping_add(part);
        self.items.insert(Bytes::copy_from_slice(key), (numbers, part));
    }

    fn remove(&mut self, key: &[u8]) {
        if let Some((_numbers, part)) = self.items.remove(key) {
            self.sum = self.sum.wrapping_sub(part);
        }
    }

    /// What the entries up to `index` come to, if they were applied anywhere.
    pub(crate) fn at(&self, index: Index) -> Option<u64> {
        match index.get().checked_sub(1) {
            None => Some(0),
            Some(place) => self.sums.get(usize::try_from(place).ok()?).copied(),
        }
    }

    /// A state is said to be that after `id`; `how` says on which occasion.
    pub(crate) fn holds_at(&self, id: EntryId, state: u64, how: &str) -> Verdict {
        let known = self.at(id.index);
        holds(known == Some(state), || {
            format!("the state {how} as that after {id} is not what the entries up to there come to")
        })
    }
}
