//! libFuzzer's door to [`fuzz_targets::pkt_line`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_targets::pkt_line(data));
