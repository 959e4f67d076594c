//! strfry's protocol, towards strfry and towards a chained plugin. A library so that the fuzzer reaches it; the program
//! is `main.rs`.

pub mod chain;
mod event;
mod json;
pub mod protocol;
