//! Operations that work page by page.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use nostr::event::Event;
use nostr::event::EventId;
use nostr::key::PublicKey;

use super::Backend;
use super::DirtyIndex;
use super::Purgatory;
use super::decode::ReadingCursor;
use super::error::PurgatoryError;
use super::keys::PAGE_MAX;
use super::pages::ENTRIES_MAX;
use super::pages::IDS_MAX;
use super::pages::NAMES_MAX;
use super::pages::gates;
use super::pages::release_pages;
use crate::nip01::Deletion;
use crate::nip01::memory_bytes;
use crate::nip34::Coordinate;
use crate::purgatory::entry::Entry;
use crate::purgatory::hold::Hold;
use crate::purgatory::hold::HoldOutcome;
use crate::purgatory::listing::Listing;
use crate::purgatory::reading::DirtyNumber;
use crate::purgatory::reading::Reading;
use crate::purgatory::refusal::NotedRefusal;
use crate::purgatory::release::MarkedReleasing;
use crate::purgatory::release::Release;

fn bytes_of(entries: &[Entry]) -> usize {
    entries.iter().map(|entry| memory_bytes(&entry.event)).sum()
}

/// Operations that work page by page, so that others are served in between: the headers of the scripts define a page.
/// They fail as all operations do.
impl Purgatory {
    /// Reads everything about some coordinates but their PRs. No change up to the dirty numbers is missing; where it is
    /// read in more than one step, what changes meanwhile raises them, and may be read or not.
    pub async fn read(&self, coordinates: &BTreeSet<Coordinate>) -> Result<Reading, PurgatoryError> {
        self.read_with(coordinates, &BTreeSet::new()).await
    }

    /// Reads everything about some coordinates, as [`Purgatory::read`], and those of these PRs that there are.
    pub async fn read_with(
        &self,
        coordinates: &BTreeSet<Coordinate>,
        pull_request_ids: &BTreeSet<EventId>,
    ) -> Result<Reading, PurgatoryError> {
        let reading = self.read_within(usize::MAX, coordinates, pull_request_ids).await?;
        Ok(reading.unwrap_or_default())
    }

    /// Reads the same; `None`: the events have more than so many bytes.
    pub async fn read_within(
        &self,
        bytes_max: usize,
        coordinates: &BTreeSet<Coordinate>,
        pull_request_ids: &BTreeSet<EventId>,
    ) -> Result<Option<Reading>, PurgatoryError> {
        self.read_trimmed(bytes_max, coordinates, pull_request_ids, |_| ())
            .await
    }

    /// Reads the same, and keeps what `trim` leaves of each event of a page before it reads the next one.
    ///
    /// # Errors
    /// As for all operations.
    pub(crate) async fn read_trimmed(
        &self,
        bytes_max: usize,
        coordinates: &BTreeSet<Coordinate>,
        pull_request_ids: &BTreeSet<EventId>,
        mut trim: impl FnMut(&mut Event),
    ) -> Result<Option<Reading>, PurgatoryError> {
        let mut trimmed = |entries: Vec<Entry>| {
            let trimmed = entries.into_iter().map(|mut entry| {
                trim(Arc::make_mut(&mut entry.event));
                entry
            });
            trimmed.collect::<Vec<Entry>>()
        };
        let start = ReadingCursor::start();
        // At once, and in this order: a round trip less. A single one is read in the same step.
        let (beside, others) = match pull_request_ids.len() {
            1 => (pull_request_ids.first(), &BTreeSet::new()),
            _ => (None, pull_request_ids),
        };
        let ((mut reading, mut cursor), pull_requests) =
            tokio::try_join!(self.read_page(coordinates, &start, beside), self.entries(others))?;
        reading.entries = trimmed(reading.entries);
        let mut bytes = bytes_of(&reading.entries);
        while !cursor.is_end() && bytes <= bytes_max {
            let (page, next) = self.read_page(coordinates, &cursor, None).await?;
            let entries = trimmed(page.entries);
            bytes += bytes_of(&entries);
            reading.dirty.extend(page.dirty);
            reading.listed_by.extend(page.listed_by);
            reading.noted.extend(page.noted);
            reading.entries.extend(entries);
            reading.placeholders.extend(page.placeholders);
            reading.last_lease = page.last_lease;
            cursor = next;
        }
        if bytes > bytes_max {
            return Ok(None);
        }
        if !others.is_empty() {
            // They were read in a later step.
            reading.last_lease.clear();
        }
        reading.entries.extend(pull_requests);
        reading.entries.sort_by_key(|entry| entry.event.id);
        reading.entries.dedup_by_key(|entry| entry.event.id);
        reading.placeholders.sort();
        if !reading.last_lease.is_empty() {
            reading.last_lease.clone_into(&mut self.last_lease.lock());
        }
        if matches!(self.backend, Backend::Redis(_)) {
            let spared = self.clock_jumps.spare(&mut reading);
            self.extend(&spared.event_ids, spared.secs).await?;
        }
        Ok(Some(reading))
    }

