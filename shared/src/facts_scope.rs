//! What facts are loaded about, and how far they reach.

use std::collections::BTreeSet;

use nostr::event::Event;
use nostr::event::EventId;

use crate::nip34::Coordinate;
use crate::purgatory::Reading;
use crate::rules::MEMBERS_MAX;

/// What to load facts about.
#[derive(Debug, Clone, Default)]
pub struct FactsScope {
    /// The coordinates from which facts are read outwards.
    pub coordinates: BTreeSet<Coordinate>,
    /// How far.
    pub reach: Reach,
    /// The PRs and PR updates that are loaded, wherever they are; no others are.
    pub pull_request_ids: BTreeSet<EventId>,
    /// An event that arrives: deletions of it are loaded too, although the purgatory does not have it.
    pub arriving: Option<Event>,
}

impl FactsScope {
    /// One repository.
    pub fn of(coordinate: &Coordinate) -> Self {
        Self {
            coordinates: [coordinate.clone()].into(),
            ..Self::default()
        }
    }
}

/// How far facts reach from a coordinate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reach {
    /// To whom its announcement lists as maintainers, whom theirs list, and so on: all that decides about the
    /// repository itself.
    #[default]
    Members,
    /// In addition, to the repositories that list its owner, and so on: everything that decides about the owner's
    /// events.
    Listing {
        /// How many of them at most, those with a served announcement first.
        most: usize,
    },
}

impl Reach {
    /// To all who list an owner that there ever are, at most.
    pub const FULL: Self = Self::Listing { most: MEMBERS_MAX };

    /// As far as an honest set of maintainers reaches.
    pub const NEAR: Self = Self::Listing {
        most: Reading::LISTED_BY_MAX,
    };
}
