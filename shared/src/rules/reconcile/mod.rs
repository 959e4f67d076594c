//! What to do about some coordinates, given everything that is known and everything that is on disk: the one
//! decision behind a push, a new event, a crash and the daily check (docs/ARCHITECTURE.md rule 4).

mod alignment;
mod announced;
mod extensions;
mod listings;
mod plan;
mod publication;
mod pull_requests;
mod ref_room;
mod retention;

use std::collections::BTreeSet;

use nostr::event::EventId;

use self::alignment::NextStates;
use self::announced::Announced;
use self::plan::Outcome;
use self::ref_room::RefRoom;
use super::Disk;
use super::EventStatus;
use super::Facts;
use super::namesakes::RepositoryIndex;
use super::namesakes::StateIndex;
use crate::nip34;
use crate::nip34::Announcement;
use crate::nip34::Coordinate;
use crate::purgatory::EntryStatus;
use crate::purgatory::Expiry;

pub(super) use alignment::head_for;
pub use extensions::announcements_to_extend;
pub use listings::listings_to_note;
pub use plan::Alignment;
pub use plan::Installation;
pub use plan::InstallationSource;
pub use plan::Plan;
pub use plan::PlanSettings;
pub use publication::*;
pub use pull_requests::ended_pull_requests;
pub use ref_room::PullRequestLimits;
pub use retention::*;

/// Decides what to do about the coordinates of `facts`.
pub fn plan(facts: &Facts, disk: &Disk, settings: &PlanSettings) -> Plan {
    let next_states = NextStates::choose(facts, disk);
    let mut plan = Plan {
        ended: facts.deleted.clone(),
        data_missing: next_states.data_missing(),
        ..Plan::default()
    };
    plan.alignments = next_states.alignments();
    let entries = facts
        .entries
        .values()
        .filter(|entry| !facts.deleted.contains(&entry.event.id));
    for entry in entries.filter(|entry| !entry.status.counts_as_served()) {
        // It came into the relay by another way (a stream, an import). Publishing it once more is answered `duplicate`,
        // which settles the entry.
        if facts.status(&entry.event.id) == Some(EventStatus::Served) {
            plan.release(entry, BTreeSet::new());
        }
    }
    let announced = plan_announcements(facts, &next_states, &mut plan);
    plan_states(facts, &next_states, &announced, &mut plan);
    let room = RefRoom::new(facts, disk, settings.pull_requests);
    pull_requests::plan_pull_requests(facts, disk, &next_states, &announced, room, &mut plan);
    plan_expiry(facts, settings.sleep_secs, &mut plan);
    pull_requests::plan_unstaging(facts, disk, &mut plan);
    plan.parts_ended = ended_parts(facts, disk, &next_states, &plan);
    plan
}

/// Parts of a state live as long as it may become that of their repository, unless everything is there already.
fn ended_parts(
    facts: &Facts,
    disk: &Disk,
    next_states: &NextStates<'_>,
    plan: &Plan,
) -> BTreeSet<(Coordinate, EventId)> {
    let expires = |state_id: &EventId| plan.expired.iter().any(|(expired, _)| expired == state_id);
    let decidable = |at: &&Coordinate| facts.is_settled(at) && !next_states.is_broken(at);
    let mut ended = BTreeSet::new();
    for at in disk.parts.keys().filter(decidable) {
        let has_ended = |state_id: &&EventId| {
            plan.ended.contains(state_id) || expires(state_id) || !next_states.wants_parts(at, state_id)
        };
        let of_repository = disk.parts[at].keys().filter(has_ended);
        ended.extend(of_repository.map(|state_id| (at.clone(), *state_id)));
    }
    ended
}

/// Decides about the announcements, and returns which repositories are announced then.
fn plan_announcements(facts: &Facts, next_states: &NextStates<'_>, plan: &mut Plan) -> Announced {
    let held = facts
        .announcements
        .iter()
        .filter(|known| known.status == EventStatus::Held);
    let (ours, others): (Vec<_>, Vec<_>) = held.partition(|known| facts.service.is_named_by(&known.item));
    for known in ours {
        let outcome = announcement_outcome(facts, next_states, &known.item);
        plan.record(facts, &known.item.revision.event_id, outcome);
    }
    // The maintainer exception leans on those that name this server.
    let announced = Announced::by(facts, plan);
    for known in others {
        let outcome = foreign_announcement_outcome(facts, next_states, &announced, &known.item);
        plan.record(facts, &known.item.revision.event_id, outcome);
    }
    announced
}

/// Decides about an announcement by what is served of its repository already; `None`: that decides nothing.
fn outcome_by_served(facts: &Facts, announcement: &Announcement) -> Option<Outcome> {
    let served = facts.served_announcement(&announcement.coordinate)?;
    if served.item.revision > announcement.revision {
        return Some(Outcome::End);
    }
    let is_hosted = facts.service.is_named_by(&served.item);
    is_hosted.then(|| Outcome::Release { after: BTreeSet::new() })
}

fn announcement_outcome(facts: &Facts, next_states: &NextStates<'_>, announcement: &Announcement) -> Outcome {
    let coordinate = &announcement.coordinate;
    if let Some(outcome) = outcome_by_served(facts, announcement) {
        return outcome;
    }
    if next_states.has_refs(coordinate) {
        return Outcome::Release { after: BTreeSet::new() };
    }
    if next_states.is_broken(coordinate) {
        return Outcome::Undecided;
    }
    Outcome::Wait("a push of what an authorised state (kind 30618) declares".to_owned())
}

