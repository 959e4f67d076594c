//! The scripts of `shared/src/purgatory/store/scripts/`, each one atomic step of Redis and a method of its name.

use crate::event::Coordinates;
use crate::event::Event;
use crate::event::Events;
use crate::redis::Entry;
use crate::redis::EntryStatus;
use crate::redis::GatewayId;
use crate::redis::Reading;
use crate::redis::Redis;
use crate::redis::Settlement;
use crate::scene::Scene;

/// What `hold_entry.lua` is given.
#[derive(Debug, Clone, Copy)]
pub struct Hold {
    /// The event.
    pub event: Event,
    /// What it is held under.
    pub coordinates: Coordinates,
    /// Whom it lists, if it is an announcement.
    pub lists: Coordinates,
    /// Entries to hold as long as this one.
    pub extend: Events,
}

impl Hold {
    /// Returns what holds an event.
    pub fn of(scene: Scene, event: Event, extend: Events) -> Self {
        let lists = match event {
            Event::Announcement => scene.lists(scene.home(event)),
            Event::Older | Event::Newer | Event::PullRequest => Coordinates::NONE,
        };
        Self {
            event,
            coordinates: scene.coordinates(event),
            lists,
            extend,
        }
    }
}

/// What `hold_entry.lua` returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldOutcome {
    /// It is held now.
    Held,
    /// It was there, with this status.
    Already(EntryStatus),
    /// Its author asked to delete it.
    Deleted,
}

impl Redis {
    /// `read_page.lua`.
    pub fn read(&self) -> Reading {
        let overdue = |event: &Event| self.entries[event.index()].is_overdue;
        Reading {
            statuses: self.entries.map(|entry| entry.status),
            overdue: Event::ALL.into_iter().filter(overdue).collect(),
            dirty: self.dirty,
            placeholders: self.placeholders,
            noted: self.noted,
        }
    }

    /// `mark_dirty_page.lua`, and what other scripts do at their end.
    pub fn mark_dirty(&mut self, coordinates: Coordinates) {
        for one in coordinates.iter() {
            self.dirty[one.index()] = NEW_NUMBER;
        }
    }

    /// `clear_dirty.lua`.
    pub fn clear_dirty(&mut self, coordinate: Coordinates, read: u8) {
        let number = &mut self.dirty[coordinate.index()];
        if read != 0 && *number == read {
            *number = 0;
        }
    }

    /// `hold_entry.lua`.
    pub fn hold(&mut self, hold: Hold) -> HoldOutcome {
        let Hold {
            event,
            coordinates,
            extend,
            ..
        } = hold;
        if self.gates.has(event) {
            return HoldOutcome::Deleted;
        }
        let Entry {
            status: found,
            is_overdue,
            ..
        } = self.entries[event.index()];
        // An OK is about a whole hold: what is past its deadline is as good as gone.
        let is_gone = matches!(found, EntryStatus::Absent | EntryStatus::Asleep);
        let is_held_anew = is_gone || found == EntryStatus::Held && is_overdue;
        if is_held_anew {
            *self.entry(event) = held(coordinates);
            self.extend(extend);
        }
        self.follow_listings(hold);
        // A PR has a mark already, or what completes it brings one.
        if is_held_anew || event != Event::PullRequest {
            self.mark_dirty(coordinates);
        }
        match found {
            EntryStatus::Absent => HoldOutcome::Held,
            EntryStatus::Held | EntryStatus::Asleep | EntryStatus::Releasing => HoldOutcome::Already(found),
        }
    }

    /// `follow_listings_page.lua`, and what `hold_entry.lua` does of it: all where an announcement lists few.
    pub fn follow_listings(&mut self, hold: Hold) {
        if self.status(hold.event).is_waiting() && !hold.lists.is_empty() {
            self.add_listing(hold.coordinates, hold.lists);
        }
    }

