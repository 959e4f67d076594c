//! Whether objects that no ref reaches can go, when they have been kept for as long as they are: nothing that stays may
//! need them, because whatever is in a repository counts as being there with all that it refers to.
//!
//! The remaining objects are read outside the lock. Under it only names are compared: a new pack, or a newly wanted
//! tip, means that something else must be read.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::SystemTime;

use shared::git::Oid;

use crate::repositories::copy::holds_only_packs;
use crate::repositories::error::RepositoryError;
use crate::repositories::layout::FileError;
use crate::repositories::layout::failed;
use crate::repositories::layout::in_background;
use crate::repositories::maintenance::found::ages;
use crate::repositories::maintenance::found::found_packs;
use crate::repositories::maintenance::found::indexed_packs;
use crate::repositories::maintenance::plan::MaintenanceSettings;
use crate::repositories::maintenance::workshop::Workshop;
use crate::repositories::marks::Marks;
use crate::repositories::objects::Objects;
use crate::repositories::objects::ReadError;
use crate::repositories::pack_changes::remove_all;
use crate::repositories::packs::REPLACED;
use crate::repositories::packs::UNREACHABLE;
use crate::repositories::packs::packs_in;
use crate::repositories::refs::read_refs;
use crate::repositories::repository::Repository;
use crate::repositories::staging::object_dirs_aside;

/// Packs of unreachable objects whose time is over, and those of which no object needs any of theirs.
#[derive(Debug)]
pub(crate) struct Removable {
    due: BTreeSet<PathBuf>,
    /// Of the repository and beside it.
    read: BTreeSet<PathBuf>,
}

impl Removable {
    /// Removes them, unless a ref or somebody else wants one now, and returns how many packs. `None`: something has
    /// come that was not read. Call it under the lock of the repository. Blocks.
    ///
    /// # Errors
    /// [`ReadError`]; all have gone or none, as soon as the repository is locked next.
    pub(in crate::repositories) fn remove(
        &self,
        repository: &Repository,
        wanted: &BTreeSet<Oid>,
    ) -> Result<Option<usize>, ReadError> {
        let objects = repository.object_dir();
        let pack_dir = objects.join("pack");
        let marked = ages(UNREACHABLE, &pack_dir)?
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        let is_read = packs_to_read(repository, &self.due)?.is_subset(&self.read);
        if !is_read || !self.due.is_subset(&marked) || !can_be_read(&objects)? {
            return Ok(None);
        }
        let refs = read_refs(repository.path(), None)?
            .map(|read| read.snapshot.refs)
            .unwrap_or_default();
        let sides = Sides::of(&pack_dir, &packs_in(&pack_dir)?, &self.due)?;
        let staged = object_dirs_aside(repository)?;
        let staged = staged.iter().filter_map(|dir| dir.file_name()?.to_str()?.parse().ok());
        let mut tips = refs.into_values().chain(wanted.iter().copied()).chain(staged);
        let is_wanted = tips.any(|tip| sides.would_miss(&tip));
        // Readers of the index look for them there.
        if is_wanted || !indexed_packs(&pack_dir).is_disjoint(&self.due) {
            return Ok(Some(0));
        }
        remove_all(repository, &self.due)?;
        Ok(Some(self.due.len()))
    }
}

/// Determines whether anything needs the unreachable objects of a repository whose time is over; `None`: there are
/// none, or they are needed, or that cannot be determined.
pub(super) async fn find_removable(
    repository: Repository,
    settings: &MaintenanceSettings,
) -> Result<Option<Removable>, RepositoryError> {
    let (objects, keep) = (repository.object_dir(), settings.keep_unreachable);
    let due = in_background(move || {
        let marked = ages(UNREACHABLE, &objects.join("pack"))?.into_iter();
        let due: BTreeSet<_> = marked.filter(|(_, age)| *age >= keep).map(|(name, _)| name).collect();
        Ok::<_, FileError>((!due.is_empty() && can_be_read(&objects)?).then_some(due))
    });
    let Some(due) = due.await? else { return Ok(None) };
    let objects = repository.object_dir();
    let found = in_background(move || found_packs(&objects)).await?;
    let workshop = Workshop::open(&repository, &found, settings).await?;
    let Some(marks) = workshop.mark_reached(&found).await? else {
        return Ok(None);
    };
    let (names, pack_dir) = (found.names(), repository.object_dir().join("pack"));
    let all_due = due.clone();
    let removable = in_background(move || read_others(&repository, due, &names, &marks)).await?;
    if removable.is_none() {
        in_background(move || postpone(&pack_dir, &all_due, keep)).await?;
    }
    Ok(removable)
}

