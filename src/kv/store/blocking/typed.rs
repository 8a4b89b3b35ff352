//! Typed values for code without an async runtime.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::types::{Index, LeaseId};

use super::super::super::Deleted;
use super::super::super::typed::{Entry, Listing, Typed, TypedChanges, TypedError, TypedWatch};
use super::super::KvStore;
use super::block_on::{block_on, block_on_within};

/// A [`Typed`] for code without an async runtime; made by [`BlockingKvStore::typed`](super::BlockingKvStore::typed).
///
/// ```
/// # dledger::doctest::run(|store| async move {
/// let ports = store.blocking().typed::<u16>("port/");
/// ports.put("mail", &25)?;
/// ports.update("web", |old| old.unwrap_or(80))?;
/// let listing = ports.list()?;
/// assert_eq!(listing.entries.iter().map(|entry| entry.value).collect::<Vec<_>>(), [25, 80]);
///
/// let mut watch = ports.watch_after(listing.revision);
/// ports.delete("mail")?;
/// assert_eq!(watch.next().ok_or("over")??.events[0].value, None);
/// # Ok(()) });
/// ```
pub struct BlockingTyped<T> {
    typed: Typed<KvStore, T>,
}

impl<T: Serialize + DeserializeOwned + Send + Sync> BlockingTyped<T> {
    pub(super) fn new(typed: Typed<KvStore, T>) -> Self {
        Self { typed }
    }

    /// See [`Typed::get`].
    ///
    /// # Errors
    /// See [`TypedError`].
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Entry<T>>, TypedError> {
        block_on(self.typed.get(key))
    }

    /// See [`Typed::put`].
    ///
    /// # Errors
    /// See [`TypedError`].
    pub fn put(&self, key: impl AsRef<[u8]>, value: &T) -> Result<Index, TypedError> {
        block_on(self.typed.put(key, value))
    }

    /// See [`Typed::put_leased`].
    ///
    /// # Errors
    /// See [`TypedError`].
    pub fn put_leased(&self, key: impl AsRef<[u8]>, value: &T, lease: LeaseId) -> Result<Index, TypedError> {
        block_on(self.typed.put_leased(key, value, lease))
    }

    /// See [`Typed::put_if_revision`].
    ///
    /// # Errors
    /// See [`TypedError`].
    pub fn put_if_revision(
        &self,
        key: impl AsRef<[u8]>,
        value: &T,
        revision: Index,
    ) -> Result<Option<Index>, TypedError> {
        block_on(self.typed.put_if_revision(key, value, revision))
    }

    /// See [`Typed::update`].
    ///
    /// # Errors
    /// See [`TypedError`].
    pub fn update(
        &self,
        key: impl AsRef<[u8]>,
        change: impl FnMut(Option<T>) -> T + Send,
    ) -> Result<Entry<T>, TypedError> {
        block_on(self.typed.update(key, change))
    }

    /// See [`Typed::delete`].
    ///
    /// # Errors
    /// See [`TypedError`].
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<Deleted, TypedError> {
        block_on(self.typed.delete(key))
    }

    /// See [`Typed::list`].
    ///
    /// # Errors
    /// See [`TypedError`].
    pub fn list(&self) -> Result<Listing<T>, TypedError> {
        block_on(self.typed.list())
    }

    /// See [`Typed::watch`].
    #[must_use]
    pub fn watch(&self) -> BlockingTypedWatch<T> {
        BlockingTypedWatch { watch: self.typed.watch(), over: false }
    }

    /// See [`Typed::watch_after`].
    #[must_use]
    pub fn watch_after(&self, revision: Index) -> BlockingTypedWatch<T> {
        BlockingTypedWatch { watch: self.typed.watch_after(revision), over: false }
    }
}

impl<T> Clone for BlockingTyped<T> {
    fn clone(&self) -> Self {
        Self { typed: self.typed.clone() }
    }
}

impl<T> fmt::Debug for BlockingTyped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.typed.fmt(f)
    }
}

/// A [`TypedWatch`] for code without an async runtime: an iterator that blocks its thread until something changed. It ends
/// behind an error after which the watch cannot go on. For an example see [`BlockingTyped`].
#[derive(Debug)]
pub struct BlockingTypedWatch<T> {
    watch: TypedWatch<T>,
    over: bool,
}

impl<T: DeserializeOwned> BlockingTypedWatch<T> {
    /// See [`TypedWatch::begin`].
    ///
    /// # Errors
    /// See [`TypedError`].
    pub fn begin(&mut self) -> Result<Index, TypedError> {
        block_on(self.watch.begin())
    }

    /// The next changes, if there are some within this time; a later call misses none.
    ///
    /// # Errors
    /// See [`TypedError`].
    pub fn next_within(&mut self, patience: Duration) -> Result<Option<TypedChanges<T>>, TypedError> {
        block_on_within(self.watch.next(), patience).transpose()
    }
}

impl<T: DeserializeOwned> Iterator for BlockingTypedWatch<T> {
    type Item = Result<TypedChanges<T>, TypedError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let next = block_on(self.watch.next());
        self.over = matches!(&next, Err(error) if !error.may_go_on());
        Some(next)
    }
}
