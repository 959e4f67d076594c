//! What the tests of whole programs need: real processes on free ports in temporary directories, clients, faults,
//! load. Not published, and not part of any program.

#![expect(clippy::unwrap_used, reason = "a harness that cannot do its work ends its test")]

pub mod clients;
pub mod faults;
pub mod harness;
pub mod load;
pub mod siege;
pub mod soak;
