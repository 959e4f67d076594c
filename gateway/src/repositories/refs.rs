//! Reading the refs of a repository: loose files first, then `packed-refs`, as git does and gix does not.
//!
//! In the other order a `git pack-refs` in between hides refs (git `refs/files-backend.c`; docs/facts/git-http.md 1 and
//! 2.1). A reading during which `HEAD` or a loose ref was replaced may hold half of a transaction, and is made again.
//! What a snapshot was made of is noted as stamps, which tell later whether it still holds.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::fs::File;
use std::fs::Metadata;
use std::io;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use shared::git::Namespace;
use shared::git::Oid;
use shared::git::RefName;

use crate::repositories::layout::failed;
use crate::repositories::layout::if_found;
use crate::repositories::objects::Objects;
use crate::repositories::objects::ReadError;
use crate::repositories::packed_refs::PackedRefs;

/// The refs of one repository at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RefSnapshot {
    /// Every ref of three or more components, with its value.
    pub(crate) refs: BTreeMap<RefName, Oid>,
    /// What those refs point at in the end that hold an annotated tag.
    pub(crate) peeled: BTreeMap<RefName, Oid>,
    pub(crate) head: Head,
}

/// The content of `HEAD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Head {
    /// The name of a ref, which may not exist (unborn).
    Symbolic(RefName),
    /// An object id; this server never writes one.
    Detached(Oid),
}

impl RefSnapshot {
    /// Returns the refs of a repository that has none: `HEAD` names a branch that is not yet born.
    pub(crate) fn empty() -> Self {
        Self {
            refs: BTreeMap::new(),
            peeled: BTreeMap::new(),
            head: Head::Symbolic(initial_branch()),
        }
    }

    /// Returns the commit that `HEAD` leads to; `None` while it is unborn.
    pub(crate) fn head_oid(&self) -> Option<Oid> {
        match &self.head {
            Head::Symbolic(name) => self.refs.get(name).copied(),
            Head::Detached(oid) => Some(*oid),
        }
    }
}

/// Returns the branch that `HEAD` names in a repository without refs (docs/facts/grasp.md 2.2).
pub(crate) fn initial_branch() -> RefName {
    "refs/heads/master".parse().expect("a full and valid ref name")
}

/// What the file system said of one file or directory that a snapshot was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stamp {
    path: PathBuf,
    /// Modification time in seconds and nanoseconds, inode, size; `None`: does not exist.
    seen: Option<(i64, i64, u64, u64)>,
}

impl Stamp {
    fn of(path: &Path) -> Self {
        let seen = |meta: &Metadata| (meta.mtime(), meta.mtime_nsec(), meta.ino(), meta.size());
        Self {
            path: path.to_owned(),
            seen: fs::symlink_metadata(path).ok().as_ref().map(seen),
        }
    }

    /// Whether nothing was renamed, created or removed there since.
    pub(crate) fn still_holds(&self) -> bool {
        *self == Self::of(&self.path)
    }
}

/// A snapshot and the stamps of all that it was read from, each taken before the reading.
#[derive(Debug)]
pub(crate) struct StampedRefs {
    pub(crate) snapshot: RefSnapshot,
    pub(crate) stamps: Vec<Stamp>,
    /// The refs that have files of their own.
    pub(super) loose: BTreeSet<RefName>,
    /// Whether each ref in `packed-refs` without a peeled value is no tag, or one that costs too much to peel.
    pub(super) is_fully_peeled: bool,
    /// The lines of `packed-refs` that are no part of the snapshot, by name.
    pub(super) others: BTreeMap<String, String>,
}