    /// `extend_page.lua`.
    pub fn extend(&mut self, events: Events) {
        for event in events.iter() {
            match self.status(event) {
                EntryStatus::Held => self.entry(event).is_overdue = false,
                EntryStatus::Asleep => {
                    let coordinates = self.entry(event).coordinates;
                    *self.entry(event) = held(coordinates);
                    self.mark_dirty(coordinates);
                }
                EntryStatus::Absent | EntryStatus::Releasing => {}
            }
        }
    }

    /// `mark_overdue.lua`.
    pub fn mark_overdue(&mut self) {
        for event in self.overdue().iter() {
            self.mark_dirty(self.entries[event.index()].coordinates);
        }
    }

    /// Returns what waits and is past its deadline.
    pub fn overdue(&self) -> Events {
        Event::ALL
            .into_iter()
            .filter(|event| self.entries[event.index()].is_overdue)
            .collect()
    }

    /// `mark_held_page.lua`.
    pub fn mark_held(&mut self) {
        let waiting = Event::ALL.into_iter().filter(|event| self.status(*event).is_waiting());
        let coordinates = waiting.map(|event| self.entries[event.index()].coordinates);
        self.mark_dirty(coordinates.fold(self.placeholders, Coordinates::with));
    }

    /// `expire.lua`, which lets a held announcement sleep.
    pub fn expire(&mut self, event: Event) {
        let entry = self.entry(event);
        if !entry.status.is_waiting() || !entry.is_overdue {
            return;
        }
        *entry = match (event, entry.status) {
            (Event::Announcement, EntryStatus::Held) => Entry {
                status: EntryStatus::Asleep,
                coordinates: entry.coordinates,
                ..Entry::default()
            },
            _ => return self.remove(event),
        };
    }

    /// `end_page.lua`.
    pub fn end(&mut self, event: Event) {
        if self.status(event).is_waiting() {
            self.remove(event);
        }
    }

    /// `remove_entry` of `common.lua`: with an announcement that waits, what no served one lists leaves the index.
    fn remove(&mut self, event: Event) {
        let removed = std::mem::take(self.entry(event));
        if event == Event::Announcement && removed.status.is_waiting() {
            let left = removed.coordinates.without(self.noted_served);
            self.noted = self.noted.without(left);
        }
    }

    /// `delete_page.lua`.
    pub fn delete(&mut self, event: Event) {
        self.gates.add(event);
        if self.status(event) != EntryStatus::Absent {
            let coordinates = self.entries[event.index()].coordinates;
            self.remove(event);
            self.mark_dirty(coordinates);
        }
    }

    /// `mark_releasing_page.lua`. Returns what the gateway has the lease of: not what is ordered after an announcement
    /// that somebody else is releasing, which is due when that has left.
    pub fn mark_releasing(
        &mut self,
        gateway: GatewayId,
        releases: impl IntoIterator<Item = (Event, Coordinates)>,
        after_announcement: Events,
    ) -> Events {
        let mut marked = Events::NONE;
        for (event, coordinates) in releases {
            let old = self.entries[event.index()];
            let is_anothers = old.status == EntryStatus::Releasing && !old.is_due;
            if is_anothers || self.gates.has(event) {
                continue;
            }
            *self.entry(event) = Entry {
                status: EntryStatus::Releasing,
                coordinates,
                is_due: true,
                is_after_announcement: after_announcement.has(event),
                ..Entry::default()
            };
            marked.add(event);
        }
        let is_anothers =
            self.status(Event::Announcement) == EntryStatus::Releasing && !marked.has(Event::Announcement);
        let is_blocked = |event: &Event| is_anothers && after_announcement.has(*event);
        let leased: Events = marked.iter().filter(|event| !is_blocked(event)).collect();
        self.lease(gateway, leased);
        leased
    }

    fn lease(&mut self, gateway: GatewayId, leased: Events) {
        for event in leased.iter() {
            let entry = self.entry(event);
            entry.lease = Some(gateway);
            entry.is_due = false;
        }
    }

