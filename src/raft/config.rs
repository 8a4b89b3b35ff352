//! What a core is made with.

use std::time::Duration;

use crate::types::{EntryId, Index, NodeId, TermRun, Vote};

use super::membership::Membership;

/// Settings of a core.
#[derive(Clone, Debug)]
pub struct RaftConfig {
    /// This node.
    pub id: NodeId,
    /// How often a leader shows itself.
    pub heartbeat: Duration,
    /// The shortest election timeout; each is drawn between this and twice this.
    pub election_timeout: Duration,
    /// Where this core's random numbers start: drawn by the caller, who alone has entropy.
    pub seed: u64,
    /// Most record bytes on their way to one follower.
    pub max_inflight_bytes: u64,
    /// Most appends on their way to one follower.
    pub max_inflight_messages: usize,
}

/// What was on disk. All of it is durable.
#[derive(Clone, Debug)]
pub struct Restored {
    /// Term and vote.
    pub vote: Vote,
    /// The entry before the first of the log.
    pub base: EntryId,
    /// Terms of the entries above the base.
    pub runs: Vec<TermRun>,
    /// The last entry.
    pub last: EntryId,
    /// An index known to be committed; the base's at least.
    pub committed: Index,
    /// Memberships in force at the base and above, oldest first.
    pub memberships: Vec<(Index, Membership)>,
}
