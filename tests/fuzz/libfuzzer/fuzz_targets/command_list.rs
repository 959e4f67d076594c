//! libFuzzer's door to [`fuzz_targets::command_list`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_targets::command_list(data));
