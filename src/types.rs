//! The words of the system as distinct types.
//!
//! Mixing a term with an index, or a position with a length, does not compile. Every type here is a plain
//! number in memory and little-endian on disk and on the wire; zero means "none" where the paper starts at 1.
//! Deliberately absent: behaviour. These types compare, count and print, nothing else.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Declares a `u64` newtype that orders, hashes, prints as its number and serialises as its number.
macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The value that stands for "none": 0.
            pub const ZERO: Self = Self(0);

            /// The bare number.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }

            /// True for the value that stands for "none".
            #[must_use]
            pub const fn is_zero(self) -> bool {
                self.0 == 0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<u64> for $name {
            fn from(number: u64) -> Self {
                Self(number)
            }
        }
    };
}

number! {
    /// A member process. Never reused within a cluster; 0 is no node.
    NodeId
}
number! {
    /// A Raft term (paper, section 5.1). The first term is 1; 0 is before any term.
    Term
}
number! {
    /// The place of an entry in the log (paper, section 5.3). The first entry has index 1; 0 is before the log.
    Index
}
number! {
    /// The byte offset of a record in the whole log, the same on every replica. The first record stands at 0.
    Position
}
number! {
    /// One Raft log on the nodes of a cluster. The first release serves group 1 only.
    GroupId
}
number! {
    /// One life of a data directory: drawn at random when the directory is created. A node that lost its disk
    /// comes back under another incarnation and is thereby known not to have what its predecessor promised.
    Incarnation
}
number! {
    /// A lease of the KV: the index of the entry that granted it. 0 is none.
    LeaseId
}
number! {
    /// A client's exactly-once identity in the KV: the index of the entry that opened it. 0 is none.
    SessionId
}
number! {
    /// Log time in milliseconds since the Unix epoch, as stamped by leaders into records. Never decreases along
    /// the log and does not jump with a machine's clock.
    LogTime
}

impl Term {
    /// The term after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl Index {
    /// The index after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The index before this one; zero stays zero.
    #[must_use]
    pub const fn prev(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// The index `count` places further on.
    #[must_use]
    pub const fn plus(self, count: u64) -> Self {
        Self(self.0.saturating_add(count))
    }
}

/// Bytes of a record before its payload: what a position grows by beside payloads.
pub const RECORD_HEADER_BYTES: usize = 48;

impl Position {
    /// The position `bytes` further on.
    #[must_use]
    pub const fn plus(self, bytes: u64) -> Self {
        Self(self.0.saturating_add(bytes))
    }
}

impl GroupId {
    /// The one group that the first release serves.
    pub const FIRST: Self = Self(1);
}

/// Index and term of an entry: by Log Matching (paper, figure 3) the two name one entry and all before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EntryId {
    /// Term of the leader that created the entry. Compared first: a later term is more up to date (paper, 5.4.1).
    pub term: Term,
    /// Place in the log.
    pub index: Index,
}

impl EntryId {
    /// Before the first entry.
    pub const ZERO: Self = Self { term: Term(0), index: Index(0) };

    /// Joins an index and a term.
    #[must_use]
    pub const fn new(index: Index, term: Term) -> Self {
        Self { term, index }
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.index, self.term)
    }
}

/// What must be known of the entries up to an index so that a log can go on without them. All zero for a log that
/// begins with index 1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogBase {
    /// The last of those entries.
    pub entry: EntryId,
    /// Where its record ends: the position of the first record behind it.
    pub position: Position,
    /// Its log time.
    pub time: LogTime,
    /// The membership in force at that entry, as the payload of the entry that set it, and that entry's index; index 0
    /// when it is not known.
    pub membership: (Index, Bytes),
}

impl LogBase {
    /// The first index behind it.
    #[must_use]
    pub const fn first(&self) -> Index {
        self.entry.index.next()
    }
}

/// The first index of a term in the log; a run lasts until the next one starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TermRun {
    /// First index that carries `term`.
    pub first: Index,
    /// The term of this run.
    pub term: Term,
}

/// What an entry is for. The numbers stand in the record header; 0 is unwritten space, not a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Kind {
    /// Bytes of the embedder, handed to the state machine.
    Data = 1,
    /// The entry a leader appends on taking office (paper, section 8). Empty.
    NoOp = 2,
    /// The cluster's members from this entry on.
    Membership = 3,
}

impl Kind {
    /// Reads the header byte; `None` for 0 and for kinds of a later version.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Data),
            2 => Some(Self::NoOp),
            3 => Some(Self::Membership),
            _ => None,
        }
    }
}

/// The identity that all nodes of a cluster share, minted once at formation: 128 random bits, printed as 32
/// hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClusterId(pub u128);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A life of a cluster. It begins with one; each recovery after a lost majority (`node::recover`) begins another, and
/// nodes of two of them have nothing to say to each other: what one counts as committed the other may never have had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Epoch {
    /// From 1, one more with each recovery; 0 before there is a cluster.
    pub number: u64,
    /// Drawn at random by the recovery that began it, so that two recoveries of one cluster begin two lives; 0 for the
    /// first.
    pub draw: u64,
}

impl Epoch {
    /// Of a node that belongs to no cluster.
    pub const NONE: Self = Self { number: 0, draw: 0 };
    /// Of a cluster that was never recovered.
    pub const FIRST: Self = Self { number: 1, draw: 0 };

    /// The one that a recovery begins.
    #[must_use]
    pub const fn after(self, draw: u64) -> Self {
        Self { number: self.number.saturating_add(1), draw }
    }

    /// The later of two that one node knows: `self` when there is no difference.
    #[must_use]
    pub const fn or_later(self, other: Self) -> Self {
        if other.number > self.number { other } else { self }
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number.fmt(f)
    }
}

/// A point on this process's monotonic clock, in microseconds since an arbitrary start. Not comparable between
/// processes and never stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Monotonic(u64);

impl Monotonic {
    /// A point `micros` microseconds after the clock's start.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the clock's start.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// The point `wait` later.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(wait.as_micros()).unwrap_or(u64::MAX)))
    }

    /// Time passed since `earlier`; zero when `earlier` is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// What a node is to its group at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Orders the log and serves writes.
    Leader,
    /// Asks for votes of its term.
    Candidate,
    /// Asks whether votes could be had, without raising its term (thesis, section 9.6).
    PreCandidate,
    /// Accepts the leader's log.
    Follower,
    /// Accepts the leader's log and does not vote.
    Learner,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Leader => "leader",
            Self::Candidate => "candidate",
            Self::PreCandidate => "precandidate",
            Self::Follower => "follower",
            Self::Learner => "learner",
        })
    }
}

/// A change of role, term or known leader. The term is a fencing token: whatever a leader hands out under it can
/// be told from what an earlier or later leader hands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoleChange {
    /// This node's term.
    pub term: Term,
    /// This node's role in that term.
    pub role: Role,
    /// The leader of that term, where known.
    pub leader: Option<NodeId>,
}

/// Term and vote of a node: what Raft must not forget (paper, figure 2, "persistent state").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    /// The highest term seen.
    pub term: Term,
    /// Whom this node voted for in that term; zero for nobody.
    pub voted_for: NodeId,
}

/// Names one `Ready` of the consensus core. Durability is reported by this number and never by index: an index
/// may be truncated and written again while an old write is still under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadyNumber(pub u64);
