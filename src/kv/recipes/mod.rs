//! Locks, elections and leases that stay alive, for applications: built on [`Kv`](super::Kv) and nothing else: they work on a replica in this process
//! and on a client alike.
//!
//! ```text
//!   NAME/<lease>   put with the contender's lease; the place in the queue is the create revision
//!
//!   holder ◄─ watches ─ second ◄─ watches ─ third …     each waits for the deletion of the key right before its own
//!     │
//!     └─ keep-alives at a third of the time to live, by a task in the background
//! ```
//! Whoever stands first holds, and its create revision is its **fencing token**. Places are given in the order of the log and
//! a key that is gone never gets its place back, so the tokens of successive holders rise strictly.
//!
//! # What a lock does not give
//! No lock across machines can promise that two holders never *act* at once: the holder may be paused (by the scheduler, a
//! collector, a suspended machine) right behind the line that looked whether it still holds, its lease ends meanwhile, and
//! it acts as soon as it wakes up, beside the next holder. The token is what makes this harmless: send it along with
//! whatever the lock protects, and let the protected **resource refuse a lower token than it has seen**.
//!
//! ```
//! /// What a lock protects: a file server, a queue, a table. It remembers the highest token it has seen.
//! #[derive(Default)]
//! struct Resource {
//!     highest: u64,
//!     content: String,
//! }
//!
//! impl Resource {
//!     fn write(&mut self, token: u64, content: &str) -> Result<(), String> {
//!         if token < self.highest {
//!             return Err(format!("token {token} is fenced off: {} was here", self.highest));
//!         }
//!         self.highest = token;
//!         self.content = content.to_owned();
//!         Ok(())
//!     }
//! }
//!
//! let mut resource = Resource::default();
//! assert!(resource.write(17, "first holder").is_ok());
//! assert!(resource.write(23, "next holder").is_ok());
//! assert!(resource.write(17, "first holder, back from a long pause").is_err());
//! ```
//! When the resource is this very store, the store does it: make the write a transaction that compares
//! [`LockGuard::condition`], and it is done only while the lock is held.
//!
//! Deliberately absent: taking a lock again while holding it (it would wait for itself), locks for readers and writers, and
//! any promise about clocks of different machines beyond this: when the holder is told that it lost, its own monotonic clock
//! has counted the time to live from *before* the last keep-alive that was confirmed, so a clock that runs at the pace of
//! the leader's is never later than the cluster.

mod contest;
mod election;
mod leaders;
mod lease;
mod live_lease;
mod lock;
mod queue;
mod tenure;

use std::time::Duration;

pub use election::{Election, Leadership};
pub use leaders::Leaders;
pub use live_lease::LiveLease;
pub use lock::{Lock, LockGuard};
pub use queue::Holder;
pub use tenure::Lost;

/// How long a lock or an office outlives its holder's last sign of life when nothing else is said.
pub const DEFAULT_TTL: Duration = Duration::from_secs(10);
