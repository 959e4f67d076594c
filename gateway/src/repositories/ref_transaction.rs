//! Changing the refs of one repository: all of them or none, each only from the value it is expected to have.
//!
//! Refs change by one `packed-refs` that takes the place of the other: one file, whatever their number, no process, and
//! no reader that sees some of them changed and others not. Loose refs are taken into it first, at the values that they
//! have: a git of the operator's or an earlier version has written them. gix checks neither directory conflicts nor
//! syncs (docs/facts/git-http.md 1).
//!
//! `HEAD` is replaced after `packed-refs`, and is locked from before that: a reader that finds the lock reads again. A
//! crash in between leaves it as it was. Who aligns refs compares and finishes.

use std::collections::BTreeSet;
use std::fs;
use std::fs::File;
use std::io;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use shared::git::Namespace;
use shared::git::ObjectKind;
use shared::git::Oid;
use shared::git::RefName;
use shared::git::RefUpdate;
use shared::rules::PushedState;

use crate::repositories::creation::is_repository;
use crate::repositories::error::RepositoryError;
use crate::repositories::layout::failed;
use crate::repositories::layout::in_background;
use crate::repositories::layout::is_dir_here;
use crate::repositories::layout::is_here;
use crate::repositories::layout::sync;
use crate::repositories::objects::Objects;
use crate::repositories::objects::ReadError;
use crate::repositories::packed_refs::PackedRefs;
use crate::repositories::refs::Head;
use crate::repositories::refs::PEEL_CPU_MAX;
use crate::repositories::refs::StampedRefs;
use crate::repositories::refs::read_refs;
use crate::repositories::repository::Repository;

/// What shall be true of the refs of one repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RefTransaction {
    /// The changes, at most one of each ref. `old == new` checks without changing.
    pub(crate) updates: Vec<RefUpdate>,
    /// What `HEAD` shall name; `None` leaves it.
    pub(crate) head: Option<RefName>,
}

impl RefTransaction {
    /// Returns what makes the refs of a new repository those that a state declares.
    pub(super) fn of_new(state: &PushedState) -> Self {
        let created = |(name, oid): (&RefName, &Oid)| RefUpdate {
            name: name.clone(),
            old: None,
            new: Some(*oid),
        };
        Self {
            updates: state.refs.iter().map(created).collect(),
            head: state.head.clone(),
        }
    }

    fn apply_at(&self, repository: &Path) -> Result<(), RepositoryError> {
        if !is_repository(repository)? {
            return Err(RepositoryError::NoRepository);
        }
        let packed_path = repository.join("packed-refs");
        let lock = LockFile::make(&repository.join("packed-refs.lock"))?;
        let current = read_refs(repository, None)?.ok_or(RepositoryError::NoRepository)?;
        let objects = || Objects::open(&[repository.join("objects")], PEEL_CPU_MAX);
        let before = packed(&current, &objects()?)?;
        let after = changed(&before, &self.updates, &objects()?)?;
        take_in_loose(repository, &packed_path, &before, &current.loose)?;
        let is_changed = after != before;
        if is_changed {
            lock.write(&after.render())?;
        }
        let is_new = |target: &&RefName| current.snapshot.head != Head::Symbolic((*target).clone());
        let head_lock = match self.head.as_ref().filter(is_new) {
            Some(target) => {
                let beside = LockFile::make(&repository.join("HEAD.new"))?;
                beside.write(&head_content(target))?;
                Some(beside.become_lock(&repository.join("HEAD.lock"))?)
            }
            None => None,
        };
        if is_changed {
            lock.put_in_place(&packed_path)?;
        }
        if let Some(head_lock) = head_lock {
            head_lock.put_in_place(&repository.join("HEAD"))?;
        }
        sync(&[repository.to_owned()])?;
        Ok(())
    }
}

impl Repository {
    /// Applies `transaction`, checked against the old values. Call it under the repository's lock.
    ///
    /// # Errors
    /// [`RepositoryError`]; then no ref has changed, unless the disk failed between `packed-refs` and `HEAD`.
    pub(super) async fn apply(&self, transaction: &RefTransaction) -> Result<(), RepositoryError> {
        let (path, transaction) = (self.path().to_owned(), transaction.clone());
        let applied = in_background(move || transaction.apply_at(&path)).await;
        self.forget_refs();
        applied
    }

