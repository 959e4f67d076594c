//! Packs that are added to a repository together, or removed together. If one of several packs that build on each other
//! were there without the others, its objects would count as present and be incomplete. A note records such a change
//! while it lasts. The next holder of the repository's lock, after a crash or a fault of the disk, takes out the noted
//! packs: those of an incomplete addition, and the rest of an incomplete removal.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use shared::nip34::Coordinate;

use crate::logged::logged;
use crate::repositories::generation::Generation;
use crate::repositories::layout::FileError;
use crate::repositories::layout::failed;
use crate::repositories::layout::if_found;
use crate::repositories::layout::in_background;
use crate::repositories::layout::is_here;
use crate::repositories::layout::make_dir;
use crate::repositories::layout::remove_file;
use crate::repositories::layout::sync;
use crate::repositories::packs::UNREACHABLE;
use crate::repositories::packs::changing_packs;
use crate::repositories::packs::not_in;
use crate::repositories::packs::packs_in;
use crate::repositories::packs::remove_pack;
use crate::repositories::packs::share_some;
use crate::repositories::repository::Repository;
use crate::repositories::repository::RepositoryStore;

/// Puts the packs of one repository into another one too, which is on disk, and returns whether they are whole: not if
/// some have left the first one meanwhile, which nothing has locked. Call it under the lock of the second. Blocks.
///
/// # Errors
/// [`FileError`]; then all have come, or none is left when the repository is locked next.
pub(super) fn share_all(from: &Repository, into: &Repository) -> Result<bool, FileError> {
    let Some(before) = Generation::of(from.path())? else {
        return Ok(false);
    };
    let (shared, to) = (from.object_dir(), into.object_dir());
    // Looked up once: more may come there meanwhile.
    let missing = not_in(&to.join("pack"), packs_in(&shared.join("pack"))?)?;
    if missing.is_empty() {
        return Ok(true);
    }
    note(into, &missing)?;
    share_some(missing, &shared, &to)?;
    if Generation::of(from.path())? != Some(before) {
        take_out_noted(into)?;
        return Ok(false);
    }
    end(into)?;
    Ok(true)
}

/// Removes packs from a repository. Call it under its lock. Blocks.
///
/// # Errors
/// [`FileError`]; then none is left when the repository is locked next.
pub(super) fn remove_all(repository: &Repository, packs: &BTreeSet<PathBuf>) -> Result<(), FileError> {
    note(repository, packs)?;
    take_out_noted(repository)
}

/// Finishes interrupted changes in these locked repositories, before their content is used for a decision. Returns the
/// repositories where that failed: their objects may be incomplete.
pub(super) async fn finish_changes(
    store: &RepositoryStore,
    coordinates: &BTreeSet<Coordinate>,
) -> BTreeSet<Coordinate> {
    let repositories: Vec<Repository> = coordinates.iter().map(|at| store.at(at)).collect();
    in_background(move || {
        let mut unfinished = BTreeSet::new();
        for repository in &repositories {
            if let Err(error) = finish(repository) {
                let at = repository.coordinate();
                tracing::error!(repo.coordinate = %at, error = logged(&error), "cannot finish changes of a repository, will try again");
                unfinished.insert(at.clone());
            }
        }
        unfinished
    })
    .await
}

fn finish(repository: &Repository) -> Result<(), FileError> {
    if !is_here(&changing_packs(&repository.object_dir()))? {
        return Ok(());
    }
    let at = repository.coordinate();
    tracing::warn!(repo.coordinate = %at, "packs that have not all come, or left, are taken out");
    take_out_noted(repository)
}

fn note(repository: &Repository, packs: &BTreeSet<PathBuf>) -> Result<(), FileError> {
    let object_dir = repository.object_dir();
    let (info, note) = (object_dir.join("info"), changing_packs(&object_dir));
    make_dir(&info)?;
    let beside = note.with_extension("new");
    let lines: String = packs.iter().map(|name| format!("{}\n", name.display())).collect();
    fs::write(&beside, lines).map_err(failed("write", &beside))?;
    sync(std::slice::from_ref(&beside))?;
    fs::rename(&beside, &note).map_err(failed("replace", &note))?;
    sync(&[info, object_dir])
}

fn take_out_noted(repository: &Repository) -> Result<(), FileError> {
    let object_dir = repository.object_dir();
    let note = changing_packs(&object_dir);
    let Some(lines) = if_found(fs::read_to_string(&note)).map_err(failed("read", &note))? else {
        return Ok(());
    };
    let pack_dir = object_dir.join("pack");
    // A push may have been checked with them.
    Generation::renew(repository)?;
    for name in lines.lines() {
        remove_pack(&pack_dir, name.as_ref(), UNREACHABLE)?;
    }
    // git would take a commit for here that only this has.
    remove_file(&object_dir.join("info/commit-graph"))?;
    sync(&[pack_dir])?;
    end(repository)
}

