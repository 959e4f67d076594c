//! The options of both programs: how they are read, which units they take, and the groups that both have.

pub mod access_files;
#[cfg(feature = "options")]
pub mod config_errors;
#[cfg(feature = "options")]
pub mod held_limits;
#[cfg(feature = "options")]
pub mod redis;
#[cfg(feature = "options")]
pub mod rules;
#[cfg(feature = "options")]
pub mod values;
