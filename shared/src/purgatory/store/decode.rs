//! Decodes the results of the scripts. An unexpected value is an error that names it: people also write to Redis.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use nostr::event::Event;
use nostr::event::EventId;
use nostr::key::PublicKey;

use crate::nip01::parse_pubkey;
use crate::nip34::Coordinate;
use crate::purgatory::entry::Entry;
use crate::purgatory::entry::EntryStatus;
use crate::purgatory::entry::Placeholder;
use crate::purgatory::hold::HoldOutcome;
use crate::purgatory::hold::PlaceholderLimit;
use crate::purgatory::hold::PlaceholderOutcome;
use crate::purgatory::hold::RelatedReading;
use crate::purgatory::inventory::InventoryCounts;
use crate::purgatory::inventory::InventoryPage;
use crate::purgatory::limits::Limit;
use crate::purgatory::reading::DirtyNumber;
use crate::purgatory::reading::Epoch;
use crate::purgatory::reading::PendingWork;
use crate::purgatory::reading::Reading;
use crate::purgatory::refusal::NotedRefusal;
use crate::purgatory::release::Lease;
use crate::purgatory::release::Leased;
use crate::purgatory::release::MarkedReleasing;
use crate::purgatory::release::Release;
use crate::purgatory::unreconciled::UnreconciledPullRequest;
use crate::purgatory::unreconciled::UnreconciledPullRequests;

/// Something in Redis, or an answer of it, that this program did not write.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Malformed(String);

fn malformed(of: &str, field: &str, found: impl fmt::Debug) -> Malformed {
    Malformed(format!("{of} has the {field} {found:?}"))
}

/// What `read_page.lua` returns.
type RawReading = (
    u64,
    String,
    Vec<(String, u64)>,
    Vec<(String, Vec<String>, usize)>,
    Vec<[String; 10]>,
    Vec<[String; 4]>,
    usize,
    String,
    String,
);

/// Where the next page of a read begins: the position of a coordinate, from 1, the name of its index, and the last
/// member that was read.
pub(super) struct ReadingCursor(pub(super) usize, pub(super) String, pub(super) String);

impl ReadingCursor {
    /// Where the first page begins.
    pub(super) fn start() -> Self {
        Self(1, "listings".to_owned(), String::new())
    }

    /// Whether the page before was the last.
    pub(super) fn is_end(&self) -> bool {
        self.0 == 0
    }
}

/// What `mark_releasing_page.lua` returns.
type RawMarked = (Vec<(usize, u64)>, Vec<usize>);

/// Reads the answer of `read_page.lua`: one page, and where the next one begins.
pub(super) fn reading_page(raw: RawReading) -> Result<(Reading, ReadingCursor), Malformed> {
    let (now, last_lease, dirty, listings, entries, placeholders, place, index, last) = raw;
    let listings = listings.into_iter().map(listing_of).collect::<Result<Vec<_>, _>>()?;
    let page = Reading {
        now,
        last_lease,
        dirty: dirty_numbers(dirty)?.into_iter().collect(),
        noted: listings.iter().map(|(at, _, noted)| (at.clone(), *noted)).collect(),
        listed_by: listings.into_iter().map(|(at, owners, _)| (at, owners)).collect(),
        entries: entries.into_iter().map(entry).collect::<Result<Vec<_>, _>>()?,
        placeholders: placeholders
            .into_iter()
            .map(placeholder)
            .collect::<Result<Vec<_>, _>>()?,
    };
    Ok((page, ReadingCursor(place, index, last)))
}

/// Reads pairs of coordinate and dirty number.
pub(super) fn dirty_numbers(raw: Vec<(String, u64)>) -> Result<Vec<(Coordinate, DirtyNumber)>, Malformed> {
    raw.into_iter()
        .map(|(name, number)| Ok((coordinate("a dirty mark", &name)?, DirtyNumber(number))))
        .collect()
}

/// Reads the answer of `unreconciled_page.lua`.
pub(super) fn unreconciled(
    (last_change, members): (String, Vec<(String, String)>),
) -> Result<UnreconciledPullRequests, Malformed> {
    let pull_request = |(member, score): (String, String)| {
        let id = member.rsplit(':').next().unwrap_or_default();
        let event_id = EventId::from_hex(id).map_err(|_| malformed("a PR to reconcile", "id", id))?;
        Ok(UnreconciledPullRequest {
            event_id,
            member,
            score,
        })
    };
    let members = members
        .into_iter()
        .map(pull_request)
        .collect::<Result<_, Malformed>>()?;
    Ok(UnreconciledPullRequests { last_change, members })
}

/// Reads the answer of `hold_entry.lua`.
pub(super) fn hold_outcome(
    (extended, text, left): (usize, String, String),
) -> Result<(usize, HoldOutcome, String), Malformed> {
    Ok((extended, outcome(text)?, left))
}

