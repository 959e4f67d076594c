//! One event of the purgatory with all that is known about it, for `purgatory show` and its page.

use nostr::event::EventId;
use serde_json::Value;
use serde_json::json;
use shared::purgatory::Entry;
use shared::purgatory::Purgatory;
use shared::purgatory::PurgatoryError;
use wire::path::npub;

use crate::admin::entries::entry_of;
use crate::admin::entries::needs_of;
use crate::admin::needs::Need;
use crate::admin::needs::repository;
use crate::admin::rows::kind_name;
use crate::admin::table::plain;
use crate::admin::table::span;

/// An entry, and what it waits for.
pub(super) struct Description {
    entry: Entry,
    needs: Vec<Need>,
    now: u64,
}

/// Describes an event for a person; `None`: it is not there.
///
/// # Errors
/// The purgatory does not answer.
pub(super) async fn description(purgatory: &Purgatory, event_id: &EventId) -> Result<Option<String>, PurgatoryError> {
    match entry_of(purgatory, event_id).await? {
        Some(entry) => Ok(Some(Description::of(purgatory, entry).await?.text())),
        None => Ok(None),
    }
}

impl Description {
    /// Reads what `entry` waits for.
    pub(super) async fn of(purgatory: &Purgatory, entry: Entry) -> Result<Self, PurgatoryError> {
        let needs = needs_of(purgatory, &entry).await?;
        let now = purgatory.counts().await?.now;
        Ok(Self { entry, needs, now })
    }

    /// Writes it for a person.
    pub(super) fn text(&self) -> String {
        let Self { entry, now, .. } = self;
        let event = &entry.event;
        let repositories: Vec<String> = entry.coordinates.iter().map(repository).collect();
        let ends = match (entry.status.counts_as_served(), entry.deadline.checked_sub(*now)) {
            (true, _) => "it does not expire".to_owned(),
            (false, Some(secs)) => format!("{} left", span(secs)),
            (false, None) => "its deadline has passed".to_owned(),
        };
        let held_for = span(now.saturating_sub(entry.held_since));
        let (status, releasing) = (entry.status.name(), entry.releasing_since);
        let status = match (
            entry.status.counts_as_served(),
            releasing.map(|since| now.saturating_sub(since)),
        ) {
            (false, _) => format!("{status} for {held_for}"),
            (true, Some(secs)) => format!("{status} for {}, held {held_for} ago", span(secs)),
            (true, None) => format!("{status}, held {held_for} ago"),
        };
        let mut text = format!(
            "event       {}\nkind        {} ({})\nauthor      {}\nrepository  {}\nstatus      {status}, {ends}\n\
             source      {}\n",
            event.id,
            kind_name(event.kind.as_u16()),
            event.kind.as_u16(),
            npub(&event.pubkey),
            repositories.join("\n            "),
            plain(&entry.source),
        );
        for (place, need) in self.needs.iter().enumerate() {
            let label = if place == 0 { "waits for   " } else { "            " };
            text.push_str(&format!("{label}{need}\n"));
        }
        text
    }

    /// Returns it for scripts.
    pub(super) fn to_json(&self) -> Value {
        let entry = &self.entry;
        json!({
            "event": entry.event.id.to_hex(),
            "kind": kind_name(entry.event.kind.as_u16()),
            "status": entry.status.name(),
            "author": npub(&entry.event.pubkey),
            "repositories": entry.coordinates.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "held_since": entry.held_since,
            "releasing_since": entry.releasing_since,
            "deadline": (!entry.status.counts_as_served()).then_some(entry.deadline),
            "source": entry.source,
            "waiting_for": entry.waiting_for,
            "release_error": entry.release_error,
            "needs": self.needs.iter().map(Need::to_json).collect::<Vec<_>>(),
            "signed": *entry.event,
        })
    }
}
