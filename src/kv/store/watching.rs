//! The watch of an embedded replica: reads its log, page by page.
//!
//! ```text
//!   Watch::next ─► page(from) ─ is `from` applied? ─ no ─► wait for the next publication, or ten seconds
//!                                   │ yes
//!          near the newest entry ───┴─── far behind
//!          the page that others          entries and notes read for this watch alone,
//!          just read, or read once       by a thread that may wait for the disk
//! ```
//! A watch that asks holds a page; one that does not holds nothing. A page is told once something that is watched changed,
//! or without any change after a while, so that a quiet watch does not fall behind the history that is kept.
//!
//! Deliberately absent: a watch that keeps its replica running. It ends with it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, Shared};

use crate::error::ReadError;
use crate::node::NodeHandle;
use crate::types::Index;

use super::super::history::{History, Page};
use super::super::range::KeyRange;
use super::super::watch::{Watch, WatchAsk, WatchError, WatchOptions, WatchPage, WatchSource};
use super::KvStore;

/// How long a page waits for a change, or looks for one: less than a client waits for it.
const PAGE_WAIT: Duration = Duration::from_secs(10);
/// Bytes of changes in a page, one revision at least.
const PAGE_BYTES: usize = 64 << 10;
/// Bytes of the log that are read at once for one watch, one entry at least.
const READ_BYTES: u64 = 64 << 10;
/// The same for many: each of them asks for the page, and the fewer there are the less that costs.
const NEAR_BYTES: u64 = 512 << 10;
/// Entries that a page looks through at most without a change to tell.
const PAGE_ENTRIES: u64 = 1 << 17;
/// Watches this close to the newest entry read pages for each other.
const NEAR_ENTRIES: u64 = 16 << 10;
/// How many of those pages are kept.
const NEAR_PAGES: usize = 8;

/// A page on its way, or here. Whoever waits for it drives it: nobody waits for another watch's thread.
type Reading = Shared<BoxFuture<'static, Result<Arc<Page>, WatchError>>>;

/// What all handles of a replica share for their watches.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    history: History,
    /// The newest pages, by where they begin and whether they have values before; the newest first.
    near: Arc<Mutex<VecDeque<(Index, bool, Reading)>>>,
}

impl Watched {
    pub(super) fn new(history: History) -> Self {
        Self { history, near: Arc::default() }
    }

    /// The page that begins there, as others read it, or else as `read` does. One with values before serves others too.
    fn near(&self, from: Index, previous: bool, read: impl FnOnce() -> Reading) -> Reading {
        let mut near = self.near.lock().unwrap_or_else(PoisonError::into_inner);
        let serves = |(at, has, _page): &&(Index, bool, Reading)| *at == from && (*has || !previous);
        if let Some((_at, _has, page)) = near.iter().find(serves) {
            return page.clone();
        }
        let page = read();
        near.push_front((from, previous, page.clone()));
        near.truncate(NEAR_PAGES);
        page
    }

    /// Forgets pages that begin there: one could not be read, and is to be read anew.
    fn forget(&self, from: Index) {
        self.near.lock().unwrap_or_else(PoisonError::into_inner).retain(|(at, _has, _page)| *at != from);
    }
}

impl KvStore {
    /// Watches keys: every change of them, in the order of the log, once. Asks nothing yet; see [`Watch::begin`] for what
    /// "now" is. The watch does not keep the replica running.
    ///
    /// ```
    /// # async fn example(store: dledger::KvStore) -> Result<(), dledger::kv::WatchError> {
    /// use dledger::kv::WatchOptions;
    ///
    /// let mut watch = store.watch(WatchOptions::prefix("service/"));
    /// loop {
    ///     let changes = watch.next().await?;
    ///     for event in &changes.events {
    ///         println!("{}: {:?} {:?}", changes.revision, event.key, event.kind);
    ///     }
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn watch(&self, options: WatchOptions) -> Watch {
        Watch::new(Arc::new(self.changes()), options)
    }

    /// Where the changes of this replica come from: one question for them is answered as soon as there are some, or
    /// without any after a bounded while.
    pub(crate) fn changes(&self) -> impl WatchSource + use<> {
        let (node, watched, timeout) = (self.node.visitor(), self.watched.clone(), self.timeout);
        LocalChanges { node, watched, timeout, wait: PAGE_WAIT }
    }
}

/// The changes of a replica in this process.
#[derive(Clone, Debug)]
struct LocalChanges {
    node: NodeHandle,
    watched: Watched,
    timeout: Duration,
    /// For a page.
    wait: Duration,
}

impl WatchSource for LocalChanges {
    fn now(&self) -> BoxFuture<'static, Result<Index, WatchError>> {
        let (node, timeout) = (self.node.clone(), self.timeout);
        async move { node.read_index(timeout).await.map(Index::next).map_err(failed) }.boxed()
    }

    fn page(&self, ask: WatchAsk) -> BoxFuture<'static, Result<WatchPage, WatchError>> {
        let changes = self.clone();
        async move { changes.next(ask).await }.boxed()
    }
}

