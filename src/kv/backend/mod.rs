//! Where the machine keeps its keys.
//!
//! A backend is a map from key to value and revisions, ordered by key, that one thread writes. A snapshot of it is
//! read by any number of others and stays as it was; taking one is cheap, for the machine takes one after each quantum
//! of entries. What a backend holds depends on the calls alone: replicas that were given the same calls hold the same.
//!
//! Every backend passes the tests in `conformance.rs`. Deliberately absent: errors and durability. The memory backend
//! has neither; what a backend on disk needs, it will say.

#[cfg(test)]
pub(super) mod conformance;
pub mod memory;

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::types::Index;

use super::range::KeyRange;

/// What is held for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The value, in memory of its own: it keeps no part of the log alive.
    pub value: Arc<[u8]>,
    /// The entry that gave the key its present life.
    pub create_revision: Index,
    /// The entry that last wrote it.
    pub mod_revision: Index,
    /// How often it was written in its present life, from 1.
    pub version: u64,
}

impl Stored {
    /// What is held after the entry at `revision` wrote `value` over `before`.
    #[must_use]
    pub fn written(before: Option<&Self>, value: &[u8], revision: Index) -> Self {
        let (create_revision, version) =
            before.map_or((revision, 1), |before| (before.create_revision, before.version.saturating_add(1)));
        Self { value: Arc::from(value), create_revision, mod_revision: revision, version }
    }
}

/// A map that the machine writes.
pub trait Backend: Send + 'static {
    /// What readers get.
    type Snapshot: Snapshot;

    /// Sets a key by the entry at `revision`, as [`Stored::written`] says.
    fn put(&mut self, key: &[u8], value: &[u8], revision: Index);

    /// Deletes a key; false when there is none.
    fn delete(&mut self, key: &[u8]) -> bool;

    /// Deletes the first `limit` keys of a range, or all when there are fewer; the answer is how many.
    fn delete_some(&mut self, range: &KeyRange, limit: usize) -> usize;

    /// Holds this for a key: what a snapshot says of it, put into a map that was [`Backend::fresh`].
    fn load(&mut self, key: &[u8], stored: Stored);

    /// A map of the same kind without keys, which does not touch this one's.
    #[must_use]
    fn fresh(&self) -> Self
    where
        Self: Sized;

    /// The map as it is now, whatever is written later.
    fn snapshot(&self) -> Self::Snapshot;
}

/// A map as it was when the snapshot was taken.
pub trait Snapshot: Send + Sync + 'static {
    /// Reads a key.
    fn get(&self, key: &[u8]) -> Option<Stored>;

    /// Shows the keys of a range in order, or in reverse order, until `each` breaks off. The answer says whether it
    /// did.
    fn visit(
        &self,
        range: &KeyRange,
        reverse: bool,
        each: &mut dyn FnMut(&[u8], &Stored) -> ControlFlow<()>,
    ) -> ControlFlow<()>;
}
