//! Publishes what is complete into the relay, and settles it by the relay's answer (design 2, the diagram).

use std::collections::BTreeSet;
use std::time::Duration;

use nostr::event::Event;
use nostr::event::EventId;
use nostr::filter::Filter;
use nostr::types::Timestamp;
use shared::nip34::Identifier;
use shared::purgatory::Entry;
use shared::purgatory::EntryStatus;
use shared::purgatory::Lease;
use shared::purgatory::Leased;
use shared::purgatory::PurgatoryError;
use shared::purgatory::Settlement;
use shared::relay_client::PublishOutcome;
use tokio::time::Instant;

use crate::site::Site;
use crate::strfry_import::ImportError;
use crate::strfry_import::Imported;
use crate::strfry_import::REST;
use crate::strfry_import::Remedy;
use crate::strfry_import::decide_remedy;

/// How it stands with the events of a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Published {
    /// None is on its way any more: whatever was complete can be queried.
    All,
    /// The relay has not taken all of them yet.
    Pending,
    /// The relay refused one for good; what can be queried without it can be.
    Stuck {
        /// The event that it refused: one of the push, or one that must be served before.
        event_id: EventId,
        /// What the relay said.
        reason: String,
    },
}

impl Site {
    /// Publishes events that belong together in their order, and settles each: what follows may depend on what went
    /// before. What fails is tried again by whoever takes it when it is due.
    pub(crate) async fn publish(&self, leased: Vec<Leased>) {
        let mut left_behind = BTreeSet::new();
        for Leased { event, lease, after } in leased {
            let settlement = if after.is_disjoint(&left_behind) {
                self.bring_in(&event).await
            } else {
                Settlement::GiveBack
            };
            match settlement {
                Settlement::Served | Settlement::Dropped => {}
                Settlement::GiveBack | Settlement::Retry { .. } | Settlement::Stuck { .. } => {
                    left_behind.insert(event.id);
                }
            }
            self.settle(&event, lease, &settlement).await;
        }
    }

    async fn settle(&self, event: &Event, lease: Lease, settlement: &Settlement) {
        match settlement {
            Settlement::Served => {
                self.in_flight.forget(&event.id);
                tracing::info!(event.id = %event.id, "released");
            }
            Settlement::Dropped => {
                self.in_flight.forget(&event.id);
                tracing::info!(event.id = %event.id, "ruled out by what the relay has, dropped");
            }
            Settlement::GiveBack => {
                tracing::info!(event.id = %event.id, "not released yet: ordered after an event that is not served");
            }
            Settlement::Retry { error, .. } => tracing::warn!(event.id = %event.id, error, "not released yet"),
            Settlement::Stuck { error, .. } => {
                tracing::error!(event.id = %event.id, error, "the relay refuses to take a released event");
            }
        }
        if let Err(error) = self.loader.purgatory.settle(&event.id, lease, settlement).await {
            // The lease runs out, and the relay answers `duplicate` to whoever takes it next.
            tracing::warn!(event.id = %event.id, error = &error as &dyn std::error::Error, "cannot settle");
        }
    }

    /// Brings an event into the relay by whatever way it takes it, and says how that ended.
    async fn bring_in(&self, event: &Event) -> Settlement {
        let refusal = match settlement(&self.loader.relay.publish(event).await) {
            Err(refusal) => refusal,
            Ok(settlement) => return settlement,
        };
        // NIP-70 and times come before everything else: strfry refuses what it has, and what it has a newer version of.
        match self.standing(event).await {
            Ok(Standing::Absent) => {}
            Ok(Standing::Served) => return Settlement::Served,
            Ok(Standing::Superseded) => return Settlement::Dropped,
            Err(error) => return retry(error),
        }
        let (importer, remedy) = (&self.importer, decide_remedy(event, &refusal, Timestamp::now()));
        match (remedy, importer) {
            (Remedy::Drop, _) => Settlement::Dropped,
            (Remedy::None, _) | (Remedy::Import, None) => stuck(refusal, STUCK_RETRY_SECS),
            (Remedy::Import, Some(importer)) => match importer.import(event).await {
                Ok(imported) => self.confirm(event, imported, &refusal).await,
                Err(error) => {
                    let after_secs = match error {
                        ImportError::Busy => REST.as_secs(),
                        ImportError::Run(_)
                        | ImportError::Deadline { .. }
                        | ImportError::Failed { .. }
                        | ImportError::Refused { .. }
                        | ImportError::Unclear => STUCK_RETRY_SECS,
                    };
                    stuck(format!("{refusal}; {error}"), after_secs)
                }
            },
        }
    }

