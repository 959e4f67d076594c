//! The outcomes of fetches, in the words of the metrics.

#[derive(Debug, Clone, Copy)]
pub(super) enum FetchOutcome {
    Answered,
    /// There is no room or no slot for it.
    Busy,
    /// It cannot be understood, or does not come.
    Malformed,
    /// Something fails here.
    Failed,
    /// There is nothing to read here, or not now.
    Unreadable,
}

/// In the order of [`FetchOutcome`].
pub(crate) const FETCH_OUTCOMES: [&str; 5] = ["answered", "busy", "malformed", "failed", "unreadable"];
