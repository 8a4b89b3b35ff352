//! Reading a range of keys, page by page.

use std::ops::Bound;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::types::Index;

use super::KeyValue;
use super::command::after_prefix;

/// Bytes of keys and values in a page when the caller names no bound.
pub const DEFAULT_PAGE_BYTES: u64 = 4 << 20;

/// Which keys to read, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scan {
    /// The first key that may be read; the start when `None`.
    pub from: Option<Bytes>,
    /// The first key that may not be read; the end when `None`.
    pub to: Option<Bytes>,
    /// Only keys that start so.
    pub prefix: Bytes,
    /// At most this many keys in all; all when `None`.
    pub limit: Option<u64>,
    /// About this many bytes of keys and values a page, one key at least; 0 stands for [`DEFAULT_PAGE_BYTES`].
    pub max_bytes: u64,
    /// From the last key to the first.
    pub reverse: bool,
    /// Leave the values out.
    pub keys_only: bool,
    /// Only count.
    pub count_only: bool,
}

impl Scan {
    /// All keys that start with `prefix`.
    #[must_use]
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        Self { prefix: prefix.into(), ..Self::default() }
    }

    /// The scan that goes on where `page` ended; `None` when it was the last.
    #[must_use]
    pub fn after(&self, page: &ScanPage) -> Option<Self> {
        let next = page.next.clone()?;
        let mut scan = self.clone();
        scan.limit = self.limit.map(|limit| limit.saturating_sub(page.count));
        if self.reverse {
            scan.to = Some(next)
        } else {
            scan.from = Some(next)
        }
        Some(scan)
    }

    /// The ends of the range; `None` when it holds no key.
    pub(super) fn bounds(&self) -> Option<(Bound<Bytes>, Bound<Bytes>)> {
        let from = self.from.clone().unwrap_or_default().max(self.prefix.clone());
        let behind = if self.prefix.is_empty() { None } else { after_prefix(&self.prefix).map(Bytes::from) };
        let to = match (self.to.clone(), behind) {
            (Some(to), Some(behind)) => Some(to.min(behind)),
            (to, behind) => to.or(behind),
        };
        match to {
            Some(to) if to <= from => None,
            Some(to) => Some((Bound::Included(from), Bound::Excluded(to))),
            None => Some((Bound::Included(from), Bound::Unbounded)),
        }
    }
}

/// A piece of a range.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanPage {
    /// The keys, in the order asked for; none when only counting.
    pub items: Vec<KeyValue>,
    /// How many keys this page stands for.
    pub count: u64,
    /// Where the next page goes on (see [`Scan::after`]); `None` on the last. Forward: the first key not read.
    /// In reverse: the last key read.
    pub next: Option<Bytes>,
    /// The index up to which the view of this page was applied.
    pub revision: Index,
}
