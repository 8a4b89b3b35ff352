//! Feeds libFuzzer's inputs to `src/handshake.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dledger_fuzz::handshake::run(data));
