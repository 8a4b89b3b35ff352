//! Torture of real processes on the real machine: they are killed, paused, cut from each other, and their disks fill up
//! or fail. What clients were told meanwhile must be linearizable, and what was acknowledged must be there.
//!
//! Some of it needs root and tools; see `machine.rs` for what happens where they are missing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "what goes wrong here fails the test, and what is measured is said"
)]

mod disk_full;
mod kills;
mod load;
mod machine;
mod network;
mod partitions;
mod pauses;
mod process;
mod sync_errors;

#[path = "../support/mod.rs"]
mod support;
