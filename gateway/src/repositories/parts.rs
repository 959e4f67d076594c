//! The parts of states, beside the repository and invisible to clones: one object directory for each state, with all
//! objects that were pushed of it so far. Together with the repository's objects they are complete.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::PathBuf;

use nostr::event::EventId;
use shared::git::Oid;
use shared::nip34::Coordinate;
use shared::rules::Parts;

use crate::repositories::error::RepositoryError;
use crate::repositories::kept::KeptParts;
use crate::repositories::layout::FileError;
use crate::repositories::layout::failed;
use crate::repositories::layout::in_background;
use crate::repositories::layout::is_dir_here;
use crate::repositories::layout::is_here;
use crate::repositories::layout::sync;
use crate::repositories::objects::ReadError;
use crate::repositories::objects::kinds_in;
use crate::repositories::objects::object_kinds;
use crate::repositories::objects::open_packs;
use crate::repositories::packs::move_packs;
use crate::repositories::packs::packs_in;
use crate::repositories::packs::share_packs;
use crate::repositories::quarantine::Quarantine;
use crate::repositories::repository::Repository;
use crate::repositories::staging::check_aside;
use crate::repositories::staging::names;
use crate::repositories::staging::place_aside;
use crate::repositories::staging::remove_unless_in_use;

/// The kept parts of the states of one repository. Change them under the repository's lock.
#[derive(Debug, Clone)]
pub(super) struct PartsOf {
    repository: Repository,
    path: PathBuf,
}

impl PartsOf {
    /// Returns the parts kept beside `repository`, which need not be on disk.
    pub(super) fn of(repository: &Repository) -> Self {
        Self {
            path: repository.store().layout().parts(repository.coordinate()),
            repository: repository.clone(),
        }
    }

    pub(super) fn coordinate(&self) -> &Coordinate {
        self.repository.coordinate()
    }

    fn object_dir(&self, state_id: &EventId) -> PathBuf {
        self.path.join(state_id.to_hex())
    }

    /// Returns the kept parts of a state that declares `tips`; `None`: there are none.
    pub(super) async fn kept(&self, state_id: EventId, tips: BTreeSet<Oid>) -> Result<Option<KeptParts>, ReadError> {
        let object_dir = self.object_dir(&state_id);
        let looked_for = object_dir.clone();
        if !in_background(move || is_dir_here(&looked_for)).await? {
            return Ok(None);
        }
        let pack_dir = object_dir.join("pack");
        // Before their objects are looked up: they are removed together.
        let packs = in_background(move || packs_in(&pack_dir)).await?;
        let here = object_kinds(vec![object_dir.clone()], tips.into_iter().collect()).await?;
        Ok(Some(KeptParts {
            state_id,
            object_dir,
            packs,
            tips: here.into_keys().collect(),
        }))
    }

    /// Returns which of `oids` are kept, by state, after [`PartsOf::finish_moving_in`] if it is among those locked.
    /// Blocks.
    pub(super) fn finish_and_read(&self, locked: &BTreeSet<Coordinate>, oids: &[Oid]) -> Result<Parts, ReadError> {
        if locked.contains(self.coordinate()) {
            self.finish_moving_in()?;
        }
        self.read(oids)
    }

    fn read(&self, oids: &[Oid]) -> Result<Parts, ReadError> {
        let state_ids = self.state_ids()?.into_iter();
        state_ids
            .map(|state_id| Ok((state_id, kinds_in(&[self.object_dir(&state_id)], oids)?)))
            .collect()
    }

    /// Moves what `quarantine` holds to the other parts of a state. It is one pack: all of it is there or nothing.
    pub(super) async fn keep(&self, state_id: &EventId, quarantine: Quarantine) -> Result<(), FileError> {
        let (own, to, repository) = (self.path.clone(), self.object_dir(state_id), self.repository.clone());
        in_background(move || {
            let (from, whole_with) = (quarantine.object_dir(), quarantine.whole_with().clone());
            place_aside(&repository, &own, &[to], &whole_with, |to| move_packs(from, to))
        })
        .await
    }

