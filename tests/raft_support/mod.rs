//! A small world around the core for its tests: nodes with a pretended log and disk, and a pretended network.
//!
//! Time, delivery, disks and crashes move only when a test says so. Deliberately absent: sockets, files, threads.
#![allow(dead_code, reason = "each test binary uses its own part of this module")]

pub mod changes;
pub mod cluster;
pub mod dice;
pub mod inputs;
pub mod node;
