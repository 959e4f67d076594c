//! Times and counts that both stores keep to.

/// How long after its deadline something goes even if nobody decides about it.
pub(super) const BACKSTOP_SECS: u64 = 48 * 60 * 60;

/// How long a deleted event is kept out. Only until the relay has committed the request: the relay itself is asked for
/// the deletions that it serves.
pub(super) const GATE_SECS: u64 = 10 * 60;

/// How many due entries one step looks at, however few of them it may take.
pub(super) const LOOKED_AT_MAX: usize = 1000;

/// Longest time span that is taken at its word (136 years), so that no sum overflows.
pub(super) const SPAN_SECS_MAX: u64 = u32::MAX as u64;
