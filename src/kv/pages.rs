//! Collects a page of a scan from one view, in steps that are short enough for an event loop.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use super::backend::memory::MemoryMap;
use super::backend::{BackendError, Snapshot};
use super::range::KeyRange;
use super::scan::{DEFAULT_PAGE_BYTES, ITEM_OVERHEAD_BYTES};
use super::view::KvView;
use super::{KeyValue, Scan, ScanPage};

/// Most keys looked at in one step; a step takes well under a millisecond.
const STEP_KEYS: usize = 1024;

/// A page in the making. However many steps it takes, it shows one view.
#[derive(Debug)]
pub struct Pager<S = MemoryMap> {
    view: Arc<KvView<S>>,
    scan: Scan,
    /// What is still to be read.
    rest: KeyRange,
    /// How many keys may still be read.
    left: u64,
    bytes: u64,
    max_bytes: u64,
    page: ScanPage,
    /// Nothing more comes onto this page.
    full: bool,
}

impl<S: Snapshot> Pager<S> {
    pub(super) fn new(view: Arc<KvView<S>>, scan: Scan) -> Self {
        let page = ScanPage { revision: view.applied(), ..ScanPage::default() };
        let max_bytes = if scan.max_bytes == 0 { DEFAULT_PAGE_BYTES } else { scan.max_bytes };
        let (rest, left) = (scan.range(), scan.limit.unwrap_or(u64::MAX));
        Self { view, rest, left, bytes: 0, max_bytes, page, full: false, scan }
    }

    /// Reads a bounded number of keys; true when there is more for this page.
    ///
    /// # Errors
    /// What the disk says, when the map is on one.
    pub fn step(&mut self) -> Result<bool, BackendError> {
        if self.full {
            return Ok(false);
        }
        let (view, rest) = (Arc::clone(&self.view), self.rest.clone());
        let mut looked = 0;
        let end = view.visit(&rest, self.scan.reverse, &mut |key, stored| {
            if self.left == 0 {
                self.full = true;
                self.page.next = None;
                return ControlFlow::Break(());
            }
            if self.bytes >= self.max_bytes || looked == STEP_KEYS {
                self.full = self.bytes >= self.max_bytes;
                self.stop_before(key);
                return ControlFlow::Break(());
            }
            looked += 1;
            self.take(view.item(key, stored, self.scan.keys_only));
            ControlFlow::Continue(())
        })?;
        if end.is_continue() {
            self.full = true;
            self.page.next = None;
        }
        Ok(!self.full)
    }

    /// How many keys and values the page has so far.
    #[must_use]
    pub fn items(&self) -> usize {
        self.page.items.len()
    }

    /// The page as far as it was read: where it was broken off before its end, its continuation goes on there.
    #[must_use]
    pub fn page(self) -> ScanPage {
        self.page
    }

    fn take(&mut self, item: KeyValue) {
        self.left -= 1;
        self.page.count += 1;
        if !self.scan.count_only {
            self.bytes += ITEM_OVERHEAD_BYTES + (item.key.len() + item.value.len()) as u64;
            self.page.items.push(item);
        }
    }

    /// `key` is the first that was not read: the next step, or the next page, goes on there.
    fn stop_before(&mut self, key: &[u8]) {
        if !self.scan.reverse {
            let start = Bytes::copy_from_slice(key);
            self.rest.from = start.clone();
            self.page.next = Some(start);
            return;
        }
        // A range ends before a key, not with it. The last key read is the end to tell; a scan that only counts has
        // kept no key, and the least key above this one will do.
        let read = self.page.items.last().map(|item| item.key.clone());
        let end = read.unwrap_or_else(|| Bytes::from([key, &[0]].concat()));
        self.rest.to = Some(end.clone());
        self.page.next = Some(end);
    }
}

#[cfg(test)]
mod tests;
