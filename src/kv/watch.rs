//! Watching keys: every change of them, in the order of the log, once.
//!
//! ```text
//!   Watch::next ─► page(from) ─► source: this replica's log, or a node over the network
//!       ▲                          │ waits until something changed
//!       └── changes of a revision ◄┘ and says where to go on
//! ```
//! A watch is a place in the log and nothing else: asking for the changes from a revision on gives the same answer on
//! every node and after every restart, so going on elsewhere needs no more than that number. Nothing is kept for a watch
//! that is not asking, however far it lags: it costs memory for the page that it is given, and slows nobody. A question stays
//! with its watch until it is answered: a caller with little patience, who drops it and asks again, comes back to the same
//! one, and so gets on through a long log and leaves no more than one behind at a node.
//!
//! All changes of one revision are one unit ([`Changes`]). What is not in the log any more cannot be told: that is an
//! error ([`WatchError::Compacted`]), never a gap.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt, Shared};
use thiserror::Error;

use crate::types::{Index, LeaseId};

use super::range::KeyRange;

/// What is watched, from where on.
///
/// ```
/// use dledger::kv::WatchOptions;
/// use dledger::types::Index;
///
/// let options = WatchOptions::prefix("service/").from_revision(Index(17)).with_previous();
/// assert_eq!(options.range.from, "service/");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchOptions {
    /// The keys.
    pub range: KeyRange,
    /// The first revision whose changes are told; `None` begins at "now", which is when [`Watch::begin`] resolves and not
    /// when the watch is made.
    pub from: Option<Index>,
    /// Whether each event tells the value before it. Such values are kept for a shorter while than the log.
    pub previous: bool,
}

impl WatchOptions {
    /// One key.
    #[must_use]
    pub fn key(key: impl Into<Bytes>) -> Self {
        let from: Bytes = key.into();
        let behind = Bytes::from([&from[..], &[0]].concat());
        Self { range: KeyRange { from, to: Some(behind) }, ..Self::default() }
    }

    /// All keys that start so; all keys for the empty prefix.
    #[must_use]
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        Self { range: KeyRange::of_prefix(prefix.into()), ..Self::default() }
    }

    /// All keys from one on and below another.
    #[must_use]
    pub fn range(range: KeyRange) -> Self {
        Self { range, ..Self::default() }
    }

    /// From this revision on, this one included.
    #[must_use]
    pub fn from_revision(self, revision: Index) -> Self {
        Self { from: Some(revision), ..self }
    }

    /// With the value before each change.
    #[must_use]
    pub fn with_previous(self) -> Self {
        Self { previous: true, ..self }
    }
}

/// What one entry of the log changed, of what is watched: never empty, and never a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// The entry.
    pub revision: Index,
    /// What it changed, in the order in which it did.
    pub events: Vec<Event>,
}

/// The change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The key.
    pub key: Bytes,
    /// What became of it.
    pub kind: EventKind,
    /// Its value before; `None` when there was no such key, or when that was not asked for.
    pub previous: Option<Bytes>,
}

/// What became of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It was set.
    Put {
        /// Its value.
        value: Bytes,
        /// The lease it lives with; zero for none.
        lease: LeaseId,
    },
    /// It was deleted, by somebody or because its lease ended.
    Delete,
}

/// Why a watch cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WatchError {
    /// The changes from there on are not known any more. Read the keys anew, and watch from the revision of what was read.
    #[error(
        "the changes before revision {oldest} are gone; read the keys anew and watch from the revision behind that"
    )]
    Compacted {
        /// The first revision that a watch can begin with, at the node that was asked.
        oldest: Index,
    },
    /// No node could be asked. The watch may be asked again, and goes on where it was.
    #[error("unavailable: {0}; ask again, the watch goes on where it was")]
    Unavailable(String),
    /// What was asked for is not served.
    #[error("refused: {0}")]
    Refused(String),
    /// The node has stopped.
    #[error("the node has stopped: {0}")]
    Stopped(String),
}

/// A question for changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WatchAsk {
    /// The keys.
    pub(crate) range: KeyRange,
    /// The first revision to look at.
    pub(crate) from: Index,
    /// With values before.
    pub(crate) previous: bool,
}

