//! Reads the entries of the purgatory for an operator.

use std::collections::BTreeSet;

use nostr::event::EventId;
use shared::nip34::Coordinate;
use shared::purgatory::Entry;
use shared::purgatory::InventoryIndex;
use shared::purgatory::InventoryPage;
use shared::purgatory::Purgatory;
use shared::purgatory::PurgatoryError;

use crate::admin::needs::Need;
use crate::admin::needs::needs;
use crate::admin::needs::surroundings;
use crate::admin::rows::Row;

/// Reads the entry of an event; `None`: it is not there.
pub(super) async fn entry_of(purgatory: &Purgatory, event_id: &EventId) -> Result<Option<Entry>, PurgatoryError> {
    let found = purgatory.entries(&BTreeSet::from([*event_id])).await?;
    Ok(found.into_iter().next())
}

/// Reads what an entry waits for.
pub(super) async fn needs_of(purgatory: &Purgatory, entry: &Entry) -> Result<Vec<Need>, PurgatoryError> {
    let around = purgatory.read(&surroundings(entry)).await?;
    Ok(needs(entry, &around))
}

/// Reads which entries there are, page by page.
pub(super) struct Pages<'p> {
    purgatory: &'p Purgatory,
    /// Where the next page begins; `None`: that was the last.
    next: Option<(InventoryIndex, String)>,
    /// What is read after this index.
    then: Option<InventoryIndex>,
}

impl<'p> Pages<'p> {
    /// Reads all, in the order in which events move: none is missed that becomes releasing meanwhile.
    pub(super) fn new(purgatory: &'p Purgatory) -> Self {
        Self {
            then: Some(InventoryIndex::Releasing),
            ..Self::of(purgatory, InventoryIndex::Waiting)
        }
    }

    /// Reads one index.
    pub(super) fn of(purgatory: &'p Purgatory, index: InventoryIndex) -> Self {
        Self {
            purgatory,
            next: Some((index, BEGINNING.to_owned())),
            then: None,
        }
    }

    /// Returns the next page; `None`: there is none.
    pub(super) async fn next(&mut self) -> Result<Option<InventoryPage>, PurgatoryError> {
        let Some((index, cursor)) = self.next.take() else {
            return Ok(None);
        };
        let mut page = self.purgatory.list_page(index, &cursor).await?;
        self.next = match page.next.take() {
            Some(cursor) => Some((index, cursor)),
            None => self.then.take().map(|index| (index, BEGINNING.to_owned())),
        };
        Ok(Some(page))
    }
}

/// Hands over what there is, one by one, as long as more is wanted; returns whether that was all.
pub(super) async fn each_row(
    mut pages: Pages<'_>,
    mut wants_more: impl FnMut(Row) -> bool,
) -> Result<bool, PurgatoryError> {
    let (purgatory, mut seen) = (pages.purgatory, BTreeSet::new());
    while let Some(page) = pages.next().await? {
        let new: BTreeSet<EventId> = page.event_ids.into_iter().filter(|id| seen.insert(*id)).collect();
        let entries = purgatory.entries(&new).await?;
        let rows = entries.iter().map(Row::of);
        for row in rows.chain(page.placeholders.iter().map(Row::awaiting)) {
            if !wants_more(row) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Reads the entries of one repository.
pub(super) async fn rows_about(purgatory: &Purgatory, coordinate: &Coordinate) -> Result<Vec<Row>, PurgatoryError> {
    let pull_requests = purgatory.pull_requests(coordinate).await?;
    let coordinates = BTreeSet::from([coordinate.clone()]);
    let reading = purgatory.read_with(&coordinates, &pull_requests).await?;
    let entries = reading.entries.iter().map(Row::of);
    Ok(entries.chain(reading.placeholders.iter().map(Row::awaiting)).collect())
}

/// The cursor of the first page.
const BEGINNING: &str = "0";
