//! strfry write policy.
fn main() {}