/// Some changes, and from where on there may be more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct WatchPage {
    /// Changes, in order; none when nothing that is watched changed for a while.
    pub(crate) changes: Vec<Changes>,
    /// Everything before is told.
    pub(crate) next: Index,
}

/// Where changes come from.
pub(crate) trait WatchSource: Send + Sync + 'static {
    /// The revision behind everything that was acknowledged before the call.
    fn now(&self) -> BoxFuture<'static, Result<Index, WatchError>>;

    /// Changes from some revision on. Waits for some, within a bound of its own.
    fn page(&self, ask: WatchAsk) -> BoxFuture<'static, Result<WatchPage, WatchError>>;
}

/// A watch. Not a stream of its own accord: nothing is fetched but when it is asked.
///
/// What there is first, and then what becomes of it:
///
/// ```
/// use dledger::kv::{Changes, Event, EventKind, Kv, WatchError, WatchOptions};
/// use dledger::{Consistency, Scan};
/// # dledger::doctest::run(|store| async move {
///
/// # store.put("service/mail", "10.0.0.7:25").await?;
/// let there = store.scan(Scan::prefix("service/"), Consistency::Linearizable).await?;
/// let options = WatchOptions::prefix("service/").from_revision(there.revision.next());
/// let mut watch = Kv::watch(&store, options);
/// # store.put("service/web", "10.0.0.8:80").await?;
/// # store.delete("service/mail").await?;
/// for _change in 0..2 {
///     match watch.next().await {
///         Ok(Changes { revision, events }) => {
///             for Event { key, kind, .. } in events {
///                 match kind {
///                     EventKind::Put { value, .. } => println!("{revision}: {key:?} is {value:?}"),
///                     EventKind::Delete => println!("{revision}: {key:?} is gone"),
///                 }
///             }
///         }
///         Err(WatchError::Unavailable(_)) => continue, // goes on where it was
///         Err(WatchError::Compacted { .. }) => break,  // begin again with the scan
///         Err(error) => return Err(error.into()),
///     }
/// }
/// assert!(watch.resume_from() > Some(there.revision)); // kept over a restart, it is where another watch goes on
/// # Ok(()) });
/// ```
pub struct Watch {
    source: Arc<dyn WatchSource>,
    range: KeyRange,
    previous: bool,
    /// The next page begins here; `None` while "now" is still to be found out.
    next: Option<Index>,
    ready: VecDeque<Changes>,
    beginning: Option<Question<Index>>,
    asking: Option<Question<WatchPage>>,
}

/// A question on its way. Shared with nobody, but as `Sync` as a watch has to be.
type Question<T> = Shared<BoxFuture<'static, Result<T, WatchError>>>;

/// The answer to the question that is open, or else to this one, which stays open for as long as there is none.
async fn answer<T: Clone>(
    open: &mut Option<Question<T>>,
    ask: impl FnOnce() -> BoxFuture<'static, Result<T, WatchError>>,
) -> Result<T, WatchError> {
    let answer = open.get_or_insert_with(|| ask().shared()).await;
    *open = None;
    answer
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("range", &self.range).field("next", &self.next).finish_non_exhaustive()
    }
}

impl Watch {
    pub(crate) fn new(source: Arc<dyn WatchSource>, options: WatchOptions) -> Self {
        let WatchOptions { range, from, previous } = options;
        let ready = VecDeque::new();
        Self { source, range, previous, next: from, ready, beginning: None, asking: None }
    }

    /// Fixes where a watch from "now" begins: whatever is asked for after this resolved is told. A write that was under way
    /// meanwhile may be told or not. The first `next` does so by itself, so that what is written between making a watch and
    /// asking it first is missed without this.
    ///
    /// # Errors
    /// See [`WatchError`].
    pub async fn begin(&mut self) -> Result<Index, WatchError> {
        match self.next {
            Some(next) => Ok(next),
            None => Ok(*self.next.insert(answer(&mut self.beginning, || self.source.now()).await?)),
        }
    }

