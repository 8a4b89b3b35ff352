//! Locks and elections for code without an async runtime. What they keep alive, they keep alive on the node's thread.

use std::time::Duration;

use bytes::Bytes;

use crate::types::{Index, LeaseId};

use super::super::super::api::KvError;
use super::super::super::recipes::{Election, Holder, Leaders, Leadership, LiveLease, Lock, LockGuard, Lost};
use super::super::super::txn::Compare;
use super::super::KvStore;
use super::block_on::{block_on, block_on_within};

/// A [`Lock`] for code without an async runtime; made by [`BlockingKvStore::lock`](super::BlockingKvStore::lock).
///
/// ```
/// # dledger::doctest::run(|store| async move {
/// let lock = store.blocking().lock("nightly-report").with_label("host-7");
/// let guard = lock.acquire()?; // blocks until its turn
/// println!("the report of token {}", guard.token());
/// assert!(lock.try_acquire()?.is_none());
/// assert_eq!(lock.holder()?.ok_or("nobody")?.value, "host-7");
/// guard.release()?;
/// # Ok(()) });
/// ```
#[derive(Clone, Debug)]
pub struct BlockingLock {
    lock: Lock<KvStore>,
}

impl BlockingLock {
    pub(super) fn new(lock: Lock<KvStore>) -> Self {
        Self { lock }
    }

    /// See [`Lock::with_ttl`].
    #[must_use]
    pub fn with_ttl(self, ttl: Duration) -> Self {
        Self { lock: self.lock.with_ttl(ttl) }
    }

    /// See [`Lock::with_label`].
    #[must_use]
    pub fn with_label(self, label: impl Into<Bytes>) -> Self {
        Self { lock: self.lock.with_label(label) }
    }

    /// See [`Lock::acquire`].
    ///
    /// # Errors
    /// See [`Lock::acquire`].
    pub fn acquire(&self) -> Result<BlockingLockGuard, KvError> {
        block_on(self.lock.acquire()).map(|guard| BlockingLockGuard { guard })
    }

    /// See [`Lock::acquire_within`].
    ///
    /// # Errors
    /// See [`Lock::acquire`].
    pub fn acquire_within(&self, patience: Duration) -> Result<Option<BlockingLockGuard>, KvError> {
        let guard = block_on(self.lock.acquire_within(patience))?;
        Ok(guard.map(|guard| BlockingLockGuard { guard }))
    }

    /// See [`Lock::try_acquire`].
    ///
    /// # Errors
    /// See [`Lock::acquire`].
    pub fn try_acquire(&self) -> Result<Option<BlockingLockGuard>, KvError> {
        let guard = block_on(self.lock.try_acquire())?;
        Ok(guard.map(|guard| BlockingLockGuard { guard }))
    }

    /// See [`Lock::holder`].
    ///
    /// # Errors
    /// Those of a read.
    pub fn holder(&self) -> Result<Option<Holder>, KvError> {
        block_on(self.lock.holder())
    }
}

/// A [`LockGuard`] for code without an async runtime. For an example see [`BlockingLock`].
#[derive(Debug)]
#[must_use = "dropped, it releases the lock"]
pub struct BlockingLockGuard {
    guard: LockGuard,
}

impl BlockingLockGuard {
    /// See [`LockGuard::token`].
    #[must_use]
    pub fn token(&self) -> Index {
        self.guard.token()
    }

    /// See [`LockGuard::condition`].
    #[must_use]
    pub fn condition(&self) -> Compare {
        self.guard.condition()
    }

    /// See [`LockGuard::lease`].
    #[must_use]
    pub fn lease(&self) -> LeaseId {
        self.guard.lease()
    }

    /// See [`LockGuard::is_held`].
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.guard.is_held()
    }

    /// Blocks until it is lost, or for this time; see [`LockGuard::lost`].
    #[must_use]
    pub fn lost_within(&self, patience: Duration) -> Option<Lost> {
        block_on_within(self.guard.lost(), patience)
    }

    /// See [`LockGuard::release`].
    ///
    /// # Errors
    /// See [`LockGuard::release`].
    pub fn release(self) -> Result<(), Lost> {
        block_on(self.guard.release())
    }
}

/// An [`Election`] for code without an async runtime; made by
/// [`BlockingKvStore::election`](super::BlockingKvStore::election).
///
/// ```
/// # dledger::doctest::run(|store| async move {
/// let election = store.blocking().election("scheduler");
/// let mut leaders = election.observe();
/// assert_eq!(leaders.next_leader()?, None);
///
/// let leadership = election.campaign("10.0.0.7:8080")?; // blocks until it leads
/// assert_eq!(leaders.next_leader()?.ok_or("nobody")?.token, leadership.token());
/// leadership.proclaim("10.0.0.7:9090")?;
/// assert_eq!(election.leader()?.ok_or("nobody")?.value, "10.0.0.7:9090");
/// leadership.resign()?;
/// # Ok(()) });
/// ```
#[derive(Clone, Debug)]
pub struct BlockingElection {
    election: Election<KvStore>,
}

impl BlockingElection {
    pub(super) fn new(election: Election<KvStore>) -> Self {
        Self { election }
    }

