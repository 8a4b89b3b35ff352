//! Holding: what the holder has in hand, while a task in the background keeps it.
//!
//! Needs no runtime of its own: everything here is looked up or waited for on channels, on any thread. The task is told to
//! give up by a message, or by the end of the channel when the holder is dropped.

use std::fmt;
use std::future::Future;

use thiserror::Error;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::super::api::Kv;
use super::lease::KeptLease;

/// Why something is not held any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Lost {
    /// No keep-alive was confirmed for as long as the lease lives: the cluster could not be reached, or this process was
    /// paused. Somebody else may hold it by now.
    #[error("the cluster confirmed nothing for as long as the lease lives; somebody else may hold it by now")]
    Unconfirmed,
    /// The cluster ended the lease, or somebody deleted the key. Somebody else may hold it by now.
    #[error("the lease has ended, or its key was deleted; somebody else may hold it by now")]
    Ended,
    /// The node of this process has stopped, and keeps nothing alive.
    #[error("the node has stopped; the lease ends by itself")]
    Stopped,
    /// It was given up.
    #[error("it was given up")]
    GivenUp,
}

/// What the task shows.
#[derive(Clone, Copy, Debug)]
struct State {
    /// From then on it may be somebody else's.
    until: Instant,
    lost: Option<Lost>,
}

/// Hears how giving up went.
pub(super) type Reply = oneshot::Sender<Result<(), Lost>>;

/// What the holder has in hand. Dropping it gives up, in the background.
pub(super) struct Tenure {
    state: watch::Receiver<State>,
    give_up: oneshot::Sender<Reply>,
}

/// The other end, in the task. Dropping it ends the tenure.
pub(super) struct Keeper(watch::Sender<State>);

/// A tenure that may be relied on until some time, and what the task needs for it. The receiver hears that it is given up,
/// and whom to tell unless the holder was dropped.
pub(super) fn begin(until: Instant) -> (Tenure, Keeper, oneshot::Receiver<Reply>) {
    let (show, state) = watch::channel(State { until, lost: None });
    let (give_up, given_up) = oneshot::channel();
    (Tenure { state, give_up }, Keeper(show), given_up)
}

impl Tenure {
    /// Whether it may be relied on now, by this machine's monotonic clock.
    pub(super) fn is_held(&self) -> bool {
        let task_is_gone = self.state.has_changed().is_err();
        let State { until, lost } = *self.state.borrow();
        !task_is_gone && lost.is_none() && Instant::now() < until
    }

    /// Resolves once it is lost.
    pub(super) fn lost(&self) -> impl Future<Output = Lost> + Send + use<> {
        let mut state = self.state.clone();
        async move {
            match state.wait_for(|state| state.lost.is_some()).await {
                Ok(state) => state.lost.unwrap_or(Lost::Stopped),
                Err(_task_is_gone) => Lost::Stopped,
            }
        }
    }

    /// Gives up. Fine if it was held to this moment.
    pub(super) async fn give_up(self) -> Result<(), Lost> {
        let (reply, replied) = oneshot::channel();
        let Self { state, give_up } = self;
        let why_lost = || state.borrow().lost.unwrap_or(Lost::Stopped);
        if give_up.send(reply).is_err() {
            return Err(why_lost());
        }
        replied.await.unwrap_or_else(|_task_is_gone| Err(why_lost()))
    }
}

impl fmt::Debug for Tenure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tenure").field("held", &self.is_held()).finish_non_exhaustive()
    }
}

impl Keeper {
    /// May be relied on until then.
    pub(super) fn confirm(&self, until: Instant) {
        self.0.send_modify(|state| state.until = until);
    }

    /// It is lost.
    pub(super) fn lose(&self, lost: Lost) {
        self.0.send_modify(|state| state.lost = Some(lost));
    }
}

/// Ends a tenure: lost, or given up, with whom to tell unless the holder was dropped. A lost lease is not revoked: it ends by
/// itself, and not before the holder was told.
pub(super) async fn end<K: Kv>(kv: &K, lease: &KeptLease, keeper: &Keeper, how: Result<Option<Reply>, Lost>) {
    match how {
        Err(lost) => keeper.lose(lost),
        Ok(reply) => {
            let revoked = lease.revoke(kv).await;
            keeper.lose(revoked.err().unwrap_or(Lost::GivenUp));
            if let Some(reply) = reply {
                let _holder_is_gone = reply.send(revoked);
            }
        }
    }
}
