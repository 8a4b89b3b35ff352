//! A contender: the task that takes a place, waits for its turn, holds, and gives up.
//!
//! ```text
//!             ┌───────── lease ended while waiting ─────────┐
//!             ▼                                             │
//!   start ─► lease ─► place ─► first? ── no: wait for the one before ──┘
//!                                └─ yes ─► held ─► given up, dropped or lost ─► lease revoked, or left to end
//! ```
//! All of it runs in one task in the background, so a caller who goes away at any moment leaves nothing half done: the task
//! hears of it and revokes the lease, whose end takes a place that is still on its way with it. What the task cannot revoke
//! ends with the lease.

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until};

use crate::types::{Index, LeaseId};

use super::super::api::{Kv, KvError};
use super::lease::KeptLease;
use super::queue::{Place, Queue, RETRY_PAUSE, Standing, given_up};
use super::tenure::{self, Keeper, Lost, Reply, Tenure};

/// How long a contender waits for its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// Until it is its turn.
    Endless,
    /// So long in all.
    For(Duration),
    /// For answers of the cluster, but for no other contender.
    None,
}

/// Somebody who wants to be first in a queue.
#[derive(Debug)]
pub(super) struct Contest<K> {
    pub(super) kv: K,
    pub(super) queue: Queue,
    pub(super) ttl: Duration,
    pub(super) value: Bytes,
    pub(super) patience: Patience,
}

/// What the caller hears: `None` when its patience ended.
type Outcome = Result<Option<Held>, KvError>;

/// Being first.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) place: Place,
    pub(super) tenure: Tenure,
}

/// How waiting with one lease ended.
enum Turn {
    /// It is ours, as of this revision.
    Ours(Place, Index),
    /// The lease ended, or the place is gone: all over again.
    Lapsed,
    /// Patience ended, or nobody waits any more.
    Enough,
    /// It makes no sense to go on.
    Failed(KvError),
}

impl<K: Kv> Contest<K> {
    /// Contends. Dropping the future ends it.
    pub(super) async fn run(self) -> Outcome {
        let (tell, told) = oneshot::channel();
        let kv = self.kv.clone();
        kv.spawn(self.contend(tell).boxed())?;
        told.await.unwrap_or_else(|_dropped| Err(KvError::Stopped("it runs no more tasks".to_owned())))
    }

    /// The task.
    async fn contend(self, mut tell: oneshot::Sender<Outcome>) {
        let enough = match self.patience {
            Patience::For(patience) => Instant::now().checked_add(patience),
            Patience::Endless | Patience::None => None,
        };
        loop {
            let granted = tokio::select! {
                granted = KeptLease::grant(&self.kv, self.ttl) => granted,
                () = tell.closed() => return,
                () = until(enough) => return answer(tell, Ok(None)),
            };
            let mut lease = match granted {
                Ok(lease) => lease,
                Err(error) => return answer(tell, Err(error)),
            };
            let id = lease.id;
            let turn = tokio::select! {
                turn = self.wait(id) => turn.unwrap_or_else(Turn::Failed),
                lost = lease.keep(&self.kv, |_until| ()) => lapsed(lost),
                () = tell.closed() => Turn::Enough,
                () = until(enough) => Turn::Enough,
            };
            let outcome = match turn {
                Turn::Lapsed => continue,
                Turn::Ours(_, _) if Instant::now() >= lease.until() => continue,
                Turn::Ours(place, seen) => {
                    let (tenure, keeper, given_up) = tenure::begin(lease.until());
                    // One that nobody takes is dropped, and thereby given up.
                    answer(tell, Ok(Some(Held { place: place.clone(), tenure })));
                    let how = self.hold(&mut lease, &place, seen, (&keeper, given_up)).await;
                    if let Err(lost) = &how {
                        let key = place.key.escape_ascii();
                        tracing::warn!(%key, token = %place.created, %lost, "not held any more");
                    }
                    return tenure::end(&self.kv, &lease, &keeper, how).await;
                }
                Turn::Enough => Ok(None),
                Turn::Failed(error) => Err(error),
            };
            answer(tell, outcome);
            let _ends_by_itself = lease.revoke(&self.kv).await;
            return;
        }
    }

    /// Takes a place and waits until it is the first. Goes on for ever without the cluster: the lease does not.
    async fn wait(&self, lease: LeaseId) -> Result<Turn, KvError> {
        let place = loop {
            match self.queue.enter(&self.kv, lease, self.value.clone()).await {
                Ok(place) => break place,
                Err(KvError::Unknown(_) | KvError::Unavailable(_)) => sleep(RETRY_PAUSE).await,
                Err(KvError::Rejected(_)) => return Ok(Turn::Lapsed),
                Err(error) => return Err(error),
            }
        };
        loop {
            match self.queue.standing(&self.kv, &place).await {
                Ok(Standing::First(seen)) => return Ok(Turn::Ours(place, seen)),
                Ok(Standing::Gone) => return Ok(Turn::Lapsed),
                Ok(Standing::Behind(..)) if self.patience == Patience::None => return Ok(Turn::Enough),
                Ok(Standing::Behind(ahead, seen)) => given_up(&self.kv, &ahead, seen).await?,
                Err(KvError::Unavailable(_)) => sleep(RETRY_PAUSE).await,
                Err(error) => return Err(error),
            }
        }
    }

    /// Holds until it is given up (with whom to tell, unless the holder was dropped) or lost.
    async fn hold(
        &self,
        lease: &mut KeptLease,
        place: &Place,
        seen: Index,
        (keeper, given_up): (&Keeper, oneshot::Receiver<Reply>),
    ) -> Result<Option<Reply>, Lost> {
        tokio::select! {
            lost = lease.keep(&self.kv, |until| keeper.confirm(until)) => Err(lost),
            lost = self.ended(place, seen) => Err(lost),
            reply = given_up => Ok(reply.ok()),
        }
    }

    /// Resolves once the place is gone without our doing. Where it cannot be watched, the keep-alives have to do.
    async fn ended(&self, place: &Place, seen: Index) -> Lost {
        match given_up(&self.kv, place, seen).await {
            Ok(()) => Lost::Ended,
            Err(KvError::Stopped(_)) => Lost::Stopped,
            Err(_) => std::future::pending().await,
        }
    }
}

/// What becomes of a contender that lost its lease while it waited.
fn lapsed(lost: Lost) -> Turn {
    match lost {
        Lost::Stopped => Turn::Failed(KvError::Stopped("it was shut down".to_owned())),
        Lost::Unconfirmed | Lost::Ended | Lost::GivenUp => Turn::Lapsed,
    }
}

fn answer(tell: oneshot::Sender<Outcome>, outcome: Outcome) {
    let _caller_is_gone = tell.send(outcome);
}

/// Sleeps until then, or for ever.
async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
