//! Which hosted repositories readers know of once a plan is carried out, and what is published before their events.

use std::collections::BTreeSet;

use nostr::event::EventId;

use super::plan::Plan;
use crate::nip34::Announcement;
use crate::nip34::Coordinate;
use crate::purgatory::EntryStatus;
use crate::rules::EventStatus;
use crate::rules::Facts;
use crate::rules::Hosting;
use crate::rules::Known;
use crate::rules::namesakes::RepositoryIndex;

/// How far the announcement of each hosted repository is, by its place: hundreds of events ask about hundreds of
/// repositories.
pub(super) struct Announced {
    is_announced: Vec<bool>,
    before: Vec<Before>,
}

/// What is published before the events of a repository.
enum Before {
    /// Nothing: the relay has an announcement of it.
    Nothing,
    /// The announcement that counts, which is on its way into the relay, or will be by the plan.
    Announcement { event_id: EventId, is_stuck: bool },
    /// Nothing either: the announcement that counts still waits.
    Unannounced,
}

impl Announced {
    /// Looks at each hosted repository once the plan has decided about the announcements that name this server: no
    /// other announcement changes whether one of them is announced.
    pub(super) fn by(facts: &Facts, plan: &Plan) -> Self {
        let hosted = facts.hosted().iter().enumerate();
        let (is_announced, before) = hosted
            .map(|(at, coordinate)| of_repository(facts, plan, at, coordinate))
            .unzip();
        Self { is_announced, before }
    }

    /// Whether the repository's announcement counts as served, or will by this plan.
    pub(super) fn has(&self, at: RepositoryIndex) -> bool {
        self.is_announced[at]
    }

    /// Returns the announcement after which events of one of these repositories are published: none if one of them is
    /// served already, otherwise one that is being released. Not all of them, or a stranger's that the relay refuses
    /// could delay everyone's.
    pub(super) fn before(&self, repositories: impl IntoIterator<Item = RepositoryIndex>) -> BTreeSet<EventId> {
        let mut releasing = None;
        for at in repositories {
            match &self.before[at] {
                Before::Nothing => return BTreeSet::new(),
                Before::Announcement { event_id, is_stuck } if releasing.is_none() || !is_stuck => {
                    releasing = Some(*event_id);
                }
                Before::Announcement { .. } | Before::Unannounced => {}
            }
        }
        releasing.into_iter().collect()
    }
}

/// Returns whether a repository is announced, and what comes before its events.
fn of_repository(facts: &Facts, plan: &Plan, at: RepositoryIndex, coordinate: &Coordinate) -> (bool, Before) {
    let current = facts.announcement(coordinate);
    let is_releasing =
        |known: &&Known<Announcement>| known.status.counts_as_served() || plan.releases(&known.item.revision.event_id);
    let releasing = current.filter(is_releasing).map(|known| known.item.revision.event_id);
    let served = facts.served_announcement(coordinate);
    let before = match releasing {
        _ if served.is_some_and(|known| known.status == EventStatus::Served) => Before::Nothing,
        Some(event_id) => {
            let entry = facts.entries.get(&event_id);
            Before::Announcement {
                event_id,
                is_stuck: entry.is_some_and(|entry| entry.status == EntryStatus::Stuck),
            }
        }
        None => Before::Unannounced,
    };
    (
        facts.hosting_at(at) == Hosting::Announced || releasing.is_some(),
        before,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::facts::tests::Scene;
    use crate::rules::facts::tests::announcement_event;
    use crate::rules::facts::tests::coordinate;

    #[test]
    fn events_wait_for_one_announcement_and_for_none_where_one_is_served() {
        let [served, stuck, releasing, held] = [1, 2, 3, 4].map(|owner| announcement_event(owner, "r", 1, &[]));
        let facts = Scene::default()
            .served([served])
            .with(EntryStatus::Stuck, 0, [stuck.clone()])
            .with(EntryStatus::Releasing, 0, [releasing.clone()])
            .held([held.clone()])
            .facts();
        let mut plan = Plan::default();
        let at = |owner| facts.hosted().binary_search(&coordinate(owner, "r")).unwrap();

        let announced = Announced::by(&facts, &plan);
        plan.release(&facts.entries[&held.id], BTreeSet::new());
        let with_held = Announced::by(&facts, &plan);

        for (owners, after) in [
            (&[2, 3][..], Some(releasing.id)),
            (&[3, 2], Some(releasing.id)),
            (&[2], Some(stuck.id)),
            (&[2, 3, 1], None),
            (&[4], None),
        ] {
            let found = announced.before(owners.iter().map(|owner| at(*owner)));
            assert_eq!(found, BTreeSet::from_iter(after), "{owners:?}");
        }
        assert_eq!(
            [1, 2, 3, 4].map(|owner| announced.has(at(owner))),
            [true, true, true, false]
        );
        assert!(with_held.has(at(4)));
        assert_eq!(with_held.before([at(4)]), BTreeSet::from([held.id]));
    }
}
