//! Facts for reconciles, and the places of those that take much memory.

use std::collections::BTreeMap;

use nostr::key::PublicKey;
use shared::load_facts::FactLoader;
use shared::load_facts::FactsError;
use shared::load_facts::FactsScope;
use shared::load_facts::WHOLE_BYTES_MAX;
use shared::nip34::Coordinate;
use shared::purgatory::DirtyNumber;
use shared::rules::Facts;

use crate::fairness::slots::Slot;
use crate::fairness::slots::Slots;
use crate::reconcile::error::ReconcileError;
use crate::repositories::LockedRepositories;

/// Facts that were read under the lock of their coordinates, and the changes that they include.
pub(crate) struct Loaded {
    pub(crate) facts: Facts,
    /// The coordinates that they were loaded about.
    pub(super) scope: FactsScope,
    pub(super) dirty: BTreeMap<Coordinate, DirtyNumber>,
    /// The place of what takes much memory, for as long as it does.
    pub(super) place: Option<LoadPlace>,
}

/// Loads facts, those that take much memory in places. The first load of a push waits for other pushes only.
pub(crate) struct LargeLoads {
    loader: FactLoader,
    pub(crate) of_pushes: Slots<PublicKey>,
    pub(crate) others: Slots<PublicKey>,
}

/// One of them.
pub(super) type LoadPlace = Slot<PublicKey>;

impl LargeLoads {
    /// Two of each, so that no author has all. One load of 200 maintainers with the largest events took 16 to 95 MiB.
    pub(crate) fn new(loader: FactLoader) -> Self {
        Self {
            loader,
            of_pushes: Slots::new(2),
            others: Slots::new(2),
        }
    }

    /// Loads facts under the lock of their coordinates; if they take much memory, in one of these places.
    ///
    /// # Errors
    /// See [`ReconcileError`].
    pub(crate) async fn load(
        &self,
        _locked: &LockedRepositories<'_>,
        scope: FactsScope,
        places: &Slots<PublicKey>,
    ) -> Result<Loaded, ReconcileError> {
        let ((facts, dirty), place) = self.load_in(places, None, &scope).await?;
        Ok(Loaded {
            facts,
            scope,
            dirty,
            place,
        })
    }

    /// Loads the facts about one repository.
    pub(crate) async fn load_about(&self, coordinate: &Coordinate) -> Result<Facts, FactsError> {
        self.load_facts(&FactsScope::of(coordinate)).await
    }

    /// Loads facts that are kept for a moment.
    pub(crate) async fn load_facts(&self, scope: &FactsScope) -> Result<Facts, FactsError> {
        let ((facts, _), _place) = self.load_in(&self.others, None, scope).await?;
        Ok(facts)
    }

    /// Loads facts; those of much in the place that the caller has, or in one of these. Nobody who has one waits for
    /// another, and nothing is refused: no stranger can stop an event that was answered OK.
    pub(super) async fn load_in(
        &self,
        places: &Slots<PublicKey>,
        place: Option<LoadPlace>,
        scope: &FactsScope,
    ) -> Result<(LoadedFacts, Option<LoadPlace>), FactsError> {
        match self.loader.load_within(WHOLE_BYTES_MAX, scope).await {
            Err(error) if error.is_too_large() => {}
            loaded => return Ok((loaded?, None)),
        }
        let place = match (place, scope.coordinates.first()) {
            (None, Some(coordinate)) => Some(places.acquire(coordinate.owner).await),
            (place, _) => place,
        };
        Ok((self.loader.load_in_parts(scope).await?, place))
    }
}

/// Facts, and the dirty numbers of the coordinates that they were loaded about.
pub(super) type LoadedFacts = (Facts, BTreeMap<Coordinate, DirtyNumber>);
