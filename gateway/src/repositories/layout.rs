//! Where things lie below the data directory.
//!
//! ```text
//! <data>/serving.gitconfig                                     git's configuration (command.rs)
//! <data>/disk-use                                              what each owner has, for people (disk_report.rs)
//! <data>/empty.git                                             what a virtual repository answers
//! <data>/repositories/<owner>/<name>.git                       a repository; its coordinate in `grasp-coordinate`
//! <data>/staging/<name>/<owner>/<event-id>/<commit-oid>/       an object directory that no clone sees; here too the
//!                                                              coordinate, in <owner>/grasp-coordinate
//! <data>/parts/<owner>/<name>/<state-id>/                      what came of a state in parts: the same; here too
//! <data>/quarantine/<instance>.lock                            held with flock while the instance lives
//! <data>/quarantine/<instance>-<n>/                            work in progress of that instance
//! <data>/locks/<number>                                        flock of all repositories with that hash
//! ```
//!
//! Everything lies on one file system: things are made in the quarantine and renamed to their place.

use std::collections::BTreeSet;
use std::fs;
use std::fs::DirEntry;
use std::fs::File;
use std::hash::BuildHasher;
use std::hash::Hasher;
use std::hash::RandomState;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::resume_unwind;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::thread;

use nostr::key::PublicKey;
use shared::nip34::Coordinate;
use shared::nip34::Identifier;
use tokio::task::spawn_blocking;

use crate::repositories::lock_key::LockKey;

/// The data directory of one running gateway. Cheap to clone.
///
/// While a clone of this value exists, the lock is held that tells other gateways not to touch this one's quarantine.
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

#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {}", path.display())]
pub(crate) struct FileError {
    pub(crate) operation: &'static str,
    pub(crate) path: PathBuf,
    #[source]
    pub(crate) source: io::Error,
}

impl Layout {
    /// Opens the data directory `data_dir`, creating missing directories (with mode 0700). Blocks; call it once, at
    /// start.
    pub(crate) fn new(data_dir: &Path) -> Result<Self, FileError> {
        make_dir(data_dir)?;
        let root = fs::canonicalize(data_dir).map_err(failed("resolve", data_dir))?;
        for name in [REPOSITORIES, STAGING, PARTS, QUARANTINE, LOCKS] {
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
        repository_below(&self.inner.root, coordinate)
    }

    pub(super) fn repositories_of(&self, owner: &PublicKey) -> PathBuf {
        repositories_below(&self.inner.root, owner)
    }

    /// Returns the directory of everything staged for `coordinate`. The identifier is the first component, because a
    /// decision about an identifier needs everything that is staged for it.
    pub(crate) fn staging(&self, coordinate: &Coordinate) -> PathBuf {
        self.staging_of(&coordinate.identifier).join(coordinate.owner.to_hex())
    }

    /// Returns the directory of everything staged for repositories called `identifier`.
    pub(crate) fn staging_of(&self, identifier: &Identifier) -> PathBuf {
        self.inner.root.join(STAGING).join(disk_name(identifier))
    }

    /// Returns the directory of the kept parts of states of `coordinate`.
    pub(super) fn parts(&self, coordinate: &Coordinate) -> PathBuf {
        self.parts_of(&coordinate.owner).join(disk_name(&coordinate.identifier))
    }

    /// Returns the directory in which [`Layout::parts`] is for every repository of an owner, who pays for it.
    pub(super) fn parts_of(&self, owner: &PublicKey) -> PathBuf {
        self.all_parts().join(owner.to_hex())
    }

    /// Returns the directory in which [`Layout::parts_of`] is for every owner.
    pub(super) fn all_parts(&self) -> PathBuf {
        self.inner.root.join(PARTS)
    }

    /// Returns the directory of the directories of owners, in which their repositories are.
    pub(super) fn repositories(&self) -> PathBuf {
        self.inner.root.join(REPOSITORIES)
    }

    /// Returns the directory in which [`Layout::staging_of`] is for every identifier.
    pub(super) fn all_staging(&self) -> PathBuf {
        self.inner.root.join(STAGING)
    }

    /// Returns the directory of the work in progress of all gateways on this data directory.
    pub(super) fn quarantine(&self) -> PathBuf {
        self.inner.root.join(QUARANTINE)
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

    /// Removes a directory of the data directory, at once or not at all: what a crash leaves of it is swept. Blocks.
    ///
    /// # Errors
    /// It still exists, or its remains are in the quarantine.
    pub(super) fn remove_at_once(&self, dir: &Path) -> Result<(), FileError> {
        let gone = self.fresh_quarantine();
        fs::rename(dir, &gone).map_err(failed("remove", dir))?;
        sync(&[dir.parent().unwrap_or(dir).to_owned()])?;
        fs::remove_dir_all(&gone).map_err(failed("remove", &gone))
    }

    /// Makes a file that nobody finds, and that is gone when it is closed, by a crash too.
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
}

impl Drop for Inner {
    fn drop(&mut self) {
        let path = self.root.join(QUARANTINE).join(&self.instance);
        if let Err(error) = fs::remove_file(path.with_extension("lock")) {
            tracing::debug!(%error, "could not remove the lock of this instance");
        }
    }
}

/// Returns where the repository of `coordinate` is below a data directory, or would be.
pub(crate) fn repository_below(data_dir: &Path, coordinate: &Coordinate) -> PathBuf {
    repositories_below(data_dir, &coordinate.owner).join(format!("{}.git", disk_name(&coordinate.identifier)))
}

/// Returns where the repositories of an owner are below a data directory.
pub(crate) fn repositories_below(data_dir: &Path, owner: &PublicKey) -> PathBuf {
    data_dir.join(REPOSITORIES).join(owner.to_hex())
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

pub(super) fn entries(dir: &Path) -> Result<Vec<DirEntry>, FileError> {
    let entries = fs::read_dir(dir).and_then(Iterator::collect);
    entries.map_err(failed("list", dir))
}

/// As [`entries`]; nothing is in a directory that does not exist.
pub(super) fn entries_if_any(dir: &Path) -> Result<Vec<DirEntry>, FileError> {
    match entries(dir) {
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries,
    }
}

/// Returns the bytes of the files below `dir`, each once however many names it has, and none of those `seen`. Blocks.
pub(super) fn bytes_below(dir: &Path, seen: &mut BTreeSet<u64>) -> Result<u64, FileError> {
    let mut bytes = 0;
    let mut dirs: Vec<PathBuf> = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in entries_if_any(&dir)? {
            match if_found(entry.metadata()).map_err(failed("look at", &entry.path()))? {
                Some(found) if found.is_dir() => dirs.push(entry.path()),
                Some(found) if seen.insert(found.ino()) => bytes += found.len(),
                // `None`: it has moved in meanwhile, or was removed.
                Some(_) | None => {}
            }
        }
    }
    Ok(bytes)
}

/// Removes a file; nothing there is no error.
pub(super) fn remove_file(path: &Path) -> Result<(), FileError> {
    let removed = if_found(fs::remove_file(path)).map_err(failed("remove", path));
    removed.map(drop)
}

/// Returns what the system has done with a file; `None`: there is none.
pub(super) fn if_found<T>(done: io::Result<T>) -> io::Result<Option<T>> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        done => done.map(Some),
    }
}

