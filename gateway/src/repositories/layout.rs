//! Where things lie below the data directory, and what a start finds and clears there.
//!
//! ```text
//! <data>/serving.gitconfig                                     git's configuration (command.rs)
//! <data>/empty.git                                             what a virtual repository answers
//! <data>/repositories/<owner>/<name>.git                       a repository; its coordinate in `grasp-coordinate`
//! <data>/staging/<name>/<owner>/<event-id>/<commit-oid>/       an object directory that no clone sees; here too the
//!                                                              coordinate, in <owner>/grasp-coordinate
//! <data>/quarantine/<instance>.lock                            held with flock while the instance lives
//! <data>/quarantine/<instance>-<n>/                            work in progress of that instance
//! <data>/locks/<number>                                        flock of all repositories with that hash
//! ```
//!
//! Everything lies on one file system: things are made in the quarantine and renamed to their place.

use std::fs;
use std::fs::File;
use std::fs::TryLockError;
use std::hash::BuildHasher;
use std::hash::Hasher;
use std::hash::RandomState;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use shared::nip34::Coordinate;
use shared::nip34::Identifier;
use tokio::task::spawn_blocking;

use crate::repositories::lock_key::LockKey;

/// The data directory of one running gateway. Cheap to clone.
///
/// While a clone lives, the lock that tells other gateways to leave this one's quarantine alone is held.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    instance: String,
    lock_key: LockKey,
    next: AtomicU64,
    /// Its flock is the sign of life; the file itself is removed by `Drop`.
    _alive: File,
}

/// Why the data directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {}", path.display())]
pub(crate) struct FileError {
    /// What was attempted.
    pub(crate) operation: &'static str,
    /// On what.
    pub(crate) path: PathBuf,
    /// What the operating system said.
    #[source]
    pub(crate) source: io::Error,
}

/// What [`Layout::sweep`] removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SweepReport {
    /// Quarantine directories of instances that are gone.
    pub(crate) quarantines: usize,
    /// `*.lock` files and temporary packs that a killed git left in repositories.
    pub(crate) stale_files: usize,
    /// RepositoryStore left alone because another gateway holds their lock.
    pub(crate) repositories_busy: usize,
}

impl Layout {
    /// Opens the data directory `data_dir`, making what is missing (directories with mode 0700). Blocks; call it once,
    /// at start.
    ///
    /// # Errors
    /// [`FileError`] if a directory or the lock of this instance cannot be made.
    pub(crate) fn new(data_dir: &Path) -> Result<Self, FileError> {
        make_dir(data_dir)?;
        let root = fs::canonicalize(data_dir).map_err(failed("resolve", data_dir))?;
        for name in [REPOSITORIES, STAGING, QUARANTINE, LOCKS] {
            make_dir(&root.join(name))?;
        }
        let (instance, alive) = claim_instance(&root.join(QUARANTINE))?;
        let fresh = root.join(QUARANTINE).join(format!("{instance}-key"));
        let lock_key = LockKey::open(&root.join(LOCKS), &fresh).map_err(failed("use the key in", &root.join(LOCKS)))?;
        Ok(Self {
            inner: Arc::new(Inner {
                root,
                instance,
                lock_key,
                next: AtomicU64::new(0),
                _alive: alive,
            }),
        })
    }

    /// Returns the data directory, absolute and without symbolic links.
    pub(crate) fn root(&self) -> &Path {
        &self.inner.root
    }

    /// Returns the path of the repository with no refs and no objects that stands in for virtual ones.
    pub(crate) fn empty_repository(&self) -> PathBuf {
        self.inner.root.join("empty.git")
    }

    /// Returns where the repository of `coordinate` is, or would be.
    pub(crate) fn repository(&self, coordinate: &Coordinate) -> PathBuf {
        let owner = coordinate.owner.to_hex();
        self.inner
            .root
            .join(REPOSITORIES)
            .join(owner)
            .join(format!("{}.git", disk_name(&coordinate.identifier)))
    }

    /// Returns the directory of everything staged for `coordinate`. It is found by identifier first: whoever decides
    /// about an identifier wants to see all that is staged for it.
    pub(crate) fn staging(&self, coordinate: &Coordinate) -> PathBuf {
        self.staging_of(&coordinate.identifier).join(coordinate.owner.to_hex())
    }

    /// Returns the directory of everything staged for repositories called `identifier`.
    pub(crate) fn staging_of(&self, identifier: &Identifier) -> PathBuf {
        self.inner.root.join(STAGING).join(disk_name(identifier))
    }

    /// Returns the number of the lock of a repository; others may have the same.
    pub(super) fn lock_number(&self, coordinate: &Coordinate) -> u16 {
        self.inner.lock_key.number(coordinate)
    }

