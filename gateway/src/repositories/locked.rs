//! Repositories that can be changed: under their lock, and handed out only by that lock.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use nostr::event::EventId;
use nostr::key::PublicKey;
use parking_lot::Mutex;
use shared::git::Oid;
use shared::git::RefName;
use shared::git::RefUpdate;
use shared::nip34::Coordinate;
use shared::rules::Alignment;
use shared::rules::Installation;
use shared::rules::InstallationSource;
use shared::rules::PullRequestOffer;
use shared::rules::PushedState;
use shared::rules::SourceTag;
use shared::rules::Staged;

use crate::repositories::copy::share_objects;
use crate::repositories::creation::sync_place;
use crate::repositories::disk_use::DiskUse;
use crate::repositories::error::RepositoryError;
use crate::repositories::layout::in_background;
use crate::repositories::locks::Locked;
use crate::repositories::locks::Locks;
use crate::repositories::maintenance::Removable;
use crate::repositories::maintenance::RenewedPacks;
use crate::repositories::maintenance::remove_replaced;
use crate::repositories::offers::NotedOffer;
use crate::repositories::pack::IngestLimits;
use crate::repositories::pack_changes::finish_changes;
use crate::repositories::parts::PartsOf;
use crate::repositories::quarantine::Quarantine;
use crate::repositories::received::Received;
use crate::repositories::ref_transaction::RefTransaction;
use crate::repositories::refs::RefSnapshot;
use crate::repositories::repository::Repository;
use crate::repositories::repository::RepositoryStore;
use crate::repositories::staging::Order;
use crate::repositories::staging::Staging;
use crate::repositories::staging::check_complete;

/// Some repositories, locked until it is dropped.
#[must_use = "dropping it at once locks nothing"]
pub(crate) struct LockedRepositories<'r> {
    locked: Locked,
    /// Those of them with interrupted changes that could not be finished.
    unfinished: BTreeSet<Coordinate>,
    locks: &'r Locks,
    store: &'r RepositoryStore,
    limits: IngestLimits,
    disk_use: &'r DiskUse,
    placed: Placed,
}

/// Repositories that were made under this lock: they are durable where they are, and need no sync of their own.
type Placed = Mutex<BTreeSet<Coordinate>>;

/// A repository that is locked. It need not be on disk.
pub(crate) struct LockedRepository<'l> {
    repository: Repository,
    limits: &'l IngestLimits,
    disk_use: &'l DiskUse,
    placed: &'l Placed,
}

impl<'r> LockedRepositories<'r> {
    pub(super) fn new(
        (locked, locks): (Locked, &'r Locks),
        unfinished: BTreeSet<Coordinate>,
        store: &'r RepositoryStore,
        limits: IngestLimits,
        disk_use: &'r DiskUse,
    ) -> Self {
        Self {
            locked,
            unfinished,
            locks,
            store,
            limits,
            disk_use,
            placed: Placed::default(),
        }
    }

    pub(crate) fn coordinates(&self) -> &BTreeSet<Coordinate> {
        self.locked.coordinates()
    }

    /// Returns those of them that can be neither read nor changed as yet.
    pub(super) fn unfinished(&self) -> &BTreeSet<Coordinate> {
        &self.unfinished
    }

    /// Locks more of them, if their locks are free now, and returns whether it did. Facts about these that were read
    /// before may have changed.
    pub(crate) async fn try_extend(&mut self, coordinates: &BTreeSet<Coordinate>) -> Result<bool, RepositoryError> {
        let has_locked = self.locks.try_extend(&mut self.locked, coordinates).await?;
        if has_locked {
            self.unfinished.extend(finish_changes(self.store, coordinates).await);
        }
        Ok(has_locked)
    }

    /// Returns a repository to change.
    ///
    /// # Errors
    /// [`RepositoryError::NotLocked`]: the lock does not cover it. [`RepositoryError::Unfinished`]: changes of it that
    /// were interrupted could not be finished.
    pub(crate) fn repository(&self, coordinate: &Coordinate) -> Result<LockedRepository<'_>, RepositoryError> {
        if !self.coordinates().contains(coordinate) {
            return Err(RepositoryError::NotLocked {
                coordinate: coordinate.clone(),
            });
        }
        if self.unfinished.contains(coordinate) {
            return Err(RepositoryError::Unfinished {
                coordinate: coordinate.clone(),
            });
        }
        Ok(LockedRepository {
            repository: self.store.at(coordinate),
            limits: &self.limits,
            disk_use: self.disk_use,
            placed: &self.placed,
        })
    }
}

