//! The purgatory as everybody else sees it: one type, whichever store is behind it, and the table of its operations.

mod argv;
mod decode;
mod error;
mod keys;
mod memory;
mod notifications;
#[macro_use]
mod operations;
mod redis;
mod script;
mod source_group;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::LazyLock;

use ::redis::FromRedisValue;
use nostr::event::EventId;
use nostr::key::PublicKey;

use self::argv::Argv;
use self::decode::Malformed;
use self::memory::MemoryStore;
use self::redis::RedisStore;
use self::script::PurgatoryScript;
use crate::git::Oid;
use crate::nip01::Deletion;
use crate::nip34::Coordinate;
use crate::nip34::Identifier;
use crate::purgatory::hold::Expiry;
use crate::purgatory::hold::Hold;
use crate::purgatory::hold::HoldOutcome;
use crate::purgatory::hold::PlaceholderOutcome;
use crate::purgatory::limits::Limits;
use crate::purgatory::reading::DirtyNumber;
use crate::purgatory::reading::Epoch;
use crate::purgatory::reading::Reading;
use crate::purgatory::release::Lease;
use crate::purgatory::release::Leased;
use crate::purgatory::release::MarkedReleasing;
use crate::purgatory::release::Release;
use crate::purgatory::release::Settlement;

pub use self::error::PurgatoryError;
pub use self::memory::Clock;
pub use self::notifications::Notifications;
pub use self::redis::RedisPlace;
pub use self::redis::RedisSettings;

/// The events that wait for their git data, and all that is known about them. Clones are the same purgatory.
///
/// Times are the store's own, in seconds; "past" means at or before its now. Each operation is one atomic step: a change
/// and the dirty numbers that it raises. Every operation fails as [`PurgatoryError`] lists, in a little over
/// [`RedisSettings::call_timeout`] at worst, at once if Redis failed a moment ago, and may be repeated.
#[derive(Clone)]
pub struct Purgatory {
    backend: Backend,
    limits: Limits,
}

#[derive(Clone)]
enum Backend {
    Redis(RedisStore),
    Memory(MemoryStore),
}

