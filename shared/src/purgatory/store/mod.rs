//! The purgatory as its users see it: one type, whichever store is behind it, and the table of its operations. The file
//! is long because the table has all of them.

mod argv;
mod clock_jumps;
mod decode;
mod error;
mod keys;
mod memory;
mod notifications;
#[macro_use]
mod operations;
mod paged;
mod pages;
mod redis;
mod script;
mod source_group;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::LazyLock;

use ::redis::FromRedisValue;
use nostr::event::Event;
use nostr::event::EventId;
use nostr::key::PublicKey;
use parking_lot::Mutex;

use self::argv::Argv;
use self::clock_jumps::ClockJumps;
use self::decode::Malformed;
use self::decode::ReadingCursor;
use self::memory::MemoryStore;
use self::redis::RedisStore;
use self::script::PurgatoryScript;
use crate::git::Oid;
use crate::live::Live;
use crate::nip01::Deletion;
use crate::nip34::Coordinate;
use crate::purgatory::entry::Entry;
use crate::purgatory::entry::EntryStatus;
use crate::purgatory::hold::Expiry;
use crate::purgatory::hold::Hold;
use crate::purgatory::hold::HoldOutcome;
use crate::purgatory::hold::PlaceholderOutcome;
use crate::purgatory::hold::RelatedReading;
use crate::purgatory::inventory::InventoryCounts;
use crate::purgatory::inventory::InventoryIndex;
use crate::purgatory::inventory::InventoryPage;
use crate::purgatory::limits::Limits;
use crate::purgatory::listing::Listing;
use crate::purgatory::reading::DirtyNumber;
use crate::purgatory::reading::Epoch;
use crate::purgatory::reading::PendingWork;
use crate::purgatory::reading::Reading;
use crate::purgatory::refusal::NotedRefusal;
use crate::purgatory::release::Lease;
use crate::purgatory::release::Leased;
use crate::purgatory::release::MarkedReleasing;
use crate::purgatory::release::Release;
use crate::purgatory::release::Settlement;
use crate::purgatory::unreconciled::PullRequestOutcome;
use crate::purgatory::unreconciled::UnreconciledPullRequests;

pub use self::error::PurgatoryError;
pub use self::memory::Clock;
pub use self::notifications::Notifications;
pub use self::redis::RedisPlace;
pub use self::redis::RedisSettings;
pub use self::redis::RedisTls;
pub use self::redis::ServerFault;
pub(crate) use self::source_group::source_group;

/// The events that wait for their git data, and all that is known about them. Clones are the same purgatory.
///
/// Times are the store's own, in seconds; "past" means at or before its now. Each operation is one atomic step: a change
/// and the dirty numbers that it raises. Every operation fails as [`PurgatoryError`] lists, in a little over
/// [`RedisSettings::call_timeout`] at worst, at once if Redis failed a moment ago, and may be repeated.
#[derive(Clone)]
pub struct Purgatory {
    backend: Backend,
    limits: Live<Limits>,
    /// Those of Redis: a test that gives a store in memory its clock gives it one that does not jump.
    clock_jumps: Arc<ClockJumps>,
    last_lease: Arc<Mutex<String>>,
}

#[derive(Clone)]
enum Backend {
    Redis(RedisStore),
    Memory(MemoryStore),
}

/// What a coordinate is dirty by.
#[derive(Debug, Clone, Copy)]
enum DirtyIndex {
    /// Something has happened to it.
    Coordinates,
    /// Some of its PRs must be reconciled.
    PullRequests,
}

impl DirtyIndex {
    /// The name that the scripts have for it.
    fn name(self) -> &'static str {
        match self {
            Self::Coordinates => "dirty",
            Self::PullRequests => "dirty_pull_requests",
        }
    }
}

