//! A node: one replica of one group, with the threads and sockets that carry its effects.
//!
//! ```text
//!   replica.rs   raft + log + machine, pure          ┐
//!   writes.rs, perform.rs, incoming.rs, pending.rs,  │
//!   forwards.rs, reads.rs, fresh.rs, apply.rs,       │  driven alike by the runtime
//!   tail.rs, members.rs, scrub.rs,                   │  and by a simulator
//!   repair.rs, repair_order.rs, repair_service.rs,   │
//!   snapshots.rs, snapshot_service.rs, install.rs    ┘
//!   formation.rs how empty directories become a cluster, pure
//!   joining.rs   how a node joins a cluster that exists
//!   data_dir.rs  lock, identity, opening the log
//!   restore.rs   how a cluster begins with a backup
//!   recover.rs   how a cluster goes on with one survivor
//!   event_loop.rs, runtime.rs, threads.rs, disk_thread.rs, snapshot_thread.rs   the machine around it
//!   handle.rs    what callers hold
//! ```
//! A node runs any state machine and knows nothing of keys and values.

mod apply;
mod apply_thread;
mod data_dir;
mod deadlines;
mod disk_batch;
mod disk_thread;
mod effects;
mod event_loop;
mod formation;
mod forwards;
mod fresh;
mod handle;
mod incoming;
mod install;
mod introduction;
mod joining;
mod log_clock;
mod members;
mod news;
mod pending;
mod perform;
pub(crate) mod read_thread;
mod reads;
pub mod recover;
mod repair;
mod repair_order;
mod repair_service;
mod replica;
mod restore;
mod runtime;
mod scrub;
#[cfg(feature = "simulation")]
pub mod simulation;
mod snapshot_service;
mod snapshot_thread;
mod snapshot_worker;
mod snapshots;
mod tail;
#[cfg(test)]
mod tests;
mod threads;
mod writes;

use std::sync::Arc;

use crate::config::Config;
use crate::env::os::{OsClock, OsDisk, OsEntropy};
use crate::env::{Clock, Disk, Entropy};
use crate::raft::RaftConfig;
use crate::simulation::plants::Plants;
use crate::types::GroupId;

pub use crate::raft::{ChangeRefused, Membership, TransferRefused};
pub use effects::{Framed, Proposal, Proposed};
pub use handle::{MemberChange, MemberStatus, NodeHandle, NodeStatus, Outcome, Standing};
pub use members::{MembersError, TransferError};
pub use restore::{RESTORE_GAP, RestoreError, RestoreOptions, restore};
pub use runtime::Hooks;
pub use scrub::ScrubProgress;

use replica::ReplicaOptions;
use snapshots::SnapshotKnobs;

/// Record bytes on their way to one follower. Covers a round trip at disk speed; bounds memory and recovery.
pub(crate) const MAX_INFLIGHT_BYTES: u64 = 4 << 20;
/// Appends on their way to one follower.
const MAX_INFLIGHT_MESSAGES: usize = 256;

/// The machine a node runs on: its disk, clocks and luck.
#[derive(Clone)]
pub struct Environment {
    /// Where the log is kept.
    pub disk: Arc<dyn Disk>,
    /// Timers and stamps.
    pub clock: Arc<dyn Clock>,
    /// Timeouts and identities.
    pub entropy: Arc<dyn Entropy>,
}

impl Environment {
    /// The operating system's own.
    #[must_use]
    pub fn real() -> Self {
        Self { disk: Arc::new(OsDisk::new()), clock: Arc::new(OsClock::new()), entropy: Arc::new(OsEntropy::new()) }
    }
}

/// A replica's options by its configuration.
fn replica_options(config: &Config, seed: u64) -> ReplicaOptions {
    ReplicaOptions {
        raft: RaftConfig {
            id: config.id,
            heartbeat: config.heartbeat,
            election_timeout: config.election_timeout,
            seed,
            max_inflight_bytes: MAX_INFLIGHT_BYTES,
            max_inflight_messages: MAX_INFLIGHT_MESSAGES,
        },
        group: GroupId::FIRST,
        max_record_bytes: config.max_record_bytes,
        plants: Plants::NONE,
        snapshots: SnapshotKnobs::of(config),
    }
}

/// Largest frame that this node takes: a window of appends, or one record of the largest size.
fn max_frame_bytes(config: &Config) -> u32 {
    let window = u32::try_from(MAX_INFLIGHT_BYTES).unwrap_or(u32::MAX);
    config.max_record_bytes.max(window).saturating_add(FRAME_OVERHEAD_BYTES)
}

/// Room in a frame beside its records.
const FRAME_OVERHEAD_BYTES: u32 = 1 << 20;
