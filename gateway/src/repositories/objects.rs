//! Looking up objects in-process: which exist, of which kind, what a tag points at.
//!
//! Stores are opened per operation: a long-lived one runs out of index slots and pins packs that are gone
//! (docs/facts/git-http.md 1). They leave out a file that cannot be looked at or opened, as if it were not there: what
//! they do not find is looked for once more, by its file and in the index of each pack.

use std::cell::OnceCell;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::DirEntry;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use gix::error::Class;
use gix::error::ResourceExhaustionKind;
use gix::objs::Kind;
use gix::odb::pack::index::File as PackIndex;
use rustix::time::ClockId;
use rustix::time::clock_gettime;
use shared::git::ObjectKind;
use shared::git::Oid;

use crate::repositories::layout::FileError;
use crate::repositories::layout::entries_if_any;
use crate::repositories::layout::failed;
use crate::repositories::layout::if_found;
use crate::repositories::layout::in_background;
use crate::repositories::layout::is_dir_here;
use crate::repositories::layout::is_here;
use crate::repositories::packs::packs_in;

/// Why refs or objects could not be read. A missing one is not an error.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{} has unexpected content", path.display())]
    Malformed { path: PathBuf },
    #[error("cannot read object {oid}: {reason}")]
    Object { oid: Oid, reason: String },
}

/// Returns the kinds of those of `oids` that exist in one of `object_dirs`. A directory that does not exist holds no
/// objects.
///
/// # Errors
/// [`ReadError`] if a directory or an object that exists cannot be read.
pub(crate) async fn object_kinds(
    object_dirs: Vec<PathBuf>,
    oids: Vec<Oid>,
) -> Result<BTreeMap<Oid, ObjectKind>, ReadError> {
    in_background(move || kinds_in(&object_dirs, &oids)).await
}

/// As [`object_kinds`]. Blocks.
///
/// Anybody may have a state declare thousands of objects that are not here, and have them looked up again and again:
/// the packs are listed twice for all of them, and not once for each.
pub(super) fn kinds_in(object_dirs: &[PathBuf], oids: &[Oid]) -> Result<BTreeMap<Oid, ObjectKind>, ReadError> {
    let object_dirs = dirs_here(object_dirs)?;
    let (mut kinds, mut missing) = (BTreeMap::new(), Vec::new());
    let stores = open_stores_once(&object_dirs)?;
    for oid in oids {
        match header_in(&stores, *oid)? {
            Some(found) => drop(kinds.insert(*oid, found.kind)),
            None => missing.push(*oid),
        }
    }
    let came = paths_of(&object_dirs, &missing)?;
    if came.is_empty() {
        return Ok(kinds);
    }
    // They came meanwhile, or could not be read for a moment.
    let stores = open_stores(&object_dirs)?;
    for (oid, path) in came {
        let found = header_in(&stores, oid)?.ok_or_else(|| unreadable_at(oid, &path))?;
        kinds.insert(oid, found.kind);
    }
    Ok(kinds)
}

/// Object directories opened for one operation of one thread. What it may cost is bounded for each object, and for all
/// of them together: few bytes of a push can be thousands of objects that each take much to rebuild.
pub(crate) struct Objects {
    /// Opened again where they did not find what is there.
    stores: RefCell<Vec<gix::odb::Handle>>,
    /// The directories of the stores.
    object_dirs: Vec<PathBuf>,
    /// The indexes of all packs, opened when an object is not found.
    indexes: OnceCell<Vec<PackIndex>>,
    /// In the processor time of this thread.
    ends_at: Duration,
}

impl Objects {
    /// Opens object directories. When this thread has worked for `cpu_max` since, each further object costs too much to
    /// read; that it exists, and of which kind it is, can still be asked.
    pub(crate) fn open(object_dirs: &[PathBuf], cpu_max: Duration) -> Result<Self, ReadError> {
        let object_dirs = dirs_here(object_dirs)?;
        Ok(Self {
            stores: RefCell::new(open_stores(&object_dirs)?),
            object_dirs,
            indexes: OnceCell::new(),
            ends_at: thread_cpu_time().saturating_add(cpu_max),
        })
    }