    /// `mark_releasing_page.lua` with a lease that is over at once.
    pub fn release_again(&mut self, event: Event, coordinates: Coordinates) {
        if self.status(event) != EntryStatus::Releasing && !self.gates.has(event) {
            *self.entry(event) = Entry {
                status: EntryStatus::Releasing,
                coordinates,
                is_due: true,
                ..Entry::default()
            };
        }
    }

    /// Returns what `take_due.lua` would lease: nothing that is ordered after what is still releasing.
    pub fn due(&self) -> Events {
        let announcement_is_releasing = self.status(Event::Announcement) == EntryStatus::Releasing;
        let is_due = |event: &Event| {
            let entry = &self.entries[event.index()];
            let is_blocked = entry.is_after_announcement && announcement_is_releasing;
            entry.status == EntryStatus::Releasing && entry.is_due && !is_blocked
        };
        Event::ALL.into_iter().filter(is_due).collect()
    }

    /// `take_due.lua`. Returns what the gateway has the lease of.
    pub fn take_due(&mut self, gateway: GatewayId) -> Events {
        let due = self.due();
        self.lease(gateway, due);
        due
    }

    /// `settle.lua`. Returns whether the lease was the right one.
    pub fn settle(&mut self, gateway: GatewayId, event: Event, settlement: Settlement) -> bool {
        let is_current = self.entries[event.index()].lease == Some(gateway);
        if is_current {
            self.settle_whoever_asks(event, settlement);
        }
        is_current
    }

    /// What `settle.lua` does when the lease is the right one. `HSET` makes an entry where there is none.
    pub fn settle_whoever_asks(&mut self, event: Event, settlement: Settlement) {
        let entry = self.entry(event);
        match settlement {
            Settlement::Served => *entry = Entry::default(),
            Settlement::Dropped => {
                let dropped = std::mem::take(entry);
                self.mark_dirty(dropped.coordinates);
            }
            Settlement::GiveBack | Settlement::Retry => {
                entry.status = EntryStatus::Releasing;
                entry.lease = None;
                entry.is_due = settlement == Settlement::GiveBack;
            }
        }
    }

    /// `put_placeholder.lua`.
    pub fn put_placeholder(&mut self, coordinate: Coordinates) {
        self.placeholders = self.placeholders.with(coordinate);
    }

    /// `drop_placeholder.lua`.
    pub fn drop_placeholder(&mut self, coordinate: Coordinates) {
        self.placeholders = self.placeholders.without(coordinate);
    }

    /// `note_listings_page.lua`, for an announcement that lists somebody.
    pub fn note_listing(&mut self, coordinate: Coordinates, listed: Coordinates, is_served: bool) {
        self.add_listing(coordinate, listed);
        self.noted_served = match is_served {
            true => self.noted_served.with(coordinate),
            false => self.noted_served.without(coordinate),
        };
    }

    /// `note_listings_page.lua`, for one that lists nobody.
    pub fn take_listing_off(&mut self, coordinate: Coordinates) {
        self.noted = self.noted.without(coordinate);
        self.noted_served = self.noted_served.without(coordinate);
    }

    /// Whoever decides about what is dirty, and has not read the new note, clears no mark.
    fn add_listing(&mut self, coordinate: Coordinates, listed: Coordinates) {
        if !self.noted.meets(coordinate) {
            self.noted = self.noted.with(coordinate);
            self.mark_dirty(self.dirty_coordinates().within(listed.with(coordinate)));
        }
    }

    fn entry(&mut self, event: Event) -> &mut Entry {
        &mut self.entries[event.index()]
    }
}

/// Just held, with its whole time before it.
fn held(coordinates: Coordinates) -> Entry {
    Entry {
        status: EntryStatus::Held,
        coordinates,
        ..Entry::default()
    }
}

/// A number that was never drawn: none of those in use after [`crate::state::State::normalise`].
const NEW_NUMBER: u8 = 3;
