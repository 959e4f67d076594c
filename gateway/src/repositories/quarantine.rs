//! Objects that are not yet in a repository: a directory of this instance that a push fills and that is then moved to
//! its destination, or removed (docs/facts/git-http.md 2.3). It has the layout of a repository, and becomes the
//! repository if there is none.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use crate::git::invocation::Invocation;
use crate::process::ChildLimits;
use crate::repositories::creation::is_repository;
use crate::repositories::creation::lay_out;
use crate::repositories::creation::make_new_dir;
use crate::repositories::creation::put_in_place;
use crate::repositories::error::RepositoryError;
use crate::repositories::fsck;
use crate::repositories::generation::WholeWith;
use crate::repositories::kept::KeptParts;
use crate::repositories::layout::FileError;
use crate::repositories::layout::bytes_below;
use crate::repositories::layout::if_found;
use crate::repositories::layout::in_background;
use crate::repositories::layout::is_dir_here;
use crate::repositories::pack::IngestLimits;
use crate::repositories::packs::move_packs;
use crate::repositories::packs::packs_in;
use crate::repositories::ref_transaction::RefTransaction;
use crate::repositories::ref_transaction::lay_out_refs;
use crate::repositories::repository::Repository;
use crate::repositories::repository::RepositoryStore;

/// A repository in the making, for one coordinate, that only its owner reads. Dropped, it is removed with all in it.
#[must_use = "dropping it removes the objects in it"]
#[derive(Debug)]
pub(crate) struct Quarantine {
    repository: Repository,
    path: PathBuf,
    objects: PathBuf,
    alternates: Vec<PathBuf>,
    whole_with: WholeWith,
    kept: Option<KeptParts>,
}

impl Quarantine {
    /// Opens a quarantine for `repository`, to whose objects those in it may refer; it need not be on disk.
    pub(crate) async fn open(repository: &Repository) -> Result<Self, FileError> {
        Self::open_beside(repository, None).await
    }

    /// As [`Quarantine::open`]; the objects may refer to those that are kept aside too.
    pub(super) async fn open_beside(repository: &Repository, kept: Option<&KeptParts>) -> Result<Self, FileError> {
        let repository = repository.clone();
        let kept = kept.cloned();
        in_background(move || {
            let path = repository.store().layout().fresh_quarantine();
            let objects = path.join("objects");
            make_new_dir(&path)?;
            make_new_dir(&objects)?;
            let object_dir = repository.object_dir();
            let of_repository = is_dir_here(&object_dir)?.then_some(object_dir);
            let whole_with = match of_repository {
                Some(_) => WholeWith::repository(repository.path())?,
                None => WholeWith::Nothing,
            };
            let of_kept = kept.as_ref().map(|kept| kept.object_dir.clone());
            Ok(Self {
                repository,
                path,
                objects,
                alternates: of_repository.into_iter().chain(of_kept).collect(),
                whole_with,
                kept,
            })
        })
        .await
    }

    /// Returns the directory as one to look objects up in.
    pub(crate) fn object_dir(&self) -> &Path {
        &self.objects
    }

    /// Returns the object directories that its objects may refer to.
    pub(crate) fn alternates(&self) -> &[PathBuf] {
        &self.alternates
    }

    /// Returns the object directories that together have everything reachable from its objects.
    pub(super) fn readable(&self) -> Vec<PathBuf> {
        let own = std::iter::once(self.objects.clone());
        own.chain(self.alternates.iter().cloned()).collect()
    }

    /// Returns what its objects are complete with, and the kept parts, when they are checked.
    pub(super) fn whole_with(&self) -> &WholeWith {
        &self.whole_with
    }

    /// Returns the kept parts to which its objects may refer.
    pub(super) fn kept(&self) -> Option<&KeptParts> {
        self.kept.as_ref()
    }

    /// Returns the bytes of its packs.
    pub(super) async fn bytes(&self) -> Result<u64, FileError> {
        let packs = self.objects.join("pack");
        in_background(move || bytes_below(&packs, &mut BTreeSet::new())).await
    }

    /// Whether the checked objects are known to be still complete. Under the repository's lock this stays so.
    pub(super) async fn is_still_whole(&self) -> Result<bool, FileError> {
        let (whole_with, kept) = (self.whole_with.clone(), self.kept.clone());
        let path = self.repository.path().to_owned();
        in_background(move || {
            let is_kept = |kept: &KeptParts| Ok(kept.packs.is_subset(&packs_in(&kept.object_dir.join("pack"))?));
            Ok(kept.as_ref().map_or(Ok(true), is_kept)? && whole_with.holds_for(&path)?)
        })
        .await
    }

    /// Prepares to become the repository, if there is none: an expected migration is prepared while git works.
    pub(super) async fn prepare(&self) -> Result<(), FileError> {
        let (repository, path) = (self.repository.clone(), self.path.clone());
        in_background(move || prepare(&repository, &path)).await
    }

