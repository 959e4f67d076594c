//! Whose repositories there are at X and Y, and whom their announcements list as maintainers.

use crate::event::Coordinates;
use crate::event::Event;

/// How the two repositories belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scene {
    /// Two repositories of one owner, who signs both states, those of X. That at Y is announced throughout. They have
    /// nothing in common but PRs that are offered to both.
    Apart,
    /// X lists the owner of Y as a second maintainer, who signs the newer state and has no repository.
    Maintainer,
    /// The owners of X and Y list each other: the older state is by that of X, the newer one by that of Y. Both are
    /// announced throughout.
    Set,
    /// Y lists the owner of X, who does not list that of Y and signs both states. X is announced throughout, so the
    /// announcement that may be sent is that of Y.
    Listing,
}

impl Scene {
    /// Tells whether one author signs both states.
    pub fn is_one_author(self) -> bool {
        match self {
            Self::Apart | Self::Listing => true,
            Self::Maintainer | Self::Set => false,
        }
    }

    /// Returns the coordinate of its author's that a state or an announcement has.
    pub fn home(self, event: Event) -> Coordinates {
        match (self, event) {
            (Self::Listing, Event::Announcement) | (Self::Maintainer | Self::Set, Event::Newer) => Coordinates::Y,
            _ => Coordinates::X,
        }
    }

    /// Returns the coordinates that an event is held under, and marks dirty.
    pub fn coordinates(self, event: Event) -> Coordinates {
        match event {
            Event::Announcement | Event::Older | Event::Newer => self.home(event),
            Event::PullRequest => Coordinates::BOTH,
        }
    }

    /// Returns those whose announcements are served from the beginning to the end.
    pub fn announced_throughout(self) -> Coordinates {
        match self {
            Self::Apart => Coordinates::Y,
            Self::Maintainer => Coordinates::NONE,
            Self::Set => Coordinates::BOTH,
            Self::Listing => Coordinates::X,
        }
    }

    /// Returns that whose announcement may be sent.
    pub fn announced(self) -> Coordinates {
        match self {
            Self::Set => Coordinates::NONE,
            Self::Apart | Self::Maintainer | Self::Listing => self.home(Event::Announcement),
        }
    }

    /// Returns whose owners the announcement of a coordinate lists.
    pub fn lists(self, coordinate: Coordinates) -> Coordinates {
        match self {
            Self::Maintainer if coordinate == Coordinates::X => Coordinates::Y,
            Self::Set if coordinate == Coordinates::X => Coordinates::Y,
            Self::Set | Self::Listing if coordinate == Coordinates::Y => Coordinates::X,
            Self::Apart | Self::Maintainer | Self::Set | Self::Listing => Coordinates::NONE,
        }
    }

    /// Returns the coordinates that list the owner of one of these.
    pub fn listing(self, coordinates: Coordinates) -> Coordinates {
        let lists = Coordinates::EACH
            .into_iter()
            .filter(|one| self.lists(*one).meets(coordinates));
        lists.fold(Coordinates::NONE, Coordinates::with)
    }

    /// Tells whether the author of a state is a maintainer of a repository, as long as that is hosted.
    pub fn authorises(self, coordinate: Coordinates, state: Event) -> bool {
        let home = self.home(state);
        coordinate == home || self.lists(coordinate).meets(home)
    }
}
