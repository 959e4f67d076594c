//! What becomes of a repository on disk that nobody announces here any more: it is kept for a while, unserved, and then
//! removed.

use shared::nip34::Coordinate;
use shared::rules::Facts;

use crate::reconcile::ReconcileError;
use crate::reconcile::recovery::UNDECLARED;
use crate::site::Site;

/// What to do with a repository on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is announced here.
    Keep,
    /// It is not, since this second.
    KeepUnhosted { since: u64 },
    /// It has not been for long enough.
    Remove,
}

impl Site {
    /// Looks whether a repository on disk is still announced here, and removes it if it has not been for as long as
    /// the operator wants it kept.
    ///
    /// # Errors
    /// See [`ReconcileError`]; nothing was removed then.
    pub(crate) async fn retire(&self, coordinate: &Coordinate) -> Result<(), ReconcileError> {
        let identifiers = [coordinate.identifier.clone()].into();
        let locked = self.locks.lock(identifiers).await.map_err(ReconcileError::Lock)?;
        let facts = self.facts(coordinate).await?;
        // After the facts, and before the note: a purgatory that has lost something since it was read, or was not whole
        // then, says so or has left its note.
        if self.loader.purgatory.epoch().await?.is_unknown() {
            return Ok(());
        }
        if self.storage.is_undeclared(coordinate).await? {
            tracing::error!(repo.coordinate = %coordinate, "{UNDECLARED}");
            return Ok(());
        }
        let unhosted_since = self.storage.unhosted_since(coordinate).await?;
        match fate(&facts, coordinate, unhosted_since, self.settings.deleted_retention_secs) {
            Fate::Keep if unhosted_since.is_none() => {}
            Fate::Keep => self.storage.note_unhosted(&locked, coordinate, None).await?,
            Fate::KeepUnhosted { since } if unhosted_since == Some(since) => {}
            Fate::KeepUnhosted { since } => {
                tracing::info!(repo.coordinate = %coordinate, "no longer announced here, data kept for now");
                self.storage.note_unhosted(&locked, coordinate, Some(since)).await?;
            }
            Fate::Remove => {
                tracing::warn!(repo.coordinate = %coordinate, "not announced here for long enough, data removed");
                self.storage.remove(&locked, coordinate).await?;
            }
        }
        Ok(())
    }
}

fn fate(facts: &Facts, coordinate: &Coordinate, unhosted_since: Option<u64>, retention_secs: u64) -> Fate {
    // Sleeping announcements may wake, and what an operator's list takes down he may put back.
    let announced = facts
        .announcements
        .iter()
        .any(|known| known.item.coordinate == *coordinate && facts.service.is_named_by(&known.item));
    let since = unhosted_since.unwrap_or(facts.now);
    match announced
        && facts
            .served_announcement(coordinate)
            .is_none_or(|known| facts.service.is_named_by(&known.item))
    {
        true => Fate::Keep,
        false if since.saturating_add(retention_secs) <= facts.now => Fate::Remove,
        false => Fate::KeepUnhosted { since },
    }
}
