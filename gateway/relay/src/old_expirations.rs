//! When those events expire that a build before [`crate::expirations`] stored: noted once, in the background, from the
//! newest event to the oldest. A file says how far that is, so that it continues where it was.

use std::io;
use std::path::Path;
use std::path::PathBuf;

use futures_util::future;
use nostr::event::Event;
use nostr::event::EventId;
use nostr::filter::Filter;
use nostr::types::Timestamp;
use nostr_database::NostrDatabase;
use nostr_database::error::Error as DatabaseError;
use nostr_lmdb::NostrLmdb;

use crate::expirations::Expirations;

/// The walk through all stored events.
#[derive(Debug)]
pub(super) struct OldExpirations<'s> {
    database: &'s NostrLmdb,
    expirations: &'s Expirations,
    progress: PathBuf,
    /// Later events are done; `None`: none is.
    until: Option<Timestamp>,
}

impl<'s> OldExpirations<'s> {
    /// Begins, or continues, the walk through `database`, of which `directory` has the progress; `None`: it was done
    /// before.
    pub(super) fn resume(database: &'s NostrLmdb, expirations: &'s Expirations, directory: &Path) -> Option<Self> {
        let progress = directory.join(PROGRESS);
        let text = std::fs::read_to_string(&progress).unwrap_or_default();
        (text != DONE).then(|| Self {
            database,
            expirations,
            progress,
            // Without a number it begins anew: noting twice does no harm.
            until: text.parse().ok().map(Timestamp::from_secs),
        })
    }

    /// Walks to the end.
    pub(super) async fn note_all(mut self) -> Result<(), DatabaseError> {
        for page in 1_u64.. {
            if !self.note_page().await? {
                break;
            }
            if page.is_multiple_of(PAGES_PER_PROGRESS) {
                let until = self.until.map_or(u64::MAX, |until| until.as_secs());
                self.write(&until.to_string()).await?;
            }
        }
        self.write(DONE).await
    }

    /// Notes the next events; returns whether there may be more.
    pub(super) async fn note_page(&mut self) -> Result<bool, DatabaseError> {
        let filter = match self.until {
            Some(until) => Filter::new().until(until),
            None => Filter::new(),
        };
        let page = self.note(filter.limit(PAGE_EVENTS)).await?;
        let Some(oldest) = page.iter().map(|event| event.created_at).min() else {
            return Ok(false);
        };
        if page.len() < PAGE_EVENTS {
            return Ok(false);
        }
        let is_one_second = page.iter().all(|event| event.created_at == oldest);
        // Of the second of the oldest there may be more.
        self.until = Some(oldest);
        if is_one_second {
            self.note_second(oldest).await?;
            self.until = oldest.as_secs().checked_sub(1).map(Timestamp::from_secs);
            return Ok(self.until.is_some());
        }
        Ok(true)
    }

    /// Notes the events of a second that has more than a page, of which the database returns pages only by ids, and
    /// ids only of events that have not expired.
    async fn note_second(&self, second: Timestamp) -> Result<(), DatabaseError> {
        let of_second = Filter::new().since(second).until(second);
        let live = self.database.negentropy_items(of_second.clone()).await?;
        let ids: Vec<EventId> = live.into_iter().map(|(id, _)| id).collect();
        for page in ids.chunks(PAGE_EVENTS) {
            self.note(Filter::new().ids(page.iter().copied())).await?;
        }
        let expired = self.database.count(of_second.clone()).await?.saturating_sub(ids.len());
        if expired > 0 {
            let noted = self.note(of_second.limit(SECOND_EVENTS_MAX)).await?.len();
            if noted == SECOND_EVENTS_MAX {
                // They are not served, and deleted when they are read by their ids.
                tracing::warn!(%second, expired, "not all expired events with the same timestamp are deleted");
            }
        }
        Ok(())
    }

    /// Reads events, and notes when they expire; also when they have: then they are deleted soon.
    async fn note(&self, filter: Filter) -> Result<Vec<Event>, DatabaseError> {
        let page: Vec<Event> = self.database.query(filter).await?.into_iter().collect();
        future::try_join_all(page.iter().map(|event| self.expirations.note(event))).await?;
        Ok(page)
    }