/// Decides about an announcement that names other servers only.
fn foreign_announcement_outcome(
    facts: &Facts,
    next_states: &NextStates<'_>,
    announced: &Announced,
    announcement: &Announcement,
) -> Outcome {
    let Coordinate { owner, identifier } = &announcement.coordinate;
    if let Some(outcome) = outcome_by_served(facts, announcement) {
        return outcome;
    }
    let namesakes = facts.namesakes_of(identifier);
    let mut listing = namesakes
        .map_or(&[][..], |namesakes| namesakes.all_naming(owner))
        .iter()
        .copied();
    match listing.clone().find(|at| announced.has(*at)) {
        Some(at) => Outcome::Release {
            after: announced.before([at]),
        },
        None if listing.any(|at| next_states.is_broken_at(at)) => Outcome::Undecided,
        None => Outcome::Wait("the announcement that names its author as maintainer is not served".to_owned()),
    }
}

fn plan_states(facts: &Facts, next_states: &NextStates<'_>, announced: &Announced, plan: &mut Plan) {
    // The oldest first.
    for (place, known) in facts.states.iter().enumerate().rev() {
        if known.status != EventStatus::Held {
            continue;
        }
        let outcome = state_outcome(facts, next_states, announced, place);
        if let Outcome::Release { .. } = outcome {
            plan.relies_on.extend(next_states.brought_to(place).cloned());
        }
        plan.record(facts, &known.item.revision.event_id, outcome);
    }
}

fn state_outcome(facts: &Facts, next_states: &NextStates<'_>, announced: &Announced, place: StateIndex) -> Outcome {
    let state = &facts.states[place].item;
    let all = alignment::open_to(facts, state);
    let repositories = all.iter().copied().filter(|at| !next_states.is_broken_at(*at));
    let is_decidable = !next_states.is_any_broken(all);
    let served = facts.served_state_by(&state.author, &state.identifier);
    let next = next_states.newest_by_author_of(state);
    if served.max(next) > Some(state.revision) {
        return match is_decidable {
            true => Outcome::End,
            false => Outcome::Undecided,
        };
    }
    if all.is_empty() {
        return Outcome::Wait(AUTHOR_UNCONFIRMED.to_owned());
    }
    let is_aligned = next_states.brought_to(place).next().is_some();
    // A state that is overtaken in every repository is still served once its data is present, for clients that follow
    // its author; it changes no ref.
    let is_complete_without_refs = || {
        facts.is_settled(&state.home())
            && repositories.clone().all(|at| next_states.is_overtaken(at, state))
            && repositories.clone().any(|at| next_states.has_all(at, place))
    };
    if is_aligned || is_decidable && is_complete_without_refs() {
        return Outcome::Release {
            after: announced.before(repositories),
        };
    }
    if !is_decidable {
        return Outcome::Undecided;
    }
    let missing = repositories.clone().find_map(|at| next_states.missing(at, place));
    Outcome::Wait(missing.unwrap_or_else(|| "its repository".to_owned()))
}

fn plan_expiry(facts: &Facts, sleep_secs: u64, plan: &mut Plan) {
    let mut searched: BTreeSet<&RepositoryIndex> = BTreeSet::new();
    for entry in facts.entries.values() {
        let id = entry.event.id;
        let overdue = !entry.status.counts_as_served() && entry.deadline <= facts.now;
        if !overdue || plan.releases(&id) || plan.ended.contains(&id) || plan.undecided.contains(&id) {
            continue;
        }
        let (settled, open): (Vec<&Coordinate>, Vec<&Coordinate>) =
            entry.coordinates.iter().partition(|at| facts.is_settled(at));
        if !open.is_empty() {
            // For a PR that is offered to several, a decision about one queries the others too.
            if !settled.is_empty() {
                plan.also_lock.extend(open.into_iter().cloned());
            }
            continue;
        }
        let may_sleep = entry.event.kind.as_u16() == nip34::ANNOUNCEMENT && entry.status == EntryStatus::Held;
        let expiry = if may_sleep && sleep_secs > 0 {
            Expiry::Sleep { secs: sleep_secs }
        } else {
            Expiry::Gone
        };
        let state = facts.states.iter().find(|known| known.item.revision.event_id == id);
        searched.extend(
            state
                .into_iter()
                .flat_map(|known| alignment::open_to(facts, &known.item)),
        );
        plan.expired.push((id, expiry));
        plan.waiting.remove(&id);
    }
    let searched = searched.into_iter().map(|at| facts.hosted()[*at].clone());
    plan.relies_on.extend(searched);
}

