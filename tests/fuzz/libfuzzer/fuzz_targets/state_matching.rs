//! libFuzzer's door to [`fuzz_targets::state_matching`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_targets::state_matching(data));
