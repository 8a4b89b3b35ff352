//! Values of one type of yours under one prefix, instead of bytes.
//!
//! A value stands in the store as JSON text, by `serde`: `kvcli` shows it, other languages read it, and a service can add a
//! field (with `#[serde(default)]`) while its replicas are replaced one by one. Keys stay bytes; here they are told without
//! the prefix. Every error names the key that it is about.
//!
//! Deliberately absent: other encodings (a store of bytes is one call away), caches, and transactions over several types.

mod watch;

use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::types::{Index, LeaseId};

use super::api::{Kv, KvError};
use super::watch::{WatchError, WatchOptions};
use super::{Consistency, Deleted, KeyValue, Scan};

pub use watch::{TypedChanges, TypedEvent, TypedWatch};

/// How often [`Typed::update`] tries before it gives up.
pub const MAX_UPDATE_TRIES: u32 = 100;

/// Why an operation on typed values has no answer.
///
/// ```
/// use dledger::Typed;
/// use dledger::kv::TypedError;
/// # dledger::doctest::run(|store| async move {
///
/// store.put("port/mail", "smtp").await?;
/// match Typed::<_, u16>::new(&store, "port/").get("mail").await {
///     Err(TypedError::Malformed { key, revision, .. }) => println!("{key:?} was written wrongly at {revision}"),
///     found => println!("{:?}", found?),
/// }
/// # Ok(()) });
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TypedError {
    /// The store has none.
    #[error("key `{}`: {error}", .key.escape_ascii())]
    Kv {
        /// The key, with its prefix; the prefix where many are asked for.
        key: Bytes,
        /// Why.
        error: KvError,
    },
    /// What is stored is not a value of the type.
    #[error("key `{}` at revision {revision} does not hold such a value: {reason}", .key.escape_ascii())]
    Malformed {
        /// The key, with its prefix.
        key: Bytes,
        /// The entry that wrote it.
        revision: Index,
        /// What is wrong.
        reason: String,
    },
    /// The value cannot be written as JSON. Nothing was done.
    #[error("the value for key `{}` cannot be written as JSON: {reason}", .key.escape_ascii())]
    Unwritable {
        /// The key, with its prefix.
        key: Bytes,
        /// What is wrong.
        reason: String,
    },
    /// Others wrote the key between each read and write. Nothing was done.
    #[error("key `{}` was written by others {tries} times in a row; try again later", .key.escape_ascii())]
    Contended {
        /// The key, with its prefix.
        key: Bytes,
        /// How often it was tried.
        tries: u32,
    },
}

impl TypedError {
    /// Why the store has no answer, when that is what is wrong.
    #[must_use]
    pub fn as_kv(&self) -> Option<&KvError> {
        if let Self::Kv { error, .. } = self { Some(error) } else { None }
    }

    /// Whether a watch that ended in it goes on when it is asked again.
    pub(super) fn may_go_on(&self) -> bool {
        match self {
            Self::Malformed { .. } => true,
            Self::Kv { error, .. } => matches!(error, KvError::Watch(WatchError::Unavailable(_))),
            Self::Unwritable { .. } | Self::Contended { .. } => false,
        }
    }
}

/// A value, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<T> {
    /// Its key, without the prefix.
    pub key: Bytes,
    /// The value.
    pub value: T,
    /// The entry of the log that wrote it.
    pub revision: Index,
}

/// All values, and from where on a watch tells what changed since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing<T> {
    /// The values, in the order of their keys.
    pub entries: Vec<Entry<T>>,
    /// Everything up to here is in it: go on with [`Typed::watch_after`].
    pub revision: Index,
}