    /// Returns the file whose `flock` is that lock among gateways that share the disk.
    pub(super) fn lock_file(&self, lock_number: u16) -> PathBuf {
        self.inner.root.join(LOCKS).join(format!("{lock_number:03x}"))
    }

    /// Returns a fresh path in the quarantine, not yet made, that no other gateway sweeps while this one lives.
    pub(crate) fn fresh_quarantine(&self) -> PathBuf {
        let n = self.inner.next.fetch_add(1, Ordering::Relaxed);
        self.inner
            .root
            .join(QUARANTINE)
            .join(format!("{}-{n}", self.inner.instance))
    }

    /// Makes a file that nobody finds, and that is gone when it is closed, by a crash too.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) fn nameless_file(&self) -> io::Result<File> {
        let path = self.fresh_quarantine();
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        fs::remove_file(&path)?;
        Ok(file)
    }

    /// Lists the repositories that are on disk, in no order.
    ///
    /// # Errors
    /// [`FileError`] if a directory cannot be listed. A directory without a readable coordinate, or in the place of
    /// another coordinate, is logged and left out.
    pub(crate) async fn hosted(&self) -> Result<Vec<Coordinate>, FileError> {
        let layout = self.clone();
        in_background(move || layout.hosted_blocking()).await
    }

    /// Lists the coordinates for which objects are staged, in no order; their repositories may be virtual.
    ///
    /// # Errors
    /// As [`Layout::hosted`].
    pub(crate) async fn staged(&self) -> Result<Vec<Coordinate>, FileError> {
        let layout = self.clone();
        in_background(move || layout.coordinates(STAGING, Self::staging)).await
    }

    /// Removes what crashed gateways left: their quarantines, and stale lock files in repositories.
    ///
    /// # Errors
    /// [`FileError`] if a directory cannot be listed. What cannot be removed is logged and stays.
    pub(crate) async fn sweep(&self) -> Result<SweepReport, FileError> {
        let layout = self.clone();
        in_background(move || {
            let mut report = SweepReport {
                quarantines: sweep_quarantine(&layout.inner.root.join(QUARANTINE))?,
                ..SweepReport::default()
            };
            for coordinate in layout.hosted_blocking()? {
                let lock_path = layout.lock_file(layout.lock_number(&coordinate));
                // Refs change only under this lock: while it is ours, every `*.lock` has lost its owner.
                let lock = open_lock_file(&lock_path)?;
                match lock.try_lock() {
                    Ok(()) => {
                        report.stale_files += sweep_repository(&layout.repository(&coordinate));
                    }
                    Err(TryLockError::WouldBlock) => report.repositories_busy += 1,
                    Err(TryLockError::Error(source)) => {
                        return Err(failed("lock", &lock_path)(source));
                    }
                }
            }
            Ok(report)
        })
        .await
    }

    fn hosted_blocking(&self) -> Result<Vec<Coordinate>, FileError> {
        self.coordinates(REPOSITORIES, Self::repository)
    }

    /// Reads the coordinates of the directories below `kind` that stand in their own `place`.
    fn coordinates(&self, kind: &str, place: fn(&Self, &Coordinate) -> PathBuf) -> Result<Vec<Coordinate>, FileError> {
        let mut found = Vec::new();
        for outer in list(&self.inner.root.join(kind))? {
            for path in list(&outer)? {
                let text = fs::read_to_string(path.join(COORDINATE_FILE)).unwrap_or_default();
                match text.trim_end_matches('\n').parse::<Coordinate>() {
                    Ok(coordinate) if place(self, &coordinate) == path => found.push(coordinate),
                    Ok(_) | Err(_) => {
                        tracing::warn!(path = %path.display(), "nothing of this server: left alone");
                    }
                }
            }
        }
        Ok(found)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let path = self.root.join(QUARANTINE).join(&self.instance);
        if let Err(error) = fs::remove_file(path.with_extension("lock")) {
            tracing::debug!(%error, "could not remove the lock of this instance");
        }
    }
}

/// Returns the file name of `identifier`: its percent-encoded form, or `~` and the SHA-256 of a longer one.
///
/// Injective: a `.` or `~` in front is encoded too, which [`Identifier::encoded`] never does. Never longer than 255
/// bytes with `.git` behind it.
pub(crate) fn disk_name(identifier: &Identifier) -> String {
    let encoded = identifier.encoded();
    let name = match encoded.as_bytes().first() {
        Some(b'.') => format!("%2E{}", &encoded[1..]),
        Some(b'~') => format!("%7E{}", &encoded[1..]),
        Some(_) | None => encoded,
    };
    if name.len() <= NAME_BYTES_MAX {
        return name;
    }
    let digest = bitcoin_hashes::sha256::Hash::hash(identifier.as_str().as_bytes());
    digest
        .to_byte_array()
        .iter()
        .fold("~".to_owned(), |name, byte| format!("{name}{byte:02x}"))
}

