//! Kinds 1618 and 1619, PR and PR update (NIP-34): a commit offered to repositories.

use std::collections::BTreeSet;

use nostr::event::Event;
use nostr::event::EventId;

use super::Coordinate;
use super::Identifier;
use crate::git::Oid;
use crate::nip01::first_tag;
use crate::nip01::tag_values;

/// A PR or a PR update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullRequest {
    /// The event's id, which names the ref `refs/nostr/<event-id>`.
    pub event_id: EventId,
    /// The repositories it is offered to (`a` tags), at least one.
    pub coordinates: BTreeSet<Coordinate>,
    /// The commit that is offered (`c` tag).
    pub commit_oid: Oid,
}

/// Why an event is no usable PR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PullRequestError {
    /// There is no `c` tag, and never will be: a signed event does not change.
    #[error("PR event has no 'c' tag with the commit that is offered")]
    NoCommit,
    /// The `c` tag is no object id.
    #[error("the 'c' tag of the PR event is not an object id")]
    Commit,
    /// No `a` tag names a repository.
    #[error("PR event has no 'a' tag with the coordinate of a repository")]
    NoRepository,
    /// More `a` tags than one event may occupy repositories with.
    #[error("PR event names {count} repositories, more than {}", PullRequest::REPOSITORIES_MAX)]
    TooManyRepositories {
        /// How many it names.
        count: usize,
    },
}

impl PullRequest {
    /// Most repositories that one PR may be offered to.
    pub const REPOSITORIES_MAX: usize = 16;

    /// Reads a PR or PR update.
    ///
    /// # Errors
    /// See [`PullRequestError`]. The kind is not looked at.
    pub fn parse(event: &Event) -> Result<Self, PullRequestError> {
        let commit = first_tag(event, "c").and_then(|values| values.first());
        let commit_oid = commit
            .ok_or(PullRequestError::NoCommit)?
            .parse()
            .map_err(|_| PullRequestError::Commit)?;
        let coordinates: BTreeSet<Coordinate> = tag_values(event, "a")
            .filter_map(|address| address.parse().ok())
            .collect();
        match coordinates.len() {
            0 => Err(PullRequestError::NoRepository),
            count if count > Self::REPOSITORIES_MAX => Err(PullRequestError::TooManyRepositories { count }),
            _ => Ok(Self {
                event_id: event.id,
                coordinates,
                commit_oid,
            }),
        }
    }

    /// Returns the identifiers of the repositories it is offered to.
    pub fn identifiers(&self) -> BTreeSet<Identifier> {
        self.coordinates
            .iter()
            .map(|coordinate| coordinate.identifier.clone())
            .collect()
    }
}
