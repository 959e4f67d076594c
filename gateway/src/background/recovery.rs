//! What a gateway makes up for when Redis has lost the purgatory, or may have lost some of it.
//!
//! It holds again what it was releasing, writes the placeholders of what is staged, and marks dirty everything that is
//! held or on disk. What was only held is gone: its authors send it again. Nothing on disk is removed: a reconcile
//! brings a repository whose state is gone back to the newest served state; where none is served, it is kept and not
//! served.

use std::collections::BTreeSet;

use nostr::filter::Filter;
use nostr::types::Timestamp;
use shared::load_facts::FactsError;
use shared::nip34;
use shared::nip34::Announcement;
use shared::nip34::Coordinate;
use shared::purgatory::Epoch;
use shared::purgatory::Hold;
use shared::purgatory::PlaceholderOutcome;
use shared::purgatory::PurgatoryError;
use shared::purgatory::Release;
use shared::purgatory::Room;
use shared::rules::has_lost_its_state;

use crate::reconcile::Reconciler;
use crate::reconcile::error::ReconcileError;
use crate::repositories::error::RepositoryError;

/// What the purgatory has lost since the epoch that a gateway knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// Nothing.
    Nothing,
    /// Something, and another gateway has made up for all of it but for what only this one knows.
    OnlyOwnReleases,
    /// Perhaps the last writes: another server answers, after a restart or a failover.
    LastWrites,
    /// Everything.
    Everything,
}

/// Returns what was lost between the epoch that is known, if any, and the one that was found.
pub(super) fn loss(known: Option<&str>, found: &Epoch) -> Loss {
    if found.is_unknown() {
        Loss::Everything
    } else if found.is_of_another_server() {
        Loss::LastWrites
    } else if known.is_some_and(|known| known != found.name) {
        Loss::OnlyOwnReleases
    } else {
        Loss::Nothing
    }
}

/// Makes up for a loss, and returns the name of the epoch after it. It may be done again from the start, and by several
/// gateways at once.
///
/// # Errors
/// See [`ReconcileError`].
pub(super) async fn recover(reconciler: &Reconciler, loss: Loss, found: &Epoch) -> Result<String, ReconcileError> {
    let purgatory = &reconciler.loader.purgatory;
    for release in reconciler.publisher.in_flight() {
        hold_again(reconciler, release).await?;
    }
    match loss {
        Loss::Nothing | Loss::OnlyOwnReleases => return Ok(found.name.clone()),
        Loss::LastWrites => {
            purgatory.mark_held().await?;
            // What was complete may be lost with its mark, and its refs are set.
            purgatory
                .mark_dirty(&reconciler.repositories.coordinates().await?)
                .await?;
        }
        Loss::Everything => {
            restore_from_disk(reconciler).await?;
            restore_from_relay(reconciler).await?;
        }
    }
    Ok(purgatory.begin_epoch(found).await?)
}

