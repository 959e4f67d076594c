//! Which announcements wait on for held states. Who decides about an event that arrives reads only a few announcements
//! where many list its author (docs/ARCHITECTURE.md rule 9); a reconcile reads the others.

use std::collections::BTreeMap;

use nostr::event::EventId;

use super::plan::Plan;
use crate::purgatory::EntryStatus;
use crate::rules::EventStatus;
use crate::rules::Facts;
use crate::rules::namesakes::Counted;

/// Returns the announcements that wait longer, or wake, because they authorise a held state: until its deadline, in
/// seconds from the time of the facts.
pub fn announcements_to_extend(facts: &Facts, plan: &Plan) -> BTreeMap<EventId, u64> {
    let remains = |id: &EventId| !plan.releases(id) && !plan.ended.contains(id);
    let last_deadline = |announced| {
        let states = facts.states_authorised_by(announced, Counted::IfAwake).into_iter();
        let held = states.filter(|known| known.status == EventStatus::Held);
        let ids = held.map(|known| known.item.revision.event_id).filter(remains);
        ids.filter_map(|id| Some(facts.entries.get(&id)?.deadline)).max()
    };
    let mut extended = BTreeMap::new();
    for known in facts
        .announcements
        .iter()
        .filter(|known| !known.status.counts_as_served())
    {
        let id = known.item.revision.event_id;
        let Some(entry) = facts.entries.get(&id).filter(|_| remains(&id)) else {
            continue;
        };
        let until = last_deadline(&known.item.coordinate).unwrap_or_default();
        let is_longer = entry.status == EntryStatus::Asleep || until > entry.deadline;
        if is_longer && until > facts.now {
            extended.insert(id, until - facts.now);
        }
    }
    extended
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::Disk;
    use crate::rules::PlanSettings;
    use crate::rules::PullRequestLimits;
    use crate::rules::facts::tests::NOW;
    use crate::rules::facts::tests::Scene;
    use crate::rules::facts::tests::announcement_event;
    use crate::rules::facts::tests::pubkey;
    use crate::rules::facts::tests::state_event;
    use crate::rules::plan;

    #[test]
    fn an_announcement_wakes_and_waits_for_a_held_state_that_it_authorises() {
        let listing = announcement_event(1, "r", 1, &[&["maintainers", &pubkey(2).to_hex()]]);
        let confirming = announcement_event(2, "r", 1, &[&["maintainers", &pubkey(1).to_hex()]]);
        let by = |author| state_event(author, "r", 5, &[("heads/main", 'a')]);
        for (story, author, status, deadline, expected) in [
            ("asleep", 2, EntryStatus::Asleep, NOW + 9_000, Some(100)),
            ("about to expire", 2, EntryStatus::Held, NOW + 99, Some(100)),
            ("overdue", 2, EntryStatus::Held, NOW, Some(100)),
            ("as long", 2, EntryStatus::Held, NOW + 100, None),
            ("a stranger's", 3, EntryStatus::Asleep, NOW + 9_000, None),
        ] {
            let scene = Scene::default()
                .with(status, deadline, [listing.clone()])
                .served([confirming.clone()])
                .held_until(NOW + 100, [by(author)]);
            let settings = PlanSettings {
                sleep_secs: 0,
                pull_requests: PullRequestLimits::DEFAULT,
            };
            let facts = scene.facts();

            let extended = announcements_to_extend(&facts, &plan(&facts, &Disk::default(), &settings));

            assert_eq!(extended.get(&listing.id).copied(), expected, "{story}");
        }
    }

    #[test]
    fn nothing_waits_for_a_state_whose_own_time_is_over() {
        let (announced, state) = (announcement_event(1, "r", 1, &[]), state_event(1, "r", 5, &[]));
        let scene = Scene::default()
            .with(EntryStatus::Asleep, NOW + 9_000, [announced])
            .held_until(NOW, [state]);

        let extended = announcements_to_extend(&scene.facts(), &Plan::default());

        assert_eq!(extended, BTreeMap::new());
    }
}
