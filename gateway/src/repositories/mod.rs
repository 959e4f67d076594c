//! The repositories as the rules see them: what is on disk as facts, and what a plan says done to it.
//!
//! No rules here: which repository gets what is decided in `shared::rules`.

pub(crate) mod copy;
pub(crate) mod ingest;
pub(crate) mod layout;
pub(crate) mod locks;
pub(crate) mod objects;
pub(crate) mod quarantine;
pub(crate) mod ref_cache;
pub(crate) mod ref_transaction;
pub(crate) mod refs;
pub(crate) mod repository;
pub(crate) mod staging;
#[cfg(test)]
pub(crate) mod testing;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

use nostr::event::EventId;
use shared::git::ObjectKind;
use shared::git::Oid;
use shared::git::RefName;
use shared::git::RefUpdate;
use shared::nip34::Coordinate;
use shared::nip34::Identifier;
use shared::rules::Alignment;
use shared::rules::Disk;
use shared::rules::Facts;
use shared::rules::Installation;
use shared::rules::InstallationSource;
use shared::rules::OnDisk;
use shared::rules::Staged;

use crate::repositories::copy::CopyError;
use crate::repositories::copy::copy_objects;
use crate::repositories::ingest::IngestLimits;
use crate::repositories::layout::LayoutError;
use crate::repositories::locks::Locked;
use crate::repositories::objects::ObjectError;
use crate::repositories::objects::object_kinds;
use crate::repositories::quarantine::Quarantine;
use crate::repositories::ref_transaction::ApplyError;
use crate::repositories::ref_transaction::RefTransaction;
use crate::repositories::refs::Head;
use crate::repositories::refs::RefReadError;
use crate::repositories::repository::CreateError;
use crate::repositories::repository::Repositories;
use crate::repositories::repository::Repository;
use crate::repositories::staging::AdmitError;
use crate::repositories::staging::Staging;

/// The repositories of this server. What changes them takes the lock of their identifier as a witness.
#[derive(Debug, Clone)]
pub(crate) struct Storage {
    repositories: Repositories,
    limits: IngestLimits,
}

