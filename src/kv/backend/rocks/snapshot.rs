//! A map as readers see it: a snapshot of RocksDB that keeps its database open.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use rocksdb::{DB, ReadOptions, SnapshotWithThreadMode};

use super::super::super::range::KeyRange;
use super::super::{BackendError, Snapshot, Stored};
use super::format;
use super::home::Db;

type Seen<'a> = SnapshotWithThreadMode<'a, DB>;

self_cell::self_cell!(
    /// A snapshot borrows its database; here it owns a share of it.
    struct Pinned {
        owner: Arc<Db>,
        #[covariant]
        dependent: Seen,
    }
);

/// A map as of one commit. A clone is the same one.
#[derive(Clone)]
pub struct RocksSnapshot(Kind);

#[derive(Clone)]
enum Kind {
    /// There is no database yet.
    Empty,
    Of(Arc<Pinned>),
    /// The node has stopped.
    Closed,
}

impl fmt::Debug for RocksSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RocksSnapshot")
    }
}

impl RocksSnapshot {
    /// That of a map without a database.
    pub(super) const EMPTY: Self = Self(Kind::Empty);
    /// Reads nothing any more, and keeps nothing open.
    pub(super) const CLOSED: Self = Self(Kind::Closed);

    /// What the database holds now.
    pub(super) fn of(db: &Arc<Db>) -> Self {
        Self(Kind::Of(Arc::new(Pinned::new(Arc::clone(db), |db| Seen::new(&db.inner)))))
    }

    fn pinned(&self) -> Result<Option<&Pinned>, BackendError> {
        match &self.0 {
            Kind::Empty => Ok(None),
            Kind::Of(pinned) => Ok(Some(pinned)),
            Kind::Closed => Err(BackendError("the node has stopped".to_owned())),
        }
    }
}

impl Snapshot for RocksSnapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Stored>, BackendError> {
        let Some(pinned) = self.pinned()? else { return Ok(None) };
        let found = pinned.borrow_dependent().get_pinned(format::key(key));
        let found = found.map_err(|error| pinned.borrow_owner().cannot("read", &error))?;
        found.map(|bytes| format::decode(&bytes)).transpose()
    }

    fn visit(
        &self,
        range: &KeyRange,
        reverse: bool,
        each: &mut dyn FnMut(&[u8], &Stored) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, BackendError> {
        let Some(pinned) = self.pinned()?.filter(|_some| !range.is_empty()) else {
            return Ok(ControlFlow::Continue(()));
        };
        let (from, behind) = format::bounds(range);
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(from);
        options.set_iterate_upper_bound(behind);
        let mut items = pinned.borrow_dependent().raw_iterator_opt(options);
        if reverse {
            items.seek_to_last()
        } else {
            items.seek_to_first()
        }
        while let Some((key, stored)) = items.item() {
            if each(format::plain(key)?, &format::decode(stored)?).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            if reverse { items.prev() } else { items.next() }
        }
        items.status().map_err(|error| pinned.borrow_owner().cannot("read", &error))?;
        Ok(ControlFlow::Continue(()))
    }

    fn flush(&self) -> Result<(), BackendError> {
        self.pinned()?.map_or(Ok(()), |pinned| pinned.borrow_owner().flush())
    }
}
