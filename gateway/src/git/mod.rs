//! git as a program: which one it is, and how it is run. What it works on is in `repositories`.

pub(crate) mod command;
pub(crate) mod error;
pub(crate) mod invocation;
pub(crate) mod permits;
pub(crate) mod version;
