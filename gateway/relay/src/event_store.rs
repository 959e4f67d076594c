//! The database of the built-in relay: `nostr-lmdb`, with corrections for what it leaves out or gets wrong.
//!
//! A save returns after the commit of its transaction (`store/ingester.rs` answers behind `write_txn.commit()`, and the
//! environment is opened without `NOSYNC` or `MAPASYNC`), so it is durable. These points are corrected:
//!
//! - NIP-09 is done here and the database's own is switched off: there, a deletion of an event that arrives later has
//!   no effect, an older deletion of a coordinate replaces a newer one, and one tag that names another author's event
//!   refuses the whole request after doing some of it.
//! - NIP-40 is not done there: see `expirations.rs`.
//! - With a limit, a filter with ids, or with authors, kinds and tags, finds any events there, not the newest: it
//!   walks the ids in their own order. Without the limit it finds all. With authors, kinds and tags it also goes
//!   through the index of all that the authors have of the kinds: deletions are not asked for so, see
//!   `deletions.rs`.
//! - For the version that an addressable event replaces, it goes through all that the author has with the same `d`, of
//!   whatever kind. Here few have the same.
//! - A query there returns all that it finds at once, which may be 1,000 events of 256 KiB. Here it returns their ids,
//!   and the events are read a few at a time.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use futures_util::future;
use nostr::event::Event;
use nostr::event::EventId;
use nostr::event::Kind;
use nostr::filter::Filter;
use nostr::filter::SingleLetterTag;
use nostr::types::Timestamp;
use nostr_database::DatabaseEventStatus;
use nostr_database::NostrDatabase;
use nostr_database::RejectedReason;
use nostr_database::SaveEventStatus;
use nostr_database::error::Error as DatabaseError;
use nostr_lmdb::NostrLmdb;
use shared::nip01::Address;
use shared::nip01::tag_values;
use shared::nip34::ANNOUNCEMENT;
use shared::nip34::STATE;
use tokio::sync::Semaphore;

use crate::deletions::Deletions;
use crate::deletions::filter_of_requests;
use crate::deletions::hashed_filter;
use crate::expirations::Expirations;
use crate::validate::is_expired;

#[derive(Debug)]
pub(super) struct EventStore {
    database: NostrLmdb,
    /// LMDB has a fixed table of readers.
    readers: Semaphore,
    /// Events are parsed by few readers at a time, whatever they wait for.
    parsers: Semaphore,
    expirations: Expirations,
    deletions: Deletions,
    /// How many ids the database has returned.
    #[cfg(test)]
    found: std::sync::atomic::AtomicUsize,
    /// How many events it has read.
    #[cfg(test)]
    parsed: std::sync::atomic::AtomicUsize,
}

impl EventStore {
    /// Opens the database in a directory, which is made if need be.
    pub(super) async fn open(directory: &Path, bytes_max: usize) -> Result<Self, DatabaseError> {
        let database = NostrLmdb::builder(directory)
            .max_readers(READERS_MAX)
            .map_size(bytes_max)
            .process_nip09(false)
            // strfry does not know NIP-62 either.
            .process_nip62(false)
            .build()
            .await?;
        let store = Self {
            database,
            readers: Semaphore::new(READERS_MAX as usize - READERS_SPARE),
            parsers: Semaphore::new(PARSERS_MAX),
            expirations: Expirations::open(&directory.join("expirations")).await?,
            deletions: Deletions::open(&directory.join("deletions"), bytes_max).await?,
            #[cfg(test)]
            found: std::sync::atomic::AtomicUsize::default(),
            #[cfg(test)]
            parsed: std::sync::atomic::AtomicUsize::default(),
        };
        store.note_deletions().await?;
        Ok(store)
    }

    /// Notes the deletion requests of a database that was made before they were, or whose notes are lost.
    async fn note_deletions(&self) -> Result<(), DatabaseError> {
        if self.deletions.is_complete() {
            return Ok(());
        }
        let requests = self.items(Filter::new().kind(Kind::EventDeletion)).await?;
        for page in requests.chunks(PAGE_EVENTS) {
            let ids: Vec<EventId> = page.iter().map(|(id, _)| *id).collect();
            self.deletions.note_all(&self.read(&ids).await?).await?;
        }
        self.deletions.set_complete().map_err(DatabaseError::io)
    }

    pub(super) async fn has(&self, id: &EventId) -> Result<bool, DatabaseError> {
        let _permit = self.readers.acquire().await;
        Ok(self.database.check_id(id).await? == DatabaseEventStatus::Saved)
    }

