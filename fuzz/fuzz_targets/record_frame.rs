//! Feeds libFuzzer's inputs to `src/record_frame.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dledger_fuzz::record_frame::run(data));
