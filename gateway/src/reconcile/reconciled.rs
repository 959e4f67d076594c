//! The work that a reconcile leaves to its caller.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use nostr::event::EventId;
use shared::nip34::Coordinate;
use shared::purgatory::Leased;
use shared::rules::Facts;
use shared::rules::Installation;
use shared::rules::Staged;

/// The work that a reconcile has left.
#[derive(Debug, Default)]
#[must_use = "what a reconcile has leased must be published"]
pub(crate) struct Reconciled {
    /// The events that are complete, to be published in this order.
    pub(crate) leased: Vec<Leased>,
    /// Complete events that are published as soon as those that they are ordered after are served.
    pub(crate) waiting: BTreeSet<EventId>,
    /// Of the repositories asked about, those that could not be read or changed: they stay dirty.
    pub(crate) broken: BTreeSet<Coordinate>,
    /// PRs whose ref could not be set in a repository, and for how many seconds their events have been held.
    pub(crate) uninstallable: BTreeMap<(Coordinate, EventId), u64>,
    /// Those of them that have to be prepared first, outside the lock.
    pub(crate) unprepared: Vec<Installation>,
    /// Events that wait until a repository can be read or changed.
    pub(crate) undecided: BTreeSet<EventId>,
    /// Repositories that others held, which are dirty now.
    pub(crate) left: BTreeSet<Coordinate>,
    /// PRs that find no room in a repository, and what they lack.
    pub(crate) lacking: BTreeMap<(Coordinate, EventId), String>,
    /// Objects that stay staged of the reconciled PRs.
    pub(crate) staged: BTreeSet<Staged>,
    /// Staged objects of them that could not be removed.
    pub(crate) still_staged: BTreeSet<Staged>,
    /// Coordinates to lock and reconcile together with these, before a PR of several can expire.
    pub(crate) also_lock: BTreeSet<Coordinate>,
}

impl Reconciled {
    /// Adds what another reconcile has left, of more repositories.
    pub(crate) fn extend(&mut self, other: Self) {
        self.leased.extend(other.leased);
        self.waiting.extend(other.waiting);
        self.broken.extend(other.broken);
        self.uninstallable.extend(other.uninstallable);
        self.unprepared.extend(other.unprepared);
        self.undecided.extend(other.undecided);
        self.left.extend(other.left);
        self.lacking.extend(other.lacking);
        self.staged = other.staged;
        self.still_staged = other.still_staged;
    }

    /// Whether everything that was planned for a repository was done.
    pub(crate) fn is_done_for(&self, coordinate: &Coordinate) -> bool {
        let is_uninstallable = self.uninstallable.keys().any(|(at, _)| at == coordinate);
        !self.broken.contains(coordinate) && !is_uninstallable
    }
}

/// Adds for how many seconds each event has been held; 0: it is served.
pub(super) fn with_ages(
    facts: &Facts,
    pull_requests: BTreeSet<(Coordinate, EventId)>,
) -> BTreeMap<(Coordinate, EventId), u64> {
    let age = |event_id: &EventId| {
        let entry = facts.entries.get(event_id);
        entry.map_or(0, |entry| facts.now.saturating_sub(entry.held_since))
    };
    let with_age = |key: (Coordinate, EventId)| (age(&key.1), key);
    pull_requests
        .into_iter()
        .map(with_age)
        .map(|(age, key)| (key, age))
        .collect()
}
