//! Reads what the scripts return. Anything that does not fit is an error that says what: Redis is shared with people.

use std::collections::BTreeSet;

use nostr::event::Event;
use nostr::event::EventId;
use nostr::key::PublicKey;

use super::super::DirtyNumber;
use super::super::Entry;
use super::super::EntryStatus;
use super::super::HoldOutcome;
use super::super::Lease;
use super::super::Leased;
use super::super::Limit;
use super::super::Placeholder;
use super::super::Reading;
use crate::nip34::Coordinate;
use crate::nip34::Identifier;

/// What `read.lua` returns.
pub(super) type RawReading = (u64, Vec<(String, u64)>, Vec<[String; 9]>, Vec<[String; 5]>);

/// Reads the answer of `read.lua`.
pub(super) fn reading(raw: RawReading) -> Result<Reading, String> {
    let (now, dirty, entries, placeholders) = raw;
    let mut entries = entries.into_iter().map(entry).collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(|entry| entry.event.id);
    let mut placeholders = placeholders
        .into_iter()
        .map(placeholder)
        .collect::<Result<Vec<_>, _>>()?;
    placeholders.sort();
    Ok(Reading {
        now,
        dirty: dirty_numbers(dirty)?.into_iter().collect(),
        entries,
        placeholders,
    })
}

/// Reads pairs of identifier and dirty number.
pub(super) fn dirty_numbers(raw: Vec<(String, u64)>) -> Result<Vec<(Identifier, DirtyNumber)>, String> {
    raw.into_iter()
        .map(|(name, number)| Ok((identifier(&name)?, DirtyNumber(number))))
        .collect()
}

/// Reads the answer of `hold.lua`.
pub(super) fn hold_outcome(text: &str) -> Result<HoldOutcome, String> {
    match text {
        "held" => Ok(HoldOutcome::Held),
        "deleted" => Ok(HoldOutcome::Deleted),
        "replaced" => Ok(HoldOutcome::Replaced),
        "full:event-bytes" => Ok(HoldOutcome::Full(Limit::EventBytes)),
        "full:author" => Ok(HoldOutcome::Full(Limit::EntriesPerAuthor)),
        "full:author-bytes" => Ok(HoldOutcome::Full(Limit::BytesPerAuthor)),
        "full:source" => Ok(HoldOutcome::Full(Limit::EntriesPerSource)),
        "full:source-bytes" => Ok(HoldOutcome::Full(Limit::BytesPerSource)),
        "full:identifier" => Ok(HoldOutcome::Full(Limit::EntriesPerIdentifier)),
        "full:entries" => Ok(HoldOutcome::Full(Limit::Entries)),
        "full:bytes" => Ok(HoldOutcome::Full(Limit::Bytes)),
        _ => text
            .strip_prefix("already:")
            .and_then(EntryStatus::parse)
            .map(HoldOutcome::AlreadyHeld)
            .ok_or_else(|| format!("{text:?} is no outcome of a hold")),
    }
}

/// Reads one row of the answer of `take_due.lua`.
pub(super) fn leased(json: &str, lease: u64, after: &str) -> Result<Leased, String> {
    Ok(Leased {
        event: event(json)?,
        lease: Lease(lease),
        after: id_set(after)?,
    })
}

/// Reads the JSON of an event that this program wrote.
fn event(json: &str) -> Result<Event, String> {
    Event::from_json(json).map_err(|error| format!("an event that is none: {error}"))
}

fn entry(fields: [String; 9]) -> Result<Entry, String> {
    let [
        json,
        identifiers,
        status,
        source,
        held_since,
        deadline,
        waiting_for,
        release_error,
        after,
    ] = fields;
    let event = event(&json)?;
    let at = |error: String| format!("entry {}: {error}", event.id);
    Ok(Entry {
        identifiers: identifier_set(&identifiers).map_err(at)?,
        status: EntryStatus::parse(&status).ok_or_else(|| at(format!("status {status:?}")))?,
        source,
        held_since: number(&held_since).map_err(at)?,
        deadline: number(&deadline).map_err(at)?,
        waiting_for,
        release_error,
        after: id_set(&after).map_err(at)?,
        event,
    })
}

fn placeholder(fields: [String; 5]) -> Result<Placeholder, String> {
    let [event_id, owner, name, commit_oid, deadline] = fields;
    let at = |what: &str| format!("placeholder of {event_id}: {what}");
    Ok(Placeholder {
        event_id: EventId::from_hex(&event_id).map_err(|_| at("event id"))?,
        coordinate: Coordinate {
            owner: PublicKey::from_hex(&owner).map_err(|_| at("owner"))?,
            identifier: identifier(&name)?,
        },
        commit_oid: commit_oid.parse().map_err(|_| at("commit oid"))?,
        deadline: number(&deadline)?,
    })
}

fn identifier_set(json: &str) -> Result<BTreeSet<Identifier>, String> {
    let names: Vec<String> = serde_json::from_str(json).map_err(|error| format!("identifiers {json:?}: {error}"))?;
    names.iter().map(|name| identifier(name)).collect()
}

fn id_set(json: &str) -> Result<BTreeSet<EventId>, String> {
    serde_json::from_str(json).map_err(|error| format!("after {json:?}: {error}"))
}

fn identifier(name: &str) -> Result<Identifier, String> {
    name.parse().map_err(|error| format!("identifier {name:?}: {error}"))
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text:?} is no time"))
}
