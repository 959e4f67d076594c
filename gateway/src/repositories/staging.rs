//! Objects that wait for their event, or for the announcement of their repository, beside the repository and out of
//! the sight of clones: one object directory for each event id and commit.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use nostr::event::EventId;
use shared::git::Oid;
use shared::nip34::Coordinate;
use shared::rules::SourceTag;
use shared::rules::Staged;

use crate::git::error::GitError;
use crate::logged::logged;
use crate::process::exceeded_limit;
use crate::repositories::creation::make_new_dir;
use crate::repositories::creation::replace_coordinate;
use crate::repositories::error::RepositoryError;
use crate::repositories::generation::WholeWith;
use crate::repositories::ingest::DISK_FAULTS;
use crate::repositories::ingest::MEMORY_FAULTS;
use crate::repositories::layout::COORDINATE_FILE;
use crate::repositories::layout::FileError;
use crate::repositories::layout::Layout;
use crate::repositories::layout::entries_if_any;
use crate::repositories::layout::failed;
use crate::repositories::layout::if_found;
use crate::repositories::layout::in_background;
use crate::repositories::layout::is_dir_here;
use crate::repositories::layout::make_dir;
use crate::repositories::layout::sync;
use crate::repositories::packs::packs_in;
use crate::repositories::packs::share_packs;
use crate::repositories::quarantine::Quarantine;
use crate::repositories::repository::Repository;
use crate::repositories::sorted_packs::SortedPacks;

/// The staged objects of one repository. Change them under the repository's lock.
#[derive(Debug, Clone)]
pub(super) struct Staging {
    repository: Repository,
    path: PathBuf,
}

impl Staging {
    /// Returns the staging area beside `repository`, which need not be on disk.
    pub(super) fn of(repository: &Repository) -> Self {
        Self {
            path: repository.store().layout().staging(repository.coordinate()),
            repository: repository.clone(),
        }
    }

    /// Returns where the objects of `commit_oid` for `event_id` are, or would be.
    pub(super) fn object_dir(&self, event_id: &EventId, commit_oid: &Oid) -> PathBuf {
        object_dir_in(&self.path, event_id, commit_oid)
    }

    pub(crate) async fn exists(&self, event_id: &EventId, commit_oid: &Oid) -> Result<bool, FileError> {
        let path = self.object_dir(event_id, commit_oid);
        in_background(move || is_dir_here(&path)).await
    }

    /// Shares the content of `quarantine` with the names of events and commits; existing objects stay. All of them
    /// become durable together, and then it is noted if they are sorted: the commit needs all of the content.
    pub(super) async fn place(
        &self,
        staged: impl IntoIterator<Item = (&EventId, &Oid)>,
        quarantine: &Quarantine,
        order: Order,
        pusher: Option<SourceTag>,
    ) -> Result<(), FileError> {
        let from = quarantine.object_dir().to_owned();
        let from_packs = from.join("pack");
        let to: Vec<_> = staged
            .into_iter()
            .map(|(event_id, oid)| self.object_dir(event_id, oid))
            .collect();
        let (own, repository) = (self.path.clone(), self.repository.clone());
        // Parts may go at any time.
        let whole_with = match quarantine.kept() {
            None => quarantine.whole_with().clone(),
            Some(_) => WholeWith::Unknown,
        };
        let place_packs = move |to: &Path| {
            if let Some(pusher) = pusher {
                note_pusher(to, pusher)?;
            }
            share_packs(&from, to)
        };
        in_background(move || {
            let packs = packs_in(&from_packs)?;
            place_aside(&repository, &own, &to, &whole_with, place_packs)?;
            if order == Order::Unknown {
                return Ok(());
            }
            let sorted = SortedPacks { whole_with, packs };
            to.iter().try_for_each(|to| sorted.note(to))?;
            sync(&to.iter().map(|to| SortedPacks::note_in(to)).collect::<Vec<_>>())
        })
        .await
    }

