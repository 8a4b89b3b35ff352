//! Feeds libFuzzer's inputs to `src/vote_file.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dledger_fuzz::vote_file::run(data));
