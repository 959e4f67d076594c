//! The repositories of this server as the rules see them: facts from the disk, and the locks that hand out repositories
//! for changes ([`LockedRepository`]). No rules here: `shared::rules` decides which repository gets what.

pub(crate) mod changes;
mod connectivity;
mod copy;
mod creation;
mod disk_read;
pub(crate) mod disk_use;
pub(crate) mod error;
mod expected;
mod fsck;
mod generation;
mod gitmodules;
pub(crate) mod head_contents;
pub(crate) mod hosted_index;
mod ingest;
pub(crate) mod kept;
pub(crate) mod layout;
mod lock_key;
mod locked;
mod locks;
pub(crate) mod maintenance;
mod marks;
mod notes;
pub(crate) mod objects;
mod offers;
pub(crate) mod pack;
mod pack_changes;
mod packed_refs;
pub(crate) mod packs;
mod parts;
mod prepare;
mod pull_request_packs;
pub(crate) mod quarantine;
pub(crate) mod received;
mod ref_cache;
pub(crate) mod ref_transaction;
pub(crate) mod refs;
pub(crate) mod releases;
pub(crate) mod repository;
mod sorted;
mod sorted_packs;
pub(crate) mod spool;
mod staging;
mod surplus;
mod sweep;
#[cfg(test)]
pub(crate) mod testing;
mod touched;
pub(crate) mod walk;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nostr::key::PublicKey;
use shared::git::ObjectKind;
use shared::git::Oid;
use shared::live::Live;
use shared::nip34::Coordinate;
use shared::rules::Access;
use shared::rules::PushedState;
use shared::rules::Staged;

use crate::repositories::disk_use::DiskLimits;
use crate::repositories::disk_use::DiskUse;
use crate::repositories::disk_use::Spare;
use crate::repositories::error::RepositoryError;
use crate::repositories::expected::ExpectedPushes;
use crate::repositories::expected::Ready;
use crate::repositories::hosted_index::HostedIndex;
use crate::repositories::kept::KeptParts;
use crate::repositories::layout::FileError;
use crate::repositories::layout::failed;
use crate::repositories::layout::in_background;
use crate::repositories::layout::is_dir_here;
pub(crate) use crate::repositories::locked::LockedRepositories;
pub(crate) use crate::repositories::locked::LockedRepository;
pub(crate) use crate::repositories::locks::LockQueue;
use crate::repositories::locks::Locked;
use crate::repositories::locks::Locks;
use crate::repositories::maintenance::MaintenanceSettings;
use crate::repositories::objects::object_kinds;
use crate::repositories::pack::IngestError;
use crate::repositories::pack::IngestLimits;
use crate::repositories::pack_changes::finish_changes;
use crate::repositories::parts::PartsOf;
use crate::repositories::quarantine::Quarantine;
use crate::repositories::repository::Repository;
use crate::repositories::repository::RepositoryStore;
use crate::repositories::spool::Spool;
use crate::repositories::staging::staged_for;
use crate::repositories::sweep::sweep_quarantine;
use crate::repositories::touched::TouchedRepositories;
use crate::repositories::walk::DiskWalk;
use crate::repositories::walk::WalkOf;

/// The repositories of this server. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Repositories {
    store: RepositoryStore,
    locks: Arc<Locks>,
    limits: Live<IngestLimits>,
    disk_use: Arc<DiskUse>,
    expected: ExpectedPushes,
    maintenance: Live<MaintenanceSettings>,
}

impl Repositories {
    /// Works on the repositories of `store`; pushes and copies into them stay within `limits`.
    pub(crate) fn new(store: RepositoryStore, limits: IngestLimits) -> Self {
        Self {
            locks: Arc::new(Locks::new(store.layout().clone())),
            disk_use: Arc::new(DiskUse::new(store.layout().clone(), DiskLimits::DEFAULT, None)),
            expected: ExpectedPushes::default(),
            maintenance: Live::new(MaintenanceSettings::DEFAULT),
            store,
            limits: Live::new(limits),
        }
    }

    /// Bounds their disk use; `spare` is freed for them.
    pub(crate) fn with_disk_limits(self, limits: DiskLimits, spare: Arc<dyn Spare>) -> Self {
        let disk_use = Arc::new(DiskUse::new(self.store.layout().clone(), limits, Some(spare)));
        Self { disk_use, ..self }
    }

    pub(crate) fn with_maintenance(self, maintenance: MaintenanceSettings) -> Self {
        let maintenance = Live::new(maintenance);
        Self { maintenance, ..self }
    }

