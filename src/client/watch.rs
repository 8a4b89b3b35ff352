//! Watching from afar: a page after the other, each a question that a node answers once something has changed.
//!
//! Any node is asked, since all tell the same; the next one after one that does not answer, from the same revision on: no
//! change is missed or told twice. A node that was cut off from the cluster says so itself.
//!
//! A watch is one history's. When the cluster was recovered without its last entries, other entries have the revisions of
//! those that were told perhaps; the watch ends as if its history was gone.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep};

use crate::kv::{Watch, WatchError, WatchOptions};
use crate::server::kinds::{Consistency, Scan, WatchAsk, WatchPage};
use crate::server::protocol::{Answer, Failure, RequestBody, Response};
use crate::types::{Epoch, Index};

use super::error::ClientError;
use super::link::{Link, LinkError, describe};
use super::{Client, Patience, RETRY_PAUSE};

/// How long a node is waited for: longer than it lets a quiet watch wait.
const POLL_WAIT: Duration = Duration::from_secs(13);

impl Client {
    /// Watches keys: every change of them, in the order of the log, once. Asks nobody yet; see [`Watch::begin`] for what
    /// "now" is. The watch goes on at another node when it loses one, and gives up only what no node could be asked for
    /// within the client's timeout; it may be asked again then, and goes on where it was.
    #[must_use]
    pub fn watch(&self, options: WatchOptions) -> Watch {
        let changes = RemoteChanges { client: self.clone(), place: Arc::default() };
        Watch::new(Arc::new(changes), options)
    }
}

/// The changes of a cluster, as one watch hears of them.
#[derive(Clone)]
struct RemoteChanges {
    client: Client,
    place: Arc<Mutex<Place>>,
}

#[derive(Debug, Default)]
struct Place {
    /// The history that is watched; none before the first node was met.
    epoch: Option<Epoch>,
    /// The node that was asked last, when it did not serve.
    failed: Option<String>,
}

/// Why a node has no page.
enum Miss {
    /// Another may.
    Elsewhere(String),
    End(WatchError),
}

impl crate::kv::watch::WatchSource for RemoteChanges {
    fn now(&self) -> BoxFuture<'static, Result<Index, WatchError>> {
        let changes = self.clone();
        async move {
            let (revision, link) = changes.newest().await?;
            changes.same_history(&link).await?;
            Ok(revision.next())
        }
        .boxed()
    }

    fn page(&self, ask: WatchAsk) -> BoxFuture<'static, Result<WatchPage, WatchError>> {
        let changes = self.clone();
        async move { changes.next(ask).await }.boxed()
    }
}

impl RemoteChanges {
    fn with<T>(&self, change: impl FnOnce(&mut Place) -> T) -> T {
        change(&mut self.place.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The last revision that was acknowledged before the call, at least, and whoever said so.
    async fn newest(&self) -> Result<(Index, Arc<Link>), WatchError> {
        let scan = Scan { limit: Some(0), ..Scan::default() };
        let body = RequestBody::Scan { consistency: Consistency::Linearizable, scan };
        let deadline = Instant::now() + self.client.shared.timeout;
        let (answer, link) = self.client.call_at(body, deadline, Patience::Again).await.map_err(ended)?;
        let Answer::Page(page) = answer else { return Err(ended(answer.out_of_place())) };
        Ok((page.revision, link))
    }

    /// Looks whether a node is in the history that is watched. One that belonged to no cluster when it was met says nothing
    /// of that.
    async fn same_history(&self, link: &Link) -> Result<(), WatchError> {
        let epoch = link.info().epoch;
        if epoch == Epoch::NONE || self.with(|place| *place.epoch.get_or_insert(epoch)) == epoch {
            return Ok(());
        }
        let (newest, _link) = self.newest().await?;
        Err(WatchError::Compacted { oldest: newest.next() })
    }

    async fn next(&self, ask: WatchAsk) -> Result<WatchPage, WatchError> {
        let mut give_up = None;
        loop {
            let reason = match self.attempt(&ask).await {
                Ok(page) => return Ok(page),
                Err(Miss::End(error)) => return Err(error),
                Err(Miss::Elsewhere(reason)) => reason,
            };
            let now = Instant::now();
            if now + RETRY_PAUSE >= *give_up.get_or_insert(now + self.client.shared.timeout) {
                return Err(WatchError::Unavailable(reason));
            }
            sleep(RETRY_PAUSE).await;
        }
    }

    /// Asks one node.
    async fn attempt(&self, ask: &WatchAsk) -> Result<WatchPage, Miss> {
        let routes = &self.client.shared.routes;
        let failed = self.with(|place| place.failed.clone());
        let deadline = Instant::now() + self.client.shared.timeout;
        let link = match routes.nearest_but(failed.as_deref(), deadline).await {
            Ok(link) => link,
            Err(ClientError::Unavailable(reason)) => return Err(Miss::Elsewhere(reason)),
            Err(hopeless) => return Err(Miss::End(ended(hopeless))),
        };
        self.same_history(&link).await.map_err(Miss::End)?;
        let outcome = link.call(RequestBody::Watch(ask.clone()), Instant::now() + POLL_WAIT).await;
        let failure = match outcome {
            Ok(Response { answer: Answer::Watched(page), .. }) => {
                self.with(|place| place.failed = None);
                return Ok(page);
            }
            Ok(Response { answer: Answer::Failed(failure), .. }) | Err(LinkError::Rejected(failure)) => failure,
            Ok(response) => return Err(Miss::End(ended(response.answer.out_of_place()))),
            Err(LinkError::NotSent(reason) | LinkError::Broken(reason)) => Failure::Unavailable(reason),
            Err(error @ LinkError::TimedOut) => Failure::Unavailable(error.to_string()),
        };
        let text = describe(&failure);
        Err(match failure {
            Failure::Compacted(oldest) => Miss::End(WatchError::Compacted { oldest }),
            Failure::Refused(_)
            | Failure::TooLarge(_)
            | Failure::Malformed(_)
            | Failure::Unsupported(_)
            | Failure::No(_) => Miss::End(WatchError::Refused(text)),
            Failure::Overloaded(_) => Miss::Elsewhere(text),
            Failure::Unknown(_) | Failure::Unavailable(_) | Failure::Stopped(_) | Failure::DiskFull(_) => {
                self.with(|place| place.failed = Some(link.info().address.clone()));
                routes.forget_nearest(&link);
                Miss::Elsewhere(text)
            }
        })
    }
}

/// What a watch tells of an error that more patience at other nodes does not cure.
fn ended(error: ClientError) -> WatchError {
    match error {
        ClientError::Unavailable(reason) | ClientError::Unknown(reason) => WatchError::Unavailable(reason),
        ClientError::No(_)
        | ClientError::Rejected(_)
        | ClientError::Refused(_)
        | ClientError::DiskFull(_)
        | ClientError::WrongCluster(_)
        | ClientError::Protocol(_)
        | ClientError::Usage(_) => WatchError::Refused(error.to_string()),
    }
}
