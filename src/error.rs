//! Errors of the public operations: one narrow enum per operation.
//!
//! Each message is a sentence for a person and says what to do. Three lines are never blurred: *failed* (certainly
//! not done) against *unknown* (may or may not be done); *corrupt* against *unsupported* against *torn* against an
//! I/O error; a user's mistake against a bug of ours (which panics).

use std::io;
use std::path::PathBuf;

use bytes::Bytes;
use thiserror::Error;

use crate::types::{Index, LeaseId, NodeId, SessionId};

/// Why a node, ledger or store could not be opened.
///
/// ```no_run
/// use dledger::{Config, KvStore, OpenError};
///
/// # async fn open() -> Result<(), OpenError> {
/// match KvStore::open(Config::single("data")).await {
///     Ok(store) => println!("listens on {}", store.node().address()),
///     Err(OpenError::Locked { path }) => println!("another process serves {}", path.display()),
///     Err(error) => return Err(error), // says what to do
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A knob has a value that cannot work.
    #[error("invalid configuration: {0}")]
    Config(String),
    /// Another process has the data directory open.
    #[error("{} is in use by another process; stop that node first", path.display())]
    Locked {
        /// The data directory.
        path: PathBuf,
    },
    /// The directory holds files that are not of a dledger node.
    #[error("{} is not a dledger data directory: {reason}; choose an empty directory", path.display())]
    Foreign {
        /// The directory or file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// The directory is in use already, where an empty one is needed.
    #[error("{} is not empty, it holds `{found}`; choose an empty directory", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
        /// The first thing that was found in it.
        found: String,
    },
    /// The directory was written by a later release, or by an earlier one that is no longer read.
    #[error("{} has format version {found}, this release reads {supported}; use the release that wrote it", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The version it names.
        found: u32,
        /// The newest version this build reads.
        supported: u32,
    },
    /// The directory belongs to another node, cluster or set of members than the configuration names.
    #[error("{} belongs to another node or cluster: {reason}", path.display())]
    Identity {
        /// The data directory.
        path: PathBuf,
        /// What differs.
        reason: String,
    },
    /// Stored bytes that were known to be synced do not match their checksum.
    #[error("{} is corrupt at offset {offset} (index {index}): {reason}; restore this node from its peers", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Byte offset in the file.
        offset: u64,
        /// Index of the damaged record; zero where the damage is not in a record.
        index: Index,
        /// What is wrong.
        reason: String,
    },
    /// A node without peers has a record that cannot be read back: nobody can mend it.
    #[error("{} is damaged at offset {offset} (index {index}): {reason}; this node has no peer that could mend it: restore a backup, or see what `kvcli log repair --data-dir DIR` can keep", path.display())]
    Unmendable {
        /// The segment file.
        path: PathBuf,
        /// Byte offset of the record in the file.
        offset: u64,
        /// Its index.
        index: Index,
        /// What is wrong.
        reason: String,
    },
    /// A segment that must exist is gone.
    #[error("{} lacks the segment that holds index {index}; restore the file, or this node from its peers", path.display())]
    LostSegment {
        /// The log directory.
        path: PathBuf,
        /// The first missing index.
        index: Index,
    },
    /// No copy of term and vote can be read: the node cannot know what it promised.
    #[error("{} has no readable copy of term and vote; this node has lost its disk and must rejoin as a new member", path.display())]
    LostVote {
        /// The vote file.
        path: PathBuf,
    },
    /// The disk has no room for what opening must write.
    #[error("{} has no room: {needed} bytes are needed; free some space and start again", path.display())]
    DiskFull {
        /// The data directory.
        path: PathBuf,
        /// Bytes that opening needs.
        needed: u64,
    },
    /// The state that the machine keeps on disk beside the log cannot be opened.
    #[error("{}: {reason}", path.display())]
    State {
        /// Its directory.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The listening address cannot be had.
    #[error("cannot listen on {address}: {source}; choose another address or stop its owner")]
    Listen {
        /// The address asked for.
        address: String,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The operating system failed.
    #[error("{}: {source}; see to the disk and who may use it, then start again", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
}

/// Why a write was not acknowledged.
///
/// ```
/// use dledger::WriteError;
/// # dledger::doctest::run(|store| async move {
///
/// match store.put("k", "v").await {
///     Ok(revision) => println!("durable on a quorum, at {revision}"),
///     Err(WriteError::Unknown(_)) => println!("perhaps written: read before you write again"),
///     Err(error) => println!("certainly not written: {error}"),
/// }
/// assert!(matches!(store.put("", "v").await, Err(WriteError::TooLarge(_))));
/// # Ok(()) });
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WriteError {
    /// It may have happened or may yet happen: the leader was lost or the deadline passed after the entry was
    /// handed to the log. Read before writing again.
    #[error("outcome unknown: {0}; read the key before you write it again")]
    Unknown(String),
    /// It certainly did not happen: no leader was found before the deadline.
    #[error("unavailable: {0}; try again later")]
    Unavailable(String),
    /// It certainly did not happen: a limit forbids it.
    #[error("refused: {0}")]
    TooLarge(String),
    /// It certainly did not happen: too much is under way.
    #[error("refused: {0}; slow down")]
    Overloaded(String),
    /// It certainly did not happen: the leader's disk has no room beyond its reserve.
    #[error("refused: the disk of node {0} is full; free some space, service resumes by itself")]
    DiskFull(NodeId),
    /// It certainly did not happen: it stands in the log, and changed nothing.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The node has stopped.
    #[error("the node has stopped: {0}")]
    Stopped(String),
}

/// Why a command of the KV that stands in the log changed nothing. All replicas agree on it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Rejection {
    /// There is no such lease.
    #[error("lease {0} has ended or never was; grant another one")]
    NoLease(LeaseId),
    /// What is added to holds something else than a number.
    #[error("key `{}` does not hold a number (decimal text, 64 bits)", .0.escape_ascii())]
    NotANumber(Bytes),
    /// The sum does not fit.
    #[error("the number in key `{}` would leave the 64 bits it has", .0.escape_ascii())]
    Overflow(Bytes),
    /// There is no such session. What it numbered before may have been done.
    #[error("session {0} has expired or never was; open another one")]
    NoSession(SessionId),
    /// The session said before that it needs no answer to this number, so none is kept.
    #[error("write {0} of this session was given up before")]
    Forgotten(u64),
    /// The session has as many numbers without an answer as are kept.
    #[error("the session waits for the answers to {0} writes already; read some first")]
    TooManyUnanswered(u64),
    /// A transaction would read more than an answer may hold.
    #[error("the transaction would read {0} bytes; read large values one by one")]
    TooMuchRead(u64),
    /// It is not a command that this release would propose, for the reason given.
    #[error("refused: {0}")]
    Malformed(String),
}