    /// Changes what a push into one may cost, how much of the disk they may take, and how they are maintained.
    pub(crate) fn set_limits(&self, limits: IngestLimits, of_disk: DiskLimits, maintenance: MaintenanceSettings) {
        self.limits.set(limits);
        self.disk_use.limits().set(of_disk);
        self.maintenance.set(maintenance);
    }

    pub(crate) fn touched(&self) -> &TouchedRepositories {
        self.store.touched()
    }

    pub(crate) fn hosted(&self) -> &HostedIndex {
        self.store.hosted()
    }

    /// Lists those of these repositories among the hosted ones that are on disk and that no note keeps from being
    /// served, and the others no longer.
    pub(crate) async fn list_hosted(&self, coordinates: &[Coordinate]) {
        let repositories: Vec<Repository> = coordinates.iter().map(|coordinate| self.at(coordinate)).collect();
        in_background(move || {
            for repository in repositories {
                let is_served = repository.path().is_dir() && !repository.is_kept_unserved();
                repository.list(is_served);
            }
        })
        .await;
    }

    /// Returns all that are listed among the hosted ones.
    pub(crate) async fn all_hosted(&self) -> Vec<Coordinate> {
        let this = self.clone();
        in_background(move || this.hosted().all()).await
    }

    /// Lists those among the hosted ones that `access` permits, and the others no longer.
    pub(crate) async fn list_permitted(&self, access: &Arc<Access>) {
        if !self.hosted().shows_by(access) {
            let (this, access) = (self.clone(), Arc::clone(access));
            in_background(move || this.hosted().show_by(&access)).await;
        }
    }

    pub(crate) fn disk_use(&self) -> &Arc<DiskUse> {
        &self.disk_use
    }

    /// Measures these repositories, writes what each owner has where people find it, and returns it, the largest first.
    pub(crate) async fn report_disk_use(
        &self,
        coordinates: Vec<Coordinate>,
    ) -> Result<Vec<(PublicKey, u64)>, RepositoryError> {
        let owners = self.disk_use.by_owner(coordinates).await?;
        let lines = owners.iter().map(|(owner, bytes)| format!("{bytes} {owner}\n"));
        let (text, path) = (
            lines.collect::<String>(),
            self.store.layout().root().join(DISK_USE_FILE),
        );
        let written = tokio::fs::write(&path, text).await;
        written.map_err(failed("write", &path))?;
        Ok(owners)
    }

    /// Returns for how long objects that no ref reaches stay at least.
    pub(crate) fn keep_unreachable(&self) -> Duration {
        self.maintenance.get().keep_unreachable
    }

    pub(crate) fn git_commands(&self) -> usize {
        self.store.git().permits().in_use()
    }

    pub(crate) fn set_git_commands_max(&self, count: usize) {
        self.store.git().set_commands_max(count);
    }

    pub(crate) fn limits(&self) -> IngestLimits {
        self.limits.get()
    }

