//! Keeping the packs of a repository fast to read: small ones are combined, and a multi-pack index with bitmaps, and a
//! commit-graph, are written over all of them. No large pack is written again for it, so what repositories share stays
//! shared. What no ref reaches comes into packs of its own, which go when they are old and nothing needs them
//! (removable.rs).
//!
//! All that takes time is done in a quarantine, in which the packs of the repository are linked; a crash leaves that to
//! be swept, and a git that outlives its gateway writes nothing elsewhere. Under the lock finished files are renamed
//! into the repository. A pack whose objects are in another one now stays for a while, marked by a file `.replaced`
//! beside it: a git that has begun to read may have opened its index and not yet the pack.
//!
//! Nothing becomes fetchable by it that was not: only objects of the repository itself are packed.

mod found;
mod plan;
mod removable;
mod switch;
mod workshop;

use shared::nip34::Coordinate;

use crate::repositories::LockQueue;
use crate::repositories::Repositories;
use crate::repositories::error::RepositoryError;
use crate::repositories::layout::in_background;
use crate::repositories::maintenance::found::found_packs;
pub(crate) use crate::repositories::maintenance::plan::Effort;
use crate::repositories::maintenance::plan::FoundPacks;
use crate::repositories::maintenance::plan::MaintenancePlan;
pub(crate) use crate::repositories::maintenance::plan::MaintenanceSettings;
use crate::repositories::maintenance::plan::plan;
pub(crate) use crate::repositories::maintenance::removable::Removable;
use crate::repositories::maintenance::removable::find_removable;
pub(super) use crate::repositories::maintenance::switch::RenewedPacks;
pub(super) use crate::repositories::maintenance::switch::remove_replaced;
use crate::repositories::maintenance::workshop::Workshop;
use crate::repositories::repository::Repository;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Maintained {
    /// Refs that had files of their own.
    pub(crate) refs: usize,
    /// Packs of which one was made.
    pub(crate) combined: usize,
    /// Packs that the new index has; none: there is no new one.
    pub(crate) indexed: usize,
    /// Packs that nobody reads any more, and that are gone.
    pub(crate) removed: usize,
    /// Packs of objects that no ref reaches, which others have no more.
    pub(crate) separated: usize,
}

impl Repositories {
    /// Maintains the packs of a repository as needed. Takes its lock only at the end.
    ///
    /// # Errors
    /// [`RepositoryError`]; the repository is as before then, or has some of it.
    pub(crate) async fn maintain(
        &self,
        coordinate: &Coordinate,
        effort: Effort,
    ) -> Result<Maintained, RepositoryError> {
        let repository = self.at(coordinate);
        let path = repository.object_dir();
        let found = in_background(move || found_packs(&path)).await?;
        let plan = plan(&found, effort, &self.maintenance.get());
        let refs = repository.loose_refs_to_pack().await?;
        if refs > 0 {
            let locked = self.lock_in(LockQueue::Strangers, &[coordinate.clone()].into()).await?;
            locked.repository(coordinate)?.pack_refs().await?;
        }
        let removed = match plan.remove.is_empty() {
            true => 0,
            false => {
                let locked = self.lock_in(LockQueue::Strangers, &[coordinate.clone()].into()).await?;
                let repository = locked.repository(coordinate)?;
                repository.remove_replaced_packs(plan.remove.clone()).await?
            }
        };
        let renewed = match plan.is_indexed_anew || plan.is_sorted {
            true => self.renew(&repository, &found, &plan).await?,
            false => Maintained::default(),
        };
        Ok(Maintained {
            refs,
            removed,
            ..renewed
        })
    }

    /// Finds unreachable objects that can be removed; `None`: there are none.
    pub(crate) async fn find_removable(&self, coordinate: &Coordinate) -> Result<Option<Removable>, RepositoryError> {
        find_removable(self.at(coordinate), &self.maintenance.get()).await
    }

