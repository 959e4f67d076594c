//! Kinds 1618 and 1619, PR and PR update (NIP-34): a commit offered to repositories.

use std::collections::BTreeSet;

use nostr::event::Event;
use nostr::event::EventId;
use nostr::key::PublicKey;

use super::Coordinate;
use super::Defect;
use crate::git::Oid;
use crate::nip01::tag_values;

/// A PR or a PR update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullRequest {
    /// The event's id, which names the ref `refs/nostr/<event-id>`.
    pub event_id: EventId,
    /// Who offers it.
    pub author: PublicKey,
    /// The repositories it is offered to (`a` tags), at least one.
    pub coordinates: BTreeSet<Coordinate>,
    /// The commit that is offered (`c` tag).
    pub commit_oid: Oid,
}

impl PullRequest {
    /// Most repositories that one PR may be offered to.
    pub const REPOSITORIES_MAX: usize = 16;

    /// Reads a PR or PR update, without looking at the kind.
    pub fn parse(event: &Event) -> Result<Self, Defect> {
        let commit = tag_values(event, "c").next();
        let commit = commit.ok_or("PR event has no 'c' tag with its commit")?;
        let commit_oid = commit.parse();
        let commit_oid = commit_oid.map_err(|_| "the 'c' tag of the PR event is not an object id")?;
        let coordinates: BTreeSet<Coordinate> = tag_values(event, "a")
            .filter_map(|address| address.parse().ok())
            .collect();
        match coordinates.len() {
            0 => Err("PR event has no 'a' tag with the coordinate of a repository".into()),
            count if count > Self::REPOSITORIES_MAX => Err(format!(
                "PR event names {count} repositories, more than {}",
                Self::REPOSITORIES_MAX
            )
            .into()),
            _ => Ok(Self {
                event_id: event.id,
                author: event.pubkey,
                coordinates,
                commit_oid,
            }),
        }
    }
}
