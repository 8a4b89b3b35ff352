//! The map in memory: ordered, with snapshots that cost nothing to take.
//!
//! `imbl::OrdMap` shares its nodes between copies; a copy is one pointer, and writing after a copy copies only the
//! nodes on the way to the key (docs/decisions/0006-memory-backend.md).

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdMap;

use crate::types::Index;

use super::super::range::KeyRange;
use super::{Backend, BackendError, Snapshot, Stored};

/// Keys up to this length stand in the nodes of the map. A node is copied whole when one of its keys is written, and
/// searched key by key: each key that stands elsewhere costs a miss of the processor's cache in both.
const INLINE_BYTES: usize = 30;

/// A key as the map holds it: 32 bytes, and memory of its own beyond [`INLINE_BYTES`]. Ordered by its bytes.
#[derive(Clone)]
enum Key {
    /// The length, and the bytes from the start.
    Short(u8, [u8; INLINE_BYTES]),
    Long(Arc<[u8]>),
}

impl Key {
    fn new(key: &[u8]) -> Self {
        let mut bytes = [0; INLINE_BYTES];
        match (u8::try_from(key.len()), bytes.get_mut(..key.len())) {
            (Ok(length), Some(room)) => {
                room.copy_from_slice(key);
                Self::Short(length, bytes)
            }
            _ => Self::Long(Arc::from(key)),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Short(length, bytes) => bytes.get(..usize::from(*length)).unwrap_or_default(),
            Self::Long(bytes) => bytes,
        }
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        self.bytes()
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.bytes().cmp(other.bytes())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.bytes().escape_ascii().to_string())
    }
}

/// The map. A clone is a snapshot.
#[derive(Clone, Debug, Default)]
pub struct MemoryMap {
    map: OrdMap<Key, Stored>,
}

impl MemoryMap {
    fn range(&self, range: &KeyRange) -> impl DoubleEndedIterator<Item = (&Key, &Stored)> {
        let to = match &range.to {
            // An end before the start means no key; the map makes no promise for it.
            Some(to) => Bound::Excluded(to.max(&range.from).as_ref()),
            None => Bound::Unbounded,
        };
        self.map.range::<_, [u8]>((Bound::Included(range.from.as_ref()), to))
    }
}

impl Backend for MemoryMap {
    type Snapshot = Self;

    fn read(&self, key: &[u8]) -> Result<Option<Stored>, BackendError> {
        Ok(self.map.get(key).cloned())
    }

    fn put(&mut self, key: &[u8], value: &[u8], revision: Index) -> Result<Option<Stored>, BackendError> {
        Ok(match self.map.get_mut(key) {
            Some(stored) => {
                let written = Stored::written(Some(stored), value, revision);
                Some(std::mem::replace(stored, written))
            }
            None => self.map.insert(Key::new(key), Stored::written(None, value, revision)),
        })
    }

    fn delete(&mut self, key: &[u8]) -> Result<Option<Stored>, BackendError> {
        Ok(self.map.remove(key))
    }

    fn delete_some(&mut self, range: &KeyRange, limit: usize) -> Result<Vec<(Bytes, Stored)>, BackendError> {
        let keys: Vec<Key> = self.range(range).take(limit).map(|(key, _stored)| key.clone()).collect();
        let remove = |key: Key| Some((Bytes::copy_from_slice(key.bytes()), self.map.remove(key.bytes())?));
        Ok(keys.into_iter().filter_map(remove).collect())
    }

    fn load(&mut self, key: &[u8], stored: Stored) -> Result<(), BackendError> {
        self.map.insert(Key::new(key), stored);
        Ok(())
    }

    fn fresh(&self) -> Self {
        Self::default()
    }

    fn snapshot(&self) -> Self {
        self.clone()
    }
}

impl Snapshot for MemoryMap {
    fn get(&self, key: &[u8]) -> Result<Option<Stored>, BackendError> {
        self.read(key)
    }

    fn visit(
        &self,
        range: &KeyRange,
        reverse: bool,
        each: &mut dyn FnMut(&[u8], &Stored) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, BackendError> {
        let mut items = self.range(range);
        let mut show = |(key, stored): (&Key, &Stored)| each(key.bytes(), stored);
        Ok(if reverse { items.rev().try_for_each(show) } else { items.try_for_each(&mut show) })
    }
}

#[cfg(test)]
mod tests {
    use super::super::conformance;
    use super::*;

    conformance::tests!(MemoryMap::default());

    #[test]
    fn memory_key_keeps_its_bytes_and_order_on_both_sides_of_the_inline_bound() {
        let keys: Vec<Vec<u8>> = (0..=2 * INLINE_BYTES).map(|length| vec![b'k'; length]).collect();
        for key in &keys {
            assert_eq!(Key::new(key).bytes(), key);
            assert_eq!(matches!(Key::new(key), Key::Short(..)), key.len() <= INLINE_BYTES);
            for other in &keys {
                assert_eq!(Key::new(key).cmp(&Key::new(other)), key.cmp(other));
            }
        }
        assert_eq!(size_of::<Key>(), 32);
    }
}
