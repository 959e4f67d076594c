//! The purgatory as everybody else sees it: one type, whatever store is behind it. Each operation is one atomic step.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use nostr::event::EventId;
use nostr::key::PublicKey;

use super::Deletion;
use super::DirtyNumber;
use super::Epoch;
use super::Expiry;
use super::Hold;
use super::HoldOutcome;
use super::Lease;
use super::Leased;
use super::Limits;
use super::MarkedReleasing;
use super::Notifications;
use super::PlaceholderOutcome;
use super::PurgatoryError;
use super::Reading;
use super::Release;
use super::Settlement;
use super::memory::MemoryStore;
use super::redis::RedisSettings;
use super::redis::RedisStore;
use crate::git::Oid;
use crate::nip34::Coordinate;
use crate::nip34::Identifier;

/// Where the store in memory reads the time, unix seconds.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The events that wait for their git data, and all that is known about them. Clones are the same purgatory.
///
/// Times are the store's own, in seconds; "past" means at or before its now. A change and the dirty numbers it raises
/// are one step. Every operation fails as [`PurgatoryError`] says (in memory none does), in a little over
/// [`RedisSettings::step_max`] at worst, at once if Redis failed a moment ago, and may be repeated.
#[derive(Clone)]
pub struct Purgatory(Store);

#[derive(Clone)]
enum Store {
    Redis(RedisStore),
    Memory(MemoryStore),
}

/// Asks the store in charge: the one in memory answers at once and never fails.
macro_rules! ask {
    ($purgatory:ident . $operation:ident ( $($argument:expr),* )) => {
        match &$purgatory.0 {
            Store::Redis(redis) => redis.$operation($($argument),*).await,
            Store::Memory(memory) => Ok(memory.$operation($($argument),*)),
        }
    };
}

impl Purgatory {
    /// Makes a purgatory that ends with this process.
    pub fn in_memory(limits: Limits, clock: Clock) -> Self {
        Self(Store::Memory(MemoryStore::new(limits, clock)))
    }

    /// Makes a purgatory in Redis. If that cannot be reached now, operations fail until it can.
    ///
    /// # Errors
    /// [`PurgatoryError::Url`].
    pub async fn connect(settings: &RedisSettings, limits: Limits) -> Result<Self, PurgatoryError> {
        let redis = RedisStore::connect(settings, limits).await?;
        Ok(Self(Store::Redis(redis)))
    }

    /// Tells whether what is held survives the end of this process.
    pub fn is_durable(&self) -> bool {
        match self.0 {
            Store::Redis(_) => true,
            Store::Memory(_) => false,
        }
    }

    /// Returns one warning for each setting of the server that can lose held events, or that it does not let us read.
    ///
    /// # Errors
    /// [`PurgatoryError::TooOld`] if the scripts cannot run on it.
    pub async fn check_server(&self) -> Result<Vec<String>, PurgatoryError> {
        match &self.0 {
            Store::Redis(redis) => redis.check_server().await,
            Store::Memory(_) => Ok(Vec::new()),
        }
    }

    /// Reads everything about some identifiers.
    ///
    /// # Errors
    /// As for all operations.
    pub async fn read(&self, identifiers: &BTreeSet<Identifier>) -> Result<Reading, PurgatoryError> {
        ask!(self.read(identifiers))
    }

    /// Holds an event, and of the announcements of one coordinate that are held or asleep only the NIP-01 winner.
    ///
    /// # Errors
    /// As for all operations.
    pub async fn hold(&self, hold: &Hold) -> Result<HoldOutcome, PurgatoryError> {
        ask!(self.hold(hold))
    }

    /// Raises the dirty numbers of identifiers.
    ///
    /// # Errors
    /// As for all operations.
    pub async fn mark_dirty(&self, identifiers: &BTreeSet<Identifier>) -> Result<(), PurgatoryError> {
        ask!(self.mark_dirty(identifiers))
    }

    /// Returns dirty identifiers, at most so many, with the oldest change first.
    ///
    /// # Errors
    /// As for all operations.
    pub async fn dirty(&self, count_max: usize) -> Result<Vec<(Identifier, DirtyNumber)>, PurgatoryError> {
        ask!(self.dirty(count_max))
    }

    /// Returns the dirty number of an identifier, if it is dirty.
    ///
    /// # Errors
    /// As for all operations.
    pub async fn dirty_number(&self, identifier: &Identifier) -> Result<Option<DirtyNumber>, PurgatoryError> {
        ask!(self.dirty_number(identifier))
    }

    /// Clears the dirty mark of an identifier, and returns whether it did: not if the number has risen since `seen`.
    ///
    /// # Errors
    /// As for all operations.
    pub async fn clear_dirty(&self, identifier: &Identifier, seen: DirtyNumber) -> Result<bool, PurgatoryError> {
        ask!(self.clear_dirty(identifier, seen))
    }

    /// Raises the dirty numbers of at most so many entries and placeholders whose deadline is past, and returns how
    /// many it found. Nothing expires by this, and each is offered again after `recheck_secs` if it is still there.
    ///
    /// # Errors
    /// As for all operations.
    pub async fn mark_overdue(&self, count_max: usize, recheck_secs: u64) -> Result<usize, PurgatoryError> {
        ask!(self.mark_overdue(count_max, recheck_secs))
    }