    async fn write(&self, text: &str) -> Result<(), DatabaseError> {
        let (text, progress) = (text.to_owned(), self.progress.clone());
        let written = tokio::task::spawn_blocking(move || {
            let new = progress.with_extension("new");
            std::fs::write(&new, text)?;
            std::fs::rename(&new, &progress)
        });
        Ok(written.await.map_err(io::Error::other)??)
    }
}

/// The file that says how far it is: the seconds until which it is not done, or the word for the end.
const PROGRESS: &str = "old-events";
const DONE: &str = "done";
/// Events that are read at once: 4 MiB of the largest.
const PAGE_EVENTS: usize = 16;
const PAGES_PER_PROGRESS: u64 = 64;
/// Events of one second that are read at once if expired ones are among them: 64 MiB of the largest.
const SECOND_EVENTS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use nostr::event::EventBuilder;
    use nostr::event::FinalizeEvent;
    use nostr::event::Kind;
    use nostr::event::Tag;
    use nostr::key::Keys;

    use super::*;

    /// What an earlier build stored: no expiration of it is noted.
    async fn stored(directory: &Path, seconds: impl Iterator<Item = (u64, Option<u64>)>) -> (NostrLmdb, Expirations) {
        let database = NostrLmdb::builder(directory).build().await.unwrap();
        let expirations = Expirations::open(&directory.join("expirations")).await.unwrap();
        let keys = Keys::generate();
        for (number, (created_at, expiration)) in seconds.enumerate() {
            let expiration = expiration.map(|at| Tag::parse(["expiration", &at.to_string()]).unwrap());
            let event = EventBuilder::new(Kind::TextNote, number.to_string())
                .tags(expiration)
                .custom_created_at(Timestamp::from_secs(created_at))
                .finalize(&keys)
                .unwrap();
            database.save_event(&event).await.unwrap();
        }
        (database, expirations)
    }

    async fn noted(expirations: &Expirations) -> usize {
        let due = expirations.due(Timestamp::from_secs(FUTURE), 10_000).await;
        due.unwrap().len()
    }

    const FUTURE: u64 = 4_000_000_000;

    #[tokio::test]
    async fn expirations_of_old_events_are_noted_once() {
        let directory = tempfile::tempdir().unwrap();
        // Every third expires, every second of these has; a second in the middle has more than a page.
        let seconds = (0..200_u64).map(|number| {
            let created_at = if (50..150).contains(&number) {
                1050
            } else {
                1000 + number
            };
            let expiration = [Some(2000), None, None, Some(FUTURE), None, None][number as usize % 6];
            (created_at, expiration)
        });
        let (database, expirations) = stored(directory.path(), seconds).await;
        let resume = || OldExpirations::resume(&database, &expirations, directory.path());
        assert_eq!(noted(&expirations).await, 0);

        // It is interrupted.
        let mut first = resume().unwrap();
        for _ in 0..3 {
            assert!(first.note_page().await.unwrap());
        }
        let until = first.until.unwrap();
        first.write(&until.as_secs().to_string()).await.unwrap();
        let some = noted(&expirations).await;
        assert!((1..67).contains(&some), "{some}");

        let next = resume().unwrap();
        assert_eq!(next.until, Some(until));
        next.note_all().await.unwrap();

        assert_eq!(noted(&expirations).await, 67);
        assert_eq!(expirations.due(Timestamp::now(), 1000).await.unwrap().len(), 34);
        assert!(resume().is_none());
    }

    #[tokio::test]
    async fn a_second_of_any_number_of_events_ends() {
        let directory = tempfile::tempdir().unwrap();
        let seconds = (0..SECOND_EVENTS_MAX as u64 + 50).map(|number| (1000, (number == 7).then_some(FUTURE)));
        let (database, expirations) = stored(directory.path(), seconds).await;

        let walk = OldExpirations::resume(&database, &expirations, directory.path()).unwrap();
        walk.note_all().await.unwrap();

        assert_eq!(noted(&expirations).await, 1);
    }
}