    /// Returns those of these entries that there are, by event id.
    pub async fn entries(&self, event_ids: &BTreeSet<EventId>) -> Result<Vec<Entry>, PurgatoryError> {
        let event_ids: Vec<EventId> = event_ids.iter().copied().collect();
        let mut entries = Vec::new();
        for page in event_ids.chunks(ENTRIES_MAX) {
            entries.extend(self.entries_page(page).await?);
        }
        Ok(entries)
    }

    /// Holds an event, and of the announcements of one coordinate that are held or asleep only the NIP-01 winner.
    ///
    /// # Errors
    /// As for all operations; it may be held then, and not all that it extends extended.
    pub async fn hold(&self, hold: &Hold) -> Result<HoldOutcome, PurgatoryError> {
        let extend: Vec<EventId> = hold.extend.iter().copied().collect();
        let first = extend.len().min(IDS_MAX);
        let (extended, outcome, mut left) = self.hold_entry(hold, &extend[..first]).await?;
        while let Some(coordinate) = hold.coordinates.first().filter(|_| !left.is_empty()) {
            left = self.follow_listings_page(&hold.event, coordinate, &left).await?;
        }
        // With the first page all are extended that a repository of honest people has.
        if outcome == HoldOutcome::Held {
            self.extend_all(&extend[extended.min(first)..], hold.hold_secs).await?;
        }
        Ok(outcome)
    }

    /// Raises the dirty numbers of coordinates.
    ///
    /// # Errors
    /// As for all operations; some may have been marked then.
    pub async fn mark_dirty(&self, coordinates: &BTreeSet<Coordinate>) -> Result<(), PurgatoryError> {
        let coordinates: Vec<&Coordinate> = coordinates.iter().collect();
        for page in coordinates.chunks(NAMES_MAX) {
            self.mark_dirty_page(page).await?;
        }
        Ok(())
    }

    /// Returns dirty coordinates, at most `count_max`, with the oldest change first.
    pub async fn dirty(&self, count_max: usize) -> Result<Vec<(Coordinate, DirtyNumber)>, PurgatoryError> {
        self.dirty_by(DirtyIndex::Coordinates, count_max).await
    }

    /// Returns coordinates whose PRs must be reconciled, at most `count_max`, those that have waited longest first.
    pub async fn dirty_pull_requests(
        &self,
        count_max: usize,
    ) -> Result<Vec<(Coordinate, DirtyNumber)>, PurgatoryError> {
        self.dirty_by(DirtyIndex::PullRequests, count_max).await
    }

    async fn dirty_by(
        &self,
        index: DirtyIndex,
        count_max: usize,
    ) -> Result<Vec<(Coordinate, DirtyNumber)>, PurgatoryError> {
        let mut dirty: Vec<(Coordinate, DirtyNumber)> = Vec::new();
        loop {
            let after = dirty.last().map_or(0, |(_, number)| number.0);
            let wanted = (count_max - dirty.len()).min(NAMES_MAX);
            let page = self.dirty_page(after, wanted, index).await?;
            let is_last = page.len() < NAMES_MAX;
            dirty.extend(page);
            if is_last || dirty.len() >= count_max {
                return Ok(dirty);
            }
        }
    }