    /// Puts all parts of a state into the repository too, which is created if necessary, if `tips` are complete there.
    /// Sets no ref. The parts stay until [`PartsOf::remove`]; until then [`PartsOf::finish_moving_in`] completes a move
    /// that a crash has interrupted.
    ///
    /// # Errors
    /// [`RepositoryError::Incomplete`]: their bases are gone, and so are the parts; they must be pushed again.
    /// Otherwise they are as they were.
    pub(super) async fn move_in(&self, state_id: &EventId, tips: &BTreeSet<Oid>) -> Result<(), RepositoryError> {
        self.repository.create().await?;
        let from = self.object_dir(state_id);
        // Their pushers were told `ok`: they are removed only if everything can be read and something is nevertheless
        // missing.
        let object_dirs = [from.clone(), self.repository.object_dir()];
        let open_all = || {
            let object_dirs = object_dirs.clone();
            in_background(move || object_dirs.iter().try_for_each(|dir| open_packs(dir)))
        };
        open_all().await?;
        let mut checked = check_aside(&self.repository, &from, tips).await;
        if let Err(RepositoryError::Incomplete { .. }) = checked {
            // What git cannot read for a moment, it calls missing.
            open_all().await?;
            checked = check_aside(&self.repository, &from, tips).await;
        }
        if let Err(RepositoryError::Incomplete { .. }) = checked {
            open_all().await?;
            self.remove(state_id).await?;
        }
        checked?;
        let to = self.repository.object_dir();
        Ok(in_background(move || {
            let mark = from.join(MOVING_IN);
            File::create(&mark).map_err(failed("make", &mark))?;
            sync(&[mark, from.clone()])?;
            share_packs(&from, &to)
        })
        .await?)
    }

    /// Removes the parts of a state, at once or not at all. It is no error if there are none.
    ///
    /// # Errors
    /// [`FileError`] if it is still there.
    pub(super) async fn remove(&self, state_id: &EventId) -> Result<(), FileError> {
        let (own, path) = (self.path.clone(), self.object_dir(state_id));
        let layout = self.repository.store().layout().clone();
        in_background(move || {
            if is_dir_here(&path)? {
                layout.remove_at_once(&path)?;
            }
            remove_unless_in_use(&own)
        })
        .await
    }

    /// Finishes what a crash has left half done: of several packs that refer to each other, a repository has all or
    /// none. Call it under its lock. Blocks.
    fn finish_moving_in(&self) -> Result<(), FileError> {
        for state_id in self.state_ids()? {
            let (from, to) = (self.object_dir(&state_id), self.repository.object_dir());
            if is_here(&from.join(MOVING_IN))? && is_dir_here(&to)? {
                share_packs(&from, &to)?;
            }
        }
        Ok(())
    }

    fn state_ids(&self) -> Result<Vec<EventId>, FileError> {
        let names = names(&self.path)?.into_iter();
        Ok(names.filter_map(|name| EventId::from_hex(&name).ok()).collect())
    }
}

