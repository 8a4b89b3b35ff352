//! What nodes say to each other when one of them needs a snapshot. The logic is the node's; here are only the words.
//!
//! ```text
//!   behind ──Newest: of this index at least──► any peer that has one
//!   behind ◄──answer + manifest────────────── peer
//!   behind ──Chunk n of that snapshot───────► the same peer, or another that has it too
//!   behind ◄──answer + the chunk as on disk── peer
//! ```
//! The node that is behind asks for each piece, so that it sets the pace, and goes on with the next piece after whatever
//! broke off.

use serde::{Deserialize, Serialize};

use crate::types::{EntryId, Index};

/// Asks for a piece of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRequest {
    /// The sender's name for the request; never used twice in one life.
    pub number: u64,
    /// What is wanted.
    pub want: SnapshotWant,
}

/// A piece of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapshotWant {
    /// The manifest of the newest snapshot, if it is of this index or a later one.
    Newest {
        /// The first index that is of use.
        at_least: Index,
    },
    /// A chunk of the snapshot of an entry.
    Chunk {
        /// The entry.
        snapshot: EntryId,
        /// Which chunk, from 0.
        chunk: u64,
    },
}

/// Why a piece is not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapshotRefusal {
    /// The peer has no such snapshot.
    Absent,
    /// The peer cannot read it.
    Damaged,
}

impl std::fmt::Display for SnapshotRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Absent => "has no such snapshot",
            Self::Damaged => "cannot read its snapshot",
        })
    }
}
