//! Feeds libFuzzer's inputs to `src/kv_command.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dledger_fuzz::kv_command::run(data));
