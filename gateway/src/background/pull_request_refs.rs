//! Refs of PRs end with their events: when the relay reports a deletion, when the operator denies an author, and for
//! whatever was missed at the daily re-check.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use nostr::event::EventId;
use nostr::key::PublicKey;
use shared::load_facts::FactsScope;
use shared::nip34::Coordinate;
use shared::rules::ended_pull_requests;

use crate::background::RETRY_PAUSE;
use crate::logged::logged;
use crate::reconcile::Reconciler;
use crate::reconcile::error::ReconcileError;
use crate::repositories::error::RepositoryError;

/// Removes the refs of PRs that are doubted, for ever.
pub(super) async fn follow_deletions(reconciler: &Reconciler) {
    let events = &reconciler.pull_request_events;
    let mut access = reconciler.loader.access.current();
    loop {
        let doubted = tokio::select! {
            doubted = events.take_doubted() => doubted,
            () = tokio::time::sleep(LISTS_INTERVAL) => BTreeMap::new(),
        };
        let current = reconciler.loader.access.current();
        if !Arc::ptr_eq(&access, &current) {
            events.doubt_those_of(|author| current.denies_author(author));
            access = current;
        }
        let mut is_late = false;
        let pages = doubted.iter().flat_map(|(coordinate, event_ids)| {
            let event_ids: Vec<EventId> = event_ids.iter().copied().collect();
            let pages: Vec<BTreeSet<EventId>> = event_ids
                .chunks(PAGE)
                .map(|page| page.iter().copied().collect())
                .collect();
            pages.into_iter().map(move |page| (coordinate.clone(), page))
        });
        for (coordinate, event_ids) in pages.collect::<Vec<_>>() {
            if let Err(error) = remove_ended(reconciler, &coordinate, &event_ids).await {
                tracing::warn!(repo.coordinate = %coordinate, error = logged(&error), "cannot determine which PRs have ended, will try again");
                events.put_back(coordinate, event_ids);
                is_late = true;
            }
        }
        if is_late {
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }
}

/// Looks for the event of every ref of a PR in a repository.
///
/// # Errors
/// See [`ReconcileError`]; the refs that were not looked for are as they were.
pub(super) async fn recheck_pull_requests(
    reconciler: &Reconciler,
    coordinate: &Coordinate,
) -> Result<(), ReconcileError> {
    let refs = reconciler.repositories.at(coordinate).refs().await;
    let refs = refs.map_err(RepositoryError::from)?;
    let names = refs.iter().flat_map(|snapshot| snapshot.refs.keys());
    let event_ids: Vec<EventId> = names.filter_map(|name| name.pull_request_id()).collect();
    for page in event_ids.chunks(PAGE) {
        remove_ended(reconciler, coordinate, &page.iter().copied().collect()).await?;
    }
    Ok(())
}

/// Removes the refs of those of these PRs that have ended. A relay that does not answer ends none.
async fn remove_ended(
    reconciler: &Reconciler,
    coordinate: &Coordinate,
    event_ids: &BTreeSet<EventId>,
) -> Result<(), ReconcileError> {
    let reading = reconciler.repositories.at(coordinate);
    let noted = reading.offers().await.map_err(RepositoryError::from)?;
    let note = |event_id: &EventId, author: &PublicKey| {
        reconciler.pull_request_events.note(*event_id, *author, coordinate);
    };
    // Before the relay is queried, so that a deletion after its answer is noticed.
    let known = event_ids.iter().filter_map(|event_id| noted.get_key_value(event_id));
    known.for_each(|(event_id, noted)| note(event_id, &noted.offer.author));
    let Some(found) = look_for(reconciler, coordinate, event_ids).await? else {
        return Ok(());
    };
    found
        .authors
        .iter()
        .for_each(|(event_id, author)| note(event_id, author));
    let are_noted = found.authors.keys().all(|event_id| noted.contains_key(event_id));
    if found.ended.is_empty() && are_noted {
        return Ok(());
    }
    let locked = reconciler.repositories.lock(&[coordinate.clone()].into()).await?;
    let repository = locked.repository(coordinate)?;
    // Again, because an event may have arrived meanwhile and set its ref again.
    let Some(FoundPullRequests { authors, ended }) = look_for(reconciler, coordinate, event_ids).await? else {
        return Ok(());
    };
    if !ended.is_empty() {
        tracing::info!(repo.coordinate = %coordinate, refs = ended.len(), "refs of PRs removed with their events");
        // Others wait for the room.
        let purgatory = &reconciler.loader.purgatory;
        purgatory.mark_dirty(&[coordinate.clone()].into()).await?;
    }
    let keep_unreachable = reconciler.repositories.keep_unreachable();
    let ended = repository.end_pull_requests(&ended, &authors, keep_unreachable);
    Ok(ended.await?)
}

/// The PRs that were found.
struct FoundPullRequests {
    /// Who offers those that are here.
    authors: BTreeMap<EventId, PublicKey>,
    /// Those that are not here any more.
    ended: BTreeSet<EventId>,
}

/// Searches these PRs in the purgatory and the relay; `None`: the result proves nothing for this repository.
async fn look_for(
    reconciler: &Reconciler,
    coordinate: &Coordinate,
    event_ids: &BTreeSet<EventId>,
) -> Result<Option<FoundPullRequests>, ReconcileError> {
    let scope = FactsScope {
        coordinates: [coordinate.clone()].into(),
        pull_request_ids: event_ids.clone(),
        ..FactsScope::default()
    };
    let facts = reconciler.large_loads.load_facts(&scope).await?;
    // After the facts: what the purgatory has lost was not there to be read.
    let is_unknown = reconciler.loader.purgatory.epoch().await?.is_unknown();
    if is_unknown || reconciler.repositories.at(coordinate).is_stateless().await? {
        return Ok(None);
    }
    let asked = facts.pull_requests.iter().map(|known| &known.item);
    let authors = asked
        .filter(|pull_request| event_ids.contains(&pull_request.event_id))
        .map(|pull_request| (pull_request.event_id, pull_request.author))
        .collect();
    let ended = ended_pull_requests(&facts, coordinate, event_ids);
    Ok(Some(FoundPullRequests { authors, ended }))
}

/// PRs that are looked for together: the largest fit into memory.
const PAGE: usize = 25;

/// Between two checks of the operator's lists.
const LISTS_INTERVAL: Duration = Duration::from_secs(1);
