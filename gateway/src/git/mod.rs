//! git as a program: its version, and how it is run. `repositories` has what it works on.

pub(crate) mod command;
pub(crate) mod error;
pub(crate) mod invocation;
pub(crate) mod permits;
pub(crate) mod version;