/// Reads the refs of the repository at `path`; `None` if there is none. Blocks.
///
/// What tags in `known` point at is not looked up again.
pub(crate) fn read_refs(path: &Path, known: Option<&RefSnapshot>) -> Result<Option<StampedRefs>, ReadError> {
    let began = Instant::now();
    let RefReading {
        head,
        loose,
        mut packed,
        stamps,
        ..
    } = loop {
        let Some(reading) = RefReading::of(path)? else {
            return Ok(None);
        };
        if reading.is_of_one_moment(path) || began.elapsed() >= READ_FOR {
            break reading;
        }
        thread::sleep(READ_AGAIN);
    };
    let names: BTreeSet<RefName> = loose.keys().cloned().collect();
    let mut unknown = Vec::new();
    for (name, oid) in loose {
        packed.peeled.remove(&name);
        // git writes only commits to branches.
        if name.namespace() != Namespace::Branch {
            unknown.push((name.clone(), oid));
        }
        packed.refs.insert(name, oid);
    }
    if !packed.is_fully_peeled {
        let bare = packed.refs.iter().map(|(name, oid)| (name.clone(), *oid));
        unknown = bare.filter(|(name, _)| !packed.peeled.contains_key(name)).collect();
    }
    peel_unknown(path, unknown, known, &mut packed.peeled)?;
    let snapshot = RefSnapshot {
        refs: packed.refs,
        peeled: packed.peeled,
        head,
    };
    Ok(Some(StampedRefs {
        snapshot,
        stamps,
        loose: names,
        is_fully_peeled: packed.is_fully_peeled,
        others: packed.others,
    }))
}

struct RefReading {
    head: Head,
    loose: BTreeMap<RefName, Oid>,
    packed: PackedRefs,
    /// That of `HEAD` first.
    stamps: Vec<Stamp>,
    loose_stamps: Vec<Stamp>,
}

impl RefReading {
    fn of(path: &Path) -> Result<Option<Self>, ReadError> {
        let head_path = path.join("HEAD");
        let packed_path = path.join("packed-refs");
        let head_stamp = Stamp::of(&head_path);
        let Some(head) = read_small(&head_path, if_found)? else {
            return Ok(None);
        };
        let mut reading = Self {
            head: parse_head(&head).ok_or(ReadError::Malformed { path: head_path })?,
            loose: BTreeMap::new(),
            packed: PackedRefs::default(),
            stamps: vec![head_stamp],
            loose_stamps: Vec::new(),
        };
        reading.walk(&path.join("refs"), "refs")?;
        reading.stamps.push(Stamp::of(&packed_path));
        let packed = if_found(fs::read(&packed_path)).map_err(failed("read", &packed_path))?;
        let packed = PackedRefs::parse(&String::from_utf8_lossy(&packed.unwrap_or_default()));
        reading.packed = packed.ok_or(ReadError::Malformed { path: packed_path })?;
        Ok(Some(reading))
    }

    /// Reads every loose ref below `dir`, whose name is `prefix`. What vanishes meanwhile is packed or deleted.
    fn walk(&mut self, dir: &Path, prefix: &str) -> Result<(), ReadError> {
        self.stamps.push(Stamp::of(dir));
        // No ref stands in the place of these.
        let read = match FIXED_DIRS.contains(&prefix) {
            true => if_found(fs::read_dir(dir)),
            false => unless_vanished(fs::read_dir(dir)),
        };
        let Some(entries) = read.map_err(failed("read", dir))? else {
            return Ok(());
        };
        for entry in entries {
            let entry = entry.map_err(failed("read", dir))?;
            let path = entry.path();
            let Some(file_name) = entry.file_name().to_str().map(str::to_owned) else {
                continue;
            };
            let name = format!("{prefix}/{file_name}");
            let is_dir = entry.file_type().map_err(failed("read", &path))?.is_dir();
            if is_dir || FIXED_DIRS.contains(&&*name) {
                self.walk(&path, &name)?;
            } else if let Ok(name) = name.parse::<RefName>() {
                // A name that does not parse is a `.lock`, or nothing that this server made.
                self.read_loose(&path, name)?;
            }
        }
        Ok(())
    }

    fn read_loose(&mut self, path: &Path, name: RefName) -> Result<(), ReadError> {
        let stamp = Stamp::of(path);
        let Some(content) = read_small(path, unless_vanished)? else {
            return Ok(());
        };
        if content.starts_with("ref: ") {
            // Symbolic refs beside HEAD are not served; nothing here makes them.
            return Ok(());
        }
        let oid = content
            .trim_end()
            .parse()
            .map_err(|_| ReadError::Malformed { path: path.to_owned() })?;
        self.loose.insert(name, oid);
        self.loose_stamps.push(stamp);
        Ok(())
    }

