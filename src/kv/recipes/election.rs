//! An election among the replicas of a service: one leads, with a value that all can see, and the next one takes over.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;

use crate::error::Rejection;
use crate::types::{Index, LeaseId};

use super::super::api::{Kv, KvError};
use super::super::txn::{Compare, Txn, TxnOp};
use super::DEFAULT_TTL;
use super::contest::{Contest, Held, Patience};
use super::leaders::Leaders;
use super::queue::{Holder, Queue};
use super::tenure::Lost;

/// An election, by name. It elects among whoever campaigns; who leads the cluster itself is another matter, and none of an
/// application's. What [the module](super) says of locks holds of leaders as well: the token is what keeps a leader of the
/// past from doing harm.
///
/// ```
/// use dledger::kv::recipes::Election;
/// # dledger::doctest::run(|store| async move {
///
/// let election = Election::new(&store, "scheduler");
/// let mut leaders = election.observe();
///
/// let leadership = election.campaign("10.0.0.7:8080").await?; // waits until it leads
/// let seen = leaders.next().await?.ok_or("nobody leads")?;
/// assert_eq!((seen.value.as_ref(), seen.token), (b"10.0.0.7:8080".as_ref(), leadership.token()));
///
/// leadership.proclaim("10.0.0.7:9090").await?;
/// assert_eq!(leaders.next().await?.ok_or("nobody leads")?.value, "10.0.0.7:9090");
///
/// leadership.resign().await?;
/// assert_eq!(leaders.next().await?, None);
/// assert_eq!(election.leader().await?, None);
/// # Ok(()) });
/// ```
#[derive(Clone)]
pub struct Election<K> {
    kv: K,
    queue: Queue,
    ttl: Duration,
}

impl<K: Kv> Election<K> {
    /// An election of this name: its keys start with the name and a slash, which should be nobody else's. Asks nobody yet.
    #[must_use]
    pub fn new(kv: &K, name: impl AsRef<[u8]>) -> Self {
        Self { kv: kv.clone(), queue: Queue::new(name.as_ref()), ttl: DEFAULT_TTL }
    }

    /// With another time to live than [`DEFAULT_TTL`]: half a second to a year. So long after a leader's last sign of life the
    /// next one's turn comes. A third of it should be well above the time of an election of the cluster.
    #[must_use]
    pub fn with_ttl(self, ttl: Duration) -> Self {
        Self { ttl, ..self }
    }

    /// Waits until it leads, with a value for all to see, such as where it is reached. Candidates lead in the order in which
    /// they came.
    ///
    /// Cancel-safe: a dropped future ends the candidacy at once, or, where the cluster cannot be told, when its lease ends.
    ///
    /// # Errors
    /// Those of [`Kv::grant_lease`] and [`Kv::transact`], when the cluster cannot be asked for as long as a lease would live or
    /// refuses.
    pub async fn campaign(&self, value: impl Into<Bytes>) -> Result<Leadership<K>, KvError> {
        let gave_up = || KvError::Unavailable("nobody waited for the election any more".to_owned());
        self.contend(value.into(), Patience::Endless).await?.ok_or_else(gave_up)
    }

    /// As [`Election::campaign`], but no longer than this; `None` when somebody else led all the while.
    ///
    /// # Errors
    /// See [`Election::campaign`].
    pub async fn campaign_within(
        &self,
        value: impl Into<Bytes>,
        patience: Duration,
    ) -> Result<Option<Leadership<K>>, KvError> {
        self.contend(value.into(), Patience::For(patience)).await
    }

    /// Who leads, as all nodes agree when it is asked.
    ///
    /// # Errors
    /// Those of a read.
    pub async fn leader(&self) -> Result<Option<Holder>, KvError> {
        Ok(self.queue.holder(&self.kv).await?.0)
    }

    /// Follows who leads, from now on.
    #[must_use]
    pub fn observe(&self) -> Leaders<K> {
        Leaders::new(self.kv.clone(), self.queue.clone())
    }

    async fn contend(&self, value: Bytes, patience: Patience) -> Result<Option<Leadership<K>>, KvError> {
        let Self { kv, queue, ttl } = self.clone();
        let held = Contest { kv, queue, ttl, value, patience }.run().await?;
        Ok(held.map(|held| Leadership { kv: self.kv.clone(), held }))
    }
}

impl<K> fmt::Debug for Election<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Election").field("queue", &self.queue).field("ttl", &self.ttl).finish_non_exhaustive()
    }
}

/// An office that is held. Dropping it resigns in the background where that can be done, and at the end of its lease where not.
/// It keeps its store's handle alive. For an example see [`Election`].
#[must_use = "dropped, it resigns"]
pub struct Leadership<K> {
    kv: K,
    held: Held,
}

impl<K: Kv> Leadership<K> {
    /// The fencing token: higher than that of every leader before. See [`LockGuard::token`](super::LockGuard::token).
    #[must_use]
    pub fn token(&self) -> Index {
        self.held.place.created
    }

    /// Holds of a transaction as long as this leader leads. See [`LockGuard::condition`](super::LockGuard::condition).
    #[must_use]
    pub fn condition(&self) -> Compare {
        self.held.place.condition()
    }

    /// The lease that the office lives with. Keys that are put with it go with the office.
    #[must_use]
    pub fn lease(&self) -> LeaseId {
        self.held.place.lease
    }

    /// Whether it leads, by all that this process can know. See [`LockGuard::is_held`](super::LockGuard::is_held).
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.held.tenure.is_held()
    }

    /// Resolves once it leads no more, with the reason. Borrows nothing, so it can wait in a task of its own.
    pub fn lost(&self) -> impl Future<Output = Lost> + Send + use<K> {
        self.held.tenure.lost()
    }

    /// Shows another value; the token stays. Never undoes what a later leader shows.
    ///
    /// # Errors
    /// `Rejected` when it leads no more; those of [`Kv::transact`].
    pub async fn proclaim(&self, value: impl Into<Bytes>) -> Result<Index, KvError> {
        let place = &self.held.place;
        let put = TxnOp::put_leased(place.key.clone(), value, place.lease);
        let done =
            self.kv.transact(Txn { compare: vec![place.condition()], then: vec![put], ..Txn::default() }).await?;
        if done.succeeded { Ok(done.revision) } else { Err(Rejection::NoLease(place.lease).into()) }
    }

    /// Resigns; the next one's turn has come when this resolves.
    ///
    /// Cancel-safe: a dropped future resigns in the background.
    ///
    /// # Errors
    /// See [`LockGuard::release`](super::LockGuard::release).
    pub async fn resign(self) -> Result<(), Lost> {
        self.held.tenure.give_up().await
    }
}

impl<K> fmt::Debug for Leadership<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leadership").field("held", &self.held).finish_non_exhaustive()
    }
}