/// Values of type `T` under a prefix. Cheap to clone.
///
/// ```
/// use dledger::kv::Typed;
/// use serde::{Deserialize, Serialize};
/// # dledger::doctest::run(|store| async move {
///
/// #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
/// struct Limits {
///     requests: u32,
/// }
///
/// let limits = Typed::<_, Limits>::new(&store, "limits/");
/// let revision = limits.put("mail", &Limits { requests: 10 }).await?;
/// assert_eq!(limits.get("mail").await?.ok_or("absent")?.value, Limits { requests: 10 });
///
/// // Only if nobody wrote it since.
/// assert!(limits.put_if_revision("mail", &Limits { requests: 20 }, revision).await?.is_some());
/// assert!(limits.put_if_revision("mail", &Limits { requests: 30 }, revision).await?.is_none());
///
/// // From what is there, whoever else does the same.
/// let new = limits.update("mail", |old| Limits { requests: old.unwrap_or_default().requests + 1 }).await?;
/// assert_eq!(new.value.requests, 21);
///
/// // What there is, and what becomes of it.
/// let listing = limits.list().await?;
/// let mut watch = limits.watch_after(listing.revision);
/// limits.delete("mail").await?;
/// let changes = watch.next().await?;
/// assert_eq!((changes.events[0].key.as_ref(), &changes.events[0].value), (b"mail".as_ref(), &None));
/// # Ok(()) });
/// ```
pub struct Typed<K, T> {
    kv: K,
    prefix: Bytes,
    values: PhantomData<fn(T) -> T>,
}

impl<K: Kv, T: Serialize + DeserializeOwned + Send + Sync> Typed<K, T> {
    /// Values under this prefix, which should be nobody else's. Asks nobody yet.
    #[must_use]
    pub fn new(kv: &K, prefix: impl Into<Bytes>) -> Self {
        Self { kv: kv.clone(), prefix: prefix.into(), values: PhantomData }
    }

    /// Reads a value; linearizable.
    ///
    /// # Errors
    /// See [`TypedError`].
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Entry<T>>, TypedError> {
        self.get_at(&self.full(key.as_ref())).await
    }

    /// Sets a value; its revision.
    ///
    /// # Errors
    /// See [`TypedError`].
    pub async fn put(&self, key: impl AsRef<[u8]>, value: &T) -> Result<Index, TypedError> {
        self.put_leased(key, value, LeaseId::ZERO).await
    }

    /// Sets a value that lives as long as a lease; its revision.
    ///
    /// # Errors
    /// See [`TypedError`].
    pub async fn put_leased(&self, key: impl AsRef<[u8]>, value: &T, lease: LeaseId) -> Result<Index, TypedError> {
        let key = self.full(key.as_ref());
        let json = written(&key, value)?;
        self.kv.put_leased(key.clone(), json, lease).await.map_err(about(&key))
    }

    /// Sets a value if it was last written at `revision` (zero: if it is absent); the new revision, or `None`.
    ///
    /// # Errors
    /// See [`TypedError`].
    pub async fn put_if_revision(
        &self,
        key: impl AsRef<[u8]>,
        value: &T,
        revision: Index,
    ) -> Result<Option<Index>, TypedError> {
        let key = self.full(key.as_ref());
        let json = written(&key, value)?;
        self.kv.put_if_revision(key.clone(), json, revision).await.map_err(about(&key))
    }

    /// Makes a value from the one that is there, as if nobody else wrote meanwhile: reads, has `change` make the new one, sets
    /// it if the key was not written since, and begins anew if it was, at most [`MAX_UPDATE_TRIES`] times. Answers the new one.
    ///
    /// # Errors
    /// `Contended` after so many tries; see [`TypedError`].
    pub async fn update(
        &self,
        key: impl AsRef<[u8]>,
        mut change: impl FnMut(Option<T>) -> T + Send,
    ) -> Result<Entry<T>, TypedError> {
        let short = Bytes::copy_from_slice(key.as_ref());
        let key = self.full(&short);
        for _try in 0..MAX_UPDATE_TRIES {
            let (before, revision) = match self.get_at(&key).await? {
                Some(entry) => (Some(entry.value), entry.revision),
                None => (None, Index::ZERO),
            };
            let value = change(before);
            let json = written(&key, &value)?;
            let put = self.kv.put_if_revision(key.clone(), json, revision).await.map_err(about(&key))?;
            if let Some(revision) = put {
                return Ok(Entry { key: short, value, revision });
            }
        }
        Err(TypedError::Contended { key, tries: MAX_UPDATE_TRIES })
    }

