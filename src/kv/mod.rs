//! The key-value store: a state machine on the replicated log, and the handle to embed it.
//!
//! ```text
//!   put, delete ──► command.rs ──► one log entry ──► machine.rs ──► backend/ (a map)
//!                                                        │ publish
//!   get, scan ◄── view.rs, pages.rs (a snapshot, read on any thread) ◄┘
//! ```
//! A key's revision is the index of the log entry that wrote it: `mod_revision` of its newest write,
//! `create_revision` of the first write of its present life; `version` counts the writes of that life. Deleting a
//! key ends its life.
//!
//! Deliberately absent for now: transactions, watches, leases, sessions, and backends beside memory.

pub mod backend;
pub mod capture;
pub mod command;
mod consistency;
pub mod machine;
pub mod pages;
pub mod range;
pub mod scan;
pub mod store;
pub mod view;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::types::Index;

pub use consistency::Consistency;
pub use scan::{Scan, ScanPage};
pub use store::{BlockingKvStore, KvStore};

/// A key and all that is known of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyValue {
    /// The key.
    pub key: Bytes,
    /// Its value; empty in a scan of keys only.
    pub value: Bytes,
    /// The entry that gave the key its present life.
    pub create_revision: Index,
    /// The entry that last wrote it.
    pub mod_revision: Index,
    /// How often it was written in its present life, from 1.
    pub version: u64,
}

/// What a delete did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    /// How many keys it deleted.
    pub count: u64,
    /// The entry that did it.
    pub revision: Index,
}