    /// Returns how many refs have files of their own; 0: too few to be packed for that alone.
    pub(super) async fn loose_refs_to_pack(&self) -> Result<usize, ReadError> {
        let path = self.path().to_owned();
        let read = in_background(move || read_refs(&path, None)).await?;
        let loose = read.map_or(0, |read| read.loose.len());
        Ok(if loose >= LOOSE_MAX { loose } else { 0 })
    }
}

/// Writes the refs of a new repository, before it is durable and has readers.
///
/// # Errors
/// What git would refuse; then nothing is written. Or the disk failed.
pub(super) fn lay_out_refs(laid_out: &Path, transaction: &RefTransaction) -> Result<(), RepositoryError> {
    let objects = Objects::open(&[laid_out.join("objects")], PEEL_CPU_MAX)?;
    let none = PackedRefs {
        is_fully_peeled: true,
        ..PackedRefs::default()
    };
    let packed = changed(&none, &transaction.updates, &objects)?;
    let head = transaction.head.as_ref().map(|target| ("HEAD", head_content(target)));
    for (name, content) in [("packed-refs", packed.render())].into_iter().chain(head) {
        let file = laid_out.join(name);
        fs::write(&file, content).map_err(failed("write", &file))?;
    }
    Ok(())
}

/// Returns the refs as `packed-refs` would hold all of them.
fn packed(current: &StampedRefs, objects: &Objects) -> Result<PackedRefs, ReadError> {
    let mut packed = PackedRefs {
        refs: current.snapshot.refs.clone(),
        peeled: current.snapshot.peeled.clone(),
        is_fully_peeled: current.is_fully_peeled,
        others: current.others.clone(),
    };
    peel(&mut packed, &current.loose, objects)?;
    Ok(packed)
}

/// Returns what the refs are after `updates`, after the checks that git makes of them.
fn changed(before: &PackedRefs, updates: &[RefUpdate], objects: &Objects) -> Result<PackedRefs, RepositoryError> {
    let (mut after, mut created) = (before.clone(), BTreeSet::new());
    for RefUpdate { name, old, new } in updates {
        let found = before.refs.get(name);
        if found != old.as_ref() {
            let at = |oid: Option<&Oid>| oid.map_or_else(|| "absent".to_owned(), Oid::to_string);
            let message = format!("{name} is {} but expected {}", at(found), at(old.as_ref()));
            return Err(RepositoryError::Stale { message });
        }
        if old == new {
            continue;
        }
        after.peeled.remove(name);
        let Some(oid) = *new else {
            after.refs.remove(name);
            continue;
        };
        let Some(kind) = objects.kind(oid)? else {
            return Err(refusal(name, "its object does not exist"));
        };
        if name.namespace() == Namespace::Branch && kind != ObjectKind::Commit {
            return Err(refusal(name, "a branch must be a commit"));
        }
        after.refs.insert(name.clone(), oid);
        created.insert(name.clone());
    }
    check_names(&after, &created)?;
    peel(&mut after, &created, objects)?;
    Ok(after)
}

/// Makes sure that none of the refs created is a directory of another ref, or inside one.
fn check_names(packed: &PackedRefs, created: &BTreeSet<RefName>) -> Result<(), RepositoryError> {
    let names = packed.refs.keys().map(RefName::as_str);
    let names: BTreeSet<&str> = names.chain(packed.others.keys().map(String::as_str)).collect();
    for name in created {
        let below = format!("{name}/");
        let mut from_below = names.range(below.as_str()..);
        let mut above = name.as_str().match_indices('/');
        if above.any(|(slash, _)| names.contains(&name.as_str()[..slash]))
            || from_below.next().is_some_and(|other| other.starts_with(&below))
        {
            return Err(refusal(name, "another ref has the name of a directory that it needs"));
        }
    }
    Ok(())
}

/// Looks up what those of `unpeeled` point at that are tags, and notes whether that is known of all tags. One that
/// costs too much is left without for good: what writes refs pays for it once, and not each reader.
fn peel(packed: &mut PackedRefs, unpeeled: &BTreeSet<RefName>, objects: &Objects) -> Result<(), ReadError> {
    let mut is_fully_peeled = true;
    for (name, &oid) in &packed.refs {
        let is_known = packed.is_fully_peeled && !unpeeled.contains(name);
        if is_known || name.namespace() == Namespace::Branch {
            continue;
        }
        match objects.kind(oid)? {
            Some(ObjectKind::Tag) => {
                let target = objects.peel(oid)?;
                packed.peeled.extend(target.map(|target| (name.clone(), target)));
            }
            Some(_) => {}
            None => is_fully_peeled = false,
        }
    }
    packed.is_fully_peeled = is_fully_peeled;
    Ok(())
}

