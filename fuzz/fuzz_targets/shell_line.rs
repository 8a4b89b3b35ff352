//! Feeds libFuzzer's inputs to `src/shell_line.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dledger_fuzz::shell_line::run(data));
