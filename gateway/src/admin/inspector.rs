//! Looks at repositories: on disk, and at the facts about them. What it means is decided in `inspection`.

use std::time::Duration;

use shared::load_facts::FactLoader;
use shared::nip34::Coordinate;
use shared::purgatory::Purgatory;
use shared::purgatory::PurgatoryError;
use tokio::time::Instant;
use tokio::time::sleep;

use crate::admin::facts_source::loader_of;
use crate::admin::facts_source::unix_secs;
use crate::admin::inspection::FoundOnDisk;
use crate::admin::inspection::Inspection;
use crate::admin::purgatory::failed;
use crate::command_error::CommandError;
use crate::command_error::causes;
use crate::options::server::GatewayOptions;
use crate::repositories::Repositories;
use crate::repositories::error::RepositoryError;

/// Looks at the repositories of a server.
pub(super) struct Inspector {
    pub(super) repositories: Repositories,
    loader: FactLoader,
    /// For how long to wait until a gateway has reconciled what is looked at; `None`: nobody is asked to.
    repair_wait: Option<Duration>,
}

impl Inspector {
    pub(super) async fn new(server: &GatewayOptions, repositories: Repositories) -> Result<Self, CommandError> {
        Ok(Self {
            repositories,
            loader: loader_of(server).await?,
            repair_wait: None,
        })
    }

    /// Has a gateway reconcile each repository before it is looked at.
    pub(super) fn repairing_within(self, wait: Duration) -> Self {
        let repair_wait = Some(wait);
        Self { repair_wait, ..self }
    }

    pub(super) fn purgatory(&self) -> &Purgatory {
        &self.loader.purgatory
    }

    /// Looks at a repository; without its objects where only its refs matter.
    ///
    /// # Errors
    /// The facts about it cannot be read. What cannot be read on disk is found.
    pub(super) async fn inspect(&self, coordinate: &Coordinate, refs_only: bool) -> Result<Inspection, CommandError> {
        let mut broken = Vec::new();
        if let Some(wait) = self.repair_wait
            && !self.reconcile(coordinate, wait).await.map_err(failed)?
        {
            broken.push("no gateway has reconciled it: does one run, and does the relay answer?".to_owned());
        }
        if !refs_only && self.repositories.at(coordinate).exists().await {
            let missing = self.repositories.missing_objects(coordinate).await;
            broken.extend(missing.unwrap_or_else(|error| vec![causes(&error)]));
        }
        let inspection = self.compare(coordinate, &broken).await?;
        if inspection.faults().len() == broken.len() {
            return Ok(inspection);
        }
        // Its refs may just have been moved: then they are as declared in a moment.
        sleep(LOOK_AGAIN).await;
        self.compare(coordinate, &broken).await
    }

    async fn compare(&self, coordinate: &Coordinate, broken: &[String]) -> Result<Inspection, CommandError> {
        let facts = self.loader.load_about(coordinate).await;
        let facts = facts.map_err(CommandError::because(format!(
            "cannot tell what is declared of {coordinate}"
        )))?;
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

    /// Has a gateway reconcile a repository; returns whether one has.
    async fn reconcile(&self, coordinate: &Coordinate, wait: Duration) -> Result<bool, PurgatoryError> {
        let (end, purgatory) = (Instant::now() + wait, self.purgatory());
        purgatory.mark_dirty(&[coordinate.clone()].into()).await?;
        while purgatory.dirty_number(coordinate).await?.is_some() {
            if Instant::now() >= end {
                return Ok(false);
            }
            sleep(LOOK_AGAIN).await;
        }
        Ok(true)
    }
}

/// Between two looks at what a gateway may be changing.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
