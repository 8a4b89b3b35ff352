//! Feeds libFuzzer's inputs to `src/config.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dledger_fuzz::config::run(data));
