//! What readers see: the map as of one applied index, on any thread, without waiting for the machine.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;

use crate::types::Index;

use super::memory::{Key, MemoryMap, Stored};
use super::scan::DEFAULT_PAGE_BYTES;
use super::{KeyValue, Scan, ScanPage};

/// Most keys looked at in one step of a scan; a step takes well under a millisecond.
const STEP_KEYS: u64 = 1024;

/// The map as of one applied index. Immutable: it stays the same however long it is held.
#[derive(Debug, Default)]
pub struct KvView {
    map: MemoryMap,
    applied: Index,
}

impl KvView {
    pub(super) fn new(map: MemoryMap, applied: Index) -> Self {
        Self { map, applied }
    }

    /// The last applied entry that this view shows.
    #[must_use]
    pub fn applied(&self) -> Index {
        self.applied
    }

    /// Reads a key.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<KeyValue> {
        self.map.get(key).map(|stored| item(Bytes::copy_from_slice(key), stored, false))
    }

    /// Reads one page: until the limit, or the page's bytes, are reached. Looks at every key of the page at once;
    /// an event loop uses [`KvView::scan_step`].
    #[must_use]
    pub fn scan(&self, scan: &Scan) -> ScanPage {
        let mut page = ScanPage { revision: self.applied, ..ScanPage::default() };
        while self.scan_step(scan, &mut page) {}
        page
    }

    /// Adds up to a bounded number of keys to `page`; true when the page is not full yet and there is more.
    pub fn scan_step(&self, scan: &Scan, page: &mut ScanPage) -> bool {
        page.revision = self.applied;
        let going_on = scan.after(page);
        page.next = None;
        let scan = match &going_on {
            Some(rest) => rest,
            None => scan,
        };
        let max_bytes = if scan.max_bytes == 0 { DEFAULT_PAGE_BYTES } else { scan.max_bytes };
        let mut bytes = page.items.iter().map(size).sum::<u64>();
        for (looked, (key, stored)) in (0..).zip(self.items(scan)) {
            if scan.limit.is_some_and(|limit| looked >= limit) {
                return false;
            }
            let full = bytes >= max_bytes && page.count > 0;
            if full || looked >= STEP_KEYS {
                if !scan.reverse {
                    page.next = Some(Bytes::copy_from_slice(key));
                }
                return !full;
            }
            page.count += 1;
            if scan.reverse {
                page.next = Some(Bytes::copy_from_slice(key));
            }
            if !scan.count_only {
                let item = item(Bytes::copy_from_slice(key), stored, scan.keys_only);
                bytes += size(&item);
                page.items.push(item);
            }
        }
        page.next = None;
        false
    }

    fn items<'a>(&'a self, scan: &Scan) -> Box<dyn Iterator<Item = (&'a Key, &'a Stored)> + 'a> {
        let Some((from, to)) = scan.bounds() else { return Box::new(std::iter::empty()) };
        let range = self.map.range(from.as_ref().map(AsRef::as_ref), to.as_ref().map(AsRef::as_ref));
        if scan.reverse { Box::new(range.rev()) } else { Box::new(range) }
    }
}

fn item(key: Bytes, stored: &Stored, keys_only: bool) -> KeyValue {
    let value = if keys_only { Bytes::new() } else { Bytes::from_owner(Arc::clone(&stored.value)) };
    let Stored { create_revision, mod_revision, version, .. } = *stored;
    KeyValue { key, value, create_revision, mod_revision, version }
}

fn size(item: &KeyValue) -> u64 {
    (item.key.len() + item.value.len()) as u64
}

/// The newest view: written by the machine, read by everybody.
#[derive(Clone, Debug, Default)]
pub struct KvReader {
    newest: Arc<ArcSwap<KvView>>,
}

impl KvReader {
    /// The newest published view. Does not wait.
    #[must_use]
    pub fn view(&self) -> Arc<KvView> {
        self.newest.load_full()
    }

    pub(super) fn publish(&self, view: KvView) {
        self.newest.store(Arc::new(view));
    }
}
