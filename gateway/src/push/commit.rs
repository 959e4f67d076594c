//! The end of a push: under the repository's lock it is decided again, its objects move in, and a reconcile on the same
//! facts aligns and releases (docs/ARCHITECTURE.md rules 5 to 8).

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::IpAddr;

use futures_util::future::try_join_all;
use shared::git::Oid;
use shared::git::RefName;
use shared::load_facts::FactsScope;
use shared::nip34::Coordinate;
use shared::purgatory::Leased;
use shared::purgatory::PlaceholderOutcome;
use shared::rules::PushDecision;
use shared::rules::SourceTag;
use shared::rules::Staged;

use crate::fairness::shares::AllInUse;
use crate::fairness::shares::Claim;
use crate::push::error::PushError;
use crate::push::request::PushRequest;
use crate::reconcile::Loaded;
use crate::reconcile::Reconciler;
use crate::repositories::LockQueue;
use crate::repositories::LockedRepository;
use crate::repositories::Repositories;
use crate::repositories::received::Received;

pub(super) struct Committed {
    pub(super) decision: PushDecision,
    /// The events that are this push's to publish.
    pub(super) leased: Vec<Leased>,
}

/// Commits a push that brought `received`: lock, in this queue, mark dirty, load facts once, decide, move objects,
/// reconcile on those facts. It has its claim until it has the lock.
pub(super) async fn commit(
    reconciler: &Reconciler,
    request: &PushRequest,
    (received, claim): (Option<Received>, Claim),
    queue: LockQueue,
) -> Result<Committed, PushError> {
    let Reconciler {
        repositories, loader, ..
    } = reconciler;
    let coordinate = &request.coordinate;
    let coordinates = BTreeSet::from([coordinate.clone()]);
    let mut locked = tokio::select! {
        locked = repositories.lock_in(queue, &coordinates) => locked?,
        () = request.gives_way(&claim) => return Err(PushError::GaveWay),
    };
    request.memory.protect().map_err(|AllInUse| PushError::GaveWay)?;
    drop(claim);
    // Before the facts, so that they include it: a gateway that dies from here on leaves the mark, and a worker
    // finishes.
    let pull_request_ids = request.pull_request_ids();
    loader
        .purgatory
        .mark_unreconciled(coordinate, &pull_request_ids)
        .await?;
    // A stranger's PR has nothing else of the repository reconciled.
    if pull_request_ids.len() < request.list.commands.len() {
        loader.purgatory.mark_dirty(&coordinates).await?;
    }
    let scope = FactsScope {
        coordinates,
        pull_request_ids,
        ..FactsScope::default()
    };
    // Before anything is decided by what it holds.
    let repository = locked.repository(coordinate)?;
    let loads = &reconciler.large_loads;
    let mut loaded = loads.load(&locked, scope, &loads.of_pushes).await?;
    let on_disk = repositories.at(coordinate);
    let Some(mut decision) = request.decide(&loaded.facts, on_disk.refs()).await? else {
        return Err(PushError::Gone);
    };
    judge_tips(repositories, coordinate, &mut decision, received.as_ref()).await?;
    let mut leased = Vec::new();
    if decision.acts() {
        move_objects(
            reconciler,
            &repository,
            &mut loaded,
            &decision,
            request.pusher,
            received,
        )
        .await?;
        // What an owner pushes may be what any of them lacked.
        let is_owners = !decision.allowed_tips().is_empty();
        let pushed = request.pull_request_ids();
        let is_meant = |event_id: &_| is_owners || pushed.contains(event_id);
        reconciler.paused.skip(coordinate, is_meant);
        let reconciled = reconciler.reconcile(&mut locked, &mut loaded).await;
        let is_done = matches!(&reconciled, Ok(reconciled) if reconciled.is_done_for(coordinate));
        judge_result(repositories, coordinate, &mut decision, is_done).await;
        match reconciled {
            Ok(reconciled) => {
                decision.judge_room(coordinate, &reconciled.lacking, &reconciled.staged);
                decision.awaited.extend(reconciled.waiting);
                leased = reconciled.leased;
            }
            Err(error) => log_unfinished(coordinate, &error),
        }
    }
    tracing::info!(repo.coordinate = %coordinate, commands = decision.commands.len(), refused = decision.refused(), is_kept_aside = decision.is_part(), "push decided");
    Ok(Committed { decision, leased })
}

/// Judges the commands by what is on disk now, whatever was decided: that is what the pusher is told.
async fn judge_result(
    repositories: &Repositories,
    coordinate: &Coordinate,
    decision: &mut PushDecision,
    is_done: bool,
) {
    match repositories.at(coordinate).refs().await {
        Ok(refs) => {
            let refs = refs.map(|snapshot| snapshot.refs).unwrap_or_default();
            decision.judge_result(&refs, is_done);
            if let Err(error) = judge_parts(repositories, coordinate, decision, &refs).await {
                log_unfinished(coordinate, &error);
            }
        }
        Err(error) => {
            log_unfinished(coordinate, &error);
            decision.judge_result(&BTreeMap::new(), false);
        }
    }
    if !is_done {
        // Its refs may be set all the same, when something else could not be changed behind them.
        decision.notes.push(RELEASED_LATER.to_owned());
    }
}

