//! libFuzzer's door to [`fuzz_targets::plugin_line`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_targets::plugin_line(data));
