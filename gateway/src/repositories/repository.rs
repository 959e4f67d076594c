//! One repository: whether it is here, making it, its refs and objects, and changing its refs.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use shared::git::Oid;
use shared::nip34::Coordinate;

use crate::git::command::Git;
use crate::repositories::creation::is_repository;
use crate::repositories::creation::lay_out;
use crate::repositories::creation::make_new_dir;
use crate::repositories::creation::put_in_place;
use crate::repositories::hosted_index::HostedIndex;
use crate::repositories::kept::KeptParts;
use crate::repositories::layout::FileError;
use crate::repositories::layout::Layout;
use crate::repositories::layout::in_background;
use crate::repositories::objects::ReadError;
use crate::repositories::objects::object_kinds;
use crate::repositories::ref_cache::RefCache;
use crate::repositories::refs::RefSnapshot;
use crate::repositories::refs::read_refs;
use crate::repositories::sweep::has_leftovers;
use crate::repositories::sweep::sweep_repository;
use crate::repositories::touched::TouchedRepositories;

/// What every repository is read and changed with: git, the data directory, the refs read so far. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct RepositoryStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    git: Git,
    layout: Layout,
    cache: RefCache,
    touched: TouchedRepositories,
    hosted: HostedIndex,
}

impl RepositoryStore {
    /// Takes the repositories of `layout`, and makes the empty one that virtual repositories are served from.
    ///
    /// `cached_refs_max` bounds the refs held in memory, over all repositories.
    pub(crate) async fn open(git: Git, layout: Layout, cached_refs_max: usize) -> Result<Self, FileError> {
        let (empty, beside) = (layout.empty_repository(), layout.fresh_quarantine());
        in_background(move || {
            if is_repository(&empty)? {
                return Ok(());
            }
            make_new_dir(&beside)?;
            make_new_dir(&beside.join("objects"))?;
            lay_out(&beside, None)?;
            put_in_place(&beside, &empty).map(drop)
        })
        .await?;
        Ok(Self {
            inner: Arc::new(Inner {
                git,
                layout,
                cache: RefCache::new(cached_refs_max),
                touched: TouchedRepositories::default(),
                hosted: HostedIndex::default(),
            }),
        })
    }

    /// Returns the repository of `coordinate`, which need not be on disk.
    pub(crate) fn at(&self, coordinate: &Coordinate) -> Repository {
        Repository {
            path: self.inner.layout.repository(coordinate),
            coordinate: coordinate.clone(),
            store: self.clone(),
        }
    }

    /// Returns the refs of the repository at `path`, as [`Repository::cached_refs`] does.
    pub(crate) async fn cached_refs_of(&self, path: PathBuf) -> Result<Option<Arc<RefSnapshot>>, ReadError> {
        let this = self.clone();
        in_background(move || this.inner.cache.snapshot(&path)).await
    }

    pub(super) fn touched(&self) -> &TouchedRepositories {
        &self.inner.touched
    }

    pub(crate) fn hosted(&self) -> &HostedIndex {
        &self.inner.hosted
    }

    pub(crate) fn git(&self) -> &Git {
        &self.inner.git
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.inner.layout
    }
}

/// The repository of one coordinate, on disk or virtual.
#[derive(Debug, Clone)]
pub(crate) struct Repository {
    path: PathBuf,
    coordinate: Coordinate,
    store: RepositoryStore,
}

