//! What is known when something is decided (`shared/src/load_facts.rs`, `shared/src/rules/facts.rs`).

use crate::Bug;
use crate::Configuration;
use crate::disk::Disk;
use crate::event::Coordinates;
use crate::event::Event;
use crate::event::Events;
use crate::redis::EntryStatus;
use crate::redis::Reading;

/// Where an event stands between its author and its readers (`EventStatus`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventStatus {
    /// Nowhere, or not among the facts.
    Unknown,
    /// It waits for its data.
    Held,
    /// An expired announcement.
    Asleep,
    /// Complete, on its way into the relay: counts as served.
    Releasing,
    /// The relay has it.
    Served,
}

impl EventStatus {
    /// Tells whether the event is served, or as good as served.
    pub fn counts_as_served(self) -> bool {
        matches!(self, Self::Served | Self::Releasing)
    }
}

/// How far facts reach (`Reach`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reach {
    /// To whom the announcement of what is asked about lists.
    Members,
    /// To those who list its owner too, as far as that is noted.
    Full,
}

/// What a query of the relay returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Answered {
    /// What it serves.
    pub served: Events,
    /// It has the deletion.
    pub has_deletion: bool,
}

/// Everything known at one moment (`Facts`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Facts {
    /// What the purgatory has.
    pub reading: Reading,
    /// What the relay has.
    pub relay: Answered,
    /// The coordinates that were read.
    pub covered: Coordinates,
    /// Those of which everything was read that decides about what their owners have signed.
    pub settled: Coordinates,
}

impl Facts {
    /// Puts together what was read about coordinates (`Outwards`): the announcements lead from one to the other, and
    /// the notes of whom they list lead back.
    pub fn assemble(
        model: &Configuration,
        (asked, reach): (Coordinates, Reach),
        reading: Reading,
        relay: Answered,
    ) -> Self {
        let scene = model.scene;
        let listing = reading.noted.within(scene.listing(asked));
        let mut covered = if reach == Reach::Full {
            asked.with(listing)
        } else {
            asked
        };
        let is_found = |one: Coordinates| match scene.announced() == one {
            true => {
                let is_held = reading.statuses[Event::Announcement.index()] != EntryStatus::Absent;
                is_held || relay.served.has(Event::Announcement)
            }
            false => scene.announced_throughout().meets(one),
        };
        for one in covered.iter().filter(|one| is_found(*one)) {
            covered = covered.with(scene.lists(one));
        }
        let unread = reading.noted.without(covered);
        let unsettled = unread
            .iter()
            .fold(Coordinates::NONE, |listed, one| listed.with(scene.lists(one)));
        Self {
            reading,
            relay,
            covered,
            settled: covered.without(unsettled),
        }
    }

    /// Returns the facts of a reconcile: whether a PR is served is asked only where something waits for it.
    pub fn of_reconcile(mut self, disk: &Disk) -> Self {
        let is_entered = self.reading.statuses[Event::PullRequest.index()] != EntryStatus::Absent;
        if !is_entered && !self.reading.placeholders.with(disk.staged).meets(self.covered) {
            self.relay.served.remove(Event::PullRequest);
        }
        self
    }

    /// Tells whether a served deletion rules an event out.
    pub fn is_deleted(&self, model: &Configuration, event: Event) -> bool {
        self.relay.has_deletion && model.deletes == Some(event)
    }

    /// Returns where an event stands.
    pub fn event_status(&self, model: &Configuration, event: Event) -> EventStatus {
        if !model.scene.coordinates(event).meets(self.covered) {
            return EventStatus::Unknown;
        }
        if self.relay.served.has(event) {
            return EventStatus::Served;
        }
        if self.is_deleted(model, event) {
            return EventStatus::Unknown;
        }
        match self.reading.statuses[event.index()] {
            EntryStatus::Absent => EventStatus::Unknown,
            EntryStatus::Held => EventStatus::Held,
            EntryStatus::Asleep => EventStatus::Asleep,
            EntryStatus::Releasing => EventStatus::Releasing,
        }
    }

    /// Returns where the announcement of a coordinate stands.
    pub fn announcement_status(&self, model: &Configuration, one: Coordinates) -> EventStatus {
        if model.scene.announced() == one {
            self.event_status(model, Event::Announcement)
        } else if model.scene.announced_throughout().within(self.covered).meets(one) {
            EventStatus::Served
        } else {
            EventStatus::Unknown
        }
    }

    /// Tells whether a repository is hosted: its announcement counts, held or counting as served.
    pub fn is_hosted(&self, model: &Configuration, one: Coordinates) -> bool {
        let event_status = self.announcement_status(model, one);
        event_status.counts_as_served() || event_status == EventStatus::Held
    }

    /// Returns where the repositories are that are hosted.
    pub fn hosted(&self, model: &Configuration) -> Coordinates {
        let hosted = self.covered.iter().filter(|one| self.is_hosted(model, *one));
        hosted.fold(Coordinates::NONE, Coordinates::with)
    }

    /// Returns the hosted repositories for which a state is authoritative.
    pub fn open_to(&self, model: &Configuration, state: Event) -> Coordinates {
        let hosted = self.hosted(model);
        let open = hosted.iter().filter(|one| model.scene.authorises(*one, state));
        open.fold(Coordinates::NONE, Coordinates::with)
    }

    /// Returns the state that governs a repository (`governing_state`).
    pub fn governing_state(&self, model: &Configuration, one: Coordinates) -> Option<Event> {
        let governs = |state: &Event| match model.bug {
            Some(Bug::GoverningWithoutReleasing) => self.event_status(model, *state) == EventStatus::Served,
            _ => self.event_status(model, *state).counts_as_served(),
        };
        [Event::Newer, Event::Older]
            .into_iter()
            .find(|state| self.open_to(model, *state).meets(one) && governs(state))
    }

    /// Returns the held states that could govern a repository next, newest first (`candidate_states`).
    pub fn candidate_states(&self, model: &Configuration, one: Coordinates) -> impl Iterator<Item = Event> {
        let governing = self.governing_state(model, one);
        let candidate = move |state: &Event| {
            let is_held = self.event_status(model, *state) == EventStatus::Held;
            self.open_to(model, *state).meets(one) && is_held && Some(*state) > governing
        };
        [Event::Newer, Event::Older].into_iter().filter(candidate)
    }
}
