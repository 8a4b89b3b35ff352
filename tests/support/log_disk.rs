//! One log on a disk in memory, for tests that cut the power under it.

#![allow(clippy::expect_used, reason = "a test that breaks here is broken itself")]

use std::path::Path;

use dledger::commitlog::{self, LogOptions, Opened};
use dledger::config::Durability;
use dledger::env::memory::MemoryDisk;
use dledger::types::{ClusterId, GroupId, Index};

/// Where the log stands; its parents are made durable beforehand, as the owner of a data directory does.
pub(crate) const DIR: &str = "/data/groups/1";
pub(crate) const MAX_RECORD_BYTES: u32 = 1 << 20;

/// A disk with the directories that stand above a log.
pub(crate) fn prepared_disk() -> MemoryDisk {
    let memory = MemoryDisk::new();
    let disk = memory.handle();
    disk.create_dir_all(Path::new("/data/groups")).expect("an empty disk takes directories");
    for directory in ["/data/groups", "/data", "/"] {
        disk.sync_dir(Path::new(directory)).expect("the directory is there");
    }
    memory
}

/// Opens the log on a disk, with segments of this size.
pub(crate) fn open(memory: &MemoryDisk, segment_bytes: u64) -> Result<Opened, String> {
    let options = LogOptions {
        cluster: ClusterId(7),
        group: GroupId::FIRST,
        segment_bytes,
        max_record_bytes: MAX_RECORD_BYTES,
        durability: Durability::Sync,
        wall_ms: 1_700_000_000_000,
        covered: Index::ZERO,
    };
    commitlog::open(memory.handle(), Path::new(DIR), options).map_err(|error| format!("open: {error}"))
}
