//! Feeds libFuzzer's inputs to `src/client_frame.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dledger_fuzz::client_frame::run(data));