/// Judges the commands by the objects that they name, those of the repository and those that came.
async fn judge_tips(
    repositories: &Repositories,
    coordinate: &Coordinate,
    decision: &mut PushDecision,
    received: Option<&Received>,
) -> Result<(), PushError> {
    let kept = repositories.kept(coordinate, decision.parts_of()).await?;
    let builds_on = received.and_then(Received::builds_on);
    let is_kept = builds_on == kept.as_ref().map(|kept| kept.state_id);
    // A ref that has its value by now needs nothing.
    if builds_on.is_some() && !is_kept && !decision.allowed_tips().is_empty() {
        return Err(PushError::StateReplaced);
    }
    let brought = received.map(|received| received.whole().object_dir().to_owned());
    let places = kept.map(|kept| kept.object_dir).into_iter().chain(brought);
    let kinds = repositories.object_kinds(coordinate, places, &decision.tips()).await?;
    decision.judge_tips(&kinds);
    Ok(())
}

/// Judges a part of a state by the objects that are present now.
async fn judge_parts(
    repositories: &Repositories,
    coordinate: &Coordinate,
    decision: &mut PushDecision,
    refs: &BTreeMap<RefName, Oid>,
) -> Result<(), PushError> {
    if let Some(state) = decision.state.as_ref().filter(|_| decision.is_part()) {
        let kept = repositories.kept(coordinate, decision.parts_of()).await?;
        let kept = kept.map(|kept| kept.object_dir);
        let here = repositories.object_kinds(coordinate, kept, &state.tips()).await?;
        decision.judge_parts(refs, &here.into_keys().collect());
    }
    Ok(())
}

/// Moves the objects to where they belong: PR commits aside, with their record first, and what a state declares
/// into the repository, or aside too where that is not all of it yet.
async fn move_objects(
    reconciler: &Reconciler,
    repository: &LockedRepository<'_>,
    loaded: &mut Loaded,
    decision: &PushDecision,
    pusher: IpAddr,
    received: Option<Received>,
) -> Result<(), PushError> {
    let Some(received) = received else { return Ok(()) };
    let to_stage = decision.to_stage(repository.reading().coordinate());
    // One whose event is here needs no placeholder: what that names stays staged.
    let is_unknown = |staged: &&Staged| decision.before_event.contains(&(staged.event_id, staged.commit_oid));
    let unknown: Vec<&Staged> = to_stage.iter().filter(is_unknown).collect();
    record(reconciler, &unknown, pusher, loaded).await?;
    let (tips, tag) = (decision.allowed_tips(), SourceTag::of_address(pusher));
    repository.stage(&to_stage, &received, tag).await?;
    match &decision.state {
        _ if tips.is_empty() => {}
        // All parts move in together.
        Some(state) if decision.is_part() || received.builds_on().is_some() => {
            repository.keep_part(&state.event_id, received, &tips).await?;
        }
        state => repository.take_in(received, &tips, state.as_ref()).await?,
    }
    Ok(())
}

/// Records that PR commits are kept aside, in Redis and in the facts. All at once: Redis makes them durable
/// together, and others wait for the lock.
async fn record(
    reconciler: &Reconciler,
    unknown: &[&Staged],
    pusher: IpAddr,
    loaded: &mut Loaded,
) -> Result<(), PushError> {
    let purgatory = &reconciler.loader.purgatory;
    let hold_secs = purgatory.hold_secs();
    let recorded = unknown.iter().map(|staged| {
        let (event_id, coordinate) = (&staged.event_id, &staged.coordinate);
        purgatory.put_placeholder(event_id, coordinate, staged.commit_oid, hold_secs, Some(pusher))
    });
    let recorded = try_join_all(recorded).await?;
    for (staged, outcome) in unknown.iter().zip(recorded) {
        match outcome {
            PlaceholderOutcome::Recorded => loaded.facts.note_placeholder(staged, hold_secs),
            PlaceholderOutcome::Full(limit) => return Err(PushError::NoPlaceholder(limit)),
        }
    }
    Ok(())
}

fn log_unfinished(coordinate: &Coordinate, error: &(dyn std::error::Error + 'static)) {
    tracing::warn!(repo.coordinate = %coordinate, error, "the push is stored but its events are not released yet, will try again");
}

/// What a pusher reads whose repository could not be reconciled to the end.
const RELEASED_LATER: &str = "stored; the events will be released as soon as possible";
