//! The consensus core: Raft without disk, network, clock, threads or payloads.
//!
//! ```text
//!    tick · step · step_append · propose · read_index · persisted · sent · applied · holes · compact · install ·
//!    change_membership · transfer_leadership
//!                                          │
//!            ┌─────────────────────────────▼──────────────────────────────┐
//!            │ core ── dispatch by role and term                          │
//!            │  ├─ election      pre-vote, vote, office, closed connection │
//!            │  ├─ append        the follower's side of replication        │
//!            │  ├─ replication   the leader's side, progress per peer      │
//!            │  ├─ read_index    linearizable reads                        │
//!            │  ├─ read_lease    the same without a round                  │
//!            │  ├─ stall         a leader whose disk hangs gives way       │
//!            │  ├─ transfer      a leader gives its office to whom one asks │
//!            │  ├─ members       who belongs to the cluster, and from when │
//!            │  ├─ damage        holes in the log, and doubt about its end │
//!            │  ├─ install       where the log begins, and snapshots       │
//!            │  └─ terms · writes · membership · quorum   (pure data)      │
//!            └─────────────────────────────┬──────────────────────────────┘
//!                                          ▼
//!                            Ready (see `ready` for the order of its parts)
//! ```
//!
//! The core knows its log as *runs of terms* and never sees a record: on a leader the caller takes the bytes of an
//! index range from what it has just framed or from the commitlog, on a follower from the message that came. So
//! the core has no storage trait, cannot fail, and the same inputs give the same outputs, bit for bit.
//!
//! # Invariants
//! `base <= applied <= committed <= last` and `durable <= last`; term, vote, `committed` and `applied` never go
//! back; nothing at or below `committed` is ever cut; a node whose log has a hole stands for no election, and vouches
//! and offers to apply nothing from there on. [`invariants`] checks them after each input in debug builds.
//! `durable` and `committed` are not ordered: a quorum of others may commit what this disk has not synced yet.

mod append;
pub mod change;
mod config;
mod core;
mod damage;
mod election;
mod hand_over;
mod install;
pub mod invariants;
mod leadership;
mod members;
pub mod membership;
pub mod message;
mod outbox;
mod preference;
mod progress;
pub mod quorum;
mod random;
mod read_index;
mod read_lease;
pub mod ready;
mod recovered;
pub mod removed;
mod replication;
mod stall;
mod status;
mod terms;
pub mod transfer;
mod writes;

pub use self::append::{AppendStep, Appended};
pub use self::change::{Change, ChangeRefused};
pub use self::config::{RaftConfig, Restored};
pub use self::core::{NotLeader, Raft};
pub use self::install::Installed;
pub use self::membership::{Member, Membership, Priority, Promotion};
pub use self::read_lease::ReadBy;
pub use self::status::PeerStatus;
pub use self::transfer::{TransferEnd, TransferRefused};