    /// Removes the objects staged for `event_id` at `commit_oid`, at once or not at all. It is no error if there are
    /// none.
    ///
    /// # Errors
    /// [`FileError`] if it is still there.
    pub(super) async fn remove(&self, event_id: &EventId, commit_oid: &Oid) -> Result<(), FileError> {
        let (path, own) = (self.object_dir(event_id, commit_oid), self.path.clone());
        let (of_event, layout) = (
            self.path.join(event_id.to_hex()),
            self.repository.store().layout().clone(),
        );
        in_background(move || {
            if is_dir_here(&path)? {
                layout.remove_at_once(&path)?;
            }
            remove_if_empty(&of_event)?;
            remove_unless_in_use(&own)
        })
        .await
    }

    /// Moves the objects staged for `event_id` at `commit_oid` into the repository, which must be on disk, if they are
    /// sorted: only those that the commit needs. Sets no ref, and leaves the object directory, which records that a ref
    /// is wanted.
    ///
    /// # Errors
    /// [`RepositoryError`], [`RepositoryError::Unsorted`] if that has to be done first; then the repository is as it
    /// was, unless a file could not be moved.
    pub(super) async fn admit(&self, event_id: &EventId, commit_oid: &Oid) -> Result<(), RepositoryError> {
        if !self.exists(event_id, commit_oid).await? {
            return Err(RepositoryError::NotStaged {
                event_id: *event_id,
                commit_oid: *commit_oid,
            });
        }
        if !self.repository.exists().await? {
            return Err(RepositoryError::NoRepository);
        }
        let (path, repository) = (self.object_dir(event_id, commit_oid), self.repository.clone());
        let moved = in_background(move || match SortedPacks::read(&path) {
            Some(sorted) => sorted.move_in(&path, &repository),
            None => Ok(false),
        });
        match moved.await? {
            true => Ok(()),
            false => Err(RepositoryError::Unsorted {
                event_id: *event_id,
                commit_oid: *commit_oid,
            }),
        }
    }
}

/// Returns where in the staging area of a repository the objects of `commit_oid` for `event_id` are.
pub(super) fn object_dir_in(own: &Path, event_id: &EventId, commit_oid: &Oid) -> PathBuf {
    own.join(event_id.to_hex()).join(commit_oid.to_string())
}

/// What is known of objects that are staged for a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// It needs all of them that the repository does not have.
    Sorted,
    /// Others may be among them.
    Unknown,
}

/// Makes sure that a repository, which must be on disk, and an object directory beside it together have all that
/// `tips` need, and notes that. It is known unless objects have left the repository since those beside it were checked.
/// Call it under the lock of the repository.
pub(super) async fn check_aside(
    repository: &Repository,
    object_dir: &Path,
    tips: &BTreeSet<Oid>,
) -> Result<(), RepositoryError> {
    let (path, beside) = (repository.path().to_owned(), object_dir.to_owned());
    if in_background(move || WholeWith::read(&beside).holds_for(&path)).await? {
        return Ok(());
    }
    check_complete(repository, &[object_dir.to_owned()], tips).await?;
    // Not walked again where it cannot move in now.
    let (path, beside) = (repository.path().to_owned(), object_dir.to_owned());
    Ok(in_background(move || WholeWith::repository(&path)?.note(&beside, true)).await?)
}