operations! {
    /// Reads one page of everything about some coordinates, with one entry beside, and where the next one begins.
    fn read_page(
        coordinates: &BTreeSet<Coordinate>,
        from: &ReadingCursor,
        beside: Option<&EventId>
    ) -> (Reading, ReadingCursor) =
        ("read",
         |argv| argv.arg(from.0).arg(&from.1).arg(&from.2).arg(beside.map(EventId::to_hex).unwrap_or_default())
             .args(coordinates),
         decode::reading_page);

    /// Returns those of these entries that there are.
    fn entries_page(event_ids: &[EventId]) -> Vec<Entry> =
        ("read entries", |argv| argv.args(event_ids), decode::entries);

    /// Holds an event, and extends the first of the events that it extends; returns how many, and what is
    /// left to note of whom it lists: nothing if that is empty.
    fn hold_entry(hold: &Hold, extend: &[EventId]) -> (usize, HoldOutcome, String) =
        ("hold an event", |argv| argv.hold(hold, extend).replicated(), decode::hold_outcome);

    /// Reads whether a related event is here, and any of those that it refers to.
    pub fn read_related(event_id: &EventId, refers_to: &BTreeSet<EventId>) -> RelatedReading =
        ("read what an event may wait behind", |argv| argv.arg(event_id).args(refers_to), decode::read_related);

    /// Raises the dirty numbers of one page of coordinates.
    fn mark_dirty_page(coordinates: &[&Coordinate]) -> () =
        ("mark coordinates dirty", |argv| argv.args(coordinates), |_: u64| Ok(()));

    /// Clears the dirty mark of a coordinate, and returns whether it did: not if the number has risen since `seen`.
    /// From then on all its PRs must be reconciled.
    pub fn clear_dirty(coordinate: &Coordinate, seen: DirtyNumber) -> bool =
        ("clear a dirty mark", |argv| argv.arg(coordinate).arg(seen.0), Ok);

    /// Returns one page of coordinates that are dirty by this `index`, those whose number is above `after`.
    fn dirty_page(after: u64, count_max: usize, index: DirtyIndex) -> Vec<(Coordinate, DirtyNumber)> =
        ("list dirty coordinates", |argv| argv.arg(after).bounded(count_max).arg(index.name()), decode::dirty_numbers);

    /// Returns the dirty number of a coordinate, if it is dirty.
    pub fn dirty_number(coordinate: &Coordinate) -> Option<DirtyNumber> =
        ("read a dirty number", |argv| argv.arg(coordinate), |number: Option<u64>| Ok(number.map(DirtyNumber)));

    /// Returns one page of the PRs of a coordinate that must be reconciled.
    pub fn unreconciled_page(coordinate: &Coordinate) -> UnreconciledPullRequests =
        ("list PRs to reconcile", |argv| argv.arg(coordinate), decode::unreconciled);

    /// Records that PRs of a coordinate were reconciled, except those that have changed since `unreconciled` were read,
    /// and returns whether there are more to reconcile.
    pub fn note_reconciled(
        coordinate: &Coordinate,
        unreconciled: &UnreconciledPullRequests,
        found: &BTreeMap<EventId, PullRequestOutcome>,
    ) -> bool =
        ("record reconciled PRs", |argv| argv.arg(coordinate).reconciled(unreconciled, found), Ok);

    /// Marks one page of events, for which commits may be staged in a repository, for a reconcile.
    fn mark_unreconciled_page(coordinate: &Coordinate, event_ids: &[EventId]) -> () =
        ("mark PRs for a reconcile", |argv| argv.arg(coordinate).args(event_ids), |_: u64| Ok(()));

    /// Marks all PRs of one page of coordinates for a reconcile.
    fn begin_rounds_page(coordinates: &[&Coordinate]) -> () =
        ("mark all PRs for a reconcile", |argv| argv.args(coordinates), |_: u64| Ok(()));

    /// Has at most `count_max` entries and placeholders reconciled whose deadline is past, and returns how many it
    /// found. Nothing expires by this, and each is found again after `recheck_secs` if it is still there.
    pub fn mark_overdue(count_max: usize, recheck_secs: u64) -> usize =
        ("mark overdue entries", |argv| argv.bounded(count_max).bounded(recheck_secs), Ok);

    /// Marks one page of events as releasing; `own` are those that earlier pages have leased.
    fn mark_releasing_page(releases: &[Release], own: &BTreeSet<EventId>, lease_secs: u64) -> MarkedReleasing =
        ("mark events as releasing", |argv| argv.bounded(lease_secs).json(own).releases(releases),
         |answer| decode::marked_releasing(answer, releases));

    /// Leases to the caller at most `count_max` releasing entries whose time has come and none of whose
    /// [`Release::after`] is still releasing, earliest first.
    pub fn take_due(count_max: usize, lease_secs: u64) -> Vec<Leased> =
        ("take due entries", |argv| argv.bounded(count_max).bounded(lease_secs), decode::leased);

    /// Records the outcome of an attempt to publish, and returns whether it did: not if the lease is not the current
    /// one. Events that are ordered after a removed entry are due at once. An entry that is dropped makes its
    /// coordinates dirty.
    pub fn settle(event_id: &EventId, lease: Lease, settlement: &Settlement) -> bool =
        ("settle a release", |argv| argv.arg(event_id).arg(lease.0).settlement(settlement), Ok);

    /// Extends one page of deadlines, and returns of how many entries, and how many of the ids are done.
    fn extend_page(event_ids: &[EventId], hold_secs: u64) -> (usize, usize) =
        ("extend deadlines", |argv| argv.bounded(hold_secs).args(event_ids), Ok);

    /// Ends an entry that is past its deadline and held (or asleep, but then it cannot be put to sleep), and returns
    /// whether it did.
    pub fn expire(event_id: &EventId, expiry: Expiry) -> bool =
        ("expire an event", |argv| argv.arg(event_id).expiry(expiry), Ok);

    /// Removes one page of entries that are held or asleep, and returns how many, and how many of the ids are done.
    fn end_page(event_ids: &[EventId]) -> (usize, usize) =
        ("end events", |argv| argv.args(event_ids), Ok);

    /// Keeps out what its author asked to delete: event ids, addresses, or everything (`author`) made up to a time.
    fn gate(author: &PublicKey, created_at: u64, targets: &[String]) -> () =
        ("record deletions", |argv| argv.arg(author).arg(created_at).args(targets), |_: u64| Ok(()));

    /// Removes one page of what its author asked to delete, from `cursor` on, and returns how many entries, and the
    /// next cursor, and of which repositories more is left in the index of listings.
    fn delete_page(deletion: &Deletion, cursor: &(i64, String)) -> (usize, i64, String, Vec<String>) =
        ("delete events", |argv| argv.deletion(deletion).arg(cursor.0).arg(&cursor.1), Ok);

    /// Removes one page of what an author who vanishes has held or asleep, from `cursor` on, and returns how many
    /// entries, the next cursor, and of which repositories more is left in the index of listings.
    pub fn vanish_page(
        author: &PublicKey,
        created_at: u64,
        cursor: &(String, String)
    ) -> (usize, String, String, Vec<String>) =
        ("remove an author's events", |argv| argv.arg(author).arg(created_at).arg(&cursor.0).arg(&cursor.1), Ok);

    /// Takes one page of what removed announcements of these coordinates have listed off the index of listings, and
    /// returns those of which more is left.
    fn unlist_page(coordinates: &[String]) -> Vec<String> =
        ("take maintainers off the index", |argv| argv.args(coordinates), Ok);

    /// Notes what one page of entries waits for.
    fn note_waiting_page(notes: &[(&EventId, &String)]) -> () =
        ("record what events wait for", |argv| argv.notes(notes), |_: u64| Ok(()));

    /// Records a commit that was pushed before its event, beside other commits for it. It counts for the address of its
    /// `pusher`, if that is known. Raises no dirty number: the push does, once the objects are there too.
    pub fn put_placeholder(
        event_id: &EventId,
        coordinate: &Coordinate,
        commit_oid: Oid,
        hold_secs: u64,
        pusher: Option<IpAddr>
    ) -> PlaceholderOutcome =
        ("record a placeholder",
         |argv| argv.placeholder(event_id, coordinate, commit_oid).bounded(hold_secs).placeholders_max(pusher)
             .replicated(),
         decode::placeholder_outcome);

    /// Returns what [`put_placeholder`](Self::put_placeholder) would for all of these events and their commits, at most
    /// as many as one push may name; records nothing.
    pub fn placeholders_fit(
        coordinate: &Coordinate,
        commits: &[(EventId, Oid)],
        pusher: IpAddr
    ) -> PlaceholderOutcome =
        ("look for places of placeholders",
         |argv| commits.iter().fold(
             argv.arg(coordinate).placeholders_max(Some(pusher)),
             |argv, (event_id, commit_oid)| argv.arg(event_id).arg(commit_oid)),
         decode::placeholder_outcome);

    /// Removes the placeholder of a commit, and returns whether it did: not if there is none.
    pub fn drop_placeholder(event_id: &EventId, coordinate: &Coordinate, commit_oid: Oid) -> bool =
        ("drop a placeholder", |argv| argv.placeholder(event_id, coordinate, commit_oid), Ok);

    /// Returns which epoch it is: another one after the store lost anything, or may have.
    pub fn epoch() -> Epoch =
        ("read the epoch", |argv| argv, |(name, server)| Ok(Epoch { name, server }));

    /// Returns which epoch it is, and what there is to do for a gateway.
    pub fn pending() -> PendingWork =
        ("read what is pending", |argv| argv, decode::pending);

    /// Begins a new epoch in place of `found`, once the loss at its end has been recovered, and returns the name of the
    /// current one: another gateway may have begun it.
    pub fn begin_epoch(found: &Epoch) -> String =
        ("begin an epoch", |argv| argv.arg(&found.name), Ok);

    /// Notes whom a held announcement lists: the next page of what holding it has left. Returns what is left now.
    fn follow_listings_page(event: &Event, coordinate: &Coordinate, left: &str) -> String =
        ("index the maintainers of a held announcement",
         |argv| argv.arg(event.id).arg(coordinate).json(argv::listed_by(event)).arg(left).replicated(), Ok);

    /// Records whom the announcements of a coordinate list, in place of the previous record: one page of what differs.
    /// Returns how many that were, and how many of them are not listed any more.
    fn note_listings_page(coordinate: &Coordinate, listing: &Listing) -> (usize, usize) =
        ("index the maintainers of an announcement",
         |argv| listing.of_kinds().into_iter().fold(argv.arg(coordinate), Argv::json),
         Ok);

    /// Returns the repositories whose announcements, held or served, list the owner of one of these coordinates, with
    /// the same identifier, as maintainer: at most `count_max`, of each coordinate those with a served one first.
    pub fn listing(coordinates: &BTreeSet<Coordinate>, count_max: usize) -> BTreeSet<Coordinate> =
        ("read who lists an author", |argv| argv.bounded(count_max).args(coordinates), decode::coordinates);

    /// Marks one page of held events for a reconcile, and returns the cursor of the next one: two texts, `"0"` and
    /// empty for the first page, and again after the last.
    pub fn mark_held_page(cursor: &(String, String)) -> (String, String) =
        ("mark everything held dirty", |argv| argv.arg(&cursor.0).arg(&cursor.1), Ok);

    /// Returns the number of the last change.
    pub fn last_change() -> u64 =
        ("read the last change", |argv| argv, Ok);

    /// Returns how many coordinates are dirty, or have PRs to reconcile, whose number is above `after` and at most
    /// `until`.
    pub fn dirty_between(after: u64, until: u64) -> usize =
        ("count dirty coordinates", |argv| argv.arg(after).arg(until), Ok);

    /// Returns a page of what there is, from `cursor` on, `"0"` at first.
    pub fn list_page(index: InventoryIndex, cursor: &str) -> InventoryPage =
        ("list entries", |argv| argv.index(index).arg(cursor), decode::listed);

    /// Returns a page of the index members of a coordinate's PRs, those behind `after`.
    fn pull_requests_page(coordinate: &Coordinate, after: &str) -> Vec<String> =
        ("list the PRs of a repository", |argv| argv.arg(coordinate).arg(after), Ok);

    /// Counts what there is.
    pub fn counts() -> InventoryCounts =
        ("count entries", |argv| argv, |raw| Ok(decode::counts(raw)));

    /// Removes an entry in any status, and returns that status; `None`: there is none.
    pub fn drop_entry(event_id: &EventId) -> Option<EntryStatus> =
        ("drop an entry", |argv| argv.arg(event_id), |status: String| Ok(EntryStatus::named(&status)));

    /// Reports the settings of a program for so many seconds, unless `settings` is empty, and returns the last reports
    /// of gateways and of plugins; empty: none.
    pub fn report_settings(program: &str, settings: &str, secs: u64) -> (String, String) =
        ("write the settings", |argv| argv.arg(program).arg(settings).bounded(secs), Ok);

    /// Records a refusal, for an operator, in place of the oldest if there are many. Not when Redis is full.
    pub fn note_refusal(refusal: &NotedRefusal) -> () =
        ("note a refusal", |argv| argv.refusal(refusal), |_: u64| Ok(()));

    /// Returns a page of refusals with their times, the latest first, after the first `skipped`.
    fn refusals_page(skipped: usize) -> Vec<(u64, NotedRefusal)> =
        ("list refusals", |argv| argv.arg(skipped), decode::refusals);

    /// Adds to counts of decisions, which are fewer than a hundred by name.
    pub fn add_decisions(counts: &[(String, u64)]) -> () =
        ("count decisions", |argv| counts.iter().fold(argv, |argv, (name, count)| argv.arg(name).arg(count)),
         |_: u64| Ok(()));

    /// Returns counts of decisions by these names.
    pub fn decisions(names: &[String]) -> Vec<u64> =
        ("read counts of decisions", |argv| argv.args(names), Ok);

    /// Makes an event due that is releasing or stuck, and returns whether it is one.
    pub fn make_due(event_id: &EventId) -> bool =
        ("make an event due", |argv| argv.arg(event_id), Ok);
}

