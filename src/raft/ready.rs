//! What the core wants done, and in which order.
//!
//! ```text
//!   input ──► core ──► Ready n ─┬─ vote, append ──► disk ──► persisted(n) ──► core
//!                               ├─ messages, replicate ──► network at once
//!                               ├─ after_durable ──► network once the disk has said n
//!                               └─ committed, reads, role ──► applier and callers
//! ```

use crate::types::{EntryId, Index, NodeId, ReadyNumber, RoleChange, Vote};

use super::membership::Membership;
use super::message::Message;
use super::transfer::TransferEnd;

/// Everything that one or more inputs made the core want. Each field says what must come before and after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// This Ready's name; `persisted` is to be called with it once `vote` and `append` are on disk, in the order
    /// of the numbers. A Ready without `vote` and `append` needs no such call.
    pub number: ReadyNumber,
    /// Term and vote to sync. Nothing in `after_durable` may leave before.
    pub vote: Option<Vote>,
    /// Entries to write to the log, after cutting what stands in their way.
    pub append: Option<LogAppend>,
    /// May leave at once, before anything of this Ready is durable.
    pub messages: Vec<Message>,
    /// Records to send to followers; may leave at once: a follower's disk does not wait for the leader's.
    pub replicate: Vec<Replicate>,
    /// Must wait until this Ready, and every one before it, is durable.
    pub after_durable: Vec<Message>,
    /// Entries up to here may be applied, when that moved: the committed index, or the one before the first hole.
    pub committed: Option<Index>,
    /// The leader has purged what this log needs next: a snapshot of this index or a later one must be fetched, from the
    /// leader or anybody else. Told again as long as it is so; [`super::Raft::install`] ends it.
    pub lacks: Option<Lack>,
    /// Reads that may be answered once their index is applied, and those that found no leader.
    pub reads: Vec<ReadState>,
    /// Role, term or leader changed.
    pub role: Option<RoleChange>,
    /// A transfer of leadership that was asked for is over; once for each that was taken up.
    pub transfer: Option<TransferEnd>,
}

/// Entries for the log: cut everything above `after`, then write `after.index + 1 ..= last`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogAppend {
    /// The entry that stays last before the new ones.
    pub after: EntryId,
    /// The last entry to write.
    pub last: Index,
    /// Entries above `after` exist and must be cut first (paper, 5.3).
    pub truncate: bool,
    /// The one entry to write is the core's own: the caller frames it. `None` for what a caller proposed or a leader
    /// sent.
    pub invented: Option<Invented>,
}

/// An entry that the core made itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invented {
    /// The no-op of a leader that takes office.
    NoOp,
    /// Who belongs to the cluster from this entry on.
    Membership(Membership),
}

/// An order to send records to a follower. The caller sends an append with as many records from `after.index + 1`
/// on as fit `max_bytes` and reports them with `sent`, once for each order. When nothing could be sent it reports
/// `sent` with `last = after.index` and no bytes; the order is then given again with the next sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replicate {
    /// The follower.
    pub to: NodeId,
    /// The entry before the first record: the append's `prev`.
    pub after: EntryId,
    /// The last entry there is; equal to `after.index` for an append without records (a probe).
    pub last: Index,
    /// The leader's committed index: the append's `commit`.
    pub commit: Index,
    /// The index before the first that this log has: the append's `base`.
    pub base: Index,
    /// How many bytes of records the window has room for.
    pub max_bytes: u64,
    /// The window is empty: the first record goes whatever its size. Otherwise a first record larger than
    /// `max_bytes` waits.
    pub at_least_one: bool,
}

/// A gap between this log and that of its leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lack {
    /// Who leads.
    pub leader: NodeId,
    /// The index before the first that the leader still has.
    pub base: Index,
}

/// The answer to a `read_index` call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadState {
    /// The caller's name for the read.
    pub token: u64,
    /// The read is linearizable once this index is applied; `None` when no leader could confirm it, ask again.
    pub index: Option<Index>,
}