    /// See [`Election::with_ttl`].
    #[must_use]
    pub fn with_ttl(self, ttl: Duration) -> Self {
        Self { election: self.election.with_ttl(ttl) }
    }

    /// See [`Election::campaign`].
    ///
    /// # Errors
    /// See [`Election::campaign`].
    pub fn campaign(&self, value: impl Into<Bytes>) -> Result<BlockingLeadership, KvError> {
        block_on(self.election.campaign(value)).map(|leadership| BlockingLeadership { leadership })
    }

    /// See [`Election::campaign_within`].
    ///
    /// # Errors
    /// See [`Election::campaign`].
    pub fn campaign_within(
        &self,
        value: impl Into<Bytes>,
        patience: Duration,
    ) -> Result<Option<BlockingLeadership>, KvError> {
        let leadership = block_on(self.election.campaign_within(value, patience))?;
        Ok(leadership.map(|leadership| BlockingLeadership { leadership }))
    }

    /// See [`Election::leader`].
    ///
    /// # Errors
    /// Those of a read.
    pub fn leader(&self) -> Result<Option<Holder>, KvError> {
        block_on(self.election.leader())
    }

    /// See [`Election::observe`].
    #[must_use]
    pub fn observe(&self) -> BlockingLeaders {
        BlockingLeaders { leaders: self.election.observe() }
    }
}

/// A [`Leadership`] for code without an async runtime. For an example see [`BlockingElection`].
#[derive(Debug)]
#[must_use = "dropped, it resigns"]
pub struct BlockingLeadership {
    leadership: Leadership<KvStore>,
}

impl BlockingLeadership {
    /// See [`Leadership::token`].
    #[must_use]
    pub fn token(&self) -> Index {
        self.leadership.token()
    }

    /// See [`Leadership::condition`].
    #[must_use]
    pub fn condition(&self) -> Compare {
        self.leadership.condition()
    }

    /// See [`Leadership::lease`].
    #[must_use]
    pub fn lease(&self) -> LeaseId {
        self.leadership.lease()
    }

    /// See [`Leadership::is_held`].
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.leadership.is_held()
    }

    /// Blocks until it is lost, or for this time; see [`Leadership::lost`].
    #[must_use]
    pub fn lost_within(&self, patience: Duration) -> Option<Lost> {
        block_on_within(self.leadership.lost(), patience)
    }

    /// See [`Leadership::proclaim`].
    ///
    /// # Errors
    /// See [`Leadership::proclaim`].
    pub fn proclaim(&self, value: impl Into<Bytes>) -> Result<Index, KvError> {
        block_on(self.leadership.proclaim(value))
    }

    /// See [`Leadership::resign`].
    ///
    /// # Errors
    /// See [`Leadership::resign`].
    pub fn resign(self) -> Result<(), Lost> {
        block_on(self.leadership.resign())
    }
}

/// A [`Leaders`] for code without an async runtime. For an example see [`BlockingElection`].
#[derive(Debug)]
pub struct BlockingLeaders {
    leaders: Leaders<KvStore>,
}

impl BlockingLeaders {
    /// Blocks until there is something to tell; see [`Leaders::next`].
    ///
    /// # Errors
    /// See [`Leaders::next`].
    pub fn next_leader(&mut self) -> Result<Option<Holder>, KvError> {
        block_on(self.leaders.next())
    }

    /// The same, if there is something to tell within this time; a later call misses nothing.
    ///
    /// # Errors
    /// See [`Leaders::next`].
    pub fn next_leader_within(&mut self, patience: Duration) -> Result<Option<Option<Holder>>, KvError> {
        block_on_within(self.leaders.next(), patience).transpose()
    }
}

/// A [`LiveLease`] for code without an async runtime; made by
/// [`BlockingKvStore::live_lease`](super::BlockingKvStore::live_lease).
///
/// ```
/// # use dledger::Consistency;
/// # dledger::doctest::run(|store| async move {
/// let store = store.blocking();
/// let lease = store.live_lease(std::time::Duration::from_secs(10))?;
/// store.put_leased("service/mail/1", "10.0.0.7:25", lease.id())?;
/// lease.revoke()?;
/// assert_eq!(store.get("service/mail/1", Consistency::Linearizable)?, None);
/// # Ok(()) });
/// ```
#[derive(Debug)]
#[must_use = "dropped, it revokes the lease"]
pub struct BlockingLiveLease {
    lease: LiveLease,
}

impl BlockingLiveLease {
    pub(super) fn grant(store: &KvStore, ttl: Duration) -> Result<Self, KvError> {
        block_on(LiveLease::grant(store, ttl)).map(|lease| Self { lease })
    }

    /// See [`LiveLease::id`].
    #[must_use]
    pub fn id(&self) -> LeaseId {
        self.lease.id()
    }

    /// See [`LiveLease::is_alive`].
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.lease.is_alive()
    }

    /// Blocks until it is lost, or for this time; see [`LiveLease::lost`].
    #[must_use]
    pub fn lost_within(&self, patience: Duration) -> Option<Lost> {
        block_on_within(self.lease.lost(), patience)
    }

    /// See [`LiveLease::revoke`].
    ///
    /// # Errors
    /// See [`LiveLease::revoke`].
    pub fn revoke(self) -> Result<(), Lost> {
        block_on(self.lease.revoke())
    }
}
