//! What must have become of an event that was answered OK, given what is served and held.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::HashSet;

use nostr::event::Event;
use nostr::event::EventId;
use shared::nip34;

use super::ledger::Sent;

/// What became of an event that was answered OK.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// The relay serves it.
    Served,
    /// It is in the purgatory, held or on its way.
    Held,
    /// Its deadline passed; an announcement may be asleep.
    Expired,
    /// A newer one of its author has taken its place.
    Superseded,
    /// Its author asked to delete it.
    Deleted,
    /// None of these.
    Lost,
}

/// Where events are.
#[derive(Debug, Default)]
pub(super) struct Whereabouts {
    /// Entries of the purgatory with their status.
    pub(super) held: HashMap<EventId, String>,
    /// Served, of those that are not held.
    pub(super) served: HashSet<EventId>,
    /// The time at which this was read.
    pub(super) now: u64,
}

/// Everything that was sent, and for how long events are held.
pub(super) struct Rules<'s> {
    /// Events by id.
    pub(super) events: &'s BTreeMap<EventId, Sent>,
    /// `--hold-secs`
    pub(super) hold_secs: u64,
}

impl Rules<'_> {
    /// Says what became of an event that was answered OK.
    pub(super) fn fate(&self, sent: &Sent, places: &Whereabouts) -> Fate {
        let id = sent.event.id;
        let may_expire = || !self.is_complete(sent) && places.now >= sent.first_sent + self.hold_secs;
        match places.held.get(&id).map(String::as_str) {
            Some("asleep") if may_expire() => Fate::Expired,
            Some(_) => Fate::Held,
            None if places.served.contains(&id) => Fate::Served,
            None if sent.deletion_sent => Fate::Deleted,
            None if self.is_superseded(sent, places) => Fate::Superseded,
            None if may_expire() => Fate::Expired,
            None => Fate::Lost,
        }
    }

    /// Tells whether an event has its git data and all else that it waits for: then it is released, and never expires.
    pub(super) fn is_complete(&self, sent: &Sent) -> bool {
        let is_of =
            |kind: u16, other: &Sent| other.event.kind.as_u16() == kind && other.project.path == sent.project.path;
        let was_served = sent.served_at.is_some();
        match sent.event.kind.as_u16() {
            nip34::STATE => was_served || sent.pushed,
            // Seen later than it was, so an announcement that came too late for it never seems to be in time.
            nip34::PULL_REQUEST => {
                let deadline = sent.first_sent + self.hold_secs;
                let in_time = |at: u64| at < deadline;
                let is_announced = |other: &Sent| {
                    is_of(nip34::ANNOUNCEMENT, other) && !other.deletion_sent && other.served_at.is_some_and(in_time)
                };
                was_served || sent.pushed && self.events.values().any(is_announced)
            }
            _ => {
                was_served
                    || self
                        .events
                        .values()
                        .any(|other| is_of(nip34::STATE, other) && other.pushed)
            }
        }
    }

    /// Tells whether a newer event of the same author and address is, or was, in its place.
    fn is_superseded(&self, sent: &Sent, places: &Whereabouts) -> bool {
        let rank = |event: &Event| (event.created_at, Reverse(event.id));
        let is_newer = |other: &Sent| {
            other.event.kind == sent.event.kind
                && other.event.pubkey == sent.event.pubkey
                && other.project.repository.identifier == sent.project.repository.identifier
                && rank(&other.event) > rank(&sent.event)
        };
        // Of announcements one is held, the newest; a state ends when a newer one is public.
        let is_announcement = sent.event.kind.as_u16() == nip34::ANNOUNCEMENT;
        let takes_its_place = |other: &Sent| {
            let held = places.held.get(&other.event.id);
            let is_leaving = |status: &String| matches!(status.as_str(), "releasing" | "stuck");
            places.served.contains(&other.event.id)
                || other.served_at.is_some()
                || other.pushed
                || held.is_some_and(|status| is_announcement || is_leaving(status))
        };
        sent.event.kind.is_addressable()
            && self
                .events
                .values()
                .any(|other| is_newer(other) && takes_its_place(other))
    }
}

