//! libFuzzer's door to [`fuzz_targets::path`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_targets::path(data));
