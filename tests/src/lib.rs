//! World harness.
