//! The outcomes of pushes, in the words of the metrics.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PushOutcome {
    /// Every ref is as the pusher wanted it.
    Taken,
    /// It is a part of a state, and is kept aside until the rest comes.
    Kept,
    /// The rules refuse at least one ref.
    Rules,
    /// The pack is malformed, or did not come whole.
    Pack,
    /// There is no room or no slot for it, or it came too slowly.
    Limit,
    /// Something that it needs does not work here.
    Unavailable,
    /// The request cannot be understood.
    Malformed,
    Absent,
}

/// In the order of [`PushOutcome`].
pub(crate) const PUSH_OUTCOMES: [&str; 8] = [
    "taken",
    "kept",
    "rules",
    "pack",
    "limit",
    "unavailable",
    "malformed",
    "absent",
];
