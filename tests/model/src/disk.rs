//! What is on disk, and what of it fails.

use crate::event::Event;
use crate::event::Events;
use crate::event::Identifiers;

/// What is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Disk {
    /// Of which states the objects are in the repository at X.
    pub objects: Events,
    /// The state that the branches and tags at X equal; `None`: there are none.
    pub refs: Option<Event>,
    /// Where the commit of the PR is kept aside.
    pub staged: Identifiers,
    /// Where the PR has its ref.
    pub installed: Identifiers,
}

/// What of the disk fails at one reconcile, by the identifier of the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct DiskErrors {
    /// Repositories that cannot be read.
    pub unreadable: Identifiers,
    /// Repositories that can be read and not changed.
    pub unchangeable: Identifiers,
    /// Repositories in which the ref of the PR cannot be set, though all else can be changed.
    pub uninstallable: Identifiers,
}

impl Disk {
    /// Returns what a reconcile sees of it.
    pub fn as_read(mut self, errors: DiskErrors) -> Self {
        if errors.unreadable.meets(Identifiers::X) {
            (self.objects, self.refs) = (Events::NONE, None);
        }
        self.installed = self.installed.without(errors.unreadable);
        self
    }
}

impl DiskErrors {
    /// Nothing fails.
    pub const NONE: Self = Self {
        unreadable: Identifiers::NONE,
        unchangeable: Identifiers::NONE,
        uninstallable: Identifiers::NONE,
    };

    /// Returns the repositories that nothing is decided about.
    pub fn broken(self) -> Identifiers {
        self.unreadable.with(self.unchangeable)
    }
}
