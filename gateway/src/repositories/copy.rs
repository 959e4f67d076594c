//! Bringing what some commits and tags need from one place to another: by sharing packs, which costs a link each, or by
//! copying objects, `pack-objects` piped into `index-pack`.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;

use rustix::process::Signal;
use shared::git::Oid;

use crate::git::error::GitError;
use crate::repositories::error::RepositoryError;
use crate::repositories::ingest::PRINTED_BYTES_MAX;
use crate::repositories::ingest::judge;
use crate::repositories::ingest::killed;
use crate::repositories::kept::KeptParts;
use crate::repositories::layout::FileError;
use crate::repositories::layout::entries;
use crate::repositories::layout::in_background;
use crate::repositories::layout::is_here;
use crate::repositories::pack::IngestLimits;
use crate::repositories::pack_changes::share_all;
use crate::repositories::packs::packs_in;
use crate::repositories::quarantine::Quarantine;
use crate::repositories::repository::Repository;

impl Quarantine {
    /// Copies the objects that `tips` need, without those that the refs of `have` reach and those that are kept aside
    /// for it, from the object directories `from` into a new quarantine, from which it can migrate or be staged. `have`
    /// need not be on disk.
    ///
    /// # Errors
    /// [`RepositoryError::Incomplete`] if an object is missing in `from`, in `have` and aside.
    pub(super) async fn copy(
        from: &[PathBuf],
        tips: &[Oid],
        have: &Repository,
        kept: Option<&KeptParts>,
        limits: &IngestLimits,
    ) -> Result<Self, RepositoryError> {
        let quarantine = Self::open_beside(have, kept).await?;
        let revs = have.revisions_lacking(tips, kept).await?;
        quarantine.fill(from, revs, limits).await?;
        Ok(quarantine)
    }

    async fn fill(&self, from: &[PathBuf], revs: String, limits: &IngestLimits) -> Result<(), RepositoryError> {
        let sources = [from, self.alternates()].concat();
        let mut pack_objects = self
            .store()
            .git()
            .invoke("pack-objects")
            .repository(&self.store().layout().empty_repository())
            .alternates(&sources)
            .arg("--revs")
            .arg("--stdout")
            // The target completes deltas against its own objects.
            .arg("--thin")
            .arg("--delta-base-offset")
            .arg("--quiet")
            .limits(limits.child_limits())
            .spawn(Stdio::piped())?
            // Under a lock only where the state that is meant has changed since the check, which no stranger decides.
            .demoted_when_long();
        pack_objects.be_nice(limits.niceness);
        let piped = GitError::run("pack-objects");
        let stdout = pack_objects.stdout.take().ok_or(io::ErrorKind::BrokenPipe);
        let stdout = stdout.map_err(|kind| piped(kind.into()))?;
        let pack: Stdio = stdout.try_into().map_err(&piped)?;
        let index_pack = self.index_pack(limits).spawn(pack)?.demoted_when_long();
        index_pack.be_nice(limits.niceness);
        let max = limits.duration_max;
        let (packed, indexed) = tokio::join!(
            pack_objects.output(revs.as_bytes(), 0, max),
            index_pack.output(b"", PRINTED_BYTES_MAX, max)
        );
        if let Some(packed) = packed.map_err(piped)?
            && !packed.status.success()
        {
            // If the pack was cut because the other end closed, the other end knows why.
            let is_cut = packed.status.signal() == Some(Signal::PIPE.as_raw());
            if let (Some(error), false) = (killed(packed.status), is_cut) {
                return Err(error.into());
            }
            if !packed.stderr.lines().is_empty() {
                let message = packed.stderr.summary();
                return Err(RepositoryError::Incomplete { message });
            }
        }
        Ok(judge(indexed, limits)?)
    }
}

/// Shares all objects of a repository with another: each pack is on disk once, under a name in both. Only objects that
/// a signed event has declared move into a repository, so nothing else becomes fetchable.
///
/// Returns whether that could be done: not where objects stand outside of packs, as an operator's tools leave them, or
/// go at the same time.
///
/// # Errors
/// [`RepositoryError`]; then `into` has its old objects, and loses the new ones when it is locked next.
pub(super) async fn share_objects(from: &Repository, into: &Repository) -> Result<bool, RepositoryError> {
    let objects = from.object_dir();
    let can_be_shared = in_background(move || {
        Ok::<_, FileError>(holds_only_packs(&objects)? && packs_in(&objects.join("pack"))?.len() <= SHARED_PACKS_MAX)
    });
    if !can_be_shared.await? {
        return Ok(false);
    }
    into.create().await?;
    let (from, into) = (from.clone(), into.clone());
    Ok(in_background(move || share_all(&from, &into)).await?)
}

