//! The progress of the publication of complete events, and the relay's versions of one.

use std::collections::BTreeSet;

use nostr::event::Event;
use nostr::event::EventId;

use crate::nip01::Revision;
use crate::purgatory::Entry;
use crate::purgatory::EntryStatus;

/// The relay's versions of an event that it refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtRelay {
    /// The event itself.
    Served,
    /// A newer version of it: it will never take this one.
    Superseded,
    /// Neither.
    Absent,
}

impl AtRelay {
    /// Compares an event with the relay's versions of it: itself, or others (NIP-01).
    pub fn of(event: &Event, served: &[Event]) -> Self {
        if served.iter().any(|other| other.id == event.id) {
            return Self::Served;
        }
        match served.iter().any(|other| Revision::of(other) > Revision::of(event)) {
            true => Self::Superseded,
            false => Self::Absent,
        }
    }
}

/// How far the publication of some events has come.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// None is releasing any more.
    Done,
    /// Some will be served.
    Releasing,
    /// Those that are left are stuck, or wait for one that is.
    Stuck {
        /// The event that the relay refuses.
        event_id: EventId,
        /// The relay's answer.
        reason: String,
    },
}

impl Progress {
    /// Finds out by the purgatory's entries how far the publication of these events has come.
    pub fn of(event_ids: &BTreeSet<EventId>, entries: &[Entry]) -> Self {
        let awaited = entries.iter().filter(|entry| event_ids.contains(&entry.event.id));
        let mut first = None;
        for entry in awaited.filter(|entry| entry.status.counts_as_served()) {
            let Some(stuck) = held_up_by(entry, entries) else {
                return Self::Releasing;
            };
            first = first.or(Some(stuck));
        }
        match first {
            None => Self::Done,
            Some(stuck) => Self::Stuck {
                event_id: stuck.event.id,
                reason: stuck.release_error.clone(),
            },
        }
    }
}

/// Returns the stuck event that an event waits for, directly or not: it may be itself.
fn held_up_by<'e>(entry: &'e Entry, entries: &'e [Entry]) -> Option<&'e Entry> {
    let (mut seen, mut open) = (BTreeSet::new(), vec![entry]);
    while let Some(entry) = open.pop() {
        if entry.status == EntryStatus::Stuck {
            return Some(entry);
        }
        if seen.insert(entry.event.id) {
            open.extend(entries.iter().filter(|other| entry.after.contains(&other.event.id)));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use nostr::event::EventBuilder;
    use nostr::event::FinalizeEvent;
    use nostr::event::Kind;
    use nostr::key::Keys;
    use nostr::types::Timestamp;

    use super::*;

    fn state(keys: &Keys, created_at: u64) -> Event {
        EventBuilder::new(Kind::from_u16(30618), "")
            .custom_created_at(Timestamp::from_secs(created_at))
            .finalize(keys)
            .unwrap()
    }

    fn entry(event: &Event, status: EntryStatus, after: &[&Event]) -> Entry {
        Entry {
            event: event.clone().into(),
            coordinates: BTreeSet::new(),
            status,
            source: String::new(),
            held_since: 1,
            deadline: 1,
            waiting_for: String::new(),
            release_error: "blocked: no".to_owned(),
            releasing_since: None,
            after: after.iter().map(|event| event.id).collect(),
        }
    }

    #[test]
    fn a_push_waits_for_what_moves_and_not_for_what_is_stuck_or_behind_it() {
        let keys = Keys::generate();
        let [first, second, third] = [1, 2, 3].map(|at| state(&keys, at));
        let stuck = |event: &Event| Progress::Stuck {
            event_id: event.id,
            reason: "blocked: no".to_owned(),
        };
        use EntryStatus::*;
        let rows = [
            ("nothing is left", vec![], &third, Progress::Done),
            (
                "it waits for its data",
                vec![entry(&third, Held, &[])],
                &third,
                Progress::Done,
            ),
            (
                "it moves",
                vec![entry(&third, Releasing, &[])],
                &third,
                Progress::Releasing,
            ),
            ("it is stuck", vec![entry(&third, Stuck, &[])], &third, stuck(&third)),
            (
                "what it waited for has left",
                vec![entry(&third, Releasing, &[&second])],
                &third,
                Progress::Releasing,
            ),
            (
                "what it waits for moves",
                vec![entry(&second, Releasing, &[]), entry(&third, Releasing, &[&second])],
                &third,
                Progress::Releasing,
            ),
            (
                "it waits for what waits for what is stuck",
                vec![
                    entry(&first, Stuck, &[]),
                    entry(&second, Releasing, &[&first]),
                    entry(&third, Releasing, &[&second]),
                ],
                &third,
                stuck(&first),
            ),
            (
                "another is stuck",
                vec![entry(&first, Stuck, &[]), entry(&third, Releasing, &[])],
                &third,
                Progress::Releasing,
            ),
            (
                "two wait for each other",
                vec![
                    entry(&second, Releasing, &[&third]),
                    entry(&third, Releasing, &[&second]),
                ],
                &third,
                Progress::Releasing,
            ),
        ];

        for (story, entries, awaited, expected) in rows {
            let found = Progress::of(&BTreeSet::from([awaited.id]), &entries);

            assert_eq!(found, expected, "{story}");
        }
        let one_moves = [entry(&first, Stuck, &[]), entry(&second, Releasing, &[])];
        let both = BTreeSet::from([first.id, second.id]);
        assert_eq!(Progress::of(&both, &one_moves), Progress::Releasing);
    }

    #[test]
    fn only_a_newer_version_rules_an_event_out() {
        let keys = Keys::generate();
        let event = state(&keys, 5);
        let twin = EventBuilder::new(Kind::from_u16(30618), "twin")
            .custom_created_at(Timestamp::from_secs(5))
            .finalize(&keys)
            .unwrap();
        let (lower, higher) = if event.id < twin.id {
            (&event, &twin)
        } else {
            (&twin, &event)
        };

        assert_eq!(AtRelay::of(&event, &[]), AtRelay::Absent);
        assert_eq!(AtRelay::of(&event, &[state(&keys, 4)]), AtRelay::Absent);
        assert_eq!(AtRelay::of(&event, &[state(&keys, 6)]), AtRelay::Superseded);
        assert_eq!(AtRelay::of(&event, &[state(&keys, 6), event.clone()]), AtRelay::Served);
        assert_eq!(AtRelay::of(higher, std::slice::from_ref(lower)), AtRelay::Superseded);
        assert_eq!(AtRelay::of(lower, std::slice::from_ref(higher)), AtRelay::Absent);
    }
}
