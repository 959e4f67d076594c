//! What readers get for a coordinate: from the facts and the disk, loaded once for all requests within a second.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use quick_cache::sync::Cache;
use shared::git::Oid;
use shared::git::RefName;
use shared::load_facts::FactLoader;
use shared::load_facts::FactsError;
use shared::load_facts::FactsScope;
use shared::nip34::Coordinate;
use shared::relay_client::RelayError;
use shared::rules::Facts;
use shared::rules::Hosting;
use shared::rules::PushedState;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::fetch::advertised::Advertised;
use crate::fetch::askers::Askers;
use crate::fetch::cache::Audience;
use crate::fetch::cache::ReadCache;
use crate::fetch::finding::Finding;
use crate::fetch::finding::Found;
use crate::fetch::load_slots::LoadSize;
use crate::fetch::load_slots::LoadSlots;
use crate::logged::logged;
use crate::meter::Meter;
use crate::repositories::Repositories;
use crate::repositories::changes::Changes;
use crate::repositories::error::RepositoryError;
use crate::repositories::refs::RefSnapshot;
use crate::repositories::repository::Repository;

pub(crate) struct Reader {
    pub(crate) loader: FactLoader,
    repositories: Repositories,
    cache: ReadCache<Finding>,
    slots: LoadSlots,
    /// The bytes of the facts that may be kept while a reconcile is waited for.
    waiting: Semaphore,
    /// How often somebody has asked, and how often that was loaded.
    asked: Meter<1>,
    loaded: Meter<1>,
    changes: Changes,
    /// When repositories were last marked dirty here: clients ask for a broken one again and again.
    marked: Cache<Coordinate, Instant>,
    /// What a repository without refs offers.
    nothing: Arc<Advertised>,
}

impl Reader {
    /// Reads repositories in `repositories` by the facts of `loader`, and again when `changes` counts a change. Keeps
    /// at most so many bytes of the results.
    pub(crate) fn new(loader: FactLoader, repositories: Repositories, changes: Changes, cache_bytes_max: u64) -> Self {
        Self {
            // Anybody may read anything: pushes and reconciles do not wait for what that asks the relay.
            loader: FactLoader {
                relay: loader.relay.apart(),
                ..loader
            },
            repositories,
            cache: ReadCache::new(changes.clone(), cache_bytes_max),
            slots: LoadSlots::new(),
            waiting: Semaphore::new(WAITING_BYTES_MAX),
            asked: Meter::default(),
            loaded: Meter::default(),
            changes,
            marked: Cache::new(MARKED_MAX),
            nothing: Arc::new(Advertised::new(Arc::new(RefSnapshot::empty()))),
        }
    }

    /// Changes how many bytes of results are kept.
    pub(crate) fn set_cache_bytes_max(&self, bytes_max: u64) {
        self.cache.set_bytes_max(bytes_max);
    }

    pub(super) fn nothing(&self) -> &Arc<Advertised> {
        &self.nothing
    }

    /// Returns what a reader at `address` finds at `coordinate`: as it was at most a second ago, and not before a
    /// change that this gateway has made or seen.
    ///
    /// It may be large, and is kept for others within a bound: a caller drops it before it waits for a client.
    pub(crate) async fn find(&self, coordinate: &Coordinate, address: IpAddr) -> Arc<Finding> {
        self.asked.add(0, 1);
        let access = self.loader.access.current();
        // Boxed: loads are rare, and their state would be part of every request.
        let load = |before, askers| Box::pin(self.load(coordinate, before, askers));
        self.cache.get(coordinate, &access, address, load).await
    }

    /// Loads what a push has changed, for the first who asks: the load takes milliseconds where there are thousands of
    /// refs. The pusher's `address` pays for it, and the result is kept no longer than any other.
    pub(crate) fn load_ahead(self: &Arc<Self>, coordinate: &Coordinate, address: IpAddr) {
        let (reader, coordinate) = (Arc::clone(self), coordinate.clone());
        tokio::spawn(async move { drop(reader.find(&coordinate, address).await) });
    }

    /// Returns what a pusher gets: the refs that are on disk now. A push names them as the old values, and another
    /// gateway may have changed them within the last second.
    pub(super) async fn find_to_push(&self, coordinate: &Coordinate, address: IpAddr) -> Arc<Finding> {
        let finding = self.find(coordinate, address).await;
        let Found::Readable { advertised, .. } = &finding.found else {
            return finding;
        };
        let is_current = match self.repositories.at(coordinate).cached_refs().await {
            Ok(Some(refs)) => *advertised.refs() == refs,
            Ok(None) => Arc::ptr_eq(advertised, &self.nothing),
            Err(_) => false,
        };
        if is_current {
            return finding;
        }
        self.changes.note(coordinate);
        self.find(coordinate, address).await
    }

