//! Writes: commands of the store, numbered so that they may be sent again.

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep_until};

use crate::kv::command::Command;
use crate::kv::done::{Done, Untold, ttl_ms};
use crate::kv::{Deleted, KeyRange, LeaseStatus, Txn, TxnDone};
use crate::numbering::{Attempted, Miss, Way};
use crate::server::protocol::{Answer, RequestBody};
use crate::types::{Epoch, Index, LeaseId};

use super::error::ClientError;
use super::{Client, Patience, Shared, Step};

impl Client {
    /// Sets a key. Answers its new revision, once a quorum has it durable.
    ///
    /// # Errors
    /// By the table in [`crate::client`]. Dropping the future leaves the outcome unknown.
    pub async fn put(&self, key: Bytes, value: Bytes) -> Result<Index, ClientError> {
        Ok(self.write(&Command::put(&key, &value)).await?.written()?)
    }

    /// Sets a key that lives as long as a lease. Answers its new revision.
    ///
    /// # Errors
    /// `Rejected` when the lease has ended; else as for [`Client::put`].
    pub async fn put_leased(&self, key: Bytes, value: Bytes, lease: LeaseId) -> Result<Index, ClientError> {
        Ok(self.write(&Command::Put { key: &key, value: &value, lease }).await?.written()?)
    }

    /// Sets several keys, in this order, one behind the other in the log. Answers the revision of the last. A batch is not
    /// numbered: it is sent once.
    ///
    /// # Errors
    /// As for [`Client::put`]; when the outcome is unknown, none, some or all may have happened.
    pub async fn put_batch(&self, pairs: Vec<(Bytes, Bytes)>) -> Result<Index, ClientError> {
        let answer = self.call(RequestBody::PutBatch { term: None, pairs }).await?;
        if let Answer::Written(revision) = answer { Ok(revision) } else { Err(answer.out_of_place()) }
    }

    /// Deletes a key. Answers how many keys were deleted (0 or 1) and the revision of it.
    ///
    /// # Errors
    /// As for [`Client::put`].
    pub async fn delete(&self, key: Bytes) -> Result<Deleted, ClientError> {
        Ok(self.write(&Command::Delete { key: &key }).await?.deleted()?)
    }

    /// Deletes all keys that start with `prefix`; all keys for the empty one.
    ///
    /// # Errors
    /// As for [`Client::put`].
    pub async fn delete_prefix(&self, prefix: Bytes) -> Result<Deleted, ClientError> {
        self.delete_range(KeyRange::of_prefix(prefix)).await
    }

    /// Deletes all keys of a range, as one change.
    ///
    /// # Errors
    /// As for [`Client::put`].
    pub async fn delete_range(&self, range: KeyRange) -> Result<Deleted, ClientError> {
        let KeyRange { from, to } = &range;
        Ok(self.write(&Command::DeleteRange { from, to: to.as_deref() }).await?.deleted()?)
    }

    /// Does a transaction, as one entry of the log.
    ///
    /// # Errors
    /// `Refused` when it is malformed or over a limit, with the place; `Rejected` when a branch cannot be done; else as
    /// for [`Client::put`].
    pub async fn transact(&self, txn: Txn) -> Result<TxnDone, ClientError> {
        Ok(self.write(&Command::Txn(txn)).await?.transacted()?)
    }

    /// Makes a lease that lives `ttl` (half a second to a year, of log time) without being kept alive.
    ///
    /// # Errors
    /// As for [`Client::put`].
    pub async fn grant_lease(&self, ttl: Duration) -> Result<LeaseId, ClientError> {
        Ok(self.write(&Command::GrantLease { ttl_ms: ttl_ms(ttl) }).await?.granted()?)
    }

    /// Lets a lease live its time to live from now on; answers that time. It is sent again until the timeout, since twice
    /// does no harm. Those that come to a node together are one entry of the log.
    ///
    /// # Errors
    /// `Rejected` when the lease has ended; else as for [`Client::put`].
    pub async fn keep_alive(&self, lease: LeaseId) -> Result<Duration, ClientError> {
        let command = Command::KeepAlive { leases: vec![lease] }.encode();
        let deadline = Instant::now() + self.shared.timeout;
        let answer = self.call_by(RequestBody::Command(command), deadline, Patience::Again).await?;
        Ok(done(answer)?.kept_alive(lease)?)
    }