    /// Marks events as releasing, given in the order of publishing, and leases them to the caller but for those that
    /// are ordered after what somebody else is releasing. Left out, and as they were, are those that are releasing
    /// already and leased to somebody else or not to be tried again yet, and those that their author deleted lately.
    ///
    /// # Errors
    /// As for all operations.
    pub async fn mark_releasing(
        &self,
        releases: &[Release],
        lease_secs: u64,
    ) -> Result<MarkedReleasing, PurgatoryError> {
        ask!(self.mark_releasing(releases, lease_secs))
    }

    /// Leases to the caller at most so many leaving entries whose time has come and none of whose [`Release::after`] is
    /// still leaving, earliest first.
    ///
    /// # Errors
    /// As for all operations.
    pub async fn take_due(&self, count_max: usize, lease_secs: u64) -> Result<Vec<Leased>, PurgatoryError> {
        ask!(self.take_due(count_max, lease_secs))
    }

    /// Records how an attempt to publish ended, and returns whether it did: not if the lease is not the current one.
    /// What was ordered after an entry that goes is due at once. An entry that is dropped makes its identifiers dirty.
    ///
    /// # Errors
    /// As for all operations.
    pub async fn settle(
        &self,
        event_id: &EventId,
        lease: Lease,
        settlement: &Settlement,
    ) -> Result<bool, PurgatoryError> {
        ask!(self.settle(event_id, lease, settlement))
    }

    /// Holds entries for at least so long from now, and returns how many. Sleeping ones wake, for just so long, and
    /// make their identifiers dirty.
    ///
    /// # Errors
    /// As for all operations.
    pub async fn extend(&self, event_ids: &BTreeSet<EventId>, hold_secs: u64) -> Result<usize, PurgatoryError> {
        ask!(self.extend(event_ids, hold_secs))
    }

    /// Ends an entry that is held (or asleep, but then only for good) and past its deadline, and returns whether it
    /// did.
    ///
    /// # Errors
    /// As for all operations.
    pub async fn expire(&self, event_id: &EventId, expiry: Expiry) -> Result<bool, PurgatoryError> {
        ask!(self.expire(event_id, expiry))
    }

    /// Removes entries that are held or asleep (superseded, de-listed), and returns how many.
    ///
    /// # Errors
    /// As for all operations.
    pub async fn end(&self, event_ids: &BTreeSet<EventId>) -> Result<usize, PurgatoryError> {
        ask!(self.end(event_ids))
    }

    /// Removes what its author asked to delete, in any status, keeps it out for ten minutes, and returns how many
    /// entries went.
    ///
    /// # Errors
    /// As for all operations.
    pub async fn delete(&self, deletion: &Deletion) -> Result<usize, PurgatoryError> {
        ask!(self.delete(deletion))
    }

    /// Removes what an author who vanishes (NIP-62) has held or asleep, made up to `created_at`, keeps such events out
    /// for ten minutes, and returns how many entries went. What is leaving goes on into the relay, where it is ruled
    /// out.
    ///
    /// # Errors
    /// See [`PurgatoryError`].
    pub async fn vanish(&self, author: &PublicKey, created_at: u64) -> Result<usize, PurgatoryError> {
        ask!(self.vanish(author, created_at))
    }

    /// Notes what entries wait for; those that are not there are left out.
    ///
    /// # Errors
    /// As for all operations.
    pub async fn note_waiting(&self, notes: &BTreeMap<EventId, String>) -> Result<(), PurgatoryError> {
        ask!(self.note_waiting(notes))
    }

    /// Records a commit that was pushed before its event, in place of an earlier one for the same event and repository.
    /// Raises no dirty number: the push does, once the objects are there too.
    ///
    /// # Errors
    /// As for all operations.
    pub async fn put_placeholder(
        &self,
        event_id: &EventId,
        coordinate: &Coordinate,
        commit_oid: Oid,
        hold_secs: u64,
    ) -> Result<PlaceholderOutcome, PurgatoryError> {
        ask!(self.put_placeholder(event_id, coordinate, commit_oid, hold_secs))
    }

    /// Removes a placeholder, and returns whether it did: not if it has another commit by now.
    ///
    /// # Errors
    /// As for all operations.
    pub async fn drop_placeholder(
        &self,
        event_id: &EventId,
        coordinate: &Coordinate,
        commit_oid: Oid,
    ) -> Result<bool, PurgatoryError> {
        ask!(self.drop_placeholder(event_id, coordinate, commit_oid))
    }

    /// Returns which epoch it is: after the store lost anything, or may have, it is another one.
    ///
    /// # Errors
    /// As for all operations.
    pub async fn epoch(&self) -> Result<Epoch, PurgatoryError> {
        ask!(self.epoch())
    }

    /// Begins a new epoch in place of `found`, once what was lost at its end has been made up for, and returns the name
    /// of the current one: somebody else may have begun it.
    ///
    /// # Errors
    /// As for all operations.
    pub async fn begin_epoch(&self, found: &Epoch) -> Result<String, PurgatoryError> {
        ask!(self.begin_epoch(found))
    }

    /// Raises the dirty number of every identifier of which anything is held, step by step.
    ///
    /// # Errors
    /// As for all operations; some may have been marked then.
    pub async fn mark_held(&self) -> Result<(), PurgatoryError> {
        ask!(self.mark_held())
    }

    /// Listens for changes from now on, for as long as the result lives. Must be called inside a tokio runtime.
    pub fn notifications(&self) -> Notifications {
        match &self.0 {
            Store::Redis(redis) => redis.notifications(),
            Store::Memory(memory) => memory.notifications(),
        }
    }
}