/// There while packs of an object directory are put into the repository.
const MOVING_IN: &str = "moving-in";

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::repositories::generation::Generation;
    use crate::repositories::generation::WholeWith;
    use crate::repositories::pack::IngestLimits;
    use crate::repositories::testing::World;

    fn state_id(digit: char) -> EventId {
        EventId::from_hex(&digit.to_string().repeat(64)).unwrap()
    }

    /// Keeps the objects that a commit needs, without those that are already kept.
    async fn keep(parts: &PartsOf, from: &Repository, tip: Oid, before: &[Oid]) {
        let kept = parts
            .kept(state_id('a'), before.iter().copied().collect())
            .await
            .unwrap();
        let (have, limits) = (&parts.repository, IngestLimits::default());
        let pack = Quarantine::copy(&[from.object_dir()], &[tip], have, kept.as_ref(), &limits).await;
        parts.keep(&state_id('a'), pack.unwrap()).await.unwrap();
    }

    #[tokio::test]
    async fn parts_build_on_each_other_and_move_in_whole() {
        for world in World::of_every_git().await {
            let (from, into) = (world.repository("from"), world.repository("into"));
            let commits @ [one, two] = world.two_commits(&from).await;
            let (parts, tips) = (PartsOf::of(&into), BTreeSet::from(commits));
            keep(&parts, &from, one, &[]).await;
            keep(&parts, &from, two, &[one]).await;
            assert_eq!(World::packs(&parts.object_dir(&state_id('a'))).len(), 2);
            assert!(!into.exists().await.unwrap());
            assert_eq!(parts.read(&commits).unwrap()[&state_id('a')].len(), 2);

            parts.move_in(&state_id('a'), &tips).await.unwrap();

            world
                .git(&into, &["rev-list", "--objects", &two.to_string()], b"")
                .await;
            parts.remove(&state_id('a')).await.unwrap();
            parts.remove(&state_id('a')).await.unwrap();
            assert!(!world.store.layout().parts_of(&into.coordinate().owner).exists());
            assert_eq!(into.object_kinds(&commits).await.unwrap().len(), 2);
            assert_eq!(world.quarantine_entries(), 0);
        }
    }

    /// A gateway is killed after the first of two packs.
    #[tokio::test]
    async fn what_a_crash_left_half_moved_in_is_finished() {
        let world = World::new().await;
        let (from, into) = (world.repository("from"), world.repository("into"));
        let commits @ [one, two] = world.two_commits(&from).await;
        let parts = PartsOf::of(&into);
        keep(&parts, &from, one, &[]).await;
        keep(&parts, &from, two, &[one]).await;
        parts.move_in(&state_id('a'), &commits.into()).await.unwrap();
        let first = World::packs(&into.object_dir()).remove(0);
        fs::remove_file(first.with_extension("idx")).unwrap();
        assert!(into.object_kinds(&commits).await.unwrap().len() < 2);

        parts.finish_and_read(&BTreeSet::new(), &[]).unwrap();
        assert!(into.object_kinds(&commits).await.unwrap().len() < 2, "without the lock");
        let locked = [into.coordinate().clone()].into();
        parts.finish_and_read(&locked, &[]).unwrap();

        assert_eq!(into.object_kinds(&commits).await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn parts_whose_base_is_gone_do_not_move_in() {
        let world = World::new().await;
        let (from, into) = (world.repository("from"), world.repository("into"));
        let [one, two] = world.two_commits(&from).await;
        let parts = PartsOf::of(&into);
        keep(&parts, &from, one, &[]).await;
        parts.move_in(&state_id('a'), &[one].into()).await.unwrap();
        parts.remove(&state_id('a')).await.unwrap();
        world
            .git(&into, &["update-ref", "refs/heads/a", &one.to_string()], b"")
            .await;
        keep(&parts, &from, two, &[]).await;
        fs::remove_dir_all(into.path()).unwrap();

        let moved = parts.move_in(&state_id('a'), &[two].into()).await;

        assert!(matches!(moved, Err(RepositoryError::Incomplete { .. })), "{moved:?}");
        assert!(into.object_kinds(&[two]).await.unwrap().is_empty());
        assert!(parts.read(&[two]).unwrap().is_empty(), "they have to come again");
    }

    /// git took a pack that it could not open for one that is not there, and the parts went.
    #[tokio::test]
    async fn parts_stay_while_a_pack_cannot_be_read() {
        for world in World::of_every_git().await {
            let (from, into) = (world.repository("from"), world.repository("into"));
            let [one, two] = world.two_commits(&from).await;
            let (parts, tips) = (PartsOf::of(&into), BTreeSet::from([two]));
            keep(&parts, &from, one, &[]).await;
            parts.move_in(&state_id('a'), &[one].into()).await.unwrap();
            parts.remove(&state_id('a')).await.unwrap();
            let set = ["update-ref", "refs/heads/a", &one.to_string()].map(str::to_owned);
            world.git(&into, &set.each_ref().map(String::as_str), b"").await;
            keep(&parts, &from, two, &[]).await;
            set_lost_ref(&into);
            for pack in [&into.object_dir(), &parts.object_dir(&state_id('a'))].map(|dir| World::packs(dir).remove(0)) {
                let whole = fs::read(&pack).unwrap();
                let cut = whole[..whole.len() - 5].to_vec();
                for unreadable in [None, Some(cut)] {
                    fs::remove_file(&pack).unwrap();
                    match &unreadable {
                        None => fs::create_dir(&pack).unwrap(),
                        Some(bytes) => fs::write(&pack, bytes).unwrap(),
                    }

                    let moved = parts.move_in(&state_id('a'), &tips).await;

                    assert!(
                        matches!(moved, Err(RepositoryError::Read(_) | RepositoryError::Git(_))),
                        "{moved:?}"
                    );
                    match &unreadable {
                        None => fs::remove_dir(&pack).unwrap(),
                        Some(_) => fs::remove_file(&pack).unwrap(),
                    }
                    fs::write(&pack, &whole).unwrap();
                }
            }

            parts.move_in(&state_id('a'), &tips).await.unwrap();

            assert_eq!(into.object_kinds(&[two]).await.unwrap().len(), 1);
        }
    }

    /// git calls missing what it cannot read for a moment.
    #[tokio::test]
    async fn parts_go_only_if_something_is_missing_twice() {
        let world = World::whose_git_can_be_killed().await;
        let (from, into) = (world.repository("from"), world.repository("into"));
        let commits @ [_, two] = world.two_commits(&from).await;
        let parts = PartsOf::of(&into);
        keep(&parts, &from, two, &[]).await;
        fs::remove_file(WholeWith::note_in(&parts.object_dir(&state_id('a')))).unwrap();
        let failing = "echo 'fatal: bad object' >&2; exit 128";
        world.fail_git("rev-list", &format!("[ -e $0.once ] || {{ : > $0.once; {failing}; }}"));

        parts.move_in(&state_id('a'), &commits.into()).await.unwrap();

        assert_eq!(into.object_kinds(&commits).await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn parts_stay_when_git_is_killed() {
        let world = World::whose_git_can_be_killed().await;
        let (from, into) = (world.repository("from"), world.repository("into"));
        let commits @ [_, two] = world.two_commits(&from).await;
        let parts = PartsOf::of(&into);
        keep(&parts, &from, two, &[]).await;
        // From before the base of the objects was noted.
        fs::remove_file(WholeWith::note_in(&parts.object_dir(&state_id('a')))).unwrap();

        for how in [
            "kill -KILL $$",
            "echo 'fatal: Out of memory, malloc failed'>&2; exit 128",
        ] {
            world.fail_git("rev-list", how);
            let moved = parts.move_in(&state_id('a'), &commits.into()).await;

            assert!(matches!(moved, Err(RepositoryError::Git(_))), "{moved:?}");
        }
        world.fail_git("rev-list", ":");
        parts.move_in(&state_id('a'), &commits.into()).await.unwrap();
    }

    /// The whole history was walked under the lock.
    #[tokio::test]
    async fn parts_are_walked_only_if_objects_have_left_the_repository_since() {
        let world = World::whose_git_can_be_killed().await;
        let (from, into) = (world.repository("from"), world.repository("into"));
        let [one, two] = world.two_commits(&from).await;
        let (parts, tips) = (PartsOf::of(&into), BTreeSet::from([two]));
        crate::repositories::testing::copy_objects(&[from.object_dir()], &[one], &into, &IngestLimits::default())
            .await
            .unwrap();
        let set = ["update-ref", "refs/heads/a", &one.to_string()].map(str::to_owned);
        world.git(&into, &set.each_ref().map(String::as_str), b"").await;
        keep(&parts, &from, two, &[]).await;
        world.fail_git("rev-list", "kill -KILL $$");

        parts.move_in(&state_id('a'), &tips).await.unwrap();
        Generation::renew(&into).unwrap();
        parts.move_in(&state_id('a'), &tips).await.unwrap_err();
        world.fail_git("rev-list", ":");
        keep(&parts, &from, two, &[]).await;
        assert_eq!(WholeWith::read(&parts.object_dir(&state_id('a'))), WholeWith::Unknown);
        parts.move_in(&state_id('a'), &tips).await.unwrap();
    }

    /// Every set of parts went, for ever.
    #[tokio::test]
    async fn a_ref_whose_object_is_lost_keeps_no_parts_out() {
        for world in World::of_every_git().await {
            let (from, into) = (world.repository("from"), world.repository("into"));
            let commits @ [one, two] = world.two_commits(&from).await;
            into.create().await.unwrap();
            set_lost_ref(&into);
            let parts = PartsOf::of(&into);
            keep(&parts, &from, one, &[]).await;
            keep(&parts, &from, two, &[one]).await;

            parts.move_in(&state_id('a'), &commits.into()).await.unwrap();

            assert_eq!(into.object_kinds(&commits).await.unwrap().len(), 2);
        }
    }

    fn set_lost_ref(repository: &Repository) {
        let dir = repository.path().join("refs/nostr");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("ab".repeat(32)), format!("{}\n", "12".repeat(20))).unwrap();
    }
}
