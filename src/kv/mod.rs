//! The key-value store: a state machine on the replicated log, and the handle to embed it.
//!
//! ```text
//!   put, txn, … ──► command.rs ──► one log entry ──► machine.rs ──► backend/ (a map), beside.rs
//!          ◄── answer.rs ◄────────────────────────────────┤ publish
//!   get, scan ◄── view.rs, pages.rs (a snapshot, read on any thread) ◄┤
//!   watch ◄── watch.rs ◄── history.rs (the log, with the notes of effects.rs) ◄┘
//! ```
//! A key's revision is the index of the log entry that wrote it: `mod_revision` of its newest write,
//! `create_revision` of the first write of its present life; `version` counts the writes of that life. Deleting a
//! key ends its life.
//!
//! Beside the keys the state has leases (keys that die with them) and sessions (writes that are done once). Both end by
//! log time, which the entries carry.

pub mod answer;
pub mod api;
pub mod backend;
mod beside;
pub mod capture;
pub mod command;
mod consistency;
pub(crate) mod done;
mod effects;
pub mod history;
mod leases;
pub(crate) mod limits;
pub mod machine;
pub mod pages;
pub mod range;
pub mod recipes;
pub mod scan;
pub mod sessions;
mod side;
pub mod store;
pub mod txn;
pub mod typed;
pub mod view;
pub mod watch;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::types::{Index, LeaseId};

pub use api::{Kv, KvError};
pub use consistency::Consistency;
pub use leases::LeaseStatus;
pub use range::KeyRange;
pub use scan::{Scan, ScanPage};
pub use store::{BlockingKvStore, KvStore};
pub use txn::{Compare, Comparison, Condition, OpResult, Txn, TxnDone, TxnError, TxnOp};
pub use typed::{Typed, TypedError};
pub use watch::{Changes, Event, EventKind, Watch, WatchError, WatchOptions};

/// A key and all that is known of it.
///
/// ```
/// use dledger::KeyValue;
/// # dledger::doctest::run(|store| async move {
///
/// let first = store.put("k", "1").await?;
/// let second = store.put("k", "2").await?;
/// let KeyValue { value, create_revision, mod_revision, version, .. } = store.get("k").await?.ok_or("absent")?;
/// assert_eq!((value.as_ref(), create_revision, mod_revision, version), (b"2".as_ref(), first, second, 2));
/// # Ok(()) });
/// ```
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
    /// The lease it lives with; zero for none.
    pub lease: LeaseId,
}

/// What a delete did.
///
/// ```
/// use dledger::Deleted;
/// # dledger::doctest::run(|store| async move {
///
/// let written = store.put("k", "v").await?;
/// assert_eq!(store.delete("k").await?, Deleted { count: 1, revision: written.next() });
/// # Ok(()) });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    /// How many keys it deleted.
    pub count: u64,
    /// The entry that did it.
    pub revision: Index,
}
