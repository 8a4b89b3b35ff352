//! Reading a range of keys, page by page.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::types::Index;

use super::KeyValue;
use super::range::KeyRange;

/// Bytes of keys and values in a page when the caller names no bound.
pub const DEFAULT_PAGE_BYTES: u64 = 4 << 20;

/// What each key of a page counts beside its bytes and its value's: revisions and lengths.
pub const ITEM_OVERHEAD_BYTES: u64 = 40;

/// Which keys to read, and how.
///
/// ```
/// use dledger::{Consistency, Scan, ScanPage};
/// # dledger::doctest::run(|store| async move {
///
/// # for number in 0..5 { store.put(format!("user/{number}"), "x").await?; }
/// let (mut keys, mut next) = (Vec::new(), Some(Scan { limit: Some(4), max_bytes: 100, ..Scan::prefix("user/") }));
/// while let Some(scan) = next {
///     let page: ScanPage = store.scan(scan.clone(), Consistency::Linearizable).await?;
///     next = scan.after(&page);
///     keys.extend(page.items.into_iter().map(|item| item.key));
/// }
/// assert_eq!(keys, ["user/0", "user/1", "user/2", "user/3"]);
///
/// let last = Scan { reverse: true, keys_only: true, limit: Some(1), ..Scan::prefix("user/") };
/// assert_eq!(store.scan(last, Consistency::Linearizable).await?.items[0].key, "user/4");
/// # Ok(()) });
/// ```
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
    /// About this many bytes a page, one key at least; 0 stands for [`DEFAULT_PAGE_BYTES`]. A key counts its bytes,
    /// those of its value and [`ITEM_OVERHEAD_BYTES`]. A scan that only counts has no page's bound.
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

    /// The keys that are asked for.
    pub(super) fn range(&self) -> KeyRange {
        let asked = KeyRange { from: self.from.clone().unwrap_or_default(), to: self.to.clone() };
        asked.and(&KeyRange::of_prefix(self.prefix.clone()))
    }
}

/// A piece of a range.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanPage {
    /// The keys, in the order asked for; none when only counting.
    pub items: Vec<KeyValue>,
    /// How many keys this page stands for.
    pub count: u64,
    /// Where the next page goes on (see [`Scan::after`]); `None` on the last, also when the limit made it the last.
    /// Forward, the first key not read; in reverse, the last key read.
    pub next: Option<Bytes>,
    /// The index up to which the view of this page was applied.
    pub revision: Index,
}
