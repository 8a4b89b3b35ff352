//! How a command ends, and the exit codes that scripts rely on.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | the answer is "no": absent key, false condition, else branch, no number, ended lease, history that is gone, no such member, corruption found, a corrupt or foreign directory |
//! | 2 | wrong usage, bad configuration, port in use, wrong cluster id |
//! | 3 | unavailable, or the outcome is unknown: the message says which |
//! | 4 | refused: limits, disk full, members that must not change now |
//! | 5 | a bug of ours |
//!
//! `lock` exits with the status of the program that it ran.
//!
//! A [`Failure`] is one line for a person and a kind for a program. A closed output pipe is a failure too, so that
//! it ends whatever is under way, but a silent one with code 0.

use std::fmt;
use std::io;

use dledger::error::OpenError;
use dledger::node::RestoreError;
use dledger::node::recover::RecoverError;
use dledger::snapshot::BackupError;

/// How a command that gave its answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Exit 0.
    Done,
    /// The answer is "no" and has been printed: exit 1.
    No,
    /// Exit 0, and read no further commands.
    Quit,
    /// Commands from stdin or a shell ended with this code; whatever failed has been reported.
    Ended(u8),
    /// A program that ran under a lock ended with this status, which is passed on.
    Status(u8),
}

impl Outcome {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done | Self::Quit => 0,
            Self::No => 1,
            Self::Ended(code) | Self::Status(code) => code,
        }
    }
}

/// What went wrong, as a program wants to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The key does not exist.
    NotFound,
    /// The answer is "no", for the reason that is given.
    No,
    /// Stored bytes do not match their checksums, or the directory is not one of ours.
    Corrupt,
    /// Wrong arguments or wrong input.
    Usage,
    /// The configuration cannot work.
    Config,
    /// Certainly not done.
    Unavailable,
    /// May or may not be done.
    Unknown,
    /// A limit or a full disk forbids it.
    Refused,
    /// Nobody reads our output any more.
    Closed,
    /// A bug of ours.
    Bug,
}

impl Kind {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Closed => 0,
            Self::NotFound | Self::No | Self::Corrupt => 1,
            Self::Usage | Self::Config => 2,
            Self::Unavailable | Self::Unknown => 3,
            Self::Refused => 4,
            Self::Bug => 5,
        }
    }

    /// The `kind` of a JSON error.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::No => "no",
            Self::Corrupt => "corrupt",
            Self::Usage => "usage",
            Self::Config => "config",
            Self::Unavailable => "unavailable",
            Self::Unknown => "unknown",
            Self::Refused => "refused",
            Self::Closed => "closed",
            Self::Bug => "bug",
        }
    }
}

/// Why a command has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The kind, which fixes the exit code.
    pub(crate) kind: Kind,
    /// One line that says what happened and what to do.
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    pub(crate) fn config(message: impl Into<String>) -> Self {
        Self::new(Kind::Config, message)
    }

    pub(crate) fn code(&self) -> u8 {
        self.kind.code()
    }

    /// A failed write to stdout. A closed pipe is how `head` says "enough".
    pub(crate) fn output(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::new(Kind::Closed, "the reader of the output is gone");
        }
        Self::new(Kind::Refused, format!("cannot write the answer: {error}"))
    }

    /// A failed read of `what`, a file or stdin.
    pub(crate) fn input(what: impl fmt::Display, error: &io::Error) -> Self {
        Self::usage(format!("cannot read {what}: {error}"))
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        let kind = match &error {
            OpenError::Config(_)
            | OpenError::Locked { .. }
            | OpenError::Identity { .. }
            | OpenError::NotEmpty { .. }
            | OpenError::Listen { .. } => Kind::Config,
            OpenError::Foreign { .. }
            | OpenError::Unsupported { .. }
            | OpenError::State { .. }
            | OpenError::Corrupt { .. }
            | OpenError::Unmendable { .. }
            | OpenError::LostSegment { .. }
            | OpenError::LostVote { .. } => Kind::Corrupt,
            OpenError::DiskFull { .. } => Kind::Refused,
            OpenError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => Kind::Refused,
            OpenError::Io { .. } => Kind::Config,
            _ => Kind::Unavailable,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<RecoverError> for Failure {
    fn from(error: RecoverError) -> Self {
        let kind = match error {
            RecoverError::Directory(error) => return error.into(),
            RecoverError::Usage(_) => Kind::Usage,
            RecoverError::Damaged { .. } => Kind::Corrupt,
            RecoverError::NotFormed { .. }
            | RecoverError::Alone { .. }
            | RecoverError::NotAMember { .. }
            | RecoverError::NotLost { .. }
            | RecoverError::NotBest { .. } => Kind::No,
            _ => Kind::Unavailable,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<RestoreError> for Failure {
    fn from(error: RestoreError) -> Self {
        match error {
            RestoreError::Directory(error) => error.into(),
            RestoreError::Usage(message) => Self::usage(message),
            RestoreError::Backup(error) => {
                let kind = if matches!(error, BackupError::Io { .. }) { Kind::Usage } else { Kind::Corrupt };
                Self::new(kind, error.to_string())
            }
            other => Self::new(Kind::Unavailable, other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn open_errors_exit_with_the_code_of_the_contract() {
        let path = PathBuf::from("d");
        let code = |error: OpenError| Failure::from(error).code();
        assert_eq!(code(OpenError::Foreign { path: path.clone(), reason: String::new() }), 1);
        assert_eq!(code(OpenError::Config(String::new())), 2);
        let source = io::Error::from(io::ErrorKind::AddrInUse);
        assert_eq!(code(OpenError::Listen { address: "x".to_owned(), source }), 2);
        assert_eq!(code(OpenError::DiskFull { path, needed: 1 }), 4);
    }

    #[test]
    fn a_closed_pipe_ends_with_code_zero_and_other_output_errors_do_not() {
        assert_eq!(Failure::output(&io::Error::from(io::ErrorKind::BrokenPipe)).code(), 0);
        assert_eq!(Failure::output(&io::Error::from(io::ErrorKind::StorageFull)).code(), 4);
    }
}
