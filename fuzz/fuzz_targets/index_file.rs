//! Feeds libFuzzer's inputs to `src/index_file.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dledger_fuzz::index_file::run(data));
