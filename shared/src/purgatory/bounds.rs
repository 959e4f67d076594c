//! Times and counts that both stores keep to.

/// How long after its deadline an entry or a placeholder is removed even if no gateway decides about it.
pub(super) const BACKSTOP_SECS: u64 = 48 * 60 * 60;

/// How long a deleted event is kept out. Only until the relay has committed the request: from then on the relay itself
/// is asked for the deletions that it serves.
pub(super) const GATE_SECS: u64 = 10 * 60;

/// How many entries of an index one call reads at most, however few of them it may return.
pub(super) const SCANNED_MAX: usize = 1000;

/// Longest time span that is used as given (136 years), so that no sum overflows.
pub(super) const SPAN_SECS_MAX: u64 = u32::MAX as u64;

/// Where the pages of what is held begin, and end.
pub(super) const CURSOR_START: &str = "0";