/// Makes `path` and its parents with mode 0700; an existing directory is left as it is.
pub(crate) fn make_dir(path: &Path) -> Result<(), FileError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(failed("make the directory", path))
}

/// Makes the entries of a directory durable: a rename is one only after this.
pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

pub(crate) fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError {
        operation,
        path,
        source,
    }
}

/// Whether an operation failed because there is no room.
pub(crate) fn is_disk_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Runs blocking work on the files of the data directory away from the async threads.
pub(crate) async fn in_background<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is going down and whoever waits here with it.
            Err(_) => std::future::pending().await,
        },
    }
}

/// Makes and locks the file that says that this instance lives.
fn claim_instance(quarantine: &Path) -> Result<(String, File), FileError> {
    loop {
        // RandomState is seeded by the operating system: distinct on every host that shares the disk.
        let instance = format!("{:016x}", RandomState::new().build_hasher().finish());
        let path = quarantine.join(&instance).with_extension("lock");
        let file = open_lock_file(&path)?;
        file.lock().map_err(failed("lock", &path))?;
        // Another gateway's sweep may have removed the file before the lock was ours.
        if file.metadata().map_err(failed("look at", &path))?.nlink() > 0 {
            return Ok((instance, file));
        }
    }
}

/// Opens a file to lock, which is made if need be.
pub(super) fn open_lock_file(path: &Path) -> Result<File, FileError> {
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(failed("open the lock file", path))
}

/// Returns the entries of `dir`; those that vanish meanwhile are left out.
fn list(dir: &Path) -> Result<Vec<PathBuf>, FileError> {
    fs::read_dir(dir)
        .map_err(failed("list", dir))?
        .map(|entry| entry.map(|entry| entry.path()).map_err(failed("list", dir)))
        .collect()
}

/// Removes the directories whose instance is gone, and the locks of such instances.
fn sweep_quarantine(quarantine: &Path) -> Result<usize, FileError> {
    let mut removed = 0;
    let (locks, work): (Vec<_>, Vec<_>) = list(quarantine)?
        .into_iter()
        .partition(|path| path.extension().is_some_and(|ext| ext == "lock"));
    for path in work {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let instance = name.split('-').next().unwrap_or_default();
        // By name and not from the listing: a listing may hold a directory and miss its older lock.
        let lock_path = quarantine.join(instance).with_extension("lock");
        let Some(_dead) = lock_of_dead_instance(&lock_path)? else {
            continue;
        };
        // A crash between making and unlinking leaves a nameless file with its name.
        let swept = if path.is_dir() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        match swept {
            Ok(()) => removed += 1,
            Err(error) => tracing::warn!(%error, path = %path.display(), "cannot sweep"),
        }
    }
    for path in locks {
        // Removed while locked: an instance that opened it before looks at its link count.
        if let Some(Some(_locked)) = lock_of_dead_instance(&path)?
            && let Err(error) = fs::remove_file(&path)
        {
            tracing::warn!(%error, path = %path.display(), "cannot sweep");
        }
    }
    Ok(removed)
}

/// Returns `None` if the instance lives, and its lock (`Some(None)`: already removed) if it is gone.
fn lock_of_dead_instance(path: &Path) -> Result<Option<Option<File>>, FileError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(None)),
        Err(error) => return Err(failed("open", path)(error)),
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(Some(file))),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(failed("lock", path)(source)),
    }
}

/// Removes the lock files of refs and the temporary packs in one repository; returns how many.
pub(crate) fn sweep_repository(repository: &Path) -> usize {
    // git writes packed refs beside their lock (git `refs/packed-backend.c`).
    let is_lock = |name: &str| name.ends_with(".lock") || name == "packed-refs.new";
    let is_temporary = |name: &str| name.starts_with("tmp_") || name.starts_with(".tmp-");
    remove_files(repository, 0, &is_lock)
        + remove_files(&repository.join("refs"), REF_DEPTH_MAX, &is_lock)
        + remove_files(&repository.join("objects/pack"), 0, &is_temporary)
}

fn remove_files(dir: &Path, depth: usize, stale: &dyn Fn(&str) -> bool) -> usize {
    let mut removed = 0;
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        // A directory is never a lock: no component of a ref name ends in `.lock`.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if depth > 0 {
                removed += remove_files(&entry.path(), depth - 1, stale);
            }
        } else if name.to_str().is_some_and(stale) {
            match fs::remove_file(entry.path()) {
                Ok(()) => removed += 1,
                Err(error) => {
                    tracing::warn!(%error, path = %entry.path().display(), "cannot sweep")
                }
            }
        }
    }
    removed
}