/// Brings loose refs into `packed-refs`, at the values that they have, and removes their files. Call it while
/// `packed-refs` is locked.
fn take_in_loose(
    repository: &Path,
    packed_path: &Path,
    packed: &PackedRefs,
    loose: &BTreeSet<RefName>,
) -> Result<(), RepositoryError> {
    if loose.is_empty() {
        return Ok(());
    }
    // git's own name for it.
    let beside = LockFile::make(&repository.join("packed-refs.new"))?;
    beside.write(&packed.render())?;
    beside.put_in_place(packed_path)?;
    // Durable before the files go.
    sync(&[repository.to_owned()])?;
    let root = repository.join("refs");
    let mut dirs = BTreeSet::new();
    for name in loose {
        let path = repository.join(name.as_str());
        let content = fs::read_to_string(&path).map_err(failed("read", &path))?;
        // An operator's git may have changed it just now.
        if packed.refs.get(name).map(Oid::to_string).as_deref() == Some(content.trim_end()) {
            fs::remove_file(&path).map_err(failed("remove", &path))?;
            let is_left = |dir: &&Path| *dir == root || fs::remove_dir(dir).is_err();
            dirs.extend(path.ancestors().skip(1).find(is_left).map(Path::to_owned));
        }
    }
    // One that came back would hide the packed ref.
    let mut left = Vec::new();
    for dir in dirs {
        if is_dir_here(&dir)? {
            left.push(dir);
        }
    }
    Ok(sync(&left)?)
}

/// A file that shows that another file is being changed, until it replaces that one. It is removed on drop: otherwise
/// nothing could change the other file any more.
struct LockFile {
    path: PathBuf,
    is_placed: bool,
}

impl LockFile {
    /// Creates it. Waits a moment while another process has one: an operator's git.
    fn make(path: &Path) -> Result<Self, RepositoryError> {
        let began = Instant::now();
        loop {
            match File::options().write(true).create_new(true).open(path) {
                Ok(_) => break,
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(failed("make the file", path)(error).into());
                }
                Err(_) if began.elapsed() >= LOCK_WAIT => return Err(locked(path)),
                Err(_) => thread::sleep(LOCK_PAUSE),
            }
        }
        Ok(Self {
            path: path.to_owned(),
            is_placed: false,
        })
    }

    /// Writes it, durably.
    fn write(&self, content: &str) -> Result<(), RepositoryError> {
        let mut file = File::create(&self.path).map_err(failed("open", &self.path))?;
        let written = file.write_all(content.as_bytes()).and_then(|()| file.sync_all());
        Ok(written.map_err(failed("write", &self.path))?)
    }

    /// Renames it to a lock, unless somebody else has that.
    fn become_lock(self, lock: &Path) -> Result<Self, RepositoryError> {
        if is_here(lock)? {
            return Err(locked(lock));
        }
        self.put_in_place(lock)?;
        Ok(Self {
            path: lock.to_owned(),
            is_placed: false,
        })
    }

    fn put_in_place(mut self, place: &Path) -> Result<(), RepositoryError> {
        fs::rename(&self.path, place).map_err(failed("replace", place))?;
        self.is_placed = true;
        Ok(())
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        if !self.is_placed
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(%error, path = %self.path.display(), "cannot remove a lock; the next change removes it");
        }
    }
}

fn head_content(target: &RefName) -> String {
    format!("ref: {target}\n")
}

fn locked(path: &Path) -> RepositoryError {
    let message = format!("{} exists", path.display());
    RepositoryError::Locked { message }
}

fn refusal(name: &RefName, reason: &str) -> RepositoryError {
    RepositoryError::Refused {
        message: format!("{name}: {reason}"),
    }
}

/// Refs in files of their own, each of which every reader opens: with so many, all are packed without another change.
const LOOSE_MAX: usize = 64;

/// For as long an operator's git that packs refs is waited for.
const LOCK_WAIT: Duration = Duration::from_secs(1);

