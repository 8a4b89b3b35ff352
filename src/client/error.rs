//! Why a remote operation has no answer.

use thiserror::Error;

use crate::error::Rejection;
use crate::kv::KvError;

/// Why a remote operation has no answer. *Unavailable* and *refused* mean that it certainly did not happen;
/// *unknown* means that nobody can say.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// It certainly did not happen: no node that could do it was found in time.
    #[error("unavailable: {0}; try again later")]
    Unavailable(String),
    /// It may have happened or may yet happen.
    #[error("outcome unknown: {0}; look what became of it before you do it again")]
    Unknown(String),
    /// It certainly did not happen: nobody, or nothing, is there that it could be done to.
    #[error("{0}")]
    No(String),
    /// It stands in the log and certainly changed nothing, as all replicas agree.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// It certainly did not happen: a limit forbids it, the cluster would be hurt, or too much was under way for all of
    /// the timeout.
    #[error("refused: {0}")]
    Refused(String),
    /// It certainly did not happen: the leader's disk is full.
    #[error("refused: {0}; free some space, service resumes by itself")]
    DiskFull(String),
    /// The endpoints belong to another cluster than the one asked for.
    #[error("wrong cluster: {0}; check the endpoints")]
    WrongCluster(String),
    /// Client and node do not understand each other.
    #[error("protocol: {0}; use the same release on both sides")]
    Protocol(String),
    /// The client was asked for something that cannot work.
    #[error("{0}")]
    Usage(String),
}

impl From<ClientError> for KvError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Unavailable(reason) => Self::Unavailable(reason),
            ClientError::Unknown(reason) => Self::Unknown(reason),
            ClientError::Rejected(rejection) => Self::Rejected(rejection),
            ClientError::No(reason) | ClientError::Refused(reason) | ClientError::DiskFull(reason) => {
                Self::Refused(reason)
            }
            ClientError::WrongCluster(_) | ClientError::Protocol(_) | ClientError::Usage(_) => {
                Self::Refused(error.to_string())
            }
        }
    }
}
