//! What goes wrong between two programs: connections that stop, end or drip, git commands that are killed or fail, and
//! disks that are full or read-only.

pub mod clock;
pub mod frames;
pub mod git_wrapper;
pub mod held_refs;
pub mod slow_line;
pub mod small_disk;
pub mod tcp_proxy;
