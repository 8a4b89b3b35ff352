//! Writes, by whichever way they come: numbered for this handle, or as a remote client has made them.
//!
//! Limits are checked before anything is proposed, and a transaction that is refused names the place of its mistake.

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use crate::codec::DecodeError;
use crate::error::WriteError;
use crate::node::Proposal;
use crate::numbering::{Attempted, Miss, Way};
use crate::types::{Epoch, Index, LeaseId};

use super::super::answer::Answer;
use super::super::command::Command;
use super::super::done::{Done, ttl_ms};
use super::super::limits::may_use_reserve;
use super::super::range::KeyRange;
use super::super::txn::{Txn, TxnDone};
use super::super::{Deleted, LeaseStatus};
use super::KvStore;

impl KvStore {
    /// Sets a key that lives as long as a lease; the answer is its new revision.
    ///
    /// # Errors
    /// `Rejected` when the lease has ended; see [`WriteError`].
    pub async fn put_leased(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
        lease: LeaseId,
    ) -> Result<Index, WriteError> {
        let (key, value) = (key.into(), value.into());
        Ok(self.write(&Command::Put { key: &key, value: &value, lease }).await?.written()?)
    }

    /// Does a transaction, as one entry of the log.
    ///
    /// # Errors
    /// `TooLarge` when it is malformed or over a limit, with the place; `Rejected` when a branch cannot be done; see
    /// [`WriteError`].
    pub async fn transact(&self, txn: Txn) -> Result<TxnDone, WriteError> {
        Ok(self.write(&Command::Txn(txn)).await?.transacted()?)
    }

    /// Sets a key if there is none; the answer is its new revision, or `None` when there is one.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn put_if_absent(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
    ) -> Result<Option<Index>, WriteError> {
        Ok(self.transact(Txn::put_if_absent(key, value)).await?.if_succeeded())
    }

    /// Sets a key if it was last written at `revision` (zero: if it is absent); the answer is its new revision, or `None`.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn put_if_revision(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
        revision: Index,
    ) -> Result<Option<Index>, WriteError> {
        Ok(self.transact(Txn::put_if_revision(key, value, revision)).await?.if_succeeded())
    }

    /// Sets a key if its value is `expected`; the answer is its new revision, or `None`.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn compare_and_set(
        &self,
        key: impl Into<Bytes>,
        expected: impl Into<Bytes>,
        value: impl Into<Bytes>,
    ) -> Result<Option<Index>, WriteError> {
        Ok(self.transact(Txn::compare_and_set(key, expected, value)).await?.if_succeeded())
    }

    /// Adds to the number that a key holds as decimal text (an absent key holds 0); the answer is the sum.
    ///
    /// # Errors
    /// `Rejected` when it holds no number or the sum does not fit; see [`WriteError`].
    pub async fn increment(&self, key: impl Into<Bytes>, by: i64) -> Result<i64, WriteError> {
        let done = self.transact(Txn::add(key, by)).await?;
        done.sum().map_err(|reason| WriteError::Unknown(reason.to_owned()))
    }

    /// Deletes all keys of a range, as one change.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn delete_range(&self, range: KeyRange) -> Result<Deleted, WriteError> {
        let KeyRange { from, to } = &range;
        Ok(self.write(&Command::DeleteRange { from, to: to.as_deref() }).await?.deleted()?)
    }

    /// Makes a lease that lives `ttl` (half a second to a year, of log time) without being kept alive.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn grant_lease(&self, ttl: Duration) -> Result<LeaseId, WriteError> {
        Ok(self.write(&Command::GrantLease { ttl_ms: ttl_ms(ttl) }).await?.granted()?)
    }

    /// Lets a lease live its time to live from now on; the answer is that time. Those that come to this replica while
    /// one entry of them is under way go together into the next.
    ///
    /// # Errors
    /// `Rejected` when it has ended; see [`WriteError`].
    pub async fn keep_alive(&self, lease: LeaseId) -> Result<Duration, WriteError> {
        let (revision, answer) = self.keep_alives.keep(&self.node, vec![lease], self.timeout).await?;
        Ok(Done { revision, answer: Answer::KeptAlive(answer) }.kept_alive(lease)?)
    }

    /// Ends a lease and deletes its keys; the answer is how many went with the same entry. The others of a very large
    /// lease go with the entries right behind it.
    ///
    /// # Errors
    /// `Rejected` when it has ended; see [`WriteError`].
    pub async fn revoke_lease(&self, lease: LeaseId) -> Result<Deleted, WriteError> {
        Ok(self.write(&Command::RevokeLease { lease }).await?.deleted()?)
    }

    /// The leases that live, as this replica knows it, in the order of their ids.
    #[must_use]
    pub fn leases(&self) -> Vec<LeaseStatus> {
        self.reader().view().leases().collect()
    }

    /// Has a command done; once, if this handle numbers its writes.
    pub(super) async fn write(&self, command: &Command<'_>) -> Result<Done, WriteError> {
        self.limits().check(command).map_err(WriteError::TooLarge)?;
        let local = Local { store: self, reserve: may_use_reserve(command) };
        match &self.numbering {
            Some(numbering) => numbering.write(&local, command, Instant::now() + self.timeout).await,
            None => read(local.propose(command.encode(), self.timeout).await?),
        }
    }

    /// Has the command of a remote client done, as it stands; the revision of its entry, and the answer.
    ///
    /// # Errors
    /// First that it is not a command of this release, then what became of it. Neither was proposed when it could have
    /// stopped apply, or is over a limit.
    pub(crate) async fn command(&self, payload: Bytes) -> Result<Result<(Index, Bytes), WriteError>, DecodeError> {
        let command = Command::decode(&payload)?;
        if let Err(reason) = self.limits().check(&command) {
            return Ok(Err(WriteError::TooLarge(reason)));
        }
        if let Command::KeepAlive { leases } = command {
            let kept = self.keep_alives.keep(&self.node, leases, self.timeout).await;
            return Ok(kept.map(|(revision, answer)| (revision, Answer::KeptAlive(answer).encode())));
        }
        let local = Local { store: self, reserve: may_use_reserve(&command) };
        Ok(local.propose(payload.clone(), self.timeout).await)
    }
}

