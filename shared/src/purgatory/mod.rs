//! The purgatory: events that are not served until their git data is here.

mod entry;

pub use entry::*;