impl LocalChanges {
    async fn next(&self, mut ask: WatchAsk) -> Result<WatchPage, WatchError> {
        let history = &self.watched.history;
        ask.from = ask.from.max(Index(1));
        let mut patience = std::pin::pin!(self.node.after(self.wait));
        let enough = ask.from.plus(PAGE_ENTRIES);
        loop {
            history.check(ask.from, ask.previous)?;
            let published = history.published();
            if ask.from <= published {
                let told = self.page_of(&ask, published).await?.tell(&ask, PAGE_BYTES)?;
                let looked_on = !told.changes.is_empty() || told.next >= enough;
                if looked_on || patience.as_mut().now_or_never().is_some() {
                    return Ok(told);
                }
                ask.from = told.next;
                super::yield_now().await;
                continue;
            }
            tokio::select! {
                biased;
                () = self.node.applied_more(|| history.published() != published) => {}
                reason = self.node.stopped() => return Err(WatchError::Stopped(reason)),
                () = &mut patience => return Ok(WatchPage { changes: Vec::new(), next: ask.from }),
            }
        }
    }

    /// A page that begins where the ask does.
    async fn page_of(&self, ask: &WatchAsk, published: Index) -> Result<Arc<Page>, WatchError> {
        let (from, previous) = (ask.from, ask.previous);
        let (node, history) = (self.node.clone(), self.watched.history.clone());
        if published.get() - from.get() > NEAR_ENTRIES {
            return read(node, history, from, previous, Some(ask.range.clone())).await;
        }
        let own = || read(node.clone(), history.clone(), from, previous, None);
        let page = self.watched.near(from, previous, || own().boxed().shared()).await;
        if page.is_err() {
            self.watched.forget(from);
        }
        match page {
            // Perhaps only the values before are gone, for which another asked.
            Err(WatchError::Compacted { .. }) if !previous => own().await,
            page => page,
        }
    }
}

/// Reads a page; only of some keys, when it is for one watch alone.
async fn read(
    node: NodeHandle,
    history: History,
    from: Index,
    previous: bool,
    range: Option<KeyRange>,
) -> Result<Arc<Page>, WatchError> {
    let bytes = if range.is_some() { READ_BYTES } else { NEAR_BYTES };
    let read = node.committed_entries(from, history.published(), bytes).await;
    let entries = read.map_err(|error| {
        if let ReadError::OutOfRange { first, .. } = &error
            && from < *first
        {
            return WatchError::Compacted { oldest: history.oldest(previous).max(*first) };
        }
        failed(error)
    })?;
    history.page(&entries, previous, range.as_ref()).map(Arc::new)
}

fn failed(error: ReadError) -> WatchError {
    match error {
        ReadError::Stopped(reason) => WatchError::Stopped(reason),
        ReadError::TooLarge(reason) => WatchError::Refused(reason),
        ReadError::Unavailable(reason) => WatchError::Unavailable(reason),
        ReadError::OutOfRange { .. } | ReadError::Damaged { .. } | ReadError::State(_) => {
            WatchError::Unavailable(error.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn ask(key: &'static str) -> WatchAsk {
        WatchAsk { range: WatchOptions::key(key).range, from: Index(1), previous: false }
    }

    // Those who wait for it must learn how far it came before they give up, or they would ask for the same again for ever.
    #[test]
    fn watch_page_that_finds_nothing_in_a_long_log_ends_in_time_and_says_how_far_it_came() {
        crate::doctest::run(|store| async move {
            let pair = (Bytes::from("other"), Bytes::from(vec![b'v'; 60 << 10]));
            let mut last = Index::ZERO;
            for _batch in 0..20 {
                last = store.put_batch(vec![pair.clone(); 16]).await?;
            }
            let (node, watched, timeout) = (store.node.visitor(), store.watched.clone(), store.timeout);
            let hasty = LocalChanges { node, watched, timeout, wait: Duration::ZERO };
            let page = hasty.page(ask("k")).await?;
            assert!(page.changes.is_empty() && page.next > Index(1) && page.next <= last, "{page:?} of {last}");
            Ok(())
        });
    }

    #[test]
    fn watch_without_values_before_does_not_end_because_those_are_gone() {
        crate::doctest::run(|store| async move {
            let written = store.put("k", "v").await?;
            let gone = Err(WatchError::Compacted { oldest: written.next() });
            let of_another = store.watched.near(Index(1), true, || std::future::ready(gone).boxed().shared());
            assert!(of_another.await.is_err());
            let page = store.changes().page(ask("k")).await?;
            assert_eq!(page.changes.iter().map(|changes| changes.revision).collect::<Vec<_>>(), [written]);
            Ok(())
        });
    }
}