/// Whether there is anything at a path. What cannot be looked at may be there.
pub(super) fn is_here(path: &Path) -> Result<bool, FileError> {
    let found = if_found(fs::metadata(path)).map_err(failed("look at", path))?;
    Ok(found.is_some())
}

/// Whether there is a directory at a path, where nothing else may be.
pub(super) fn is_dir_here(path: &Path) -> Result<bool, FileError> {
    match if_found(fs::metadata(path)).map_err(failed("look at", path))? {
        Some(found) if !found.is_dir() => Err(failed("look at", path)(io::ErrorKind::NotADirectory.into())),
        found => Ok(found.is_some()),
    }
}

/// Makes files and the entries of directories durable: a rename is one only after this. All at the same time, because a
/// file system writes once for those that wait together, and once for each that comes alone.
///
/// # Errors
/// [`FileError`] if one of them cannot be; any of them may be durable then.
pub(crate) fn sync(paths: &[PathBuf]) -> Result<(), FileError> {
    let sync_some = |paths: &[PathBuf]| {
        paths.iter().try_for_each(|path| {
            let synced = File::open(path).and_then(|file| file.sync_all());
            synced.map_err(failed("sync", path))
        })
    };
    let (own, others) = paths.split_at(paths.len().div_ceil(SYNCS_AT_ONCE));
    thread::scope(|scope| {
        let others = others.chunks(own.len().max(1)).map(|some| {
            let synced = thread::Builder::new().spawn_scoped(scope, move || sync_some(some));
            (some, synced)
        });
        let others: Vec<_> = others.collect();
        let synced = sync_some(own);
        others.into_iter().fold(synced, |all, (some, synced)| {
            let synced = match synced {
                Ok(synced) => synced.join().unwrap_or_else(|panic| resume_unwind(panic)),
                // Without a thread for them, they come alone.
                Err(_) => sync_some(some),
            };
            all.and(synced)
        })
    })
}

/// Threads that wait for the disk at the same time.
const SYNCS_AT_ONCE: usize = 8;

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
            Ok(panic) => resume_unwind(panic),
            // The runtime is shutting down, and the waiting task with it.
            Err(_) => std::future::pending().await,
        },
    }
}

/// Creates and locks the file that shows that this instance is alive.
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

/// The file inside a repository that holds its coordinate, since its path may hold only a hash of it.
pub(crate) const COORDINATE_FILE: &str = "grasp-coordinate";
/// `NAME_MAX` of Linux file systems less `.git`.
const NAME_BYTES_MAX: usize = 255 - ".git".len();
const REPOSITORIES: &str = "repositories";
const STAGING: &str = "staging";
const PARTS: &str = "parts";
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
}