    /// Returns the objects that a push of another part of the newest state need not send: those that are kept aside
    /// with it. Not those of an older state: a push builds only on the parts of its own state.
    pub(super) async fn haves(self: &Arc<Self>, coordinate: &Coordinate, finding: &Arc<Finding>) -> Vec<Oid> {
        if let Some(haves) = finding.known_haves() {
            return haves.to_vec();
        }
        // Of most repositories nothing is.
        if !self.repositories.keeps_parts(coordinate).await.unwrap_or(true) {
            return Vec::new();
        }
        let (reader, coordinate, finding) = (Arc::clone(self), coordinate.clone(), Arc::clone(finding));
        // What has begun ends, whether its client waits for it or not: the next one would begin again.
        let looked_up = tokio::spawn(async move {
            let looked_up = reader.look_up_haves(&coordinate, &finding);
            let haves = finding.haves(looked_up).await.to_vec();
            reader.weigh(&coordinate, &finding);
            haves
        });
        // It could only have panicked.
        looked_up.await.unwrap_or_default()
    }

    async fn look_up_haves(&self, coordinate: &Coordinate, finding: &Finding) -> Vec<Oid> {
        let facts = finding.facts.as_ref();
        let pushed = facts.and_then(|facts| PushedState::expected(facts, coordinate));
        match self.repositories.kept(coordinate, pushed.as_ref()).await {
            Ok(kept) => kept.map(|kept| kept.tips).unwrap_or_default(),
            Err(error) => {
                tracing::warn!(repo.coordinate = %coordinate, error = logged(&error), "cannot read the parts of a state");
                Vec::new()
            }
        }
    }

    /// Counts what a finding takes now that an answer was made of it, which it may have come to keep.
    pub(crate) fn weigh(&self, coordinate: &Coordinate, finding: &Arc<Finding>) {
        self.cache.weigh(coordinate, finding);
    }

    /// Returns what a reader would find without anything being loaded.
    pub(crate) fn recent(&self, coordinate: &Coordinate) -> Option<Arc<Finding>> {
        self.cache.peek(coordinate, &self.loader.access.current())
    }

    pub(crate) fn counts(&self) -> (u64, u64) {
        let ([asked], [loaded]) = (self.asked.counts(), self.loaded.counts());
        (asked, loaded)
    }

    async fn load(&self, coordinate: &Coordinate, before: Option<Arc<Finding>>, askers: Arc<Askers>) -> Finding {
        self.loaded.add(0, 1);
        let first = self.load_once(coordinate, before.as_deref(), &askers).await;
        drop(before);
        if !first.found.is_at_earlier_state() {
            return first;
        }
        // Many may wait for a reconcile, and facts are large: there is room for so many.
        let room = first
            .facts_room()
            .and_then(|bytes| self.waiting.try_acquire_many(bytes).ok());
        let first = match room {
            Some(_) => first,
            None => first.without_facts(),
        };
        if !self.is_reconciled_soon(coordinate).await && first.facts.is_some() {
            return first;
        }
        let second = self.load_once(coordinate, Some(&first), &askers).await;
        match first.facts {
            // They cannot be read now, and the page can be shown by those of a moment ago.
            Some(facts) if second.facts.is_none() => {
                let (found, audience) = self.by_facts(coordinate, &facts, None).await;
                Finding::new(found, Some(facts), audience, first.load_size)
            }
            _ => second,
        }
    }

    async fn load_once(&self, coordinate: &Coordinate, before: Option<&Finding>, askers: &Askers) -> Finding {
        let mut size = before.map(|before| before.load_size).unwrap_or_default();
        match self.facts(coordinate, askers, &mut size).await {
            Ok(facts) => {
                let (found, audience) = self.by_facts(coordinate, &facts, before).await;
                Finding::new(found, Some(facts), audience, size)
            }
            Err(error) => {
                let found = self.without_facts(coordinate, &error).await;
                Finding::new(found, None, Audience::Waiting, size)
            }
        }
    }

