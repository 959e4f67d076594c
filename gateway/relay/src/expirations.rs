//! When stored events expire (NIP-40), so that expired ones are deleted without a search for them.
//!
//! `nostr-lmdb` has no index of expirations. It returns events whole, expired ones among them, or ids without the
//! expired ones; so the expired events of one author and second could only be found by reading all of that second.
//! Here a second database holds, for each event that expires, one with the same id and nothing in it, made at the time
//! of its expiration.

use std::path::Path;

use nostr::event::Event;
use nostr::event::EventId;
use nostr::event::Kind;
use nostr::event::Tag;
use nostr::filter::Filter;
use nostr::types::Timestamp;
use nostr_database::NostrDatabase;
use nostr_database::error::Error as DatabaseError;
use nostr_lmdb::NostrLmdb;

#[derive(Debug)]
pub(super) struct Expirations {
    markers: NostrLmdb,
}

impl Expirations {
    /// Opens the database in a directory, which is made if need be.
    pub(super) async fn open(directory: &Path) -> Result<Self, DatabaseError> {
        let markers = NostrLmdb::builder(directory)
            .process_nip09(false)
            .process_nip62(false)
            .build()
            .await?;
        Ok(Self { markers })
    }

    /// Notes durably when an event expires, if it does. It is to be stored only afterwards.
    pub(super) async fn note(&self, event: &Event) -> Result<(), DatabaseError> {
        let Some(expiration) = event.tags.expiration() else {
            return Ok(());
        };
        let no_tags: [Tag; 0] = [];
        // Of a kind of which nothing replaces anything.
        let kind = Kind::TextNote;
        let marker = Event::new(event.id, event.pubkey, expiration, kind, no_tags, "", event.sig);
        self.markers.save_event(&marker).await.map(drop)
    }

    /// Returns the ids of events that have expired by `now` and are not settled, at most `max`.
    pub(super) async fn due(&self, now: Timestamp, max: usize) -> Result<Vec<EventId>, DatabaseError> {
        let due = self
            .markers
            .negentropy_items(Filter::new().until(now).limit(max))
            .await?;
        Ok(due.into_iter().map(|(id, _)| id).collect())
    }

    /// Forgets about events that are not stored, or no longer.
    pub(super) async fn settle(&self, ids: &[EventId]) -> Result<(), DatabaseError> {
        self.markers.delete(Filter::new().ids(ids.iter().copied())).await
    }
}
