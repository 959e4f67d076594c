//! The records of a plan in the purgatory, except for complete events, a function for each step (`mod.rs` has their
//! order): which PRs to reconcile again, which events end, and what each other event waits for.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use nostr::event::EventId;
use shared::load_facts::FactsScope;
use shared::nip01::memory_bytes;
use shared::nip34::Coordinate;
use shared::purgatory::DirtyNumber;
use shared::purgatory::Expiry;
use shared::purgatory::Purgatory;
use shared::purgatory::PurgatoryError;
use shared::purgatory::Release;
use shared::refusal_log::excerpt;
use shared::rules::Covered;
use shared::rules::Facts;
use shared::rules::Installation;
use shared::rules::InstallationSource;
use shared::rules::Plan;
use shared::rules::announcements_to_extend;
use shared::rules::listings_to_note;

/// Marks dirty the repositories that these facts do not include, or whose locks others hold, because a released event
/// may concern them. This comes before an event counts as served.
pub(super) async fn mark_others(
    purgatory: &Purgatory,
    (facts, scope): (&Facts, &FactsScope),
    (plan, is_aligned): (&Plan, bool),
    mut others: BTreeSet<Coordinate>,
) -> Result<(), PurgatoryError> {
    others.extend(unsettled_homes(facts, &plan.releases));
    if !others.is_empty() {
        purgatory.mark_dirty(&others).await?;
    }
    mark_members_unreconciled(purgatory, (facts, scope), (plan, is_aligned)).await
}

/// Reads those of these events again of which the facts have only a part; one that has left meanwhile is not released.
/// Returns whether these are all: what is more than may be released at once stays held until its repository is
/// reconciled again. Of PRs the facts have the whole, and none is left out.
pub(super) async fn read_whole(
    purgatory: &Purgatory,
    covered: &Covered,
    releases: &mut Vec<Release>,
) -> Result<bool, PurgatoryError> {
    let (mut left, mut are_all) = (RELEASED_BYTES_MAX, true);
    for mut release in std::mem::take(releases) {
        let id = release.event.id;
        let is_cut = covered.cut.contains(&id);
        if is_cut && left == 0 {
            are_all = false;
            continue;
        }
        if is_cut {
            let mut whole = purgatory.entries(&[id].into()).await?;
            let Some(entry) = whole.pop() else { continue };
            release.event = entry.event;
        }
        left = left.saturating_sub(memory_bytes(&release.event));
        releases.push(release);
    }
    Ok(are_all)
}

/// Extends and ends entries, before any of their objects are removed. Objects that are kept aside stay for the entries
/// that a push has extended meanwhile: it waits for this lock, and its earlier parts must still exist.
pub(super) async fn end_and_expire(
    purgatory: &Purgatory,
    facts: &Facts,
    plan: &mut Plan,
) -> Result<(), PurgatoryError> {
    // An entry that nothing decides about must not end by itself meanwhile.
    if !plan.undecided.is_empty() {
        purgatory.extend(&plan.undecided, purgatory.hold_secs()).await?;
    }
    let extended = announcements_to_extend(facts, plan);
    for (event_id, secs) in &extended {
        purgatory.extend(&[*event_id].into(), *secs).await?;
    }
    plan.expired.retain(|(event_id, _)| !extended.contains_key(event_id));
    if !plan.ended.is_empty() {
        purgatory.end(&plan.ended).await?;
    }
    let mut still_here = Vec::new();
    for (event_id, expiry) in &plan.expired {
        match purgatory.expire(event_id, *expiry).await? {
            true => log_expired(facts, event_id, *expiry),
            false => still_here.push(*event_id),
        }
    }
    plan.keep_aside(&still_here);
    // After the facts: a loss of the purgatory means that they are incomplete.
    if plan.removes() && purgatory.epoch().await?.is_unknown() {
        plan.keep_all_aside();
    }
    Ok(())
}

/// Ends placeholders, before their commits are removed, which the next reconcile finds without them; and notes what
/// the remaining entries wait for.
pub(super) async fn note_remaining(purgatory: &Purgatory, facts: &Facts, plan: &Plan) -> Result<(), PurgatoryError> {
    for placeholder in &plan.placeholders_ended {
        purgatory
            .drop_placeholder(&placeholder.event_id, &placeholder.coordinate, placeholder.commit_oid)
            .await?;
    }
    let changed = changed_notes(facts, &plan.waiting);
    if !changed.is_empty() {
        purgatory.note_waiting(&changed).await?;
    }
    Ok(())
}

/// Clears the marks that the facts were read with. This comes last: unfinished work stays dirty.
pub(super) async fn clear_dirty(
    purgatory: &Purgatory,
    (facts, scope): (&Facts, &FactsScope),
    dirty: &BTreeMap<Coordinate, DirtyNumber>,
    (plan, is_aligned): (&Plan, bool),
) -> Result<(), PurgatoryError> {
    for (coordinate, listing) in listings_to_note(facts, plan) {
        purgatory.note_listings(&coordinate, &listing).await?;
    }
    // Again: who looked meanwhile has found these repositories locked.
    mark_members_unreconciled(purgatory, (facts, scope), (plan, is_aligned)).await?;
    // Repositories that these facts do not include are left to a reconcile that reads more.
    let settled = dirty.iter().filter(|(at, _)| facts.is_settled(at));
    for (coordinate, number) in settled {
        purgatory.clear_dirty(coordinate, *number).await?;
    }
    Ok(())
}

