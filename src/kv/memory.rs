//! The map in memory: ordered, with snapshots that cost nothing to take.
//!
//! `imbl::OrdMap` shares its nodes between copies; a copy is one pointer, and writing after a copy copies only the
//! nodes on the way to the key (docs/decisions/0006-memory-backend.md).

use std::ops::Bound;
use std::sync::Arc;

use imbl::OrdMap;

use crate::types::Index;

/// A key as the map holds it.
pub(super) type Key = Arc<[u8]>;

/// What the map holds for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) value: Arc<[u8]>,
    pub(super) create_revision: Index,
    pub(super) mod_revision: Index,
    pub(super) version: u64,
}

/// The map. A clone is a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct MemoryMap {
    map: OrdMap<Key, Stored>,
}

impl MemoryMap {
    /// Sets a key by the entry at `revision`.
    pub(super) fn put(&mut self, key: &[u8], value: &[u8], revision: Index) {
        let value = Arc::from(value);
        match self.map.get_mut(key) {
            Some(stored) => {
                stored.value = value;
                stored.mod_revision = revision;
                stored.version += 1;
            }
            None => {
                let stored = Stored { value, create_revision: revision, mod_revision: revision, version: 1 };
                self.map.insert(Arc::from(key), stored);
            }
        }
    }

    /// Deletes a key; false when there is none.
    pub(super) fn delete(&mut self, key: &[u8]) -> bool {
        self.map.remove(key).is_some()
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&Stored> {
        self.map.get(key)
    }

    /// Keys in the range, in order, from either end.
    pub(super) fn range<'a>(
        &'a self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
    ) -> impl DoubleEndedIterator<Item = (&'a Key, &'a Stored)> + use<'a> {
        self.map.range::<_, [u8]>((from, to))
    }
}
