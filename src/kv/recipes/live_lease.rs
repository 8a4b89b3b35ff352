//! A lease that lives as long as its owner.

use std::future::Future;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::oneshot;

use crate::types::LeaseId;

use super::super::api::{Kv, KvError};
use super::lease::KeptLease;
use super::tenure::{self, Lost, Tenure};

/// A lease that is kept alive in the background: keys that are put with it are there as long as this process is, and can reach
/// the cluster. Dropping it revokes the lease in the background where that can be done, and lets it end where not. It keeps its
/// store's handle alive.
///
/// ```
/// use std::time::Duration;
///
/// use dledger::kv::recipes::LiveLease;
/// # dledger::doctest::run(|store| async move {
///
/// let lease = LiveLease::grant(&store, Duration::from_secs(10)).await?;
/// store.put_leased("service/mail/1", "10.0.0.7:25", lease.id()).await?;
/// assert!(lease.is_alive());
///
/// lease.revoke().await?; // or when this process dies
/// assert_eq!(store.get("service/mail/1").await?, None);
/// # Ok(()) });
/// ```
#[derive(Debug)]
#[must_use = "dropped, it revokes the lease"]
pub struct LiveLease {
    id: LeaseId,
    tenure: Tenure,
}

impl LiveLease {
    /// Has a lease granted, and keeps it alive from then on. So long after the last sign of life its keys go: half a second to a
    /// year. A third of it should be well above the time of an election of the cluster.
    ///
    /// Cancel-safe: a lease that was granted to a dropped future ends by itself.
    ///
    /// # Errors
    /// Those of [`Kv::grant_lease`] and [`Kv::spawn`].
    pub async fn grant<K: Kv>(kv: &K, ttl: Duration) -> Result<Self, KvError> {
        let (tell, told) = oneshot::channel();
        kv.spawn(keep(kv.clone(), ttl, tell).boxed())?;
        told.await.unwrap_or_else(|_dropped| Err(KvError::Stopped("it runs no more tasks".to_owned())))
    }

    /// What keys are put with.
    #[must_use]
    pub fn id(&self) -> LeaseId {
        self.id
    }

    /// Whether it lives, by all that this process can know: asks nobody.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.tenure.is_held()
    }

    /// Resolves once it is lost, with the reason: its keys are gone, or will be. Whoever wants to be seen again needs another
    /// lease. Borrows nothing, so it can wait in a task of its own.
    pub fn lost(&self) -> impl Future<Output = Lost> + Send + use<> {
        self.tenure.lost()
    }

    /// Ends it: its keys are gone when this resolves.
    ///
    /// Cancel-safe: a dropped future revokes in the background.
    ///
    /// # Errors
    /// Why it had ended before, or that the cluster could not be told in its time.
    pub async fn revoke(self) -> Result<(), Lost> {
        self.tenure.give_up().await
    }
}

/// The task.
async fn keep<K: Kv>(kv: K, ttl: Duration, mut tell: oneshot::Sender<Result<LiveLease, KvError>>) {
    let granted = tokio::select! {
        granted = KeptLease::grant(&kv, ttl) => granted,
        () = tell.closed() => return,
    };
    let mut lease = match granted {
        Ok(lease) => lease,
        Err(error) => {
            let _caller_is_gone = tell.send(Err(error));
            return;
        }
    };
    let (tenure, keeper, given_up) = tenure::begin(lease.until());
    // One that nobody takes is dropped, and thereby given up.
    let _caller_is_gone = tell.send(Ok(LiveLease { id: lease.id, tenure }));
    let how = tokio::select! {
        lost = lease.keep(&kv, |until| keeper.confirm(until)) => Err(lost),
        reply = given_up => Ok(reply.ok()),
    };
    tenure::end(&kv, &lease, &keeper, how).await;
}
