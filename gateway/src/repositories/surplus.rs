//! The undeclared objects of a pack. A client packs as it likes; objects that its tips do not reach stay outside,
//! because every object of a repository can be fetched by its id for ever.
//!
//! A small pack is walked in this process, which costs less than another one; `git rev-list` walks a large one.

use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use shared::git::Oid;

use crate::git::error::GitError;
use crate::git::error::ended;
use crate::repositories::error::RepositoryError;
use crate::repositories::ingest::killed;
use crate::repositories::kept::KeptParts;
use crate::repositories::layout::in_background;
use crate::repositories::marks::Marks;
use crate::repositories::objects::Objects;
use crate::repositories::objects::ReadError;
use crate::repositories::pack::IngestLimits;
use crate::repositories::repository::Repository;

/// Some packs, and the repository that they are for.
pub(super) struct NewPacks {
    object_dir: PathBuf,
    repository: Repository,
    kept: Option<KeptParts>,
}

impl NewPacks {
    /// Takes the packs of an object directory, for a repository that need not be on disk, or for its kept parts.
    pub(super) fn new(object_dir: &Path, repository: &Repository, kept: Option<&KeptParts>) -> Self {
        Self {
            object_dir: object_dir.to_owned(),
            repository: repository.clone(),
            kept: kept.cloned(),
        }
    }

    /// Whether the packs have an object that is already kept aside.
    pub(super) async fn repeat_kept(&self) -> Result<bool, ReadError> {
        let Some(kept) = &self.kept else { return Ok(false) };
        let (object_dir, kept) = (self.object_dir.clone(), kept.object_dir.clone());
        in_background(move || Marks::open(&object_dir)?.meet(&kept)).await
    }

    /// Whether the packs have an object that neither `tips` reach nor the repository has.
    pub(super) async fn have_surplus(
        &self,
        tips: &BTreeSet<Oid>,
        limits: &IngestLimits,
    ) -> Result<bool, RepositoryError> {
        let (object_dir, of_repository) = (self.object_dir.clone(), self.repository.object_dir());
        let own_tips = tips.clone();
        let walked = in_background(move || walk(object_dir, of_repository, &own_tips)).await?;
        match walked {
            Walked::Surplus(has_surplus) => Ok(has_surplus),
            Walked::TooMuch(marks) => self.ask_git(marks, tips, limits).await,
        }
    }

    async fn ask_git(
        &self,
        mut marks: Marks,
        tips: &BTreeSet<Oid>,
        limits: &IngestLimits,
    ) -> Result<bool, RepositoryError> {
        let store = self.repository.store();
        let place = match self.repository.exists().await? {
            true => self.repository.path().to_owned(),
            false => store.layout().empty_repository(),
        };
        let max = limits.duration_max;
        let kept = self.kept.as_ref();
        let mut alternates = vec![self.object_dir.clone()];
        alternates.extend(kept.map(|kept| kept.object_dir.clone()));
        let mut rev_list = store
            .git()
            .invoke("rev-list")
            .repository(&place)
            .alternates(&alternates)
            .arg("--objects")
            .arg("--no-object-names")
            .arg("--stdin")
            .limits(limits.child_limits())
            .spawn(Stdio::piped())?
            .demoted_when_long();
        rev_list.be_nice(limits.niceness);
        let stdout = rev_list.stdout.take();
        let here = tips.iter().filter(|tip| marks.have(tip));
        let revs = self.repository.revisions_lacking(here, kept).await?;
        let (walked, marked) = tokio::join!(rev_list.output(revs.as_bytes(), 0, max), marks.mark_printed(stdout));
        marked.map_err(GitError::run("rev-list"))?;
        let walked = ended("rev-list", max, walked)?;
        if let Some(error) = killed(walked.status) {
            return Err(error.into());
        }
        if !walked.status.success() {
            let message = walked.stderr.summary();
            return Err(RepositoryError::Incomplete { message });
        }
        let of_repository = self.repository.object_dir();
        Ok(in_background(move || marks.leave_surplus(of_repository)).await?)
    }
}

/// How far a walk in this process came.
enum Walked {
    /// To the end: whether there are additional objects.
    Surplus(bool),
    /// There is too much; nothing is marked.
    TooMuch(Marks),
}

