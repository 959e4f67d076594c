//! Placeholder of the policy.