    /// Whether the refs that were read first are still valid now that `packed-refs` was read. A transaction removes
    /// loose refs before `packed-refs` gets other values, and keeps `HEAD` locked while it replaces both
    /// (ref_transaction.rs).
    fn is_of_one_moment(&self, path: &Path) -> bool {
        // The lock first: it goes when `HEAD` is replaced.
        !is_being_replaced(&path.join("HEAD.lock"))
            && self.stamps.first().is_some_and(Stamp::still_holds)
            && self.loose_stamps.iter().all(Stamp::still_holds)
    }
}

/// Whether a lock is held by somebody: one that stays was left by a killed git.
fn is_being_replaced(lock: &Path) -> bool {
    let made = fs::symlink_metadata(lock).and_then(|lock| lock.modified());
    made.is_ok_and(|made| made.elapsed().is_ok_and(|age| age < READ_FOR))
}

/// Looks up what each of `unknown` points at if it is a tag.
fn peel_unknown(
    repository: &Path,
    unknown: Vec<(RefName, Oid)>,
    known: Option<&RefSnapshot>,
    peeled: &mut BTreeMap<RefName, Oid>,
) -> Result<(), ReadError> {
    let mut objects = None;
    for (name, oid) in unknown {
        let target = match known {
            Some(known) if known.refs.get(&name) == Some(&oid) => known.peeled.get(&name).copied(),
            Some(_) | None => {
                let objects = match &objects {
                    Some(objects) => objects,
                    None => objects.insert(Objects::open(&[repository.join("objects")], PEEL_CPU_MAX)?),
                };
                objects.peel(oid)?
            }
        };
        if let Some(target) = target {
            peeled.insert(name, target);
        }
    }
    Ok(())
}

fn parse_head(content: &str) -> Option<Head> {
    let content = content.trim_end();
    match content.strip_prefix("ref:") {
        Some(name) => name.trim_start().parse().ok().map(Head::Symbolic),
        None => content.parse().ok().map(Head::Detached),
    }
}

/// Reads a file of one line; `None` if there is none. `if_here` decides which failures mean that.
fn read_small(
    path: &Path,
    if_here: fn(io::Result<usize>) -> io::Result<Option<usize>>,
) -> Result<Option<String>, ReadError> {
    let mut content = String::new();
    let read = File::open(path).and_then(|file| file.take(LINE_BYTES_MAX).read_to_string(&mut content));
    match read {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(ReadError::Malformed { path: path.to_owned() }),
        read => {
            let read = if_here(read).map_err(failed("read", path))?;
            Ok(read.map(|_| content))
        }
    }
}

/// Returns what was read; `None`: the path is gone, or has changed between file and directory.
fn unless_vanished<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    use io::ErrorKind::{IsADirectory, NotADirectory, NotFound};
    match read {
        Err(error) if matches!(error.kind(), NotFound | NotADirectory | IsADirectory) => Ok(None),
        read => read.map(Some),
    }
}

/// What peeling the tags of a repository may cost in all. Those that git has packed take microseconds each.
pub(super) const PEEL_CPU_MAX: Duration = Duration::from_secs(1);

/// For how long refs are read again that change all the while. A transaction replaces files within a millisecond, but
/// on a busy machine its thread may have to wait in between.
const READ_FOR: Duration = Duration::from_secs(1);

/// The directories of refs that are never replaced by a ref.
const FIXED_DIRS: [&str; 4] = ["refs", "refs/heads", "refs/tags", "refs/nostr"];

const READ_AGAIN: Duration = Duration::from_millis(1);

