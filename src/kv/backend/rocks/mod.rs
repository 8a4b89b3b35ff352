//! The map in RocksDB: larger than memory, and there again after a restart without the log before it.
//!
//! ```text
//!   put, delete ──► pending: what this quantum changed, in memory
//!                      │ commit: keys and base, one batch, not synced           flush: when a buffer is full, and
//!                      ▼                                                        before a snapshot lets the log go
//!                   RocksDB's buffer ────────────────────────────────────────► files
//!                      └─► snapshot, for readers
//! ```
//! RocksDB's own log is off: the commitlog has what is not flushed yet. All keys and the base stand in one column family and
//! each commit is one batch, and buffers are flushed in their order; so the files hold the state after some commit, whenever
//! the process or the power ends (docs/decisions/0013-rocksdb.md).
//!
//! This is the one place that writes files beside `env::Disk`: RocksDB does its own I/O. Nothing is promised on what it
//! keeps; snapshots and log are the truth, and it can be made again from them.
//!
//! Deliberately absent: threads, and waiting without blocking. Whoever calls may wait until files are merged: the node
//! applies on a thread of its own for that reason.

mod format;
mod home;
mod kill;
mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use rocksdb::{ReadOptions, WriteBatch};

use crate::env::Disk;
use crate::types::{Index, LogBase};

pub(crate) use self::home::Tuning;
use self::home::{Db, Home};
use self::kill::site;
pub use self::snapshot::RocksSnapshot;

use super::super::range::KeyRange;
use super::{Backend, BackendError, Held, Leaving, Stored};

/// Bytes of a snapshot's keys that are written at once.
const LOAD_BYTES: usize = 1 << 20;

/// The map.
pub struct RocksMap {
    home: Arc<Home>,
    /// Not in use: what it has on disk goes when it is dropped.
    fresh: bool,
    db: Option<Arc<Db>>,
    /// What was changed since the last commit; `None` for a key that was deleted.
    pending: BTreeMap<Box<[u8]>, Option<Stored>>,
    /// The same of the records beside the keys.
    sides: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// Keys of a snapshot that are still to be written.
    loading: WriteBatch,
    /// Of a range that is deleted in turns: where it begins, and up to where nothing is left of it. RocksDB passes over
    /// what was deleted key by key, and a turn that began at the start would pass over all before it.
    swept: Option<(Bytes, Box<[u8]>)>,
    /// The last commit, for readers.
    seen: RocksSnapshot,
}

impl fmt::Debug for RocksMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksMap").field("pending", &self.pending.len()).finish_non_exhaustive()
    }
}

impl RocksMap {
    /// A map that has yet to be opened. `disk` lists and makes directories; what is in them is RocksDB's.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>) -> Self {
        Self::at(Arc::new(Home::new(disk, Tuning::default())), false)
    }

    /// One that shows sooner what a large state shows.
    #[cfg(test)]
    pub(crate) fn tuned(disk: Arc<dyn Disk>, tuning: Tuning) -> Self {
        Self::at(Arc::new(Home::new(disk, tuning)), false)
    }

    fn at(home: Arc<Home>, fresh: bool) -> Self {
        let (pending, loading) = (BTreeMap::new(), WriteBatch::default());
        let sides = BTreeMap::new();
        Self { home, fresh, db: None, pending, sides, loading, swept: None, seen: RocksSnapshot::EMPTY }
    }

    /// The database, made when there is none.
    fn db(&mut self) -> Result<Arc<Db>, BackendError> {
        if let Some(db) = &self.db {
            return Ok(Arc::clone(db));
        }
        let db = self.home.create()?;
        if self.fresh {
            db.doom();
        }
        Ok(Arc::clone(self.db.insert(Arc::new(db))))
    }

    /// The first keys of a range, committed or not.
    fn first_keys(&self, range: &KeyRange, limit: usize) -> Result<Vec<Box<[u8]>>, BackendError> {
        let mut keys = Vec::new();
        if range.is_empty() {
            return Ok(keys);
        }
        let above = range.to.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut changed = self.pending.range::<[u8], _>((Bound::Included(range.from.as_ref()), above)).peekable();
        if let Some(db) = &self.db {
            let (from, behind) = format::bounds(range);
            let mut options = ReadOptions::default();
            options.set_iterate_lower_bound(from);
            options.set_iterate_upper_bound(behind);
            let mut items = db.inner.raw_iterator_opt(options);
            items.seek_to_first();
            while let Some(key) = items.key().filter(|_some| keys.len() < limit) {
                let key = format::plain(key)?;
                while let Some((earlier, stored)) = changed.next_if(|(other, _stored)| ***other < *key) {
                    keys.extend(stored.as_ref().map(|_there| earlier.clone()));
                }
                match changed.next_if(|(other, _stored)| ***other == *key) {
                    Some((_key, None)) => {}
                    Some((_, Some(_))) | None => keys.push(key.into()),
                }
                items.next();
            }
            items.status().map_err(|error| db.cannot("read", &error))?;
        }
        if keys.len() < limit {
            keys.extend(changed.filter(|(_key, stored)| stored.is_some()).map(|(key, _stored)| key.clone()));
        }
        keys.truncate(limit);
        Ok(keys)
    }

    /// What is left of a range, when it is the one that was deleted from last.
    fn rest_of(&self, range: &KeyRange) -> KeyRange {
        match &self.swept {
            Some((from, upto)) if *from == range.from => {
                KeyRange { from: Bytes::copy_from_slice(upto), to: range.to.clone() }
            }
            Some(_) | None => range.clone(),
        }
    }

    fn write_loading(&mut self) -> Result<(), BackendError> {
        let batch = std::mem::take(&mut self.loading);
        self.db()?.write(batch)
    }
}

