//! Recent refusals, for an operator.

/// A refused event or push. Its texts are those of clients.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NotedRefusal {
    /// Of an event its id, of a push the number that its pusher reads.
    pub request: String,
    /// The refused thing: "event 30618", "push".
    pub what: String,
    /// Where it came from, as the relay names it: `IP4 203.0.113.7`.
    pub source: String,
    /// Its author, hex; empty: a push, which is not signed.
    pub author: String,
    /// The repositories that it names.
    pub repositories: String,
    /// The reason of the rules, or for a push each ref with its reason.
    pub reason: String,
}
