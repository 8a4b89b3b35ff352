//! Questions for changes that wait for some: long polls.
//!
//! They wait beside the other requests of their connection and take no place of theirs, for they may wait for long. What
//! waits has nothing in memory but the question. A page comes into being when its poll is polled, which happens one after the
//! other and no faster than answers leave, so that a thousand watches that hear of one change hold a page or two.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::time::timeout;

use crate::server::kinds::{KeyRange, WatchAsk, WatchPage};
use crate::server::limits::{MAX_POLL_BYTES, MAX_POLLS};
use crate::server::protocol::{Answer, Failure};
use crate::server::store::{Leadership, Store};

/// The polls of one connection.
#[derive(Default)]
pub(super) struct Polls(FuturesUnordered<BoxFuture<'static, (u64, Answer)>>);

impl Polls {
    /// Takes a question, or says why not.
    pub(super) fn take<S: Store>(&mut self, store: &S, id: u64, ask: &WatchAsk, wait: Duration) -> Result<(), Failure> {
        let KeyRange { from, to } = &ask.range;
        let bytes = from.len() + to.as_ref().map_or(0, Bytes::len);
        if bytes > MAX_POLL_BYTES {
            return Err(Failure::TooLarge(format!("a range of {bytes} bytes to watch; at most {MAX_POLL_BYTES}")));
        }
        if self.0.len() >= MAX_POLLS {
            return Err(Failure::Overloaded(format!("{MAX_POLLS} watches wait on this connection already")));
        }
        // In memory of its own: it waits for longer than the packet that it came in.
        let copied = |key: &Bytes| Bytes::copy_from_slice(key);
        let range = KeyRange { from: copied(from), to: to.as_ref().map(copied) };
        let ask = WatchAsk { range, ..ask.clone() };
        self.0.push(answer(store.clone(), ask, wait).map(move |answer| (id, answer)).boxed());
        Ok(())
    }

    /// The next that is answered; waits for ever when there is none.
    pub(super) async fn next(&mut self) -> (u64, Answer) {
        match self.0.next().await {
            Some(answered) => answered,
            None => std::future::pending().await,
        }
    }

    /// Forgets them all: who asked asks elsewhere.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

async fn answer<S: Store>(store: S, ask: WatchAsk, wait: Duration) -> Answer {
    let nothing = WatchPage { changes: Vec::new(), next: ask.from };
    match timeout(wait, store.watch_page(ask)).await {
        Ok(Err(error)) => Answer::Failed(error.into()),
        Ok(Ok(page)) if !page.changes.is_empty() => Answer::Watched(page),
        // A node that is cut off hears of no change either.
        Ok(Ok(_)) | Err(_) if store.leadership() == Leadership::default() => {
            Answer::Failed(Failure::Unavailable("this node knows no leader".to_owned()))
        }
        Ok(Ok(page)) => Answer::Watched(page),
        Err(_elapsed) => Answer::Watched(nothing),
    }
}
