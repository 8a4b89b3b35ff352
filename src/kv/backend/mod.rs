//! Where the machine keeps its keys.
//!
//! A backend is a map from key to value and revisions, ordered by key, that one thread writes. A snapshot of it is
//! read by any number of others and stays as it was; taking one is cheap, for the machine takes one after each quantum
//! of entries. What a backend holds depends on the calls alone: replicas that were given the same calls hold the same.
//!
//! A backend may keep its map on disk. Then it waits for the disk, may fail, and holds after a crash what some commit left,
//! whole:
//!
//! ```text
//!   put, delete, … put ─► commit(base) ─► put, … ─► commit(base) ─► …        each one atomic change, keys and base
//!                                                └─ after a crash: this one, or an earlier one
//! ```
//! Every backend passes the tests in `conformance.rs`. Deliberately absent: which backend a service runs (`chosen.rs`).

pub mod chosen;
#[cfg(test)]
pub(super) mod conformance;
pub mod memory;
#[cfg(feature = "rocksdb")]
pub mod rocks;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;

use crate::types::{Index, LogBase, SessionId};

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

/// Why a backend on disk cannot go on. What it held at its last commit is not touched.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct BackendError(pub String);

/// Keys on their way out: an entry deletes them in turns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leaving {
    /// The keys.
    pub range: KeyRange,
    /// How many have gone.
    pub count: u64,
    /// The session and the number under which it was asked for.
    pub asked: Option<(SessionId, u64)>,
}

/// What a backend finds on its disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// The base of the last commit that is there; the default when there is none.
    pub base: LogBase,
    /// The keys that were leaving then.
    pub leaving: Option<Leaving>,
    /// The records beside the keys, in the order of their names.
    pub sides: Vec<Vec<u8>>,
}

/// A map that the machine writes.
///
/// # Errors
/// Of a backend on disk, for every method: what the disk says. A call that fails has changed nothing.
pub trait Backend: Send + 'static {
    /// What readers get.
    type Snapshot: Snapshot;

    /// Whether the map is kept on disk; if not, the methods for that have nothing to do.
    fn on_disk(&self) -> bool {
        false
    }

    /// Takes up the map that is kept in this directory, its own. Called before anything else, or never.
    fn open(&mut self, _directory: &Path) -> Result<Held, BackendError> {
        Ok(Held::default())
    }

    /// Reads a key as the calls so far left it, committed or not.
    fn read(&self, key: &[u8]) -> Result<Option<Stored>, BackendError>;

    /// Sets a key by the entry at `revision`, as [`Stored::written`] says; the answer is what it was.
    fn put(&mut self, key: &[u8], value: &[u8], revision: Index) -> Result<Option<Stored>, BackendError>;

    /// Deletes a key; the answer is what it was.
    fn delete(&mut self, key: &[u8]) -> Result<Option<Stored>, BackendError>;

    /// Deletes the first `limit` keys of a range, or all when there are fewer; the answer is what they were.
    fn delete_some(&mut self, range: &KeyRange, limit: usize) -> Result<Vec<(Bytes, Stored)>, BackendError>;

    /// Holds a record beside the keys, or lets it go. Of use on disk only: in memory the machine has them itself.
    fn side(&mut self, _name: Vec<u8>, _record: Option<Vec<u8>>) {}

    /// Makes everything since the last commit one atomic change: the map is now that after the last entry of `base`, but
    /// for keys that entry has yet to delete. Not durable at once. Only what is committed is in a snapshot.
    fn commit(&mut self, _base: &LogBase, _leaving: Option<&Leaving>) -> Result<(), BackendError> {
        Ok(())
    }

    /// Holds this for a key: what a snapshot says of it, put into a map that was [`Backend::fresh`]. Keys come in order.
    fn load(&mut self, key: &[u8], stored: Stored) -> Result<(), BackendError>;

    /// All of a snapshot is loaded, which is that after the last entry of `base`. A map on disk is durable when this
    /// returns, and may take the place of the one that is in use.
    fn loaded(&mut self, _base: &LogBase) -> Result<(), BackendError> {
        Ok(())
    }

    /// This map takes the place of `before`, which goes: what is kept on disk of it may be removed when nobody reads it.
    fn replaces(&mut self, _before: &mut Self) {}

    /// A map of the same kind without keys, which does not touch this one's.
    #[must_use]
    fn fresh(&self) -> Self
    where
        Self: Sized;

    /// The map as of its last commit, whatever is written later. Does not wait.
    fn snapshot(&self) -> Self::Snapshot;

    /// What readers see once the map is gone; `None` when that is what they saw last.
    fn parting(&self) -> Option<Self::Snapshot> {
        None
    }
}

/// A map as it was when the snapshot was taken.
///
/// # Errors
/// Of a backend on disk, for every method: what the disk says.
pub trait Snapshot: Send + Sync + 'static {
    /// Reads a key.
    fn get(&self, key: &[u8]) -> Result<Option<Stored>, BackendError>;

    /// Shows the keys of a range in order, or in reverse order, until `each` breaks off. The answer says whether it
    /// did.
    fn visit(
        &self,
        range: &KeyRange,
        reverse: bool,
        each: &mut dyn FnMut(&[u8], &Stored) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, BackendError>;

    /// Makes durable what the map held when the snapshot was taken, if it is kept on disk. Blocks.
    fn flush(&self) -> Result<(), BackendError> {
        Ok(())
    }
}