const LOCK_PAUSE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::repositories::refs::RefSnapshot;
    use crate::repositories::testing::World;

    fn name(text: &str) -> RefName {
        text.parse().unwrap()
    }

    fn update(text: &str, old: Option<Oid>, new: Option<Oid>) -> RefUpdate {
        RefUpdate {
            name: name(text),
            old,
            new,
        }
    }

    async fn apply(
        repository: &Repository,
        updates: Vec<RefUpdate>,
        head: Option<&str>,
    ) -> Result<(), RepositoryError> {
        let head = head.map(name);
        repository.apply(&RefTransaction { updates, head }).await
    }

    #[tokio::test]
    async fn refs_change_together_and_head_with_them_on_every_git() {
        for world in World::of_every_git().await {
            let repository = world.repository("a");
            let [one, two] = world.two_commits(&repository).await;
            let (main, dev) = ("refs/heads/main", "refs/heads/dev");

            let created = vec![update(main, None, Some(one)), update(dev, None, Some(one))];
            apply(&repository, created, Some(main)).await.unwrap();
            // HEAD names main, which changes too: the case that one transaction cannot do.
            let moved = vec![update(main, Some(one), None), update(dev, Some(one), Some(two))];
            apply(&repository, moved, Some(dev)).await.unwrap();

            let refs = repository.refs().await.unwrap().unwrap();
            assert_eq!(refs.refs.into_iter().collect::<Vec<_>>(), [(name(dev), two)]);
            assert_eq!(refs.head, Head::Symbolic(name(dev)));
        }
    }

    #[tokio::test]
    async fn one_stale_value_stops_the_whole_transaction() {
        for world in World::of_every_git().await {
            let repository = world.repository("a");
            let [one, two] = world.two_commits(&repository).await;
            let first = vec![update("refs/heads/a", None, Some(one))];
            apply(&repository, first, None).await.unwrap();
            let before = repository.refs().await.unwrap();

            let stale = [
                update("refs/heads/a", Some(two), Some(one)),
                update("refs/heads/a", None, Some(two)),
                update("refs/heads/a", Some(two), None),
                update("refs/heads/a", Some(two), Some(two)),
                update("refs/heads/a", None, None),
                update("refs/heads/gone", Some(one), Some(two)),
                update("refs/heads/gone", Some(one), Some(one)),
            ];
            for stale in stale {
                let updates = vec![update("refs/heads/new", None, Some(one)), stale.clone()];
                let applied = apply(&repository, updates, Some("refs/heads/new")).await;

                assert!(
                    matches!(applied, Err(RepositoryError::Stale { .. })),
                    "{stale:?}: {applied:?}"
                );
                assert_eq!(repository.refs().await.unwrap(), before);
            }
        }
    }

    #[tokio::test]
    async fn a_ref_can_take_the_place_of_a_directory_and_back_packed_or_loose() {
        for world in World::of_every_git().await {
            let repository = world.repository("a");
            let [one, _] = world.two_commits(&repository).await;
            let first = vec![update("refs/heads/a", None, Some(one))];
            apply(&repository, first, Some("refs/heads/a")).await.unwrap();

            for pack in [false, true] {
                for (from, to) in [("refs/heads/a", "refs/heads/a/b"), ("refs/heads/a/b", "refs/heads/a")] {
                    if pack {
                        world.git(&repository, &["pack-refs", "--all"], b"").await;
                    }
                    let updates = vec![update(to, None, Some(one)), update(from, Some(one), None)];
                    apply(&repository, updates, Some(to)).await.unwrap();

                    let refs = repository.refs().await.unwrap().unwrap();
                    assert_eq!(refs.refs.into_keys().collect::<Vec<_>>(), [name(to)]);
                    assert_eq!(refs.head, Head::Symbolic(name(to)));
                }
            }
        }
    }

    #[tokio::test]
    async fn a_branch_must_be_a_commit_that_is_here() {
        let world = World::new().await;
        let repository = world.repository("a");
        let objects = world.populate(&repository).await;
        let missing = "1234567890123456789012345678901234567890".parse().unwrap();

        for new in [objects.tree, objects.tag, missing] {
            let applied = apply(&repository, vec![update("refs/heads/x", None, Some(new))], None).await;

            assert!(matches!(applied, Err(RepositoryError::Refused { .. })), "{applied:?}");
        }
    }

    #[tokio::test]
    async fn first_refs_read_as_git_would_have_written_them() {
        for world in World::of_every_git().await {
            let (ours, gits) = (world.repository("ours"), world.repository("gits"));
            let mut refs = Vec::new();
            for repository in [&ours, &gits] {
                let objects = world.populate(repository).await;
                let nested = world.tag(repository, objects.tag, "tag").await;
                refs = vec![
                    ("refs/heads/main", objects.commit),
                    ("refs/heads/main-2", objects.commit),
                    ("refs/tags/blob-like", objects.tree),
                    ("refs/tags/nested", nested),
                    ("refs/tags/v1", objects.tag),
                ];
            }
            let updates: Vec<RefUpdate> = refs.iter().map(|(text, oid)| update(text, None, Some(*oid))).collect();
            apply(&ours, updates, Some("refs/heads/main")).await.unwrap();
            let script: String = (refs.iter())
                .map(|(name, oid)| format!("create {name} {oid}\n"))
                .collect();
            world.git(&gits, &["update-ref", "--stdin"], script.as_bytes()).await;
            world
                .git(&gits, &["symbolic-ref", "HEAD", "refs/heads/main"], b"")
                .await;
            world.git(&gits, &["pack-refs", "--all"], b"").await;

            let packed = |repository: &Repository| fs::read_to_string(repository.path().join("packed-refs")).unwrap();
            assert_eq!(packed(&ours), packed(&gits));
            assert_eq!(ours.refs().await.unwrap(), gits.refs().await.unwrap());
            world.git(&ours, &["fsck", "--strict"], b"").await;
        }
    }

    #[tokio::test]
    async fn first_refs_within_each_other_are_refused_and_a_lock_is_respected() {
        let world = World::new().await;
        let repository = world.repository("a");
        let [one, _] = world.two_commits(&repository).await;
        let names = ["refs/heads/a", "refs/heads/a-b", "refs/heads/a/b"];
        let within = names.map(|text| update(text, None, Some(one))).to_vec();

        let refused = apply(&repository, within, None).await;
        assert!(matches!(refused, Err(RepositoryError::Refused { .. })), "{refused:?}");

        let lock = repository.path().join("packed-refs.lock");
        fs::write(&lock, "").unwrap();
        let created = vec![update("refs/heads/a", None, Some(one))];
        let locked = apply(&repository, created.clone(), None).await;
        assert!(matches!(locked, Err(RepositoryError::Locked { .. })), "{locked:?}");

        assert_eq!(repository.clear_stale_locks().await, 1);
        apply(&repository, created, None).await.unwrap();

        // A git that was killed while it packed refs leaves this beside its lock.
        world
            .git(&repository, &["update-ref", "refs/heads/loose", &one.to_string()], b"")
            .await;
        fs::write(repository.path().join("packed-refs.new"), "").unwrap();
        let deleted = vec![update("refs/heads/a", Some(one), None)];
        let locked = apply(&repository, deleted.clone(), None).await;
        assert!(matches!(locked, Err(RepositoryError::Locked { .. })), "{locked:?}");

        assert_eq!(repository.clear_stale_locks().await, 1);
        apply(&repository, deleted, None).await.unwrap();
    }

    #[tokio::test]
    async fn no_ref_that_comes_alone_gets_a_file_of_its_own_and_no_git_is_needed() {
        for world in World::of_every_git().await {
            let repository = world.repository("a");
            let [one, two] = world.two_commits(&repository).await;
            let of = |number: usize, old, new| update(&format!("refs/nostr/{number:064x}"), old, new);
            world
                .git(&repository, &["update-ref", "refs/heads/b/c", &one.to_string()], b"")
                .await;
            world.fail_git("update-ref", "exit 9");
            for number in 0..3 {
                apply(&repository, vec![of(number, None, Some(one))], None)
                    .await
                    .unwrap();
            }

            apply(&repository, vec![of(0, Some(one), Some(two))], None)
                .await
                .unwrap();
            apply(&repository, vec![of(1, Some(one), None)], None).await.unwrap();
            let within = apply(&repository, vec![update("refs/heads/b", None, Some(two))], None).await;

            assert!(matches!(within, Err(RepositoryError::Refused { .. })), "{within:?}");
            let read = read_refs(repository.path(), None).unwrap().unwrap();
            assert_eq!(read.loose, BTreeSet::new());
            let others = |number: usize| name(&format!("refs/nostr/{number:064x}"));
            let expected = [(name("refs/heads/b/c"), one), (others(0), two), (others(2), one)];
            assert_eq!(read.snapshot.refs, expected.into());
            world.git(&repository, &["fsck", "--strict"], b"").await;
        }
    }

    /// Each reader of the refs tried to peel it again.
    #[tokio::test]
    async fn a_tag_that_costs_too_much_to_peel_is_tried_once() {
        let world = World::new().await;
        let repository = world.repository("a");
        let [commit, _] = world.two_commits(&repository).await;
        let head = format!("object {commit}\ntype commit\ntag t\ntagger A <a@example.com> 1 +0000\n\n");
        let large = head + &"a".repeat(300_000);
        let large = world
            .oid(
                &repository,
                &["hash-object", "-t", "tag", "-w", "--stdin"],
                large.as_bytes(),
            )
            .await;
        let small = world.tag(&repository, commit, "commit").await;
        let [of_large, of_small] = ["refs/tags/large", "refs/tags/small"];

        let created = vec![update(of_large, None, Some(large)), update(of_small, None, Some(small))];
        apply(&repository, created, None).await.unwrap();

        for oid in [large, small] {
            let oid = oid.to_string();
            fs::remove_file(repository.object_dir().join(&oid[..2]).join(&oid[2..])).unwrap();
        }
        let read = read_refs(repository.path(), None).unwrap().unwrap();
        assert_eq!(read.snapshot.peeled, [(name(of_small), commit)].into());
        assert!(read.is_fully_peeled);
    }

    #[tokio::test]
    async fn what_an_operators_git_has_written_stays_when_refs_are_packed() {
        for world in World::of_every_git().await {
            let (ours, gits) = (world.repository("ours"), world.repository("gits"));
            for repository in [&ours, &gits] {
                world.many_refs(repository).await;
                let [one, _] = world.two_commits(repository).await;
                let tag = world.tag(repository, one, "commit").await.to_string();
                let args = ["update-ref", "refs/stash", &tag];
                world.git(repository, &args, b"").await;
                world.git(repository, &["pack-refs", "--all"], b"").await;
                let args = ["update-ref", "refs/heads/x/loose", &one.to_string()];
                world.git(repository, &args, b"").await;
            }
            let before = ours.refs().await.unwrap();

            ours.apply(&RefTransaction::default()).await.unwrap();
            let head = name("refs/heads/loose");
            apply(&ours, Vec::new(), Some(head.as_str())).await.unwrap();

            world.git(&gits, &["pack-refs", "--all"], b"").await;
            world.git(&gits, &["symbolic-ref", "HEAD", head.as_str()], b"").await;
            let packed = |repository: &Repository| fs::read_to_string(repository.path().join("packed-refs")).unwrap();
            assert_eq!(packed(&ours), packed(&gits));
            let after = ours.refs().await.unwrap();
            assert_eq!(
                after.as_ref().map(|refs| &refs.refs),
                before.as_ref().map(|refs| &refs.refs)
            );
            assert_eq!(after, gits.refs().await.unwrap());
        }
    }

    /// What a program that is killed between two steps of a transaction leaves.
    #[tokio::test]
    async fn a_transaction_that_ended_anywhere_is_finished_by_the_next() {
        let world = World::new().await;
        let repository = world.repository("a");
        let [one, two] = world.two_commits(&repository).await;
        let names = ["refs/heads/a", "refs/heads/b"];
        let created = names.map(|text| update(text, None, Some(one)));
        apply(&repository, created.to_vec(), Some(names[0])).await.unwrap();
        let moved = names.map(|text| update(text, Some(one), Some(two)));
        let before = repository.refs().await.unwrap();
        for left in ["packed-refs.lock", "packed-refs.new", "HEAD.new", "HEAD.lock"] {
            fs::write(repository.path().join(left), "ref: refs/heads/b\n").unwrap();
            assert_eq!(repository.refs().await.unwrap(), before, "{left}");
        }

        let locked = apply(&repository, moved.to_vec(), Some(names[1])).await;
        assert!(matches!(locked, Err(RepositoryError::Locked { .. })), "{locked:?}");
        assert_eq!(repository.clear_stale_locks().await, 4);
        apply(&repository, moved.to_vec(), Some(names[1])).await.unwrap();

        let refs = repository.refs().await.unwrap().unwrap();
        assert!(refs.refs.values().all(|oid| *oid == two));
        assert_eq!(refs.head, Head::Symbolic(name(names[1])));
        assert!(!repository.has_leftovers().await);
    }

    /// A program that waits for the processor between its two files, for longer than a reading takes.
    #[tokio::test]
    async fn a_reader_waits_for_who_has_replaced_one_of_two_files() {
        let world = World::new().await;
        let repository = world.repository("a");
        let [one, two] = world.two_commits(&repository).await;
        let names = ["refs/heads/a", "refs/heads/b"];
        let created = names.map(|text| update(text, None, Some(one)));
        apply(&repository, created.to_vec(), Some(names[0])).await.unwrap();
        let [packed, head, lock] = ["packed-refs", "HEAD", "HEAD.lock"].map(|file| repository.path().join(file));
        fs::write(&lock, head_content(&name(names[1]))).unwrap();
        let changed = fs::read_to_string(&packed).unwrap();
        fs::write(&packed, changed.replace(&one.to_string(), &two.to_string())).unwrap();

        let snapshot = thread::scope(|scope| {
            let reader = scope.spawn(|| read_refs(repository.path(), None).unwrap().unwrap().snapshot);
            let began = Instant::now();
            while !reader.is_finished() && began.elapsed() < Duration::from_millis(200) {
                thread::yield_now();
            }
            fs::rename(&lock, &head).unwrap();
            reader.join().unwrap()
        });

        assert!(snapshot.refs.values().all(|oid| *oid == two));
        assert_eq!(snapshot.head, Head::Symbolic(name(names[1])));
    }

    /// 2,000 refs change in 100 transactions, and `HEAD` with them; one is made loose by an operator's git each time.
    #[tokio::test(flavor = "multi_thread", worker_threads = 3)]
    async fn a_reader_sees_each_transaction_whole_and_no_ref_is_missing() {
        let world = World::new().await;
        let repository = world.repository("a");
        let commits = world.two_commits(&repository).await;
        let branches: Vec<String> = (0..20).map(|i| format!("refs/heads/dir{}/b{i}", i % 3)).collect();
        let heads = [&branches[0], &branches[1]];
        let all = |old: Option<usize>, new: usize| {
            let of = |text: &String| update(text, old.map(|old| commits[old]), Some(commits[new]));
            branches.iter().map(of).collect::<Vec<_>>()
        };
        apply(&repository, all(None, 0), Some(heads[0])).await.unwrap();
        let is_done = AtomicBool::new(false);

        let readings = thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut readings = 0;
                while !is_done.load(Ordering::Relaxed) {
                    let RefSnapshot { refs, head, .. } = read_refs(repository.path(), None).unwrap().unwrap().snapshot;
                    assert_eq!(refs.len(), branches.len());
                    let expected = refs[&name(&branches[2])];
                    // The loose one changes by itself, between two transactions.
                    let mut others = refs.iter().filter(|(name, _)| name.as_str() != branches[19]);
                    assert!(others.all(|(_, oid)| *oid == expected), "{refs:?}");
                    let round = commits.iter().position(|oid| *oid == expected).unwrap();
                    assert_eq!(head, Head::Symbolic(name(heads[round])));
                    readings += 1;
                }
                readings
            });
            tokio::task::block_in_place(|| {
                tokio::runtime::Handle::current().block_on(async {
                    for round in 0..100 {
                        let (from, to) = (round % 2, (round + 1) % 2);
                        for of in [to, from] {
                            let set = ["update-ref", &branches[19], &commits[of].to_string()];
                            world.git(&repository, &set, b"").await;
                        }
                        apply(&repository, all(Some(from), to), Some(heads[to])).await.unwrap();
                    }
                });
            });
            is_done.store(true, Ordering::Relaxed);
            reader.join().unwrap()
        });

        assert!(readings > 100, "{readings}");
    }

    #[tokio::test]
    async fn a_virtual_repository_has_no_refs_to_change() {
        let world = World::new().await;

        let applied = apply(&world.repository("a"), Vec::new(), Some("refs/heads/a")).await;

        assert!(matches!(applied, Err(RepositoryError::NoRepository)));
    }
}
