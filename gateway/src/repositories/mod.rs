//! The repositories of this server as the rules see them: what is on disk as facts, and the locks that hand out what
//! can be changed ([`LockedRepository`]). No rules here: which repository gets what is decided in `shared::rules`.

mod copy;
mod creation;
pub(crate) mod error;
mod ingest;
pub(crate) mod layout;
mod lock_key;
mod locked;
mod locks;
mod notes;
pub(crate) mod objects;
pub(crate) mod pack;
pub(crate) mod quarantine;
mod ref_cache;
pub(crate) mod ref_transaction;
pub(crate) mod refs;
pub(crate) mod repository;
pub(crate) mod spool;
mod staging;
#[cfg(test)]
pub(crate) mod testing;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use shared::git::ObjectKind;
use shared::git::Oid;
use shared::nip34::Coordinate;
use shared::rules::Disk;
use shared::rules::Facts;
use shared::rules::OnDisk;
use shared::rules::Staged;

use crate::repositories::error::RepositoryError;
use crate::repositories::layout::FileError;
use crate::repositories::layout::in_background;
pub(crate) use crate::repositories::locked::LockedRepositories;
pub(crate) use crate::repositories::locked::LockedRepository;
use crate::repositories::locks::Locks;
use crate::repositories::objects::ReadError;
use crate::repositories::objects::kinds_in;
use crate::repositories::objects::object_kinds;
use crate::repositories::pack::IngestLimits;
use crate::repositories::quarantine::Quarantine;
use crate::repositories::refs::Head;
use crate::repositories::refs::read_refs;
use crate::repositories::repository::Repository;
use crate::repositories::repository::RepositoryStore;
use crate::repositories::staging::staged_for;
use crate::repositories::staging::sweep_staged;

/// The repositories of this server. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Repositories {
    store: RepositoryStore,
    locks: Arc<Locks>,
    limits: IngestLimits,
}

impl Repositories {
    /// Works on the repositories of `store`; what is pushed or copied into them stays within `limits`.
    pub(crate) fn new(store: RepositoryStore, limits: IngestLimits) -> Self {
        Self {
            locks: Arc::new(Locks::new(store.layout().clone())),
            store,
            limits,
        }
    }

    /// Returns how much one push may bring.
    pub(crate) fn limits(&self) -> &IngestLimits {
        &self.limits
    }

    /// Waits for the locks of all these. Only what they cover can be changed, by what is returned.
    ///
    /// # Errors
    /// A lock file cannot be made or locked, or others hold the locks for too long.
    pub(crate) async fn lock(
        &self,
        coordinates: &BTreeSet<Coordinate>,
    ) -> Result<LockedRepositories<'_>, RepositoryError> {
        let locked = self.locks.lock(coordinates.clone()).await?;
        Ok(LockedRepositories::new(locked, &self.locks, &self.store, &self.limits))
    }

    /// Returns the repository of a coordinate, for reading; it need not be on disk.
    pub(crate) fn at(&self, coordinate: &Coordinate) -> Repository {
        self.store.at(coordinate)
    }

    /// Lists the repositories that are on disk.
    ///
    /// # Errors
    /// The data directory cannot be read.
    pub(crate) async fn on_disk(&self) -> Result<Vec<Coordinate>, RepositoryError> {
        Ok(self.store.layout().hosted().await?)
    }

    /// Lists the coordinates of which anything is on disk, a repository or staged commits.
    ///
    /// # Errors
    /// The data directory cannot be read.
    pub(crate) async fn coordinates(&self) -> Result<BTreeSet<Coordinate>, RepositoryError> {
        let layout = self.store.layout();
        let hosted = layout.hosted().await?.into_iter();
        Ok(hosted.chain(layout.staged().await?).collect())
    }

    /// Returns what is staged for these repositories.
    ///
    /// # Errors
    /// The staging area cannot be read.
    pub(crate) async fn staged(&self, coordinates: &BTreeSet<Coordinate>) -> Result<BTreeSet<Staged>, RepositoryError> {
        let (layout, coordinates) = (self.store.layout().clone(), coordinates.clone());
        Ok(in_background(move || staged_for(&layout, &coordinates)).await?)
    }

    /// Reads what is on disk of the repositories that `facts` are about, and removes what a crash left of those that
    /// are locked. One that cannot be read is broken, which says
    /// nothing about the others.
    ///
    /// # Errors
    /// The staging area cannot be read.
    pub(crate) async fn read(&self, facts: &Facts, locked: &LockedRepositories<'_>) -> Result<Disk, RepositoryError> {
        let (layout, coordinates) = (self.store.layout().clone(), facts.covered.coordinates.clone());
        let locked = locked.coordinates().clone();
        let oids: Vec<Oid> = facts.referenced_objects().into_iter().collect();
        let hosted: Vec<Repository> = facts.hosted().map(|coordinate| self.at(coordinate)).collect();
        let read = in_background(move || {
            sweep_staged(&layout, &locked)?;
            let mut disk = Disk {
                staged: staged_for(&layout, &coordinates)?,
                ..Disk::default()
            };
            for repository in hosted {
                let coordinate = repository.coordinate();
                match read_one(&repository, &oids) {
                    Ok(Some(on_disk)) => drop(disk.repositories.insert(coordinate.clone(), on_disk)),
                    Ok(None) => {}
                    Err(error) => {
                        let error = &error as &dyn std::error::Error;
                        tracing::error!(repo.coordinate = %coordinate, error, "cannot read a repository, will try again");
                        disk.broken.insert(coordinate.clone());
                    }
                }
            }
            Ok(disk)
        });
        read.await
    }

    /// Opens a quarantine for what is pushed to a repository.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) async fn quarantine(&self, coordinate: &Coordinate) -> Result<Quarantine, FileError> {
        Quarantine::open(&self.at(coordinate)).await
    }

    /// Returns the kinds of those of `oids` that are in the repository or in the quarantine.
    ///
    /// # Errors
    /// They cannot be looked up.
    pub(crate) async fn object_kinds(
        &self,
        coordinate: &Coordinate,
        quarantine: Option<&Quarantine>,
        oids: &BTreeSet<Oid>,
    ) -> Result<BTreeMap<Oid, ObjectKind>, RepositoryError> {
        let mut directories = vec![self.at(coordinate).object_dir()];
        directories.extend(quarantine.map(|quarantine| quarantine.object_dir().to_owned()));
        Ok(object_kinds(directories, oids.iter().copied().collect()).await?)
    }
}

/// Reads the refs of a repository, and which of `oids` it has; `None`: it is not on disk.
fn read_one(repository: &Repository, oids: &[Oid]) -> Result<Option<OnDisk>, ReadError> {
    let Some(read) = read_refs(repository.path(), None)? else {
        return Ok(None);
    };
    let head = match read.snapshot.head {
        Head::Symbolic(name) => Some(name),
        Head::Detached(_) => None,
    };
    Ok(Some(OnDisk {
        refs: read.snapshot.refs,
        head,
        objects: kinds_in(&[repository.object_dir()], oids)?,
    }))
}
