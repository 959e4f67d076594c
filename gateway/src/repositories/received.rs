//! What a push brought, after its check: all of it, and what its declared tips need where that is less.

use std::collections::BTreeSet;
use std::path::PathBuf;

use shared::git::Oid;

use crate::repositories::error::RepositoryError;
use crate::repositories::gitmodules::dangerous_gitmodules;
use crate::repositories::objects::object_kinds;
use crate::repositories::pack::IngestError;
use crate::repositories::pack::IngestLimits;
use crate::repositories::quarantine::Quarantine;
use crate::repositories::surplus::Packs;

/// The objects of a push.
#[must_use = "dropping it removes the objects in it"]
#[derive(Debug)]
pub(crate) struct Received {
    whole: Quarantine,
    /// The tips for which it was sorted.
    tips: BTreeSet<Oid>,
    /// What they need; `None`: that is everything that is not here already.
    declared: Option<Quarantine>,
}

impl Received {
    /// Refuses a pack that harms who clones any of `all_tips` with submodules, and sorts out what `tips` need. Outside
    /// the lock: it may have to be packed anew.
    ///
    /// # Errors
    /// [`RepositoryError`] that names what was found, or if something that the tips need is neither here nor in the
    /// repository, cannot be read, or costs too much.
    pub(crate) async fn sort(
        whole: Quarantine,
        all_tips: BTreeSet<Oid>,
        tips: BTreeSet<Oid>,
        limits: &IngestLimits,
    ) -> Result<Self, RepositoryError> {
        let readable = readable(&whole);
        let packs = Packs::new(whole.object_dir(), whole.repository());
        let surplus = async {
            match tips.is_empty() {
                true => Ok(false),
                false => packs.have_surplus(&tips, limits).await,
            }
        };
        // Beside each other: a small push waits for nothing else here.
        let (checked, has_surplus) = tokio::join!(check_submodules(&whole, all_tips), surplus);
        checked?;
        let mut declared = None;
        if has_surplus? {
            // Others did not come, which is for the decision under the lock to tell.
            let here = object_kinds(readable.clone(), tips.iter().copied().collect()).await?;
            let here: Vec<Oid> = here.into_keys().collect();
            tracing::debug!(
                tips = here.len(),
                "a push brings more than it declares: the rest is left out"
            );
            declared = Some(Quarantine::copy_of(&readable, &here, whole.repository(), limits).await?);
        }
        Ok(Self { whole, tips, declared })
    }

    /// Returns all of it.
    pub(crate) fn whole(&self) -> &Quarantine {
        &self.whole
    }

    /// Returns all of it, where nothing else is made of it.
    pub(super) fn into_whole(self) -> Quarantine {
        self.whole
    }

    /// Whether it was sorted for these tips.
    pub(super) fn is_sorted_for(&self, tips: &BTreeSet<Oid>) -> bool {
        tips.is_subset(&self.tips)
    }

    /// Returns what the tips need for which it was sorted, and nothing else.
    pub(super) fn into_declared(self) -> Quarantine {
        self.declared.unwrap_or(self.whole)
    }
}

/// Refuses a pack that harms who clones `tips` with submodules.
async fn check_submodules(whole: &Quarantine, tips: BTreeSet<Oid>) -> Result<(), RepositoryError> {
    let of_repository = whole.repository().object_dir();
    match dangerous_gitmodules(whole.object_dir(), of_repository, tips).await? {
        Some(oid) => Err(IngestError::Gitmodules { oid }.into()),
        None => Ok(()),
    }
}

/// Returns the object directories that together have everything reachable from what is in the quarantine.
pub(super) fn readable(quarantine: &Quarantine) -> Vec<PathBuf> {
    let own = std::iter::once(quarantine.object_dir().to_owned());
    own.chain(quarantine.alternates().iter().cloned()).collect()
}
