//! What the worker does with a dirty identifier: reconciles it, and others with it where a PR is offered to several.

use std::collections::BTreeSet;

use shared::nip34::Identifier;

use crate::reconcile::Reconciled;
use crate::reconcile::Reconciler;
use crate::reconcile::error::ReconcileError;
use crate::repositories::LockedRepositories;

/// Reconciles an identifier that is dirty, and more if that takes more to decide. One that is not dirty any more,
/// because somebody else has reconciled it meanwhile, is left alone.
///
/// # Errors
/// See [`ReconcileError`].
pub(super) async fn reconcile_dirty(
    reconciler: &Reconciler,
    identifier: &Identifier,
) -> Result<Reconciled, ReconcileError> {
    let identifiers = BTreeSet::from([identifier.clone()]);
    let locked = reconciler.repositories.lock(identifiers.clone()).await?;
    if reconciler.loader.purgatory.dirty_number(identifier).await?.is_none() {
        return Ok(Reconciled {
            is_complete: true,
            ..Reconciled::default()
        });
    }
    let mut reconciled = load_and_reconcile(reconciler, &locked).await?;
    drop(locked);
    if reconciled.also_lock.is_subset(&identifiers) {
        return Ok(reconciled);
    }
    // Once: what would need even more is reconciled when its own identifiers are.
    let more = identifiers.union(&reconciled.also_lock).cloned().collect();
    match reconcile_together(reconciler, more).await {
        Ok(together) => {
            reconciled.leased.extend(together.leased);
            reconciled.waiting.extend(together.waiting);
            reconciled.broken.extend(together.broken);
            reconciled.uninstallable.extend(together.uninstallable);
            reconciled.is_complete &= together.is_complete;
        }
        // What was leased must be published all the same.
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(
                error,
                "cannot reconcile all repositories that a PR is offered to, will try again when its deadline is checked next"
            );
        }
    }
    Ok(reconciled)
}

async fn reconcile_together(
    reconciler: &Reconciler,
    identifiers: BTreeSet<Identifier>,
) -> Result<Reconciled, ReconcileError> {
    let locked = reconciler.repositories.lock(identifiers).await?;
    load_and_reconcile(reconciler, &locked).await
}

async fn load_and_reconcile(
    reconciler: &Reconciler,
    locked: &LockedRepositories<'_>,
) -> Result<Reconciled, ReconcileError> {
    let loaded = reconciler.load(locked, BTreeSet::new(), BTreeSet::new()).await?;
    reconciler.reconcile(locked, &loaded).await
}
