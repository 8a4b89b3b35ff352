//! Reading a range of the embedded store as one view, however many pages it takes.

use std::sync::Arc;

use crate::error::ReadError;

use super::super::backend::chosen::ChosenSnapshot;
use super::super::view::KvView;
use super::super::{Consistency, Scan, ScanPage};
use super::{KvStore, yield_now};

impl KvStore {
    /// Reads a range as one consistent view, page by page: about `max_bytes` in each. Reads nothing yet.
    #[must_use]
    pub fn range(&self, scan: Scan, consistency: Consistency) -> KvRange {
        KvRange { store: self.clone(), consistency, next: Some(scan), view: None }
    }
}

/// A range that is being read. It holds its view until it is dropped, and with it what was overwritten since.
///
/// ```
/// use dledger::kv::store::KvRange;
/// use dledger::{Consistency, Scan};
/// # dledger::doctest::run(|store| async move {
/// # store.put("user/1", "ann").await?;
/// # store.put("user/2", "bob").await?;
/// let mut range: KvRange = store.range(Scan { max_bytes: 1, ..Scan::prefix("user/") }, Consistency::Linearizable);
/// let first = range.next_page().await?.ok_or("no page")?;
/// store.delete_prefix("user/").await?; // the view stays as it is
/// let second = range.next_page().await?.ok_or("no second page")?;
/// assert_eq!((first.items.len(), second.items.len(), second.revision), (1, 1, first.revision));
/// # Ok(()) });
/// ```
#[derive(Debug)]
pub struct KvRange {
    store: KvStore,
    consistency: Consistency,
    /// What is left; `None` once the last page was given.
    next: Option<Scan>,
    view: Option<Arc<KvView<ChosenSnapshot>>>,
}

impl KvRange {
    /// The next page; `None` behind the last. All pages have one revision. May be dropped and called again: no page is
    /// passed over.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn next_page(&mut self) -> Result<Option<ScanPage>, ReadError> {
        let Some(scan) = self.next.clone() else { return Ok(None) };
        let view = match &self.view {
            Some(view) => Arc::clone(view),
            None => {
                self.store.catch_up(self.consistency).await?;
                Arc::clone(self.view.insert(self.store.reader().view()))
            }
        };
        let mut pager = view.pager(scan.clone());
        while pager.step()? {
            yield_now().await;
        }
        let page = pager.page();
        self.next = scan.after(&page);
        Ok(Some(page))
    }
}