fn end(repository: &Repository) -> Result<(), FileError> {
    let object_dir = repository.object_dir();
    remove_file(&changing_packs(&object_dir))?;
    sync(&[object_dir.join("info")])
}

#[cfg(test)]
mod tests {
    use shared::git::Oid;

    use super::*;
    use crate::repositories::Repositories;
    use crate::repositories::copy::share_objects;
    use crate::repositories::error::RepositoryError;
    use crate::repositories::pack::IngestLimits;
    use crate::repositories::testing::World;

    struct Scene {
        world: World,
        all: Repositories,
        from: Repository,
        into: Repository,
        commits: [Oid; 2],
    }

    impl Scene {
        /// A repository with a pack of its own for each of two commits, and one that is to get them.
        async fn new() -> Self {
            let world = World::new().await;
            let all = Repositories::new(world.store.clone(), IngestLimits::default());
            let (from, into) = (world.repository("from"), world.repository("into"));
            let commits @ [one, two] = world.two_commits(&from).await;
            let packs = from.object_dir().join("pack/pack").display().to_string();
            for tips in [format!("{one}\n"), format!("{two}\n^{one}\n")] {
                let args = ["pack-objects", "--revs", "--quiet", &packs];
                world.git(&from, &args, tips.as_bytes()).await;
            }
            world.git(&from, &["prune-packed"], b"").await;
            Self {
                world,
                all,
                from,
                into,
                commits,
            }
        }

        async fn here(&self, repository: &Repository) -> usize {
            repository.object_kinds(&self.commits).await.unwrap().len()
        }

        async fn lock(&self, repository: &Repository) {
            let coordinates = [repository.coordinate().clone()].into();
            drop(self.all.lock(&coordinates).await.unwrap());
        }
    }

    #[tokio::test]
    async fn of_several_packs_a_repository_gets_all_or_none() {
        let scene = Scene::new().await;
        let (from, into) = (&scene.from, &scene.into);
        assert!(share_objects(from, into).await.unwrap());
        assert_eq!(scene.here(into).await, 2);
        let before = Generation::of(into.path()).unwrap();
        scene.lock(into).await;
        assert_eq!(
            (scene.here(into).await, Generation::of(into.path()).unwrap()),
            (2, before.clone())
        );

        fs::remove_dir_all(into.object_dir().join("pack")).unwrap();
        // A directory stands where the last pack would.
        let last = World::packs(&from.object_dir()).pop().unwrap();
        let in_the_way = into.object_dir().join("pack").join(last.file_name().unwrap());
        fs::create_dir_all(&in_the_way).unwrap();
        share_objects(from, into).await.unwrap_err();
        assert_eq!(
            Generation::of(into.path()).unwrap(),
            None,
            "a push that is checked now is checked again"
        );
        fs::remove_dir_all(&in_the_way).unwrap();
        scene.lock(into).await;

        assert_eq!(scene.here(into).await, 0);
        assert!(
            Generation::of(into.path())
                .unwrap()
                .is_some_and(|now| Some(now) != before)
        );
        assert!(share_objects(from, into).await.unwrap());
        assert_eq!(scene.here(into).await, 2);
    }

    /// The base of a commit went, and the gateway was killed: the commit counted as here.
    #[tokio::test]
    async fn of_several_packs_a_repository_loses_all_or_none() {
        let scene = Scene::new().await;
        let from = &scene.from;
        let packs = packs_in(&from.object_dir().join("pack")).unwrap();
        let first = packs.first().unwrap();
        note(from, &packs).unwrap();
        remove_pack(&from.object_dir().join("pack"), first, UNREACHABLE).unwrap();
        assert!(
            !share_objects(from, &scene.into).await.unwrap(),
            "half of it is nobody's"
        );

        scene.lock(from).await;

        assert_eq!(scene.here(from).await, 0);
        assert!(World::packs(&from.object_dir()).is_empty());
        assert_eq!(scene.world.quarantine_entries(), 0);
        remove_all(from, &BTreeSet::from(["pack-none".into()])).unwrap();
        assert!(Generation::of(from.path()).unwrap().is_some());
    }

    /// It could not be locked, nor could what was locked with it.
    #[tokio::test]
    async fn changes_that_cannot_be_finished_keep_only_their_repository_back() {
        let scene = Scene::new().await;
        let (from, into) = (&scene.from, &scene.into);
        into.create().await.unwrap();
        let note = changing_packs(&into.object_dir());
        fs::create_dir_all(&note).unwrap();
        let both: BTreeSet<Coordinate> = [from, into].map(|at| at.coordinate().clone()).into();

        let locked = scene.all.lock(&both).await.unwrap();
        assert!(locked.repository(from.coordinate()).is_ok());
        let unfinished = locked.repository(into.coordinate());
        assert!(matches!(unfinished.err(), Some(RepositoryError::Unfinished { .. })));
        drop(locked);

        fs::remove_dir(&note).unwrap();
        let locked = scene.all.lock(&both).await.unwrap();
        assert!(locked.repository(into.coordinate()).is_ok());
    }
}
