//! Publishes complete events into the relay, and settles them by the relay's answer (docs/ARCHITECTURE.md, "The life of
//! an event").

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use nostr::event::Event;
use nostr::event::EventId;
use nostr::filter::Filter;
use nostr::types::Timestamp;
use parking_lot::Mutex;
use quick_cache::sync::Cache;
use shared::nip34::Coordinate;
use shared::purgatory::Leased;
use shared::purgatory::MarkedReleasing;
use shared::purgatory::Purgatory;
use shared::purgatory::PurgatoryError;
use shared::purgatory::Release;
use shared::purgatory::Settlement;
use shared::relay_client::PublishOutcome;
use shared::relay_client::RelayClient;
use shared::relay_client::RelayError;
use shared::rules::AtRelay;
use shared::rules::GitEvent;
use shared::rules::Progress;
use shared::rules::Remedy;
use shared::rules::decide_remedy;
use tokio::time::Instant;

use crate::logged::logged;
use crate::meter::Durations;
use crate::meter::Meter;
use crate::reconcile::in_flight::InFlight;
use crate::strfry_import::ImportError;
use crate::strfry_import::Imported;
use crate::strfry_import::REST;
use crate::strfry_import::StrfryImport;

/// Brings complete events into the relay.
pub(crate) struct Publisher {
    relay: RelayClient,
    purgatory: Purgatory,
    /// The way into the relay for events that it refuses from clients, if the operator has configured one.
    import: Option<StrfryImport>,
    in_flight: InFlight,
    /// The events that this gateway is releasing, or has released: it counted as served before the relay had it, so its
    /// commit is no news.
    own: Cache<EventId, ()>,
    /// Coordinates of events whose settlement had no effect: their entries had gone before, and the commit, which was
    /// ignored as our own, may have changed what was decided without them.
    unsettled: Mutex<BTreeSet<Coordinate>>,
    lease_secs: u64,
    /// How attempts to publish have ended, and how long those took that served an event.
    outcomes: Meter<{ RELEASE_OUTCOMES.len() }>,
    durations: Durations,
}

/// How an attempt to publish ended, by its place.
pub(crate) const RELEASE_OUTCOMES: [&str; 5] = ["served", "dropped", "given-back", "retried", "stuck"];

/// The outcome of the events of a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Publication {
    /// None is releasing any more: whatever was complete can be queried.
    Done,
    /// The relay has not taken all of them yet.
    Pending,
    /// The relay refused one permanently; those that do not depend on it can be queried.
    Stuck {
        /// The event that it refused: one of the push, or one that must be served before.
        event_id: EventId,
        /// The relay's answer.
        reason: String,
    },
}

impl Publisher {
    /// Publishes through `relay` what `purgatory` leases for `lease_secs` each.
    pub(crate) fn new(relay: RelayClient, purgatory: Purgatory, import: Option<StrfryImport>, lease_secs: u64) -> Self {
        Self {
            relay,
            purgatory,
            import,
            in_flight: InFlight::default(),
            own: Cache::new(OWN_MAX),
            unsettled: Mutex::default(),
            lease_secs,
            outcomes: Meter::default(),
            durations: Durations::default(),
        }
    }

    /// Returns how many attempts to publish have ended in each way, and how long those took that served an event.
    pub(crate) fn counts(&self) -> ([u64; RELEASE_OUTCOMES.len()], &Durations) {
        (self.outcomes.counts(), &self.durations)
    }

    /// Marks complete events as releasing, and remembers them until they have left.
    ///
    /// # Errors
    /// The purgatory did not do it.
    pub(super) async fn mark_releasing(&self, releases: &[Release]) -> Result<MarkedReleasing, PurgatoryError> {
        if releases.is_empty() {
            return Ok(MarkedReleasing::default());
        }
        // Before the mark, so that a Redis that loses it in between gets it back.
        let mut new = BTreeSet::new();
        for release in releases {
            if self.in_flight.remember(release) {
                new.insert(release.event.id);
            }
            self.own.insert(release.event.id, ());
        }
        let marked = self.purgatory.mark_releasing(releases, self.lease_secs).await?;
        let leased = marked.leased.iter().map(|leased| leased.event.id);
        let ours: BTreeSet<EventId> = leased.chain(marked.waiting.iter().copied()).collect();
        for release in releases {
            let Release { event, .. } = release;
            tracing::info!(event.id = %event.id, event.kind = event.kind.as_u16(), "complete, releasing");
            if !ours.contains(&event.id) && new.contains(&event.id) {
                // Another gateway publishes it, or its author has deleted it. Events that this gateway was releasing
                // before stay known.
                self.in_flight.forget(&event.id);
                self.own.remove(&event.id);
            }
        }
        Ok(marked)
    }

