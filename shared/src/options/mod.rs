//! The options of both programs: how they are read, which units they take, and the groups that both have.

pub mod access_files;
pub mod chain;
pub mod config_errors;
pub mod config_file;
pub mod config_watch;
pub mod environment;
pub mod held_limits;
pub mod read_options;
pub mod redis;
mod redis_password;
pub mod rules;
pub mod values;
