//! The parts of `grasp-plugin` that need nothing from outside: strfry's protocol. A library so that the fuzzer reaches
//! it; the program is `main.rs`.

mod event;
mod json;
pub mod protocol;