fn read((revision, answer): (Index, Bytes)) -> Result<Done, WriteError> {
    Done::read(revision, &answer)
        .map_err(|error| WriteError::Unknown(format!("it is done, but the answer cannot be read ({error})")))
}

/// The way through this replica.
struct Local<'a> {
    store: &'a KvStore,
    reserve: bool,
}

impl Local<'_> {
    async fn propose(&self, payload: Bytes, timeout: Duration) -> Result<(Index, Bytes), WriteError> {
        let proposal = Proposal { channel: 0, payload, reserve: self.reserve };
        let mut done = self.store.node.propose(vec![proposal], timeout).await?;
        Ok((done.last(), done.answers.pop().unwrap_or_default()))
    }
}

impl Way for Local<'_> {
    type Error = WriteError;

    /// A replica lives in one epoch.
    async fn attempt(
        &self,
        command: Bytes,
        _epoch: Option<Epoch>,
        deadline: Instant,
    ) -> Result<Attempted, Miss<WriteError>> {
        let left = deadline.saturating_duration_since(Instant::now());
        let done = self.propose(command, left).await.and_then(read);
        done.map(|done| Attempted { done, epoch: Epoch::NONE }).map_err(|error| match error {
            WriteError::Unknown(reason) => Miss::Lost(reason),
            WriteError::Unavailable(_) | WriteError::Overloaded(_) => Miss::NotDone(error),
            WriteError::TooLarge(_) | WriteError::DiskFull(_) | WriteError::Rejected(_) | WriteError::Stopped(_) => {
                Miss::Refused(error)
            }
        })
    }

    fn sleep_until(&self, until: Instant) -> BoxFuture<'static, ()> {
        let _context = self.store.node.runtime().enter();
        tokio::time::sleep_until(until).boxed()
    }

    fn unknown(reason: String) -> WriteError {
        WriteError::Unknown(reason)
    }

    fn late(reason: &str) -> WriteError {
        WriteError::Unavailable(reason.to_owned())
    }
}