    /// Deletes a value; the count is 0 when there was none.
    ///
    /// # Errors
    /// See [`TypedError`].
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<Deleted, TypedError> {
        let key = self.full(key.as_ref());
        self.kv.delete(key.clone()).await.map_err(about(&key))
    }

    /// All values, read page by page; linearizable. A write while it reads may be in it or not; a watch that goes on from its
    /// revision tells it in any case.
    ///
    /// # Errors
    /// See [`TypedError`].
    pub async fn list(&self) -> Result<Listing<T>, TypedError> {
        let (mut entries, mut revision) = (Vec::new(), None);
        let mut next = Some(Scan::prefix(self.prefix.clone()));
        while let Some(scan) = next {
            let page = self.kv.scan(scan.clone(), Consistency::Linearizable).await.map_err(about(&self.prefix))?;
            revision.get_or_insert(page.revision);
            next = scan.after(&page);
            for item in page.items {
                entries.push(self.entry(item)?);
            }
        }
        Ok(Listing { entries, revision: revision.unwrap_or_default() })
    }

    /// Watches all values, from now on.
    #[must_use]
    pub fn watch(&self) -> TypedWatch<T> {
        TypedWatch::new(self.kv.watch(WatchOptions::prefix(self.prefix.clone())), self.prefix.clone())
    }

    /// Watches all values: tells every change behind a revision, such as that of a [`Listing`].
    #[must_use]
    pub fn watch_after(&self, revision: Index) -> TypedWatch<T> {
        let options = WatchOptions::prefix(self.prefix.clone()).from_revision(revision.next());
        TypedWatch::new(self.kv.watch(options), self.prefix.clone())
    }

    fn full(&self, key: &[u8]) -> Bytes {
        [&self.prefix[..], key].concat().into()
    }

    async fn get_at(&self, key: &Bytes) -> Result<Option<Entry<T>>, TypedError> {
        let item = self.kv.get(key.clone(), Consistency::Linearizable).await.map_err(about(key))?;
        item.map(|item| self.entry(item)).transpose()
    }

    fn entry(&self, item: KeyValue) -> Result<Entry<T>, TypedError> {
        let value = read(&item.key, &item.value, item.mod_revision)?;
        Ok(Entry { key: short(&self.prefix, &item.key), value, revision: item.mod_revision })
    }
}

impl<K: Clone, T> Clone for Typed<K, T> {
    fn clone(&self) -> Self {
        Self { kv: self.kv.clone(), prefix: self.prefix.clone(), values: PhantomData }
    }
}

impl<K, T> fmt::Debug for Typed<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Typed").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// A key without the prefix.
fn short(prefix: &Bytes, key: &Bytes) -> Bytes {
    if key.starts_with(prefix) { key.slice(prefix.len()..) } else { key.clone() }
}

fn about(key: &Bytes) -> impl Fn(KvError) -> TypedError {
    move |error| TypedError::Kv { key: key.clone(), error }
}

fn written<T: Serialize>(key: &Bytes, value: &T) -> Result<Bytes, TypedError> {
    let json = serde_json::to_vec(value);
    let json = json.map_err(|error| TypedError::Unwritable { key: key.clone(), reason: error.to_string() })?;
    Ok(json.into())
}

fn read<T: DeserializeOwned>(key: &Bytes, value: &[u8], revision: Index) -> Result<T, TypedError> {
    let malformed =
        |error: serde_json::Error| TypedError::Malformed { key: key.clone(), revision, reason: error.to_string() };
    serde_json::from_slice(value).map_err(malformed)
}
