//! What was refused lately, for an operator.

/// A refused event or push. Its texts are those of clients.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NotedRefusal {
    /// Of an event its id, of a push the number that its pusher reads.
    pub request: String,
    /// What was refused: "event 30618", "push".
    pub what: String,
    /// Where it came from, as the relay names it: `IP4 203.0.113.7`.
    pub source: String,
    /// Who has signed it, hex; empty: a push, which nobody signs.
    pub author: String,
    /// The repositories that it names.
    pub repositories: String,
    /// What the rules say, or of a push each ref with its reason.
    pub reason: String,
}
