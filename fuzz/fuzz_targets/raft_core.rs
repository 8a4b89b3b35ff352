//! Feeds libFuzzer's inputs to `src/raft_core.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dledger_fuzz::raft_core::run(data));