impl Backend for RocksMap {
    type Snapshot = RocksSnapshot;

    fn on_disk(&self) -> bool {
        true
    }

    fn open(&mut self, directory: &Path) -> Result<Held, BackendError> {
        let Some((db, held)) = self.home.open(directory)? else { return Ok(Held::default()) };
        let db = Arc::new(db);
        self.seen = RocksSnapshot::of(&db);
        self.db = Some(db);
        Ok(held)
    }

    fn read(&self, key: &[u8]) -> Result<Option<Stored>, BackendError> {
        if let Some(changed) = self.pending.get(key) {
            return Ok(changed.clone());
        }
        let Some(db) = &self.db else { return Ok(None) };
        let found = db.inner.get_pinned(format::key(key)).map_err(|error| db.cannot("read", &error))?;
        found.map(|bytes| format::decode(&bytes)).transpose()
    }

    fn put(&mut self, key: &[u8], value: &[u8], revision: Index) -> Result<Option<Stored>, BackendError> {
        let before = self.read(key)?;
        self.pending.insert(key.into(), Some(Stored::written(before.as_ref(), value, revision)));
        self.swept = None;
        Ok(before)
    }

    fn delete(&mut self, key: &[u8]) -> Result<Option<Stored>, BackendError> {
        let before = self.read(key)?;
        if before.is_some() {
            self.pending.insert(key.into(), None);
        }
        Ok(before)
    }

    fn delete_some(&mut self, range: &KeyRange, limit: usize) -> Result<Vec<(Bytes, Stored)>, BackendError> {
        let keys = self.first_keys(&self.rest_of(range), limit)?;
        self.swept = keys.last().map(|last| (range.from.clone(), last.clone()));
        let mut removed = Vec::with_capacity(keys.len());
        for key in keys {
            if let Some(before) = self.read(&key)? {
                removed.push((Bytes::copy_from_slice(&key), before));
            }
            self.pending.insert(key, None);
        }
        Ok(removed)
    }

    fn side(&mut self, name: Vec<u8>, record: Option<Vec<u8>>) {
        self.sides.insert(name, record);
    }

    fn commit(&mut self, base: &LogBase, leaving: Option<&Leaving>) -> Result<(), BackendError> {
        let db = self.db()?;
        let mut batch = WriteBatch::default();
        for (key, stored) in &self.pending {
            match stored {
                Some(stored) => batch.put(format::key(key), format::encode(stored)),
                None => batch.delete(format::key(key)),
            }
        }
        for (name, record) in &self.sides {
            match record {
                Some(record) => batch.put(format::side(name), record),
                None => batch.delete(format::side(name)),
            }
        }
        batch.put(format::BASE, format::encode_base(base)?);
        match leaving {
            Some(leaving) => batch.put(format::LEAVING, format::encode_leaving(leaving)?),
            None => batch.delete(format::LEAVING),
        }
        db.write(batch)?;
        self.pending.clear();
        self.sides.clear();
        self.seen = RocksSnapshot::of(&db);
        Ok(())
    }

    fn load(&mut self, key: &[u8], stored: Stored) -> Result<(), BackendError> {
        self.loading.put(format::key(key), format::encode(&stored));
        if self.loading.size_in_bytes() < LOAD_BYTES {
            return Ok(());
        }
        self.write_loading()
    }

    fn loaded(&mut self, base: &LogBase) -> Result<(), BackendError> {
        self.write_loading()?;
        site("before the base of what was loaded");
        // Last of all: it says that nothing is missing.
        self.commit(base, None)?;
        self.db()?.flush()
    }

    fn replaces(&mut self, before: &mut Self) {
        site("before a swap");
        self.fresh = false;
        if let Some(db) = &self.db {
            db.spare();
        }
        if let Some(db) = &before.db {
            db.doom();
        }
        site("after a swap");
    }

    fn fresh(&self) -> Self {
        Self::at(Arc::clone(&self.home), true)
    }

    fn snapshot(&self) -> RocksSnapshot {
        self.seen.clone()
    }

    fn parting(&self) -> Option<RocksSnapshot> {
        Some(RocksSnapshot::CLOSED)
    }
}