/// A symbolic `HEAD` can be as long as a path.
const LINE_BYTES_MAX: u64 = 4200;

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering;
    use std::time::Instant;

    use super::*;
    use crate::repositories::ref_cache::RefCache;
    use crate::repositories::testing::World;

    fn name(text: &str) -> RefName {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn loose_refs_win_over_packed_ones_and_tags_are_peeled_to_the_end() {
        for world in World::of_every_git().await {
            let repository = world.repository("a");
            let [one, two] = world.two_commits(&repository).await;
            let tag = world.tag(&repository, one, "commit").await;
            let nested = world.tag(&repository, tag, "tag").await;
            let git = async |args: &[&str]| world.git(&repository, args, b"").await;
            for (name, oid) in [
                ("refs/heads/a", one),
                ("refs/tags/packed", nested),
                ("refs/tags/light", one),
            ] {
                git(&["update-ref", name, &oid.to_string()]).await;
            }
            git(&["pack-refs", "--all"]).await;
            git(&["update-ref", "refs/heads/a", &two.to_string()]).await;
            git(&["update-ref", "refs/tags/loose", &nested.to_string()]).await;
            git(&["update-ref", "refs/stash", &one.to_string()]).await;

            let refs = repository.refs().await.unwrap().unwrap();

            let expected = [
                (name("refs/heads/a"), two),
                (name("refs/tags/light"), one),
                (name("refs/tags/loose"), nested),
                (name("refs/tags/packed"), nested),
            ];
            let peeled = [(name("refs/tags/loose"), one), (name("refs/tags/packed"), one)];
            assert_eq!(refs.refs, BTreeMap::from(expected));
            assert_eq!(refs.peeled, BTreeMap::from(peeled));
        }
    }

    #[tokio::test]
    async fn a_packed_tag_that_was_replaced_by_a_commit_is_not_peeled() {
        let world = World::new().await;
        let repository = world.repository("a");
        let objects = world.populate(&repository).await;
        let git = async |args: &[&str]| world.git(&repository, args, b"").await;
        git(&["update-ref", "refs/tags/t", &objects.tag.to_string()]).await;
        git(&["pack-refs", "--all"]).await;
        git(&["update-ref", "refs/tags/t", &objects.commit.to_string()]).await;

        let refs = repository.refs().await.unwrap().unwrap();

        assert_eq!(refs.refs[&name("refs/tags/t")], objects.commit);
        assert!(refs.peeled.is_empty());
    }

    #[tokio::test]
    async fn a_file_that_git_did_not_write_is_an_error() {
        let world = World::new().await;
        for (file, content) in [
            ("HEAD", "main"),
            ("refs/heads/a", ""),
            ("refs/heads/a", "123"),
            ("packed-refs", "x"),
            (
                "packed-refs",
                "# pack-refs with: peeled fully-peeled sorted \nrefs/heads/a 12",
            ),
        ] {
            let repository = world.repository(&format!("{}{}", file.replace('/', "-"), content.len()));
            repository.create().await.unwrap();
            fs::create_dir_all(repository.path().join("refs/heads")).unwrap();
            fs::write(repository.path().join(file), content).unwrap();

            let read = repository.refs().await;

            assert!(matches!(read, Err(ReadError::Malformed { .. })), "{file} {content:?}");
        }
    }

    /// gix misses refs in one of eight readings under this load (docs/facts/git-http.md 1).
    #[tokio::test(flavor = "multi_thread", worker_threads = 3)]
    async fn no_ref_is_missed_and_no_change_overlooked_while_others_update_and_pack() {
        let world = World::new().await;
        let repository = world.repository("a");
        let commits = world.two_commits(&repository).await;
        let branches: Vec<_> = (0..20)
            .map(|i| name(&format!("refs/heads/dir{}/b{i}", i % 3)))
            .collect();
        let move_all = async |from: Option<usize>, to: usize| {
            let script: String = branches
                .iter()
                .map(|name| match from {
                    Some(from) => format!("update {name} {} {}\n", commits[to], commits[from]),
                    None => format!("create {name} {}\n", commits[to]),
                })
                .collect();
            world
                .git(&repository, &["update-ref", "--stdin"], script.as_bytes())
                .await;
        };
        move_all(None, 0).await;
        let cache = RefCache::new(10_000);
        let done = AtomicBool::new(false);

        let readings = thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut readings = 0;
                while !done.load(Ordering::Relaxed) {
                    let fresh = read_refs(repository.path(), None).unwrap().unwrap();
                    let cached = cache.snapshot(repository.path()).unwrap().unwrap();
                    assert_eq!(fresh.snapshot.refs.len(), branches.len());
                    assert_eq!(cached.refs.len(), branches.len());
                    readings += 1;
                }
                readings
            });
            tokio::task::block_in_place(|| {
                tokio::runtime::Handle::current().block_on(async {
                    for round in 0..30 {
                        move_all(Some(round % 2), (round + 1) % 2).await;
                        let expected = commits[(round + 1) % 2];
                        let seen = cache.snapshot(repository.path()).unwrap().unwrap();
                        assert!(seen.refs.values().all(|oid| *oid == expected), "round {round}");
                        world.git(&repository, &["pack-refs", "--all"], b"").await;
                    }
                });
            });
            done.store(true, Ordering::Relaxed);
            reader.join().unwrap()
        });

        assert!(readings > 100, "{readings}");
    }

    #[tokio::test]
    async fn a_settled_snapshot_is_kept_until_a_ref_changes() {
        let world = World::new().await;
        let repository = world.repository("a");
        let [one, two] = world.two_commits(&repository).await;
        let name = name("refs/heads/a/b/c");
        world
            .git(&repository, &["update-ref", name.as_str(), &one.to_string()], b"")
            .await;
        let cache = RefCache::new(1000);
        let snapshot = || cache.snapshot(repository.path()).unwrap().unwrap();
        let begun = Instant::now();
        let mut last = snapshot();
        let settled = loop {
            let next = snapshot();
            if std::sync::Arc::ptr_eq(&last, &next) {
                break next;
            }
            last = next;
            assert!(begun.elapsed() < Duration::from_secs(10));
        };

        let [update, pack] = [
            ["update-ref", name.as_str(), &two.to_string()],
            ["pack-refs", "--all", "--prune"],
        ]
        .map(|args| args.map(str::to_owned));
        assert_eq!(settled.refs[&name], one);
        for args in [update, pack] {
            let args = args.iter().map(String::as_str).collect::<Vec<_>>();
            world.git(&repository, &args, b"").await;
            let next = snapshot();
            assert!(!std::sync::Arc::ptr_eq(&settled, &next));
            assert_eq!(next.refs[&name], two);
        }
    }

    #[tokio::test]
    async fn the_cache_holds_no_more_refs_than_it_may() {
        let world = World::new().await;
        let cache = RefCache::new(20);
        for i in 0..8 {
            let repository = world.repository(&i.to_string());
            repository.create().await.unwrap();

            assert!(cache.snapshot(repository.path()).unwrap().is_some());
            assert!(cache.refs_held() <= 20);
        }
        assert!(cache.refs_held() > 0);
    }

    /// They were taken for a repository that is not there, or has no refs.
    #[tokio::test]
    async fn what_stands_in_the_place_of_refs_hides_none() {
        let world = World::new().await;
        let repository = world.repository("a");
        let [one, two] = world.two_commits(&repository).await;
        for (name, oid) in [("refs/heads/a", one), ("refs/tags/t", two)] {
            world
                .git(&repository, &["update-ref", name, &oid.to_string()], b"")
                .await;
            world.git(&repository, &["pack-refs", "--all"], b"").await;
        }
        world
            .git(&repository, &["update-ref", "refs/heads/b", &two.to_string()], b"")
            .await;
        let read = || read_refs(repository.path(), None).map(|read| read.map(|read| read.snapshot.refs.len()));

        for part in ["HEAD", "packed-refs", "refs", "refs/heads", "refs/tags"] {
            let (place, away) = (repository.path().join(part), world.path().join("away"));
            fs::rename(&place, &away).unwrap();
            match away.is_dir() {
                true => fs::write(&place, "").unwrap(),
                false => fs::create_dir(&place).unwrap(),
            }
            let hidden = read();
            assert!(hidden.is_err(), "{part}: {hidden:?}");
            fs::remove_dir(&place).or_else(|_| fs::remove_file(&place)).unwrap();
            fs::rename(&away, &place).unwrap();
        }
        assert_eq!(read().unwrap(), Some(3));
    }
}
