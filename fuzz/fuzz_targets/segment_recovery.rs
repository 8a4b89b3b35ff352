//! Feeds libFuzzer's inputs to `src/segment_recovery.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dledger_fuzz::segment_recovery::run(data));
