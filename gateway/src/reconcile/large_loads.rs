//! Facts for reconciles, and the slots of those that take much memory.

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
    /// The slot of what takes much memory, for as long as it does.
    pub(super) slot: Option<LoadSlot>,
}

/// Loads facts. A load that takes much memory needs a slot; pushes have slots of their own for their first load.
pub(crate) struct LargeLoads {
    loader: FactLoader,
    pub(crate) of_pushes: Slots<PublicKey>,
    pub(crate) others: Slots<PublicKey>,
}

/// The slot of a load that takes much memory.
pub(super) type LoadSlot = Slot<PublicKey>;

impl LargeLoads {
    /// Two of each, so that no author has all. One load of 200 maintainers with the largest events took 16 to 95 MiB.
    pub(crate) fn new(loader: FactLoader) -> Self {
        Self {
            loader,
            of_pushes: Slots::new(2),
            others: Slots::new(2),
        }
    }

    /// Loads facts under the lock of their coordinates; if they take much memory, in one of these slots.
    ///
    /// # Errors
    /// See [`ReconcileError`].
    pub(crate) async fn load(
        &self,
        _locked: &LockedRepositories<'_>,
        scope: FactsScope,
        slots: &Slots<PublicKey>,
    ) -> Result<Loaded, ReconcileError> {
        let ((facts, dirty), slot) = self.load_in(slots, None, &scope).await?;
        Ok(Loaded {
            facts,
            scope,
            dirty,
            slot,
        })
    }

    /// Loads the facts about one repository.
    pub(crate) async fn load_about(&self, coordinate: &Coordinate) -> Result<Facts, FactsError> {
        self.load_facts(&FactsScope::of(coordinate)).await
    }

    /// Loads facts that are kept for a moment.
    pub(crate) async fn load_facts(&self, scope: &FactsScope) -> Result<Facts, FactsError> {
        let ((facts, _), _slot) = self.load_in(&self.others, None, scope).await?;
        Ok(facts)
    }

    /// Loads facts; if they take much memory, in the slot that the caller has, or in one of `slots`. Nobody who has one
    /// waits for another, and nothing is refused: no stranger can stop an event that was answered OK.
    pub(super) async fn load_in(
        &self,
        slots: &Slots<PublicKey>,
        slot: Option<LoadSlot>,
        scope: &FactsScope,
    ) -> Result<(LoadedFacts, Option<LoadSlot>), FactsError> {
        match self.loader.load_within(WHOLE_BYTES_MAX, scope).await {
            Err(error) if error.is_too_large() => {}
            loaded => return Ok((loaded?, None)),
        }
        let slot = match (slot, scope.coordinates.first()) {
            (None, Some(coordinate)) => Some(slots.acquire(coordinate.owner).await),
            (slot, _) => slot,
        };
        Ok((self.loader.load_in_parts(scope).await?, slot))
    }
}

/// Facts, and the dirty numbers of the coordinates that they were loaded about.
pub(super) type LoadedFacts = (Facts, BTreeMap<Coordinate, DirtyNumber>);