    /// Marks these events for a reconcile of their commits that may be staged in a repository, whether the PRs are
    /// known or not.
    ///
    /// # Errors
    /// As for all operations; some may have been marked then.
    pub async fn mark_unreconciled(
        &self,
        coordinate: &Coordinate,
        event_ids: &BTreeSet<EventId>,
    ) -> Result<(), PurgatoryError> {
        let event_ids: Vec<EventId> = event_ids.iter().copied().collect();
        for page in event_ids.chunks(IDS_MAX) {
            self.mark_unreconciled_page(coordinate, page).await?;
        }
        Ok(())
    }

    /// Returns the PRs that are offered to a repository, in any status.
    pub async fn pull_requests(&self, coordinate: &Coordinate) -> Result<BTreeSet<EventId>, PurgatoryError> {
        let (mut found, mut after) = (BTreeSet::new(), String::new());
        loop {
            let page = self.pull_requests_page(coordinate, &after).await?;
            let Some(last) = page.last() else {
                return Ok(found);
            };
            after = last.clone();
            let ids = page.iter().filter_map(|member| member.rsplit(':').next());
            found.extend(ids.filter_map(|id| EventId::from_hex(id).ok()));
        }
    }

    /// Marks all PRs of these coordinates for a reconcile.
    ///
    /// # Errors
    /// As for all operations; some may have been marked then.
    pub async fn begin_rounds(&self, coordinates: &BTreeSet<Coordinate>) -> Result<(), PurgatoryError> {
        let coordinates: Vec<&Coordinate> = coordinates.iter().collect();
        for page in coordinates.chunks(NAMES_MAX) {
            self.begin_rounds_page(page).await?;
        }
        Ok(())
    }

    /// Marks events as releasing, given in the order of publishing, and leases them to the caller but for those that
    /// are ordered after what another caller is releasing. Left out and unchanged are those that are releasing already
    /// and leased to another caller or not to be retried yet, and those that their author has just deleted.
    ///
    /// # Errors
    /// As for all operations; the first of them may be marked then, and are due when their lease runs out.
    pub async fn mark_releasing(
        &self,
        releases: &[Release],
        lease_secs: u64,
    ) -> Result<MarkedReleasing, PurgatoryError> {
        let mut marked = MarkedReleasing::default();
        let mut own = BTreeSet::new();
        for page in release_pages(releases) {
            let after: BTreeSet<EventId> = page.iter().flat_map(|release| &release.after).copied().collect();
            let before = after.intersection(&own).copied().collect();
            let page = self.mark_releasing_page(page, &before, lease_secs).await?;
            own.extend(page.leased.iter().map(|leased| leased.event.id));
            marked.leased.extend(page.leased);
            marked.waiting.extend(page.waiting);
        }
        Ok(marked)
    }

    /// Extends deadlines to at least `hold_secs` from now, and returns of how many entries. Sleeping ones wake, for
    /// just so long, and make their coordinates dirty.
    ///
    /// # Errors
    /// As for all operations; some may have been extended then.
    pub async fn extend(&self, event_ids: &BTreeSet<EventId>, hold_secs: u64) -> Result<usize, PurgatoryError> {
        let event_ids: Vec<EventId> = event_ids.iter().copied().collect();
        self.extend_all(&event_ids, hold_secs).await
    }

    async fn extend_all(&self, mut event_ids: &[EventId], hold_secs: u64) -> Result<usize, PurgatoryError> {
        let mut all = 0;
        while !event_ids.is_empty() {
            let page = &event_ids[..event_ids.len().min(IDS_MAX)];
            let (extended, done) = self.extend_page(page, hold_secs).await?;
            all += extended;
            event_ids = event_ids.get(done.max(1)..).unwrap_or_default();
        }
        Ok(all)
    }

    /// Removes entries that are held or asleep (superseded, de-listed), and returns how many.
    ///
    /// # Errors
    /// As for all operations; some may have been removed then.
    pub async fn end(&self, event_ids: &BTreeSet<EventId>) -> Result<usize, PurgatoryError> {
        let event_ids: Vec<EventId> = event_ids.iter().copied().collect();
        let (mut all, mut rest) = (0, &event_ids[..]);
        while !rest.is_empty() {
            let (ended, done) = self.end_page(&rest[..rest.len().min(IDS_MAX)]).await?;
            all += ended;
            rest = rest.get(done.max(1)..).unwrap_or_default();
        }
        Ok(all)
    }