    /// Ends a lease and deletes its keys; answers how many went with the same entry. The others of a very large lease go
    /// with the entries right behind it.
    ///
    /// # Errors
    /// `Rejected` when the lease has ended; else as for [`Client::put`].
    pub async fn revoke_lease(&self, lease: LeaseId) -> Result<Deleted, ClientError> {
        Ok(self.write(&Command::RevokeLease { lease }).await?.deleted()?)
    }

    /// The leases that live, in the order of their ids; linearizable. Of many, those granted or ended meanwhile may be
    /// missing or not.
    ///
    /// # Errors
    /// As for [`Client::get`].
    pub async fn leases(&self) -> Result<Vec<LeaseStatus>, ClientError> {
        let (mut leases, mut from) = (Vec::<LeaseStatus>::new(), LeaseId::ZERO);
        loop {
            let answer = self.call(RequestBody::Leases { from }).await?;
            let Answer::Leases(part) = answer else { return Err(answer.out_of_place()) };
            let Some(last) = part.last() else { return Ok(leases) };
            from = LeaseId(last.lease.get().saturating_add(1));
            leases.extend(part);
        }
    }

    /// Ends the session of this client and its clones, where one is open, so that the cluster need not keep it until its
    /// time is up. Dropping the last clone does the same, as far as the runtime goes on for long enough. A later write
    /// opens another.
    pub async fn close(&self) {
        if let Some(session) = self.shared.numbering.take() {
            let command = Command::CloseSession { session }.encode();
            let deadline = Instant::now() + self.shared.timeout;
            let _dies_by_itself = self.call_by(RequestBody::Command(command), deadline, Patience::Again).await;
        }
    }

    /// Has a command done; once, if this handle numbers its writes.
    async fn write(&self, command: &Command<'_>) -> Result<Done, ClientError> {
        if self.numbered {
            let deadline = Instant::now() + self.shared.timeout;
            return self.shared.numbering.write(&*self.shared, command, deadline).await;
        }
        done(self.call(RequestBody::Command(command.encode())).await?)
    }
}

/// What a node answered to a command.
fn done(answer: Answer) -> Result<Done, ClientError> {
    let Answer::Done(revision, answer) = answer else { return Err(answer.out_of_place()) };
    Done::read(revision, &answer)
        .map_err(|error| ClientError::Unknown(format!("it is done, but the answer cannot be read ({error})")))
}

impl From<Untold> for ClientError {
    fn from(untold: Untold) -> Self {
        match untold {
            Untold::Rejected(rejection) => Self::Rejected(rejection),
            Untold::Lost(reason) => Self::Unknown(reason.to_owned()),
        }
    }
}

impl Way for Shared {
    type Error = ClientError;

    async fn attempt(
        &self,
        command: Bytes,
        epoch: Option<Epoch>,
        deadline: Instant,
    ) -> Result<Attempted, Miss<ClientError>> {
        let body = RequestBody::Command(command);
        let (answer, link) = match self.attempt_in(&body, epoch, deadline, Patience::Again).await {
            Ok(answered) => answered,
            Err(Step::OtherEpoch) => return Err(Miss::OtherEpoch),
            Err(Step::Lost(reason)) => return Err(Miss::Lost(reason)),
            // So ends the search for a leader, and a request that was not sent for lack of time.
            Err(Step::Again(error) | Step::Stop(error @ ClientError::Unavailable(_))) => {
                return Err(Miss::NotDone(error));
            }
            Err(Step::Stop(error)) => return Err(Miss::Refused(error)),
        };
        match done(answer) {
            Ok(done) => Ok(Attempted { done, epoch: link.info().epoch }),
            Err(ClientError::Unknown(reason)) => Err(Miss::Lost(reason)),
            Err(error) => Err(Miss::Refused(error)),
        }
    }

    fn sleep_until(&self, until: Instant) -> BoxFuture<'static, ()> {
        sleep_until(until).boxed()
    }

    fn unknown(reason: String) -> ClientError {
        ClientError::Unknown(reason)
    }

    fn late(reason: &str) -> ClientError {
        ClientError::Unavailable(reason.to_owned())
    }
}

impl Drop for Shared {
    /// Ends the session, where that costs nothing but a request on a connection that is there.
    fn drop(&mut self) {
        let (Some(session), Ok(runtime)) = (self.numbering.take(), tokio::runtime::Handle::try_current()) else {
            return;
        };
        if let Some(route) = self.routes.present() {
            let deadline = Instant::now() + self.timeout;
            let close = RequestBody::Command(Command::CloseSession { session }.encode());
            runtime.spawn(async move {
                let _dies_by_itself = route.link.call(close, deadline).await;
            });
        }
    }
}
