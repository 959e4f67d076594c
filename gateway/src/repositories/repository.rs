//! One repository: whether it is here, making it, its refs and objects, and changing its refs.

use std::collections::BTreeMap;
use std::fs;
use std::fs::File;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use shared::git::ObjectKind;
use shared::git::Oid;
use shared::nip34::Coordinate;

use crate::git::command::Git;
use crate::git::error::GitError;
use crate::repositories::layout::COORDINATE_FILE;
use crate::repositories::layout::Layout;
use crate::repositories::layout::LayoutError;
use crate::repositories::layout::failed;
use crate::repositories::layout::in_background;
use crate::repositories::layout::make_dir;
use crate::repositories::layout::sweep_repository;
use crate::repositories::layout::sync_dir;
use crate::repositories::objects::ObjectError;
use crate::repositories::objects::object_kinds;
use crate::repositories::ref_cache::RefCache;
use crate::repositories::refs::RefReadError;
use crate::repositories::refs::RefSnapshot;
use crate::repositories::refs::initial_branch;

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
}

/// Why a repository could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CreateError {
    /// A directory could not be made or renamed.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// `git init` failed.
    #[error(transparent)]
    Git(#[from] GitError),
}

impl RepositoryStore {
    /// Takes the repositories of `layout`, and makes the empty one that virtual repositories are served from.
    ///
    /// `cached_refs_max` bounds the refs held in memory, over all repositories.
    ///
    /// # Errors
    /// [`CreateError`] if the empty repository cannot be made.
    pub(crate) async fn open(git: Git, layout: Layout, cached_refs_max: usize) -> Result<Self, CreateError> {
        let path = layout.empty_repository();
        if !is_repository(path.clone()).await {
            init_empty(&git, &layout).await?;
        }
        Ok(Self {
            inner: Arc::new(Inner {
                git,
                layout,
                cache: RefCache::new(cached_refs_max),
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

    /// Returns the git that works on them.
    pub(crate) fn git(&self) -> &Git {
        &self.inner.git
    }

    /// Returns the directory they are in.
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
    /// Returns whose repository it is.
    pub(crate) fn coordinate(&self) -> &Coordinate {
        &self.coordinate
    }

    /// Returns its directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the directory of its objects: what a quarantine takes as an alternate.
    pub(crate) fn object_dir(&self) -> PathBuf {
        self.path.join("objects")
    }

    /// Returns what it is read and changed with.
    pub(crate) fn store(&self) -> &RepositoryStore {
        &self.store
    }

    /// Tells whether it is on disk.
    pub(crate) async fn exists(&self) -> bool {
        is_repository(self.path.clone()).await
    }

    /// Makes it, empty, unless it is there: beside its place and renamed, so that nobody sees half of one and of two
    /// at once one wins.
    ///
    /// # Errors
    /// [`LayoutError`] if it is not there afterwards.
    pub(super) async fn create(&self) -> Result<(), LayoutError> {
        if self.exists().await {
            return Ok(());
        }
        let (empty, beside) = (
            self.store.layout().empty_repository(),
            self.store.layout().fresh_quarantine(),
        );
        let (target, text) = (self.path.clone(), format!("{}\n", self.coordinate));
        let made = in_background(move || {
            let made = copy_empty(&empty, &beside, &text).and_then(|()| rename_durably(&beside, &target));
            remove_if_left(&beside);
            made
        });
        made.await
    }

    /// Removes the lock files and temporary packs that a killed git left in it; returns how many. Call it under the
    /// identifier's lock, when `ApplyError::Locked` says that one is in the way.
    pub(super) async fn clear_stale_locks(&self) -> usize {
        let path = self.path.clone();
        in_background(move || sweep_repository(&path)).await
    }

    /// Reads its refs from disk; `None` if it is not on disk.
    ///
    /// # Errors
    /// [`RefReadError`] if a file cannot be read or holds what git does not write.
    pub(crate) async fn refs(&self) -> Result<Option<RefSnapshot>, RefReadError> {
        let path = self.path.clone();
        in_background(move || Ok(super::refs::read_refs(&path, None)?.map(|read| read.snapshot))).await
    }

    /// Returns its refs, from memory if the disk says that nothing changed; `None` if it is not on disk.
    ///
    /// # Errors
    /// As [`Repository::refs`].
    pub(crate) async fn cached_refs(&self) -> Result<Option<Arc<RefSnapshot>>, RefReadError> {
        let this = self.clone();
        in_background(move || this.store.inner.cache.snapshot(&this.path)).await
    }

    /// Drops what [`Repository::cached_refs`] remembers.
    pub(crate) fn forget_refs(&self) {
        self.store.inner.cache.forget(&self.path);
    }

    /// Returns the kinds of those of `oids` that are here.
    ///
    /// # Errors
    /// [`ObjectError`] if an object directory, or an object that exists, cannot be read.
    pub(crate) async fn object_kinds(&self, oids: &[Oid]) -> Result<BTreeMap<Oid, ObjectKind>, ObjectError> {
        object_kinds(vec![self.object_dir()], oids.to_vec()).await
    }
}

async fn is_repository(path: PathBuf) -> bool {
    in_background(move || path.join("HEAD").is_file()).await
}

/// Makes the empty repository by git, with nothing in it but what git writes: the others are copies of it.
async fn init_empty(git: &Git, layout: &Layout) -> Result<(), CreateError> {
    let beside = layout.fresh_quarantine();
    let mut init = git
        .invoke("init")
        .arg("--quiet")
        .arg("--bare")
        // No sample hooks and no `info`: what is in a repository is there because this server put it there.
        .arg("--template=")
        .arg(format!(
            "--initial-branch={}",
            initial_branch().as_str().trim_start_matches("refs/heads/")
        ));
    if git.version().has_ref_format() {
        // The ref reader knows no reftable. Older gits know it neither.
        init = init.arg("--ref-format=files");
    }
    init.arg(&beside).output(b"", INIT_DEADLINE).await?;
    let target = layout.empty_repository();
    let placed = in_background(move || {
        let placed = rename_durably(&beside, &target);
        remove_if_left(&beside);
        placed
    });
    Ok(placed.await?)
}

/// Copies a small directory tree.
fn copy_tree(from: &Path, to: &Path) -> Result<(), LayoutError> {
    fs::create_dir(to).map_err(failed("make the directory", to))?;
    for entry in fs::read_dir(from).map_err(failed("list", from))? {
        let entry = entry.map_err(failed("list", from))?;
        let (path, copy) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy_tree(&path, &copy)?;
        } else {
            fs::copy(&path, &copy).map_err(failed("copy", &path))?;
        }
    }
    Ok(())
}

/// Copies the empty repository, with the note of whose the copy is.
fn copy_empty(empty: &Path, beside: &Path, coordinate: &str) -> Result<(), LayoutError> {
    copy_tree(empty, beside)?;
    let path = beside.join(COORDINATE_FILE);
    fs::write(&path, coordinate).map_err(failed("write", &path))
}

/// Removes what a failure or a lost race left. After a success there is nothing.
fn remove_if_left(beside: &Path) {
    if beside.exists()
        && let Err(error) = fs::remove_dir_all(beside)
    {
        tracing::warn!(%error, "cannot remove an unused repository; the next start sweeps it");
    }
}

/// Renames a whole repository into its place, durably.
fn rename_durably(beside: &Path, target: &Path) -> Result<(), LayoutError> {
    fs::set_permissions(beside, Permissions::from_mode(0o700)).map_err(failed("set the mode of", beside))?;
    sync_tree(beside).map_err(failed("sync", beside))?;
    let parent = target.parent().unwrap_or(target);
    make_dir(parent)?;
    match fs::rename(beside, target) {
        Ok(()) => {}
        // Somebody else's is in place and has files: rename does not replace it.
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty && target.join("HEAD").is_file() => {
            return Ok(());
        }
        Err(error) => return Err(failed("make the repository", target)(error)),
    }
    for dir in [Some(parent), parent.parent()].into_iter().flatten() {
        sync_dir(dir).map_err(failed("sync", dir))?;
    }
    Ok(())
}

/// Makes a small directory tree durable.
fn sync_tree(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_tree(&entry.path())?;
        } else {
            File::open(entry.path())?.sync_all()?;
        }
    }
    sync_dir(dir)
}

/// `git init` writes a few small files.
const INIT_DEADLINE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repositories::refs::Head;
    use crate::repositories::testing;
    use crate::repositories::testing::World;

    #[tokio::test]
    async fn a_repository_is_virtual_until_made() {
        let world = World::new().await;
        let repository = world.repository("a");

        assert!(!repository.exists().await);
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
        let hosted = world.store.layout().hosted().await.unwrap();
        assert_eq!(hosted, [repository.coordinate().clone()]);
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
