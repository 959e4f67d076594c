//! Changing the refs of one repository: all of them or none, each only from the value it is expected to have.
//!
//! The first refs of a repository are written as `packed-refs`: one file, whatever their number, and no process. After
//! that `git update-ref --stdin` does it, because gix checks neither directory conflicts nor syncs
//! (docs/facts/git-http.md 1). Verified with git 2.39.5 and 2.47.3, and pinned by the tests below:
//!
//! - one transaction cannot delete `a` and create `a/b`: such deletions go first, in a transaction of their own;
//! - `symref-update HEAD` (2.46) cannot stand beside a change of the branch that `HEAD` names ("multiple updates for
//!   'HEAD'"): then, and with an older git, `HEAD` follows after the commit.
//!
//! Between two such steps a crash leaves the first one done. Who aligns refs compares and finishes.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::fs::File;
use std::io;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use shared::git::Namespace;
use shared::git::ObjectKind;
use shared::git::Oid;
use shared::git::RefName;
use shared::git::RefUpdate;

use crate::git::error::GitError;
use crate::repositories::error::RepositoryError;
use crate::repositories::layout::failed;
use crate::repositories::layout::in_background;
use crate::repositories::layout::sync;
use crate::repositories::objects::Objects;
use crate::repositories::refs::Head;
use crate::repositories::refs::RefSnapshot;
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

impl Repository {
    /// Applies `transaction`: each step whole or not at all, checked against the old values (the module's text says
    /// when it takes more than one step). Call it under the repository's lock.
    ///
    /// # Errors
    /// [`RepositoryError`]; then the step that failed changed nothing.
    pub(super) async fn apply(&self, transaction: &RefTransaction) -> Result<(), RepositoryError> {
        let applied = self.apply_steps(transaction).await;
        self.forget_refs();
        applied
    }

    async fn apply_steps(&self, transaction: &RefTransaction) -> Result<(), RepositoryError> {
        let (path, first) = (self.path().to_owned(), transaction.clone());
        let Some(current) = in_background(move || write_if_first(&path, &first)).await? else {
            return Ok(());
        };
        let (first, rest) = split(&transaction.updates);
        let target = transaction
            .head
            .as_ref()
            .filter(|target| current != Head::Symbolic((*target).clone()));
        let beside = target
            .filter(|_| self.store().git().version().has_symref_update() && !changes(&transaction.updates, &current));
        self.update_refs(script(&first, None)).await?;
        self.update_refs(script(&rest, beside.map(|target| (target, &current))))
            .await?;
        match (target, beside) {
            (Some(target), None) => self.set_head(target).await,
            (Some(_) | None, _) => Ok(()),
        }
    }

    /// Runs one transaction of `update-ref`; an empty one is none.
    async fn update_refs(&self, script: Option<Vec<u8>>) -> Result<(), RepositoryError> {
        let Some(script) = script else {
            return Ok(());
        };
        self.store()
            .git()
            .invoke("update-ref")
            .repository(self.path())
            // HEAD itself is meant, not the branch it names.
            .arg("--no-deref")
            .arg("--stdin")
            .arg("-z")
            .output(&script, DEADLINE)
            .await
            .map(drop)
            .map_err(refused)
    }

    /// Packs all refs where many of PRs stand in files of their own, each of which every reader opens. A failure costs
    /// only that. Call it under the repository's lock.
    pub(super) async fn pack_pull_requests(&self) {
        let dir = self.path().join("refs/nostr");
        let loose = in_background(move || fs::read_dir(dir).map_or(0, Iterator::count)).await;
        if loose < LOOSE_MAX {
            return;
        }
        let git = self.store().git().invoke("pack-refs").repository(self.path());
        let packed = git.arg("--all").output(b"", DEADLINE).await;
        self.forget_refs();
        if let Err(error) = packed {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(repo.coordinate = %self.coordinate(), error, "cannot pack the refs of PRs");
        }
    }

    async fn set_head(&self, target: &RefName) -> Result<(), RepositoryError> {
        self.store()
            .git()
            .invoke("symbolic-ref")
            .repository(self.path())
            .arg("HEAD")
            .arg(target.as_str())
            .output(b"", DEADLINE)
            .await
            .map(drop)
            .map_err(refused)
    }
}

