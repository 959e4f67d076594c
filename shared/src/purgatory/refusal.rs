//! What was refused lately, for an operator.

use serde_json::Value;
use serde_json::json;

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

impl NotedRefusal {
    /// Returns it as the purgatory keeps it: each text only as far as a person reads it.
    pub(crate) fn to_json(&self) -> Value {
        let short = |text: &str| text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned();
        json!([
            short(&self.request),
            short(&self.what),
            short(&self.source),
            short(&self.author),
            short(&self.repositories),
            short(&self.reason),
        ])
    }

    /// Reads what [`NotedRefusal::to_json`] has written.
    pub(crate) fn parse(json: &str) -> Option<Self> {
        let [request, what, source, author, repositories, reason]: [String; 6] = serde_json::from_str(json).ok()?;
        Some(Self {
            request,
            what,
            source,
            author,
            repositories,
            reason,
        })
    }
}

/// Longest of its texts.
const TEXT_BYTES_MAX: usize = 400;