operations! {
    /// Reads everything about some identifiers.
    pub fn read(identifiers: &BTreeSet<Identifier>) -> Reading =
        ("read", |argv| argv.args(identifiers), decode::reading);

    /// Holds an event, and of the announcements of one coordinate that are held or asleep only the NIP-01 winner.
    pub fn hold(hold: &Hold) -> HoldOutcome =
        ("hold an event", |argv| argv.hold(hold).replicated(), decode::hold_outcome);

    /// Raises the dirty numbers of identifiers.
    pub fn mark_dirty(identifiers: &BTreeSet<Identifier>) -> () =
        ("mark identifiers dirty", |argv| argv.args(identifiers), |_: u64| Ok(()));

    /// Clears the dirty mark of an identifier, and returns whether it did: not if the number has risen since `seen`.
    pub fn clear_dirty(identifier: &Identifier, seen: DirtyNumber) -> bool =
        ("clear a dirty mark", |argv| argv.arg(identifier).arg(seen.0), Ok);

    /// Returns dirty identifiers, at most `count_max`, with the oldest change first.
    pub fn dirty(count_max: usize) -> Vec<(Identifier, DirtyNumber)> =
        ("list dirty identifiers", |argv| argv.bounded(count_max), decode::dirty_numbers);

    /// Returns the dirty number of an identifier, if it is dirty.
    pub fn dirty_number(identifier: &Identifier) -> Option<DirtyNumber> =
        ("read a dirty number", |argv| argv.arg(identifier), |number: Option<u64>| Ok(number.map(DirtyNumber)));

    /// Raises the dirty numbers of at most `count_max` entries and placeholders whose deadline is past, and returns how
    /// many it found. Nothing expires by this, and each is found again after `recheck_secs` if it is still there.
    pub fn mark_overdue(count_max: usize, recheck_secs: u64) -> usize =
        ("mark what is overdue", |argv| argv.bounded(count_max).bounded(recheck_secs), Ok);

    /// Marks events as releasing, given in the order of publishing, and leases them to the caller but for those that
    /// are ordered after what another caller is releasing. Left out and unchanged are those that are releasing already
    /// and leased to another caller or not to be retried yet, and those that their author has just deleted.
    pub fn mark_releasing(releases: &[Release], lease_secs: u64) -> MarkedReleasing =
        ("mark events as releasing", |argv| argv.bounded(lease_secs).releases(releases),
         |answer| decode::marked_releasing(answer, releases));

    /// Leases to the caller at most `count_max` releasing entries whose time has come and none of whose
    /// [`Release::after`] is still releasing, earliest first.
    pub fn take_due(count_max: usize, lease_secs: u64) -> Vec<Leased> =
        ("take what is due", |argv| argv.bounded(count_max).bounded(lease_secs), decode::leased);

    /// Records how an attempt to publish ended, and returns whether it did: not if the lease is not the current one.
    /// What is ordered after an entry that is removed is due at once. An entry that is dropped makes its identifiers
    /// dirty.
    pub fn settle(event_id: &EventId, lease: Lease, settlement: &Settlement) -> bool =
        ("settle a release", |argv| argv.arg(event_id).arg(lease.0).settlement(settlement), Ok);

    /// Extends deadlines to at least `hold_secs` from now, and returns of how many entries. Sleeping ones wake, for
    /// just so long, and make their identifiers dirty.
    pub fn extend(event_ids: &BTreeSet<EventId>, hold_secs: u64) -> usize =
        ("extend deadlines", |argv| argv.bounded(hold_secs).args(event_ids), Ok);

    /// Ends an entry that is past its deadline and held (or asleep, but then it cannot be put to sleep), and returns
    /// whether it did.
    pub fn expire(event_id: &EventId, expiry: Expiry) -> bool =
        ("expire an event", |argv| argv.arg(event_id).expiry(expiry), Ok);

    /// Removes entries that are held or asleep (superseded, de-listed), and returns how many.
    pub fn end(event_ids: &BTreeSet<EventId>) -> usize =
        ("end events", |argv| argv.args(event_ids), Ok);

    /// Removes what its author asked to delete, in any status, keeps it out for ten minutes, and returns how many
    /// entries were removed.
    pub fn delete(deletion: &Deletion) -> usize =
        ("delete events", |argv| argv.deletion(deletion), Ok);

    /// Removes what an author who vanishes (NIP-62) has held or asleep, made up to `created_at`, keeps such events out
    /// for ten minutes, and returns how many entries were removed. Releasing ones stay: the relay rules them out.
    pub fn vanish(author: &PublicKey, created_at: u64) -> usize =
        ("remove an author's events", |argv| argv.arg(author).arg(created_at), Ok);

    /// Notes what entries wait for; those that are not there are left out.
    pub fn note_waiting(notes: &BTreeMap<EventId, String>) -> () =
        ("note what events wait for", |argv| argv.notes(notes), |_: u64| Ok(()));

    /// Records a commit that was pushed before its event, in place of an earlier one for the same event and repository.
    /// Raises no dirty number: the push does, once the objects are there too.
    pub fn put_placeholder(
        event_id: &EventId,
        coordinate: &Coordinate,
        commit_oid: Oid,
        hold_secs: u64
    ) -> PlaceholderOutcome =
        ("record a placeholder",
         |argv| argv.placeholder(event_id, coordinate, commit_oid).bounded(hold_secs).placeholders_max().replicated(),
         decode::placeholder_outcome);

    /// Removes a placeholder, and returns whether it did: not if it has another commit by now.
    pub fn drop_placeholder(event_id: &EventId, coordinate: &Coordinate, commit_oid: Oid) -> bool =
        ("drop a placeholder", |argv| argv.placeholder(event_id, coordinate, commit_oid), Ok);

    /// Returns which epoch it is: another one after the store lost anything, or may have.
    pub fn epoch() -> Epoch =
        ("read the epoch", |argv| argv, |(name, server)| Ok(Epoch { name, server }));

    /// Begins a new epoch in place of `found`, once what was lost at its end has been made up for, and returns the name
    /// of the current one: another gateway may have begun it.
    pub fn begin_epoch(found: &Epoch) -> String =
        ("begin an epoch", |argv| argv.arg(&found.name), Ok);

    /// Raises the dirty numbers of one page of what is held, and returns the cursor of the next one.
    fn mark_held_page(cursor: &str) -> String =
        ("mark everything held dirty", |argv| argv.arg(cursor), Ok);
}