    /// Leases due entries, at most so many.
    ///
    /// # Errors
    /// The purgatory did not do it.
    pub(crate) async fn take_due(&self, count_max: usize) -> Result<Vec<Leased>, PurgatoryError> {
        let due = self.purgatory.take_due(count_max, self.lease_secs).await?;
        for leased in &due {
            self.in_flight.remember_leased(leased);
            self.own.insert(leased.event.id, ());
        }
        Ok(due)
    }

    /// Whether this gateway has been releasing the event: it counted as served before the relay had it.
    pub(crate) fn is_own(&self, event_id: &EventId) -> bool {
        self.own.get(event_id).is_some()
    }

    /// Returns the events that this gateway is releasing, oldest first.
    pub(crate) fn in_flight(&self) -> Vec<Release> {
        self.in_flight.all()
    }

    /// Publishes events and settles each. All are sent at once, and the relay judges them in this order: its write
    /// policy lets none in before those that it is ordered after. Returns those that are not served yet; they are tried
    /// again when they are due.
    pub(crate) async fn publish(&self, leased: Vec<Leased>) -> BTreeSet<EventId> {
        let (rounds, start) = (in_rounds(leased), Instant::now());
        let sent = rounds.iter().flatten().map(|leased| self.relay.publish(&leased.event));
        let mut outcomes = join_all(sent).await.into_iter();
        let took = start.elapsed();
        let (mut left_behind, mut to_settle) = (BTreeSet::new(), Vec::new());
        for round in rounds {
            let answers: Vec<RelayAnswer> = outcomes.by_ref().take(round.len()).map(RelayAnswer::read).collect();
            if !answers.iter().all(RelayAnswer::is_the_end) {
                // What they may be tried again after must have left the purgatory, and waits for none of them.
                self.settle_all(std::mem::take(&mut to_settle), took).await;
            }
            let answered = round.iter().zip(answers);
            let judged = answered.map(|(leased, answer)| self.judge(leased, answer, &left_behind));
            let settlements = join_all(judged).await;
            let left = |(leased, settlement): (&Leased, &Settlement)| (!ends(settlement)).then_some(leased.event.id);
            left_behind.extend(round.iter().zip(&settlements).filter_map(left));
            to_settle.extend(round.into_iter().zip(settlements));
        }
        self.settle_all(to_settle, took).await;
        left_behind
    }

    /// Returns how an attempt to publish ended, by the relay's answer and the events that are not served.
    async fn judge(&self, leased: &Leased, mut answer: RelayAnswer, left_behind: &BTreeSet<EventId>) -> Settlement {
        let Leased { event, after, .. } = leased;
        let is_free = after.is_disjoint(left_behind);
        if matches!(answer, RelayAnswer::Holds(_)) && is_free && !after.is_empty() {
            // One that it is ordered after went in by another way, and not before it.
            answer = RelayAnswer::read(self.relay.publish(event).await);
        }
        match answer {
            RelayAnswer::Settles(settlement) if is_free || ends(&settlement) => settlement,
            RelayAnswer::Holds(error) if is_free => retry(error),
            RelayAnswer::Refuses(refusal) if is_free => self.bring_in(event, refusal).await,
            RelayAnswer::Settles(_) | RelayAnswer::Holds(_) | RelayAnswer::Refuses(_) => Settlement::GiveBack,
        }
    }

    async fn settle_all(&self, settlements: Vec<(Leased, Settlement)>, took: Duration) {
        for (leased, settlement) in &settlements {
            self.note(&leased.event, settlement, took);
        }
        let settled = settlements
            .iter()
            .map(|(leased, settlement)| self.settle(leased, settlement));
        join_all(settled).await;
    }

    /// Counts and logs how an attempt to publish ended.
    fn note(&self, event: &Event, settlement: &Settlement, took: Duration) {
        self.outcomes.add(outcome_index(settlement), 1);
        if *settlement == Settlement::Served {
            self.durations.add(took);
        }
        let id = event.id;
        match settlement {
            Settlement::Served => tracing::info!(event.id = %id, "released"),
            Settlement::Dropped => {
                tracing::info!(event.id = %id, "event dropped: replaced, deleted or expired at the relay")
            }
            Settlement::GiveBack => {
                tracing::info!(event.id = %id, "not released yet: it waits for an event that is not served")
            }
            Settlement::Retry { error, .. } => tracing::warn!(event.id = %id, error, "not released yet"),
            Settlement::Stuck { error, .. } => {
                tracing::error!(event.id = %id, error, "the relay refuses a complete event");
            }
        }
        if ends(settlement) {
            self.in_flight.forget(&id);
        }
    }

