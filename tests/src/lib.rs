//! World harness.

pub mod plugin_host;