fn outcome(text: String) -> Result<HoldOutcome, Malformed> {
    match text.as_str() {
        "held" => Ok(HoldOutcome::Held),
        "deleted" => Ok(HoldOutcome::Deleted),
        "replaced" => Ok(HoldOutcome::Replaced),
        "absent" => Ok(HoldOutcome::Absent),
        "full:behind" => Ok(HoldOutcome::Full(Limit::EntriesBehind)),
        "full:event-bytes" => Ok(HoldOutcome::Full(Limit::EventBytes)),
        "full:author" => Ok(HoldOutcome::Full(Limit::EntriesPerAuthor)),
        "full:author-bytes" => Ok(HoldOutcome::Full(Limit::BytesPerAuthor)),
        "full:source" => Ok(HoldOutcome::Full(Limit::EntriesPerSource)),
        "full:source-bytes" => Ok(HoldOutcome::Full(Limit::BytesPerSource)),
        "full:new-repositories" => Ok(HoldOutcome::Full(Limit::NewRepositoriesPerSource)),
        "full:coordinate" => Ok(HoldOutcome::Full(Limit::EntriesPerRepository)),
        "full:share" => Ok(HoldOutcome::Full(Limit::EntriesPerShare)),
        "full:entries" => Ok(HoldOutcome::Full(Limit::Entries)),
        "full:bytes" => Ok(HoldOutcome::Full(Limit::Bytes)),
        _ => text
            .strip_prefix("already:")
            .and_then(EntryStatus::named)
            .map(HoldOutcome::AlreadyHeld)
            .ok_or_else(|| malformed("a hold", "outcome", text)),
    }
}

/// Reads the answer of `read_related.lua`.
pub(super) fn read_related(
    (own, is_any_here, last_lease): (String, bool, String),
) -> Result<RelatedReading, Malformed> {
    Ok(RelatedReading {
        own: EntryStatus::named(&own),
        is_any_here,
        last_lease,
    })
}

/// Reads the answer of `put_placeholder.lua`.
pub(super) fn placeholder_outcome(text: String) -> Result<PlaceholderOutcome, Malformed> {
    match text.as_str() {
        "recorded" => Ok(PlaceholderOutcome::Recorded),
        "full" => Ok(PlaceholderOutcome::Full(PlaceholderLimit::Placeholders)),
        "full:source" => Ok(PlaceholderOutcome::Full(PlaceholderLimit::PlaceholdersPerSource)),
        _ => Err(malformed("a placeholder", "outcome", text)),
    }
}

/// Reads the answer of `mark_releasing_page.lua` about these releases.
pub(super) fn marked_releasing(
    (leased, waiting): RawMarked,
    releases: &[Release],
) -> Result<MarkedReleasing, Malformed> {
    let release_at = |place: usize| {
        let release = place.checked_sub(1).and_then(|place| releases.get(place));
        release.ok_or_else(|| malformed("a mark", "place", place))
    };
    let leased = leased.into_iter().map(|(place, lease)| {
        let Release { event, after, .. } = release_at(place)?;
        Ok(Leased {
            event: Event::clone(event),
            lease: Lease(lease),
            after: after.clone(),
        })
    });
    let waiting = waiting.into_iter().map(|place| Ok(release_at(place)?.event.id));
    Ok(MarkedReleasing {
        leased: leased.collect::<Result<_, Malformed>>()?,
        waiting: waiting.collect::<Result<_, Malformed>>()?,
    })
}

/// Reads the answer of `take_due.lua`. One malformed entry must not stop the others.
pub(super) fn leased(raw: Vec<(String, u64, String)>) -> Result<Vec<Leased>, Malformed> {
    let read = |(json, lease, after): (String, u64, String)| {
        let event = event(&json)?;
        Ok(Leased {
            lease: Lease(lease),
            after: id_set(&event, &after)?,
            event,
        })
    };
    let log = |malformed: Malformed| tracing::error!(%malformed, "a releasing entry in redis is malformed");
    Ok(raw.into_iter().filter_map(|row| read(row).map_err(log).ok()).collect())
}

/// Reads the answer of `entries_page.lua`.
pub(super) fn entries(raw: Vec<[String; 10]>) -> Result<Vec<Entry>, Malformed> {
    raw.into_iter().map(entry).collect()
}

/// Reads the answer of `list_page.lua`.
pub(super) fn listed(
    (next, ids, placeholders): (String, Vec<String>, Vec<[String; 4]>),
) -> Result<InventoryPage, Malformed> {
    let event_id = |id: &String| EventId::from_hex(id).map_err(|_| malformed("an index", "member", id));
    Ok(InventoryPage {
        event_ids: ids.iter().map(event_id).collect::<Result<_, _>>()?,
        placeholders: placeholders.into_iter().map(placeholder).collect::<Result<_, _>>()?,
        next: (next != "0").then_some(next),
    })
}