/// The file inside a repository that holds its coordinate, since its path may hold only a hash of it.
pub(crate) const COORDINATE_FILE: &str = "grasp-coordinate";
/// Deepest directory of refs looked into: more components than a path of 4096 bytes can have.
const REF_DEPTH_MAX: usize = 2048;
/// `NAME_MAX` of Linux file systems less `.git`.
const NAME_BYTES_MAX: usize = 255 - ".git".len();
const REPOSITORIES: &str = "repositories";
const STAGING: &str = "staging";
const QUARANTINE: &str = "quarantine";
const LOCKS: &str = "locks";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn identifier(text: &str) -> Identifier {
        text.parse().unwrap()
    }

    #[test]
    fn disk_names_are_never_hidden_and_keep_apart_what_looks_alike() {
        let long = "🦀".repeat(63);
        let longer = "🦀".repeat(62) + "🦞";
        let texts = [
            "a", "a.git", ".a", "%2Ea", "~a", "%7Ea", "...", "-a", "a b", "a%20b", &long, &longer,
        ];

        let names: BTreeSet<_> = texts.iter().map(|text| disk_name(&identifier(text))).collect();

        assert_eq!(names.len(), texts.len());
        assert!(names.iter().all(|name| !name.starts_with('.')));
        assert_eq!(disk_name(&identifier(".a")), "%2Ea");
        assert_eq!(disk_name(&identifier(&long)).len(), 65);
    }

    proptest! {
        #[test]
        fn a_disk_name_is_a_short_plain_file_name(text in "\\PC{1,80}") {
            let Ok(identifier) = text.parse::<Identifier>() else { return Ok(()) };
            let name = disk_name(&identifier);
            prop_assert!(name.len() <= 251 && !name.starts_with('.') && name.is_ascii() && !name.contains('/'));
        }
    }

    #[tokio::test]
    async fn only_the_quarantines_of_dead_instances_are_swept() {
        let dir = tempfile::tempdir().unwrap();
        let alive = Layout::new(dir.path()).unwrap();
        fs::create_dir(alive.fresh_quarantine()).unwrap();
        let dead = Layout::new(dir.path()).unwrap();
        let left_behind = dead.fresh_quarantine();
        fs::create_dir_all(left_behind.join("pack")).unwrap();
        drop(dead);

        let report = alive.sweep().await.unwrap();

        assert_eq!(report.quarantines, 1);
        assert!(!left_behind.exists());
        assert_eq!(fs::read_dir(dir.path().join(QUARANTINE)).unwrap().count(), 2);
    }

    #[tokio::test]
    async fn stale_locks_of_refs_are_swept_unless_the_repository_is_locked() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path()).unwrap();
        let coordinate: Coordinate = format!("30617:{}:x", "11".repeat(32)).parse().unwrap();
        let repository = layout.repository(&coordinate);
        fs::create_dir_all(repository.join("refs/heads/a")).unwrap();
        fs::write(repository.join(COORDINATE_FILE), coordinate.to_string()).unwrap();
        for file in ["HEAD.lock", "refs/heads/a/b.lock", "refs/heads/a/c"] {
            fs::write(repository.join(file), "").unwrap();
        }
        let busy = open_lock_file(&layout.lock_file(layout.lock_number(&coordinate))).unwrap();
        busy.lock().unwrap();

        let while_busy = layout.sweep().await.unwrap();
        drop(busy);
        let after = layout.sweep().await.unwrap();

        assert_eq!((while_busy.stale_files, while_busy.repositories_busy), (0, 1));
        assert_eq!((after.stale_files, after.repositories_busy), (2, 0));
        assert!(repository.join("refs/heads/a/c").exists());
    }

    #[tokio::test]
    async fn hosted_lists_what_stands_in_its_own_place() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path()).unwrap();
        let long = "x y".repeat(84);
        let mut expected = BTreeSet::new();
        for text in ["plain", ".hidden", &long] {
            let coordinate: Coordinate = format!("30617:{}:{text}", "11".repeat(32)).parse().unwrap();
            let path = layout.repository(&coordinate);
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join(COORDINATE_FILE), coordinate.to_string()).unwrap();
            expected.insert(coordinate);
        }
        let stray = dir.path().join("repositories").join("11".repeat(32)).join("stray.git");
        fs::create_dir(&stray).unwrap();
        fs::write(stray.join(COORDINATE_FILE), format!("30617:{}:plain", "11".repeat(32))).unwrap();

        let hosted = layout.hosted().await.unwrap();

        assert_eq!(hosted.into_iter().collect::<BTreeSet<_>>(), expected);
    }
}
