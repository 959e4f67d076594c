//! libFuzzer's door to [`fuzz_targets::nip34`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_targets::nip34(data));
