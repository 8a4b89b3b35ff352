//! Feeds libFuzzer's inputs to `src/peer_frame.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dledger_fuzz::peer_frame::run(data));
