//! What a command came to, as its caller is told: the same for a replica in this process and for a client.

use std::time::Duration;

use crate::codec::DecodeError;
use crate::error::{Rejection, WriteError};
use crate::types::{Index, LeaseId};

use super::Deleted;
use super::answer::Answer;
use super::txn::TxnDone;

/// A command that was done, or rejected by all replicas alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    /// The entry that did it.
    pub(crate) revision: Index,
    /// What the machine answered, never a first answer.
    pub(crate) answer: Answer,
}

/// Why there is nothing to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Untold {
    /// It changed nothing.
    Rejected(Rejection),
    /// It is done, but what came of it is not known.
    Lost(&'static str),
}

impl From<Untold> for WriteError {
    fn from(untold: Untold) -> Self {
        match untold {
            Untold::Rejected(rejection) => Self::Rejected(rejection),
            Untold::Lost(reason) => Self::Unknown(reason.to_owned()),
        }
    }
}

impl Done {
    /// Reads what the entry at `revision` was answered. The answer to a numbered command names the entry that did it.
    ///
    /// # Errors
    /// When it is not an answer of this release.
    pub(crate) fn read(revision: Index, answer: &[u8]) -> Result<Self, DecodeError> {
        let answer = Answer::decode(answer)?;
        Ok(if let Answer::First { revision, answer } = answer {
            Self { revision, answer: *answer }
        } else {
            Self { revision, answer }
        })
    }

    fn untold(self) -> Untold {
        match self.answer {
            Answer::Rejected(rejection) => Untold::Rejected(rejection),
            Answer::NotKept => Untold::Lost("it is done, but its answer was too large to be kept"),
            Answer::Done | Answer::Deleted(_) | Answer::Txn { .. } | Answer::KeptAlive(_) | Answer::First { .. } => {
                Untold::Lost("it is done, but the answer is one to another command")
            }
        }
    }

    /// Of a put: its revision.
    pub(crate) fn written(self) -> Result<Index, Untold> {
        if self.answer == Answer::Done { Ok(self.revision) } else { Err(self.untold()) }
    }

    /// Of a grant: the lease.
    pub(crate) fn granted(self) -> Result<LeaseId, Untold> {
        self.written().map(|revision| LeaseId(revision.get()))
    }

    /// Of a delete, or of the revocation of a lease.
    pub(crate) fn deleted(self) -> Result<Deleted, Untold> {
        let Answer::Deleted(count) = self.answer else { return Err(self.untold()) };
        Ok(Deleted { count, revision: self.revision })
    }

    /// Of a transaction.
    pub(crate) fn transacted(self) -> Result<TxnDone, Untold> {
        let Answer::Txn { succeeded, results } = self.answer else { return Err(self.untold()) };
        Ok(TxnDone { succeeded, revision: self.revision, results })
    }

    /// Of keeping one lease alive: its time to live.
    pub(crate) fn kept_alive(self, lease: LeaseId) -> Result<Duration, Untold> {
        let Answer::KeptAlive(leases) = self.answer else { return Err(self.untold()) };
        match leases.first() {
            Some(Some(ttl_ms)) => Ok(Duration::from_millis(*ttl_ms)),
            Some(None) | None => Err(Untold::Rejected(Rejection::NoLease(lease))),
        }
    }
}

/// A time to live as commands carry it.
pub(crate) fn ttl_ms(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)
}