/// Reads the answer of `pending.lua`.
pub(super) fn pending(
    (name, server, is_overdue, is_dirty, has_pull_requests, is_due): (String, String, bool, bool, bool, bool),
) -> Result<PendingWork, Malformed> {
    Ok(PendingWork {
        epoch: Epoch { name, server },
        is_overdue,
        is_dirty,
        has_pull_requests,
        is_due,
    })
}

/// Reads the answer of `counts.lua`.
pub(super) fn counts([now, waiting, waiting_bytes, releasing, placeholders, dirty]: [u64; 6]) -> InventoryCounts {
    InventoryCounts {
        now,
        waiting,
        waiting_bytes,
        releasing,
        placeholders,
        dirty,
    }
}

/// Reads the answer of `refusals_page.lua`.
pub(super) fn refusals(raw: Vec<(u64, String)>) -> Result<Vec<(u64, NotedRefusal)>, Malformed> {
    let read = |(at, json): (u64, String)| {
        let texts: Result<[String; 6], _> = serde_json::from_str(&json);
        let [request, what, source, author, repositories, reason] =
            texts.map_err(|_| malformed("the refusals", "member", json))?;
        let refusal = NotedRefusal {
            request,
            what,
            source,
            author,
            repositories,
            reason,
        };
        Ok((at / 1_000_000, refusal))
    };
    raw.into_iter().map(read).collect()
}

fn entry(fields: [String; 10]) -> Result<Entry, Malformed> {
    let [
        json,
        coordinates,
        status,
        source,
        held_since,
        deadline,
        waiting_for,
        release_error,
        after,
        releasing_since,
    ] = fields;
    let event = event(&json)?;
    let of = event.id.to_hex();
    Ok(Entry {
        coordinates: coordinate_set(&of, &coordinates)?,
        status: EntryStatus::named(&status).ok_or_else(|| malformed(&of, "status", status))?,
        source,
        held_since: time(&of, "held_since", &held_since)?,
        deadline: time(&of, "deadline", &deadline)?,
        waiting_for,
        release_error,
        after: id_set(&event, &after)?,
        releasing_since: match releasing_since.as_str() {
            "" => None,
            since => Some(time(&of, "releasing_since", since)?),
        },
        event: Arc::new(event),
    })
}

fn placeholder(fields: [String; 4]) -> Result<Placeholder, Malformed> {
    let [event_id, at_text, commit_oid, deadline] = fields;
    let of = format!("the placeholder of {event_id}");
    let at = |field, found: &str| malformed(&of, field, found);
    Ok(Placeholder {
        event_id: EventId::from_hex(&event_id).map_err(|_| at("event_id", &event_id))?,
        coordinate: coordinate(&of, &at_text)?,
        commit_oid: commit_oid.parse().map_err(|_| at("commit_oid", &commit_oid))?,
        deadline: time(&of, "deadline", &deadline)?,
    })
}

/// The error does not show the event itself: its content has no place in a log.
fn event(json: &str) -> Result<Event, Malformed> {
    Event::from_json(json).map_err(|error| malformed("an entry", "event", error.to_string()))
}

fn coordinate_set(of: &str, json: &str) -> Result<BTreeSet<Coordinate>, Malformed> {
    let texts: Vec<String> = serde_json::from_str(json).map_err(|_| malformed(of, "coordinates", json))?;
    texts.iter().map(|text| coordinate(of, text)).collect()
}

fn id_set(event: &Event, json: &str) -> Result<BTreeSet<EventId>, Malformed> {
    serde_json::from_str(json).map_err(|_| malformed(&event.id.to_hex(), "after", json))
}

fn coordinate(of: &str, text: &str) -> Result<Coordinate, Malformed> {
    text.parse().map_err(|_| malformed(of, "coordinate", text))
}

fn listing_of(
    (text, pubkeys, noted): (String, Vec<String>, usize),
) -> Result<(Coordinate, BTreeSet<PublicKey>, usize), Malformed> {
    let pubkey = |text: String| parse_pubkey(&text).ok_or_else(|| malformed("a listing", "pubkey", text));
    let pubkeys = pubkeys.into_iter().map(pubkey).collect::<Result<_, _>>()?;
    Ok((coordinate("a listing", &text)?, pubkeys, noted))
}

/// Reads the answer of `listing.lua`.
pub(super) fn coordinates(texts: Vec<String>) -> Result<BTreeSet<Coordinate>, Malformed> {
    texts.iter().map(|text| coordinate("a listing", text)).collect()
}

fn time(of: &str, field: &'static str, text: &str) -> Result<u64, Malformed> {
    text.parse().map_err(|_| malformed(of, field, text))
}
