//! Somebody's repository, and the events that its people sign.

use nostr::event::Event;
use nostr::key::Keys;
use shared::nip34;
use shared::nip34::Coordinate;
use wire::path::npub;

use crate::clients::nostr::now;
use crate::clients::nostr::sign;
use crate::clients::nostr::tag;

/// Somebody's repository.
#[derive(Debug, Clone)]
pub struct Repository {
    /// Its owner's keys.
    pub owner: Keys,
    /// Its identifier.
    pub identifier: String,
}

impl Repository {
    /// A new owner's repository.
    pub fn new(identifier: &str) -> Self {
        Self {
            owner: Keys::generate(),
            identifier: identifier.to_owned(),
        }
    }

    /// Returns its coordinate.
    ///
    /// # Panics
    /// The identifier is none.
    pub fn coordinate(&self) -> Coordinate {
        Coordinate {
            owner: self.owner.public_key(),
            identifier: self.identifier.parse().unwrap(),
        }
    }

    /// Returns its owner's npub.
    pub fn npub(&self) -> String {
        npub(&self.owner.public_key())
    }

    /// Signs a state by the owner; refs are full names with their object ids.
    pub fn state(&self, created_at: u64, refs: &[(&str, &str)]) -> Event {
        self.state_by(&self.owner, created_at, refs)
    }

    /// Signs a state by somebody.
    pub fn state_by(&self, author: &Keys, created_at: u64, refs: &[(&str, &str)]) -> Event {
        let mut tags = vec![tag(&["d", &self.identifier]), tag(&["HEAD", "ref: refs/heads/main"])];
        tags.extend(refs.iter().map(|(name, oid)| tag(&[name, oid])));
        sign(author, nip34::STATE, created_at, &tags)
    }

    /// Signs a PR that offers a commit to this repository.
    pub fn pull_request(&self, author: &Keys, commit: &str) -> Event {
        let tags = [tag(&["a", &self.coordinate().to_string()]), tag(&["c", commit])];
        sign(author, nip34::PULL_REQUEST, now(), &tags)
    }
}