impl Purgatory {
    /// Makes a purgatory that ends with this process.
    pub fn in_memory(limits: Limits, clock: Clock) -> Self {
        Self::new(Backend::Memory(MemoryStore::new(clock)), limits)
    }

    /// Makes a purgatory in Redis. If that cannot be reached now, operations fail until it can.
    ///
    /// # Errors
    /// [`PurgatoryError::Url`].
    pub async fn connect(settings: &RedisSettings, limits: Limits) -> Result<Self, PurgatoryError> {
        let redis = RedisStore::new(settings)?;
        redis.load(&SCRIPTS.all()).await;
        Ok(Self::new(Backend::Redis(redis), limits))
    }

    fn new(backend: Backend, limits: Limits) -> Self {
        Self {
            backend,
            limits: Live::new(limits),
            clock_jumps: Arc::default(),
            last_lease: Arc::default(),
        }
    }

    /// Returns how long an event is held, in seconds.
    pub fn hold_secs(&self) -> u64 {
        self.limits.get().hold.as_secs()
    }

    /// Changes the limits, for all clones. What is held already stays.
    pub fn set_limits(&self, limits: Limits) {
        self.limits.set(limits);
    }

    /// Returns the problems that can lose held events or keep the server from being used.
    ///
    /// # Errors
    /// [`PurgatoryError::TooOld`] if the scripts cannot run on it.
    pub async fn check_server(&self) -> Result<Vec<ServerFault>, PurgatoryError> {
        match &self.backend {
            Backend::Redis(redis) => redis.check_server().await,
            Backend::Memory(_) => Ok(Vec::new()),
        }
    }