fn walk(object_dir: PathBuf, of_repository: PathBuf, tips: &BTreeSet<Oid>) -> Result<Walked, ReadError> {
    let mut marks = Marks::open(&object_dir)?;
    if marks.len() > WALKED_MAX {
        return Ok(Walked::TooMuch(marks));
    }
    let objects = Objects::open(&[object_dir], WALK_CPU_MAX)?;
    let mut next: Vec<Oid> = tips.iter().copied().filter(|tip| marks.mark(tip)).collect();
    while let Some(oid) = next.pop() {
        let Some(links) = objects.links(oid)? else {
            marks.clear();
            return Ok(Walked::TooMuch(marks));
        };
        // An object that is not in the pack is in the repository, with everything that it needs.
        next.extend(links.into_iter().filter(|linked| marks.mark(linked)));
    }
    Ok(Walked::Surplus(marks.leave_surplus(of_repository)?))
}

/// Most objects of a pack that is walked in this process.
const WALKED_MAX: usize = 10_000;

/// What that may take: a walk beyond it costs more than a process.
const WALK_CPU_MAX: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repositories::quarantine::Quarantine;
    use crate::repositories::spool::Spool;
    use crate::repositories::testing::World;

    async fn packed(world: &World, from: &Repository, into: &Repository, revs: &str) -> Quarantine {
        let args = ["pack-objects", "--revs", "--stdout", "--thin", "--quiet"];
        let pack = world.git(from, &args, revs.as_bytes()).await;
        let (quarantine, limits) = (Quarantine::open(into).await.unwrap(), IngestLimits::default());
        let mut spool = Spool::new(world.store.layout().clone(), limits);
        spool.push(&pack).await.unwrap();
        quarantine.ingest(None, spool, &limits).await.unwrap();
        quarantine
    }

    #[tokio::test]
    async fn what_no_tip_reaches_is_found_by_both_walks() {
        for world in World::of_every_git().await {
            let (from, into) = (world.repository("from"), world.repository("into"));
            let [one, two] = world.two_commits(&from).await;
            let tag = world.tag(&from, two, "commit").await;
            let other = world.commit(&from, "other", &[]).await;
            into.create().await.unwrap();
            let first = packed(&world, &from, &into, &format!("{one}\n")).await;
            first.migrate().await.unwrap();
            for (story, revs, tips, has_surplus) in [
                ("exactly", format!("{two}\n^{one}\n"), vec![two], false),
                ("a tag", format!("{tag}\n^{one}\n"), vec![tag], false),
                ("what is here already", format!("{two}\n"), vec![two], false),
                ("a tag besides", format!("{tag}\n^{one}\n"), vec![two], true),
                (
                    "another commit besides",
                    format!("{two}\n{other}\n^{one}\n"),
                    vec![two],
                    true,
                ),
                ("both", format!("{two}\n{other}\n^{one}\n"), vec![two, other], false),
                ("a tip that did not come", format!("{two}\n^{one}\n"), vec![one], true),
            ] {
                let quarantine = packed(&world, &from, &into, &revs).await;
                let packs = NewPacks::new(quarantine.object_dir(), &into, None);
                let tips = tips.into_iter().collect();
                let marks = Marks::open(&packs.object_dir).unwrap();

                let walked = packs.have_surplus(&tips, &IngestLimits::default()).await.unwrap();
                let by_git = packs.ask_git(marks, &tips, &IngestLimits::default()).await.unwrap();

                assert_eq!((walked, by_git), (has_surplus, has_surplus), "{story}");
            }
        }
    }

    #[tokio::test]
    async fn nothing_is_besides_in_a_virtual_repository_or_an_empty_pack() {
        let world = World::new().await;
        let (from, into) = (world.repository("from"), world.repository("into"));
        let [_, two] = world.two_commits(&from).await;
        for (revs, tips) in [(format!("{two}\n"), [two].into()), (String::new(), BTreeSet::new())] {
            let quarantine = packed(&world, &from, &into, &revs).await;
            let packs = NewPacks::new(quarantine.object_dir(), &into, None);
            let marks = Marks::open(&packs.object_dir).unwrap();

            assert!(!packs.have_surplus(&tips, &IngestLimits::default()).await.unwrap());
            assert!(!packs.ask_git(marks, &tips, &IngestLimits::default()).await.unwrap());
        }
    }
}