/// Logs that an event has expired, and what it waited for.
fn log_expired(facts: &Facts, event_id: &EventId, expiry: Expiry) {
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
async fn mark_members_unreconciled(
    purgatory: &Purgatory,
    (facts, scope): (&Facts, &FactsScope),
    (plan, is_aligned): (&Plan, bool),
) -> Result<(), PurgatoryError> {
    let is_of_pull_request = |release: &Release| facts.pull_request(&release.event.id).is_some();
    if is_aligned || !plan.releases.iter().all(is_of_pull_request) {
        let covered = facts.covered.coordinates.iter();
        let members = covered.filter(|at| !scope.coordinates.contains(at));
        purgatory.begin_rounds(&members.cloned().collect()).await?;
    }
    Ok(())
}

/// Returns the homes of released events that others list whom these facts do not reach.
fn unsettled_homes(facts: &Facts, releases: &[Release]) -> BTreeSet<Coordinate> {
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
fn changed_notes(facts: &Facts, waiting: &BTreeMap<EventId, String>) -> BTreeMap<EventId, String> {
    let written = |event_id: &EventId| facts.entries.get(event_id).map(|entry| entry.waiting_for.as_str());
    waiting
        .iter()
        .filter(|(event_id, text)| written(event_id) != Some(text.as_str()))
        .map(|(event_id, text)| (*event_id, text.clone()))
        .collect()
}

/// About how much memory the events may take that one reconcile releases: six of the largest.
const RELEASED_BYTES_MAX: usize = 4 << 20;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use nostr::event::Event;
    use nostr::event::EventBuilder;
    use nostr::event::FinalizeEvent;
    use nostr::event::Kind;
    use nostr::event::Tags;
    use nostr::key::Keys;
    use shared::purgatory::Hold;
    use shared::purgatory::Limits;
    use shared::purgatory::Room;

    use super::*;

    /// Returns states of `padding` tags more, and a purgatory that holds all but the last.
    async fn held(count: u8, padding: usize) -> (Vec<Event>, Purgatory) {
        let purgatory = Purgatory::in_memory(Limits::DEFAULT, Arc::new(|| 1_000));
        let tag = |tag: &[&str]| nostr::event::Tag::parse(tag.iter().copied()).unwrap();
        let states = (0..count).map(|_| {
            let tags = std::iter::repeat_n(tag(&["t", "", "", ""]), padding);
            let state = EventBuilder::new(Kind::from_u16(30618), "").tags(tags.chain([tag(&["d", "r"])]));
            state.finalize(&Keys::generate()).unwrap()
        });
        let states: Vec<Event> = states.collect();
        for event in states.iter().rev().skip(1) {
            let home = Coordinate {
                owner: event.pubkey,
                identifier: "r".parse().unwrap(),
            };
            let hold = Hold {
                event: event.clone(),
                coordinates: [home].into(),
                source: String::new(),
                hold_secs: 100,
                extend: BTreeSet::new(),
                room: Room::Always,
                is_new_repository: false,
                behind: None,
            };
            purgatory.hold(&hold).await.unwrap();
        }
        (states, purgatory)
    }

    /// Returns the release of a part of each.
    fn parts(events: &[Event]) -> (Covered, Vec<Release>) {
        let covered = Covered {
            cut: events.iter().map(|event| event.id).collect(),
            ..Covered::default()
        };
        let part = |event: &Event| {
            let mut event = event.clone();
            event.tags = Tags::new();
            Release {
                event: event.into(),
                coordinates: BTreeSet::new(),
                after: BTreeSet::new(),
            }
        };
        (covered, events.iter().map(part).collect())
    }

    #[tokio::test]
    async fn what_is_released_is_whole_although_the_facts_have_a_part_of_it() {
        let (events, purgatory) = held(2, 0).await;
        let (covered, mut releases) = parts(&events);

        assert!(read_whole(&purgatory, &covered, &mut releases).await.unwrap());

        let [release] = &releases[..] else {
            panic!("{releases:?}");
        };
        assert_eq!(release.event.tags, events[0].tags);
    }

    #[tokio::test]
    async fn what_is_too_much_to_be_released_at_once_stays_for_the_next_time() {
        let (events, purgatory) = held(41, 4_990).await;
        let (covered, mut left) = parts(&events);
        let (mut released, mut rounds) = (Vec::new(), 0);

        loop {
            let mut some = left.clone();
            let are_all = read_whole(&purgatory, &covered, &mut some).await.unwrap();
            rounds += 1;
            let bytes: usize = some.iter().map(|release| memory_bytes(&release.event)).sum();
            assert!(bytes < RELEASED_BYTES_MAX + (1 << 20), "{bytes}");
            left.drain(..some.len());
            released.extend(some.into_iter().map(|release| Arc::unwrap_or_clone(release.event)));
            if are_all {
                break;
            }
        }

        assert_eq!(released, events[..40]);
        assert!(rounds > 1);
    }
}
