//! What the purgatory records in addition to the outcomes of events: which PRs to reconcile again, and what each event
//! waits for.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use nostr::event::EventId;
use shared::load_facts::FactsScope;
use shared::nip34::Coordinate;
use shared::purgatory::DirtyNumber;
use shared::purgatory::Expiry;
use shared::purgatory::Purgatory;
use shared::purgatory::PurgatoryError;
use shared::purgatory::Release;
use shared::refusal_log::excerpt;
use shared::rules::Facts;
use shared::rules::Installation;
use shared::rules::InstallationSource;
use shared::rules::Plan;

/// Logs that an event has expired, and what it waited for.
pub(super) fn log_expired(facts: &Facts, event_id: &EventId, expiry: Expiry) {
    let Some(entry) = facts.entries.get(event_id) else {
        return;
    };
    let repositories: Vec<String> = entry.coordinates.iter().map(ToString::to_string).collect();
    tracing::info!(
        event.id = %event_id,
        event.kind = entry.event.kind.as_u16(),
        event.author = %entry.event.pubkey,
        repositories = excerpt(&repositories.join(" ")),
        waited_for = excerpt(&entry.waiting_for),
        ?expiry,
        "expired"
    );
}

/// Marks the PRs for a reconcile that are offered to other members of a changed repository: they may belong into it.
/// Its own PRs are reconciled when its dirty mark is cleared.
pub(super) async fn look_at_members(
    purgatory: &Purgatory,
    (facts, scope): (&Facts, &FactsScope),
    plan: &Plan,
) -> Result<(), PurgatoryError> {
    let is_aligned = !plan.alignments.is_empty();
    let is_of_pull_request = |release: &Release| facts.pull_request(&release.event.id).is_some();
    if is_aligned || !plan.releases.iter().all(is_of_pull_request) {
        let covered = facts.covered.coordinates.iter();
        let members = covered.filter(|at| !scope.coordinates.contains(at));
        purgatory.begin_rounds(&members.cloned().collect()).await?;
    }
    Ok(())
}

/// Returns the homes of released events that others list whom these facts do not reach.
pub(super) fn unsettled_homes(facts: &Facts, releases: &[Release]) -> BTreeSet<Coordinate> {
    let homes = releases.iter().flat_map(|release| &release.coordinates);
    homes.filter(|home| !facts.is_settled(home)).cloned().collect()
}

/// Returns the repositories that get objects by a plan and that no reconcile visits again: dirty ones are visited
/// anyway.
pub(super) fn growing(plan: &Plan, dirty: &BTreeMap<Coordinate, DirtyNumber>) -> BTreeSet<Coordinate> {
    let brought = |installation: &&Installation| installation.source != InstallationSource::Here;
    let installed = plan
        .installations
        .iter()
        .filter(brought)
        .map(|installation| &installation.coordinate);
    installed.filter(|at| !dirty.contains_key(at)).cloned().collect()
}

/// Returns the notes on what entries wait for that differ from those written.
pub(super) fn changed_notes(facts: &Facts, waiting: &BTreeMap<EventId, String>) -> BTreeMap<EventId, String> {
    let written = |event_id: &EventId| facts.entries.get(event_id).map(|entry| entry.waiting_for.as_str());
    waiting
        .iter()
        .filter(|(event_id, text)| written(event_id) != Some(text.as_str()))
        .map(|(event_id, text)| (*event_id, text.clone()))
        .collect()
}