    pub(crate) fn kind(&self, oid: Oid) -> Result<Option<ObjectKind>, ReadError> {
        Ok(self.find(oid)?.map(|found| found.kind))
    }

    /// Returns what `oid` points at through any number of annotated tags; `None` if it is no tag, a tag of something
    /// that is not here, or one that costs too much to read.
    pub(crate) fn peel(&self, oid: Oid) -> Result<Option<Oid>, ReadError> {
        let mut at = oid;
        for _ in 0..TAG_DEPTH_MAX {
            if self.is_spent() {
                return Ok(None);
            }
            match self.find(at)? {
                Some(found) if found.kind != ObjectKind::Tag => return Ok((at != oid).then_some(at)),
                Some(found) if found.size_bytes <= TAG_BYTES_MAX && found.deltas <= DELTAS_MAX => {
                    let Some(targets) = self.rebuild(at, |tag| links_in(at, tag))? else {
                        tracing::warn!(oid = %at, "a tag is a delta of an object too large to rebuild: it is not peeled");
                        return Ok(None);
                    };
                    let Some(target) = targets.first() else {
                        return Ok(None);
                    };
                    at = *target;
                }
                Some(_) | None => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Returns the objects that one refers to, submodules left out; none if it is not here. `None`: it costs too much
    /// to read.
    pub(super) fn links(&self, oid: Oid) -> Result<Option<Vec<Oid>>, ReadError> {
        if self.is_spent() {
            return Ok(None);
        }
        match self.find(oid)? {
            Some(found) if found.kind != ObjectKind::Blob => self.read(oid, &found, |object| links_in(oid, object)),
            Some(_) | None => Ok(Some(Vec::new())),
        }
    }

    /// Returns the blobs of a tree with a name that is meant; none of anything else. `None`: it costs too much to read.
    pub(super) fn entries_named(&self, oid: Oid, is_meant: fn(&[u8]) -> bool) -> Result<Option<Vec<Oid>>, ReadError> {
        if self.is_spent() {
            return Ok(None);
        }
        match self.find(oid)? {
            Some(found) if found.kind == ObjectKind::Tree => self.read(oid, &found, |object| {
                let mut named = Vec::new();
                for entry in gix::objs::TreeRefIter::from_bytes(object.data, gix::hash::Kind::Sha1) {
                    let entry = entry.map_err(unreadable(oid))?;
                    if entry.mode.is_blob_or_symlink() && is_meant(entry.filename) {
                        named.extend(to_oid(entry.oid));
                    }
                }
                Ok(named)
            }),
            Some(_) | None => Ok(Some(Vec::new())),
        }
    }

    /// Returns the content of an object of this kind. `None`: none such is here, it has more bytes than that, or it
    /// costs too much to read.
    pub(super) fn content(&self, oid: Oid, kind: ObjectKind, bytes_max: u64) -> Result<Option<Vec<u8>>, ReadError> {
        if self.is_spent() {
            return Ok(None);
        }
        match self.find(oid)? {
            Some(found) if found.kind == kind && found.size_bytes <= bytes_max => {
                self.read(oid, &found, |object| Ok(object.data.to_vec()))
            }
            Some(_) | None => Ok(None),
        }
    }

    fn is_spent(&self) -> bool {
        thread_cpu_time() >= self.ends_at
    }

    /// Reads an object that was found, unless that costs too much.
    fn read<T>(
        &self,
        oid: Oid,
        found: &ObjectHeader,
        parse: impl Fn(&gix::objs::Data<'_>) -> Result<T, ReadError>,
    ) -> Result<Option<T>, ReadError> {
        match found.deltas > LINKS_DELTAS_MAX || found.size_bytes > REBUILD_BYTES_MAX as u64 {
            true => Ok(None),
            false => self.rebuild(oid, parse),
        }
    }

    /// Reads an object that was found. `None`: the base of its delta is too large.
    fn rebuild<T>(
        &self,
        oid: Oid,
        parse: impl Fn(&gix::objs::Data<'_>) -> Result<T, ReadError>,
    ) -> Result<Option<T>, ReadError> {
        let id = gix::ObjectId::Sha1(*oid.as_bytes());
        let mut buffer = Vec::new();
        for store in self.stores.borrow().iter() {
            match gix::objs::Find::try_find(store, &id, &mut buffer) {
                Ok(Some(object)) => return parse(&object).map(Some),
                Ok(None) => {}
                Err(error) if error.classify().has(BEYOND_LIMIT) => return Ok(None),
                Err(error) => return Err(unreadable(oid)(error)),
            }
        }
        Err(unreadable(oid)("it was there just now"))
    }

    fn find(&self, oid: Oid) -> Result<Option<ObjectHeader>, ReadError> {
        let found = header_in(&self.stores.borrow(), oid)?;
        if found.is_some() {
            return Ok(found);
        }
        let Some(path) = self.path_of(oid)? else {
            return Ok(None);
        };
        // The object came meanwhile, or could not be read for a moment.
        let stores = open_stores(&self.object_dirs)?;
        let found = header_in(&stores, oid)?;
        self.stores.replace(stores);
        match found {
            None => Err(unreadable_at(oid, &path)),
            found => Ok(found),
        }
    }

    /// Returns the file or the index of a pack that has an object.
    fn path_of(&self, oid: Oid) -> Result<Option<PathBuf>, ReadError> {
        let indexes = match self.indexes.get() {
            Some(indexes) => indexes,
            None => {
                let mut opened = Vec::new();
                for dir in &self.object_dirs {
                    open_indexes(&dir.join("pack"), &mut opened)?;
                }
                self.indexes.get_or_init(|| opened)
            }
        };
        Ok(match index_with(indexes, oid) {
            Some(path) => Some(path),
            None => loose_file(&self.object_dirs, oid)?,
        })
    }
}

/// Returns those of the directories that exist.
fn dirs_here(object_dirs: &[PathBuf]) -> Result<Vec<PathBuf>, ReadError> {
    let mut here = Vec::with_capacity(object_dirs.len());
    for path in object_dirs {
        if is_dir_here(path)? {
            here.push(path.clone());
        }
    }
    Ok(here)
}

/// Returns those of these objects that are there, with the file or the index of a pack that has each. A loose one that
/// is packed meanwhile is found in its pack: the packs are listed last.
fn paths_of(object_dirs: &[PathBuf], oids: &[Oid]) -> Result<BTreeMap<Oid, PathBuf>, ReadError> {
    let mut found = BTreeMap::new();
    if oids.is_empty() {
        return Ok(found);
    }
    // Of most repositories nothing is loose.
    let mut with_loose = Vec::new();
    for dir in object_dirs {
        if entries_if_any(dir)?
            .iter()
            .any(|entry| entry.file_name().len() == LOOSE_DIR_LEN)
        {
            with_loose.push(dir.clone());
        }
    }
    let mut indexes = Vec::new();
    for oid in oids {
        found.extend(loose_file(&with_loose, *oid)?.map(|path| (*oid, path)));
    }
    for dir in object_dirs {
        open_indexes(&dir.join("pack"), &mut indexes)?;
    }
    for oid in oids {
        found.extend(index_with(&indexes, *oid).map(|path| (*oid, path)));
    }
    Ok(found)
}

/// Returns the index that has an object.
fn index_with(indexes: &[PackIndex], oid: Oid) -> Option<PathBuf> {
    let id = gix::ObjectId::Sha1(*oid.as_bytes());
    let index = indexes.iter().find(|index| index.lookup(id).is_some())?;
    Some(index.path().to_owned())
}

/// Returns the file of a loose object.
fn loose_file(object_dirs: &[PathBuf], oid: Oid) -> Result<Option<PathBuf>, ReadError> {
    let digits = oid.to_string();
    for dir in object_dirs {
        let file = dir.join(&digits[..LOOSE_DIR_LEN]).join(&digits[LOOSE_DIR_LEN..]);
        if is_here(&file)? {
            return Ok(Some(file));
        }
    }
    Ok(None)
}

/// Opens stores that list their packs once, and not again for each object that they do not find.
fn open_stores_once(object_dirs: &[PathBuf]) -> Result<Vec<gix::odb::Handle>, ReadError> {
    let mut stores = open_stores(object_dirs)?;
    for store in &mut stores {
        store.refresh_never();
    }
    Ok(stores)
}

fn open_stores(object_dirs: &[PathBuf]) -> Result<Vec<gix::odb::Handle>, ReadError> {
    let mut stores = Vec::with_capacity(object_dirs.len());
    for path in object_dirs {
        let options = gix::odb::store::init::Options {
            // It would ask for that of this process, which may have been removed.
            current_dir: Some("/".into()),
            alloc_limit_bytes: Some(REBUILD_BYTES_MAX),
            ..Default::default()
        };
        let store = gix::odb::at_opts(path, gix::hash::Kind::Sha1, [], options);
        stores.push(store.map_err(failed("open the object directory", path))?);
    }
    Ok(stores)
}

fn header_in(stores: &[gix::odb::Handle], oid: Oid) -> Result<Option<ObjectHeader>, ReadError> {
    let id = gix::ObjectId::Sha1(*oid.as_bytes());
    for store in stores {
        let header = gix::odb::Header::try_header(store, &id).map_err(unreadable(oid))?;
        if let Some(header) = header {
            let kind = match header.kind() {
                Kind::Commit => ObjectKind::Commit,
                Kind::Tree => ObjectKind::Tree,
                Kind::Blob => ObjectKind::Blob,
                Kind::Tag => ObjectKind::Tag,
            };
            return Ok(Some(ObjectHeader {
                kind,
                size_bytes: header.size(),
                deltas: header.num_deltas().unwrap_or(0),
            }));
        }
    }
    Ok(None)
}

/// Opens every pack of an object directory with its index. Blocks.
///
/// # Errors
/// [`ReadError`] if one of them cannot be opened: then it is unknown which objects exist.
pub(super) fn open_packs(object_dir: &Path) -> Result<(), ReadError> {
    let dir = object_dir.join("pack");
    for name in packs_in(&dir)? {
        let path = dir.join(name).with_extension("pack");
        File::open(&path).map_err(failed("open", &path))?;
        let bundle = gix::odb::pack::Bundle::at(&path, gix::hash::Kind::Sha1);
        if !bundle.is_ok_and(|bundle| bundle.pack.checksum() == bundle.index.pack_checksum()) {
            return Err(ReadError::Malformed { path });
        }
    }
    Ok(())
}

/// Opens the index of every pack in a directory, replaced ones too.
fn open_indexes(pack_dir: &Path, opened: &mut Vec<PackIndex>) -> Result<(), ReadError> {
    for path in entries_if_any(pack_dir)?.iter().map(DirEntry::path) {
        // git ignores an index without its pack.
        if path.extension() != Some(OsStr::new("idx")) || !is_here(&path.with_extension("pack"))? {
            continue;
        }
        // If maintenance has removed it just now, another one has its objects.
        if if_found(File::open(&path)).map_err(failed("open", &path))?.is_none() {
            continue;
        }
        let index = PackIndex::at(&path, gix::hash::Kind::Sha1);
        opened.push(index.map_err(|_| ReadError::Malformed { path })?);
    }
    Ok(())
}

fn thread_cpu_time() -> Duration {
    // It is never negative.
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or(Duration::MAX)
}

pub(super) fn to_oid(id: &gix::oid) -> Option<Oid> {
    let bytes = <[u8; Oid::LEN]>::try_from(id.as_bytes());
    bytes.ok().and_then(Oid::from_bytes)
}

fn links_in(oid: Oid, object: &gix::objs::Data<'_>) -> Result<Vec<Oid>, ReadError> {
    let sha1 = gix::hash::Kind::Sha1;
    let mut links = Vec::new();
    match object.kind {
        Kind::Blob => {}
        Kind::Tag => {
            let tag = gix::objs::TagRefIter::from_bytes(object.data, sha1);
            links.extend(to_oid(&tag.target_id().map_err(unreadable(oid))?));
        }
        Kind::Commit => {
            let mut commit = gix::objs::CommitRefIter::from_bytes(object.data, sha1);
            links.extend(to_oid(&commit.tree_id().map_err(unreadable(oid))?));
            links.extend(commit.parent_ids().filter_map(|parent| to_oid(&parent)));
        }
        Kind::Tree => {
            for entry in gix::objs::TreeRefIter::from_bytes(object.data, sha1) {
                let entry = entry.map_err(unreadable(oid))?;
                if !entry.mode.is_commit() {
                    links.extend(to_oid(entry.oid));
                }
            }
        }
    }
    Ok(links)
}

/// The known facts about an object before it is rebuilt.
struct ObjectHeader {
    kind: ObjectKind,
    size_bytes: u64,
    /// On how many deltas it is built.
    deltas: u32,
}

fn unreadable<E: std::fmt::Display>(oid: Oid) -> impl FnOnce(E) -> ReadError {
    move |error| ReadError::Object {
        oid,
        reason: error.to_string(),
    }
}

fn unreadable_at(oid: Oid, path: &Path) -> ReadError {
    unreadable(oid)(format!("{} cannot be read", path.display()))
}

/// How many digits of an object's name are that of the directory of its file.
const LOOSE_DIR_LEN: usize = 2;
/// A tag of a tag of a tag: more than real repositories have, and a bound for malicious ones.
const TAG_DEPTH_MAX: usize = 32;
/// A longer tag is advertised without its peeled value, rather than read into memory at each advertisement.
const TAG_BYTES_MAX: u64 = 256 * 1024;
/// The longest chain that git made before it found that 50 are enough (`gc.aggressiveDepth` until git 2.11): each delta
/// copies the object once more.
const DELTAS_MAX: u32 = 250;
/// git's default (`pack.depth`): an object behind more deltas is left to git, which caches what it has rebuilt.
const LINKS_DELTAS_MAX: u32 = 50;
/// For all that is needed to rebuild one object: twice the largest of its chain, and the deltas. A tag of 150 bytes can
/// be a delta of one of 2 GB.
const REBUILD_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What gix calls an object that needs more than that.
const BEYOND_LIMIT: Class = Class::ResourceExhaustion(ResourceExhaustionKind::AllocationLimit);

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering;

    use rustix::fs::CWD;
    use rustix::fs::RenameFlags;
    use rustix::fs::renameat_with;

    use super::*;
    use crate::repositories::repository::Repository;
    use crate::repositories::testing::World;

    /// Writes a tag of `target` with a message.
    async fn tag_of(world: &World, repository: &Repository, target: Oid, message: &str) -> Oid {
        let head = format!("object {target}\ntype commit\ntag t\ntagger a <a@b> 0 +0000\n\n");
        let content = head + message;
        let args = ["hash-object", "-t", "tag", "-w", "--stdin"];
        world.oid(repository, &args, content.as_bytes()).await
    }

    /// Returns 64 digits that are like no other block's.
    fn block(number: u64) -> String {
        let mix = |i: u64| (number * 4 + i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        (0..4)
            .map(|i| format!("{:016x}", mix(i).wrapping_mul(0xbf58_476d_1ce4_e5b9)))
            .collect()
    }

    /// Packs these tags, as deltas of each other.
    async fn pack(world: &World, repository: &Repository, tags: &[Oid]) {
        let list: String = tags.iter().map(|oid| format!("{oid}\n")).collect();
        let base = repository.object_dir().join("pack/pack");
        let args = ["pack-objects", "-q", "--depth=4095", base.to_str().unwrap()];
        world.git(repository, &args, list.as_bytes()).await;
        world.git(repository, &["prune-packed", "-q"], b"").await;
    }

    /// A tag of 150 bytes, stored as a delta of one of 1.9 GB, took 15 GB of memory at each reading of refs.
    #[tokio::test]
    async fn a_small_tag_that_is_a_delta_of_a_large_one_is_not_rebuilt() {
        let world = World::new().await;
        let repository = world.repository("a");
        let [commit, _] = world.two_commits(&repository).await;
        let small = tag_of(&world, &repository, commit, &"a".repeat(200_000)).await;
        let large = tag_of(&world, &repository, commit, &"a".repeat(6_000_000)).await;
        let objects = |repository: &Repository| Objects::open(&[repository.object_dir()], Duration::MAX).unwrap();
        assert_eq!(objects(&repository).peel(small).unwrap(), Some(commit));

        pack(&world, &repository, &[small, large]).await;

        let objects = objects(&repository);
        assert_eq!(objects.find(small).unwrap().unwrap().deltas, 1);
        assert_eq!(objects.peel(small).unwrap(), None);
        assert_eq!(objects.kind(small).unwrap(), Some(ObjectKind::Tag));
        assert_eq!(objects.peel(large).unwrap(), None);
    }

    /// Many that are each within the limits were read, for minutes.
    #[tokio::test]
    async fn what_an_operation_reads_has_a_bound_in_all() {
        let world = World::new().await;
        let repository = world.repository("a");
        let [commit, _] = world.two_commits(&repository).await;
        let tag = tag_of(&world, &repository, commit, "x").await;

        for (cpu_max, is_read) in [(Duration::MAX, true), (Duration::ZERO, false)] {
            let objects = Objects::open(&[repository.object_dir()], cpu_max).unwrap();
            assert_eq!(objects.peel(tag).unwrap().is_some(), is_read);
            assert_eq!(objects.links(commit).unwrap().is_some(), is_read);
            assert_eq!(objects.entries_named(commit, |_| true).unwrap().is_some(), is_read);
            let content = objects.content(commit, ObjectKind::Commit, u64::MAX);
            assert_eq!(content.unwrap().is_some(), is_read);
            assert_eq!(objects.kind(tag).unwrap(), Some(ObjectKind::Tag));
        }
    }

    #[tokio::test]
    async fn a_tag_behind_a_long_chain_of_deltas_is_not_rebuilt() {
        let world = World::new().await;
        let repository = world.repository("a");
        let [commit, _] = world.two_commits(&repository).await;
        // Each is most like the next one, so that git makes a chain of them.
        let blocks: Vec<String> = (0..340).map(block).collect();
        let mut tags = Vec::new();
        for i in 0..300 {
            let message = blocks[i..i + 40].concat() + &"a".repeat(i);
            tags.push(tag_of(&world, &repository, commit, &message).await);
        }

        pack(&world, &repository, &tags).await;

        let objects = Objects::open(&[repository.object_dir()], Duration::MAX).unwrap();
        let deltas = |oid: &&Oid| objects.find(**oid).unwrap().unwrap().deltas;
        let deepest = tags.iter().max_by_key(deltas).unwrap();
        assert!(deltas(&deepest) > DELTAS_MAX);
        assert_eq!(objects.peel(*deepest).unwrap(), None);
        let first = tags.iter().min_by_key(deltas).unwrap();
        assert_eq!(objects.peel(*first).unwrap(), Some(commit));
    }

    /// While the directory of packs could not be read for a moment, objects were missing, so a push that was answered
    /// `ok` released nothing.
    #[tokio::test]
    async fn what_cannot_be_read_is_not_missing() {
        let world = World::new().await;
        let repository = world.repository("a");
        let [commit, _] = world.two_commits(&repository).await;
        pack(&world, &repository, &[commit]).await;
        let dir = repository.object_dir();
        let (place, away) = (dir.join("pack"), world.path().join("away"));
        std::fs::write(&away, "").unwrap();
        let exchange = || renameat_with(CWD, &place, CWD, &away, RenameFlags::EXCHANGE).unwrap();

        let is_over = AtomicBool::new(false);
        let read: Vec<_> = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    exchange();
                }
            });
            let dirs = std::slice::from_ref(&dir);
            let read = (0..5_000).map(|_| kinds_in(dirs, &[commit]).map(|kinds| kinds.len()).ok());
            let read = read.collect();
            is_over.store(true, Ordering::Relaxed);
            read
        });
        let [found, missing, unreadable] =
            [Some(1), Some(0), None].map(|one| read.iter().filter(|it| **it == one).count());
        assert_eq!(missing, 0);
        assert!(found > 0 && unreadable > 0, "{found} {unreadable}");
    }
}
