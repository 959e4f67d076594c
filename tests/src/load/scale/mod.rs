//! A server with very much on disk, and one with very much held (`scripts/scale`).

pub mod disk;
pub mod held;
pub mod start;
