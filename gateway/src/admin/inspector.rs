//! Inspects repositories: on disk, and the facts about them. `inspection` decides what the results mean.

use std::collections::BTreeSet;
use std::time::Duration;

use progress::CommandProgress;
use shared::load_facts::FactLoader;
use shared::load_facts::FactsError;
use shared::load_facts::FactsScope;
use shared::nip34::Coordinate;
use shared::purgatory::Purgatory;
use shared::purgatory::PurgatoryError;
use tokio::time::Instant;
use tokio::time::sleep;

use crate::admin::facts_source::loader_of;
use crate::admin::facts_source::unix_secs;
use crate::admin::inspection::FoundOnDisk;
use crate::admin::inspection::Inspection;
use crate::admin::needs::repository;
use crate::command_error::CommandError;
use crate::command_error::causes;
use crate::options::server::GatewayOptions;
use crate::repositories::Repositories;
use crate::repositories::error::RepositoryError;

/// Inspects the repositories of a server.
pub(super) struct Inspector {
    pub(super) repositories: Repositories,
    loader: FactLoader,
    /// What no gateway has reconciled, although it was asked to.
    unreconciled: BTreeSet<Coordinate>,
}

impl Inspector {
    pub(super) async fn new(server: &GatewayOptions, repositories: Repositories) -> Result<Self, CommandError> {
        Ok(Self {
            repositories,
            loader: loader_of(server).await?,
            unreconciled: BTreeSet::new(),
        })
    }

    /// Has a gateway reconcile repositories before they are inspected, and waits until it has not finished one for
    /// `wait`.
    pub(super) async fn reconcile(
        &mut self,
        coordinates: &[Coordinate],
        wait: Duration,
        progress: &CommandProgress,
    ) -> Result<(), PurgatoryError> {
        let purgatory = &self.loader.purgatory;
        for page in coordinates.chunks(PAGE) {
            purgatory.mark_dirty(&page.iter().cloned().collect()).await?;
        }
        let mut end = Instant::now() + wait;
        for coordinate in coordinates {
            progress.begin(&format!("a gateway reconciles {}", repository(coordinate)));
            while purgatory.dirty_number(coordinate).await?.is_some() {
                if Instant::now() >= end {
                    self.unreconciled.insert(coordinate.clone());
                    break;
                }
                sleep(INSPECT_AGAIN).await;
                if purgatory.dirty_number(coordinate).await?.is_none() {
                    end = Instant::now() + wait;
                }
            }
            progress.end_step();
        }
        Ok(())
    }

    pub(super) fn purgatory(&self) -> &Purgatory {
        &self.loader.purgatory
    }

    /// Inspects a repository; without its objects where only its refs matter.
    ///
    /// # Errors
    /// The facts about it cannot be read. Unreadable files on disk are a result.
    pub(super) async fn inspect(&self, coordinate: &Coordinate, refs_only: bool) -> Result<Inspection, FactsError> {
        let mut broken = Vec::new();
        if self.unreconciled.contains(coordinate) {
            broken.push("no gateway has reconciled it: does one run, and does the relay answer?".to_owned());
        }
        if !refs_only && self.repositories.at(coordinate).may_exist().await {
            let missing = self.repositories.missing_objects(coordinate).await;
            broken.extend(missing.unwrap_or_else(|error| vec![causes(&error)]));
        }
        let inspection = self.compare(coordinate, &broken).await?;
        if inspection.faults().len() == broken.len() {
            return Ok(inspection);
        }
        // Its refs may just have been moved: then they are as declared in a moment.
        sleep(INSPECT_AGAIN).await;
        self.compare(coordinate, &broken).await
    }

    async fn compare(&self, coordinate: &Coordinate, broken: &[String]) -> Result<Inspection, FactsError> {
        let (facts, _) = self.loader.load(&FactsScope::of(coordinate)).await?;
        let on_disk = match self.read(coordinate).await {
            Ok(on_disk) => on_disk,
            Err(error) => FoundOnDisk {
                broken: vec![causes(&error)],
                ..FoundOnDisk::default()
            },
        };
        let broken = [&on_disk.broken[..], broken].concat();
        Ok(Inspection::of(coordinate, FoundOnDisk { broken, ..on_disk }, &facts))
    }

    async fn read(&self, coordinate: &Coordinate) -> Result<FoundOnDisk, RepositoryError> {
        let repository = self.repositories.at(coordinate);
        let sizes = self.repositories.disk_use().of(vec![coordinate.clone()]).await?;
        let refs = repository.refs().await?.map(|snapshot| snapshot.refs);
        Ok(FoundOnDisk {
            bytes: sizes.iter().map(|(_, bytes)| bytes).sum(),
            refs: refs.unwrap_or_default(),
            unhosted_since: repository.unhosted_since().await?,
            indexed_at: self.repositories.indexed_at(coordinate).await.map(unix_secs),
            broken: Vec::new(),
        })
    }
}

/// Between two inspections of a repository that a gateway may be changing.
const INSPECT_AGAIN: Duration = Duration::from_millis(200);

/// Repositories marked by one call of Redis.
const PAGE: usize = 100;