    async fn renew(
        &self,
        repository: &Repository,
        found: &FoundPacks,
        plan: &MaintenancePlan,
    ) -> Result<Maintained, RepositoryError> {
        let coordinate = repository.coordinate();
        let settings = self.maintenance.get();
        let workshop = Workshop::open(repository, found, &settings).await?;
        let sorted = match plan.is_sorted {
            true => workshop.sort(found).await?,
            false => None,
        };
        if sorted.is_none() && !plan.is_indexed_anew {
            return Ok(Maintained::default());
        }
        let separation = sorted.as_ref().map(|sorted| &sorted.separation);
        let made_anew = separation.map_or(&plan.combine, |separation| &separation.split);
        if !self.disk_use.has_room(found.bytes_of(made_anew)).await? {
            tracing::warn!(repo.coordinate = %coordinate, "no room on the disk to maintain a repository");
            return Ok(Maintained::default());
        }
        let is_separated = sorted.is_some();
        let renewed = workshop.renew(found, plan, sorted).await?;
        let maintained = Maintained {
            combined: if is_separated { 0 } else { renewed.replaced.len() },
            indexed: renewed.indexed.len(),
            separated: renewed.unreachable.difference(&found.unreachable).count(),
            ..Maintained::default()
        };
        let locked = self.lock_in(LockQueue::Strangers, &[coordinate.clone()].into()).await?;
        let is_in_place = locked.repository(coordinate)?.switch_packs(renewed).await?;
        Ok(if is_in_place { maintained } else { Maintained::default() })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::collections::BTreeSet;
    use std::fs;
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;
    use std::path::PathBuf;
    use std::time::Duration;

    use shared::git::Oid;

    use super::*;
    use crate::repositories::copy::share_objects;
    use crate::repositories::maintenance::found::contained_packs;
    use crate::repositories::pack::IngestLimits;
    use crate::repositories::packs::REPLACED;
    use crate::repositories::packs::packs_in;
    use crate::repositories::testing::World;
    use crate::repositories::testing::copy_objects;

    fn repositories(world: &World, keep_replaced: Duration) -> Repositories {
        let settings = MaintenanceSettings {
            keep_replaced,
            ..MaintenanceSettings::DEFAULT
        };
        Repositories::new(world.store.clone(), IngestLimits::default()).with_maintenance(settings)
    }

    /// Makes a repository that got each of some commits by a push of its own, one after the other.
    async fn of_many_pushes(world: &World, name: &str) -> (Repository, Vec<Oid>) {
        let (work, repository) = (world.repository("work"), world.repository(name));
        repository.create().await.unwrap();
        let mut commits: Vec<Oid> = Vec::new();
        for number in 0..12 {
            let parents: Vec<Oid> = commits.last().copied().into_iter().collect();
            let commit = world.commit(&work, &format!("{name} {number}"), &parents).await;
            copy_objects(&[work.object_dir()], &[commit], &repository, &IngestLimits::default())
                .await
                .unwrap();
            let set = ["update-ref", "refs/heads/a", &commit.to_string()].map(str::to_owned);
            let set: Vec<&str> = set.iter().map(String::as_str).collect();
            world.git(&repository, &set, b"").await;
            commits.push(commit);
        }
        (repository, commits)
    }

    /// Whether git and gix find every commit, with all that it needs.
    async fn assert_whole(world: &World, repository: &Repository, commits: &[Oid]) {
        world.git(repository, &["fsck", "--strict"], b"").await;
        world.git(repository, &["multi-pack-index", "verify"], b"").await;
        let count = world.git(
            repository,
            &["rev-list", "--count", "--use-bitmap-index", "refs/heads/a"],
            b"",
        );
        assert_eq!(
            String::from_utf8(count.await).unwrap().trim(),
            commits.len().to_string()
        );
        let here: BTreeMap<_, _> = repository.object_kinds(commits).await.unwrap();
        assert_eq!(here.len(), commits.len());
    }

    fn files(repository: &Repository, extension: &str) -> usize {
        let entries = fs::read_dir(repository.object_dir().join("pack")).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths
            .filter(|path| path.extension().is_some_and(|ext| ext == extension))
            .count()
    }

    #[tokio::test]
    async fn many_packs_become_one_with_an_index_and_the_old_ones_go_later() {
        for world in World::of_every_git().await {
            let (repository, commits) = of_many_pushes(&world, "a").await;
            let packs = World::packs(&repository.object_dir()).len();
            let (now, later) = (
                repositories(&world, Duration::MAX),
                repositories(&world, Duration::ZERO),
            );

            let done = now.maintain(repository.coordinate(), Effort::All).await.unwrap();

            assert_eq!((done.combined, done.indexed, done.removed), (packs, 1, 0));
            assert_eq!(
                World::packs(&repository.object_dir()).len(),
                packs + 1,
                "whoever reads them has them"
            );
            assert_eq!((files(&repository, REPLACED), files(&repository, "bitmap")), (packs, 1));
            assert!(repository.object_dir().join("info/commit-graph").exists());
            assert_whole(&world, &repository, &commits).await;
            let again = now.maintain(repository.coordinate(), Effort::All).await.unwrap();
            assert_eq!(again, Maintained::default());

            let done = later.maintain(repository.coordinate(), Effort::All).await.unwrap();
            assert_eq!((done.combined, done.indexed, done.removed), (0, 0, packs));
            assert_eq!(
                (
                    World::packs(&repository.object_dir()).len(),
                    files(&repository, REPLACED)
                ),
                (1, 0)
            );
            assert_whole(&world, &repository, &commits).await;
            assert_eq!(world.quarantine_entries(), 0);
        }
    }

    #[tokio::test]
    async fn what_was_cut_off_at_any_step_is_made_good_by_the_next() {
        let world = World::new().await;
        let (repository, commits) = of_many_pushes(&world, "a").await;
        let whole = repositories(&world, Duration::ZERO);
        let objects = repository.object_dir();
        let found = found_packs(&objects).unwrap();
        let plan = plan(&found, Effort::All, &MaintenanceSettings::DEFAULT);
        let settings = MaintenanceSettings::DEFAULT;
        let renewed = async || {
            let workshop = Workshop::open(&repository, &found, &settings).await.unwrap();
            workshop.renew(&found, &plan, None).await.unwrap()
        };

        // Killed after the pack was moved, after the bitmaps, and while packs were marked and removed.
        let half = renewed().await;
        crate::repositories::packs::move_packs(half.quarantine.object_dir(), &objects).unwrap();
        fs::write(
            objects.join("pack/multi-pack-index-12.bitmap"),
            "of an index that is not there",
        )
        .unwrap();
        drop(half);
        whole.maintain(repository.coordinate(), Effort::All).await.unwrap();
        assert_whole(&world, &repository, &commits).await;
        assert_eq!(files(&repository, "bitmap"), 1);
        let first = &found.packs[0].name;
        fs::remove_file(objects.join("pack").join(first).with_extension("idx")).unwrap();

        whole.maintain(repository.coordinate(), Effort::All).await.unwrap();
        assert_eq!(files(&repository, REPLACED), 0);
        assert_whole(&world, &repository, &commits).await;
    }

    /// It was created again, from a pack and nothing else: nobody could create it any more; and in one that was pushed
    /// again the objects of the old one became fetchable.
    #[tokio::test]
    async fn what_was_made_of_a_repository_that_is_gone_does_not_move_in() {
        for world in World::of_every_git().await {
            let (repository, commits) = of_many_pushes(&world, "a").await;
            let settings = MaintenanceSettings::DEFAULT;
            let found = found_packs(&repository.object_dir()).unwrap();
            let plan = plan(&found, Effort::All, &settings);
            let renewed = async || {
                let workshop = Workshop::open(&repository, &found, &settings).await.unwrap();
                workshop.renew(&found, &plan, None).await.unwrap()
            };
            let [one_gone, gone, anew] = [renewed().await, renewed().await, renewed().await];
            let objects = repository.object_dir();
            for extension in ["idx", "pack"] {
                let first = objects.join("pack").join(&found.packs[0].name);
                fs::remove_file(first.with_extension(extension)).unwrap();
            }

            assert!(!one_gone.put_in_place(&objects).unwrap());
            fs::remove_dir_all(repository.path()).unwrap();
            assert!(!gone.put_in_place(&objects).unwrap());
            assert!(!repository.path().exists());
            repository.create().await.unwrap();
            assert!(!anew.put_in_place(&objects).unwrap());

            assert!(repository.object_kinds(&commits).await.unwrap().is_empty());
        }
    }

    #[tokio::test]
    async fn a_pack_goes_only_if_all_that_it_has_is_in_the_other() {
        let world = World::new().await;
        let (repository, _) = of_many_pushes(&world, "a").await;
        let dir = repository.object_dir().join("pack");
        let names: BTreeSet<PathBuf> = packs_in(&dir).unwrap();
        let (first, last) = (names.first().unwrap(), names.last().unwrap());

        assert!(contained_packs(&dir, &names, &[first.clone()].into()).is_empty());
        assert!(contained_packs(&dir, &names, &["pack-of-nothing".into()].into()).is_empty());
        // Another name for one of them.
        let copy = Path::new("pack-1234");
        for extension in ["pack", "idx"] {
            let [from, to] = [last.as_path(), copy].map(|name| dir.join(name).with_extension(extension));
            fs::copy(from, to).unwrap();
        }
        assert_eq!(
            contained_packs(&dir, &names, &[copy.to_owned()].into()),
            [last.clone()].into()
        );
    }

    /// It was tried again after each push, for an hour at a time, and all others waited.
    #[tokio::test]
    async fn packs_that_cannot_be_combined_are_indexed_and_left_out_for_a_day() {
        let world = World::whose_git_can_be_killed().await;
        let (repository, commits) = of_many_pushes(&world, "a").await;
        let all = repositories(&world, Duration::ZERO);
        world.fail_git("pack-objects", "exit 1");

        let done = all.maintain(repository.coordinate(), Effort::All).await.unwrap();

        assert_eq!((done.combined, done.indexed), (0, commits.len()));
        assert_whole(&world, &repository, &commits).await;
        let (given_up, other) = (repository.coordinate(), world.repository("other"));
        all.touched().note(given_up);
        all.touched().note(other.coordinate());
        assert_eq!(all.touched().next().await, *other.coordinate());
        all.touched().note_daily(given_up);
        assert_eq!(all.touched().next().await, *given_up);
    }

    #[tokio::test]
    async fn refs_that_came_one_by_one_long_ago_are_packed() {
        let world = World::new().await;
        let (repository, commits) = of_many_pushes(&world, "a").await;
        let all = repositories(&world, Duration::ZERO);
        all.maintain(repository.coordinate(), Effort::All).await.unwrap();
        let tags = (0..100).map(|number| format!("create refs/tags/t{number} {}\n", commits[0]));
        let script: String = tags.collect();
        world
            .git(&repository, &["update-ref", "--stdin"], script.as_bytes())
            .await;
        let before = repository.refs().await.unwrap();

        let done = all
            .maintain(repository.coordinate(), Effort::WhereItPays)
            .await
            .unwrap();

        assert_eq!(done.refs, 101);
        assert!(!repository.path().join("refs/tags").exists());
        assert_eq!(repository.refs().await.unwrap(), before);
    }

    /// The refs had moved on to a commit that was not among the packs listed, and there were no bitmaps.
    #[tokio::test]
    async fn what_is_pushed_meanwhile_keeps_nothing_from_being_indexed() {
        for world in World::of_every_git().await {
            let (repository, commits) = of_many_pushes(&world, "a").await;
            let settings = MaintenanceSettings::DEFAULT;
            let mut found = found_packs(&repository.object_dir()).unwrap();
            let is_of_tip = |name: &PathBuf| {
                let index = repository.object_dir().join("pack").join(name).with_extension("idx");
                let index = gix::odb::pack::index::File::at(index, gix::hash::Kind::Sha1).unwrap();
                index.lookup(gix::ObjectId::Sha1(*commits[11].as_bytes())).is_some()
            };
            found.packs.retain(|pack| !is_of_tip(&pack.name));
            let plan = plan(&found, Effort::All, &settings);

            let workshop = Workshop::open(&repository, &found, &settings).await.unwrap();
            let renewed = workshop.renew(&found, &plan, None).await.unwrap();
            assert!(renewed.put_in_place(&repository.object_dir()).unwrap());

            assert_eq!(files(&repository, "bitmap"), 1);
            assert_whole(&world, &repository, &commits).await;
        }
    }

    #[tokio::test]
    async fn packs_that_repositories_share_stay_shared() {
        for world in World::of_every_git().await {
            let (one, commits) = of_many_pushes(&world, "one").await;
            let two = world.repository("two");
            two.create().await.unwrap();
            assert!(share_objects(&one, &two).await.unwrap());
            let tip = commits.last().unwrap().to_string();
            world.git(&two, &["update-ref", "refs/heads/a", &tip], b"").await;
            let all = repositories(&world, Duration::ZERO);

            for repository in [&one, &two, &one, &two] {
                all.maintain(repository.coordinate(), Effort::All).await.unwrap();

                assert_whole(&world, repository, &commits).await;
                let packs = World::packs(&repository.object_dir());
                let links = packs.iter().map(|pack| fs::metadata(pack).unwrap().nlink());
                assert!(links.eq(vec![2; packs.len()]));
                assert_eq!(files(repository, "bitmap"), 1);
            }
        }
    }
}
