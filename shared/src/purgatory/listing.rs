//! Whom announcements list as maintainers, as the index of listings has it.

use std::collections::BTreeSet;

use nostr::key::PublicKey;

use crate::rules::MEMBERS_MAX;

/// Whom the announcements of a repository list: at most as many of each kind as a repository may have maintainers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    /// By an announcement that counts as served.
    served: BTreeSet<PublicKey>,
    /// Only by announcements that are held or asleep.
    held: BTreeSet<PublicKey>,
}

impl Listing {
    /// Makes one of all whom served announcements list, and of all whom held ones do.
    pub fn new(served: &BTreeSet<PublicKey>, held: &BTreeSet<PublicKey>) -> Self {
        let first = |keys: &mut dyn Iterator<Item = &PublicKey>| keys.take(MEMBERS_MAX).copied().collect();
        let served: BTreeSet<PublicKey> = first(&mut served.iter());
        let held = first(&mut held.difference(&served));
        Self { served, held }
    }

    /// Returns those whom a served announcement lists, and those whom only held ones do.
    pub fn of_kinds(&self) -> [&BTreeSet<PublicKey>; 2] {
        [&self.served, &self.held]
    }

    /// Returns all of them.
    pub fn keys(&self) -> impl Iterator<Item = &PublicKey> + Clone {
        self.served.iter().chain(&self.held)
    }
}
