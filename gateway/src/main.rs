//! grasp-gateway.
fn main() {}