/// Writes the first refs of a repository, as git writes those of a clone (git `refs/files-backend.c`,
/// `files_transaction_finish_initial`). Returns what `HEAD` says where there are refs already, and nothing is written.
fn write_if_first(repository: &Path, transaction: &RefTransaction) -> Result<Option<Head>, RepositoryError> {
    let read = read_refs(repository, None)?.ok_or(RepositoryError::NoRepository)?;
    let RefSnapshot { refs, head, .. } = read.snapshot;
    if !refs.is_empty() || transaction.updates.iter().any(|update| update.old.is_some()) {
        return Ok(Some(head));
    }
    let packed = packed_refs(repository, &transaction.updates)?;
    let mut files = Vec::new();
    if let Some(target) = &transaction.head
        && head != Head::Symbolic(target.clone())
    {
        // Until the refs are there it names a branch that is not yet born, as in any empty repository.
        files.push((repository.join("HEAD"), format!("ref: {target}\n")));
    }
    if !transaction.updates.is_empty() {
        files.push((repository.join("packed-refs"), packed));
    }
    replace(&files)?;
    sync(&[repository.to_owned()])?;
    Ok(None)
}

/// Writes refs as `packed-refs` holds them (git `refs/packed-backend.c`), after the checks that git makes of new refs.
fn packed_refs(repository: &Path, updates: &[RefUpdate]) -> Result<String, RepositoryError> {
    let objects = Objects::open(&[repository.join("objects")])?;
    let created = updates.iter().filter_map(|update| Some((&update.name, update.new?)));
    let created: BTreeMap<&RefName, Oid> = created.collect();
    let names: BTreeSet<&str> = created.keys().map(|name| name.as_str()).collect();
    let (mut lines, mut is_fully_peeled) = (String::new(), true);
    for (&name, &oid) in &created {
        let refused = |reason: &str| RepositoryError::Refused {
            message: format!("{name}: {reason}"),
        };
        let mut above = name.as_str().match_indices('/');
        if above.any(|(slash, _)| names.contains(&name.as_str()[..slash])) {
            return Err(refused("another ref stands where it needs a directory"));
        }
        let Some(kind) = objects.kind(oid)? else {
            return Err(refused("its object is not here"));
        };
        if name.namespace() == Namespace::Branch && kind != ObjectKind::Commit {
            return Err(refused("a branch must be a commit"));
        }
        lines.push_str(&format!("{oid} {name}\n"));
        if kind == ObjectKind::Tag {
            match objects.peel(oid)? {
                Some(target) => lines.push_str(&format!("^{target}\n")),
                None => is_fully_peeled = false,
            }
        }
    }
    let traits = if is_fully_peeled {
        "peeled fully-peeled sorted"
    } else {
        "sorted"
    };
    Ok(format!("# pack-refs with: {traits} \n{lines}"))
}

/// Replaces files in this order, under git's locks for them. They are durable once their directory is synced.
fn replace(files: &[(PathBuf, String)]) -> Result<(), RepositoryError> {
    let mut locks = Vec::new();
    let written = files.iter().try_for_each(|(path, content)| {
        let lock = path.with_extension("lock");
        let mut file = make_lock(&lock)?;
        let written = file.write_all(content.as_bytes()).map_err(failed("write", &lock));
        locks.push(lock);
        Ok(written?)
    });
    if let Err(error) = written.and_then(|()| Ok(sync(&locks)?)) {
        // Else nobody could change these files any more.
        for lock in &locks {
            fs::remove_file(lock).map_err(failed("remove", lock))?;
        }
        return Err(error);
    }
    for ((path, _), lock) in files.iter().zip(&locks) {
        fs::rename(lock, path).map_err(failed("replace", path))?;
    }
    Ok(())
}

fn make_lock(lock: &Path) -> Result<File, RepositoryError> {
    match File::options().write(true).create_new(true).open(lock) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let message = format!("{} exists", lock.display());
            Err(RepositoryError::Locked { message })
        }
        opened => Ok(opened.map_err(failed("make the file", lock))?),
    }
}

/// Splits off the deletions that must be done before something can be created in their place.
fn split(updates: &[RefUpdate]) -> (Vec<&RefUpdate>, Vec<&RefUpdate>) {
    let created: BTreeSet<&str> = updates
        .iter()
        .filter(|update| update.old.is_none() && update.new.is_some())
        .map(|update| update.name.as_str())
        .collect();
    let in_the_way = |name: &str| {
        let below = format!("{name}/");
        let has_below = created
            .range(below.as_str()..)
            .next()
            .is_some_and(|created| created.starts_with(&below));
        let is_below = name
            .match_indices('/')
            .any(|(slash, _)| created.contains(&name[..slash]));
        has_below || is_below
    };
    updates
        .iter()
        .partition(|update| update.old.is_some() && update.new.is_none() && in_the_way(update.name.as_str()))
}