impl LockedRepository<'_> {
    pub(crate) fn reading(&self) -> &Repository {
        &self.repository
    }

    /// Moves `tips`, and the objects that they need, into the repository. A repository that does not exist is created;
    /// if the tips are all tips of `state`, with its refs: objects and refs then become durable together.
    ///
    /// # Errors
    /// They are not there, or not whole.
    pub(crate) async fn take_in(
        &self,
        received: Received,
        tips: &BTreeSet<Oid>,
        state: Option<&PushedState>,
    ) -> Result<(), RepositoryError> {
        let declared = self.declared(received, tips).await?;
        let bytes = declared.bytes().await?;
        let is_made = match state.filter(|state| state.tips().is_subset(tips)) {
            Some(state) => declared.migrate_with_refs(RefTransaction::of_new(state)).await?,
            None => {
                declared.migrate().await?;
                false
            }
        };
        if is_made {
            self.placed.lock().insert(self.repository.coordinate().clone());
        }
        self.disk_use.moved_in(self.repository.coordinate(), bytes, 0);
        self.repository.forget_refs();
        // Its objects are there for maintenance only now, and its refs may change no more.
        self.repository.store().touched().note(self.repository.coordinate());
        Ok(())
    }

    /// Keeps `tips`, and the objects that they need, aside with the state that declares them.
    pub(crate) async fn keep_part(
        &self,
        state_id: &EventId,
        received: Received,
        tips: &BTreeSet<Oid>,
    ) -> Result<(), RepositoryError> {
        let declared = self.declared(received, tips).await?;
        let bytes = declared.bytes().await?;
        PartsOf::of(&self.repository).keep(state_id, declared).await?;
        self.disk_use.moved_in(self.repository.coordinate(), bytes, 0);
        Ok(())
    }

    /// Removes the kept parts of a state.
    ///
    /// # Errors
    /// It is still there.
    pub(crate) async fn end_parts(&self, state_id: &EventId) -> Result<(), RepositoryError> {
        Ok(PartsOf::of(&self.repository).remove(state_id).await?)
    }

    /// Keeps aside the commits of PRs, each with what it needs of a push. What several share stands on the disk once.
    /// It counts for the pusher.
    pub(crate) async fn stage(
        &self,
        staged: &[Staged],
        received: &Received,
        pusher: SourceTag,
    ) -> Result<(), RepositoryError> {
        let mut by_commit: BTreeMap<Oid, Vec<&Staged>> = BTreeMap::new();
        for staged in staged {
            by_commit.entry(staged.commit_oid).or_default().push(staged);
        }
        for (commit_oid, staged) in by_commit {
            let (objects, order) = match received.needed_by(&commit_oid) {
                Some(needed) => (needed, Order::Sorted),
                // The decision was another before the lock. It is sorted before it moves in.
                None => (received.whole(), Order::Unknown),
            };
            self.place_aside(&staged, objects, order, Some(pusher)).await?;
        }
        Ok(())
    }

    /// Keeps aside a commit for events, with the objects that it needs. It counts for whom it did before.
    pub(super) async fn stage_sorted(&self, staged: &[&Staged], needed: &Quarantine) -> Result<(), RepositoryError> {
        self.place_aside(staged, needed, Order::Sorted, None).await
    }

    async fn place_aside(
        &self,
        staged: &[&Staged],
        objects: &Quarantine,
        order: Order,
        pusher: Option<SourceTag>,
    ) -> Result<(), RepositoryError> {
        let tips = staged.iter().map(|staged| staged.commit_oid).collect();
        self.recheck(objects, &tips).await?;
        let staging = Staging::of(&self.repository);
        let staged = staged.iter().map(|staged| (&staged.event_id, &staged.commit_oid));
        Ok(staging.place(staged, objects, order, pusher).await?)
    }

    /// Removes staged objects.
    ///
    /// # Errors
    /// It is still there.
    pub(crate) async fn unstage(&self, staged: &Staged) -> Result<(), RepositoryError> {
        let staging = Staging::of(&self.repository);
        Ok(staging.remove(&staged.event_id, &staged.commit_oid).await?)
    }

    /// Removes unreachable objects that were found removable, unless a ref, or one of `wanted`, names one of them;
    /// returns how many packs. `None`: it has to be found out again.
    ///
    /// # Errors
    /// Some may have gone.
    pub(crate) async fn remove_unreachable(
        &self,
        removable: Removable,
        wanted: BTreeSet<Oid>,
    ) -> Result<Option<usize>, RepositoryError> {
        let repository = self.repository.clone();
        Ok(in_background(move || removable.remove(&repository, &wanted)).await?)
    }

    /// Brings the repository to what a state declares: objects first, then all refs and HEAD.
    ///
    /// # Errors
    /// The refs are as they were.
    pub(crate) async fn align(&self, alignment: &Alignment) -> Result<(), RepositoryError> {
        for (source, tips) in &alignment.copies {
            self.bring(source, tips.iter().copied().collect()).await?;
        }
        if !alignment.parts.is_empty() {
            let parts = PartsOf::of(&self.repository);
            parts.move_in(&alignment.state_id, &alignment.parts).await?;
        }
        self.apply(&RefTransaction {
            updates: alignment.updates.clone(),
            head: alignment.head.clone(),
        })
        .await
    }

    /// Sets the ref of a PR, after its commit has moved in.
    ///
    /// The staged directory is removed last: after a crash it is the only record that the ref of an already served
    /// event must be set.
    ///
    /// # Errors
    /// The ref is as it was, or the staged objects still exist. [`RepositoryError::Unsorted`]: it has to be prepared
    /// first, outside the lock (`prepare.rs`).
    pub(crate) async fn install(&self, installation: &Installation) -> Result<(), RepositoryError> {
        self.repository.create().await?;
        let (event_id, commit_oid) = (&installation.event_id, &installation.commit_oid);
        let unsorted = RepositoryError::Unsorted {
            event_id: *event_id,
            commit_oid: *commit_oid,
        };
        match &installation.source {
            InstallationSource::Here => {}
            InstallationSource::Staged => {
                Staging::of(&self.repository).admit(event_id, commit_oid).await?;
            }
            InstallationSource::Repository(source) => {
                let source = self.repository.store().at(source);
                if !share_objects(&source, &self.repository).await? {
                    return Err(unsorted);
                }
            }
            InstallationSource::StagedElsewhere(_) => return Err(unsorted),
        }
        if installation.old.is_none() {
            self.repository.note_offer(event_id, installation.offer).await?;
        }
        let (bytes, of_strangers) = (installation.bytes, installation.offer.bytes);
        self.disk_use
            .moved_in(self.repository.coordinate(), bytes, of_strangers);
        let update = RefUpdate {
            name: RefName::pull_request(event_id),
            old: installation.old,
            new: Some(*commit_oid),
        };
        self.apply(&RefTransaction {
            updates: vec![update],
            head: None,
        })
        .await?;
        match &installation.source {
            InstallationSource::Here | InstallationSource::Staged => {
                Staging::of(&self.repository).remove(event_id, commit_oid).await?;
            }
            InstallationSource::Repository(_) | InstallationSource::StagedElsewhere(_) => {}
        }
        Ok(())
    }

    /// Removes the refs of PRs that have ended, and notes who offers those that were found. Their objects stay, and
    /// count for strangers as long as unreachable ones are kept.
    ///
    /// # Errors
    /// The refs are as they were.
    pub(crate) async fn end_pull_requests(
        &self,
        ended: &BTreeSet<EventId>,
        found: &BTreeMap<EventId, PublicKey>,
        keep_unreachable: Duration,
    ) -> Result<(), RepositoryError> {
        let Some(RefSnapshot { refs, .. }) = self.repository.refs().await? else {
            return Ok(());
        };
        let deletion = |event_id: &EventId| {
            let name = RefName::pull_request(event_id);
            let old = Some(*refs.get(&name)?);
            Some(RefUpdate { name, old, new: None })
        };
        let updates: Vec<RefUpdate> = ended.iter().filter_map(deletion).collect();
        if !updates.is_empty() {
            self.apply(&RefTransaction { updates, head: None }).await?;
        }
        let noted = self.repository.offers().await?;
        let mut offers = noted.clone();
        for (event_id, author) in found {
            let unpaid = PullRequestOffer {
                author: *author,
                bytes: 0,
                source: None,
            };
            offers.entry(*event_id).or_insert_with(|| NotedOffer::new(unpaid));
        }
        let has_ref =
            |event_id: &EventId| !ended.contains(event_id) && refs.contains_key(&RefName::pull_request(event_id));
        let after = offers.into_iter().filter_map(|(event_id, noted)| {
            let after = noted.after(has_ref(&event_id), keep_unreachable)?;
            Some((event_id, after))
        });
        let offers: BTreeMap<EventId, NotedOffer> = after.collect();
        if offers != noted {
            self.repository.write_offers(&offers).await?;
        }
        Ok(())
    }

    /// Removes the repository with all that is in it: half of one could neither be read nor made again.
    ///
    /// # Errors
    /// It is as it was, or some of it is in the quarantine.
    pub(crate) async fn remove(&self) -> Result<(), RepositoryError> {
        let (layout, path) = (
            self.repository.store().layout().clone(),
            self.repository.path().to_owned(),
        );
        self.repository.list(false);
        Ok(in_background(move || layout.remove_at_once(&path)).await?)
    }

    /// Notes since when the repository is kept although nobody announces it here; `None`: it is announced again.
    pub(crate) async fn note_unhosted(&self, since: Option<u64>) -> Result<(), RepositoryError> {
        self.repository.list(since.is_none());
        Ok(self.repository.write_unhosted(since).await?)
    }

    /// Notes that the events that declared the repository were lost, or are there again.
    pub(crate) async fn note_stateless(&self, is_stateless: bool) -> Result<(), RepositoryError> {
        self.repository.list(!is_stateless);
        Ok(self.repository.write_stateless(is_stateless).await?)
    }

    /// Packs the refs that have files of their own.
    ///
    /// # Errors
    /// The refs are as they were, in files of their own or not.
    pub(super) async fn pack_refs(&self) -> Result<(), RepositoryError> {
        self.repository.apply(&RefTransaction::default()).await
    }

    /// Puts packs and indexes into the repository that maintenance has made, unless they do not fit any more.
    ///
    /// # Errors
    /// The repository has its old packs, and perhaps some of the new.
    pub(super) async fn switch_packs(&self, renewed: RenewedPacks) -> Result<bool, RepositoryError> {
        let object_dir = self.repository.object_dir();
        Ok(in_background(move || renewed.put_in_place(&object_dir)).await?)
    }

    /// Removes packs that were replaced; returns how many.
    ///
    /// # Errors
    /// Some of them are still there.
    pub(super) async fn remove_replaced_packs(&self, names: Vec<PathBuf>) -> Result<usize, RepositoryError> {
        let object_dir = self.repository.object_dir();
        Ok(in_background(move || remove_replaced(&object_dir, &names)).await?)
    }

    /// Returns what `tips` need of a push.
    async fn declared(&self, received: Received, tips: &BTreeSet<Oid>) -> Result<Quarantine, RepositoryError> {
        let declared = received.into_declared(tips, self.limits).await?;
        self.recheck(&declared, tips).await?;
        Ok(declared)
    }

    /// Makes sure that the incoming objects were not checked with objects that have been removed since. That almost
    /// never happens, and then a walk under the lock is better than a push that must be repeated.
    async fn recheck(&self, quarantine: &Quarantine, tips: &BTreeSet<Oid>) -> Result<(), RepositoryError> {
        if quarantine.is_still_whole().await? {
            return Ok(());
        }
        let mut object_dirs = vec![quarantine.object_dir().to_owned()];
        object_dirs.extend(quarantine.kept().map(|kept| kept.object_dir.clone()));
        check_complete(&self.repository, &object_dirs, tips).await
    }

    /// Copies `tips` and the objects that they need from another repository of its maintainers.
    async fn bring(&self, source: &Coordinate, tips: Vec<Oid>) -> Result<(), RepositoryError> {
        let source = self.repository.store().at(source);
        if share_objects(&source, &self.repository).await? {
            return Ok(());
        }
        let _permit = source.store().git().permits().try_take("pack-objects")?;
        let from = [source.object_dir()];
        let needed = Quarantine::copy(&from, &tips, &self.repository, None, self.limits).await?;
        Ok(needed.migrate().await?)
    }

    /// Removes the lock files and temporary packs that a killed git left in it; returns how many.
    pub(crate) async fn sweep(&self) -> usize {
        self.repository.clear_stale_locks().await
    }

    /// Makes durable that the repository is where it is, with the refs that it has. One that was made under this lock
    /// is durable.
    pub(crate) async fn sync(&self) -> Result<(), RepositoryError> {
        if self.placed.lock().contains(self.repository.coordinate()) {
            return Ok(());
        }
        let path = self.repository.path().to_owned();
        Ok(in_background(move || sync_place(&path)).await?)
    }

    /// Changes refs, in a repository that is made if need be. Under the lock, every lock file in it that stays was left
    /// by a killed program.
    async fn apply(&self, transaction: &RefTransaction) -> Result<(), RepositoryError> {
        self.repository.store().touched().note(self.repository.coordinate());
        match self.repository.apply(transaction).await {
            Err(RepositoryError::NoRepository) => self.repository.create().await?,
            Err(RepositoryError::Locked { message }) => {
                let removed = self.repository.clear_stale_locks().await;
                let coordinate = self.repository.coordinate();
                tracing::warn!(repo.coordinate = %coordinate, message, removed, "removed stale lock files");
            }
            applied => return applied,
        }
        self.repository.apply(transaction).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repositories::Repositories;
    use crate::repositories::ingest::tests::ingest;
    use crate::repositories::refs::Head;
    use crate::repositories::testing::World;

    /// A push of `revs` from `source` for `tips`.
    async fn received(
        (world, source): (&World, &Repository),
        locked: &LockedRepository<'_>,
        (revs, tips): (&str, &[Oid]),
    ) -> Received {
        let limits = IngestLimits::default();
        let args = ["pack-objects", "--revs", "--stdout", "--thin", "--quiet"];
        let pack = world.git(source, &args, revs.as_bytes()).await;
        let quarantine = ingest(locked.reading(), pack, limits).await.unwrap();
        let tips: BTreeSet<Oid> = tips.iter().copied().collect();
        Received::sort(quarantine, None, tips.clone(), (tips, BTreeSet::new()), &limits)
            .await
            .unwrap()
    }

    /// The refs of a first push cost a change of refs of their own, after the objects.
    #[tokio::test]
    async fn a_new_repository_comes_with_the_refs_of_its_state_if_the_push_brings_all_of_it() {
        let world = World::new().await;
        let source = world.repository("source");
        let [one, two] = world.two_commits(&source).await;
        let named = |name: &str| format!("refs/heads/{name}").parse::<RefName>().unwrap();
        let state = |refs: &[(&str, Oid)]| PushedState {
            event_id: EventId::from_byte_array([7; 32]),
            refs: refs.iter().map(|(name, oid)| (named(name), *oid)).collect(),
            head: Some(named(refs[0].0)),
        };
        let all = Repositories::new(world.store.clone(), IngestLimits::default());
        let elsewhere = "77".repeat(20).parse().unwrap();
        for (identifier, declared, comes_with_refs) in [
            ("whole", state(&[("work", two), ("old", one)]), true),
            ("elsewhere", state(&[("work", two), ("old", elsewhere)]), false),
            ("collision", state(&[("work", two), ("work/old", one)]), false),
        ] {
            let repository = world.repository(identifier);
            let locked = all.lock(&[repository.coordinate().clone()].into()).await.unwrap();
            let locked = locked.repository(repository.coordinate()).unwrap();

            let (revs, tips) = (format!("{two}\n"), [one, two]);
            let pushed = received((&world, &source), &locked, (&revs, &tips)).await;
            locked.take_in(pushed, &tips.into(), Some(&declared)).await.unwrap();

            let RefSnapshot { refs, head, .. } = repository.refs().await.unwrap().unwrap();
            assert_eq!(refs == declared.refs, comes_with_refs, "{identifier}: {refs:?}");
            assert_eq!(refs.is_empty(), !comes_with_refs, "{identifier}: {refs:?}");
            assert_eq!(head == Head::Symbolic(named("work")), comes_with_refs, "{identifier}");
            assert_eq!(repository.object_kinds(&[one, two]).await.unwrap().len(), 2);

            // One that is there changes its refs by what compares them first.
            let other = state(&[("other", one)]);
            let pushed = received((&world, &source), &locked, (&revs, &[one])).await;
            locked.take_in(pushed, &[one].into(), Some(&other)).await.unwrap();
            assert_eq!(repository.refs().await.unwrap().unwrap().refs, refs, "{identifier}");
        }
        assert_eq!(world.quarantine_entries(), 0);
    }

    /// A disk that was full when half of the refs were written left a repository that nobody could read, for ever.
    #[tokio::test]
    async fn a_new_repository_whose_refs_cannot_be_written_is_not_made() {
        let world = World::new().await;
        let (source, repository) = (world.repository("source"), world.repository("a"));
        let [one, _] = world.two_commits(&source).await;
        let all = Repositories::new(world.store.clone(), IngestLimits::default());
        let locked = all.lock(&[repository.coordinate().clone()].into()).await.unwrap();
        let locked = locked.repository(repository.coordinate()).unwrap();
        let main: RefName = "refs/heads/main".parse().unwrap();
        let state = PushedState {
            event_id: EventId::from_byte_array([7; 32]),
            refs: [(main, one)].into(),
            head: None,
        };
        let received = received((&world, &source), &locked, (&format!("{one}\n"), &[one])).await;
        let laid_out = received.whole().object_dir().with_file_name("packed-refs");
        std::fs::create_dir(laid_out).unwrap();

        let taken = locked.take_in(received, &[one].into(), Some(&state)).await;

        assert!(matches!(taken, Err(RepositoryError::File(_))), "{taken:?}");
        assert!(!repository.exists().await.unwrap());
        assert_eq!(world.quarantine_entries(), 0);
    }

    /// A gateway that was killed meanwhile left a directory in the place of the repository, for ever.
    #[tokio::test]
    async fn a_repository_goes_at_once_or_not_at_all() {
        let world = World::new().await;
        let repository = world.repository("a");
        let commits = world.two_commits(&repository).await;
        let all = Repositories::new(world.store.clone(), IngestLimits::default());
        let locked = all.lock(&[repository.coordinate().clone()].into()).await.unwrap();
        let locked = locked.repository(repository.coordinate()).unwrap();
        let (quarantine, elsewhere) = (world.path().join("quarantine"), world.path().join("elsewhere"));

        // It is taken away first, and where that cannot be done nothing is.
        std::fs::rename(&quarantine, &elsewhere).unwrap();
        locked.remove().await.unwrap_err();
        assert!(repository.exists().await.unwrap());
        assert_eq!(repository.object_kinds(&commits).await.unwrap().len(), 2);

        std::fs::rename(&elsewhere, &quarantine).unwrap();
        locked.remove().await.unwrap();
        assert!(!repository.path().exists());
        assert_eq!(world.quarantine_entries(), 0);
        repository.create().await.unwrap();
    }
}
