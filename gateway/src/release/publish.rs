//! Publishes what is complete into the relay, and settles it by the relay's answer (design 2, the diagram).

use std::collections::BTreeSet;
use std::time::Duration;

use nostr::event::EventId;
use shared::nip34::Identifier;
use shared::purgatory::Entry;
use shared::purgatory::Leased;
use shared::purgatory::PurgatoryError;
use shared::purgatory::Settlement;
use shared::purgatory::Status;
use shared::relay::PublishOutcome;
use tokio::time::Instant;

use crate::site::Site;

/// How it stands with the events of a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// None is on its way any more: whatever was complete can be queried.
    All,
    /// The relay has not taken all of them yet.
    Pending,
    /// The relay refused one for good.
    Stuck {
        /// The event.
        event_id: EventId,
        /// What the relay said.
        reason: String,
    },
}

/// Whether what follows an event may be published now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    GoOn,
    Wait,
}

impl Site {
    /// Publishes events that belong together in their order, and settles each: what follows may depend on what went
    /// before. What fails is tried again by whoever takes it when it is due.
    pub async fn publish(&self, leased: Vec<Leased>) {
        let mut next = Next::GoOn;
        for leased in leased {
            next = self.publish_one(leased, next).await;
        }
    }

    /// Publishes events of which each was due by itself, and settles each.
    pub async fn publish_each(&self, leased: Vec<Leased>) {
        for leased in leased {
            self.publish_one(leased, Next::GoOn).await;
        }
    }

    async fn publish_one(&self, Leased { event, lease }: Leased, next: Next) -> Next {
        let outcome = match next {
            Next::GoOn => self.lookup.relay.publish(&event).await,
            Next::Wait => PublishOutcome::Busy("waits for an event that is published before it".to_owned()),
        };
        let settlement = settlement(&outcome);
        match &settlement {
            Settlement::Done => tracing::info!(event.id = %event.id, ?outcome, "released"),
            Settlement::Retry { error, .. } => tracing::warn!(event.id = %event.id, error, "not released yet"),
            Settlement::Stuck { error, .. } => {
                tracing::error!(event.id = %event.id, error, "the relay refuses to take a released event");
            }
        }
        if let Err(error) = self.lookup.purgatory.settle(&event.id, lease, &settlement).await {
            // The lease runs out, and the relay answers `duplicate` to whoever takes it next.
            tracing::warn!(event.id = %event.id, error = &error as &dyn std::error::Error, "cannot settle");
        }
        if settlement == Settlement::Done {
            next
        } else {
            Next::Wait
        }
    }

    /// Waits until none of these events, which have one of the identifiers, is on its way into the relay any more, or
    /// until `deadline`.
    ///
    /// # Errors
    /// The purgatory cannot be read.
    pub async fn published(
        &self,
        identifiers: &BTreeSet<Identifier>,
        event_ids: &BTreeSet<EventId>,
        deadline: Instant,
    ) -> Result<Published, PurgatoryError> {
        loop {
            let reading = self.lookup.purgatory.read(identifiers).await?;
            if let Some(published) = progress(&reading.entries, event_ids) {
                return Ok(published);
            }
            if Instant::now() >= deadline {
                return Ok(Published::Pending);
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}

/// Says how it stands with events; `None`: some are on their way.
fn progress(entries: &[Entry], event_ids: &BTreeSet<EventId>) -> Option<Published> {
    let awaited = entries.iter().filter(|entry| event_ids.contains(&entry.event.id));
    let leaving: Vec<&Entry> = awaited.filter(|entry| entry.status.is_leaving()).collect();
    match leaving.iter().find(|entry| entry.status == Status::Stuck) {
        Some(stuck) => Some(Published::Stuck {
            event_id: stuck.event.id,
            reason: stuck.release_error.clone(),
        }),
        None => leaving.is_empty().then_some(Published::All),
    }
}

/// Says what the relay's answer means for the entry.
fn settlement(outcome: &PublishOutcome) -> Settlement {
    match outcome {
        // Stored, or ruled out by something the relay has: a newer version, a deletion, its own expiration tag.
        PublishOutcome::Stored
        | PublishOutcome::Duplicate
        | PublishOutcome::Replaced
        | PublishOutcome::Deleted
        | PublishOutcome::Expired => Settlement::Done,
        // The plugin answered `purgatory:` although the entry is marked: it saw Redis before the mark.
        PublishOutcome::Held(error) | PublishOutcome::Busy(error) => Settlement::Retry {
            after_secs: RETRY_SECS,
            error: error.clone(),
        },
        PublishOutcome::Refused(error) => Settlement::Stuck {
            after_secs: STUCK_RETRY_SECS,
            error: error.clone(),
        },
    }
}

/// Until the next attempt when the relay was not able to answer.
const RETRY_SECS: u64 = 1;

/// Until the next attempt after a refusal: the operator may have raised a limit meanwhile.
const STUCK_RETRY_SECS: u64 = 3600;

/// Between two looks at what is still on its way.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_that_ends_the_event_ends_the_entry() {
        let text = || "text".to_owned();
        for (outcome, ends) in [
            (PublishOutcome::Stored, true),
            (PublishOutcome::Duplicate, true),
            (PublishOutcome::Replaced, true),
            (PublishOutcome::Deleted, true),
            (PublishOutcome::Expired, true),
            (PublishOutcome::Held(text()), false),
            (PublishOutcome::Busy(text()), false),
            (PublishOutcome::Refused(text()), false),
        ] {
            assert_eq!(settlement(&outcome) == Settlement::Done, ends, "{outcome:?}");
        }
    }
}
