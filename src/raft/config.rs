//! What a core starts from: its knobs, and what its disk holds.

use std::time::Duration;

use crate::types::{EntryId, Index, NodeId, TermRun, Vote};

use super::membership::Membership;

/// The knobs of one core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaftConfig {
    /// This node.
    pub id: NodeId,
    /// How often a leader shows itself.
    pub heartbeat: Duration,
    /// `T`: a follower that hears no leader for a random time from `T` to `2 T` starts an election. One that heard
    /// a leader less than `T` ago refuses to take part in another's.
    pub election_timeout: Duration,
    /// Start of the pseudo-random numbers behind election timeouts and the names of questions. Must differ between
    /// nodes and between starts of one node; a test passes a constant.
    pub seed: u64,
    /// Most bytes of records under way to one follower; a window that is empty takes one record of any size.
    pub max_inflight_bytes: u64,
    /// Most appends under way to one follower.
    pub max_inflight_messages: usize,
}

/// What the disk held when the node started. Everything in it is durable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Term and vote.
    pub vote: Vote,
    /// The entry before the first one in the log; `EntryId::ZERO` for a log that starts at index 1.
    pub base: EntryId,
    /// Runs of terms over `base.index + 1 ..= last.index`.
    pub runs: Vec<TermRun>,
    /// The last entry; `base` when the log holds none.
    pub last: EntryId,
    /// What the state machine holds: the index of the snapshot that it was restored from. Below `base.index` when no
    /// snapshot reaches the log any more: such a node keeps its log and votes by it, but neither applies, nor
    /// vouches for entries, nor stands, until [`super::Raft::install`] has given it one.
    pub applied: Index,
    /// An index known to be committed; may be behind the truth. What is stored for it must never have been above
    /// the lesser of `committed` and `durable` of the core at that moment: above `durable` the disk may still hold entries
    /// that are about to be cut, and those would be taken for committed after a crash.
    pub committed: Index,
    /// The memberships in the log with the indexes of their entries, ascending; the last one rules.
    pub memberships: Vec<(Index, Membership)>,
    /// The first entry that cannot be read back ([`super::Raft::holes`]).
    pub hole: Option<Index>,
    /// Entries whose terms are not known either: first and last index of each run of them, ascending. What `runs`
    /// says of them does not count.
    pub unknown: Vec<(Index, Index)>,
    /// Entries that this node has told others to be durable may be missing behind `last`: the disk lost them unseen,
    /// or they were acknowledged before they were synced and the power failed. Until a leader has brought all of them
    /// back, the node's vote counts only when every voter gives its own.
    pub in_doubt: bool,
}
