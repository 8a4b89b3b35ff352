//! Watching values of one type.

use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::types::Index;

use super::super::watch::{Changes, EventKind, Watch};
use super::{TypedError, about, read, short};

/// What one entry of the log changed among the values that are watched.
///
/// ```
/// use dledger::Typed;
/// use dledger::kv::typed::{TypedChanges, TypedEvent};
/// # dledger::doctest::run(|store| async move {
///
/// let ports = Typed::<_, u16>::new(&store, "port/");
/// let mut watch = ports.watch();
/// watch.begin().await?; // from here on
/// let revision = ports.put("mail", &25).await?;
/// let event = TypedEvent { key: "mail".into(), value: Some(25) };
/// assert_eq!(watch.next().await?, TypedChanges { revision, events: vec![event] });
/// # Ok(()) });
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypedChanges<T> {
    /// The entry.
    pub revision: Index,
    /// What it changed, in the order in which it did.
    pub events: Vec<TypedEvent<T>>,
}

/// The change of one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypedEvent<T> {
    /// Its key, without the prefix.
    pub key: Bytes,
    /// What it is now; `None` when it was deleted, by somebody or because its lease ended.
    pub value: Option<T>,
}

/// A watch of typed values. For an example see [`Typed`](super::Typed).
pub struct TypedWatch<T> {
    watch: Watch,
    prefix: Bytes,
    values: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> TypedWatch<T> {
    pub(super) fn new(watch: Watch, prefix: Bytes) -> Self {
        Self { watch, prefix, values: PhantomData }
    }

    /// Fixes where a watch from "now" begins; see [`Watch::begin`].
    ///
    /// # Errors
    /// See [`Watch::begin`].
    pub async fn begin(&mut self) -> Result<Index, TypedError> {
        self.watch.begin().await.map_err(|error| about(&self.prefix)(error.into()))
    }

    /// Waits for the next changes. May be dropped and called again: nothing is lost or told twice.
    ///
    /// # Errors
    /// Those of [`Watch::next`]. `Malformed` for a value that is not of the type: the changes of its revision are passed over,
    /// and the next call goes on behind them.
    pub async fn next(&mut self) -> Result<TypedChanges<T>, TypedError> {
        let Changes { revision, events } =
            self.watch.next().await.map_err(|error| about(&self.prefix)(error.into()))?;
        let typed = |event: super::super::watch::Event| {
            let value = match &event.kind {
                EventKind::Put { value, .. } => Some(read(&event.key, value, revision)?),
                EventKind::Delete => None,
            };
            Ok(TypedEvent { key: short(&self.prefix, &event.key), value })
        };
        let events = events.into_iter().map(typed).collect::<Result<Vec<_>, TypedError>>()?;
        Ok(TypedChanges { revision, events })
    }
}

impl<T> fmt::Debug for TypedWatch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedWatch").field("watch", &self.watch).finish_non_exhaustive()
    }
}
