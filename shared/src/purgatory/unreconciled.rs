//! Reconciling PRs: which of them, and the results.

use std::collections::BTreeSet;

use nostr::event::EventId;

/// PRs of one repository, and events for which commits may be staged there, that must be reconciled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreconciledPullRequests {
    /// The number of the last change when they were read: they are reconciled up to that change.
    pub(super) last_change: String,
    pub(super) members: Vec<UnreconciledPullRequest>,
}

/// One of them, as it is in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UnreconciledPullRequest {
    pub(super) event_id: EventId,
    pub(super) member: String,
    pub(super) score: String,
}

impl UnreconciledPullRequests {
    /// Returns their event ids.
    pub fn event_ids(&self) -> BTreeSet<EventId> {
        self.members.iter().map(|pull_request| pull_request.event_id).collect()
    }
}

/// The result of reconciling an event's PR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullRequestOutcome {
    /// Something is staged for it.
    Staged,
    /// It could not be reconciled completely: it is reconciled again, after all others.
    Again,
    /// It is reconciled again in so many seconds, if it is held until then.
    Later {
        /// How many.
        secs: u64,
    },
}
