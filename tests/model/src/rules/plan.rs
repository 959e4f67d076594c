//! What a reconcile is to do (`shared/src/rules/reconcile/plan.rs`).

use super::EventStatus;
use super::Facts;
use crate::Configuration;
use crate::event::Coordinates;
use crate::event::Event;
use crate::event::Events;

/// What a reconcile is to do, in this order (`Plan`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Plan {
    /// The state to bring a repository to, by coordinate.
    pub align: [Option<Event>; 2],
    /// Where to set the ref of the PR.
    pub install: Coordinates,
    /// What is complete.
    pub releases: Events,
    /// What of it must wait until the announcement has left.
    pub after_announcement: Events,
    /// Entries that wait for what cannot be read or changed: they neither expire nor are superseded.
    pub undecided: Events,
    /// Entries that are superseded or deleted.
    pub ended: Events,
    /// Entries whose time is over.
    pub expired: Events,
    /// Placeholders whose event is here.
    pub placeholders_ended: Coordinates,
    /// Staged commits that nothing names any more.
    pub unstage: Coordinates,
    /// Whether nothing is kept aside of the newer state any more.
    pub ends_parts: bool,
    /// Where a released state is in place, or an expired one was looked for: nobody else may change these meanwhile.
    pub relies_on: Coordinates,
    /// Those that must be reconciled together with these before a PR can expire.
    pub widen: Coordinates,
    /// Whose served announcements list somebody, and that is not noted.
    pub note: Coordinates,
    /// The same of held ones.
    pub note_held: Coordinates,
    /// Of whom it is noted, and their announcements list nobody any more.
    pub take_off: Coordinates,
}

impl Plan {
    /// Tells whether it changes nothing.
    pub fn is_void(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the repositories that it changes.
    pub fn changed(&self) -> Coordinates {
        let aligned = Coordinates::EACH
            .into_iter()
            .filter(|one| self.align[one.index()].is_some());
        aligned.fold(self.install, Coordinates::with)
    }

    /// Leaves out what needs the lock of others, and can be put in order when they are reconciled (`confine_to`).
    pub fn confine_to(&mut self, locked: Coordinates) {
        self.unstage = self.unstage.within(locked);
        self.ends_parts &= locked.meets(Coordinates::X);
        self.placeholders_ended = self.placeholders_ended.within(locked);
    }
}

/// Tells whether what depends on one of these repositories is published after the announcement
/// (`announcements_before`): not if one of them is served already.
pub(super) fn is_after_announcement(
    model: &Configuration,
    facts: &Facts,
    repositories: Coordinates,
    plan: &Plan,
) -> bool {
    let mut statuses = repositories.iter().map(|one| facts.announcement_status(model, one));
    let is_on_its_way = || {
        let announcement = facts.event_status(model, Event::Announcement);
        announcement == EventStatus::Releasing || plan.releases.has(Event::Announcement)
    };
    repositories.meets(model.scene.announced())
        && !statuses.any(|status| status == EventStatus::Served)
        && is_on_its_way()
}