    async fn settle(&self, leased: &Leased, settlement: &Settlement) {
        let Leased { event, lease, .. } = leased;
        let id = event.id;
        let counts = self
            .purgatory
            .settle(&id, *lease, settlement)
            .await
            .unwrap_or_else(|error| {
                // The lease runs out, and the relay answers `duplicate` to the next one that takes it.
                tracing::warn!(event.id = %id, error = logged(&error), "cannot settle");
                false
            });
        if *settlement != Settlement::Served || !counts {
            // If the relay commits it later anyway, that is news.
            self.own.remove(&id);
        }
        if !counts {
            let git_event = GitEvent::parse(event).ok().flatten();
            let coordinates = git_event.map(|git_event| git_event.coordinates()).unwrap_or_default();
            self.unsettled.lock().extend(coordinates);
        }
    }

    /// Marks dirty what must be decided again because a settlement had no effect.
    ///
    /// # Errors
    /// The purgatory did not do it; it is tried again with the next call.
    pub(crate) async fn mark_unsettled(&self) -> Result<(), PurgatoryError> {
        let coordinates = std::mem::take(&mut *self.unsettled.lock());
        if coordinates.is_empty() {
            return Ok(());
        }
        let marked = self.purgatory.mark_dirty(&coordinates).await;
        if marked.is_err() {
            self.unsettled.lock().extend(coordinates);
        }
        marked
    }

    /// Brings an event that the relay refuses into it by another way, if there is one, and returns how that ended.
    async fn bring_in(&self, event: &Event, refusal: String) -> Settlement {
        // NIP-70 and timestamps are checked first: strfry refuses such events even if it has them or a newer version.
        match self.at_relay(event).await {
            Ok(AtRelay::Absent) => {}
            Ok(AtRelay::Served) => return Settlement::Served,
            Ok(AtRelay::Superseded) => return Settlement::Dropped,
            Err(error) => return retry(error.to_string()),
        }
        match (decide_remedy(event, &refusal, Timestamp::now()), &self.import) {
            (Remedy::Drop, _) => Settlement::Dropped,
            (Remedy::None, _) | (Remedy::Import, None) => stuck(refusal, STUCK_RETRY_SECS),
            (Remedy::Import, Some(import)) => match import.import(event).await {
                Ok(imported) => self.confirm(event, imported, &refusal).await,
                Err(error @ ImportError::Busy) => retry(error.to_string()),
                Err(error) => {
                    let after_secs = match error {
                        ImportError::Busy | ImportError::Rests => REST.as_secs(),
                        ImportError::Run(_) | ImportError::Failed(_) => STUCK_RETRY_SECS,
                    };
                    stuck(format!("{refusal}; {error}"), after_secs)
                }
            },
        }
    }

    /// Believes an import only as far as the relay does.
    async fn confirm(&self, event: &Event, imported: Imported, refusal: &str) -> Settlement {
        match (self.at_relay(event).await, imported) {
            (Ok(AtRelay::Served), _) => {
                tracing::info!(event.id = %event.id, refusal, "imported into the relay");
                Settlement::Served
            }
            // Nobody queries deleted events: the database's answer is all there is.
            (Ok(AtRelay::Superseded), _) | (Ok(AtRelay::Absent), Imported::Deleted) => Settlement::Dropped,
            (Ok(AtRelay::Absent), Imported::Stored | Imported::Replaced) => {
                stuck(format!("{refusal}; {NOT_CONFIRMED}"), STUCK_RETRY_SECS)
            }
            (Err(error), _) => retry(error.to_string()),
        }
    }

    /// Queries the relay for an event and its newer versions.
    async fn at_relay(&self, event: &Event) -> Result<AtRelay, RelayError> {
        let mut filters = vec![Filter::new().id(event.id)];
        if let Some(identifier) = event.tags.identifier().filter(|_| event.kind.is_addressable()) {
            let versions = Filter::new().kind(event.kind).author(event.pubkey);
            filters.push(versions.identifier(identifier));
        }
        Ok(AtRelay::of(event, &self.relay.query(filters).await?))
    }

