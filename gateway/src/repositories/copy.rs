//! Copying what some commits and tags need from one place to another: `pack-objects` piped into `index-pack`.

use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use shared::git::Oid;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::git::error::GitError;
use crate::process::ChildLimits;
use crate::process::ignore_broken_pipe;
use crate::repositories::ingest::finish;
use crate::repositories::ingest::judge;
use crate::repositories::layout::LayoutError;
use crate::repositories::pack::IngestError;
use crate::repositories::pack::IngestLimits;
use crate::repositories::quarantine::Quarantine;
use crate::repositories::refs::RefReadError;
use crate::repositories::repository::Repository;

/// Why objects were not copied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CopyError {
    /// The source has not all that the tips need.
    #[error("the source is incomplete: {message}")]
    Incomplete {
        /// git's words.
        message: String,
    },
    /// The copy was refused as a push would be.
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// It took too long.
    #[error("copying took more than {} s", max.as_secs())]
    Deadline {
        /// The limit.
        max: Duration,
    },
    /// The refs of the target could not be read.
    #[error(transparent)]
    Refs(#[from] RefReadError),
    /// A directory could not be made or a file not moved.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// git could not be run.
    #[error(transparent)]
    Git(#[from] GitError),
}

impl Quarantine {
    /// Copies what `tips` need, less what the refs of `have` reach, from the object directories `from` into a new
    /// quarantine, from where it can migrate or be staged. `have` need not be on disk.
    ///
    /// # Errors
    /// [`CopyError::Incomplete`] if an object is missing in `from` and `have`.
    pub(super) async fn copy_of(
        from: &[PathBuf],
        tips: &[Oid],
        have: &Repository,
        limits: &IngestLimits,
    ) -> Result<Self, CopyError> {
        let quarantine = Self::open(have).await?;
        let max = limits.duration_max;
        timeout(max, quarantine.fill(from, tips, have, limits))
            .await
            .unwrap_or(Err(CopyError::Deadline { max }))?;
        Ok(quarantine)
    }

    async fn fill(
        &self,
        from: &[PathBuf],
        tips: &[Oid],
        have: &Repository,
        limits: &IngestLimits,
    ) -> Result<(), CopyError> {
        let mut revs: String = tips.iter().map(|oid| format!("{oid}\n")).collect();
        for oid in have.refs().await?.iter().flat_map(|refs| refs.refs.values()) {
            revs.push_str(&format!("^{oid}\n"));
        }
        let sources = [from, self.alternates()].concat();
        // For both gits: the one that writes and the one that reads.
        let _permit = self.store().git().permit("pack-objects", limits.duration_max).await?;
        let mut pack_objects = self
            .store()
            .git()
            .invoke("pack-objects")
            .repository(&self.store().layout().empty_repository())
            .alternates(&sources)
            .arg("--revs")
            .arg("--stdout")
            // The target completes deltas against what it has.
            .arg("--thin")
            .arg("--delta-base-offset")
            .arg("--quiet")
            .limits(ChildLimits {
                memory_bytes: limits.memory_bytes_max,
                cpu_secs: limits.cpu_secs_max,
                file_bytes: limits.pack_bytes_max,
            })
            .spawn(Stdio::piped())?;
        let piped = |source| GitError::Run {
            command: "pack-objects".to_owned(),
            source,
        };
        let stdout = pack_objects.stdout.take().ok_or(io::ErrorKind::BrokenPipe);
        let stdout = stdout.map_err(|kind| piped(kind.into()))?;
        let pack: Stdio = stdout.try_into().map_err(piped)?;
        let mut index_pack = self.index_pack(limits).spawn(pack)?;
        let stdin = pack_objects.stdin.take();
        let feed = async move {
            match stdin {
                Some(mut stdin) => ignore_broken_pipe(stdin.write_all(revs.as_bytes()).await),
                None => Ok(()),
            }
        };
        let (fed, packed, indexed) = tokio::join!(feed, pack_objects.wait(), finish(&mut index_pack));
        fed.map_err(piped)?;
        let ((packed, said), (indexed, refused)) = (packed.map_err(piped)?, indexed?);
        // If the pack was cut because the other end closed, the other end knows why.
        if !packed.success() && !said.lines().is_empty() {
            let message = said.summary();
            return Err(CopyError::Incomplete { message });
        }
        Ok(judge(indexed, &refused, limits)?)
    }
}

/// Copies what `tips` need from the object directories `from` into `into`, which must be on disk.
///
/// # Errors
/// [`CopyError`]; then `into` is as before.
pub(super) async fn copy_objects(
    from: &[PathBuf],
    tips: &[Oid],
    into: &Repository,
    limits: &IngestLimits,
) -> Result<(), CopyError> {
    let quarantine = Quarantine::copy_of(from, tips, into, limits).await?;
    Ok(quarantine.migrate_into(into).await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repositories::testing::World;

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
                std::fs::remove_file(file).unwrap();

                for tip in [two, missing] {
                    let copied = copy_objects(&[from.object_dir()], &[tip], &into, &IngestLimits::default()).await;

                    assert!(
                        matches!(copied, Err(CopyError::Incomplete { .. })),
                        "{name}: {copied:?}"
                    );
                }
            }
            assert!(World::packs(&into.object_dir()).is_empty());
        }
    }
}
