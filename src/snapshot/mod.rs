//! Snapshots: the state of a machine at one index, whole and verified, so that the log before it can go.
//!
//! ```text
//!   Capture ── items ──► ItemWriter ─┐                              ┌─► Snapshot::items ──► Restore
//!   (another thread)                 ├─ chunks ─► <index>-<term>/ ──┤
//!   a peer's chunks ──► ChunkWriter ─┘            data, manifest    └─► Snapshot::chunk ──► a peer
//! ```
//! The data is *logical*: items that the machine makes and reads, cut into chunks. So nodes with different backends help
//! each other, and since items come in one order and chunks have one size, two nodes that took a snapshot of the same
//! entry hold the same bytes: a transfer that breaks off goes on at the next chunk, from whomever.
//!
//! A snapshot in one file of its own is a backup (`backup.rs`).
//!
//! Invariants:
//! - A directory with a manifest is a whole snapshot: data and manifest were synced before the manifest got its name.
//! - Nothing is used before every checksum was verified. What is damaged is passed over for the one before it.
//! - What fails while it is written leaves the snapshots before it as they were.
//!
//! `docs/format.md` is the only text of the byte layout. Everything here blocks on the disk: it belongs on a thread of
//! its own. Deliberately absent: threads, clocks, networks, when a snapshot is taken, and what an item means.

mod backup;
mod chunk;
mod error;
mod items;
mod layout;
mod manifest;
mod reader;
mod store;
mod writer;

pub use backup::{BackupError, BackupWriter, open_backup};
pub use chunk::{CHUNK_HEADER_BYTES, MAX_CHUNK_BYTES, MIN_CHUNK_BYTES};
pub use error::SnapshotError;
pub use items::MAX_ITEM_BYTES;
pub use layout::snapshot_dir;
pub use manifest::Manifest;
pub use reader::{Items, Snapshot};
pub use store::{CHUNK_BYTES, Newest, SnapshotOptions, SnapshotStore, newest_of, remove_all};
pub use writer::{ChunkWriter, ItemWriter};