/// Lets packs that are needed wait for a quarter of their time more: whether they still are costs a walk.
fn postpone(pack_dir: &Path, names: &BTreeSet<PathBuf>, keep: Duration) -> Result<(), FileError> {
    let since = SystemTime::now() - keep * 3 / 4;
    for name in names {
        let marker = pack_dir.join(name).with_extension(UNREACHABLE);
        // It may be gone by now.
        if let Ok(file) = File::open(&marker) {
            file.set_modified(since).map_err(failed("date", &marker))?;
        }
    }
    Ok(())
}

/// The packs that are due, and those that stay.
struct Sides {
    due: Marks,
    others: Marks,
}

impl Sides {
    fn of(pack_dir: &Path, names: &BTreeSet<PathBuf>, due: &BTreeSet<PathBuf>) -> Result<Self, ReadError> {
        Ok(Self {
            due: Marks::of(pack_dir, names.intersection(due).cloned().collect())?,
            others: Marks::of(pack_dir, names.difference(due).cloned().collect())?,
        })
    }

    /// Whether an object would be removed with those that are due.
    fn would_miss(&self, oid: &Oid) -> bool {
        self.due.have(oid) && !self.others.have(oid)
    }
}

/// Whether all objects of a repository are in packs, and each pack has some that are nowhere else.
fn can_be_read(object_dir: &Path) -> Result<bool, FileError> {
    Ok(holds_only_packs(object_dir)? && ages(REPLACED, &object_dir.join("pack"))?.is_empty())
}

/// Reads the packs with these names, in which what refs reach is marked, and those beside the repository.
fn read_others(
    repository: &Repository,
    due: BTreeSet<PathBuf>,
    names: &BTreeSet<PathBuf>,
    marks: &Marks,
) -> Result<Option<Removable>, ReadError> {
    let pack_dir = repository.object_dir().join("pack");
    let others: BTreeSet<PathBuf> = names.difference(&due).cloned().collect();
    let sides = Sides::of(&pack_dir, names, &due)?;
    if marks.list(&due, true).any(|oid| sides.would_miss(&oid)) {
        return Ok(None);
    }
    // The walk has followed the reachable objects. For the unreachable ones, each object itself names those that it
    // needs.
    let mut unread = vec![(repository.object_dir(), marks.list(&others, false).collect::<Vec<_>>())];
    let mut read: BTreeSet<PathBuf> = others.iter().map(|name| pack_dir.join(name)).collect();
    for dir in object_dirs_aside(repository)? {
        let pack_dir = dir.join("pack");
        let names = packs_in(&pack_dir)?;
        read.extend(names.iter().map(|name| pack_dir.join(name)));
        unread.push((dir, Marks::of(&pack_dir, names.clone())?.list(&names, false).collect()));
    }
    for (dir, oids) in unread {
        let objects = Objects::open(&[dir], READ_CPU_MAX)?;
        for oid in oids {
            // What costs too much to read may need anything.
            if objects
                .links(oid)?
                .is_none_or(|links| links.iter().any(|oid| sides.would_miss(oid)))
            {
                return Ok(None);
            }
        }
    }
    Ok(Some(Removable { due, read }))
}

/// Returns the packs of a repository, without those that are due, and all that are beside it.
fn packs_to_read(repository: &Repository, due: &BTreeSet<PathBuf>) -> Result<BTreeSet<PathBuf>, FileError> {
    let pack_dir = repository.object_dir().join("pack");
    let names = packs_in(&pack_dir)?;
    let mut packs: BTreeSet<PathBuf> = names.difference(due).map(|name| pack_dir.join(name)).collect();
    for dir in object_dirs_aside(repository)? {
        let pack_dir = dir.join("pack");
        packs.extend(packs_in(&pack_dir)?.iter().map(|name| pack_dir.join(name)));
    }
    Ok(packs)
}

