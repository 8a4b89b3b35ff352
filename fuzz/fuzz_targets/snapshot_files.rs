//! Feeds libFuzzer's inputs to `src/snapshot_files.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dledger_fuzz::snapshot_files::run(data));