    /// Waits until none of these events is releasing any more, or until `deadline`.
    ///
    /// # Errors
    /// The purgatory cannot be read.
    pub(crate) async fn published_by_others(
        &self,
        event_ids: &BTreeSet<EventId>,
        deadline: Instant,
    ) -> Result<Publication, PurgatoryError> {
        tracing::debug!(events = event_ids.len(), "wait for what others publish");
        loop {
            let mut entries = self.purgatory.entries(event_ids).await?;
            let before: BTreeSet<EventId> = entries.iter().flat_map(|entry| entry.after.clone()).collect();
            // They are ordered after announcements, which are ordered after nothing but announcements.
            entries.extend(self.purgatory.entries(&before).await?);
            match Progress::of(event_ids, &entries) {
                Progress::Done => return Ok(Publication::Done),
                Progress::Stuck { event_id, reason } => return Ok(Publication::Stuck { event_id, reason }),
                Progress::Releasing if Instant::now() >= deadline => return Ok(Publication::Pending),
                Progress::Releasing => {}
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}

/// Sorts events into rounds: each is in a later one than those that it is ordered after.
fn in_rounds(mut open: Vec<Leased>) -> Vec<Vec<Leased>> {
    let mut rounds = Vec::new();
    while !open.is_empty() {
        let ids: BTreeSet<EventId> = open.iter().map(|leased| leased.event.id).collect();
        let (ready, later): (Vec<_>, Vec<_>) = open.into_iter().partition(|leased| leased.after.is_disjoint(&ids));
        // Two that are ordered after each other, which no plan makes: it ends here all the same.
        let (round, left) = if ready.is_empty() {
            (later, ready)
        } else {
            (ready, later)
        };
        rounds.push(round);
        open = left;
    }
    rounds
}

/// Whether an attempt leaves nothing to be done for its event.
fn ends(settlement: &Settlement) -> bool {
    match settlement {
        Settlement::Served | Settlement::Dropped => true,
        Settlement::GiveBack | Settlement::Retry { .. } | Settlement::Stuck { .. } => false,
    }
}

/// Returns which of [`RELEASE_OUTCOMES`] a settlement is.
fn outcome_index(settlement: &Settlement) -> usize {
    match settlement {
        Settlement::Served => 0,
        Settlement::Dropped => 1,
        Settlement::GiveBack => 2,
        Settlement::Retry { .. } => 3,
        Settlement::Stuck { .. } => 4,
    }
}

/// The meaning of the relay's answer for the entry.
#[derive(Debug, PartialEq, Eq)]
enum RelayAnswer {
    /// All there is to know.
    Settles(Settlement),
    /// Its write policy holds it: one that it is ordered after is not served, or Redis has lost the mark.
    Holds(String),
    /// The relay will not have the event, for this reason: there may be another way.
    Refuses(String),
}

impl RelayAnswer {
    fn read(outcome: PublishOutcome) -> Self {
        match outcome {
            PublishOutcome::Stored | PublishOutcome::Duplicate => Self::Settles(Settlement::Served),
            // Ruled out by something the relay has: a newer version, a deletion, its own expiration tag.
            PublishOutcome::Replaced | PublishOutcome::Deleted | PublishOutcome::Expired => {
                Self::Settles(Settlement::Dropped)
            }
            PublishOutcome::Held(error) => Self::Holds(error),
            PublishOutcome::Busy(error) => Self::Settles(retry(error)),
            PublishOutcome::Refused(refusal) => Self::Refuses(refusal),
        }
    }

    fn is_the_end(&self) -> bool {
        matches!(self, Self::Settles(settlement) if ends(settlement))
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

/// Between two reads of events that another program publishes.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Events of our own remembered: more than are published between a commit of the relay and its echo.
const OWN_MAX: usize = 10_000;

/// strfry took it, and the relay does not have it.
const NOT_CONFIRMED: &str = "strfry import accepted it, but the relay does not serve it: \
                             is --strfry-conf the relay's, with an absolute path in db?";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_that_ends_the_event_ends_the_entry() {
        let text = || "text".to_owned();
        for (outcome, expected) in [
            (PublishOutcome::Stored, RelayAnswer::Settles(Settlement::Served)),
            (PublishOutcome::Duplicate, RelayAnswer::Settles(Settlement::Served)),
            (PublishOutcome::Replaced, RelayAnswer::Settles(Settlement::Dropped)),
            (PublishOutcome::Deleted, RelayAnswer::Settles(Settlement::Dropped)),
            (PublishOutcome::Expired, RelayAnswer::Settles(Settlement::Dropped)),
            (PublishOutcome::Held(text()), RelayAnswer::Holds(text())),
            (PublishOutcome::Busy(text()), RelayAnswer::Settles(retry(text()))),
            (PublishOutcome::Refused(text()), RelayAnswer::Refuses(text())),
        ] {
            assert_eq!(RelayAnswer::read(outcome.clone()), expected, "{outcome:?}");
        }
    }
}