    /// Removes what its author asked to delete, in any status, keeps it out for ten minutes, and returns how many
    /// entries were removed. There is room for only so many that are kept out: the relay rules out the others, once it
    /// has the request.
    ///
    /// # Errors
    /// As for all operations; some may have been removed then.
    pub async fn delete(&self, deletion: &Deletion) -> Result<usize, PurgatoryError> {
        unless_full(self.gate(&deletion.author, deletion.created_at, &gates(deletion)).await)?;
        let (mut deleted, mut cursor) = (0, (0, String::new()));
        while cursor.0 >= 0 {
            let (page, done, last, listing) = self.delete_page(deletion, &cursor).await?;
            self.unlist(listing).await?;
            deleted += page;
            cursor = (done, last);
        }
        Ok(deleted)
    }

    /// Removes what an author who vanishes (NIP-62) has held or asleep, made up to `created_at`, keeps such events out
    /// for ten minutes, and returns how many entries were removed. Releasing ones stay: the relay rules them out.
    ///
    /// # Errors
    /// As for all operations; some may have been removed then.
    pub async fn vanish(&self, author: &PublicKey, created_at: u64) -> Result<usize, PurgatoryError> {
        unless_full(self.gate(author, created_at, &["author".to_owned()]).await)?;
        let (mut vanished, mut cursor) = (0, ("author".to_owned(), "0".to_owned()));
        while !cursor.0.is_empty() {
            let (page, index, read, listing) = self.vanish_page(author, created_at, &cursor).await?;
            self.unlist(listing).await?;
            vanished += page;
            cursor = (index, read);
        }
        Ok(vanished)
    }

    /// Takes off the index of listings what removed announcements have left there, of these coordinates.
    ///
    /// # Errors
    /// As for all operations; the rest is left to a reconcile then.
    pub async fn unlist(&self, mut left: Vec<String>) -> Result<(), PurgatoryError> {
        while !left.is_empty() {
            left = self.unlist_page(&left).await?;
        }
        Ok(())
    }

    /// Notes what entries wait for; those that are not there are left out.
    ///
    /// # Errors
    /// As for all operations; some may have been noted then.
    pub async fn note_waiting(&self, notes: &BTreeMap<EventId, String>) -> Result<(), PurgatoryError> {
        let notes: Vec<(&EventId, &String)> = notes.iter().collect();
        for page in notes.chunks(IDS_MAX) {
            self.note_waiting_page(page).await?;
        }
        Ok(())
    }

    /// Records whom the announcements of a coordinate list as maintainers, in place of the previous record, and returns
    /// how many are not listed any more.
    ///
    /// # Errors
    /// As for all operations; the first may have been recorded then.
    pub async fn note_listings(&self, coordinate: &Coordinate, listing: &Listing) -> Result<usize, PurgatoryError> {
        let mut all = 0;
        loop {
            let (changed, gone) = self.note_listings_page(coordinate, listing).await?;
            all += gone;
            if changed < PAGE_MAX {
                return Ok(all);
            }
        }
    }

    /// Returns the latest refusals, and when each was, the last first: at most about `count_max`.
    pub async fn refusals(&self, count_max: usize) -> Result<Vec<(u64, NotedRefusal)>, PurgatoryError> {
        let mut refusals = Vec::new();
        loop {
            let page = self.refusals_page(refusals.len()).await?;
            let is_last = page.len() < PAGE_MAX;
            refusals.extend(page);
            if is_last || refusals.len() >= count_max {
                return Ok(refusals);
            }
        }
    }

    /// Has everything reconciled that is held.
    ///
    /// # Errors
    /// As for all operations; some may have been marked then.
    pub async fn mark_held(&self) -> Result<(), PurgatoryError> {
        let start = ("0".to_owned(), String::new());
        let mut cursor = self.mark_held_page(&start).await?;
        while cursor != start {
            cursor = self.mark_held_page(&cursor).await?;
        }
        Ok(())
    }
}

/// No room for a gate is not a failure: the relay refuses the deleted event.
fn unless_full(gated: Result<(), PurgatoryError>) -> Result<(), PurgatoryError> {
    match gated {
        Err(PurgatoryError::Full { .. }) => Ok(()),
        other => other,
    }
}
