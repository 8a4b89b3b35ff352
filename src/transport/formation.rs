//! What nodes with empty directories say to each other to form a cluster. The logic is the node's; here are only
//! the words.
//!
//! ```text
//!   each ──Hello──► each      all empty, or all restored from one backup; all naming the same members
//!   lowest ──Form + genesis record──► each ──► its disk, then its log
//! ```

use serde::{Deserialize, Serialize};

use crate::types::{ClusterId, EntryId, Incarnation};

/// A message of formation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FormationMessage {
    /// Who I am and what I was told.
    Hello {
        /// The sender's incarnation.
        incarnation: Incarnation,
        /// The sender's directory holds no log yet.
        empty: bool,
        /// The members that the sender was configured with, printed as `1=HOST:PORT,2=HOST:PORT`.
        members: String,
        /// The backup that the sender begins with; `None` when it begins with nothing.
        backup: Option<BackupId>,
        /// What the sender is to promise its leader in this cluster (`raft::Membership::read_lease`), in microseconds.
        read_lease_us: u64,
    },
    /// Take the attached genesis record (the first entry, the membership), sync it, and be of its cluster.
    Form,
}

/// Which backup a node begins with. Nodes whose backups have equal ids begin with the same state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupId {
    /// The cluster that it was taken from.
    pub cluster: ClusterId,
    /// The last entry in it.
    pub entry: EntryId,
    /// CRC-32 of its manifest, which holds those of its data.
    pub checksum: u32,
}
