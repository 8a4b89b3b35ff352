//! A lock: one holder at a time, first come, first served.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;

use crate::types::{Index, LeaseId};

use super::super::api::{Kv, KvError};
use super::super::txn::Compare;
use super::DEFAULT_TTL;
use super::contest::{Contest, Held, Patience};
use super::queue::{Holder, Queue};
use super::tenure::Lost;

/// A lock for applications, by name. Handles of the same name, anywhere, are the same lock. See [the module](super) for what it
/// gives and what it does not.
///
/// ```
/// use dledger::kv::recipes::Lock;
/// # use dledger::kv::Kv;
/// # dledger::doctest::run(|store| async move {
///
/// let lock = Lock::new(&store, "nightly-report").with_label("host-7");
/// let guard = lock.acquire().await?; // waits for its turn
///
/// // Sent along with everything that the lock protects.
/// let token = guard.token();
/// assert!(guard.is_held());
/// assert_eq!(lock.holder().await?.ok_or("nobody")?.token, token);
///
/// // What is written to the store itself can be made to depend on the lock.
/// let write = dledger::kv::Txn {
///     compare: vec![guard.condition()],
///     then: vec![dledger::kv::TxnOp::put("report", "done")],
///     ..Default::default()
/// };
/// assert!(store.transact(write).await?.succeeded);
///
/// assert!(lock.try_acquire().await?.is_none());
/// guard.release().await?;
/// assert!(lock.try_acquire().await?.is_some());
/// # Ok(()) });
/// ```
#[derive(Clone)]
pub struct Lock<K> {
    kv: K,
    queue: Queue,
    ttl: Duration,
    label: Bytes,
}

impl<K: Kv> Lock<K> {
    /// A lock of this name: its keys start with the name and a slash, which should be nobody else's. Asks nobody yet.
    #[must_use]
    pub fn new(kv: &K, name: impl AsRef<[u8]>) -> Self {
        let queue = Queue::new(name.as_ref());
        Self { kv: kv.clone(), queue, ttl: DEFAULT_TTL, label: Bytes::new() }
    }

    /// With another time to live than [`DEFAULT_TTL`]: half a second to a year. So long after a holder's last sign of life the
    /// next one's turn comes. A third of it should be well above the time of an election.
    #[must_use]
    pub fn with_ttl(self, ttl: Duration) -> Self {
        Self { ttl, ..self }
    }

    /// With a label, for whoever wonders who holds it.
    #[must_use]
    pub fn with_label(self, label: impl Into<Bytes>) -> Self {
        Self { label: label.into(), ..self }
    }

    /// Waits for its turn and holds the lock. A contender whose lease ends while it waits (it was cut off, say) goes to the end
    /// of the queue.
    ///
    /// Cancel-safe: a dropped future gives its place up at once, or, where the cluster cannot be told, when its lease ends.
    ///
    /// # Errors
    /// Those of [`Kv::grant_lease`] and [`Kv::transact`], when the cluster cannot be asked for as long as a lease would live or
    /// refuses; nothing is held then.
    pub async fn acquire(&self) -> Result<LockGuard, KvError> {
        let gave_up = || KvError::Unavailable("nobody waited for the lock any more".to_owned());
        self.contend(Patience::Endless).await?.ok_or_else(gave_up)
    }

    /// As [`Lock::acquire`], but no longer than this; `None` when somebody else held it all the while.
    ///
    /// # Errors
    /// See [`Lock::acquire`].
    pub async fn acquire_within(&self, patience: Duration) -> Result<Option<LockGuard>, KvError> {
        self.contend(Patience::For(patience)).await
    }

    /// Holds the lock if nobody else does or waits for it; never waits for anybody but the cluster.
    ///
    /// # Errors
    /// See [`Lock::acquire`].
    pub async fn try_acquire(&self) -> Result<Option<LockGuard>, KvError> {
        self.contend(Patience::None).await
    }

    /// Who holds it. It may be another one by the time this is told.
    ///
    /// # Errors
    /// Those of a read.
    pub async fn holder(&self) -> Result<Option<Holder>, KvError> {
        Ok(self.queue.holder(&self.kv).await?.0)
    }

    async fn contend(&self, patience: Patience) -> Result<Option<LockGuard>, KvError> {
        let Self { kv, queue, ttl, label } = self.clone();
        let held = Contest { kv, queue, ttl, value: label, patience }.run().await?;
        Ok(held.map(|held| LockGuard { held }))
    }
}

impl<K> fmt::Debug for Lock<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").field("queue", &self.queue).field("ttl", &self.ttl).finish_non_exhaustive()
    }
}

/// A lock that is held. Dropping it releases the lock in the background where that can be done, and at the end of its lease
/// where not. It keeps its store's handle alive. For an example see [`Lock`].
#[derive(Debug)]
#[must_use = "dropped, it releases the lock"]
pub struct LockGuard {
    held: Held,
}

impl LockGuard {
    /// The fencing token: higher than that of every holder before. A resource that refuses a lower token than it has seen
    /// is safe from holders of the past.
    #[must_use]
    pub fn token(&self) -> Index {
        self.held.place.created
    }

    /// Holds of a transaction as long as this lock is held: what [`Txn::compare`](crate::kv::Txn::compare) needs to fence
    /// writes to the store itself.
    #[must_use]
    pub fn condition(&self) -> Compare {
        self.held.place.condition()
    }

    /// The lease that the lock lives with. Keys that are put with it go with the lock.
    #[must_use]
    pub fn lease(&self) -> LeaseId {
        self.held.place.lease
    }

    /// Whether it is held, by all that this process can know: asks nobody. The answer may be old by the time it is used, which
    /// is what the token is for. Time in which the machine is suspended is not seen.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.held.tenure.is_held()
    }

    /// Resolves once it is lost, with the reason: stop what the lock protects. Borrows nothing, so it can wait in a task of its
    /// own.
    pub fn lost(&self) -> impl Future<Output = Lost> + Send + use<> {
        self.held.tenure.lost()
    }

    /// Releases it; the next one's turn has come when this resolves.
    ///
    /// Cancel-safe: a dropped future releases it in the background.
    ///
    /// # Errors
    /// Why it was not held until now, or that the cluster could not be told before the lease ended: what was done under the
    /// lock may have overlapped with another holder's.
    pub async fn release(self) -> Result<(), Lost> {
        self.held.tenure.give_up().await
    }
}
