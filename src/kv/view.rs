//! What readers see: the map as of one applied entry, on any thread, without waiting for the machine.

use std::ops::ControlFlow;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;

use crate::types::{Index, LeaseId, LogBase, LogTime};

use super::backend::memory::MemoryMap;
use super::backend::{BackendError, Snapshot, Stored};
use super::leases::{LeaseStatus, Leases};
use super::pages::Pager;
use super::range::KeyRange;
use super::{KeyValue, Scan, ScanPage};

/// The map as of one applied entry. Immutable: it stays the same however long it is held.
#[derive(Debug, Default)]
pub struct KvView<S = MemoryMap> {
    snapshot: S,
    leases: Leases,
    /// Keys that the last applied entry deleted and that are still on their way out of the map: not to be seen.
    leaving: Option<KeyRange>,
    applied: Index,
    time: LogTime,
}

impl<S: Snapshot> KvView<S> {
    pub(super) fn new(snapshot: S, leases: Leases, leaving: Option<KeyRange>, base: &LogBase) -> Self {
        Self { snapshot, leases, leaving, applied: base.entry.index, time: base.time }
    }

    /// The last applied entry that this view shows.
    #[must_use]
    pub fn applied(&self) -> Index {
        self.applied
    }

    /// Reads a key.
    ///
    /// # Errors
    /// What the disk says, when the map is on one.
    pub fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, BackendError> {
        if self.leaving.as_ref().is_some_and(|range| range.contains(key)) {
            return Ok(None);
        }
        Ok(self.snapshot.get(key)?.map(|stored| self.item(key, &stored, false)))
    }

    /// What a reader is given of a key.
    pub(super) fn item(&self, key: &[u8], stored: &Stored, keys_only: bool) -> KeyValue {
        item(key, stored, self.leases.of_key(key), keys_only)
    }

    /// The leases that live at the log time of this view, in the order of their ids.
    pub fn leases(&self) -> impl Iterator<Item = LeaseStatus> {
        self.leases_from(LeaseId::ZERO)
    }

    /// The same, from one on.
    pub(crate) fn leases_from(&self, from: LeaseId) -> impl Iterator<Item = LeaseStatus> {
        self.leases.alive(from, self.time)
    }

    /// The log time of the last applied entry.
    #[must_use]
    pub fn time(&self) -> LogTime {
        self.time
    }

    /// Reads one page, all of it at once. An event loop takes [`KvReader::pager`], which works in steps.
    ///
    /// # Errors
    /// As for [`KvView::get`].
    pub fn scan(self: &Arc<Self>, scan: &Scan) -> Result<ScanPage, BackendError> {
        let mut pager = Pager::new(Arc::clone(self), scan.clone());
        while pager.step()? {}
        Ok(pager.page())
    }

    /// Shows the keys of a range in order, or in reverse order, until `each` breaks off.
    pub(super) fn visit(
        &self,
        range: &KeyRange,
        reverse: bool,
        each: &mut dyn FnMut(&[u8], &Stored) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, BackendError> {
        let Some(leaving) = &self.leaving else { return self.snapshot.visit(range, reverse, each) };
        let mut parts = range.around(leaving);
        if reverse {
            parts.reverse();
        }
        for part in &parts {
            if self.snapshot.visit(part, reverse, each)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// What a reader is given of a key. The value is shared with the map, not copied.
pub(super) fn item(key: &[u8], stored: &Stored, lease: LeaseId, keys_only: bool) -> KeyValue {
    let value = if keys_only { Bytes::new() } else { Bytes::from_owner(Arc::clone(&stored.value)) };
    let Stored { create_revision, mod_revision, version, .. } = *stored;
    KeyValue { key: Bytes::copy_from_slice(key), value, create_revision, mod_revision, version, lease }
}

/// The newest view: written by the machine, read by everybody.
#[derive(Debug, Default)]
pub struct KvReader<S = MemoryMap> {
    newest: Arc<ArcSwap<KvView<S>>>,
}

impl<S> Clone for KvReader<S> {
    fn clone(&self) -> Self {
        Self { newest: Arc::clone(&self.newest) }
    }
}

impl<S: Snapshot> KvReader<S> {
    pub(super) fn new(first: KvView<S>) -> Self {
        Self { newest: Arc::new(ArcSwap::from_pointee(first)) }
    }

    /// The newest published view. Does not wait.
    #[must_use]
    pub fn view(&self) -> Arc<KvView<S>> {
        self.newest.load_full()
    }

    /// Reads a key in the newest published view. Waits for the disk at most, when the map is on one.
    ///
    /// # Errors
    /// As for [`KvView::get`].
    pub fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, BackendError> {
        self.newest.load().get(key)
    }

    /// Reads a page of the newest published view, step by step.
    #[must_use]
    pub fn pager(&self, scan: Scan) -> Pager<S> {
        Pager::new(self.view(), scan)
    }

    pub(super) fn publish(&self, view: KvView<S>) {
        self.newest.store(Arc::new(view));
    }
}
