//! One reconcile of some coordinates: reads facts and disk, decides, and acts (docs/ARCHITECTURE.md rule 4).
//!
//! It serves a push, an event that arrived, the recovery after a crash and the daily re-check. `shared::rules` decides
//! what must be done; here it is done.

mod attempts;
mod by_author;
mod carry_out;
pub(crate) mod error;
mod in_flight;
pub(crate) mod known_events;
pub(crate) mod large_loads;
mod noted;
pub(crate) mod paused;
pub(crate) mod publish;
pub(crate) mod pull_request_events;
pub(crate) mod reconciled;

use std::collections::BTreeSet;
use std::time::Duration;

use shared::live::Live;
use shared::load_facts::FactLoader;
use shared::rules::Disk;
use shared::rules::Plan;
use shared::rules::PlanSettings;
use shared::rules::plan;

use crate::logged::logged;
use crate::reconcile::attempts::Attempts;
use crate::reconcile::attempts::Failed;
use crate::reconcile::carry_out::change_repositories;
use crate::reconcile::carry_out::clear_notes;
use crate::reconcile::carry_out::end_parts;
use crate::reconcile::carry_out::sync_unchanged;
use crate::reconcile::carry_out::unstage;
use crate::reconcile::error::ReconcileError;
use crate::reconcile::known_events::KnownEvents;
use crate::reconcile::large_loads::LargeLoads;
pub(crate) use crate::reconcile::large_loads::Loaded;
use crate::reconcile::noted::clear_dirty;
use crate::reconcile::noted::end_and_expire;
use crate::reconcile::noted::growing;
use crate::reconcile::noted::mark_others;
use crate::reconcile::noted::note_remaining;
use crate::reconcile::noted::read_whole;
use crate::reconcile::paused::PausedPullRequests;
use crate::reconcile::publish::Publisher;
use crate::reconcile::pull_request_events::PullRequestEvents;
pub(crate) use crate::reconcile::reconciled::Reconciled;
use crate::reconcile::reconciled::with_ages;
use crate::repositories::LockedRepositories;
use crate::repositories::Repositories;
use crate::repositories::changes::Changes;

/// Brings repositories to the state that the facts demand, and marks complete events as releasing.
pub(crate) struct Reconciler {
    /// Where facts come from.
    pub(crate) loader: FactLoader,
    /// The repositories on disk.
    pub(crate) repositories: Repositories,
    /// What brings complete events into the relay.
    pub(crate) publisher: Publisher,
    /// What readers must load again.
    pub(crate) changes: Changes,
    /// Which repositories the events speak of that were read.
    pub(crate) known_events: KnownEvents,
    /// Which PRs have refs here.
    pub(crate) pull_request_events: PullRequestEvents,
    /// Which PRs are not to be tried again yet.
    pub(crate) paused: PausedPullRequests,
    /// What loads facts, in slots where they take much memory.
    pub(crate) large_loads: LargeLoads,
    /// How long things last and how much there may be.
    pub(crate) settings: Live<PlanSettings>,
}

impl Reconciler {
    /// Reconciles the coordinates that are locked, on facts that were loaded since. What raises a dirty number after
    /// that is not missed: the mark is cleared only up to the number that was read.
    ///
    /// # Errors
    /// See [`ReconcileError`].
    pub(crate) async fn reconcile(
        &self,
        locked: &mut LockedRepositories<'_>,
        loaded: &mut Loaded,
    ) -> Result<Reconciled, ReconcileError> {
        let _changing = self.changes.making(loaded.facts.covered.coordinates.clone());
        tracing::debug!(
            coordinates = loaded.facts.covered.coordinates.len(),
            "reconcile repositories"
        );
        self.known_events.note(&loaded.facts);
        let mut attempts = Attempts {
            broken: clear_notes(locked, &loaded.facts).await,
            uninstallable: self.paused.among(&loaded.scope),
            ..Attempts::default()
        };
        loop {
            let (plan, disk) = self.plan(locked, loaded, &attempts).await;
            if self.leave(locked, loaded, &plan, &mut attempts).await? {
                continue;
            }
            // Before the objects: other events that they complete are reconciled afterwards.
            let growing = growing(&plan, &loaded.dirty);
            if !growing.is_empty() {
                self.loader.purgatory.mark_dirty(&growing).await?;
            }
            let changed = change_repositories(locked, &plan, &mut attempts).await;
            self.pull_request_events.note_installed(&attempts.installed);
            self.paused.end(&attempts.installed);
            if let Err(failed) = changed {
                if let Failed::Installation(coordinate, event_id) = &failed {
                    self.paused.begin(coordinate, *event_id, PAUSE_MIN..=PAUSE_MAX);
                }
                attempts.note_failed(failed);
                continue;
            }
            // Others may copy it now, and nothing of it is wanted aside any more.
            if attempts.note_moved_in(&plan) {
                continue;
            }
            return self.act(locked, loaded, plan, disk, attempts).await;
        }
    }