    /// Moves the objects into the repository, where clones see them; one that is not on disk they become.
    ///
    /// # Errors
    /// [`FileError`] if a file cannot be moved; those moved before are whole and stay.
    pub(crate) async fn migrate(self) -> Result<(), FileError> {
        in_background(move || self.migrate_now().map(drop)).await
    }

    /// As [`Quarantine::migrate`]; a repository that is not on disk gets these refs, unless git would refuse them.
    /// Returns whether it was not: then it is durable where it is now.
    pub(super) async fn migrate_with_refs(self, refs: RefTransaction) -> Result<bool, RepositoryError> {
        in_background(move || {
            if !is_repository(self.repository.path())? {
                prepare(&self.repository, &self.path)?;
                match lay_out_refs(&self.path, &refs) {
                    // Nothing is written: the next alignment of the repository sets them, or meets the same.
                    Err(RepositoryError::Refused { .. }) => {}
                    laid_out => laid_out?,
                }
            }
            Ok(self.migrate_now()?)
        })
        .await
    }

    /// Returns whether the quarantine has become the repository.
    fn migrate_now(self) -> Result<bool, FileError> {
        prepare(&self.repository, &self.path)?;
        let place = self.repository.path();
        if !is_repository(place)? && put_in_place(&self.path, place)? {
            self.store().hosted().add([self.repository.coordinate().clone()]);
            return Ok(true);
        }
        move_packs(&self.objects, &place.join("objects"))?;
        Ok(false)
    }

    /// Prepares the `index-pack` that fills the quarantine with a small pack, whose reverse index is faster computed
    /// than stored.
    pub(super) fn index_small_pack(&self, limits: &IngestLimits) -> Invocation {
        self.index_pack(&limits.of_pack(0)).arg("--no-rev-index")
    }

    /// Prepares the `index-pack` that fills the quarantine.
    pub(crate) fn index_pack(&self, limits: &IngestLimits) -> Invocation {
        self.store()
            .git()
            .invoke("index-pack")
            // A repository is asked for and nothing is read from it; the objects are these.
            .repository(&self.store().layout().empty_repository())
            .env("GIT_OBJECT_DIRECTORY", &self.objects)
            .env("GIT_QUARANTINE_PATH", &self.objects)
            .alternates(&self.alternates)
            .arg("--stdin")
            // Pushes are thin: deltas against objects of ours are completed, so that a pack stands alone.
            .arg("--fix-thin")
            // Checks every object and that its references exist. Severities can be set only here: index-pack reads
            // neither `fsck.*` nor `receive.fsck.*` (the test of all faults pins it).
            .arg(format!("--strict={}", fsck::severities()))
            .arg(format!("--max-input-size={}", limits.pack_bytes_max))
            // One push, one core.
            .arg("--threads=1")
            .limits(ChildLimits {
                // Bases of a thin pack are added to what was sent.
                file_bytes: limits.pack_bytes_max.saturating_mul(2).saturating_add(64 << 20),
                ..limits.child_limits()
            })
    }

    pub(super) fn repository(&self) -> &Repository {
        &self.repository
    }

    pub(super) fn store(&self) -> &RepositoryStore {
        self.repository.store()
    }
}

impl Repository {
    /// Makes it, empty, unless it is there.
    pub(super) async fn create(&self) -> Result<(), FileError> {
        match self.exists().await? {
            true => Ok(()),
            false => Quarantine::open(self).await?.migrate().await,
        }
    }
}

impl Drop for Quarantine {
    /// Removes a few files at once, rather than in a task that a runtime which goes down would not run.
    fn drop(&mut self) {
        if let Err(error) = if_found(fs::remove_dir_all(&self.path)) {
            tracing::warn!(%error, "cannot remove a quarantine; the next start removes it");
        }
    }
}

fn prepare(repository: &Repository, quarantine: &Path) -> Result<(), FileError> {
    match is_repository(repository.path())? || is_repository(quarantine)? {
        true => Ok(()),
        false => lay_out(quarantine, Some(repository.coordinate())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repositories::testing::World;

    #[tokio::test]
    async fn of_several_for_a_virtual_repository_one_becomes_it_and_the_others_move_in() {
        let world = World::new().await;
        let (repository, source) = (world.repository("a"), world.repository("source"));
        let commits = world.two_commits(&source).await;
        let mut quarantines = Vec::new();
        let (from, limits) = ([source.object_dir()], IngestLimits::default());
        for commit in commits {
            let copied = Quarantine::copy(&from, &[commit], &repository, None, &limits).await;
            quarantines.push(copied.unwrap());
        }
        assert!(!repository.exists().await.unwrap());

        for quarantine in quarantines {
            quarantine.migrate().await.unwrap();
        }

        assert_eq!(repository.object_kinds(&commits).await.unwrap().len(), 2);
        assert_eq!(world.quarantine_entries(), 0);
    }
}