impl Purgatory {
    /// Makes a purgatory that ends with this process.
    pub fn in_memory(limits: Limits, clock: Clock) -> Self {
        let backend = Backend::Memory(MemoryStore::new(clock));
        Self { backend, limits }
    }

    /// Makes a purgatory in Redis. If that cannot be reached now, operations fail until it can.
    ///
    /// # Errors
    /// [`PurgatoryError::Url`].
    pub async fn connect(settings: &RedisSettings, limits: Limits) -> Result<Self, PurgatoryError> {
        let redis = RedisStore::new(settings)?;
        redis.load(&SCRIPTS.all()).await;
        let backend = Backend::Redis(redis);
        Ok(Self { backend, limits })
    }

    /// Returns one warning for each setting of the server that can lose held events, or that it does not let us read.
    ///
    /// # Errors
    /// [`PurgatoryError::TooOld`] if the scripts cannot run on it.
    pub async fn check_server(&self) -> Result<Vec<String>, PurgatoryError> {
        match &self.backend {
            Backend::Redis(redis) => redis.check_server().await,
            Backend::Memory(_) => Ok(Vec::new()),
        }
    }

    /// Raises the dirty number of every identifier of which anything is held, page by page.
    ///
    /// # Errors
    /// As for all operations; some may have been marked then.
    pub async fn mark_held(&self) -> Result<(), PurgatoryError> {
        let mut cursor = CURSOR_START.to_owned();
        loop {
            cursor = self.mark_held_page(&cursor).await?;
            if cursor == CURSOR_START {
                return Ok(());
            }
        }
    }

    /// Listens for changes from now on, for as long as the result lives. Must be called inside a tokio runtime.
    pub fn notifications(&self) -> Notifications {
        Notifications::new(match &self.backend {
            Backend::Redis(redis) => redis.listen(),
            Backend::Memory(memory) => memory.listen(),
        })
    }

    /// Calls a script, and returns its answer as `decode` reads it.
    async fn call<T: FromRedisValue, A>(
        &self,
        script: &'static PurgatoryScript,
        arguments: impl FnOnce(Argv) -> Argv,
        decode: impl FnOnce(T) -> Result<A, Malformed>,
    ) -> Result<A, PurgatoryError> {
        let operation = script.name;
        let argv = arguments(Argv::new(self.limits));
        let answer = match &self.backend {
            Backend::Redis(redis) => redis.call(script, argv).await?,
            Backend::Memory(memory) => {
                let answer = memory.call(script, argv.args);
                answer.map_err(|error| PurgatoryError::Protocol {
                    operation,
                    what: format!("the script fails: {error}"),
                })?
            }
        };
        let answer = T::from_redis_value(answer).map_err(|error| PurgatoryError::malformed(operation, error))?;
        decode(answer).map_err(|malformed| PurgatoryError::malformed(operation, malformed))
    }
}

/// Where the pages of what is held begin, and end.
const CURSOR_START: &str = "0";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_adds_is_refused_by_a_full_redis() {
        let refused: Vec<_> = SCRIPTS
            .all()
            .into_iter()
            .map(|script| (script.name, script.source.lines().next().unwrap()))
            .filter(|(_, first_line)| *first_line != "#!lua flags=allow-oom")
            .collect();

        assert_eq!(refused, [("hold an event", "#!lua"), ("record a placeholder", "#!lua")]);
    }
}