/// The need of a state that is authoritative nowhere.
pub const AUTHOR_UNCONFIRMED: &str =
    "its author to be a confirmed maintainer of a repository that is hosted on this server";

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use nostr::event::Event;
    use nostr::event::EventId;

    use super::*;
    use crate::git::ObjectKind;
    use crate::git::Oid;
    use crate::rules::OnDisk;
    use crate::rules::Staged;
    use crate::rules::facts::tests::NOW;
    use crate::rules::facts::tests::Scene;
    use crate::rules::facts::tests::announcement_event;
    use crate::rules::facts::tests::coordinate;
    use crate::rules::facts::tests::foreign_announcement_event;
    use crate::rules::facts::tests::oid;
    use crate::rules::facts::tests::pubkey;
    use crate::rules::facts::tests::pull_request_event;
    use crate::rules::facts::tests::state_event;

    const SLEEP_SECS: u64 = 77;
    const SETTINGS: PlanSettings = PlanSettings {
        sleep_secs: SLEEP_SECS,
        pull_requests: PullRequestLimits::DEFAULT,
    };
    const MAIN_A: &[(&str, char)] = &[("heads/main", 'a')];
    const MAIN_B: &[(&str, char)] = &[("heads/main", 'b')];

    /// The repository of the n-th key with these refs, and these commits in addition to those of the refs.
    fn on_disk(disk: &mut Disk, owner: u8, refs: &[(&str, char)], commits: &str) {
        let digits = refs.iter().map(|(_, digit)| *digit).chain(commits.chars());
        let objects = digits.map(|digit| (oid(digit), ObjectKind::Commit)).collect();
        let refs = refs
            .iter()
            .map(|(short, digit)| (format!("refs/{short}").parse().unwrap(), oid(*digit)))
            .collect();
        let head = Some("refs/heads/main".parse().unwrap());
        let on_disk = OnDisk {
            refs,
            head,
            objects,
            ..OnDisk::default()
        };
        disk.repositories.insert(coordinate(owner, "r"), on_disk);
    }

    fn disk(refs: &[(&str, char)], commits: &str) -> Disk {
        let mut disk = Disk::default();
        on_disk(&mut disk, 1, refs, commits);
        disk
    }

    fn plan_for(scene: Scene, disk: &Disk) -> Plan {
        plan(&scene.facts(), disk, &SETTINGS)
    }

    fn released(plan: &Plan) -> Vec<EventId> {
        plan.releases.iter().map(|release| release.event.id).collect()
    }

    fn own() -> Event {
        announcement_event(1, "r", 1, &[])
    }

    #[test]
    fn without_its_data_nothing_happens_but_a_note() {
        let state = state_event(1, "r", 5, MAIN_A);

        let plan = plan_for(Scene::default().held([own(), state.clone()]), &Disk::default());

        assert!(
            plan.releases.is_empty() && plan.alignments.is_empty() && plan.expired.is_empty(),
            "{plan:?}"
        );
        assert_eq!(plan.waiting[&state.id], format!("1 missing object: {}", oid('a')));
    }

    #[test]
    fn data_completes_state_and_announcement_in_their_order() {
        let (announced, state) = (own(), state_event(1, "r", 5, MAIN_A));

        let plan = plan_for(
            Scene::default().held([state.clone(), announced.clone()]),
            &disk(&[], "a"),
        );

        assert_eq!(released(&plan), [announced.id, state.id]);
        assert_eq!(plan.releases[1].after, BTreeSet::from([announced.id]));
        let [alignment] = plan.alignments.as_slice() else {
            panic!("{plan:?}")
        };
        assert_eq!(alignment.updates.len(), 1);
        assert_eq!(alignment.updates[0].new, Some(oid('a')));
    }

    #[test]
    fn an_aligned_repository_is_left_alone() {
        let scene = Scene::default().served([own(), state_event(1, "r", 5, MAIN_A)]);

        assert_eq!(plan_for(scene, &disk(MAIN_A, "")), Plan::default());
    }

    /// The kept parts of a state, beside the repository of the first key.
    fn parts(state: &Event, commits: &str) -> BTreeMap<EventId, BTreeMap<Oid, ObjectKind>> {
        let objects = commits.chars().map(|digit| (oid(digit), ObjectKind::Commit));
        BTreeMap::from([(state.id, objects.collect())])
    }

    #[test]
    fn parts_move_in_together_and_then_they_end() {
        let state = state_event(1, "r", 5, &[("heads/main", 'a'), ("tags/v1", 'b'), ("tags/v2", 'c')]);
        let scene = || Scene::default().held([own(), state.clone()]);
        for (story, commits, kept, aligned, ended) in [
            ("one is missing", "a", "b", None, false),
            ("the rest is aside", "a", "bc", Some("bc"), false),
            ("all is aside", "", "abc", Some("abc"), false),
            ("all has moved in", "abc", "bc", Some(""), true),
        ] {
            let mut disk = disk(&[], commits);
            disk.parts.insert(coordinate(1, "r"), parts(&state, kept));

            let plan = plan_for(scene(), &disk);

            let moved = plan.alignments.first().map(|alignment| alignment.parts.clone());
            assert_eq!(
                moved,
                aligned.map(|digits| digits.chars().map(oid).collect()),
                "{story}"
            );
            assert_eq!(released(&plan).is_empty(), aligned.is_none(), "{story}");
            assert_eq!(!plan.parts_ended.is_empty(), ended, "{story}: {plan:?}");
        }
    }

    #[test]
    fn parts_serve_their_own_state_and_end_with_it() {
        let older = state_event(1, "r", 5, &[("heads/main", 'a'), ("tags/v1", 'b')]);
        let newer = state_event(1, "r", 6, &[("heads/main", 'a'), ("tags/v1", 'c')]);
        let announced = || Scene::default().served([own()]);
        for (story, scene, commits, ended) in [
            ("it is held", announced().held([older.clone()]), "", false),
            (
                "a newer one is held too",
                announced().held([older.clone(), newer.clone()]),
                "c",
                false,
            ),
            (
                "a newer one is complete",
                announced().held([older.clone(), newer.clone()]),
                "ac",
                true,
            ),
            (
                "it is overtaken",
                announced().served([newer]).held([older.clone()]),
                "ac",
                true,
            ),
            ("it is nowhere", announced(), "", true),
            ("it expires", announced().held_until(NOW - 1, [older.clone()]), "", true),
            ("its data was lost", announced().served([older.clone()]), "", false),
            (
                "its repository is not hosted",
                Scene::default().held([older.clone()]),
                "",
                false,
            ),
            ("neither is anywhere", Scene::default(), "", true),
        ] {
            let mut disk = disk(&[], commits);
            disk.parts.insert(coordinate(1, "r"), parts(&older, "a"));

            let plan = plan_for(scene, &disk);

            let expected = (coordinate(1, "r"), older.id);
            assert_eq!(plan.parts_ended.contains(&expected), ended, "{story}: {plan:?}");
            disk.broken.insert(coordinate(1, "r"));
            let unread = plan_for(announced(), &disk);
            assert!(
                unread.parts_ended.is_empty(),
                "{story}: nothing is decided about what cannot be read"
            );
        }
    }

    #[test]
    fn undeclared_branches_go_and_refs_of_other_namespaces_stay() {
        let scene = Scene::default().served([own(), state_event(1, "r", 5, MAIN_A)]);

        let plan = plan_for(
            scene,
            &disk(&[("heads/main", 'b'), ("heads/old", 'b'), ("nostr/x", 'b')], "a"),
        );

        let updates: Vec<_> = plan.alignments[0]
            .updates
            .iter()
            .map(|update| (update.name.as_str(), update.new))
            .collect();
        assert_eq!(updates, [("refs/heads/main", Some(oid('a'))), ("refs/heads/old", None)]);
    }

    #[test]
    fn a_branch_must_name_a_commit() {
        let mut disk = disk(&[], "a");
        disk.repositories
            .get_mut(&coordinate(1, "r"))
            .unwrap()
            .objects
            .insert(oid('a'), ObjectKind::Tag);
        let state = state_event(1, "r", 5, MAIN_A);

        let plan = plan_for(Scene::default().held([own(), state.clone()]), &disk);

        assert!(plan.releases.is_empty(), "{plan:?}");
        assert!(plan.waiting[&state.id].contains("not a commit"), "{plan:?}");
    }

    #[test]
    fn the_newest_complete_state_wins_and_supersedes_its_authors_older_ones() {
        let (old, new) = (state_event(1, "r", 5, MAIN_A), state_event(1, "r", 6, MAIN_B));
        for (story, commits, releases, ends) in [
            ("only the older is complete", "a", vec![old.id], vec![]),
            ("only the newer is complete", "b", vec![new.id], vec![old.id]),
            ("both are", "ab", vec![new.id], vec![old.id]),
        ] {
            let scene = Scene::default().served([own()]).held([old.clone(), new.clone()]);

            let plan = plan_for(scene, &disk(&[], commits));

            assert_eq!(released(&plan), releases, "{story}");
            assert_eq!(plan.ended, ends.into_iter().collect(), "{story}");
        }
    }

    /// Released before anybody can know of the repository, it would name one that looks missing.
    #[test]
    fn an_overtaken_empty_state_waits_for_its_announcement_too() {
        let announced = announcement_event(1, "r", 1, &[&["maintainers", &pubkey(2).to_hex()]]);
        let (empty, newer) = (state_event(1, "r", 5, &[]), state_event(2, "r", 6, MAIN_B));
        let events = [announced.clone(), empty.clone(), newer.clone()];

        let plan = plan_for(Scene::default().held(events), &disk(&[], "b"));

        assert_eq!(released(&plan), [announced.id, newer.id]);
        assert_eq!(plan.waiting[&empty.id], "announcement not served");
        let scene = Scene::default().served([announced, newer]).held([empty.clone()]);
        assert_eq!(released(&plan_for(scene, &disk(MAIN_B, ""))), [empty.id]);
    }

    #[test]
    fn states_of_two_maintainers_wait_side_by_side() {
        let announced = announcement_event(1, "r", 1, &[&["maintainers", &pubkey(2).to_hex()]]);
        let (older, newer) = (state_event(1, "r", 5, MAIN_A), state_event(2, "r", 6, MAIN_B));
        for (story, governing, held, commits, releases, aligned) in [
            (
                "the older is complete",
                None,
                vec![&older, &newer],
                "a",
                vec![older.id],
                true,
            ),
            (
                "the newer is complete",
                None,
                vec![&older, &newer],
                "b",
                vec![newer.id],
                true,
            ),
            (
                "the older after the newer changes no ref",
                Some(&newer),
                vec![&older],
                "ab",
                vec![older.id],
                false,
            ),
            (
                "the older after the newer without data",
                Some(&newer),
                vec![&older],
                "b",
                vec![],
                false,
            ),
        ] {
            let scene = Scene::default()
                .served([announced.clone()])
                .served(governing.cloned())
                .held(held.into_iter().cloned());
            let refs = if governing.is_some() { MAIN_B } else { &[] };

            let plan = plan_for(scene, &disk(refs, commits));

            assert_eq!(released(&plan), releases, "{story}");
            assert_eq!(!plan.alignments.is_empty(), aligned, "{story}");
            assert!(plan.ended.is_empty(), "{story}");
        }
    }

    #[test]
    fn an_empty_state_needs_a_served_announcement() {
        let state = state_event(1, "r", 5, &[]);

        let held = plan_for(Scene::default().held([own(), state.clone()]), &Disk::default());
        let served = plan_for(
            Scene::default().served([own()]).held([state.clone()]),
            &disk(MAIN_A, ""),
        );

        assert!(held.releases.is_empty(), "{held:?}");
        assert_eq!(released(&served), [state.id]);
        assert_eq!(served.alignments[0].updates[0].new, None);
    }

    #[test]
    fn another_owners_repository_is_filled_from_the_one_that_has_the_data() {
        let announced = announcement_event(2, "r", 1, &[&["maintainers", &pubkey(1).to_hex()]]);
        let scene = Scene::default()
            .served([own(), state_event(1, "r", 5, MAIN_A)])
            .held([announced.clone()]);

        let plan = plan_for(scene, &disk(MAIN_A, ""));

        assert_eq!(released(&plan), [announced.id]);
        let [alignment] = plan.alignments.as_slice() else {
            panic!("{plan:?}")
        };
        assert_eq!(alignment.coordinate, coordinate(2, "r"));
        assert_eq!(
            alignment.copies,
            BTreeMap::from([(coordinate(1, "r"), BTreeSet::from([oid('a')]))])
        );
    }

    #[test]
    fn lost_data_is_reported_and_not_replaced_by_nothing() {
        let scene = Scene::default().served([own(), state_event(1, "r", 5, MAIN_A)]);

        let plan = plan_for(scene, &Disk::default());

        assert_eq!(plan.data_missing, BTreeSet::from([coordinate(1, "r")]));
        assert!(plan.alignments.is_empty());
    }

    #[test]
    fn replacements_and_de_listings_of_served_announcements_need_no_data() {
        for replacement in [
            announcement_event(1, "r", 2, &[]),
            foreign_announcement_event(1, "r", 2, &[]),
        ] {
            let plan = plan_for(
                Scene::default().served([own()]).held([replacement.clone()]),
                &Disk::default(),
            );

            assert_eq!(released(&plan), [replacement.id]);
        }
    }

    #[test]
    fn a_listed_maintainers_announcement_waits_for_the_listing_one() {
        let listing = announcement_event(1, "r", 1, &[&["maintainers", &pubkey(2).to_hex()]]);
        let elsewhere = foreign_announcement_event(2, "r", 1, &[]);
        let state = state_event(1, "r", 5, MAIN_A);

        let held = plan_for(
            Scene::default().held([listing.clone(), elsewhere.clone()]),
            &Disk::default(),
        );
        let together = plan_for(
            Scene::default().held([elsewhere.clone(), listing.clone(), state.clone()]),
            &disk(&[], "a"),
        );
        let served = plan_for(
            Scene::default().served([listing.clone()]).held([elsewhere.clone()]),
            &Disk::default(),
        );

        assert!(held.releases.is_empty(), "{held:?}");
        assert_eq!(released(&together), [listing.id, elsewhere.id, state.id]);
        assert_eq!(together.releases[1].after, BTreeSet::from([listing.id]));
        assert_eq!(released(&served), [elsewhere.id]);
    }

    #[test]
    fn expiry_is_decided_after_looking_for_the_data() {
        let (announced, state) = (own(), state_event(1, "r", 5, MAIN_A));
        let overdue = || Scene::default().held_until(NOW, [announced.clone(), state.clone()]);

        let without = plan_for(overdue(), &Disk::default());
        let with = plan_for(overdue(), &disk(&[], "a"));
        let asleep = plan_for(
            Scene::default().with(EntryStatus::Asleep, NOW, [announced.clone()]),
            &Disk::default(),
        );

        let expired: BTreeMap<_, _> = without.expired.into_iter().collect();
        assert_eq!(expired[&announced.id], Expiry::Sleep { secs: SLEEP_SECS });
        assert_eq!(expired[&state.id], Expiry::Gone);
        assert!(with.expired.is_empty(), "{with:?}");
        assert_eq!(released(&with), [announced.id, state.id]);
        assert_eq!(asleep.expired, [(announced.id, Expiry::Gone)]);
    }

    /// A state is decided under the lock of its author's coordinate, who need not have a repository: a push that held
    /// the lock of the repository lost it when it expired.
    #[test]
    fn where_a_released_state_is_in_place_or_an_expired_one_was_looked_for_is_needed() {
        let announced = announcement_event(1, "r", 1, &[&["maintainers", &pubkey(2).to_hex()]]);
        let state = state_event(2, "r", 5, MAIN_A);
        let scene = || Scene::default().served([announced.clone()]);
        for (story, scene, disk) in [
            ("in place", scene().held([state.clone()]), disk(MAIN_A, "")),
            ("expired", scene().held_until(NOW, [state.clone()]), Disk::default()),
        ] {
            let plan = plan_for(scene, &disk);

            assert!(plan.alignments.is_empty(), "{story}: {plan:?}");
            assert_eq!(plan.needed(), BTreeSet::from([coordinate(1, "r")]), "{story}");
        }
    }

    /// The expiry of a held replacement took the served announcement's repository along (ngit-grasp before 3.0.10).
    #[test]
    fn an_overdue_replacement_of_a_served_announcement_goes_through() {
        let replacement = announcement_event(1, "r", 2, &[]);
        let scene = Scene::default()
            .served([own(), state_event(1, "r", 5, MAIN_A)])
            .held_until(NOW, [replacement.clone()]);

        let plan = plan_for(scene, &disk(MAIN_A, ""));

        assert_eq!(released(&plan), [replacement.id]);
        assert!(plan.expired.is_empty() && plan.alignments.is_empty(), "{plan:?}");
    }

    /// The author who accepted an invitation had to send the state again, or a push to each server (ngit-grasp before
    /// 2.0.0).
    #[test]
    fn an_accepted_invitation_fulfils_the_state_that_waits_for_it() {
        let (one, two) = (pubkey(1).to_hex(), pubkey(2).to_hex());
        let lists: &[&[&str]] = &[&["M", &one], &["m", &two]];
        let state = state_event(2, "r", 6, MAIN_B);
        for (story, inviting, accepting, hosted) in [
            (
                "both are hosted here",
                announcement_event(1, "r", 1, lists),
                announcement_event(2, "r", 1, lists),
                vec![1, 2],
            ),
            (
                "only the inviting one's repository",
                announcement_event(1, "r", 1, lists),
                foreign_announcement_event(2, "r", 1, lists),
                vec![1],
            ),
            (
                "only the accepting one's repository",
                foreign_announcement_event(1, "r", 1, lists),
                announcement_event(2, "r", 1, lists),
                vec![2],
            ),
        ] {
            let mut on_disk_now = Disk::default();
            on_disk(&mut on_disk_now, hosted[0], &[], "b");
            let before = Scene::default().served([inviting.clone()]).held([state.clone()]);
            let after = Scene::default()
                .served([inviting.clone()])
                .held([state.clone(), accepting.clone()]);

            let (before, after) = (plan_for(before, &on_disk_now), plan_for(after, &on_disk_now));

            assert!(
                before.releases.is_empty() && before.alignments.is_empty(),
                "{story}: {before:?}"
            );
            assert!(released(&after).contains(&state.id), "{story}: {after:?}");
            assert!(released(&after).contains(&accepting.id), "{story}: {after:?}");
            let aligned: Vec<_> = after.alignments.iter().map(|alignment| &alignment.coordinate).collect();
            let expected: BTreeSet<_> = hosted.into_iter().map(|owner| coordinate(owner, "r")).collect();
            assert_eq!(aligned, expected.iter().collect::<Vec<_>>(), "{story}");
        }
    }

    fn staged(event_id: EventId, digit: char) -> Staged {
        Staged {
            coordinate: coordinate(1, "r"),
            event_id,
            commit_oid: oid(digit),
        }
    }

    #[test]
    fn a_pull_request_moves_in_when_its_repository_is_served() {
        let request = pull_request_event(3, &coordinate(1, "r"), 'c');
        let kept = staged(request.id, 'c');
        let served = || Scene::default().served([own(), state_event(1, "r", 5, MAIN_A)]);
        let with_staged = |mut disk: Disk| {
            disk.staged.insert(kept.clone());
            disk
        };

        let waiting = plan_for(
            Scene::default().held([own(), request.clone()]),
            &with_staged(Disk::default()),
        );
        let without_commit = plan_for(served().held([request.clone()]), &disk(MAIN_A, ""));
        let complete = plan_for(served().held([request.clone()]), &with_staged(disk(MAIN_A, "")));

        assert!(waiting.releases.is_empty() && waiting.unstage.is_empty(), "{waiting:?}");
        assert_eq!(waiting.waiting[&request.id], "announcement not served");
        assert!(without_commit.releases.is_empty(), "{without_commit:?}");
        assert_eq!(released(&complete), [request.id]);
        assert_eq!(complete.installations[0].source, InstallationSource::Staged);
        assert!(complete.unstage.is_empty(), "{complete:?}");
    }

    /// A server that ended between the ref and its record held the event until it expired (ngit-grasp before 3.0.6).
    #[test]
    fn a_pull_request_whose_ref_is_set_already_is_released() {
        let request = pull_request_event(3, &coordinate(1, "r"), 'c');
        let name = format!("nostr/{}", request.id);
        let scene = Scene::default()
            .served([own(), state_event(1, "r", 5, MAIN_A)])
            .held([request.clone()]);

        let plan = plan_for(scene, &disk(&[("heads/main", 'a'), (&name, 'c')], ""));

        assert_eq!(released(&plan), [request.id]);
        assert!(plan.installations.is_empty(), "{plan:?}");
    }

    #[test]
    fn a_wrong_commit_goes_when_its_event_comes() {
        let request = pull_request_event(3, &coordinate(1, "r"), 'c');
        let mut disk = disk(MAIN_A, "");
        disk.staged.insert(staged(request.id, 'd'));
        let scene = Scene::default()
            .served([own(), state_event(1, "r", 5, MAIN_A)])
            .held([request.clone()])
            .placeholder(request.id, coordinate(1, "r"), 'd', NOW + 100);

        let plan = plan_for(scene, &disk);

        assert_eq!(plan.unstage, BTreeSet::from([staged(request.id, 'd')]));
        assert_eq!(plan.placeholders_ended.len(), 1);
        assert!(plan.releases.is_empty());
        assert!(plan.waiting.contains_key(&request.id));
    }

    #[test]
    fn of_several_commits_for_an_event_each_stays_until_it_comes() {
        let request = pull_request_event(3, &coordinate(1, "r"), 'c');
        let mut disk = disk(MAIN_A, "");
        disk.staged.extend(['c', 'd'].map(|commit| staged(request.id, commit)));
        let awaited = || {
            let scene = Scene::default().served([own(), state_event(1, "r", 5, MAIN_A)]);
            let scene = scene.placeholder(request.id, coordinate(1, "r"), 'c', NOW + 100);
            scene.placeholder(request.id, coordinate(1, "r"), 'd', NOW + 100)
        };

        let before = plan_for(awaited(), &disk);
        let plan = plan_for(awaited().held([request.clone()]), &disk);

        assert!(
            before.unstage.is_empty() && before.placeholders_ended.is_empty(),
            "{before:?}"
        );
        assert_eq!(plan.placeholders_ended.len(), 2);
        assert_eq!(plan.releases.len(), 1, "{plan:?}");
    }

    #[test]
    fn a_placeholder_lasts_until_its_deadline() {
        let request = pull_request_event(3, &coordinate(1, "r"), 'c');
        let mut disk = disk(MAIN_A, "");
        disk.staged.insert(staged(request.id, 'c'));
        for (deadline, ends) in [(NOW + 1, false), (NOW, true)] {
            let scene = Scene::default()
                .served([own(), state_event(1, "r", 5, MAIN_A)])
                .placeholder(request.id, coordinate(1, "r"), 'c', deadline);

            let plan = plan_for(scene, &disk);

            assert_eq!(!plan.unstage.is_empty(), ends);
            assert_eq!(!plan.placeholders_ended.is_empty(), ends);
        }
    }

    #[test]
    fn a_pull_request_to_two_repositories_expires_only_when_both_were_searched() {
        let other = coordinate(1, "x").to_string();
        let address = coordinate(1, "r").to_string();
        let request = crate::rules::facts::tests::event(
            3,
            nip34::PULL_REQUEST,
            1,
            &[&["a", &address], &["a", &other], &["c", &oid('c').to_string()]],
        );

        let plan = plan_for(
            Scene::default().served([own()]).held_until(NOW, [request]),
            &Disk::default(),
        );

        assert!(plan.expired.is_empty());
        assert_eq!(plan.also_lock, BTreeSet::from([coordinate(1, "x")]));
    }

    #[test]
    fn what_is_leaving_is_neither_released_again_nor_expired() {
        let scene = Scene::default().with(EntryStatus::Releasing, 0, [own(), state_event(1, "r", 5, MAIN_A)]);

        assert_eq!(plan_for(scene, &disk(MAIN_A, "")), Plan::default());
    }

    /// docs/ARCHITECTURE.md rule 7: nothing is decided about what could not be read or changed.
    #[test]
    fn what_waits_for_a_broken_repository_neither_expires_nor_is_dropped() {
        let listing = announcement_event(1, "r", 1, &[&["maintainers", &pubkey(2).to_hex()]]);
        let elsewhere = foreign_announcement_event(2, "r", 1, &[]);
        let (older, newer) = (state_event(1, "r", 5, MAIN_A), state_event(1, "r", 6, MAIN_B));
        let request = pull_request_event(3, &coordinate(1, "r"), 'c');
        let served = || Scene::default().served([listing.clone()]);
        for (story, scene, entries) in [
            (
                "announcement and state",
                Scene::default(),
                vec![listing.clone(), older.clone()],
            ),
            (
                "what the listing one admits",
                Scene::default(),
                vec![listing.clone(), elsewhere],
            ),
            ("a state", served(), vec![older.clone()]),
            ("a superseded state", served().served([newer]), vec![older]),
            ("a PR", served(), vec![request]),
        ] {
            let ids: BTreeSet<EventId> = entries.iter().map(|event| event.id).collect();
            let scene = scene.held_until(NOW, entries);
            let mut disk = disk(&[], "abc");
            disk.broken.insert(coordinate(1, "r"));

            let plan = plan_for(scene, &disk);

            assert!(plan.expired.is_empty() && plan.ended.is_empty(), "{story}: {plan:?}");
            assert!(
                plan.releases.is_empty() && plan.alignments.is_empty(),
                "{story}: {plan:?}"
            );
            assert_eq!(plan.undecided, ids, "{story}");
            assert_eq!(plan.waiting.keys().copied().collect::<BTreeSet<_>>(), ids, "{story}");
        }
    }

    #[test]
    fn a_broken_repository_keeps_nothing_else_waiting() {
        let (other, state) = (announcement_event(2, "r", 1, &[]), state_event(2, "r", 5, MAIN_A));
        let request = pull_request_event(3, &coordinate(2, "r"), 'c');
        let asleep = announcement_event(4, "r", 1, &[]);
        let deleted = state_event(1, "r", 5, MAIN_B);
        let deletion = crate::rules::facts::tests::event(1, nip34::DELETION, 9, &[&["e", &deleted.id.to_hex()]]);
        let scene = Scene::default()
            .served([own(), deletion])
            .held([other.clone(), state.clone()])
            .held_until(NOW, [deleted.clone(), request.clone()])
            .with(EntryStatus::Asleep, NOW, [asleep.clone()]);
        let mut disk = Disk::default();
        on_disk(&mut disk, 2, &[], "a");
        disk.broken.insert(coordinate(1, "r"));

        let plan = plan_for(scene, &disk);

        assert_eq!(released(&plan), [other.id, state.id]);
        assert_eq!(plan.ended, BTreeSet::from([deleted.id]));
        let expired: BTreeMap<EventId, Expiry> = plan.expired.into_iter().collect();
        assert_eq!(
            expired,
            BTreeMap::from([(request.id, Expiry::Gone), (asleep.id, Expiry::Gone)])
        );
        assert!(plan.undecided.is_empty());
    }

    /// A PR whose ref could not be set took its repository out of every plan.
    #[test]
    fn a_pull_request_that_cannot_be_installed_keeps_only_itself_waiting() {
        let (request, other) = (
            pull_request_event(3, &coordinate(1, "r"), 'c'),
            pull_request_event(4, &coordinate(1, "r"), 'd'),
        );
        // The staged objects for it cannot be read.
        let unread = pull_request_event(5, &coordinate(1, "r"), 'e');
        let state = state_event(1, "r", 5, MAIN_A);
        let scene = Scene::default()
            .served([own()])
            .held([state.clone()])
            .held_until(NOW, [request.clone(), other.clone(), unread.clone()]);
        let mut disk = disk(&[], "a");
        disk.staged = BTreeSet::from([staged(request.id, 'c'), staged(other.id, 'd')]);
        disk.uninstallable = [&request, &unread].map(|event| (coordinate(1, "r"), event.id)).into();

        let plan = plan_for(scene, &disk);

        assert_eq!(released(&plan), [state.id, other.id]);
        assert_eq!(plan.installations.len(), 1);
        assert_eq!(plan.undecided, BTreeSet::from([request.id, unread.id]));
        assert!(plan.expired.is_empty() && plan.unstage.is_empty(), "{plan:?}");
    }

    #[test]
    fn a_pull_request_whose_commit_is_here_outlives_the_loss_of_its_repository() {
        let request = pull_request_event(3, &coordinate(1, "r"), 'c');
        let mut disk = Disk::default();
        disk.staged.insert(staged(request.id, 'c'));
        let scene = Scene::default()
            .served([own(), state_event(1, "r", 5, MAIN_A)])
            .held_until(NOW, [request.clone()]);

        let plan = plan_for(scene, &disk);

        assert!(plan.expired.is_empty() && plan.releases.is_empty(), "{plan:?}");
        assert_eq!(plan.undecided, BTreeSet::from([request.id]));
    }

    /// The commit of a PR was in one repository, and missed in another that the PR was released for.
    #[test]
    fn a_commit_is_copied_from_a_repository_that_is_not_announced_yet() {
        let (ours, other) = (coordinate(1, "r").to_string(), coordinate(2, "r").to_string());
        let commit = oid('c').to_string();
        let lists: &[&[&str]] = &[&["maintainers", &pubkey(2).to_hex()]];
        let request = crate::rules::facts::tests::event(
            3,
            nip34::PULL_REQUEST,
            1,
            &[&["a", &ours], &["a", &other], &["c", &commit]],
        );
        let scene = Scene::default()
            .served([announcement_event(1, "r", 1, lists)])
            .held([announcement_event(2, "r", 1, &[]), request.clone()]);
        let mut disk = Disk::default();
        on_disk(&mut disk, 2, &[], "c");

        let plan = plan_for(scene, &disk);

        assert_eq!(released(&plan), [request.id]);
        assert_eq!(plan.installations.len(), 1);
        assert_eq!(
            plan.installations[0].source,
            InstallationSource::Repository(coordinate(2, "r"))
        );
    }
    /// Announcement and state with the tip of somebody's repository made a copy of it, for each key once more.
    #[test]
    fn a_repository_gets_objects_only_from_those_that_trust_its_states_author() {
        let two = pubkey(2).to_hex();
        let lists: &[&[&str]] = &[&["maintainers", &two]];
        let plain = |owner| announcement_event(owner, "r", 1, &[]);
        let by = |author| state_event(author, "r", 5, MAIN_A);
        for (story, first, second, state, is_shared) in [
            ("a stranger's state", plain(1), plain(2), by(2), false),
            (
                "the state of a stranger who lists the owner",
                plain(1),
                announcement_event(2, "r", 1, &[&["maintainers", &pubkey(1).to_hex()]]),
                by(2),
                false,
            ),
            (
                "the owner's, where a stranger lists him",
                plain(1),
                announcement_event(2, "r", 1, &[&["maintainers", &pubkey(1).to_hex()]]),
                by(1),
                true,
            ),
            (
                "a maintainer's",
                announcement_event(1, "r", 1, lists),
                plain(2),
                by(2),
                true,
            ),
        ] {
            let scene = Scene::default().served([first, second]).held([state.clone()]);

            let plan = plan_for(scene, &disk(&[("heads/main", 'a')], ""));

            let copies: Vec<_> = plan
                .alignments
                .iter()
                .filter(|alignment| alignment.coordinate == coordinate(2, "r"))
                .flat_map(|alignment| alignment.copies.keys().cloned())
                .collect();
            let expected = if is_shared { vec![coordinate(1, "r")] } else { vec![] };
            assert_eq!(copies, expected, "{story}: {plan:?}");
            assert_eq!(plan.waiting.contains_key(&state.id), !is_shared, "{story}: {plan:?}");
        }
    }

    #[test]
    fn a_pull_request_brings_a_repository_only_into_those_that_trust_its_owner() {
        let commit = oid('c').to_string();
        let [one, two] = [1, 2].map(|owner| pubkey(owner).to_hex());
        let listing = |owner, key: &str| announcement_event(owner, "r", 1, &[&["maintainers", key]]);
        let plain = |owner, identifier| announcement_event(owner, identifier, 1, &[]);
        for (story, announced, second, at, is_brought) in [
            ("a stranger's", own(), plain(2, "r"), coordinate(2, "r"), false),
            ("a maintainer's", own(), listing(2, &one), coordinate(2, "r"), true),
            (
                "a maintainer's who does not list its owner",
                listing(1, &two),
                plain(2, "r"),
                coordinate(2, "r"),
                false,
            ),
            ("the same owner's", own(), plain(1, "x"), coordinate(1, "x"), false),
        ] {
            let tags: &[&[&str]] = &[
                &["a", &coordinate(1, "r").to_string()],
                &["a", &at.to_string()],
                &["c", &commit],
            ];
            let request = crate::rules::facts::tests::event(3, nip34::PULL_REQUEST, 1, tags);
            let mut installed = BTreeSet::from([coordinate(1, "r")]);
            installed.extend(is_brought.then_some(at));
            for is_staged in [false, true] {
                let mut disk = disk(&[], if is_staged { "" } else { "c" });
                if is_staged {
                    disk.staged.insert(staged(request.id, 'c'));
                }
                let scene = Scene::default()
                    .served([announced.clone(), second.clone()])
                    .held([request.clone()]);

                let plan = plan_for(scene, &disk);

                let found: BTreeSet<_> = plan.installations.iter().map(|it| it.coordinate.clone()).collect();
                assert_eq!(found, installed, "{story}: {plan:?}");
                assert_eq!(released(&plan), [request.id], "{story}");
            }
        }
    }
}