    /// Waits for the locks of all these. The result is the only way to change them, and covers only them.
    pub(crate) async fn lock(
        &self,
        coordinates: &BTreeSet<Coordinate>,
    ) -> Result<LockedRepositories<'_>, RepositoryError> {
        self.lock_in(LockQueue::Owners, coordinates).await
    }

    /// As [`Repositories::lock`], in this queue.
    pub(crate) async fn lock_in(
        &self,
        queue: LockQueue,
        coordinates: &BTreeSet<Coordinate>,
    ) -> Result<LockedRepositories<'_>, RepositoryError> {
        let locked = self.locks.lock(coordinates.clone(), queue).await?;
        self.locked(locked).await
    }

    /// As [`Repositories::lock_in`], but waits only a moment: for who can come back.
    pub(crate) async fn lock_soon(
        &self,
        queue: LockQueue,
        coordinates: &BTreeSet<Coordinate>,
    ) -> Result<LockedRepositories<'_>, RepositoryError> {
        let locked = self.locks.lock_soon(coordinates.clone(), queue).await?;
        self.locked(locked).await
    }

    async fn locked(&self, locked: Locked) -> Result<LockedRepositories<'_>, RepositoryError> {
        let unfinished = finish_changes(&self.store, locked.coordinates()).await;
        Ok(LockedRepositories::new(
            (locked, &*self.locks),
            unfinished,
            &self.store,
            self.limits(),
            &self.disk_use,
        ))
    }

    /// Returns the repository of a coordinate, for reading; it need not be on disk.
    pub(crate) fn at(&self, coordinate: &Coordinate) -> Repository {
        self.store.at(coordinate)
    }

    /// Begins a walk over the repositories that are on disk.
    pub(crate) fn walk(&self) -> DiskWalk {
        DiskWalk::new(self.store.layout().clone(), WalkOf::Repositories)
    }

    /// Begins a walk over the repositories for which commits are staged, which need not be on disk.
    pub(crate) fn walk_staged(&self) -> DiskWalk {
        DiskWalk::new(self.store.layout().clone(), WalkOf::Staged)
    }

    /// Begins a walk over the repositories of whose states parts are kept, which need not be on disk.
    pub(crate) fn walk_parts(&self) -> DiskWalk {
        DiskWalk::new(self.store.layout().clone(), WalkOf::Parts)
    }

    /// Removes the work in progress of gateways that were killed; returns how many pieces of it.
    pub(crate) async fn sweep_quarantine(&self) -> Result<usize, FileError> {
        let quarantine = self.store.layout().quarantine();
        in_background(move || sweep_quarantine(&quarantine)).await
    }

    /// Returns the readable staged objects of these repositories.
    pub(crate) async fn staged(&self, coordinates: &BTreeSet<Coordinate>) -> BTreeSet<Staged> {
        let (layout, coordinates) = (self.store.layout().clone(), coordinates.clone());
        in_background(move || staged_for(&layout, &coordinates)).await
    }

    /// Makes ready for a push into a repository that is about to come, and waits until it has come, or does not.
    pub(crate) async fn expect_push(&self, coordinate: &Coordinate) {
        self.expected.expect(&self.at(coordinate), &self.limits()).await;
    }

    pub(crate) fn spool(&self) -> Spool {
        Spool::new(self.store.layout().clone(), self.limits())
    }

    /// Returns the kept parts of a state; `None`: there are none, or there is no such state.
    pub(crate) async fn kept(
        &self,
        coordinate: &Coordinate,
        state: Option<&PushedState>,
    ) -> Result<Option<KeptParts>, RepositoryError> {
        let Some(state) = state else { return Ok(None) };
        let parts = PartsOf::of(&self.at(coordinate));
        Ok(parts.kept(state.event_id, state.tips()).await?)
    }

    /// Whether any parts of the states of a repository are kept aside.
    pub(crate) async fn keeps_parts(&self, coordinate: &Coordinate) -> Result<bool, FileError> {
        let path = self.store.layout().parts(coordinate);
        in_background(move || is_dir_here(&path)).await
    }

    /// Checks a spooled pack for a repository, and returns a quarantine with its objects. They may refer to the `kept`
    /// parts.
    pub(crate) async fn ingest(
        &self,
        coordinate: &Coordinate,
        spool: Spool,
        kept: Option<&KeptParts>,
        limits: &IngestLimits,
    ) -> Result<Quarantine, IngestError> {
        let repository = self.at(coordinate);
        let ready = match kept {
            None => self.expected.take(&repository).await,
            // The prepared git process does not know these parts.
            Some(_) => None,
        };
        let (quarantine, index_pack) = match ready {
            Some(Ready { quarantine, index_pack }) => (quarantine, Some(index_pack)),
            None => (Quarantine::open_beside(&repository, kept).await?, None),
        };
        quarantine.ingest(index_pack, spool, limits).await?;
        Ok(quarantine)
    }

    /// Returns the kinds of those of `oids` that are in the repository, or in one of these object directories.
    pub(crate) async fn object_kinds(
        &self,
        coordinate: &Coordinate,
        others: impl IntoIterator<Item = PathBuf>,
        oids: &BTreeSet<Oid>,
    ) -> Result<BTreeMap<Oid, ObjectKind>, RepositoryError> {
        let mut directories = vec![self.at(coordinate).object_dir()];
        directories.extend(others);
        Ok(object_kinds(directories, oids.iter().copied().collect()).await?)
    }
}

/// Bytes and key of each owner, a line each, in the data directory.
const DISK_USE_FILE: &str = "disk-use";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repositories::testing::World;

    /// They stayed in the list until somebody opened their page.
    #[tokio::test]
    async fn what_another_gateway_has_noted_as_unserved_leaves_the_list_of_hosted_ones() {
        let world = World::new().await;
        let [gone, stateless, served] = ["gone", "stateless", "served"].map(|name| world.repository(name));
        let coordinates = [&gone, &stateless, &served].map(|one| one.coordinate().clone());
        for repository in [&gone, &stateless, &served] {
            repository.create().await.unwrap();
        }
        let repositories = Repositories::new(world.store.clone(), IngestLimits::default());
        repositories.list_hosted(&coordinates).await;
        let listed_before = repositories.hosted().page("", 0).found;
        gone.write_unhosted(Some(1)).await.unwrap();
        stateless.write_stateless(true).await.unwrap();

        repositories.list_hosted(&coordinates).await;

        assert_eq!(listed_before, 3);
        let listed = repositories.hosted().page("", 0).coordinates;
        assert_eq!(listed, [served.coordinate().clone()]);
    }
}