/// Makes sure that a repository, which must be on disk, and object directories beside it together have all that `tips`
/// need. git walks all that no ref reaches. Call it under the lock of the repository.
///
/// # Errors
/// [`RepositoryError::Incomplete`] if they do not, or if git could not open a pack and did not mention it.
pub(super) async fn check_complete(
    repository: &Repository,
    object_dirs: &[PathBuf],
    tips: &BTreeSet<Oid>,
) -> Result<(), RepositoryError> {
    let revs = repository.revisions_lacking(tips, None).await?;
    let git = repository.store().git();
    let _permit = git.permits().try_take("rev-list")?;
    let checked = git
        .invoke("rev-list")
        .repository(repository.path())
        .alternates(object_dirs)
        .arg("--objects")
        // Looks for every object and prints none.
        .arg("--quiet")
        .arg("--stdin")
        .output(revs.as_bytes(), CHECK_DEADLINE)
        .await;
    match checked {
        Ok(_) => Ok(()),
        Err(GitError::Failed { status, message, .. }) if !exceeded_limit(status) && !is_fault_of_ours(&message) => {
            Err(RepositoryError::Incomplete { message })
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether git failed for something else than an object that is missing.
fn is_fault_of_ours(message: &str) -> bool {
    let faults = [DISK_FAULTS, MEMORY_FAULTS, UNREADABLE].concat();
    faults.iter().any(|fault| message.contains(fault))
}

/// git's messages about packs that it cannot use (git `packfile.c`, `object-file.c`).
const UNREADABLE: &[&str] = &[
    "cannot be accessed",
    "check .git/objects/info/alternates",
    "unable to normalize alternate object path",
    "unable to open object pack directory",
    "does not match index",
    "corrupt",
    "inflate",
];

/// Puts packs into each object directory of `to`, somewhere in `own`, which belongs to `repository` and names it;
/// durably, with a note of what they are complete with. A new one is there with all of it or not at all: without its
/// objects it would be taken for a commit that came. Blocks.
pub(super) fn place_aside(
    repository: &Repository,
    own: &Path,
    to: &[PathBuf],
    whole_with: &WholeWith,
    place_packs: impl Fn(&Path) -> Result<(), FileError>,
) -> Result<(), FileError> {
    make_dir(own)?;
    note_coordinate(repository, own)?;
    let layout = repository.store().layout();
    let (mut old, mut new) = (Vec::new(), Vec::new());
    for to in to {
        match is_dir_here(to)? {
            true => old.push(to),
            false => new.push(to),
        }
    }
    for to in old {
        make_dir(&to.join("pack"))?;
        whole_with.clone().note(to, false)?;
        place_packs(to)?;
    }
    let new: Vec<(PathBuf, &Path)> = new.into_iter().map(|to| (layout.fresh_quarantine(), &**to)).collect();
    let made = make_new(&new, whole_with, &place_packs);
    if made.is_err() {
        // Where that fails too, the next start sweeps them.
        new.iter().for_each(|(fresh, _)| drop(fs::remove_dir_all(fresh)));
    }
    made?;
    let root = layout.root();
    let mut changed = BTreeSet::new();
    for to in to {
        changed.extend(to.ancestors().take_while(|dir| *dir != root).map(Path::to_owned));
        changed.insert(WholeWith::note_in(to));
    }
    sync(&Vec::from_iter(changed))
}

/// Makes object directories in a place where nobody looks for them, and moves each to where it belongs when all are
/// durable.
fn make_new(
    new: &[(PathBuf, &Path)],
    whole_with: &WholeWith,
    place_packs: impl Fn(&Path) -> Result<(), FileError>,
) -> Result<(), FileError> {
    let mut made = Vec::new();
    for (fresh, _) in new {
        make_new_dir(fresh)?;
        // An empty pack leaves an empty directory: the push itself counts, not its objects.
        make_new_dir(&fresh.join("pack"))?;
        whole_with.clone().note(fresh, true)?;
        place_packs(fresh)?;
        made.extend([WholeWith::note_in(fresh), fresh.clone()]);
    }
    sync(&made)?;
    for (fresh, to) in new {
        make_dir(to.parent().unwrap_or(to))?;
        fs::rename(fresh, to).map_err(failed("move", fresh))?;
    }
    Ok(())
}

/// Notes in an object directory whose share it counts for.
fn note_pusher(object_dir: &Path, SourceTag(tag): SourceTag) -> Result<(), FileError> {
    let file = object_dir.join(PUSHER_FILE);
    fs::write(&file, format!("{tag:04x}\n")).map_err(failed("write", &file))
}

/// Returns whose share an object directory counts for; `None`: a crash or an earlier version has left it. Blocks.
pub(super) fn pusher_of(object_dir: &Path) -> Option<SourceTag> {
    let noted = fs::read_to_string(object_dir.join(PUSHER_FILE)).ok()?;
    u16::from_str_radix(noted.trim_end(), 16).ok().map(SourceTag)
}

/// Returns the object directories of all that is staged in the staging area of a repository. Blocks.
pub(super) fn staged_dirs(own: &Path) -> Result<Vec<PathBuf>, FileError> {
    let mut dirs = Vec::new();
    for event in directories_in(own)? {
        dirs.extend(directories_in(&event)?);
    }
    Ok(dirs)
}

/// Notes the repository of a directory. Without a complete note, the content of the directory is not found.
fn note_coordinate(repository: &Repository, own: &Path) -> Result<(), FileError> {
    let (file, line) = (own.join(COORDINATE_FILE), format!("{}\n", repository.coordinate()));
    if fs::read(&file).is_ok_and(|noted| noted == line.as_bytes()) {
        return Ok(());
    }
    replace_coordinate(repository.store().layout(), repository.coordinate(), own)
}

/// The readable staged objects of some events.
#[derive(Debug, Default)]
pub(super) struct FoundStaged {
    pub(super) staged: BTreeSet<Staged>,
    /// The events for which that cannot be determined.
    pub(super) unreadable: BTreeSet<(Coordinate, EventId)>,
}

/// Lists everything that is staged for these repositories. Unreadable objects are logged and left out. Blocks.
pub(super) fn staged_for(layout: &Layout, coordinates: &BTreeSet<Coordinate>) -> BTreeSet<Staged> {
    let mut found = BTreeSet::new();
    for coordinate in coordinates {
        let events = names(&layout.staging(coordinate)).unwrap_or_else(|error| {
            log_unreadable(coordinate, &error);
            Vec::new()
        });
        let event_ids = events.iter().filter_map(|name| EventId::from_hex(name).ok()).collect();
        let nothing_locked = BTreeSet::new();
        found.extend(staged_for_events(layout, &[coordinate.clone()].into(), &event_ids, &nothing_locked).staged);
    }
    found
}

/// Lists only the objects that are staged for these events in these repositories, and removes what a crash left of them
/// in locked ones. Unreadable objects are logged, and hide nothing else. Blocks.
pub(super) fn staged_for_events(
    layout: &Layout,
    coordinates: &BTreeSet<Coordinate>,
    event_ids: &BTreeSet<EventId>,
    locked: &BTreeSet<Coordinate>,
) -> FoundStaged {
    let mut found = FoundStaged::default();
    for coordinate in coordinates {
        let own = layout.staging(coordinate);
        // One look where nothing is staged, however many events there are.
        if own.try_exists().is_ok_and(|exists| !exists) {
            continue;
        }
        for event_id in event_ids {
            match commits_staged(&own, event_id, locked.contains(coordinate)) {
                Ok(commit_oids) => found.staged.extend(commit_oids.into_iter().map(|commit_oid| Staged {
                    coordinate: coordinate.clone(),
                    event_id: *event_id,
                    commit_oid,
                })),
                Err(error) => {
                    log_unreadable(coordinate, &error);
                    found.unreadable.insert((coordinate.clone(), *event_id));
                }
            }
        }
    }
    found
}

/// Returns the objects staged for an event; under the lock of its repository, it removes what a crash left.
fn commits_staged(own: &Path, event_id: &EventId, is_locked: bool) -> Result<Vec<Oid>, FileError> {
    let directory = own.join(event_id.to_hex());
    let names = names(&directory)?;
    if is_locked && names.is_empty() && is_dir_here(&directory)? {
        remove_if_empty(&directory)?;
        remove_unless_in_use(own)?;
    }
    Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
}

fn log_unreadable(coordinate: &Coordinate, error: &FileError) {
    tracing::error!(repo.coordinate = %coordinate, error = logged(error), "cannot read staged objects, will try again");
}

/// Returns the object directories beside a repository: of commits that are staged, and of states that came in parts.
/// Blocks.
pub(super) fn object_dirs_aside(repository: &Repository) -> Result<Vec<PathBuf>, FileError> {
    let (layout, coordinate) = (repository.store().layout(), repository.coordinate());
    let mut dirs = directories_in(&layout.parts(coordinate))?;
    dirs.extend(staged_dirs(&layout.staging(coordinate))?);
    Ok(dirs)
}

fn directories_in(dir: &Path) -> Result<Vec<PathBuf>, FileError> {
    let mut directories = Vec::new();
    for name in names(dir)? {
        let path = dir.join(&name);
        // They are called by ids; any other file is not ours.
        let is_id = name.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_id && is_dir_here(&path)? {
            directories.push(path);
        }
    }
    Ok(directories)
}

/// Removes the directory of a repository aside, and the one that it is in, if nothing is kept there. Blocks.
pub(super) fn remove_unless_in_use(own: &Path) -> Result<(), FileError> {
    if !names(own)?.iter().all(|name| name == COORDINATE_FILE) {
        return Ok(());
    }
    if_found(fs::remove_dir_all(own)).map_err(failed("remove", own))?;
    // That of all with the same identifier, or of the same owner, unless there is more.
    match own.parent() {
        Some(parent) => remove_if_empty(parent),
        None => Ok(()),
    }
}

fn remove_if_empty(dir: &Path) -> Result<(), FileError> {
    match fs::remove_dir(dir) {
        Ok(()) => Ok(()),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => Ok(()),
        Err(error) => Err(failed("remove", dir)(error)),
    }
}

/// Returns the names in `dir`; none if it does not exist.
pub(super) fn names(dir: &Path) -> Result<Vec<String>, FileError> {
    let names = entries_if_any(dir)?.into_iter().map(|entry| entry.file_name());
    Ok(names.map(|name| name.to_string_lossy().into_owned()).collect())
}

/// A whole history of a large repository is walked in about a minute.
const CHECK_DEADLINE: Duration = Duration::from_secs(300);

/// Beside the packs of a staged commit: the tag of the address that pushed it.
const PUSHER_FILE: &str = "pushed-by";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repositories::objects::object_kinds;
    use crate::repositories::pack::IngestLimits;
    use crate::repositories::testing::World;

    const PUSHER: SourceTag = SourceTag(0xa1);

    fn event_id(digit: char) -> EventId {
        EventId::from_hex(&digit.to_string().repeat(64)).unwrap()
    }

    /// Returns the objects staged for `repository`.
    fn here(world: &World, repository: &Repository) -> Vec<(EventId, Oid)> {
        let coordinates = [repository.coordinate().clone()].into();
        let staged = staged_for(world.store.layout(), &coordinates);
        assert!(
            staged
                .iter()
                .all(|staged| staged.coordinate == *repository.coordinate())
        );
        staged
            .into_iter()
            .map(|staged| (staged.event_id, staged.commit_oid))
            .collect()
    }

    async fn quarantine(from: &Repository, tip: Oid, have: &Repository) -> Quarantine {
        let dirs = [from.object_dir()];
        Quarantine::copy(&dirs, &[tip], have, None, &IngestLimits::default())
            .await
            .unwrap()
    }

    /// It was truncated and rewritten each time; after a power cut the content was not found.
    #[tokio::test]
    async fn the_note_whose_a_directory_is_is_replaced_only_if_it_is_wrong() {
        use std::os::unix::fs::MetadataExt;
        let world = World::new().await;
        let repository = world.repository("a");
        let own = world.store.layout().staging(repository.coordinate());
        make_dir(&own).unwrap();
        let file = own.join(COORDINATE_FILE);
        let inode = || fs::metadata(&file).unwrap().ino();
        fs::write(&file, "30617:half").unwrap();
        // Open, so that nobody else gets its number.
        let (_half, half_inode) = (fs::File::open(&file).unwrap(), inode());

        note_coordinate(&repository, &own).unwrap();
        let noted = (inode(), fs::metadata(&file).unwrap().ctime_nsec());
        note_coordinate(&repository, &own).unwrap();

        assert_eq!(
            fs::read_to_string(&file).unwrap(),
            format!("{}\n", repository.coordinate())
        );
        assert_ne!(noted.0, half_inode, "beside it, and then in its place");
        assert_eq!(noted, (inode(), fs::metadata(&file).unwrap().ctime_nsec()));
    }

    #[tokio::test]
    async fn staged_objects_are_invisible_until_admitted() {
        let world = World::new().await;
        let (fork, upstream) = (world.repository("fork"), world.repository("upstream"));
        let [one, two] = world.two_commits(&fork).await;
        let staging = Staging::of(&upstream);
        let id = event_id('a');

        // The repository is virtual and stays so.
        staging
            .place(
                [(&id, &two)],
                &quarantine(&fork, two, &upstream).await,
                Order::Sorted,
                Some(PUSHER),
            )
            .await
            .unwrap();
        assert!(!upstream.exists().await.unwrap() && staging.exists(&id, &two).await.unwrap());
        assert_eq!(here(&world, &upstream), [(id, two)]);
        let staged = async || world.staged().await;
        assert_eq!(staged().await, [upstream.coordinate().clone()]);
        let admitted = staging.admit(&id, &two).await;
        assert!(matches!(admitted, Err(RepositoryError::NoRepository)));
        upstream.create().await.unwrap();
        assert!(upstream.object_kinds(&[one, two]).await.unwrap().is_empty());
        let dir = staging.object_dir(&id, &two);
        assert_eq!(
            object_kinds(vec![upstream.object_dir(), dir], vec![one, two])
                .await
                .unwrap()
                .len(),
            2
        );
        staging.admit(&id, &two).await.unwrap();

        assert_eq!(upstream.object_kinds(&[one, two]).await.unwrap().len(), 2);
        // Once more, as after a crash before its ref was set.
        assert!(staging.exists(&id, &two).await.unwrap());
        staging.admit(&id, &two).await.unwrap();
        staging.remove(&id, &two).await.unwrap();
        assert!(staged().await.is_empty());
        assert!(!world.store.layout().staging(upstream.coordinate()).exists());
        assert!(matches!(
            staging.admit(&id, &two).await,
            Err(RepositoryError::NotStaged { .. })
        ));
    }

    #[tokio::test]
    async fn what_is_staged_twice_or_under_two_commits_is_kept_and_removed_apart() {
        let world = World::new().await;
        let (fork, upstream) = (world.repository("fork"), world.repository("upstream"));
        let [one, two] = world.two_commits(&fork).await;
        let staging = Staging::of(&upstream);
        let (a, b) = (event_id('a'), event_id('b'));
        for (id, oid) in [(a, one), (a, two), (a, two), (b, one)] {
            staging
                .place(
                    [(&id, &oid)],
                    &quarantine(&fork, oid, &upstream).await,
                    Order::Sorted,
                    Some(PUSHER),
                )
                .await
                .unwrap();
        }

        staging.remove(&a, &one).await.unwrap();
        staging.remove(&a, &one).await.unwrap();
        assert_eq!(here(&world, &upstream), [(a, two), (b, one)]);
        staging.remove(&a, &two).await.unwrap();
        staging.remove(&b, &one).await.unwrap();
        assert!(here(&world, &upstream).is_empty());
    }

    /// A gateway was killed between the two (the soak found it).
    #[tokio::test]
    async fn what_a_crash_left_between_a_commit_and_its_event_goes() {
        let world = World::new().await;
        let (fork, upstream) = (world.repository("fork"), world.repository("upstream"));
        let [one, _] = world.two_commits(&fork).await;
        let (staging, a) = (Staging::of(&upstream), event_id('a'));
        let quarantine = quarantine(&fork, one, &upstream).await;
        staging
            .place([(&a, &one)], &quarantine, Order::Sorted, Some(PUSHER))
            .await
            .unwrap();
        fs::remove_dir_all(staging.object_dir(&a, &one)).unwrap();

        assert!(here(&world, &upstream).is_empty());
        let coordinates = [upstream.coordinate().clone()].into();
        staged_for_events(world.store.layout(), &coordinates, &[a].into(), &coordinates);

        let of_identifier = world.store.layout().staging_of(&upstream.coordinate().identifier);
        assert!(!of_identifier.exists());
    }

    /// It hid everything that was staged, and the re-check asked for it again and again, for ever.
    #[tokio::test]
    async fn what_cannot_be_read_is_named_and_hides_nothing_else() {
        let world = World::new().await;
        let (fork, one_is_bad) = (world.repository("fork"), world.repository("one-is-bad"));
        let [one, _] = world.two_commits(&fork).await;
        let (all_bad, whole) = (world.repository("all-bad"), world.repository("whole"));
        let [a, b] = ['a', 'b'].map(event_id);
        for (repository, id) in [(&one_is_bad, a), (&whole, a), (&whole, b)] {
            let quarantine = quarantine(&fork, one, repository).await;
            Staging::of(repository)
                .place([(&id, &one)], &quarantine, Order::Sorted, Some(PUSHER))
                .await
                .unwrap();
        }
        fs::write(Staging::of(&one_is_bad).path.join(b.to_hex()), "no directory").unwrap();
        let bad = Staging::of(&all_bad).path;
        make_dir(bad.parent().unwrap()).unwrap();
        fs::write(&bad, "no directory").unwrap();
        let coordinates: BTreeSet<_> = [&one_is_bad, &all_bad, &whole].map(|at| at.coordinate().clone()).into();

        let found = staged_for_events(world.store.layout(), &coordinates, &[a, b].into(), &coordinates);

        let staged = found.staged.iter().map(|staged| (&staged.coordinate, staged.event_id));
        let expected = [(&one_is_bad, a), (&whole, a), (&whole, b)].map(|(at, id)| (at.coordinate(), id));
        assert_eq!(staged.collect::<BTreeSet<_>>(), expected.into());
        let unreadable = [(&one_is_bad, b), (&all_bad, a), (&all_bad, b)];
        assert_eq!(
            found.unreadable,
            unreadable.map(|(at, id)| (at.coordinate().clone(), id)).into()
        );
        assert_eq!(staged_for(world.store.layout(), &coordinates), found.staged);
    }

    /// A gateway that was killed meanwhile left some of its packs, and whatever was left counted as all of it.
    #[tokio::test]
    async fn a_staged_commit_goes_at_once_or_not_at_all() {
        let world = World::new().await;
        let (fork, upstream) = (world.repository("fork"), world.repository("upstream"));
        let [one, _] = world.two_commits(&fork).await;
        let (staging, a) = (Staging::of(&upstream), event_id('a'));
        staging
            .place(
                [(&a, &one)],
                &quarantine(&fork, one, &upstream).await,
                Order::Sorted,
                Some(PUSHER),
            )
            .await
            .unwrap();
        let (place, elsewhere) = (world.path().join("quarantine"), world.path().join("elsewhere"));

        fs::rename(&place, &elsewhere).unwrap();
        staging.remove(&a, &one).await.unwrap_err();
        assert_eq!(World::packs(&staging.object_dir(&a, &one)).len(), 1);

        fs::rename(&elsewhere, &place).unwrap();
        staging.remove(&a, &one).await.unwrap();
        assert!(here(&world, &upstream).is_empty());
        assert_eq!(world.quarantine_entries(), 0);
    }

    /// What was left was taken for a commit that had come.
    #[tokio::test]
    async fn what_could_not_be_placed_leaves_nothing_and_takes_nothing_away() {
        let world = World::new().await;
        let upstream = world.repository("upstream");
        let own = Staging::of(&upstream).path;
        let [new, there] = ['a', 'b'].map(|digit| own.join(event_id(digit).to_hex()).join("1".repeat(40)));
        make_dir(&there.join("pack")).unwrap();
        let full = |to: &Path| Err(failed("write", to)(io::Error::from(io::ErrorKind::StorageFull)));

        for to in [&new, &there] {
            place_aside(&upstream, &own, std::slice::from_ref(to), &WholeWith::Nothing, full).unwrap_err();
        }

        assert_eq!([new.is_dir(), there.is_dir()], [false, true]);
        assert_eq!(world.quarantine_entries(), 0);
        // Nor would a crash leave anything.
        let is_seen = |_: &Path| {
            assert!(!new.exists());
            Ok(())
        };
        place_aside(
            &upstream,
            &own,
            std::slice::from_ref(&new),
            &WholeWith::Nothing,
            is_seen,
        )
        .unwrap();
        assert!(new.join("pack").is_dir());
    }

    #[tokio::test]
    async fn objects_whose_base_is_gone_are_not_admitted() {
        let world = World::new().await;
        let (fork, base) = (world.repository("fork"), world.repository("base"));
        let [one, two] = world.two_commits(&fork).await;
        base.create().await.unwrap();
        crate::repositories::testing::copy_objects(&[fork.object_dir()], &[one], &base, &IngestLimits::default())
            .await
            .unwrap();
        world
            .git(&base, &["update-ref", "refs/heads/a", &one.to_string()], b"")
            .await;
        // Holds `two` alone, because the base has the rest.
        let partial = quarantine(&fork, two, &base).await;
        let upstream = world.repository("upstream");
        upstream.create().await.unwrap();
        let staging = Staging::of(&upstream);
        staging
            .place([(&event_id('a'), &two)], &partial, Order::Sorted, Some(PUSHER))
            .await
            .unwrap();

        let admitted = staging.admit(&event_id('a'), &two).await;

        assert!(
            matches!(admitted, Err(RepositoryError::Unsorted { .. })),
            "{admitted:?}"
        );
        assert!(upstream.object_kinds(&[two]).await.unwrap().is_empty());
        assert!(staging.exists(&event_id('a'), &two).await.unwrap());
    }
}