/// Why no snapshot was taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SnapshotRequestError {
    /// The log of this node is its data: there is no state that could take its place.
    #[error("refused: this node has no state beside its log; copy the log instead")]
    NoState,
    /// It could not be written. The log before it stays.
    #[error("no snapshot was taken: {0}; the log before it stays")]
    Failed(String),
    /// A piece of a snapshot was asked for that cannot be given.
    #[error("the snapshot cannot be read here: {0}; take another one, or ask another node")]
    Absent(String),
    /// The node has stopped.
    #[error("the node has stopped: {0}")]
    Stopped(String),
}

/// Why a read has no answer. A read changes nothing: trying again is always safe.
///
/// ```
/// use dledger::{Consistency, ReadError};
/// # dledger::doctest::run(|store| async move {
///
/// let found = match store.get("k").await {
///     // No leader in time: what this node knows may be old, and is better than nothing here.
///     Err(ReadError::Unavailable(_)) => store.get_with("k", Consistency::Stale).await?,
///     found => found?,
/// };
/// assert_eq!(found, None);
/// # Ok(()) });
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// No leader confirmed the read before the deadline.
    #[error("unavailable: {0}; try again later, or read with stale consistency")]
    Unavailable(String),
    /// A limit forbids it.
    #[error("refused: {0}")]
    TooLarge(String),
    /// The entries asked for are not in this log any more or not yet.
    #[error("index {asked} is outside the committed log {first} to {last}")]
    OutOfRange {
        /// The index asked for.
        asked: Index,
        /// The first index that can be read.
        first: Index,
        /// The last index that can be read.
        last: Index,
    },
    /// The stored record does not match its checksum, or its sector cannot be read.
    #[error("{} cannot be read at offset {offset} (index {index}): {reason}", path.display())]
    Damaged {
        /// The segment file.
        path: PathBuf,
        /// Byte offset in the file.
        offset: u64,
        /// The record's index.
        index: Index,
        /// What is wrong.
        reason: String,
    },
    /// The state cannot be read from this node's disk.
    #[error("the state of this node cannot be read: {0}; read from another node")]
    State(String),
    /// The node has stopped.
    #[error("the node has stopped: {0}")]
    Stopped(String),
}

impl ReadError {
    /// The first index that cannot be read back, when that is what is wrong.
    pub(crate) const fn damaged_index(&self) -> Option<Index> {
        if let Self::Damaged { index, .. } = self { Some(*index) } else { None }
    }
}
