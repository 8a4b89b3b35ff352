//! Writes that have an answer: deletes, transactions, leases.
//!
//! Limits are checked before anything is proposed, and a transaction that is refused names the place of its mistake.

use std::time::Duration;

use bytes::Bytes;

use crate::error::WriteError;
use crate::node::Proposal;
use crate::types::{Index, LeaseId};

use super::super::answer::Answer;
use super::super::command::Command;
use super::super::range::KeyRange;
use super::super::txn::{Condition, Txn, TxnDone, TxnOp, TxnPart};
use super::super::{Deleted, LeaseStatus};
use super::KvStore;

/// The shortest and the longest time to live of a lease: shorter, it could not be kept alive across a failover.
const LEASE_TTL: std::ops::RangeInclusive<Duration> = Duration::from_millis(500)..=Duration::from_secs(365 * 24 * 3600);

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
        self.check_key(&key)?;
        self.check_value(&value)?;
        let (revision, answer) = self.write(&Command::Put { key: &key, value: &value, lease }, false).await?;
        if answer == Answer::Done { Ok(revision) } else { Err(out_of_place(answer)) }
    }

    /// Does a transaction, as one entry of the log.
    ///
    /// # Errors
    /// `TooLarge` when it is malformed or over a limit, with the place; `Rejected` when a branch cannot be done; see
    /// [`WriteError`].
    pub async fn transact(&self, txn: Txn) -> Result<TxnDone, WriteError> {
        self.check_txn(&txn)?;
        match self.write(&Command::Txn(txn), false).await? {
            (revision, Answer::Txn { succeeded, results }) => Ok(TxnDone { succeeded, revision, results }),
            (_, other) => Err(out_of_place(other)),
        }
    }

    /// Deletes all keys of a range, as one change.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn delete_range(&self, range: KeyRange) -> Result<Deleted, WriteError> {
        self.check_length("start of a range", &range.from)?;
        self.check_length("end of a range", range.to.as_deref().unwrap_or_default())?;
        self.deleting(&Command::DeleteRange { from: &range.from, to: range.to.as_deref() }).await
    }

    /// Makes a lease that lives `ttl` (half a second to a year, of log time) without being kept alive.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn grant_lease(&self, ttl: Duration) -> Result<LeaseId, WriteError> {
        if !LEASE_TTL.contains(&ttl) {
            let (least, most) = (LEASE_TTL.start().as_millis(), LEASE_TTL.end().as_secs());
            let ttl = ttl.as_millis();
            return Err(WriteError::TooLarge(format!("a lease of {ttl} ms; it must live {least} ms to {most} s")));
        }
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        match self.write(&Command::GrantLease { ttl_ms }, true).await? {
            (revision, Answer::Done) => Ok(LeaseId(revision.get())),
            (_, other) => Err(out_of_place(other)),
        }
    }

    /// Lets a lease live its time to live from now on; the answer is that time.
    ///
    /// # Errors
    /// `Rejected` when it has ended; see [`WriteError`].
    pub async fn keep_alive(&self, lease: LeaseId) -> Result<Duration, WriteError> {
        match self.write(&Command::KeepAlive { leases: vec![lease] }, true).await? {
            (_, Answer::KeptAlive(leases)) => match leases.first() {
                Some(Some(ttl_ms)) => Ok(Duration::from_millis(*ttl_ms)),
                Some(None) | None => Err(crate::error::Rejection::NoLease(lease).into()),
            },
            (_, other) => Err(out_of_place(other)),
        }
    }

    /// Ends a lease and deletes its keys; the answer is how many went with the same entry. The others of a very large
    /// lease go with the entries right behind it.
    ///
    /// # Errors
    /// `Rejected` when it has ended; see [`WriteError`].
    pub async fn revoke_lease(&self, lease: LeaseId) -> Result<Deleted, WriteError> {
        self.deleting(&Command::RevokeLease { lease }).await
    }

    /// The leases that live, as this replica knows it, in the order of their ids.
    #[must_use]
    pub fn leases(&self) -> Vec<LeaseStatus> {
        self.reader().view().leases().collect()
    }

    /// Proposes a command; the revision and the answer of the entry that did it.
    pub(super) async fn write(&self, command: &Command<'_>, reserve: bool) -> Result<(Index, Answer), WriteError> {
        let proposal = Proposal { channel: 0, payload: command.encode(), reserve };
        let done = self.node.propose(vec![proposal], self.timeout).await?;
        let bytes = done.answers.first().map(AsRef::as_ref).unwrap_or_default();
        match Answer::decode(bytes) {
            Ok(Answer::First { revision, answer }) => Ok((revision, *answer)),
            Ok(answer) => Ok((done.last(), answer)),
            Err(error) => Err(WriteError::Unknown(format!("it is done, but the answer cannot be read ({error})"))),
        }
    }

    pub(super) async fn deleting(&self, command: &Command<'_>) -> Result<Deleted, WriteError> {
        match self.write(command, true).await? {
            (revision, Answer::Deleted(count)) => Ok(Deleted { count, revision }),
            (_, other) => Err(out_of_place(other)),
        }
    }

    fn check_txn(&self, txn: &Txn) -> Result<(), WriteError> {
        txn.check().map_err(|error| WriteError::TooLarge(error.to_string()))?;
        let at = |place: &str, checked: Result<(), WriteError>| {
            checked.map_err(|error| match error {
                WriteError::TooLarge(reason) => WriteError::TooLarge(format!("{place}: {reason}")),
                other => other,
            })
        };
        for (place, part) in txn.parts() {
            let (key, value) = match part {
                TxnPart::Compare(compare) => match &compare.condition {
                    Condition::Value(_, value) => (&compare.key, Some(value)),
                    Condition::Exists(_)
                    | Condition::Version(..)
                    | Condition::CreateRevision(..)
                    | Condition::ModRevision(..) => (&compare.key, None),
                },
                TxnPart::Op(TxnOp::Put { key, value, .. }) => (key, Some(value)),
                TxnPart::Op(op) => (op.key(), None),
            };
            at(&place, self.check_key(key))?;
            at(&place, value.map_or(Ok(()), |value| self.check_value(value)))?;
        }
        Ok(())
    }
}

/// An answer that says that nothing was changed, or one that does not fit the command.
fn out_of_place(answer: Answer) -> WriteError {
    match answer {
        Answer::Rejected(rejection) => rejection.into(),
        Answer::NotKept => WriteError::Unknown("it is done, but its answer was too large to be kept".to_owned()),
        Answer::Done | Answer::Deleted(_) | Answer::Txn { .. } | Answer::KeptAlive(_) | Answer::First { .. } => {
            WriteError::Unknown("it is done, but the answer is one to another command".to_owned())
        }
    }
}
