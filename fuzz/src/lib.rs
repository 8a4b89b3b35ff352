//! The fuzz targets: a module for each, and what they share. `README.md` tells how to run them and add one.
//!
//! ```text
//!   fuzz_targets/NAME.rs ── libFuzzer's inputs ──┐
//!   examples/seeds.rs ◄──── NAME::seeds() ───────┼──► NAME::run(data)      a broken claim panics
//!   tests/seeds.rs ──────── seeds, and mutants ──┘
//! ```
//! A module says what its input means byte by byte, so that a seed can be made from a golden file and a crash can be
//! read, and which claims it checks beyond "does not panic".
//!
//! Deliberately absent: timing, threads and real disks. An input gives the same run every time.

pub mod client_frame;
pub mod config;
pub mod forge;
pub mod golden;
pub mod handshake;
pub mod index_file;
pub mod kv_command;
pub mod memory;
pub mod peer_frame;
pub mod raft_core;
pub mod record_frame;
pub mod sample_log;
pub mod segment_recovery;
pub mod shell_line;
pub mod snapshot_files;
pub mod vote_file;

/// An input to begin with, and its name.
pub type Seed = (String, Vec<u8>);

/// One fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: that of its module and of its program.
    pub name: &'static str,
    /// Takes one input. Panics when a claim does not hold.
    pub run: fn(&[u8]),
    /// Inputs to begin with, most of them made from the golden files.
    pub seeds: fn() -> Vec<Seed>,
}

macro_rules! targets {
    ($($name:ident),* $(,)?) => {
        /// Every target.
        pub const TARGETS: &[Target] =
            &[$(Target { name: stringify!($name), run: $name::run, seeds: $name::seeds }),*];
    };
}

targets! {
    record_frame,
    segment_recovery,
    index_file,
    vote_file,
    snapshot_files,
    peer_frame,
    handshake,
    raft_core,
    client_frame,
    kv_command,
    shell_line,
    config,
}