/// Tells whether the branch that `HEAD` names is among the refs touched.
fn changes(updates: &[RefUpdate], head: &Head) -> bool {
    match head {
        Head::Symbolic(name) => updates.iter().any(|update| update.name == *name),
        Head::Detached(_) => false,
    }
}

/// Writes the input of `git update-ref --stdin -z` (its manual); `None` if there is nothing to do.
fn script(updates: &[&RefUpdate], head: Option<(&RefName, &Head)>) -> Option<Vec<u8>> {
    if updates.is_empty() && head.is_none() {
        return None;
    }
    let mut script = String::from("start\0");
    for RefUpdate { name, old, new } in updates {
        let line = match (old, new) {
            (Some(old), Some(new)) if old == new => format!("verify {name}\0{old}\0"),
            (Some(old), Some(new)) => format!("update {name}\0{new}\0{old}\0"),
            (None, Some(new)) => format!("create {name}\0{new}\0"),
            (Some(old), None) => format!("delete {name}\0{old}\0"),
            (None, None) => format!("verify {name}\0{}\0", "0".repeat(2 * Oid::LEN)),
        };
        script.push_str(&line);
    }
    if let Some((target, current)) = head {
        let expected = match current {
            Head::Symbolic(name) => format!("ref\0{name}"),
            Head::Detached(oid) => format!("oid\0{oid}"),
        };
        script.push_str(&format!("symref-update HEAD\0{target}\0{expected}\0"));
    }
    script.push_str("prepare\0commit\0");
    Some(script.into_bytes())
}

/// Reads from git's message what kind of refusal it was (git `refs/files-backend.c`).
fn refused(error: GitError) -> RepositoryError {
    let GitError::Failed { message, .. } = error else {
        return error.into();
    };
    let says = |text: &str| message.contains(text);
    if says("but expected") || says("reference already exists") || says("unable to resolve reference") {
        RepositoryError::Stale { message }
    } else if says("nable to create") && says("File exists") {
        RepositoryError::Locked { message }
    } else {
        RepositoryError::Refused { message }
    }
}

/// Refs of PRs in files of their own: reading so many costs less than a process.
const LOOSE_MAX: usize = 64;

/// Locks are waited for 3 s (refs) and 5 s (packed-refs), see serving.gitconfig; the rest is syncing.
const DEADLINE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
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
            apply(&ours, updates.clone(), Some("refs/heads/main")).await.unwrap();
            let script = script(&updates.iter().collect::<Vec<_>>(), None).unwrap();
            world
                .git(&gits, &["update-ref", "--no-deref", "--stdin", "-z"], &script)
                .await;
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

        // A git that was killed while it took a ref out of `packed-refs` leaves this beside its lock.
        fs::write(repository.path().join("packed-refs.new"), "").unwrap();
        let deleted = vec![update("refs/heads/a", Some(one), None)];
        let locked = apply(&repository, deleted.clone(), None).await;
        assert!(matches!(locked, Err(RepositoryError::Locked { .. })), "{locked:?}");

        assert_eq!(repository.clear_stale_locks().await, 1);
        apply(&repository, deleted, None).await.unwrap();
    }

    #[tokio::test]
    async fn many_refs_of_pull_requests_are_packed() {
        for world in World::of_every_git().await {
            let repository = world.repository("a");
            let [one, two] = world.two_commits(&repository).await;
            let loose = || fs::read_dir(repository.path().join("refs/nostr")).map_or(0, Iterator::count);
            apply(&repository, vec![update("refs/heads/a", None, Some(one))], None)
                .await
                .unwrap();
            let refs = |range: std::ops::Range<usize>| {
                let of = |number| update(&format!("refs/nostr/{number:064x}"), None, Some(two));
                range.map(of).collect::<Vec<_>>()
            };
            apply(&repository, refs(0..LOOSE_MAX - 1), None).await.unwrap();

            repository.pack_pull_requests().await;
            assert_eq!(loose(), LOOSE_MAX - 1);
            apply(&repository, refs(LOOSE_MAX - 1..LOOSE_MAX), None).await.unwrap();
            let before = repository.refs().await.unwrap();
            repository.pack_pull_requests().await;

            assert_eq!(loose(), 0);
            assert_eq!(repository.refs().await.unwrap(), before);
        }
    }

    #[tokio::test]
    async fn a_virtual_repository_has_no_refs_to_change() {
        let world = World::new().await;

        let applied = apply(&world.repository("a"), Vec::new(), Some("refs/heads/a")).await;

        assert!(matches!(applied, Err(RepositoryError::NoRepository)));
    }
}