/// Whether every object in a directory is in a pack of it.
pub(super) fn holds_only_packs(object_dir: &Path) -> Result<bool, FileError> {
    let mut names = entries(object_dir)?.into_iter().map(|entry| entry.file_name());
    Ok(names.all(|name| name == "pack" || name == "info") && !is_here(&object_dir.join("info/alternates"))?)
}

/// Most packs that are shared: some 100 ms under the lock. A repository with more is copied, which combines its packs.
const SHARED_PACKS_MAX: usize = 2_000;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::repositories::testing::World;
    use crate::repositories::testing::copy_objects;

    #[tokio::test]
    async fn what_the_tips_need_is_copied_and_no_more() {
        for world in World::of_every_git().await {
            let (from, into) = (world.repository("from"), world.repository("into"));
            let [one, two] = world.two_commits(&from).await;
            let tag = world.tag(&from, two, "commit").await;
            let other = world.commit(&from, "other", &[]).await;
            into.create().await.unwrap();
            let dirs = [from.object_dir()];
            let limits = IngestLimits::default();

            copy_objects(&dirs, &[one], &into, &limits).await.unwrap();
            world
                .git(&into, &["update-ref", "refs/heads/a", &one.to_string()], b"")
                .await;
            copy_objects(&dirs, &[two, tag], &into, &limits).await.unwrap();
            // Once more: nothing to do is no failure.
            copy_objects(&dirs, &[one], &into, &limits).await.unwrap();

            let here = into.object_kinds(&[one, two, tag, other]).await.unwrap();
            assert_eq!(
                here.into_keys().collect::<std::collections::BTreeSet<_>>(),
                [one, two, tag].into()
            );
            world
                .git(&into, &["rev-list", "--objects", &tag.to_string()], b"")
                .await;
            assert_eq!(World::packs(&into.object_dir()).len(), 2);
            assert_eq!(world.quarantine_entries(), 0);
        }
    }

    #[tokio::test]
    async fn packs_are_shared_and_stand_on_the_disk_once() {
        use std::os::unix::fs::MetadataExt;
        for world in World::of_every_git().await {
            let (work, from) = (world.repository("work"), world.repository("from"));
            let [one, two] = world.two_commits(&work).await;
            from.create().await.unwrap();
            for tip in [one, two] {
                copy_objects(&[work.object_dir()], &[tip], &from, &IngestLimits::default())
                    .await
                    .unwrap();
            }
            let (virtual_one, other) = (world.repository("virtual"), world.repository("other"));
            other.create().await.unwrap();
            for into in [&virtual_one, &other, &other] {
                assert!(share_objects(&from, into).await.unwrap());

                world.git(into, &["rev-list", "--objects", &two.to_string()], b"").await;
            }
            let packs = World::packs(&from.object_dir());
            let links = packs.iter().map(|pack| fs::metadata(pack).unwrap().nlink());
            assert_eq!(links.collect::<Vec<_>>(), vec![3; packs.len()]);
            assert_eq!(world.quarantine_entries(), 0);

            // The shared packs stay with their owners.
            fs::remove_dir_all(from.path()).unwrap();
            world
                .git(&other, &["rev-list", "--objects", &two.to_string()], b"")
                .await;
            assert!(!share_objects(&work, &other).await.unwrap(), "objects outside of packs");
        }
    }

    #[tokio::test]
    async fn a_source_without_all_that_the_tips_need_is_refused() {
        for world in World::of_every_git().await {
            let into = world.repository("into");
            into.create().await.unwrap();
            let missing: Oid = "1234567890123456789012345678901234567890".parse().unwrap();
            for (name, kind) in [("tree", "^{tree}"), ("blob", ":file"), ("parent", "^1")] {
                let from = world.repository(name);
                let [_, two] = world.two_commits(&from).await;
                let object = world
                    .oid(&from, &["rev-parse", &format!("{two}{kind}")], b"")
                    .await
                    .to_string();
                let file = from.object_dir().join(&object[..2]).join(&object[2..]);
                fs::remove_file(file).unwrap();

                for tip in [two, missing] {
                    let copied = copy_objects(&[from.object_dir()], &[tip], &into, &IngestLimits::default()).await;

                    assert!(
                        matches!(copied, Err(RepositoryError::Incomplete { .. })),
                        "{name}: {copied:?}"
                    );
                }
            }
            assert!(World::packs(&into.object_dir()).is_empty());
        }
    }
}
