//! What goes wrong between two programs: connections that stop, end or drip, and git commands that are killed.

pub mod clock;
pub mod frames;
pub mod git_wrapper;
pub mod slow_line;
pub mod tcp_proxy;
