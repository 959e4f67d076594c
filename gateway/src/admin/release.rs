//! An attempt to release an event now: a gateway has to reconcile its repositories, and publishes it if it is complete.

use std::collections::BTreeSet;
use std::time::Duration;

use nostr::event::EventId;
use progress::CommandProgress;
use serde_json::Value;
use serde_json::json;
use shared::nip34;
use shared::purgatory::Entry;
use shared::purgatory::EntryStatus;
use shared::purgatory::Purgatory;
use shared::purgatory::PurgatoryError;
use tokio::time::Instant;

use crate::admin::entries::entry_of;
use crate::admin::entries::needs_of;
use crate::admin::needs::Need;

/// The outcome of an attempt to release an event.
pub(super) struct Attempt {
    event_id: EventId,
    released: Released,
    needs: Vec<Need>,
}

/// How an attempt to release an event ended.
enum Released {
    /// It has left the purgatory.
    Left,
    /// It is complete and counts as served.
    Releasing,
    /// It is complete, and the relay has refused it.
    Refused,
    /// It still waits.
    Waits,
    /// No gateway has reconciled its repositories.
    NobodyCame,
}

/// Tries to release an event for somebody who watches, and returns the outcome; `None`: there is no such event.
///
/// # Errors
/// The purgatory does not answer.
pub(super) async fn release_now(purgatory: &Purgatory, event_id: &EventId) -> Result<Option<String>, PurgatoryError> {
    let Some(entry) = entry_of(purgatory, event_id).await? else {
        return Ok(None);
    };
    let attempt = Attempt::make(purgatory, &entry, PAGE_WAIT, &CommandProgress::quiet()).await?;
    Ok(Some(attempt.text()))
}

impl Attempt {
    /// Tries to release an entry, and waits so long for a gateway.
    pub(super) async fn make(
        purgatory: &Purgatory,
        entry: &Entry,
        wait: Duration,
        progress: &CommandProgress,
    ) -> Result<Self, PurgatoryError> {
        if entry.status.counts_as_served() {
            purgatory.make_due(&entry.event.id).await?;
        }
        have_reconciled(purgatory, entry).await?;
        let (after, is_dirty) = wait_for_gateway(purgatory, entry, wait, progress).await?;
        let needs = match &after {
            Some(entry) => needs_of(purgatory, entry).await?,
            None => Vec::new(),
        };
        Ok(Self {
            event_id: entry.event.id,
            released: outcome(after.as_ref(), is_dirty),
            needs,
        })
    }

    /// Whether the event has left the purgatory, or will.
    pub(super) fn succeeded(&self) -> bool {
        match self.released {
            Released::Left | Released::Releasing => true,
            Released::Waits | Released::Refused | Released::NobodyCame => false,
        }
    }

    /// Writes it for a person.
    pub(super) fn text(&self) -> String {
        let (_, text) = self.released.words();
        let needs = self.needs.iter().map(|need| format!("waits for   {need}\n"));
        format!("{}: {text}\n{}", self.event_id, needs.collect::<String>())
    }

    /// Returns it for scripts.
    pub(super) fn to_json(&self) -> Value {
        let (name, _) = self.released.words();
        let needs: Vec<Value> = self.needs.iter().map(Need::to_json).collect();
        json!({"event": self.event_id.to_hex(), "outcome": name, "needs": needs})
    }
}

impl Released {
    /// Returns a word for scripts, and a text for people.
    fn words(&self) -> (&'static str, &'static str) {
        match self {
            Self::Left => (
                "left",
                "it has left the purgatory: the relay has it, or it was dropped or has expired",
            ),
            Self::Releasing => ("releasing", "it is complete: a gateway publishes it"),
            Self::Refused => ("refused", "it is complete, and the relay refuses it"),
            Self::Waits => ("waits", "its repository was reconciled, and it still waits"),
            Self::NobodyCame => (
                "nobody-came",
                "no gateway has reconciled its repository: does one run, and does the relay answer?",
            ),
        }
    }
}

/// Returns the outcome of an attempt, from the entry afterwards.
fn outcome(after: Option<&Entry>, is_dirty: bool) -> Released {
    match after {
        None => Released::Left,
        Some(_) if is_dirty => Released::NobodyCame,
        Some(entry) => match entry.status {
            EntryStatus::Held | EntryStatus::Asleep => Released::Waits,
            EntryStatus::Releasing => Released::Releasing,
            EntryStatus::Stuck => Released::Refused,
        },
    }
}

/// Waits until a gateway has reconciled an entry's repositories, and has published the entry if it is complete. Returns
/// what there is of it then, and whether its repositories are still to be reconciled.
async fn wait_for_gateway(
    purgatory: &Purgatory,
    entry: &Entry,
    wait: Duration,
    progress: &CommandProgress,
) -> Result<(Option<Entry>, bool), PurgatoryError> {
    let begun = Instant::now();
    progress.begin("seconds until a gateway has to have reconciled it");
    loop {
        tokio::time::sleep(CHECK_AGAIN).await;
        progress.set(begun.elapsed().as_secs());
        let is_dirty = is_to_be_reconciled(purgatory, entry).await?;
        let after = entry_of(purgatory, &entry.event.id).await?;
        let is_complete = after.as_ref().is_some_and(|entry| entry.status.counts_as_served());
        if begun.elapsed() >= wait || !is_dirty && !is_complete {
            return Ok((after, is_dirty));
        }
    }
}

/// Has a gateway reconcile an entry's repositories; of a PR only with this one.
async fn have_reconciled(purgatory: &Purgatory, entry: &Entry) -> Result<(), PurgatoryError> {
    if !nip34::is_pull_request(entry.event.kind.as_u16()) {
        return purgatory.mark_dirty(&entry.coordinates).await;
    }
    let event_ids = BTreeSet::from([entry.event.id]);
    for coordinate in &entry.coordinates {
        purgatory.mark_unreconciled(coordinate, &event_ids).await?;
    }
    Ok(())
}

/// Whether no gateway has reconciled it yet.
async fn is_to_be_reconciled(purgatory: &Purgatory, entry: &Entry) -> Result<bool, PurgatoryError> {
    for coordinate in &entry.coordinates {
        let is_left = match nip34::is_pull_request(entry.event.kind.as_u16()) {
            true => purgatory
                .unreconciled_page(coordinate)
                .await?
                .event_ids()
                .contains(&entry.event.id),
            false => purgatory.dirty_number(coordinate).await?.is_some(),
        };
        if is_left {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Between two checks whether a gateway has reconciled.
const CHECK_AGAIN: Duration = Duration::from_millis(100);

/// How long a page waits for a gateway while an operator watches.
const PAGE_WAIT: Duration = Duration::from_secs(5);