/// Why something on disk could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StorageError {
    /// Refs could not be read.
    #[error(transparent)]
    Refs(#[from] RefReadError),
    /// Objects could not be looked up.
    #[error(transparent)]
    Objects(#[from] ObjectError),
    /// A directory could not be read or changed.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A repository could not be made.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// Refs could not be changed.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// Objects could not be copied.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The note on a repository that is not hosted could not be read or written.
    #[error("cannot read or write the note of a repository that is not hosted")]
    Note(#[source] io::Error),
    /// A repository could not be removed.
    #[error("cannot remove a repository")]
    Remove(#[source] io::Error),
    /// What was staged could not be moved in.
    #[error(transparent)]
    Admit(#[from] AdmitError),
}

impl Storage {
    /// Works on `repositories`; what is pushed or copied into them stays within `limits`.
    pub(crate) fn new(repositories: Repositories, limits: IngestLimits) -> Self {
        Self { repositories, limits }
    }

    /// Returns how much one push may bring.
    pub(crate) fn limits(&self) -> &IngestLimits {
        &self.limits
    }

    /// Lists the repositories that are on disk.
    ///
    /// # Errors
    /// The data directory cannot be read.
    pub(crate) async fn on_disk(&self) -> Result<Vec<Coordinate>, StorageError> {
        Ok(self.repositories.layout().hosted().await?)
    }

    /// Returns since when a repository is kept although nobody announces it here, unix seconds.
    ///
    /// # Errors
    /// The note cannot be read.
    pub(crate) async fn unhosted_since(&self, coordinate: &Coordinate) -> Result<Option<u64>, StorageError> {
        match tokio::fs::read_to_string(self.unhosted_note(coordinate)).await {
            Ok(text) => Ok(text.trim().parse().ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StorageError::Note(error)),
        }
    }

    /// Notes since when a repository is kept although nobody announces it here; `None`: somebody does again.
    ///
    /// # Errors
    /// The note cannot be written.
    pub(crate) async fn note_unhosted(
        &self,
        _: &Locked,
        coordinate: &Coordinate,
        since: Option<u64>,
    ) -> Result<(), StorageError> {
        let note = self.unhosted_note(coordinate);
        let noted = match since {
            Some(since) => tokio::fs::write(note, format!("{since}\n")).await,
            None => tokio::fs::remove_file(note).await,
        };
        noted.map_err(StorageError::Note)
    }

    /// Tells whether a repository is kept although the events that declared it were lost.
    ///
    /// # Errors
    /// The note cannot be read.
    pub(crate) async fn is_undeclared(&self, coordinate: &Coordinate) -> Result<bool, StorageError> {
        let noted = tokio::fs::try_exists(self.undeclared_note(coordinate)).await;
        noted.map_err(StorageError::Note)
    }

    /// Notes that the events that declared a repository were lost, or are there again.
    ///
    /// # Errors
    /// The note cannot be written.
    pub(crate) async fn note_undeclared(
        &self,
        _: &Locked,
        coordinate: &Coordinate,
        is_undeclared: bool,
    ) -> Result<(), StorageError> {
        let note = self.undeclared_note(coordinate);
        let noted = match is_undeclared {
            true => tokio::fs::write(note, "").await,
            false => tokio::fs::remove_file(note).await,
        };
        noted.map_err(StorageError::Note)
    }

    fn undeclared_note(&self, coordinate: &Coordinate) -> PathBuf {
        self.repositories.at(coordinate).path().join("grasp-undeclared")
    }

    fn unhosted_note(&self, coordinate: &Coordinate) -> PathBuf {
        self.repositories.at(coordinate).path().join("grasp-unhosted-since")
    }

    /// Removes a repository with all that is in it.
    ///
    /// # Errors
    /// Some of it is still there.
    pub(crate) async fn remove(&self, _: &Locked, coordinate: &Coordinate) -> Result<(), StorageError> {
        tokio::fs::remove_dir_all(self.repositories.at(coordinate).path())
            .await
            .map_err(StorageError::Remove)
    }

    /// Lists the identifiers of which anything is on disk, repositories or staged commits.
    ///
    /// # Errors
    /// The data directory cannot be read.
    pub(crate) async fn identifiers(&self) -> Result<BTreeSet<Identifier>, StorageError> {
        let layout = self.repositories.layout();
        let coordinates = layout.hosted().await?.into_iter().chain(layout.staged().await?);
        Ok(coordinates.map(|coordinate| coordinate.identifier).collect())
    }

    /// Returns the events that something is staged for, in repositories with these identifiers.
    ///
    /// # Errors
    /// The staging area cannot be read.
    pub(crate) async fn staged_events(
        &self,
        identifiers: &BTreeSet<Identifier>,
    ) -> Result<BTreeSet<EventId>, StorageError> {
        let staged = self.staged(identifiers).await?;
        Ok(staged.into_iter().map(|staged| staged.event_id).collect())
    }

    /// Returns what is staged for repositories with these identifiers.
    ///
    /// # Errors
    /// The staging area cannot be read.
    pub(crate) async fn staged(&self, identifiers: &BTreeSet<Identifier>) -> Result<BTreeSet<Staged>, StorageError> {
        let mut staged = BTreeSet::new();
        for identifier in identifiers {
            for coordinate in self.repositories.layout().staged_for(identifier).await? {
                let here = Staging::of(&self.repositories.at(&coordinate)).list().await?;
                staged.extend(here.into_iter().map(|(event_id, commit_oid)| Staged {
                    coordinate: coordinate.clone(),
                    event_id,
                    commit_oid,
                }));
            }
        }
        Ok(staged)
    }

    /// Reads what is on disk of the repositories that `facts` are about. One that cannot be read is broken, which says
    /// nothing about the others.
    ///
    /// # Errors
    /// The staging area cannot be read.
    pub(crate) async fn read(&self, facts: &Facts) -> Result<Disk, StorageError> {
        let oids: Vec<Oid> = Disk::referenced_objects(facts).into_iter().collect();
        let mut disk = Disk {
            staged: self.staged(&facts.identifiers).await?,
            ..Disk::default()
        };
        for coordinate in facts.hosted() {
            match self.read_one(coordinate, &oids).await {
                Ok(Some(on_disk)) => drop(disk.repositories.insert(coordinate.clone(), on_disk)),
                Ok(None) => {}
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(repo.coordinate = %coordinate, error, "cannot read a repository");
                    disk.broken.insert(coordinate.clone());
                }
            }
        }
        Ok(disk)
    }

    async fn read_one(&self, coordinate: &Coordinate, oids: &[Oid]) -> Result<Option<OnDisk>, StorageError> {
        let repository = self.repositories.at(coordinate);
        let Some(refs) = repository.refs().await? else {
            return Ok(None);
        };
        let objects = repository.object_kinds(oids, &[]).await?;
        let head = match refs.head {
            Head::Symbolic(name) => Some(name),
            Head::Detached(_) => None,
        };
        Ok(Some(OnDisk {
            refs: refs.refs,
            head,
            objects,
        }))
    }

    /// Returns the refs of a repository; `None`: it is not on disk.
    ///
    /// # Errors
    /// They cannot be read.
    pub(crate) async fn refs(&self, coordinate: &Coordinate) -> Result<Option<BTreeMap<RefName, Oid>>, StorageError> {
        let snapshot = self.repositories.at(coordinate).refs().await?;
        Ok(snapshot.map(|snapshot| snapshot.refs))
    }

    /// Opens a quarantine for what is pushed to a repository.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) async fn quarantine(&self, coordinate: &Coordinate) -> Result<Quarantine, LayoutError> {
        let repository = self.repositories.at(coordinate);
        let alternates = if repository.exists().await {
            vec![repository.object_dir()]
        } else {
            Vec::new()
        };
        Quarantine::open(&self.repositories, alternates).await
    }

    /// Returns the kinds of those of `oids` that are in the repository or in the quarantine.
    ///
    /// # Errors
    /// They cannot be looked up.
    pub(crate) async fn object_kinds(
        &self,
        coordinate: &Coordinate,
        quarantine: Option<&Quarantine>,
        oids: &[Oid],
    ) -> Result<BTreeMap<Oid, ObjectKind>, StorageError> {
        let mut directories = vec![self.repositories.at(coordinate).object_dir()];
        directories.extend(quarantine.map(|quarantine| quarantine.object_dir().to_owned()));
        Ok(object_kinds(directories, oids.to_vec()).await?)
    }

    /// Moves everything in the quarantine into a repository, which is made if need be.
    ///
    /// # Errors
    /// It is not all there.
    pub(crate) async fn migrate(
        &self,
        _: &Locked,
        coordinate: &Coordinate,
        quarantine: Quarantine,
    ) -> Result<(), StorageError> {
        let repository = self.repositories.at(coordinate);
        repository.create().await?;
        Ok(quarantine.migrate_into(&repository).await?)
    }

    /// Copies `tips`, and what they need, from the quarantine into a repository, which is made if need be.
    ///
    /// # Errors
    /// They are not there, or not whole.
    pub(crate) async fn copy_from_quarantine(
        &self,
        _: &Locked,
        coordinate: &Coordinate,
        quarantine: &Quarantine,
        tips: &BTreeSet<Oid>,
    ) -> Result<(), StorageError> {
        let repository = self.repositories.at(coordinate);
        repository.create().await?;
        let tips: Vec<Oid> = tips.iter().copied().collect();
        Ok(copy_objects(&readable(quarantine), &tips, &repository, &self.limits).await?)
    }

    /// Keeps aside a commit that was pushed, with what it needs beyond its repository.
    ///
    /// # Errors
    /// It is not there, or not whole.
    pub(crate) async fn stage(&self, _: &Locked, staged: &Staged, quarantine: &Quarantine) -> Result<(), StorageError> {
        let repository = self.repositories.at(&staged.coordinate);
        let tips = [staged.commit_oid];
        let own = Quarantine::copy_of(&readable(quarantine), &tips, &repository, &self.limits).await?;
        Ok(Staging::of(&repository)
            .put(&staged.event_id, &staged.commit_oid, own)
            .await?)
    }

    /// Keeps aside a commit that came alone, with everything that came with it.
    ///
    /// # Errors
    /// It is not there.
    pub(crate) async fn stage_whole(
        &self,
        _: &Locked,
        staged: &Staged,
        quarantine: Quarantine,
    ) -> Result<(), StorageError> {
        let repository = self.repositories.at(&staged.coordinate);
        Ok(Staging::of(&repository)
            .put(&staged.event_id, &staged.commit_oid, quarantine)
            .await?)
    }

    /// Removes what is staged.
    ///
    /// # Errors
    /// It is still there.
    pub(crate) async fn unstage(&self, _: &Locked, staged: &Staged) -> Result<(), StorageError> {
        let staging = Staging::of(&self.repositories.at(&staged.coordinate));
        Ok(staging.remove(&staged.event_id, Some(&staged.commit_oid)).await?)
    }

    /// Brings a repository to what a state declares: objects first, then all refs and HEAD.
    ///
    /// # Errors
    /// The refs are as they were.
    pub(crate) async fn align(&self, _: &Locked, alignment: &Alignment) -> Result<(), StorageError> {
        let repository = self.repositories.at(&alignment.coordinate);
        repository.create().await?;
        for (source, tips) in &alignment.copies {
            let tips: Vec<Oid> = tips.iter().copied().collect();
            let from = [self.repositories.at(source).object_dir()];
            copy_objects(&from, &tips, &repository, &self.limits).await?;
        }
        let transaction = RefTransaction {
            updates: alignment.updates.clone(),
            head: alignment.head.clone(),
        };
        apply(&repository, &transaction).await
    }

    /// Sets the ref of a PR, after its commit has moved in.
    ///
    /// # Errors
    /// The ref is as it was.
    pub(crate) async fn install(&self, _: &Locked, installation: &Installation) -> Result<(), StorageError> {
        let repository = self.repositories.at(&installation.coordinate);
        repository.create().await?;
        let (event_id, commit_oid) = (&installation.event_id, &installation.commit_oid);
        match &installation.source {
            InstallationSource::Here => {}
            InstallationSource::Staged => Staging::of(&repository).admit(event_id, commit_oid).await?,
            InstallationSource::Repository(source) => {
                let from = [self.repositories.at(source).object_dir()];
                copy_objects(&from, &[*commit_oid], &repository, &self.limits).await?;
            }
            InstallationSource::StagedElsewhere(source) => {
                // It may have moved into that repository a moment ago, by the same plan.
                let source = self.repositories.at(source);
                let from = [
                    source.object_dir(),
                    Staging::of(&source).object_dir(event_id, commit_oid),
                ];
                copy_objects(&from, &[*commit_oid], &repository, &self.limits).await?;
            }
        }
        let update = RefUpdate {
            name: RefName::pull_request(event_id),
            old: installation.old,
            new: Some(*commit_oid),
        };
        let transaction = RefTransaction {
            updates: vec![update],
            head: None,
        };
        apply(&repository, &transaction).await
    }

    /// Returns the repository of a coordinate, for reading.
    pub(crate) fn at(&self, coordinate: &Coordinate) -> Repository {
        self.repositories.at(coordinate)
    }
}

/// Changes refs under the identifier's lock, which makes every lock file in the repository one that a killed git left.
async fn apply(repository: &Repository, transaction: &RefTransaction) -> Result<(), StorageError> {
    match repository.apply(transaction).await {
        Err(ApplyError::Locked { message }) => {
            let removed = repository.clear_stale_locks().await;
            tracing::warn!(repo.coordinate = %repository.coordinate(), message, removed, "removed stale lock files");
            Ok(repository.apply(transaction).await?)
        }
        applied => Ok(applied?),
    }
}

/// Returns the object directories that together have everything reachable from what is in the quarantine.
fn readable(quarantine: &Quarantine) -> Vec<PathBuf> {
    let own = std::iter::once(quarantine.object_dir().to_owned());
    own.chain(quarantine.alternates().iter().cloned()).collect()
}
