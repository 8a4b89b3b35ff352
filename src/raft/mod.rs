//! The consensus core: Raft as a pure function of its inputs.
//!
//! ```text
//!   tick, step, step_append, propose, read_index, ┌──────┐
//!   persisted, sent, applied, peer_(dis)connected ├─────►│ Raft ├──► Ready: votes and entries for the disk,
//!                                                 └──────┘          messages, orders to replicate, commit,
//!                                                                   reads, role
//! ```
//! The core holds no clock, no randomness, no disk, no socket and no payload: time and a seed come in, ranges of
//! indexes go out. It keeps the log as runs of terms (terms.rs), so entries go from the log to the socket untouched
//! and a run of the whole cluster repeats from its seed.
//!
//! Six rules that a literal reading of the paper misses are marked in the code as `rule 1` to `rule 6` of
//! docs/raft.md, which maps every claim to the test that shows it.
//!
//! Deliberately absent for now: membership change, leadership transfer on request, snapshots, lease reads. Messages,
//! entry kinds and the membership stack leave room for them.

mod config;
mod core;
mod election;
mod follower;
mod invariants;
mod leader;
mod membership;
pub mod message;
mod progress;
pub mod quorum;
mod read_index;
pub mod ready;
mod terms;

pub use self::config::{RaftConfig, Restored};
pub use self::core::Raft;
pub use self::follower::{AppendStep, Appended};
pub use self::leader::NotLeader;
pub use self::membership::{Member, Membership};
pub use self::terms::Terms;