    /// Waits a moment for a reconcile, and returns whether it came.
    async fn is_reconciled_soon(&self, coordinate: &Coordinate) -> bool {
        let deadline = Instant::now() + RECONCILE_WAIT;
        while Instant::now() < deadline {
            match self.loader.purgatory.dirty_number(coordinate).await {
                Ok(None) => return true,
                Ok(Some(_)) => tokio::time::sleep(RECONCILE_PAUSE).await,
                Err(_) => return false,
            }
        }
        false
    }

    /// Loads the facts for a reader. If the repository is on disk, gives up after [`FACTS_WAIT`].
    async fn facts(&self, coordinate: &Coordinate, askers: &Askers, size: &mut LoadSize) -> Result<Facts, FactsError> {
        let scope = FactsScope::of(coordinate);
        let facts = self.load_facts(&scope, askers, size);
        if !self.repositories.at(coordinate).may_exist().await {
            return facts.await;
        }
        let facts = tokio::time::timeout(FACTS_WAIT, facts).await;
        facts.unwrap_or(Err(FactsError::Relay(RelayError::Timeout)))
    }

    /// Loads facts that anybody may have asked for, in a slot for loads of this size, or of the next larger ones as
    /// long as they take more; `size` is then that of the last one, so that the next load begins there.
    pub(crate) async fn load_facts(
        &self,
        scope: &FactsScope,
        askers: &Askers,
        size: &mut LoadSize,
    ) -> Result<Facts, FactsError> {
        loop {
            let loaded = self.load_in(*size, scope, askers).await;
            match size.larger() {
                Some(larger) if loaded.as_ref().is_err_and(FactsError::is_too_large) => *size = larger,
                _ => return loaded,
            }
        }
    }

    /// Loads facts in a slot for loads of this size, unless they take more.
    async fn load_in(&self, size: LoadSize, scope: &FactsScope, askers: &Askers) -> Result<Facts, FactsError> {
        let is_on_disk = match scope.coordinates.first() {
            Some(coordinate) if size == LoadSize::Large => self.repositories.at(coordinate).may_exist().await,
            _ => false,
        };
        let slot = askers.acquire(self.slots.of(size, is_on_disk));
        let slot = tokio::time::timeout(SLOT_WAIT, slot).await;
        let _slot = slot.map_err(|_| FactsError::Busy)?;
        Ok(self.loader.load_within(size.bytes_max(), scope).await?.0)
    }

    async fn by_facts(&self, coordinate: &Coordinate, facts: &Facts, before: Option<&Finding>) -> (Found, Audience) {
        let repository = self.repositories.at(coordinate);
        let is_hosted = facts.hosting(coordinate) != Hosting::Absent;
        if !is_hosted || !facts.declares_refs(coordinate) {
            // Whatever is on disk, without a state that governs it nobody has declared it.
            return match repository.is_stateless().await {
                Ok(true) => (Found::NoState, Audience::Earlier),
                Ok(false) if !is_hosted => (Found::NotHosted, Audience::Earlier),
                Ok(false) => {
                    let found = Found::Readable {
                        path: repository.store().layout().empty_repository(),
                        advertised: Arc::clone(&self.nothing),
                    };
                    (found, Audience::Everybody)
                }
                Err(error) => (unreadable(coordinate, &error), Audience::Waiting),
            };
        }
        match repository.cached_refs().await {
            Ok(Some(refs)) => self.compare(coordinate, advertised(refs, before), facts).await,
            Ok(None) => {
                self.mark_dirty(coordinate).await;
                (Found::DataMissing(Arc::clone(&self.nothing)), Audience::Earlier)
            }
            Err(error) => (unreadable(coordinate, &error), Audience::Waiting),
        }
    }

    /// Serves a repository on disk without facts: a failure of Redis or the relay stops no clone. A repository that the
    /// operator's lists or a note on disk take down is not served then either.
    async fn without_facts(&self, coordinate: &Coordinate, error: &FactsError) -> Found {
        if !self.loader.access.current().permits(coordinate) {
            return Found::NotHosted;
        }
        let repository = self.repositories.at(coordinate);
        let refs = match repository.cached_refs().await {
            Ok(Some(refs)) => refs,
            Ok(None) => {
                tracing::warn!(repo.coordinate = %coordinate, error = logged(error), "cannot determine what is hosted");
                return Found::Unavailable;
            }
            Err(error) => return unreadable(coordinate, &error),
        };
        match note(&repository).await {
            Ok(None) => on_disk(&repository, Arc::new(Advertised::new(refs))),
            Ok(Some(found)) => found,
            Err(error) => unreadable(coordinate, &error),
        }
    }

