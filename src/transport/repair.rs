//! What nodes say to each other when one of them has lost records. The logic is the node's; here are only the words.
//!
//! ```text
//!   damaged ──Repair: which entries, and how to tell them──► any peer, whatever its role
//!   damaged ◄──RepairAnswer + the records as on disk, or why not── peer
//! ```

use serde::{Deserialize, Serialize};

use crate::types::{EntryId, Index, Position, TermRun};

/// Asks for records that the sender cannot read back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairRequest {
    /// The sender's name for the request; never used twice in one life.
    pub number: u64,
    /// The first record wanted.
    pub first: Index,
    /// The last record wanted. Fewer are a good answer, from the first on.
    pub last: Index,
    /// Where the first one starts in the log.
    pub position: Position,
    /// The terms of these entries, each run by its first index; empty when they are not known. An entry of the same
    /// index and term is the same entry.
    pub terms: Vec<TermRun>,
    /// The entry before the first, when it is known.
    pub before: Option<EntryId>,
    /// The next entry behind the last that is known, when there is one.
    pub behind: Option<EntryId>,
    /// Most bytes of records that are wanted; one record may be larger.
    pub max_bytes: u32,
}

/// Why records are not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RepairRefusal {
    /// The peer's log does not reach there.
    Absent,
    /// The peer cannot read them either.
    Damaged,
    /// The peer has other entries there.
    Others,
    /// The peer has entries there, and cannot tell whether they are the same.
    Unproven,
    /// The peer has purged them: a snapshot covers them.
    Purged,
}

impl std::fmt::Display for RepairRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Absent => "has not got it",
            Self::Damaged => "cannot read it either",
            Self::Others => "has another entry there",
            Self::Unproven => "cannot tell whether it has the same",
            Self::Purged => "has purged it",
        })
    }
}
