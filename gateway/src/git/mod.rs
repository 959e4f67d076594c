//! git as a process: which one it is, how it is run, how it ends. What it works on is in `repositories`.

pub(crate) mod child;
pub(crate) mod command;
pub(crate) mod invocation;
pub(crate) mod permits;
pub(crate) mod version;