    /// Listens for changes from now on, for as long as the result lives. Must be called inside a tokio runtime.
    pub fn notifications(&self) -> Notifications {
        Notifications::new(match &self.backend {
            Backend::Redis(redis) => redis.listen(),
            Backend::Memory(memory) => memory.listen(),
        })
    }

    /// Returns the last lease that a read has found, see [`Reading::last_lease`]; empty: none has.
    pub fn last_lease_read(&self) -> String {
        self.last_lease.lock().clone()
    }

    /// Calls a script, and returns its answer as `decode` reads it.
    async fn call<T: FromRedisValue, A>(
        &self,
        script: &'static PurgatoryScript,
        arguments: impl FnOnce(Argv) -> Argv,
        decode: impl FnOnce(T) -> Result<A, Malformed>,
    ) -> Result<A, PurgatoryError> {
        let operation = script.name;
        let argv = arguments(Argv::new(self.limits.get()));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_adds_is_refused_by_a_full_redis() {
        let refused: Vec<_> = SCRIPTS
            .all()
            .into_iter()
            .map(|script| (script.name, script.source().lines().next().unwrap().to_owned()))
            .filter(|(_, first_line)| first_line != "#!lua flags=allow-oom")
            .collect();

        let refused: Vec<_> = refused.iter().map(|(name, _)| *name).collect();
        let adding = [
            "hold an event",
            "record deletions",
            "record a placeholder",
            "note a refusal",
        ];
        assert_eq!(refused, adding);
    }
}
