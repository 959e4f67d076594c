//! GRASP git server.

pub mod git;
