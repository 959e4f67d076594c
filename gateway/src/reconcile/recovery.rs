//! What a gateway makes up for when Redis has lost the purgatory, or may have lost some of it (design 3, the epoch).
//!
//! What it was bringing into the relay it holds again; what is staged gets its placeholders back; everything that is
//! held or on disk is looked at. What was held is gone: its authors send it again. Nothing on disk is removed: a
//! repository whose state is gone goes back to the newest served one, by the look, and where none is served it is kept
//! and not served.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use nostr::filter::Filter;
use nostr::types::Timestamp;
use shared::git::Namespace;
use shared::git::Oid;
use shared::git::RefName;
use shared::load_facts::FactsError;
use shared::load_facts::FactsScope;
use shared::nip34;
use shared::nip34::Announcement;
use shared::nip34::Coordinate;
use shared::nip34::Identifier;
use shared::purgatory::Epoch;
use shared::purgatory::Hold;
use shared::purgatory::PlaceholderOutcome;
use shared::purgatory::PurgatoryError;
use shared::purgatory::Release;
use shared::relay_client::RelayError;
use shared::rules::Facts;

use crate::repositories::StorageError;
use crate::site::Site;
use crate::site::declares_refs;

/// What the purgatory has lost since the epoch that a gateway knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Nothing.
    Nothing,
    /// Something, and another gateway has made up for all of it but for what only this one knows.
    OnlyOwnReleases,
    /// Perhaps the last writes: another server answers, after a restart or a failover.
    LastWrites,
    /// Everything.
    Everything,
}

/// Says what was lost between the epoch that is known, if any, and the one that was found.
pub(crate) fn loss(known: Option<&str>, found: &Epoch) -> Loss {
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

/// Why a loss is not made up for yet.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecoveryError {
    #[error("cannot write to the purgatory")]
    Purgatory(#[from] PurgatoryError),
    #[error("no facts to decide on")]
    FactLoader(#[from] FactsError),
    #[error("cannot read the announcements of the relay")]
    Relay(#[from] RelayError),
    #[error("cannot read what is on disk")]
    Storage(#[from] StorageError),
    #[error("cannot lock an identifier")]
    Lock(#[source] std::io::Error),
}

impl Site {
    /// Makes up for a loss, and returns the name of the epoch after it. It may be done again from the start, and by
    /// several gateways at once.
    pub(crate) async fn recover(&self, loss: Loss, found: &Epoch) -> Result<String, RecoveryError> {
        for release in self.in_flight.all() {
            self.hold_again(release).await?;
        }
        match loss {
            Loss::Nothing | Loss::OnlyOwnReleases => return Ok(found.name.clone()),
            Loss::LastWrites => {
                self.loader.purgatory.mark_held().await?;
                // What was complete may be lost with its mark, and its refs are set.
                self.loader
                    .purgatory
                    .mark_dirty(&self.storage.identifiers().await?)
                    .await?;
            }
            Loss::Everything => {
                self.restore_from_disk().await?;
                self.mark_announced().await?;
            }
        }
        Ok(self.loader.purgatory.begin_epoch(found).await?)
    }

    /// Holds what was on its way into the relay. It is complete, and goes on by a look. It is not marked as releasing
    /// right here: another gateway may have set its refs back meanwhile, and only a look sets them before the mark.
    async fn hold_again(&self, release: Release) -> Result<(), PurgatoryError> {
        let Release { event, identifiers, .. } = release;
        let event_id = event.id;
        let hold = Hold {
            event,
            identifiers,
            source: String::new(),
            hold_secs: self.settings.hold_secs,
            extend: BTreeSet::new(),
        };
        match self.loader.purgatory.hold(&hold).await {
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

    async fn restore_from_disk(&self) -> Result<(), RecoveryError> {
        let mut on_disk: BTreeMap<Identifier, Vec<Coordinate>> = BTreeMap::new();
        for coordinate in self.storage.on_disk().await? {
            on_disk
                .entry(coordinate.identifier.clone())
                .or_default()
                .push(coordinate);
        }
        for identifier in self.storage.identifiers().await? {
            let repositories = on_disk.remove(&identifier).unwrap_or_default();
            self.restore(identifier, &repositories).await?;
        }
        Ok(())
    }

    /// Writes the placeholders of one identifier again, notes which of its repositories nobody has declared any more,
    /// and marks it.
    async fn restore(&self, identifier: Identifier, repositories: &[Coordinate]) -> Result<(), RecoveryError> {
        let identifiers = BTreeSet::from([identifier]);
        let locked = self
            .locks
            .lock(identifiers.clone())
            .await
            .map_err(RecoveryError::Lock)?;
        let purgatory = &self.loader.purgatory;
        for staged in self.storage.staged(&identifiers).await? {
            let put = purgatory.put_placeholder(
                &staged.event_id,
                &staged.coordinate,
                staged.commit_oid,
                self.settings.hold_secs,
            );
            if put.await? == PlaceholderOutcome::Full {
                tracing::warn!(event.id = %staged.event_id, "no room for the placeholder of a staged commit");
            }
        }
        let subject = FactsScope {
            identifiers: identifiers.clone(),
            ..FactsScope::default()
        };
        let (facts, _) = self.loader.load(&subject).await?;
        for coordinate in repositories {
            let refs = self.storage.refs(coordinate).await?.unwrap_or_default();
            let is_hosted = self.storage.unhosted_since(coordinate).await?.is_none();
            if is_hosted && is_undeclared(&facts, coordinate, &refs) {
                tracing::error!(repo.coordinate = %coordinate, "{UNDECLARED}");
                self.storage.note_undeclared(&locked, coordinate, true).await?;
            }
        }
        Ok(purgatory.mark_dirty(&identifiers).await?)
    }

    /// Marks the identifiers of what the relay announces to be here, a span of time after the other, so that not all
    /// announcements of a large relay are in memory at once.
    async fn mark_announced(&self) -> Result<(), RecoveryError> {
        for (since, until) in spans(Timestamp::now().as_secs()) {
            let filter = Filter::new().kind(nostr::event::Kind::from_u16(nip34::ANNOUNCEMENT));
            let filter = filter
                .since(Timestamp::from_secs(since))
                .until(Timestamp::from_secs(until));
            let served = self.loader.relay.query(vec![filter]).await?;
            let announcements = served.iter().filter_map(|event| Announcement::parse(event).ok());
            let ours = announcements.filter(|announcement| self.loader.service.is_named_by(announcement));
            let identifiers: BTreeSet<Identifier> = ours.map(|ours| ours.coordinate.identifier).collect();
            if !identifiers.is_empty() {
                self.loader.purgatory.mark_dirty(&identifiers).await?;
            }
        }
        Ok(())
    }
}

/// Tells whether a repository has branches or tags that no state declares any more.
fn is_undeclared(facts: &Facts, coordinate: &Coordinate, refs: &BTreeMap<RefName, Oid>) -> bool {
    let governed = |name: &RefName| matches!(name.namespace(), Namespace::Branch | Namespace::Tag);
    !declares_refs(facts, coordinate) && refs.keys().any(governed)
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
pub(crate) const UNDECLARED: &str = "the events of this repository were lost with the purgatory: it is kept on disk, \
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