    /// Believes an import only as far as the relay does.
    async fn confirm(&self, event: &Event, imported: Imported, refusal: &str) -> Settlement {
        match (self.standing(event).await, imported) {
            (Ok(Standing::Served), _) => {
                tracing::info!(event.id = %event.id, refusal, "imported into the relay");
                Settlement::Served
            }
            // Nobody asks for what its author deleted: the database's own word is all there is.
            (Ok(Standing::Superseded), _) | (Ok(Standing::Absent), Imported::Deleted) => Settlement::Dropped,
            (Ok(Standing::Absent), Imported::Stored | Imported::Replaced) => {
                stuck(format!("{refusal}; {NOT_CONFIRMED}"), STUCK_RETRY_SECS)
            }
            (Err(error), _) => retry(error),
        }
    }

    /// Asks the relay how it stands with an event.
    async fn standing(&self, event: &Event) -> Result<Standing, String> {
        let mut filters = vec![Filter::new().id(event.id)];
        if let Some(identifier) = event.tags.identifier().filter(|_| event.kind.is_addressable()) {
            let versions = Filter::new().kind(event.kind).author(event.pubkey);
            filters.push(versions.identifier(identifier));
        }
        let served = self.loader.relay.query(filters).await;
        served
            .map(|served| standing_of(event, &served))
            .map_err(|error| error.to_string())
    }

