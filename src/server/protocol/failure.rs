//! Why a request has no answer.
//!
//! Each failure says first of all whether it happened: *perhaps* ([`Failure::Unknown`], [`Failure::Stopped`]) or
//! *certainly not* (all others). A client sends nothing again that perhaps happened, so an error that is mapped to the
//! wrong side of this line loses or repeats a write.

use serde::{Deserialize, Serialize};

use crate::codec::DecodeError;
use crate::error::{ReadError, SnapshotRequestError, WriteError};
use crate::server::kinds::{ChangeRefused, MembersError, TransferError, TransferRefused};
use crate::types::NodeId;

/// Why a request has no answer. The order of the variants is part of the format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Failure {
    /// It may have happened or may yet happen.
    Unknown(String),
    /// It certainly did not happen: no leader, or this node is not the leader asked for.
    Unavailable(String),
    /// It certainly did not happen: a limit forbids it.
    TooLarge(String),
    /// It certainly did not happen: too much is under way.
    Overloaded(String),
    /// It certainly did not happen: this node's disk is full.
    DiskFull(NodeId),
    /// It certainly did not happen: its bytes are wrong.
    Malformed(String),
    /// The node has stopped. What it took may have happened.
    Stopped(String),
    /// It certainly did not happen: this release does not know it.
    Unsupported(String),
    /// It certainly did not happen: there is nobody, or nothing left, that it could be done to.
    No(String),
    /// It certainly did not happen: as things stand, the cluster does not do it.
    Refused(String),
}

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Unknown(reason) => Self::Unknown(reason),
            WriteError::Unavailable(reason) => Self::Unavailable(reason),
            WriteError::TooLarge(reason) => Self::TooLarge(reason),
            WriteError::Overloaded(reason) => Self::Overloaded(reason),
            WriteError::DiskFull(node) => Self::DiskFull(node),
            WriteError::Rejected(rejection) => Self::No(rejection.to_string()),
            WriteError::Stopped(reason) => Self::Stopped(reason),
        }
    }
}

impl From<DecodeError> for Failure {
    fn from(error: DecodeError) -> Self {
        let text = error.to_string();
        if matches!(error, DecodeError::Unsupported { .. }) { Self::Unsupported(text) } else { Self::Malformed(text) }
    }
}

impl From<SnapshotRequestError> for Failure {
    fn from(error: SnapshotRequestError) -> Self {
        match error {
            SnapshotRequestError::Stopped(reason) => Self::Stopped(reason),
            SnapshotRequestError::NoState | SnapshotRequestError::Failed(_) | SnapshotRequestError::Absent(_) => {
                Self::Unavailable(error.to_string())
            }
        }
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Unavailable(reason) => Self::Unavailable(reason),
            ReadError::TooLarge(reason) => Self::TooLarge(reason),
            ReadError::Stopped(reason) => Self::Stopped(reason),
            ReadError::OutOfRange { .. } | ReadError::Damaged { .. } | ReadError::State(_) => {
                Self::Unavailable(error.to_string())
            }
        }
    }
}

impl From<MembersError> for Failure {
    fn from(error: MembersError) -> Self {
        let text = error.to_string();
        match error {
            MembersError::Refused(refused) => of_refused_change(&refused, text),
            MembersError::Candidate(_) => Self::Refused(text),
            MembersError::Overloaded => Self::Overloaded(text),
            MembersError::Unknown(reason) => Self::Unknown(reason),
            MembersError::Unavailable(_) => Self::Unavailable(text),
        }
    }
}

fn of_refused_change(refused: &ChangeRefused, text: String) -> Failure {
    match refused {
        ChangeRefused::NotLeader { .. }
        | ChangeRefused::UnderWay
        | ChangeRefused::HandingOver { .. }
        | ChangeRefused::TooEarly => Failure::Unavailable(text),
        ChangeRefused::Unknown { .. } | ChangeRefused::Votes { .. } | ChangeRefused::IdInUse { .. } => {
            Failure::No(text)
        }
        ChangeRefused::NotAVoter { .. }
        | ChangeRefused::NoNode
        | ChangeRefused::IdUsedBefore { .. }
        | ChangeRefused::AddressInUse { .. }
        | ChangeRefused::BeingReplaced { .. }
        | ChangeRefused::LastVoter { .. }
        | ChangeRefused::TooMany
        | ChangeRefused::Behind { .. }
        | ChangeRefused::NoQuorum => Failure::Refused(text),
    }
}

impl From<TransferError> for Failure {
    fn from(error: TransferError) -> Self {
        let text = error.to_string();
        match error {
            TransferError::Refused(TransferRefused::NotAVoter { .. }) => Self::No(text),
            TransferError::Refused(TransferRefused::Unfit { .. } | TransferRefused::LeadsAlready { .. }) => {
                Self::Refused(text)
            }
            TransferError::Refused(TransferRefused::NotLeader { .. } | TransferRefused::UnderWay { .. })
            | TransferError::OtherLeads(_)
            | TransferError::Unavailable(_) => Self::Unavailable(text),
            TransferError::GivenUp => Self::Unknown(text),
        }
    }
}
