//! What deletion requests name (NIP-09), so that whether something is deleted is known without a search through all
//! that its author has published.
//!
//! `nostr-lmdb` has an index of authors and tags, and one of authors and kinds. Asked for the deletions of an author
//! that name something, it collects all that it finds in either, and of a tag's value its keys have 182 bytes.
//! Here a second database holds the requests alone, with hashes of what they name and nothing else: what it finds by
//! author and tag is a deletion.
//!
//! A request is noted before it is stored. One that is noted only, since the process ended between the two, has had no
//! OK, and deletes all the same.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use bitcoin_hashes::sha256;
use futures_util::future;
use nostr::event::Event;
use nostr::event::EventId;
use nostr::event::Kind;
use nostr::event::Tag;
use nostr::filter::Filter;
use nostr_database::NostrDatabase;
use nostr_database::error::Error as DatabaseError;
use nostr_lmdb::NostrLmdb;

#[derive(Debug)]
pub(super) struct Deletions {
    pub(super) requests: NostrLmdb,
    /// A file that is there once all requests of the main database are noted.
    complete: PathBuf,
}

impl Deletions {
    /// Opens the database in a directory, which is made if need be.
    pub(super) async fn open(directory: &Path, bytes_max: usize) -> Result<Self, DatabaseError> {
        let requests = NostrLmdb::builder(directory)
            .map_size(bytes_max)
            .process_nip09(false)
            .process_nip62(false)
            .build()
            .await?;
        let complete = directory.join("complete");
        Ok(Self { requests, complete })
    }

    /// Notes durably what a deletion request names. It is to be stored only afterwards.
    pub(super) async fn note(&self, request: &Event) -> Result<(), DatabaseError> {
        let (kind, time) = (Kind::EventDeletion, request.created_at);
        let tags = request.tags.iter().filter_map(hashed);
        let marker = Event::new(request.id, request.pubkey, time, kind, tags, "", request.sig);
        self.requests.save_event(&marker).await.map(drop)
    }

    /// Whether the requests of the main database are noted, those from before this one was made too.
    pub(super) fn is_complete(&self) -> bool {
        self.complete.exists()
    }

    /// Notes requests of the main database.
    pub(super) async fn note_all(&self, requests: &[Event]) -> Result<(), DatabaseError> {
        let noted = future::join_all(requests.iter().map(|request| self.note(request)));
        noted.await.into_iter().collect()
    }

    pub(super) fn set_complete(&self) -> io::Result<()> {
        std::fs::File::create(&self.complete)?.sync_all()
    }

    /// Forgets about requests that are not stored any more.
    pub(super) async fn forget(&self, ids: &[EventId]) -> Result<(), DatabaseError> {
        self.requests.delete(Filter::new().ids(ids.iter().copied())).await
    }
}

/// Returns what is noted of a tag: of one with a single letter, which can be asked for, a hash of its value; and when
/// the request expires.
fn hashed(tag: &Tag) -> Option<Tag> {
    match tag.as_slice() {
        [name, value, ..] if tag.single_letter_tag().is_some() => Tag::parse([name, &hash(value)]).ok(),
        [name, ..] if name == "expiration" => Some(tag.clone()),
        _ => None,
    }
}

fn hash(value: &str) -> String {
    sha256::Hash::hash(value.as_bytes()).to_string()
}

/// Returns what to ask this database instead of the main one, for deletion requests of some authors by what they name.
/// `None`: the filter is for something else.
pub(super) fn filter_of_requests(filter: &Filter) -> Option<Filter> {
    let is_of_authors = filter.authors.as_ref().is_some_and(|authors| !authors.is_empty());
    let kinds = filter.kinds.as_ref()?;
    let is_for_requests = kinds.len() == 1 && kinds.contains(&Kind::EventDeletion);
    if !is_for_requests || !is_of_authors || filter.generic_tags.is_empty() || filter.ids.is_some() {
        return None;
    }
    Some(hashed_filter(filter))
}

/// Returns a filter by authors and tags as it is for this database: with hashes of the values, and no kinds.
pub(super) fn hashed_filter(filter: &Filter) -> Filter {
    let hashes = |values: &BTreeSet<String>| values.iter().map(|value| hash(value)).collect();
    let tags = filter.generic_tags.iter();
    Filter {
        kinds: None,
        generic_tags: tags.map(|(name, values)| (*name, hashes(values))).collect(),
        ..filter.clone()
    }
}