/// What reading the remaining objects may take: some ten million that git has packed.
const READ_CPU_MAX: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use std::fs;

    use nostr::event::EventId;
    use shared::rules::SourceTag;
    use shared::rules::Staged;

    use super::*;
    use crate::repositories::Repositories;
    use crate::repositories::generation::Generation;
    use crate::repositories::maintenance::plan::Effort;
    use crate::repositories::pack::IngestLimits;
    use crate::repositories::quarantine::Quarantine;
    use crate::repositories::received::Received;
    use crate::repositories::spool::Spool;
    use crate::repositories::testing::World;
    use crate::repositories::testing::copy_objects;

    /// A repository with a branch and a commit beside it that no ref reaches any more, set apart.
    struct Scene {
        world: World,
        all: Repositories,
        /// Where commits are made.
        work: Repository,
        repository: Repository,
        reached: [Oid; 2],
        unreached: Oid,
    }

    impl Scene {
        async fn of(world: World) -> Self {
            let settings = MaintenanceSettings {
                keep_replaced: Duration::ZERO,
                keep_unreachable: Duration::ZERO,
                ..MaintenanceSettings::DEFAULT
            };
            let all = Repositories::new(world.store.clone(), IngestLimits::default()).with_maintenance(settings);
            let (work, repository) = (world.repository("work"), world.repository("a"));
            repository.create().await.unwrap();
            let reached @ [one, two] = world.two_commits(&work).await;
            let unreached = world.commit(&work, "unreached", &[one]).await;
            let scene = Self {
                world,
                all,
                work,
                repository,
                reached,
                unreached,
            };
            scene.push("a", two).await;
            scene.push("b", unreached).await;
            // Of both one pack is made, and of that two.
            scene.maintain().await;
            scene
                .world
                .git(&scene.repository, &["update-ref", "-d", "refs/heads/b"], b"")
                .await;
            scene.maintain().await;
            scene.maintain().await;
            scene
        }

        async fn new() -> Self {
            Self::of(World::new().await).await
        }

        async fn push(&self, branch: &str, tip: Oid) {
            let from = [self.work.object_dir()];
            copy_objects(&from, &[tip], &self.repository, &self.all.limits())
                .await
                .unwrap();
            self.set(branch, tip).await;
        }

        async fn set(&self, branch: &str, tip: Oid) {
            let (name, tip) = (format!("refs/heads/{branch}"), tip.to_string());
            self.world
                .git(&self.repository, &["update-ref", &name, &tip], b"")
                .await;
        }

        async fn maintain(&self) {
            let maintained = self.all.maintain(self.repository.coordinate(), Effort::All).await;
            maintained.unwrap();
        }

        async fn find(&self) -> Option<Removable> {
            self.all.find_removable(self.repository.coordinate()).await.unwrap()
        }

        async fn remove(&self, found: Removable, wanted: &[Oid]) -> Option<usize> {
            let locked = self
                .all
                .lock(&[self.repository.coordinate().clone()].into())
                .await
                .unwrap();
            let locked = locked.repository(self.repository.coordinate()).unwrap();
            locked
                .remove_unreachable(found, wanted.iter().copied().collect())
                .await
                .unwrap()
        }

        /// Checks a push of what `revs` name.
        async fn ingested(&self, revs: &str) -> Quarantine {
            let args = ["pack-objects", "--revs", "--stdout", "--thin", "--quiet"];
            let pack = self.world.git(&self.work, &args, revs.as_bytes()).await;
            let quarantine = Quarantine::open(&self.repository).await.unwrap();
            let mut spool = Spool::new(self.world.store.layout().clone(), IngestLimits::default());
            spool.push(&pack).await.unwrap();
            quarantine.ingest(None, spool, &self.all.limits()).await.unwrap();
            quarantine
        }

        async fn is_here(&self, oid: Oid) -> bool {
            !self.repository.object_kinds(&[oid]).await.unwrap().is_empty()
        }

        async fn assert_whole(&self) {
            self.world.git(&self.repository, &["fsck", "--strict"], b"").await;
            self.world
                .git(&self.repository, &["multi-pack-index", "verify"], b"")
                .await;
            let here = self.repository.object_kinds(&self.reached).await.unwrap();
            assert_eq!(here.len(), self.reached.len());
            assert_eq!(self.world.quarantine_entries(), 0);
        }

        fn pack_files(&self, extension: &str) -> Vec<PathBuf> {
            let entries = fs::read_dir(self.repository.object_dir().join("pack")).unwrap();
            let paths = entries.map(|entry| entry.unwrap().path());
            paths
                .filter(|path| path.extension().is_some_and(|ext| ext == extension))
                .collect()
        }
    }

    fn staged(scene: &Scene, commit_oid: Oid) -> Staged {
        Staged {
            coordinate: scene.repository.coordinate().clone(),
            event_id: EventId::from_hex(&"a".repeat(64)).unwrap(),
            commit_oid,
        }
    }

    #[tokio::test]
    async fn what_nothing_needs_goes_and_nothing_else_does() {
        for world in World::of_every_git().await {
            let scene = Scene::of(world).await;
            assert!(scene.is_here(scene.unreached).await, "for as long as it is kept");
            assert_eq!(
                (scene.pack_files("pack").len(), scene.pack_files(UNREACHABLE).len()),
                (2, 1)
            );
            let before = Generation::of(scene.repository.path()).unwrap();
            // A reader that has opened the pack can continue to read it.
            let objects = Objects::open(&[scene.repository.object_dir()], Duration::MAX).unwrap();
            assert!(objects.kind(scene.unreached).unwrap().is_some());

            let found = scene.find().await.unwrap();
            assert_eq!(scene.remove(found, &[]).await, Some(1));

            assert!(!scene.is_here(scene.unreached).await);
            assert_eq!(
                (scene.pack_files("pack").len(), scene.pack_files(UNREACHABLE).len()),
                (1, 0)
            );
            assert_ne!(Generation::of(scene.repository.path()).unwrap(), before);
            scene.assert_whole().await;
            assert_eq!(objects.links(scene.unreached).unwrap().unwrap().len(), 2);
            assert!(scene.find().await.is_none());
        }
    }

    #[tokio::test]
    async fn what_a_ref_an_event_or_a_staged_commit_names_by_then_stays() {
        let scene = Scene::new().await;
        let find = async || scene.find().await.unwrap();
        assert_eq!(
            scene.remove(find().await, &[scene.unreached]).await,
            Some(0),
            "a held state"
        );

        let found = find().await;
        scene.set("again", scene.unreached).await;
        assert_eq!(scene.remove(found, &[]).await, Some(0), "a ref");
        assert!(scene.find().await.is_none());
        scene
            .world
            .git(&scene.repository, &["update-ref", "-d", "refs/heads/again"], b"")
            .await;

        let found = find().await;
        let staged = staged(&scene, scene.unreached);
        {
            let locked = scene.all.lock(&[staged.coordinate.clone()].into()).await.unwrap();
            let received = scene.ingested("").await;
            let tips = (BTreeSet::new(), [staged.commit_oid].into());
            let received = Received::sort(received, None, BTreeSet::new(), tips, &scene.all.limits())
                .await
                .unwrap();
            let locked = locked.repository(&staged.coordinate).unwrap();
            let staged = std::slice::from_ref(&staged);
            locked.stage(staged, &received, SourceTag(1)).await.unwrap();
        }
        assert_eq!(
            scene.remove(found, &[]).await,
            Some(0),
            "a staged commit of which nothing came"
        );
        assert!(scene.is_here(scene.unreached).await);
        scene.assert_whole().await;
    }

    #[tokio::test]
    async fn what_builds_on_it_keeps_it_wherever_that_is() {
        for story in ["staged", "pushed meanwhile", "no ref reaches either"] {
            let scene = Scene::new().await;
            let child = scene.world.commit(&scene.work, "child", &[scene.unreached]).await;
            let quarantine = scene.ingested(&format!("{child}\n^{}\n", scene.unreached)).await;
            let found = scene.find().await.unwrap();

            if story == "staged" {
                let staged = staged(&scene, child);
                let locked = scene.all.lock(&[staged.coordinate.clone()].into()).await.unwrap();
                let tips = (BTreeSet::new(), [child].into());
                let received = Received::sort(quarantine, None, [child].into(), tips, &scene.all.limits()).await;
                let locked = locked.repository(&staged.coordinate).unwrap();
                locked
                    .stage(std::slice::from_ref(&staged), &received.unwrap(), SourceTag(1))
                    .await
                    .unwrap();
            } else {
                quarantine.migrate().await.unwrap();
            }
            if story == "pushed meanwhile" {
                scene.set("again", child).await;
            }

            assert_eq!(scene.remove(found, &[]).await, None, "{story}: it is to be read again");
            assert!(scene.find().await.is_none(), "{story}");
            assert!(scene.is_here(scene.unreached).await);
        }
    }

    #[tokio::test]
    async fn a_push_that_was_checked_with_what_has_gone_moves_in_only_if_it_is_whole_without() {
        let scene = Scene::new().await;
        let child = scene.world.commit(&scene.work, "child", &[scene.unreached]).await;
        let tips = BTreeSet::from([child]);
        let mut received = Vec::new();
        for revs in [
            format!("{child}\n^{}\n", scene.unreached),
            format!("{child}\n^{}\n", scene.reached[0]),
        ] {
            let quarantine = scene.ingested(&revs).await;
            let sorted_for = (tips.clone(), BTreeSet::new());
            let sorted = Received::sort(quarantine, None, tips.clone(), sorted_for, &scene.all.limits()).await;
            received.push(sorted.unwrap());
        }
        let found = scene.find().await.unwrap();
        assert_eq!(scene.remove(found, &[]).await, Some(1));
        let locked = scene
            .all
            .lock(&[scene.repository.coordinate().clone()].into())
            .await
            .unwrap();
        let locked = locked.repository(scene.repository.coordinate()).unwrap();
        let whole = received.pop().unwrap();

        let taken = locked.take_in(received.pop().unwrap(), &tips, None).await;
        assert!(matches!(taken, Err(RepositoryError::Incomplete { .. })), "{taken:?}");
        assert!(!scene.is_here(child).await);
        locked.take_in(whole, &tips, None).await.unwrap();

        assert!(scene.is_here(child).await && scene.is_here(scene.unreached).await);
        scene.set("again", child).await;
        scene.assert_whole().await;
    }

    #[tokio::test]
    async fn what_a_killed_gateway_left_or_another_one_does_is_no_harm() {
        let scene = Scene::new().await;
        let [first, second] = [scene.find().await.unwrap(), scene.find().await.unwrap()];
        // Killed after the first file.
        let marker = scene.pack_files(UNREACHABLE).remove(0);
        Generation::renew(&scene.repository).unwrap();
        fs::remove_file(marker.with_extension("idx")).unwrap();
        scene.maintain().await;
        scene.assert_whole().await;

        assert_eq!(scene.remove(first, &[]).await, Some(1));
        assert_eq!(scene.remove(second, &[]).await, None);

        assert_eq!(
            (scene.pack_files("pack").len(), scene.pack_files(UNREACHABLE).len()),
            (1, 0)
        );
        scene.assert_whole().await;
    }

    /// The rest of one pack may equal another pack that had been replaced: it would be removed with that.
    #[tokio::test]
    async fn a_pack_that_is_made_again_is_no_longer_replaced() {
        let scene = Scene::new().await;
        let kept = MaintenanceSettings {
            keep_replaced: Duration::MAX,
            keep_unreachable: Duration::MAX,
            ..MaintenanceSettings::DEFAULT
        };
        let all = scene.all.clone().with_maintenance(kept);
        let before = scene.pack_files("idx");
        scene.set("b", scene.unreached).await;
        let unreachable = scene.pack_files(UNREACHABLE);
        let touched = all.maintain(scene.repository.coordinate(), Effort::WhereItPays).await;
        touched.unwrap();
        assert!(scene.pack_files(UNREACHABLE).is_empty(), "refs reach it again");
        all.maintain(scene.repository.coordinate(), Effort::All).await.unwrap();
        assert_eq!(scene.pack_files(REPLACED).len(), 2);
        assert!(scene.find().await.is_none(), "what is replaced has the objects too");
        scene
            .world
            .git(&scene.repository, &["update-ref", "-d", "refs/heads/b"], b"")
            .await;

        all.maintain(scene.repository.coordinate(), Effort::All).await.unwrap();
        scene.maintain().await;

        assert_eq!(
            scene.pack_files("idx").iter().collect::<BTreeSet<_>>(),
            before.iter().collect()
        );
        assert_eq!(scene.pack_files(UNREACHABLE), unreachable);
        scene.assert_whole().await;
    }

    #[tokio::test]
    async fn a_repository_without_refs_is_emptied() {
        let scene = Scene::new().await;
        scene
            .world
            .git(&scene.repository, &["update-ref", "-d", "refs/heads/a"], b"")
            .await;
        scene.maintain().await;
        assert_eq!(scene.pack_files(UNREACHABLE).len(), 2);

        let found = scene.find().await.unwrap();
        assert_eq!(scene.remove(found, &[]).await, Some(2));

        assert!(scene.pack_files("pack").is_empty());
        scene.push("a", scene.reached[1]).await;
        scene.maintain().await;
        scene.assert_whole().await;
    }
    /// In a repository with many pushes nothing ever went.
    #[tokio::test]
    async fn what_is_set_apart_has_its_time_from_then_on() {
        let scene = Scene::new().await;
        let [marker] = scene.pack_files(UNREACHABLE).try_into().unwrap();
        let hour = Duration::from_secs(3600);
        let set_apart = File::open(&marker).unwrap();
        set_apart.set_modified(SystemTime::now() - hour).unwrap();
        let more = scene.world.commit(&scene.work, "more", &[scene.reached[1]]).await;
        scene.push("more", more).await;

        scene.maintain().await;

        assert!(fs::metadata(&marker).unwrap().modified().unwrap().elapsed().unwrap() >= hour);
    }
}