    /// Waits until none of these events, which have one of the identifiers, is on its way into the relay any more, or
    /// until `deadline`.
    ///
    /// # Errors
    /// The purgatory cannot be read.
    pub(crate) async fn published(
        &self,
        identifiers: &BTreeSet<Identifier>,
        event_ids: &BTreeSet<EventId>,
        deadline: Instant,
    ) -> Result<Published, PurgatoryError> {
        loop {
            let reading = self.loader.purgatory.read(identifiers).await?;
            match progress(&reading.entries, event_ids) {
                Progress::Done => return Ok(Published::All),
                Progress::Stuck { event_id, reason } => return Ok(Published::Stuck { event_id, reason }),
                Progress::Moving if Instant::now() >= deadline => return Ok(Published::Pending),
                Progress::Moving => {}
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}

/// How it stands with an event at the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It serves it.
    Served,
    /// It serves a newer version of it, and will never take it.
    Superseded,
    /// Neither.
    Absent,
}

/// Says how it stands with an event where the relay serves these events: itself, or versions of it.
fn standing_of(event: &Event, served: &[Event]) -> Standing {
    if served.iter().any(|other| other.id == event.id) {
        return Standing::Served;
    }
    let rank = |event: &Event| (event.created_at, std::cmp::Reverse(event.id));
    match served.iter().any(|other| rank(other) > rank(event)) {
        true => Standing::Superseded,
        false => Standing::Absent,
    }
}

/// How it stands with events of a push.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    /// None is on its way any more.
    Done,
    /// Some will be served.
    Moving,
    /// Those that are left are stuck, or wait for one that is.
    Stuck { event_id: EventId, reason: String },
}

/// Says how it stands with events.
fn progress(entries: &[Entry], event_ids: &BTreeSet<EventId>) -> Progress {
    let awaited = entries.iter().filter(|entry| event_ids.contains(&entry.event.id));
    let mut first = None;
    for entry in awaited.filter(|entry| entry.status.counts_as_served()) {
        let Some(stuck) = held_up_by(entry, entries) else {
            return Progress::Moving;
        };
        first = first.or(Some(stuck));
    }
    match first {
        None => Progress::Done,
        Some(stuck) => Progress::Stuck {
            event_id: stuck.event.id,
            reason: stuck.release_error.clone(),
        },
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

/// Says what the relay's answer means for the entry.
///
/// # Errors
/// The relay's refusal, if it is one for good.
fn settlement(outcome: &PublishOutcome) -> Result<Settlement, String> {
    match outcome {
        PublishOutcome::Stored | PublishOutcome::Duplicate => Ok(Settlement::Served),
        // Ruled out by something the relay has: a newer version, a deletion, its own expiration tag.
        PublishOutcome::Replaced | PublishOutcome::Deleted | PublishOutcome::Expired => Ok(Settlement::Dropped),
        // The plugin answered `purgatory:` although the entry is marked: it saw Redis before the mark.
        PublishOutcome::Held(error) | PublishOutcome::Busy(error) => Ok(retry(error.clone())),
        PublishOutcome::Refused(refusal) => Err(refusal.clone()),
    }
}

fn retry(error: String) -> Settlement {
    Settlement::Retry {
        after_secs: RETRY_SECS,
        error,
    }
}

fn stuck(error: String, after_secs: u64) -> Settlement {
    Settlement::Stuck { after_secs, error }
}

/// Until the next attempt when the relay was not able to answer.
const RETRY_SECS: u64 = 1;

/// Until the next attempt after a refusal: the operator may have raised a limit meanwhile.
const STUCK_RETRY_SECS: u64 = 3600;

/// Between two looks at what is still on its way.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// strfry took it, and the relay does not have it.
const NOT_CONFIRMED: &str = "strfry import took it, but the relay does not serve it: \
                             is --strfry-conf the relay's, with an absolute path in db?";

#[cfg(test)]
mod tests {
    use nostr::event::EventBuilder;
    use nostr::event::FinalizeEvent;
    use nostr::event::Kind;
    use nostr::key::Keys;

    use super::*;

    fn state(keys: &Keys, created_at: u64) -> Event {
        EventBuilder::new(Kind::from_u16(30618), "")
            .custom_created_at(Timestamp::from_secs(created_at))
            .finalize(keys)
            .unwrap()
    }

    fn entry(event: &Event, status: EntryStatus, after: &[&Event]) -> Entry {
        Entry {
            event: event.clone(),
            identifiers: BTreeSet::new(),
            status,
            source: String::new(),
            held_since: 1,
            deadline: 1,
            waiting_for: String::new(),
            release_error: "blocked: no".to_owned(),
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
                Progress::Moving,
            ),
            ("it is stuck", vec![entry(&third, Stuck, &[])], &third, stuck(&third)),
            (
                "what it waited for has left",
                vec![entry(&third, Releasing, &[&second])],
                &third,
                Progress::Moving,
            ),
            (
                "what it waits for moves",
                vec![entry(&second, Releasing, &[]), entry(&third, Releasing, &[&second])],
                &third,
                Progress::Moving,
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
                Progress::Moving,
            ),
            (
                "two wait for each other",
                vec![
                    entry(&second, Releasing, &[&third]),
                    entry(&third, Releasing, &[&second]),
                ],
                &third,
                Progress::Moving,
            ),
        ];

        for (story, entries, awaited, expected) in rows {
            let found = progress(&entries, &BTreeSet::from([awaited.id]));

            assert_eq!(found, expected, "{story}");
        }
        let one_moves = [entry(&first, Stuck, &[]), entry(&second, Releasing, &[])];
        let both = BTreeSet::from([first.id, second.id]);
        assert_eq!(progress(&one_moves, &both), Progress::Moving);
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

        assert_eq!(standing_of(&event, &[]), Standing::Absent);
        assert_eq!(standing_of(&event, &[state(&keys, 4)]), Standing::Absent);
        assert_eq!(standing_of(&event, &[state(&keys, 6)]), Standing::Superseded);
        assert_eq!(standing_of(&event, &[state(&keys, 6), event.clone()]), Standing::Served);
        assert_eq!(standing_of(higher, std::slice::from_ref(lower)), Standing::Superseded);
        assert_eq!(standing_of(lower, std::slice::from_ref(higher)), Standing::Absent);
    }

    #[test]
    fn only_an_answer_that_ends_the_event_ends_the_entry() {
        let text = || "text".to_owned();
        for (outcome, expected) in [
            (PublishOutcome::Stored, Ok(Settlement::Served)),
            (PublishOutcome::Duplicate, Ok(Settlement::Served)),
            (PublishOutcome::Replaced, Ok(Settlement::Dropped)),
            (PublishOutcome::Deleted, Ok(Settlement::Dropped)),
            (PublishOutcome::Expired, Ok(Settlement::Dropped)),
            (PublishOutcome::Held(text()), Ok(retry(text()))),
            (PublishOutcome::Busy(text()), Ok(retry(text()))),
            (PublishOutcome::Refused(text()), Err(text())),
        ] {
            assert_eq!(settlement(&outcome), expected, "{outcome:?}");
        }
    }
}
