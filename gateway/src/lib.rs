//! GRASP git server.

pub mod embedded;