    /// Compares a repository on disk with its governing state, which declares refs.
    async fn compare(&self, coordinate: &Coordinate, advertised: Arc<Advertised>, facts: &Facts) -> (Found, Audience) {
        let repository = self.repositories.at(coordinate);
        let declared = facts.declared(coordinate).map(|declared| &declared.refs);
        let declared = declared.into_iter().flatten();
        if declared.clone().eq(governed(advertised.refs())) {
            return (on_disk(&repository, advertised), Audience::Everybody);
        }
        self.mark_dirty(coordinate).await;
        // A repository that has just been made to be filled reads as one whose data is missing, not as empty.
        if governed(advertised.refs()).next().is_none() {
            return (Found::DataMissing(advertised), Audience::Earlier);
        }
        // With all the data here, a reconcile is just moving the refs.
        let oids: BTreeSet<Oid> = declared.map(|(_, oid)| *oid).collect();
        let found = match self.repositories.object_kinds(coordinate, [], &oids).await {
            Ok(found) if found.len() == oids.len() => on_disk(&repository, advertised),
            Ok(_) => Found::DataMissing(advertised),
            Err(error) => return (unreadable(coordinate, &error), Audience::Waiting),
        };
        (found, Audience::Earlier)
    }

    /// Marks a repository that is not at its state dirty, unless it was a moment ago: a reconcile brings it there, or
    /// logs that it cannot.
    async fn mark_dirty(&self, coordinate: &Coordinate) {
        let now = Instant::now();
        if self.marked.get(coordinate).is_some_and(|at| now - at < MARKED_FOR) {
            return;
        }
        self.marked.insert(coordinate.clone(), now);
        let coordinates = BTreeSet::from([coordinate.clone()]);
        if let Err(error) = self.loader.purgatory.mark_dirty(&coordinates).await {
            tracing::warn!(repo.coordinate = %coordinate, error = logged(&error), "cannot mark a repository dirty");
        }
    }
}

/// Returns refs with the answers that were made of them before, if they are the same.
fn advertised(refs: Arc<RefSnapshot>, before: Option<&Finding>) -> Arc<Advertised> {
    match before.and_then(Finding::advertised) {
        Some(before) if *before.refs() == refs => Arc::clone(before),
        Some(_) | None => Arc::new(Advertised::new(refs)),
    }
}

/// Returns what readers get instead of a repository on disk, by the notes in it.
async fn note(repository: &Repository) -> Result<Option<Found>, RepositoryError> {
    if repository.is_stateless().await? {
        return Ok(Some(Found::NoState));
    }
    // It may have been announced again since, which only facts can tell.
    let is_unhosted = repository.unhosted_since().await?.is_some();
    Ok(is_unhosted.then_some(Found::Unavailable))
}

fn on_disk(repository: &Repository, advertised: Arc<Advertised>) -> Found {
    Found::Readable {
        path: repository.path().to_owned(),
        advertised,
    }
}

fn unreadable(coordinate: &Coordinate, error: &(dyn std::error::Error + 'static)) -> Found {
    tracing::error!(repo.coordinate = %coordinate, error, "cannot read a repository");
    Found::Unavailable
}

fn governed(refs: &RefSnapshot) -> impl Iterator<Item = (&RefName, &Oid)> {
    refs.refs.iter().filter(|(name, _)| name.is_branch_or_tag())
}

/// For how long a reader waits for the relay and Redis where the repository is on disk: git asks three times in one
/// clone.
const FACTS_WAIT: Duration = Duration::from_secs(2);

/// For how long a load waits for others.
const SLOT_WAIT: Duration = Duration::from_secs(10);

/// For how long a reader waits where the repository follows a push to another one, by a worker that has to fetch the
/// objects from there.
const RECONCILE_WAIT: Duration = Duration::from_secs(2);

/// Memory of the facts of those that wait for that: what is beyond is loaded again.
const WAITING_BYTES_MAX: usize = 16 << 20;

const RECONCILE_PAUSE: Duration = Duration::from_millis(20);

/// Repositories of which it is remembered when they were marked dirty.
const MARKED_MAX: usize = 1_000;
/// For so long nobody marks one of them again.
const MARKED_FOR: Duration = Duration::from_secs(1);

/// For the results of the last seconds: some thousand repositories with few refs, or one with some hundred thousand.
pub(crate) const CACHE_BYTES_MAX: u64 = 48 << 20;