    /// Returns the ids of the newest events that match the filter, at most `limit`, newest first. Fewer mean that there
    /// are no more.
    pub(super) async fn newest(&self, filter: &Filter, limit: usize) -> Result<Vec<EventId>, DatabaseError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let mut items = if let Some(filter) = filter_of_requests(filter) {
            self.stored_requests(&filter, limit).await?
        } else if !walks_in_order_of_ids(filter) {
            self.some(filter, limit).await?
        } else {
            // In one transaction: an event may be replaced by another one between two.
            let _permit = self.readers.acquire().await;
            self.items(filter.clone().remove_limit()).await?
        };
        items.sort_by_key(|(id, created_at)| (Reverse(*created_at), *id));
        Ok(items.into_iter().take(limit).map(|(id, _)| id).collect())
    }

    /// Returns the ids of the newest deletion requests that are noted and stored, at least `limit`, or all.
    async fn stored_requests(&self, filter: &Filter, limit: usize) -> Result<Vec<(EventId, Timestamp)>, DatabaseError> {
        let mut asked = limit;
        loop {
            let noted = self.some_of(&self.deletions.requests, filter, asked).await?;
            if noted.is_empty() {
                return Ok(noted);
            }
            let ids = Filter::new().ids(noted.iter().map(|(id, _)| *id));
            let stored = {
                let _permit = self.readers.acquire().await;
                self.items(ids).await?
            };
            if stored.len() >= limit || noted.len() < asked {
                return Ok(stored);
            }
            // There is room for as many more as are not stored, or not yet.
            asked = noted.len() + (noted.len() - stored.len());
        }
    }

    /// Returns ids as the database finds them, at least `limit` of those that have not expired, or all.
    async fn some(&self, filter: &Filter, limit: usize) -> Result<Vec<(EventId, Timestamp)>, DatabaseError> {
        self.some_of(&self.database, filter, limit).await
    }

    async fn some_of(
        &self,
        database: &NostrLmdb,
        filter: &Filter,
        limit: usize,
    ) -> Result<Vec<(EventId, Timestamp)>, DatabaseError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let _permit = self.readers.acquire().await;
        let mut limited = filter.clone().limit(limit);
        loop {
            let items = self.items_of(database, limited.clone()).await?;
            if items.len() >= limit {
                return Ok(items);
            }
            // Expired events that are not deleted yet count for the database's limit, but are not among its results.
            let found = database.count(limited.clone()).await?;
            if limited.limit.is_none_or(|asked| found < asked) {
                return Ok(items);
            }
            // Each time there is room for as many more as were in the way.
            limited = limited.limit(found + found.saturating_sub(items.len()).max(1));
        }
    }

    async fn items(&self, filter: Filter) -> Result<Vec<(EventId, Timestamp)>, DatabaseError> {
        self.items_of(&self.database, filter).await
    }

    async fn items_of(&self, database: &NostrLmdb, filter: Filter) -> Result<Vec<(EventId, Timestamp)>, DatabaseError> {
        let items = database.negentropy_items(filter).await?;
        #[cfg(test)]
        self.found.fetch_add(items.len(), std::sync::atomic::Ordering::Relaxed);
        Ok(items)
    }

    /// Returns those of these events that are stored and have not expired, in their order, in the form in which they
    /// are sent. At most [`PAGE_EVENTS`] may be requested.
    pub(super) async fn page(&self, ids: &[EventId]) -> Result<Vec<(EventId, String)>, DatabaseError> {
        let _permit = self.parsers.acquire().await;
        let events = self.read(ids).await?;
        Ok(events.iter().map(|event| (event.id, json_of(event))).collect())
    }

    async fn read(&self, ids: &[EventId]) -> Result<Vec<Event>, DatabaseError> {
        let permit = self.readers.acquire().await;
        let found = self.database.query(Filter::new().ids(ids.iter().copied())).await?;
        drop(permit);
        #[cfg(test)]
        self.parsed.fetch_add(found.len(), std::sync::atomic::Ordering::Relaxed);
        let now = Timestamp::now();
        let (expired, live): (Vec<Event>, Vec<Event>) = found.into_iter().partition(|event| is_expired(event, now));
        let expired: Vec<EventId> = expired.iter().map(|event| event.id).collect();
        self.delete(&expired).await?;
        Ok(live)
    }

    /// Deletes events soon after they have expired, without end.
    pub(super) async fn keep_deleting_expired(&self) {
        loop {
            if let Err(error) = self.delete_expired(Timestamp::now()).await {
                tracing::error!(%error, "cannot delete expired events");
            }
            tokio::time::sleep(DELETE_EXPIRED_EVERY).await;
        }
    }

    /// Deletes the events that have expired by `now`, a few at a time.
    async fn delete_expired(&self, now: Timestamp) -> Result<(), DatabaseError> {
        loop {
            let due = self.expirations.due(now, PAGE_EVENTS).await?;
            if due.is_empty() {
                return Ok(());
            }
            self.delete(&due).await?;
            self.deletions.forget(&due).await?;
            self.expirations.settle(&due).await?;
        }
    }

    /// Returns how many events match one of the filters, counting no further than about `limit`.
    pub(super) async fn count(&self, filters: Vec<Filter>, limit: usize) -> Result<usize, DatabaseError> {
        let mut ids = HashSet::new();
        for filter in filters {
            ids.extend(self.newest(&filter, limit).await?);
            if ids.len() >= limit {
                break;
            }
        }
        Ok(ids.len().min(limit))
    }

    /// Saves events in this order, durably. The order of the results is that of the events.
    pub(super) async fn save(&self, events: &[Event]) -> Vec<Result<SaveEventStatus, DatabaseError>> {
        let mut results = Vec::with_capacity(events.len());
        // Later events are checked against a deletion, and it applies to earlier ones: it is saved alone.
        for run in events.chunk_by(|one, other| !is_deletion(one) && !is_deletion(other)) {
            if let [deletion] = run
                && is_deletion(deletion)
            {
                results.push(self.save_deletion(deletion).await);
            } else {
                results.extend(self.save_run(run).await);
            }
        }
        results
    }

    /// Saves events that are no deletions in one transaction if the database takes them fast enough.
    async fn save_run(&self, events: &[Event]) -> Vec<Result<SaveEventStatus, DatabaseError>> {
        let deleted = future::join_all(events.iter().map(|event| self.is_deleted(event))).await;
        let saves = events.iter().zip(deleted).map(|(event, deleted)| async move {
            if deleted? {
                return Ok(SaveEventStatus::Rejected(RejectedReason::Deleted));
            }
            if self.has_crowded_identifier(event).await? {
                return Ok(SaveEventStatus::Rejected(RejectedReason::Other));
            }
            self.store(event).await
        });
        future::join_all(saves).await
    }

    /// Saves a deletion after carrying it out: if the process ends between the two, the client has had no OK and sends
    /// it again.
    async fn save_deletion(&self, deletion: &Event) -> Result<SaveEventStatus, DatabaseError> {
        if self.has(&deletion.id).await? {
            return Ok(SaveEventStatus::Rejected(RejectedReason::Duplicate));
        }
        if self.has_crowded_identifier(deletion).await? {
            return Ok(SaveEventStatus::Rejected(RejectedReason::Other));
        }
        let mut targets = self.own_of(deletion, &named_ids(deletion), None).await?;
        let mut left = VERSIONS_MAX;
        for address in addresses(deletion) {
            let versions = self.versions(&address, deletion.created_at, left).await?;
            left -= versions.len();
            let alike = self.own_of(deletion, &versions, Some(address.kind)).await?;
            targets.extend(self.addressed(&alike, &address).await?);
        }
        self.delete(&targets).await?;
        self.deletions.note(deletion).await?;
        let stored = self.store(deletion).await;
        if stored.is_err() {
            self.deletions.forget(&[deletion.id]).await?;
        }
        stored
    }

    /// Whether many events of the author have an identifier of this one already: the database goes through all of them
    /// in its only transaction, whenever it stores one that the identifier addresses.
    async fn has_crowded_identifier(&self, event: &Event) -> Result<bool, DatabaseError> {
        // There is one of each for an identifier, and pushes wait for them.
        if [ANNOUNCEMENT, STATE].contains(&event.kind.as_u16()) {
            return Ok(false);
        }
        for identifier in tag_values(event, "d") {
            let same = Filter::new().author(event.pubkey).identifier(identifier);
            let same = self.some(&same, SAME_IDENTIFIER_MAX).await?;
            if same.len() < SAME_IDENTIFIER_MAX {
                continue;
            }
            let versions = Filter::new().ids(same.iter().map(|(id, _)| *id)).kind(event.kind);
            if !event.kind.is_addressable() || self.some(&versions, 1).await?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn store(&self, event: &Event) -> Result<SaveEventStatus, DatabaseError> {
        let expires = event.tags.expiration().is_some();
        if expires {
            self.expirations.note(event).await?;
        }
        let status = self.database.save_event(event).await?;
        if expires
            && !matches!(
                status,
                SaveEventStatus::Success | SaveEventStatus::Rejected(RejectedReason::Duplicate)
            )
        {
            self.expirations.settle(&[event.id]).await?;
        }
        Ok(status)
    }

    /// Returns those of these events that are the author's of a deletion, and of this kind, if one is given; otherwise
    /// of any but its own: a deletion of a deletion has no effect (NIP-09). Copies none of them: anybody may name large
    /// ones in a small request.
    async fn own_of(
        &self,
        deletion: &Event,
        ids: &[EventId],
        kind: Option<u16>,
    ) -> Result<Vec<EventId>, DatabaseError> {
        let mut own = Vec::new();
        for page in ids.chunks(PAGE_EVENTS) {
            let _permit = self.readers.acquire().await;
            let filter = Filter::new().author(deletion.pubkey).ids(page.iter().copied());
            if let Some(kind) = kind {
                own.extend(self.ids(filter.kind(Kind::from_u16(kind))).await?);
                continue;
            }
            let found = self.ids(filter).await?;
            let requests = Filter::new().ids(found.clone()).kind(Kind::EventDeletion);
            let requests = match found.is_empty() {
                true => Vec::new(),
                false => self.ids(requests).await?,
            };
            own.extend(found.into_iter().filter(|id| !requests.contains(id)));
        }
        Ok(own)
    }

    async fn ids(&self, filter: Filter) -> Result<Vec<EventId>, DatabaseError> {
        Ok(self.items(filter).await?.into_iter().map(|(id, _)| id).collect())
    }

    /// Returns those of these events that have an address.
    async fn addressed(&self, ids: &[EventId], address: &Address) -> Result<Vec<EventId>, DatabaseError> {
        let mut addressed = Vec::new();
        for page in ids.chunks(PAGE_EVENTS) {
            let events = self.read(page).await?.into_iter();
            let have = events.filter(|event| Address::of(event).as_ref() == Some(address));
            addressed.extend(have.map(|event| event.id));
        }
        Ok(addressed)
    }

    async fn is_deleted(&self, event: &Event) -> Result<bool, DatabaseError> {
        let own = Filter::new().author(event.pubkey);
        let by_id = own.clone().custom_tag(SingleLetterTag::LOWERCASE_E, event.id.to_hex());
        let Some(address) = Address::of(event) else {
            return self.has_deletion(by_id).await;
        };
        let by_address = own
            .custom_tag(SingleLetterTag::LOWERCASE_A, address.to_string())
            .since(event.created_at);
        let (by_id, by_address) = future::try_join(self.has_deletion(by_id), self.has_deletion(by_address)).await?;
        Ok(by_id || by_address)
    }

    /// Whether there is a deletion request of this author that names this.
    async fn has_deletion(&self, named: Filter) -> Result<bool, DatabaseError> {
        let named = hashed_filter(&named);
        Ok(!self.some_of(&self.deletions.requests, &named, 1).await?.is_empty())
    }

    /// Returns the ids of the stored versions of a replaceable event that were made until then, and of others of the
    /// same author that only look like them.
    async fn versions(&self, address: &Address, until: Timestamp, max: usize) -> Result<Vec<EventId>, DatabaseError> {
        let versions = self.some(&versions_filter(address, until), max).await?;
        Ok(versions.into_iter().take(max).map(|(id, _)| id).collect())
    }

    async fn delete(&self, ids: &[EventId]) -> Result<(), DatabaseError> {
        // The database has all that it deletes at once in memory.
        for page in ids.chunks(DELETED_AT_ONCE) {
            self.database.delete(Filter::new().ids(page.iter().copied())).await?;
        }
        Ok(())
    }
}

/// Returns the ids that a deletion names, each once.
fn named_ids(deletion: &Event) -> Vec<EventId> {
    let named = tag_values(deletion, "e").filter_map(|id| EventId::from_hex(id).ok());
    named.collect::<BTreeSet<EventId>>().into_iter().collect()
}

/// Returns the addresses that a deletion names, each once, of kinds that have any.
fn addresses(deletion: &Event) -> BTreeSet<Address> {
    let addresses = tag_values(deletion, "a").filter_map(|text| text.parse::<Address>().ok());
    let has_addresses = |kind: Kind| kind.is_addressable() || kind.is_replaceable();
    addresses
        .filter(|address| has_addresses(Kind::from_u16(address.kind)))
        .collect()
}

/// Returns a filter by which the database finds the versions of a replaceable event without going through all that
/// their author has of the kind: a deletion may name a hundred.
fn versions_filter(address: &Address, until: Timestamp) -> Filter {
    let own = Filter::new().author(address.author).until(until);
    // Without the tag an event has the empty identifier too.
    if address.d.is_empty() {
        own.kind(Kind::from_u16(address.kind))
    } else {
        own.identifier(&address.d)
    }
}

/// Whether the database would return arbitrary events for this filter with a limit, instead of the newest.
fn walks_in_order_of_ids(filter: &Filter) -> bool {
    let has_authors = filter.authors.as_ref().is_some_and(|authors| !authors.is_empty());
    let has_kinds = filter.kinds.as_ref().is_some_and(|kinds| !kinds.is_empty());
    let has_ids = filter.ids.as_ref().is_some_and(|ids| !ids.is_empty());
    has_ids || (has_authors && has_kinds && !filter.generic_tags.is_empty())
}

pub(super) fn json_of(event: &Event) -> String {
    serde_json::to_string(event).unwrap_or_default()
}

fn is_deletion(event: &Event) -> bool {
    event.kind == Kind::EventDeletion
}

/// Size of LMDB's table of readers.
const READERS_MAX: u32 = 126;
/// Readers that `nostr-lmdb` may need for itself.
const READERS_SPARE: usize = 26;
/// Events that are read at once: 2 MiB of the largest.
pub(super) const PAGE_EVENTS: usize = 8;
/// Events that are deleted in one transaction, each of which flushes the disk.
const DELETED_AT_ONCE: usize = 64;
/// Pages of events that are read at the same time: parsed, an event takes several times its bytes.
const PARSERS_MAX: usize = 4;
/// Events of an author that have the same identifier: one of each kind that it addresses, and others.
const SAME_IDENTIFIER_MAX: usize = 16;
/// How often expired events are deleted. Until then they are not served, but are in the way of others.
const DELETE_EXPIRED_EVERY: Duration = Duration::from_secs(2);
/// Events that one deletion is compared with because it names coordinates: only an empty identifier has more than one
/// per coordinate. They are read in the only writer.
const VERSIONS_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use nostr::event::EventBuilder;
    use nostr::event::FinalizeEvent;
    use nostr::event::Tag;
    use nostr::filter::MatchEventOptions;
    use nostr::key::Keys;
    use nostr_database::SaveEventStatus::Rejected;
    use nostr_database::SaveEventStatus::Success;
    use tempfile::TempDir;

    use super::*;

    async fn store() -> (EventStore, TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let store = EventStore::open(directory.path(), 1 << 30).await.unwrap();
        (store, directory)
    }

    fn event(keys: &Keys, kind: u16, created_at: u64, tags: &[[&str; 2]]) -> Event {
        EventBuilder::new(Kind::from(kind), "")
            .tags(tags.iter().map(|tag| Tag::parse(*tag).unwrap()))
            .custom_created_at(Timestamp::from_secs(created_at))
            .finalize(keys)
            .unwrap()
    }

    async fn saved(store: &EventStore, event: &Event) -> SaveEventStatus {
        store.save(std::slice::from_ref(event)).await.remove(0).unwrap()
    }

    async fn count(store: &EventStore, filter: Filter) -> usize {
        query(store, &filter, 1000).await.len()
    }

    async fn query(store: &EventStore, filter: &Filter, limit: usize) -> Vec<Event> {
        let mut events = Vec::new();
        for page in store.newest(filter, limit).await.unwrap().chunks(PAGE_EVENTS) {
            let page = store.page(page).await.unwrap();
            events.extend(
                page.iter()
                    .map(|(_, json)| serde_json::from_str::<Event>(json).unwrap()),
            );
        }
        events
    }

    #[tokio::test]
    async fn query_finds_the_newest_that_match() {
        let (store, _directory) = store().await;
        let authors = [Keys::generate(), Keys::generate()];
        let mut events = Vec::new();
        for number in 0..120_u64 {
            let author = &authors[number as usize % 2];
            let kind = [1, 1618][number as usize / 2 % 2];
            let tags = [["t", ["x", "y", "z"][number as usize % 3]], ["a", "b"]];
            events.push(event(author, kind, 1000 + number * 7 % 40, &tags));
        }
        for result in store.save(&events).await {
            assert_eq!(result.unwrap(), Success);
        }
        events.sort();

        let mut filters = vec![Filter::new()];
        let add: [&dyn Fn(Filter) -> Filter; 7] = [
            &|filter| filter.author(authors[0].public_key()),
            &|filter| filter.kind(Kind::TextNote),
            &|filter| filter.custom_tag(SingleLetterTag::LOWERCASE_T, "x"),
            &|filter| filter.custom_tags(SingleLetterTag::LOWERCASE_A, ["b", "c"]),
            &|filter| filter.until(Timestamp::from_secs(1020)),
            &|filter| filter.since(Timestamp::from_secs(1010)),
            &|filter| filter.ids([events[3].id, events[30].id, events[60].id]),
        ];
        for add in add {
            let more: Vec<Filter> = filters.iter().cloned().map(add).collect();
            filters.extend(more);
        }
        for filter in &filters {
            for limit in [1, 5, 20, 1000] {
                let matching = events
                    .iter()
                    .filter(|event| filter.match_event(event, MatchEventOptions::new()));
                // Within a second a relay may choose.
                let times: Vec<Timestamp> = matching.clone().take(limit).map(|event| event.created_at).collect();

                let found = query(&store, filter, limit).await;

                let found_times: Vec<Timestamp> = found.iter().map(|event| event.created_at).collect();
                assert_eq!(found_times, times, "{filter:?} {limit}");
                assert!(
                    found
                        .iter()
                        .all(|event| filter.match_event(event, MatchEventOptions::new()))
                );
            }
        }
        assert_eq!(filters.len(), 128);
    }

    #[tokio::test]
    async fn newest_version_is_kept_and_the_lower_id_on_a_tie() {
        let (store, _directory) = store().await;
        let keys = Keys::generate();
        let version = |created_at, content: &str| event(&keys, 30617, created_at, &[["d", "x"], ["name", content]]);
        let mut tied = [version(20, "a"), version(20, "b")];
        tied.sort_by_key(|event| event.id);

        assert_eq!(saved(&store, &version(10, "")).await, Success);
        assert_eq!(saved(&store, &tied[1]).await, Success);
        assert_eq!(
            saved(&store, &version(10, "")).await,
            Rejected(RejectedReason::Replaced)
        );
        assert_eq!(saved(&store, &tied[0]).await, Success);
        assert_eq!(saved(&store, &tied[1]).await, Rejected(RejectedReason::Replaced));
        assert_eq!(saved(&store, &tied[0]).await, Rejected(RejectedReason::Duplicate));

        assert_eq!(query(&store, &Filter::new(), 10).await, [tied[0].clone()]);
    }

    #[tokio::test]
    async fn deletion_by_id_is_for_the_authors_own_events_whenever_they_come() {
        let (store, _directory) = store().await;
        let (keys, other) = (Keys::generate(), Keys::generate());
        let before = event(&keys, 1, 10, &[["t", "before"]]);
        let after = event(&keys, 1, 10, &[["t", "after"]]);
        let not_theirs = event(&other, 1, 10, &[]);
        let ids = [&before, &after, &not_theirs].map(|event| event.id.to_hex());
        let deletion = event(&keys, 5, 20, &[["e", &ids[0]], ["e", &ids[1]], ["e", &ids[2]]]);

        assert_eq!(saved(&store, &before).await, Success);
        assert_eq!(saved(&store, &not_theirs).await, Success);
        assert_eq!(saved(&store, &deletion).await, Success);

        assert_eq!(saved(&store, &before).await, Rejected(RejectedReason::Deleted));
        assert_eq!(saved(&store, &after).await, Rejected(RejectedReason::Deleted));
        assert_eq!(saved(&store, &not_theirs).await, Rejected(RejectedReason::Duplicate));
        assert_eq!(saved(&store, &deletion).await, Rejected(RejectedReason::Duplicate));
        let undo = event(&keys, 5, 30, &[["e", &deletion.id.to_hex()]]);
        assert_eq!(saved(&store, &undo).await, Success);
        assert_eq!(saved(&store, &before).await, Rejected(RejectedReason::Deleted));
        assert_eq!(count(&store, Filter::new().kind(Kind::EventDeletion)).await, 2);
    }

    #[tokio::test]
    async fn deletion_by_coordinate_is_for_versions_up_to_its_time() {
        let (store, _directory) = store().await;
        let keys = Keys::generate();
        let version = |created_at, identifier| event(&keys, 30617, created_at, &[["d", identifier]]);
        let coordinate = format!("30617:{}:x", keys.public_key());
        let deletion = |created_at| event(&keys, 5, created_at, &[["a", &coordinate]]);

        assert_eq!(saved(&store, &version(10, "x")).await, Success);
        assert_eq!(saved(&store, &version(10, "xy")).await, Success);
        assert_eq!(saved(&store, &deletion(20)).await, Success);
        // An older one does not weaken it.
        assert_eq!(saved(&store, &deletion(5)).await, Success);

        assert_eq!(
            saved(&store, &version(10, "x")).await,
            Rejected(RejectedReason::Deleted)
        );
        assert_eq!(
            saved(&store, &version(20, "x")).await,
            Rejected(RejectedReason::Deleted)
        );
        assert_eq!(
            saved(&store, &version(10, "xy")).await,
            Rejected(RejectedReason::Duplicate)
        );
        assert_eq!(saved(&store, &version(21, "x")).await, Success);
        assert_eq!(saved(&store, &deletion(15)).await, Success);
        assert_eq!(count(&store, Filter::new().kind(Kind::from(30617))).await, 2);
    }

    /// A deletion of 72 KB that named eight events of 250 KB a thousand times read each of them 125 times.
    #[tokio::test]
    async fn a_deletion_by_id_copies_none_of_what_it_names() {
        let (store, _directory) = store().await;
        let [keys, other] = [Keys::generate(), Keys::generate()];
        let notes: Vec<Event> = (0..300).map(|time| event(&keys, 1, time, &[])).collect();
        let others = event(&other, 1, 10, &[]);
        let request = event(&keys, 5, 10, &[["e", &others.id.to_hex()]]);
        store.save(&notes).await;
        store.save(&[others.clone(), request.clone()]).await;
        let ids: Vec<String> = notes
            .iter()
            .chain([&others, &request])
            .map(|event| event.id.to_hex())
            .collect();
        let named: Vec<[&str; 2]> = ids.iter().chain(&ids).map(|id| ["e", id.as_str()]).collect();
        let before = store.parsed.load(Ordering::Relaxed);

        assert_eq!(saved(&store, &event(&keys, 5, 1000, &named)).await, Success);

        assert_eq!(store.parsed.load(Ordering::Relaxed), before);
        assert_eq!(count(&store, Filter::new().kind(Kind::TextNote)).await, 1);
        assert!(store.has(&others.id).await.unwrap() && store.has(&request.id).await.unwrap());
    }

    /// A hundred `a` tags with an empty identifier caused as many reads of all events that their author has of one
    /// kind.
    #[tokio::test]
    async fn deletion_compares_a_bounded_number_of_events_whatever_it_names() {
        let (store, _directory) = store().await;
        let keys = Keys::generate();
        let events: Vec<Event> = (0..30)
            .map(|number| event(&keys, 30023, 10, &[["d", &number.to_string()]]))
            .collect();
        store.save(&events).await;
        let [same, note] = [30023, 1].map(|kind| format!("{kind}:{}:", keys.public_key()));
        let named = format!("{same}7");
        let mut tags = vec![["a", same.as_str()]; 99];
        tags.extend([["a", &named], ["a", &note]]);
        let deletion = event(&keys, 5, 20, &tags);

        assert_eq!(addresses(&deletion).len(), 2);
        assert_eq!(saved(&store, &deletion).await, Success);

        assert_eq!(count(&store, Filter::new().kind(Kind::from(30023))).await, 29);
    }

    /// All deletions of an author that name an event, or all of either, were read in the only writer whenever it came
    /// again.
    #[tokio::test]
    async fn one_deletion_is_enough_however_many_there_are() {
        let (store, _directory) = store().await;
        let keys = Keys::generate();
        let note = event(&keys, 1, 10, &[]);
        let version = event(&keys, 30617, 10, &[["d", "x"]]);
        let (id, address) = (note.id.to_hex(), format!("30617:{}:x", keys.public_key()));
        let names = |kind, created_at| event(&keys, kind, created_at, &[["e", &id], ["a", &address]]);
        // Newer events of the author that name it are no deletions, and hide none.
        let notes: Vec<Event> = (0..200).map(|number| names(1, 1000 + number)).collect();
        store.save(&notes).await;
        let found_for = async |event: &Event| {
            let before = store.found.load(Ordering::Relaxed);
            let status = saved(&store, event).await;
            (status, store.found.load(Ordering::Relaxed) - before)
        };
        assert_eq!(found_for(&version).await, (Success, 0));

        let deletions: Vec<Event> = (0..200).map(|number| names(5, 20 + number)).collect();
        store.save(&deletions).await;

        for (deleted, times) in [(&note, 1), (&version, 2)] {
            let (status, found) = found_for(deleted).await;
            assert_eq!(status, Rejected(RejectedReason::Deleted));
            assert!(found <= times, "{found}");
        }
        let named = Filter::new().author(keys.public_key()).kind(Kind::EventDeletion);
        let named = named.custom_tag(SingleLetterTag::LOWERCASE_E, &id);
        let before = store.found.load(Ordering::Relaxed);
        let newest = store.newest(&named, 3).await.unwrap();
        let found = store.found.load(Ordering::Relaxed) - before;
        let expected: Vec<EventId> = deletions.iter().rev().take(3).map(|event| event.id).collect();
        assert_eq!((newest, found), (expected, 6));
        let others = event(&Keys::generate(), 1, 10, &[["e", &id]]);
        assert_eq!(saved(&store, &others).await, Success);
    }

    #[tokio::test]
    async fn deletions_of_a_database_without_notes_of_them_are_noted() {
        let (store, directory) = store().await;
        let keys = Keys::generate();
        let note = event(&keys, 1, 10, &[]);
        let deletion = event(&keys, 5, 20, &[["e", &note.id.to_hex()]]);
        assert_eq!(saved(&store, &deletion).await, Success);
        store.deletions.forget(&[deletion.id]).await.unwrap();
        assert!(!store.is_deleted(&note).await.unwrap());

        std::fs::remove_file(directory.path().join("deletions/complete")).unwrap();
        store.note_deletions().await.unwrap();

        assert!(store.is_deleted(&note).await.unwrap());
        assert!(store.deletions.is_complete());
    }

    #[tokio::test]
    async fn a_deletion_that_has_expired_deletes_nothing_more() {
        let (store, _directory) = store().await;
        let keys = Keys::generate();
        let note = event(&keys, 1, 10, &[]);
        let expires = Timestamp::now() + Duration::from_secs(3600);
        let tags = [["e", &note.id.to_hex()], ["expiration", &expires.to_string()]];
        assert_eq!(saved(&store, &event(&keys, 5, 20, &tags)).await, Success);
        assert_eq!(saved(&store, &note).await, Rejected(RejectedReason::Deleted));

        store.delete_expired(expires).await.unwrap();

        assert_eq!(store.deletions.requests.count(Filter::new()).await.unwrap(), 0);
        assert_eq!(saved(&store, &note).await, Success);
    }

    /// The database looks for the version that an event replaces among all that have its identifier.
    #[tokio::test]
    async fn few_events_of_an_author_have_the_same_identifier() {
        let (store, _directory) = store().await;
        let keys = Keys::generate();
        let addressed = event(&keys, 30023, 5, &[["d", "x"]]);
        assert_eq!(saved(&store, &addressed).await, Success);
        let notes: Vec<Event> = (1..SAME_IDENTIFIER_MAX as u64)
            .map(|number| event(&keys, 1, 10 + number, &[["d", "x"]]))
            .collect();
        for note in &notes {
            assert_eq!(saved(&store, note).await, Success);
        }

        let crowded = Rejected(RejectedReason::Other);
        assert_eq!(saved(&store, &event(&keys, 1, 5, &[["d", "x"]])).await, crowded);
        assert_eq!(saved(&store, &event(&keys, 30024, 5, &[["d", "x"]])).await, crowded);
        let deletion = event(&keys, 5, 5, &[["e", &notes[0].id.to_hex()], ["d", "x"]]);
        assert_eq!(saved(&store, &deletion).await, crowded);
        assert!(store.has(&notes[0].id).await.unwrap());
        assert_eq!(saved(&store, &event(&keys, 30023, 6, &[["d", "x"]])).await, Success);
        assert_eq!(saved(&store, &event(&keys, 30024, 5, &[["d", "y"]])).await, Success);
        assert_eq!(saved(&store, &event(&keys, 30618, 5, &[["d", "x"]])).await, Success);
        let others = event(&Keys::generate(), 1, 5, &[["d", "x"]]);
        assert_eq!(saved(&store, &others).await, Success);
    }

    /// It was found for each request, as if it had been deleted meanwhile, and looked for again.
    #[tokio::test]
    async fn a_deletion_that_is_noted_only_is_not_found() {
        let (store, _directory) = store().await;
        let keys = Keys::generate();
        let note = event(&keys, 1, 10, &[]);
        let deletion = event(&keys, 5, 20, &[["e", &note.id.to_hex()]]);
        let older = event(&keys, 5, 15, &[["e", &note.id.to_hex()]]);
        assert_eq!(saved(&store, &older).await, Success);
        store.deletions.note(&deletion).await.unwrap();

        let named = Filter::new().author(keys.public_key()).kind(Kind::EventDeletion);
        let named = named.custom_tag(SingleLetterTag::LOWERCASE_E, note.id.to_hex());

        assert_eq!(store.newest(&named, 1).await.unwrap(), [older.id]);
        assert_eq!(saved(&store, &deletion).await, Success);
        assert_eq!(store.newest(&named, 1).await.unwrap(), [deletion.id]);
    }

    /// Of an author with many events of a kind, a deletion of a hundred went through all of them as often.
    #[test]
    fn no_version_is_searched_for_among_all_of_its_kind() {
        let author = Keys::generate().public_key();
        for identifier in ["", "x"] {
            let address: Address = format!("30023:{author}:{identifier}").parse().unwrap();

            let filter = versions_filter(&address, Timestamp::from_secs(20));

            assert!(!walks_in_order_of_ids(&filter), "{filter:?}");
        }
    }

    #[tokio::test]
    async fn expired_events_are_neither_found_nor_in_the_way() {
        let (store, _directory) = store().await;
        let keys = Keys::generate();
        let expired = [["expiration", "1000"]];
        let mut events: Vec<Event> = (30..40).map(|time| event(&keys, 1, time, &expired)).collect();
        events.extend((10..20).map(|time| event(&keys, 1, time, &[])));
        store.save(&events).await;

        let found = query(&store, &Filter::new(), 5).await;

        let times: Vec<u64> = found.iter().map(|event| event.created_at.as_secs()).collect();
        assert_eq!(times, [19, 18, 17, 16, 15]);
    }

    /// They were searched for among whole events, as many as the request might return, while no other was answered.
    #[tokio::test]
    async fn expired_events_are_deleted_without_reading_any() {
        let (store, _directory) = store().await;
        let keys = Keys::generate();
        // In the same second as others: nothing but their expiration tells them apart.
        let mut events: Vec<Event> = (0..20)
            .map(|number| event(&keys, 1, 10, &[["expiration", "1000"], ["t", &number.to_string()]]))
            .collect();
        events.extend((0..20).map(|number| event(&keys, 1, 10, &[["t", &number.to_string()]])));
        events.push(event(&keys, 1, 10, &[["expiration", "3000"]]));
        for result in store.save(&events).await {
            assert_eq!(result.unwrap(), Success);
        }
        // All readers of events are busy.
        let _busy = store.parsers.acquire_many(PARSERS_MAX as u32).await.unwrap();

        let filter = Filter::new().author(keys.public_key());
        let found = tokio::time::timeout(Duration::from_secs(20), store.newest(&filter, 20));
        assert_eq!(found.await.expect("it waits for no reader").unwrap().len(), 20);
        assert_eq!(store.database.count(filter.clone()).await.unwrap(), 41);
        store.delete_expired(Timestamp::from_secs(999)).await.unwrap();
        assert_eq!(store.database.count(filter.clone()).await.unwrap(), 41);
        store.delete_expired(Timestamp::from_secs(1000)).await.unwrap();
        assert_eq!(store.database.count(filter.clone()).await.unwrap(), 21);

        let due = store.expirations.due(Timestamp::from_secs(3000), 100).await.unwrap();
        assert_eq!(due, [events[40].id]);
        let deleted = async {
            while store.database.count(filter.clone()).await.unwrap() != 20 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = store.keep_deleting_expired() => {}
            deleted = tokio::time::timeout(Duration::from_secs(20), deleted) => deleted.expect("in time"),
        }
    }

    #[tokio::test]
    async fn nothing_is_kept_of_an_event_that_is_not_stored() {
        let (store, _directory) = store().await;
        let keys = Keys::generate();
        let expiring = [["expiration", "1000"]];

        assert_eq!(saved(&store, &event(&keys, 0, 20, &[])).await, Success);
        let older = event(&keys, 0, 10, &expiring);
        assert_eq!(saved(&store, &older).await, Rejected(RejectedReason::Replaced));

        assert_eq!(store.expirations.due(Timestamp::now(), 100).await.unwrap(), []);
    }

    #[tokio::test]
    async fn count_is_of_events_that_match_any_filter() {
        let (store, _directory) = store().await;
        let keys = Keys::generate();
        let events: Vec<Event> = (10..20).map(|time| event(&keys, 1, time, &[])).collect();
        store.save(&events).await;

        let filters = vec![
            Filter::new().kind(Kind::TextNote),
            Filter::new().author(keys.public_key()).since(Timestamp::from_secs(15)),
        ];
        assert_eq!(store.count(filters, 100).await.unwrap(), 10);
        assert_eq!(store.count(vec![Filter::new()], 3).await.unwrap(), 3);
    }
}