    /// Waits for the next changes. May be dropped and called again: nothing is lost or told twice.
    ///
    /// # Errors
    /// See [`WatchError`]; after `Unavailable` it may be called again and goes on where it was.
    pub async fn next(&mut self) -> Result<Changes, WatchError> {
        loop {
            if let Some(changes) = self.ready.pop_front() {
                return Ok(changes);
            }
            let from = self.begin().await?;
            let ask = WatchAsk { range: self.range.clone(), from, previous: self.previous };
            let page = answer(&mut self.asking, || self.source.page(ask)).await?;
            self.next = Some(page.next);
            self.ready.extend(page.changes);
        }
    }

    /// The revision from which another watch would tell what this one has not told yet; `None` while it has not begun.
    #[must_use]
    pub fn resume_from(&self) -> Option<Index> {
        self.ready.front().map(|changes| changes.revision).or(self.next)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Gives pages by heart, and remembers what it was asked.
    struct Pages {
        left: Mutex<VecDeque<Result<WatchPage, WatchError>>>,
        asked: Mutex<Vec<Index>>,
    }

    impl WatchSource for Pages {
        fn now(&self) -> BoxFuture<'static, Result<Index, WatchError>> {
            std::future::ready(Ok(Index(5))).boxed()
        }

        fn page(&self, ask: WatchAsk) -> BoxFuture<'static, Result<WatchPage, WatchError>> {
            self.asked.lock().unwrap().push(ask.from);
            match self.left.lock().unwrap().pop_front() {
                Some(page) => std::future::ready(page).boxed(),
                None => std::future::pending().boxed(),
            }
        }
    }

    /// Has no answer before it is looked at twice.
    struct Slow;

    impl WatchSource for Slow {
        fn now(&self) -> BoxFuture<'static, Result<Index, WatchError>> {
            tokio::task::yield_now().map(|()| Ok(Index(5))).boxed()
        }

        fn page(&self, ask: WatchAsk) -> BoxFuture<'static, Result<WatchPage, WatchError>> {
            let page = WatchPage { changes: vec![changes(ask.from.get())], next: ask.from.next() };
            tokio::task::yield_now().map(|()| Ok(page)).boxed()
        }
    }

    fn changes(revision: u64) -> Changes {
        let event = Event { key: "k".into(), kind: EventKind::Delete, previous: None };
        Changes { revision: Index(revision), events: vec![event] }
    }

    #[test]
    fn watch_asks_from_where_the_last_page_ended_and_tells_each_change_once() {
        let pages = VecDeque::from([
            Ok(WatchPage { changes: Vec::new(), next: Index(9) }),
            Ok(WatchPage { changes: vec![changes(9), changes(11)], next: Index(12) }),
            Err(WatchError::Unavailable("x".to_owned())),
            Ok(WatchPage { changes: vec![changes(12)], next: Index(13) }),
        ]);
        let source = Arc::new(Pages { left: Mutex::new(pages), asked: Mutex::default() });
        let mut watch = Watch::new(Arc::clone(&source) as _, WatchOptions::key("k"));
        assert_eq!(watch.resume_from(), None);
        assert_eq!(watch.next().now_or_never(), Some(Ok(changes(9))));
        assert_eq!(watch.resume_from(), Some(Index(11)));
        assert_eq!(watch.next().now_or_never(), Some(Ok(changes(11))));
        assert!(matches!(watch.next().now_or_never(), Some(Err(WatchError::Unavailable(_)))));
        assert_eq!(watch.next().now_or_never(), Some(Ok(changes(12))));
        assert_eq!(watch.next().now_or_never(), None);
        assert_eq!(watch.next().now_or_never(), None, "dropped, and the question is still open");
        let asked: Vec<u64> = source.asked.lock().unwrap().iter().map(|index| index.get()).collect();
        assert_eq!(asked, [5, 9, 12, 12, 13]);
    }

    #[test]
    fn watch_that_is_dropped_before_any_answer_comes_gets_on_all_the_same() {
        let mut watch = Watch::new(Arc::new(Slow), WatchOptions::key("k"));
        for revision in 5..7 {
            let told = (0..9).find_map(|_attempt| watch.next().now_or_never());
            assert_eq!(told, Some(Ok(changes(revision))));
        }
    }

    #[test]
    fn watch_options_of_a_key_hold_that_key_alone() {
        let range = WatchOptions::key("k").range;
        assert!(range.contains(b"k") && !range.contains(b"k\0") && !range.contains(b"j\xff"));
    }
}
