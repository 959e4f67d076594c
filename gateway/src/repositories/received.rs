//! What a push brought, after its check: all of it, and what its declared tips need where that is less.

use std::collections::BTreeSet;

use nostr::event::EventId;
use shared::git::Oid;

use crate::repositories::error::RepositoryError;
use crate::repositories::gitmodules::dangerous_gitmodules;
use crate::repositories::kept::KeptParts;
use crate::repositories::objects::object_kinds;
use crate::repositories::pack::IngestError;
use crate::repositories::pack::IngestLimits;
use crate::repositories::pull_request_packs::NeededByCommit;
use crate::repositories::pull_request_packs::sort_for_each;
use crate::repositories::quarantine::Quarantine;
use crate::repositories::surplus::NewPacks;

#[must_use = "dropping it removes the objects in it"]
#[derive(Debug)]
pub(crate) struct Received {
    whole: Quarantine,
    /// The tips for which it was sorted.
    tips: BTreeSet<Oid>,
    /// The objects that they need; `None`: all that the repository does not have.
    declared: Option<Quarantine>,
    /// The parts that it builds on, in addition to the repository.
    kept: Option<KeptParts>,
    /// What each PR commit needs of it.
    pull_requests: NeededByCommit,
}

impl Received {
    /// Refuses a pack that harms users who clone any of `all_tips` with submodules, and separates the objects that
    /// `tips` need, and those that each of `pull_requests` needs. Outside the lock, because it may have to repack them.
    ///
    /// # Errors
    /// [`RepositoryError`] that names the fault, or if an object that the tips need is missing, cannot be read, or
    /// costs too much.
    pub(crate) async fn sort(
        whole: Quarantine,
        kept: Option<KeptParts>,
        all_tips: BTreeSet<Oid>,
        (tips, pull_requests): (BTreeSet<Oid>, BTreeSet<Oid>),
        limits: &IngestLimits,
    ) -> Result<Self, RepositoryError> {
        let readable = whole.readable();
        let packs = NewPacks::new(whole.object_dir(), whole.repository(), kept.as_ref());
        let surplus = async {
            if tips.is_empty() {
                return Ok(false);
            }
            // However often the same is pushed, it is kept once.
            let repeats = packs.repeat_kept().await?;
            Ok::<_, RepositoryError>(repeats || packs.have_surplus(&tips, limits).await?)
        };
        // Beside each other: a small push waits for nothing else here.
        let (checked, has_surplus) = tokio::join!(check_submodules(&whole, all_tips), surplus);
        checked?;
        let pull_requests = sort_for_each(&whole, pull_requests, limits).await?;
        let mut declared = None;
        if has_surplus? {
            // Others did not come, which is for the decision under the lock to tell.
            let here = object_kinds(readable.clone(), tips.iter().copied().collect()).await?;
            let here: Vec<Oid> = here.into_keys().collect();
            tracing::debug!(tips = here.len(), "a push has undeclared objects: they are left out");
            declared = Some(Quarantine::copy(&readable, &here, whole.repository(), kept.as_ref(), limits).await?);
        }
        Ok(Self {
            whole,
            tips,
            declared,
            kept,
            pull_requests,
        })
    }

    /// Returns the state whose parts make it complete; `None`: the repository's objects suffice.
    pub(crate) fn builds_on(&self) -> Option<EventId> {
        self.kept.as_ref().map(|kept| kept.state_id)
    }

    pub(crate) fn whole(&self) -> &Quarantine {
        &self.whole
    }

    /// Returns what a PR commit needs, and nothing else; `None`: it was not sorted for that.
    pub(super) fn needed_by(&self, commit_oid: &Oid) -> Option<&Quarantine> {
        let needed = self.pull_requests.get(commit_oid)?;
        Some(needed.as_ref().unwrap_or(&self.whole))
    }

    /// Returns what these tips need, and nothing else. Where it was sorted for others, another state is meant than
    /// then.
    pub(super) async fn into_declared(
        self,
        tips: &BTreeSet<Oid>,
        limits: &IngestLimits,
    ) -> Result<Quarantine, RepositoryError> {
        if tips.is_subset(&self.tips) {
            return Ok(self.declared.unwrap_or(self.whole));
        }
        let tips: Vec<Oid> = tips.iter().copied().collect();
        let _permit = self.whole.store().git().permits().try_take("pack-objects")?;
        let (have, kept) = (self.whole.repository(), self.kept.as_ref());
        Quarantine::copy(&self.whole.readable(), &tips, have, kept, limits).await
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