impl Repository {
    pub(crate) fn coordinate(&self) -> &Coordinate {
        &self.coordinate
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the directory of its objects: what a quarantine takes as an alternate.
    pub(crate) fn object_dir(&self) -> PathBuf {
        self.path.join("objects")
    }

    pub(crate) fn store(&self) -> &RepositoryStore {
        &self.store
    }

    pub(super) fn list(&self, is_hosted: bool) {
        match is_hosted {
            true => self.store.hosted().add([self.coordinate.clone()]),
            false => self.store.hosted().remove(&self.coordinate),
        }
    }

    /// Whether it is on disk.
    ///
    /// # Errors
    /// [`FileError`] if that cannot be read.
    pub(crate) async fn exists(&self) -> Result<bool, FileError> {
        let path = self.path.clone();
        in_background(move || is_repository(&path)).await
    }

    /// Whether it is on disk, or cannot be looked for.
    pub(crate) async fn may_exist(&self) -> bool {
        self.exists().await.unwrap_or(true)
    }

    /// Whether it has lock files or temporary packs: left by a killed git, or in use by the holder of the lock.
    pub(crate) async fn has_leftovers(&self) -> bool {
        let path = self.path.clone();
        in_background(move || has_leftovers(&path)).await
    }

    /// Removes the lock files and temporary packs that a killed git left in it; returns how many. Call it under the
    /// repository's lock.
    pub(super) async fn clear_stale_locks(&self) -> usize {
        let path = self.path.clone();
        in_background(move || sweep_repository(&path)).await
    }

    /// Reads its refs from disk; `None` if it is not on disk.
    ///
    /// # Errors
    /// [`ReadError`] if a file cannot be read or holds what git does not write.
    pub(crate) async fn refs(&self) -> Result<Option<RefSnapshot>, ReadError> {
        let path = self.path.clone();
        in_background(move || Ok(read_refs(&path, None)?.map(|read| read.snapshot))).await
    }

    /// Returns the tips of its refs and its existing objects among them: a repository with these needs nothing that
    /// they reach. If git is given one that is lost, it walks nothing at all.
    pub(super) async fn tips(&self) -> Result<Vec<Oid>, ReadError> {
        let refs = self.refs().await?.map(|snapshot| snapshot.refs).unwrap_or_default();
        let here = object_kinds(vec![self.object_dir()], refs.into_values().collect()).await?;
        Ok(here.into_keys().collect())
    }

    /// Returns the input of `git rev-list --stdin` for what `tips` reach and neither its refs nor the kept parts do.
    pub(super) async fn revisions_lacking<'t>(
        &self,
        tips: impl IntoIterator<Item = &'t Oid>,
        kept: Option<&KeptParts>,
    ) -> Result<String, ReadError> {
        let wanted: String = tips.into_iter().map(|tip| format!("{tip}\n")).collect();
        let of_refs = self.tips().await?;
        let here = of_refs.iter().chain(kept.into_iter().flat_map(|kept| &kept.tips));
        Ok(here.fold(wanted, |revs, tip| revs + &format!("^{tip}\n")))
    }

    /// Returns its refs, from memory if the disk shows no change; `None` if it is not on disk.
    pub(crate) async fn cached_refs(&self) -> Result<Option<Arc<RefSnapshot>>, ReadError> {
        self.store.cached_refs_of(self.path.clone()).await
    }

    pub(crate) fn forget_refs(&self) {
        self.store.inner.cache.forget(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use shared::git::ObjectKind;

    use super::*;
    use crate::repositories::refs::Head;
    use crate::repositories::testing;
    use crate::repositories::testing::World;

    #[tokio::test]
    async fn a_repository_is_virtual_until_made() {
        let world = World::new().await;
        let repository = world.repository("a");

        assert!(!repository.exists().await.unwrap());
        assert_eq!(repository.refs().await.unwrap(), None);
        assert_eq!(repository.cached_refs().await.unwrap(), None);
    }

    #[tokio::test]
    async fn of_makers_at_the_same_time_all_succeed_and_one_repository_stands() {
        let world = World::new().await;
        let repository = world.repository("a/ b".replace('/', "").as_str());

        let made = futures_util::future::join_all((0..4).map(|_| repository.create())).await;

        assert!(made.iter().all(Result::is_ok), "{made:?}");
        assert_eq!(repository.refs().await.unwrap(), Some(RefSnapshot::empty()));
        assert_eq!(world.quarantine_entries(), 0);
        assert_eq!(world.hosted().await, [repository.coordinate().clone()]);
    }

    #[tokio::test]
    async fn every_git_makes_a_repository_that_reads_as_empty() {
        let dir = tempfile::tempdir().unwrap();
        for git in testing::every_git(dir.path()).await {
            let data = tempfile::tempdir().unwrap();
            let layout = Layout::new(data.path()).unwrap();
            let repositories = RepositoryStore::open(git, layout, 1000).await.unwrap();
            let repository = repositories.at(&testing::coordinate("x"));
            repository.create().await.unwrap();

            let refs = repository.refs().await.unwrap().unwrap();

            assert_eq!(refs.head, Head::Symbolic("refs/heads/master".parse().unwrap()));
            assert_eq!(refs.head_oid(), None);
        }
    }

    #[tokio::test]
    async fn objects_are_found_by_kind_and_in_further_directories() {
        let world = World::new().await;
        let (here, other) = (world.repository("here"), world.repository("other"));
        let mine = world.populate(&here).await;
        let elsewhere = world.commit(&other, "elsewhere", &[]).await;

        let kinds = here
            .object_kinds(&[mine.commit, mine.tree, mine.tag, elsewhere])
            .await
            .unwrap();
        let directories = vec![here.object_dir(), other.object_dir(), "/does/not/exist".into()];
        let with_other = object_kinds(directories, vec![elsewhere]).await.unwrap();

        let expected = [
            (mine.commit, ObjectKind::Commit),
            (mine.tree, ObjectKind::Tree),
            (mine.tag, ObjectKind::Tag),
        ];
        assert_eq!(kinds, BTreeMap::from(expected));
        assert_eq!(with_other[&elsewhere], ObjectKind::Commit);
    }
}