    /// Reads the disk and plans the changes.
    async fn plan(
        &self,
        locked: &LockedRepositories<'_>,
        Loaded { facts, scope, .. }: &Loaded,
        attempts: &Attempts,
    ) -> (Plan, Disk) {
        let mut disk = self.repositories.read(facts, &scope.pull_request_ids, locked).await;
        disk.broken.extend(attempts.broken.iter().cloned());
        disk.uninstallable.extend(attempts.uninstallable.iter().cloned());
        let mut considered = disk.clone();
        considered.broken.extend(attempts.left.iter().cloned());
        let mut plan = plan(facts, &considered, &self.settings.get());
        plan.confine_to(locked.coordinates());
        (plan, disk)
    }

    /// Locks repositories that a plan also needs, or leaves them to another reconcile, and returns whether there are
    /// any: then the plan changes. Those whose locks are free are locked, once, and the facts about them are read
    /// again.
    async fn leave(
        &self,
        locked: &mut LockedRepositories<'_>,
        loaded: &mut Loaded,
        plan: &Plan,
        attempts: &mut Attempts,
    ) -> Result<bool, ReconcileError> {
        let unlocked: BTreeSet<_> = plan.needed().difference(locked.coordinates()).cloned().collect();
        if unlocked.is_empty() {
            return Ok(false);
        }
        if !attempts.has_tried_to_lock && locked.try_extend(&unlocked).await? {
            let slot = loaded.slot.take();
            let slots = &self.large_loads.others;
            ((loaded.facts, loaded.dirty), loaded.slot) = self.large_loads.load_in(slots, slot, &loaded.scope).await?;
        } else {
            attempts.left.extend(unlocked);
        }
        attempts.has_tried_to_lock = true;
        Ok(true)
    }

    /// Writes the plan to the purgatory; each step has the reason for its place. The refs are set already: events that
    /// are marked as releasing can be fetched.
    async fn act(
        &self,
        locked: &LockedRepositories<'_>,
        loaded: &Loaded,
        mut plan: Plan,
        disk: Disk,
        Attempts {
            aligned,
            left,
            unprepared,
            ..
        }: Attempts,
    ) -> Result<Reconciled, ReconcileError> {
        let Loaded { facts, scope, .. } = loaded;
        for coordinate in &plan.data_missing {
            let text = "the repository's data is missing: not served until it is pushed again";
            tracing::error!(repo.coordinate = %coordinate, text);
        }
        let purgatory = &self.loader.purgatory;
        sync_unchanged(locked, &plan, &aligned, &disk.broken).await?;
        // What fails of another repository is tried again when that is reconciled.
        let (broken, foreign): (BTreeSet<_>, BTreeSet<_>) =
            (disk.broken.into_iter()).partition(|coordinate| scope.coordinates.contains(coordinate));
        let others = left.iter().cloned().chain(foreign);
        let is_aligned = !aligned.is_empty();
        mark_others(purgatory, (facts, scope), (&plan, is_aligned), others.collect()).await?;
        if !read_whole(purgatory, &facts.covered, &mut plan.releases).await? {
            // The others are planned again, behind other repositories.
            purgatory.mark_dirty(&scope.coordinates).await?;
        }
        let marked = self.publisher.mark_releasing(&plan.releases).await?;
        let mut reconciled = Reconciled {
            leased: marked.leased,
            waiting: marked.waiting,
            broken,
            uninstallable: with_ages(facts, disk.uninstallable),
            unprepared,
            left,
            ..Reconciled::default()
        };
        let ended = self.end(locked, loaded, (&mut plan, is_aligned), &mut reconciled).await;
        // What this reconcile has leased is its caller's to publish, whatever fails behind it.
        if let Err(error) = ended {
            if reconciled.leased.is_empty() {
                return Err(error);
            }
            tracing::warn!(
                error = logged(&error),
                "cannot record all that a reconcile has decided, will try again"
            );
            reconciled.broken.extend(scope.coordinates.iter().cloned());
        }
        reconciled.staged = disk.staged.difference(&plan.unstage).cloned().collect();
        reconciled.lacking = plan.lacking;
        reconciled.undecided = plan.undecided;
        reconciled.also_lock = plan.also_lock;
        Ok(reconciled)
    }

    /// Ends what a plan ends, in the purgatory and then on the disk, and clears the marks that were read.
    async fn end(
        &self,
        locked: &LockedRepositories<'_>,
        Loaded {
            facts, scope, dirty, ..
        }: &Loaded,
        (plan, is_aligned): (&mut Plan, bool),
        reconciled: &mut Reconciled,
    ) -> Result<(), ReconcileError> {
        let purgatory = &self.loader.purgatory;
        end_and_expire(purgatory, facts, plan).await?;
        note_remaining(purgatory, facts, plan).await?;
        reconciled.still_staged = unstage(locked, plan).await;
        reconciled.broken.extend(end_parts(locked, plan).await);
        // What failed stays dirty, and is tried again; a PR by itself.
        if reconciled.broken.is_empty() {
            clear_dirty(purgatory, (facts, scope), dirty, (plan, is_aligned)).await?;
        }
        Ok(())
    }
}

/// Between two attempts to set the ref of one PR, while the disk fails: as for a repository.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(64);