#[cfg(test)]
mod tests {
    use super::super::ledger::Ledger;
    use super::super::ledger::Project;
    use super::*;
    use crate::clients::nostr::now;
    use crate::clients::nostr::sign;
    use crate::clients::nostr::tag;
    use crate::harness::repository::Repository;

    /// An announcement, an older and a newer state, and a PR, all answered OK `HOLD` and a second ago.
    fn ledger() -> (Ledger, [EventId; 4]) {
        let ledger = Ledger::default();
        let repository = Repository::new("r");
        let project = Project::new(repository.clone(), Vec::new());
        let announcement = sign(&repository.owner, nip34::ANNOUNCEMENT, 1, &[tag(&["d", "r"])]);
        let commit = "1".repeat(40);
        let states = [2, 3].map(|at| repository.state(at, &[("refs/heads/main", &commit)]));
        let [older, newer] = states;
        let offer = repository.pull_request(&repository.owner, &commit);
        let events = [announcement, older, newer, offer];
        for event in &events {
            ledger.sending(event, &project);
            ledger.note(&event.id, "answered OK", |sent| {
                sent.answered_ok = true;
                sent.first_sent = now() - HOLD - 1;
            });
        }
        (ledger, events.map(|event| event.id))
    }

    const HOLD: u64 = 10;

    fn fate_at(ledger: &Ledger, id: EventId, places: Whereabouts, now: u64) -> Fate {
        let books = ledger.books();
        let rules = Rules {
            events: &books.events,
            hold_secs: HOLD,
        };
        rules.fate(&books.events[&id], &Whereabouts { now, ..places })
    }

    fn held(id: EventId, status: &str) -> Whereabouts {
        Whereabouts {
            held: HashMap::from([(id, status.to_owned())]),
            ..Whereabouts::default()
        }
    }

    fn served(id: EventId) -> Whereabouts {
        Whereabouts {
            served: HashSet::from([id]),
            ..Whereabouts::default()
        }
    }

    #[test]
    fn an_event_that_is_nowhere_is_lost_unless_something_has_ended_it() {
        let (ledger, [announcement, older, newer, offer]) = ledger();
        let nowhere = Whereabouts::default;
        let early = now() - 2;

        for id in [announcement, older, newer, offer] {
            assert_eq!(fate_at(&ledger, id, nowhere(), early), Fate::Lost);
            assert_eq!(fate_at(&ledger, id, nowhere(), now()), Fate::Expired);
            assert_eq!(fate_at(&ledger, id, held(id, "held"), early), Fate::Held);
            assert_eq!(fate_at(&ledger, id, served(id), early), Fate::Served);
        }
        assert_eq!(fate_at(&ledger, older, held(newer, "held"), early), Fate::Lost);
        assert_eq!(
            fate_at(&ledger, older, held(newer, "releasing"), early),
            Fate::Superseded
        );
        assert_eq!(fate_at(&ledger, older, served(newer), early), Fate::Superseded);
        assert_eq!(fate_at(&ledger, newer, served(older), early), Fate::Lost);
        assert_eq!(
            fate_at(&ledger, announcement, held(announcement, "asleep"), early),
            Fate::Held
        );
        assert_eq!(
            fate_at(&ledger, announcement, held(announcement, "asleep"), now()),
            Fate::Expired
        );
    }

    #[test]
    fn what_is_complete_never_expires() {
        let (ledger, [announcement, older, newer, offer]) = ledger();
        let fate = |id| fate_at(&ledger, id, Whereabouts::default(), now());

        ledger.note(&newer, "pushed", |sent| sent.pushed = true);
        assert_eq!(
            [fate(announcement), fate(older), fate(newer)],
            [Fate::Lost, Fate::Superseded, Fate::Lost]
        );
        ledger.note(&offer, "pushed", |sent| sent.pushed = true);
        assert_eq!(fate(offer), Fate::Expired, "nobody announces what it is offered to");
        ledger.note(&announcement, "served too late", |sent| sent.served_at = Some(now()));
        assert_eq!(fate(offer), Fate::Expired);
        ledger.note(&announcement, "served", |sent| sent.served_at = Some(1));
        assert_eq!(fate(offer), Fate::Lost);
        ledger.note(&offer, "deleted", |sent| sent.deletion_sent = true);
        assert_eq!(fate(offer), Fate::Deleted);
    }
}
