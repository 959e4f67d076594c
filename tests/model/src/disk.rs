//! What is on disk, and what of it fails.

use crate::event::Coordinates;
use crate::event::Event;
use crate::event::Events;
use crate::event::Parts;

/// What is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Disk {
    /// Of which states the objects are in a repository, by coordinate.
    pub objects: [Events; 2],
    /// The state that the branches and tags of a repository equal, by coordinate; `None`: there are none.
    pub refs: [Option<Event>; 2],
    /// What of the newer state is kept aside for X.
    pub parts: Parts,
    /// Where the commit of the PR is kept aside.
    pub staged: Coordinates,
    /// Where the PR has its ref.
    pub installed: Coordinates,
}

/// What of the disk fails at one reconcile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct DiskErrors {
    /// Repositories that cannot be read.
    pub unreadable: Coordinates,
    /// Repositories that can be read and not changed.
    pub unchangeable: Coordinates,
    /// Repositories in which the ref of the PR cannot be set, though all else can be changed.
    pub uninstallable: Coordinates,
}

impl Disk {
    /// Returns what a reconcile sees of it.
    pub fn as_read(mut self, errors: DiskErrors) -> Self {
        for one in errors.unreadable.iter() {
            (self.objects[one.index()], self.refs[one.index()]) = (Events::NONE, None);
        }
        self.installed = self.installed.without(errors.unreadable);
        self
    }

    /// Tells whether there is a repository.
    pub fn has_repository(&self, coordinate: Coordinates) -> bool {
        self.objects[coordinate.index()] != Events::NONE || self.installed.meets(coordinate)
    }

    /// Brings a repository to a state: refs and the objects that it needs.
    pub fn align(&mut self, coordinate: Coordinates, state: Event) {
        self.objects[coordinate.index()].add(state);
        self.refs[coordinate.index()] = Some(state);
    }
}

impl DiskErrors {
    /// Nothing fails.
    pub const NONE: Self = Self {
        unreadable: Coordinates::NONE,
        unchangeable: Coordinates::NONE,
        uninstallable: Coordinates::NONE,
    };

    /// Returns the repositories that nothing is decided about.
    pub fn broken(self) -> Coordinates {
        self.unreadable.with(self.unchangeable)
    }

    /// Returns the repositories of which something fails.
    pub fn all(self) -> Coordinates {
        self.broken().with(self.uninstallable)
    }
}
