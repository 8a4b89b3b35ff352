//! The backend that a configuration names, behind one type: the handle of the store is the same whichever it is.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::config::Backend as Named;
use crate::env::Disk;
use crate::error::OpenError;
use crate::types::{Index, LogBase};

use super::super::range::KeyRange;
use super::memory::MemoryMap;
#[cfg(feature = "rocksdb")]
use super::rocks::{RocksMap, RocksSnapshot};
use super::{Backend, BackendError, Held, Leaving, Snapshot, Stored};

/// A map of one of the kinds.
#[derive(Debug)]
#[non_exhaustive]
pub enum ChosenMap {
    /// In memory.
    Memory(MemoryMap),
    /// In RocksDB.
    #[cfg(feature = "rocksdb")]
    Rocks(Box<RocksMap>),
}

/// A snapshot of it.
#[derive(Debug)]
#[non_exhaustive]
pub enum ChosenSnapshot {
    /// In memory.
    Memory(MemoryMap),
    /// In RocksDB.
    #[cfg(feature = "rocksdb")]
    Rocks(RocksSnapshot),
}

/// The same call on whichever it is.
macro_rules! either {
    ($on:expr, $kind:ident, $map:ident => $call:expr) => {
        match $on {
            $kind::Memory($map) => $call,
            #[cfg(feature = "rocksdb")]
            $kind::Rocks($map) => $call,
        }
    };
}

impl ChosenMap {
    /// An empty map of the kind that is named. `disk` is where it finds and makes its directories.
    ///
    /// # Errors
    /// `Config` when this build has none of that kind.
    pub fn new(named: Named, disk: &Arc<dyn Disk>) -> Result<Self, OpenError> {
        match named {
            Named::Memory => Ok(Self::Memory(MemoryMap::default())),
            #[cfg(feature = "rocksdb")]
            Named::RocksDb => Ok(Self::Rocks(Box::new(RocksMap::new(Arc::clone(disk))))),
            #[cfg(not(feature = "rocksdb"))]
            Named::RocksDb => {
                let _nothing_on_disk = disk;
                Err(OpenError::Config(
                    "backend `rocksdb` is not in this build: build with the cargo feature `rocksdb`, which needs libclang \
                     and compiles C++ for a while (`cargo install --path kvcli --features rocksdb`)"
                        .to_owned(),
                ))
            }
        }
    }
}

impl Backend for ChosenMap {
    type Snapshot = ChosenSnapshot;

    fn on_disk(&self) -> bool {
        either!(self, Self, map => map.on_disk())
    }

    fn open(&mut self, directory: &Path) -> Result<Held, BackendError> {
        either!(self, Self, map => map.open(directory))
    }

    fn read(&self, key: &[u8]) -> Result<Option<Stored>, BackendError> {
        either!(self, Self, map => map.read(key))
    }

    fn put(&mut self, key: &[u8], value: &[u8], revision: Index) -> Result<Option<Stored>, BackendError> {
        either!(self, Self, map => map.put(key, value, revision))
    }

    fn delete(&mut self, key: &[u8]) -> Result<Option<Stored>, BackendError> {
        either!(self, Self, map => map.delete(key))
    }

    fn delete_some(&mut self, range: &KeyRange, limit: usize) -> Result<Vec<(Bytes, Stored)>, BackendError> {
        either!(self, Self, map => map.delete_some(range, limit))
    }

    fn side(&mut self, name: Vec<u8>, record: Option<Vec<u8>>) {
        either!(self, Self, map => map.side(name, record));
    }

    fn commit(&mut self, base: &LogBase, leaving: Option<&Leaving>) -> Result<(), BackendError> {
        either!(self, Self, map => map.commit(base, leaving))
    }

    fn load(&mut self, key: &[u8], stored: Stored) -> Result<(), BackendError> {
        either!(self, Self, map => map.load(key, stored))
    }

    fn loaded(&mut self, base: &LogBase) -> Result<(), BackendError> {
        either!(self, Self, map => map.loaded(base))
    }

    fn replaces(&mut self, before: &mut Self) {
        match (self, before) {
            #[cfg(feature = "rocksdb")]
            (Self::Rocks(map), Self::Rocks(before)) => map.replaces(before),
            // Nobody swaps kinds, and one in memory leaves nothing behind.
            _ => {}
        }
    }

    fn fresh(&self) -> Self {
        match self {
            Self::Memory(map) => Self::Memory(map.fresh()),
            #[cfg(feature = "rocksdb")]
            Self::Rocks(map) => Self::Rocks(Box::new(map.fresh())),
        }
    }

    fn snapshot(&self) -> ChosenSnapshot {
        match self {
            Self::Memory(map) => ChosenSnapshot::Memory(map.snapshot()),
            #[cfg(feature = "rocksdb")]
            Self::Rocks(map) => ChosenSnapshot::Rocks(map.snapshot()),
        }
    }

    fn parting(&self) -> Option<ChosenSnapshot> {
        match self {
            Self::Memory(_) => None,
            #[cfg(feature = "rocksdb")]
            Self::Rocks(map) => map.parting().map(ChosenSnapshot::Rocks),
        }
    }
}

impl Snapshot for ChosenSnapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Stored>, BackendError> {
        either!(self, Self, map => map.get(key))
    }

    fn visit(
        &self,
        range: &KeyRange,
        reverse: bool,
        each: &mut dyn FnMut(&[u8], &Stored) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, BackendError> {
        either!(self, Self, map => map.visit(range, reverse, each))
    }

    fn flush(&self) -> Result<(), BackendError> {
        either!(self, Self, map => map.flush())
    }
}
