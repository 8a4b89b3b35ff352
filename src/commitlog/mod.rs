//! The commitlog: records on a disk, in segments, durable when it says so.
//!
//! ```text
//!            WriteBatch                                      index, position
//!                │                                                  │
//!   ┌────────────▼───────────┐   publishes   ┌──────────────────────▼───┐
//!   │ writer roll room meta  ├──────────────►│ reader (any thread)      │
//!   │ purge  reset  poison   │     View      │ live ─ map, pread, index │
//!   └────────────┬───────────┘               └──────────────────────┬───┘
//!                │ create, prepare, removal                         │
//!   ┌────────────▼──────────────────────────────────────────────────▼───┐
//!   │ segment/  header │ slot A │ slot B │ footer │ records … │ zeros   │ ◄── open: survey, tail, restart
//!   └───────────────────────────────────────────────────────────────────┘         (table in recovery)
//!     base: the entry before the first record, noted durably whenever the front of the log is dropped
//! ```
//! Invariants:
//! - A record is readable once published; published bytes never change and are verified whenever they are read. The
//!   one exception: a record that does not verify, and so was never handed out, may be mended (`mend`).
//! - `first position + bytes of the records` is the position of the next record, the same on every replica.
//! - What a progress slot calls durable was synced before the slot was written.
//! - The first failed write or sync is the last: see [`LogFault`].
//!
//! `docs/format.md` is the only text of the byte layout. Deliberately absent: threads, timers, networks, and any idea
//! of what a payload means.

mod base;
mod begin;
mod blocks;
mod chain;
mod create;
mod derive;
mod doubt;
mod examine;
pub mod format;
mod gap;
mod hole;
pub mod identity;
mod index;
pub mod inspect;
mod known;
pub mod layout;
mod live;
mod mend;
mod meta;
mod open;
mod poison;
mod prepare;
mod purge;
mod reader;
pub mod recovery;
mod removal;
pub mod repair;
mod reset;
mod restart;
mod resync;
mod roll;
mod room;
mod scan;
pub mod scrub;
mod segment;
mod space;
mod survey;
mod tail;
mod unsynced;
mod walk;
mod writer;

pub(crate) use format::walk_trusted;
pub use format::{HEADER_BYTES, Record, RecordError, RecordHeader, frame, framed_length, split};
pub use hole::Hole;
pub use identity::{
    DATA_VERSION, DirLock, Identity, load_identity, lock_data_dir, lock_empty_data_dir, renew_identity, store_identity,
};
pub(crate) use open::open_begun_planted;
pub use open::{LogOptions, LogState, Opened, Peers, PeersBy, open, open_alone, open_begun};
pub use poison::LogFault;
pub use prepare::{PrepareDone, PrepareJob};
pub use reader::LogReader;
pub use recovery::{Cut, RecoveryReport, Rule};
pub use removal::{Removal, Removed};
pub use scrub::{BadBlock, Region, Scrubbed};
pub use space::Space;
pub use writer::{LogWriter, WriteBatch};