/// Holds what was releasing. A reconcile releases it again. It is not marked as releasing right here: another gateway
/// may have set its refs back meanwhile, and only a reconcile sets them before the mark.
async fn hold_again(reconciler: &Reconciler, release: Release) -> Result<(), PurgatoryError> {
    let Release { event, coordinates, .. } = release;
    let event_id = event.id;
    let hold = Hold {
        event,
        coordinates,
        source: String::new(),
        hold_secs: reconciler.hold_secs,
        extend: BTreeSet::new(),
        room: Room::Always,
    };
    match reconciler.loader.purgatory.hold(&hold).await {
        Ok(outcome) => tracing::info!(event.id = %event_id, ?outcome, "written again"),
        // The others may have room, or be there already. It is on the master, or its author has to send it again.
        Err(error @ (PurgatoryError::Full { .. } | PurgatoryError::Unconfirmed { .. })) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(event.id = %event_id, error, "not written again for certain");
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

async fn restore_from_disk(reconciler: &Reconciler) -> Result<(), ReconcileError> {
    for coordinate in reconciler.repositories.coordinates().await? {
        restore(reconciler, &coordinate).await?;
    }
    Ok(())
}

/// Writes the placeholders of one repository again, notes whether no state declares its refs any more, and marks it
/// dirty.
async fn restore(reconciler: &Reconciler, coordinate: &Coordinate) -> Result<(), ReconcileError> {
    let coordinates = BTreeSet::from([coordinate.clone()]);
    let locked = reconciler.repositories.lock(&coordinates).await?;
    let purgatory = &reconciler.loader.purgatory;
    for staged in reconciler.repositories.staged(&coordinates).await? {
        let put = purgatory.put_placeholder(
            &staged.event_id,
            &staged.coordinate,
            staged.commit_oid,
            reconciler.hold_secs,
        );
        if put.await? == PlaceholderOutcome::Full {
            tracing::warn!(event.id = %staged.event_id, "no room for the placeholder of a staged commit");
        }
    }
    let repository = locked.repository(coordinate)?;
    let refs = repository.reading().refs().await.map_err(RepositoryError::from)?;
    if let Some(refs) = refs {
        let facts = reconciler.loader.load_about(coordinate).await?;
        let is_hosted = repository.reading().unhosted_since().await?.is_none();
        if is_hosted && has_lost_its_state(&facts, coordinate, &refs.refs) {
            tracing::error!(repo.coordinate = %coordinate, "{STATELESS}");
            repository.note_stateless(true).await?;
        }
    }
    Ok(purgatory.mark_dirty(&coordinates).await?)
}

/// Notes whom the relay's announcements list, and marks those dirty that name this server, a span of time after the
/// other, so that not all announcements of a large relay are in memory at once.
async fn restore_from_relay(reconciler: &Reconciler) -> Result<(), ReconcileError> {
    let loader = &reconciler.loader;
    for (since, until) in spans(Timestamp::now().as_secs()) {
        let filter = Filter::new().kind(nostr::event::Kind::from_u16(nip34::ANNOUNCEMENT));
        let filter = filter
            .since(Timestamp::from_secs(since))
            .until(Timestamp::from_secs(until));
        let served = loader.relay.query(vec![filter]).await.map_err(FactsError::from)?;
        let announcements = served.iter().filter_map(|event| Announcement::parse(event).ok());
        let mut ours = BTreeSet::new();
        for announcement in announcements {
            let (at, listed) = (announcement.coordinate.clone(), &announcement.roles.listed);
            if !listed.is_empty() {
                loader.purgatory.note_listings(&at, listed, true).await?;
            }
            if loader.service.is_named_by(&announcement) {
                ours.insert(at);
            }
        }
        loader.purgatory.mark_dirty(&ours).await?;
    }
    Ok(())
}

/// Returns spans of time, first and last second, that together are all of it.
fn spans(now: u64) -> Vec<(u64, u64)> {
    let mut spans = vec![(0, FIRST_SPAN_ENDS)];
    while let Some((_, end)) = spans.last()
        && *end < now
    {
        spans.push((end + 1, end + SPAN_SECS));
    }
    let end = spans.last().map_or(0, |(_, end)| *end);
    spans.push((end + 1, u64::from(u32::MAX)));
    spans
}

/// What the operator reads of a repository whose state is gone.
pub(super) const STATELESS: &str = "the events of this repository were lost with the purgatory: it is kept on disk, \
                                     and served again when they are published again";

/// Before NIP-34: 2024.
const FIRST_SPAN_ENDS: u64 = 1_704_067_199;

/// Thirty days.
const SPAN_SECS: u64 = 30 * 86_400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_lost_follows_from_what_was_known_and_is_found() {
        let found = |name: &str| Epoch {
            name: name.to_owned(),
            server: "b".to_owned(),
        };
        for (known, name, expected) in [
            (None, "", Loss::Everything),
            (Some("b:1"), "", Loss::Everything),
            (None, "a:1", Loss::LastWrites),
            (Some("a:1"), "a:1", Loss::LastWrites),
            (Some("b:1"), "b:2", Loss::OnlyOwnReleases),
            (Some("b:1"), "b:1", Loss::Nothing),
            // It has nothing of its own yet.
            (None, "b:1", Loss::Nothing),
        ] {
            assert_eq!(loss(known, &found(name)), expected, "{known:?} {name:?}");
        }
    }

    #[test]
    fn spans_leave_no_second_out() {
        for now in [0, FIRST_SPAN_ENDS, FIRST_SPAN_ENDS + 1, 1_800_000_000] {
            let spans = spans(now);

            assert_eq!(spans[0].0, 0);
            for pair in spans.windows(2) {
                assert_eq!(pair[0].1 + 1, pair[1].0);
            }
            assert_eq!(spans.last().unwrap().1, u64::from(u32::MAX));
        }
    }
}
