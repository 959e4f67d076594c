//! How many PR refs a repository has room for. Any author of an event can ask for one in 16 repositories, and it stays
//! as long as the event; its maintainers have room that strangers cannot take.

use std::collections::BTreeMap;

use nostr::key::PublicKey;

use crate::git::RefName;
use crate::nip34::Coordinate;
use crate::nip34::PullRequest;
use crate::rules::Disk;
use crate::rules::Facts;

/// Most refs of PRs and PR updates in one repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PullRequestLimits {
    /// Of all strangers together, and as many again of the repository's maintainers.
    pub refs_per_repository_max: usize,
    /// Of one author who is not a maintainer of it.
    pub refs_per_author_max: usize,
}

impl PullRequestLimits {
    /// More than any project on nostr has, and some hundred kilobytes of advertisement.
    pub const DEFAULT: Self = Self {
        refs_per_repository_max: 5_000,
        refs_per_author_max: 500,
    };
}

/// What room each repository has left; counted where a PR asks.
pub(super) struct RefRoom<'f> {
    facts: &'f Facts,
    disk: &'f Disk,
    limits: PullRequestLimits,
    taken: BTreeMap<Coordinate, Taken>,
}

/// Whose refs of PRs a repository has.
#[derive(Default)]
struct Taken {
    by_maintainers: usize,
    /// Of all others, and of authors that were not recorded.
    by_strangers: usize,
    by_author: BTreeMap<PublicKey, usize>,
}

impl<'f> RefRoom<'f> {
    pub(super) fn new(facts: &'f Facts, disk: &'f Disk, limits: PullRequestLimits) -> Self {
        Self {
            facts,
            disk,
            limits,
            taken: BTreeMap::new(),
        }
    }

    /// Returns what keeps the ref of a PR out of a repository; `None`: it exists, or there is room for it.
    pub(super) fn lack(&mut self, coordinate: &Coordinate, pull_request: &PullRequest) -> Option<String> {
        if self.has_ref(coordinate, pull_request) {
            return None;
        }
        let (is_maintainer, limits) = (self.facts.confirms(coordinate, &pull_request.author), self.limits);
        let taken = self.taken(coordinate);
        let by_author = taken.by_author.get(&pull_request.author).copied().unwrap_or_default();
        if is_maintainer {
            let is_full = taken.by_maintainers >= limits.refs_per_repository_max;
            return is_full.then(|| full("its maintainers", limits.refs_per_repository_max));
        }
        if by_author >= limits.refs_per_author_max {
            return Some(full("one author", limits.refs_per_author_max));
        }
        let is_full = taken.by_strangers >= limits.refs_per_repository_max;
        is_full.then(|| full("all non-maintainers together", limits.refs_per_repository_max))
    }

    /// Notes that a repository gets the ref of a PR.
    pub(super) fn take(&mut self, coordinate: &Coordinate, pull_request: &PullRequest) {
        if !self.has_ref(coordinate, pull_request) {
            let is_maintainer = self.facts.confirms(coordinate, &pull_request.author);
            self.taken(coordinate).add(Some(pull_request.author), is_maintainer);
        }
    }

    fn has_ref(&self, coordinate: &Coordinate, pull_request: &PullRequest) -> bool {
        let name = RefName::pull_request(&pull_request.event_id);
        let on_disk = self.disk.repositories.get(coordinate);
        on_disk.is_some_and(|on_disk| on_disk.refs.contains_key(&name))
    }

    fn taken(&mut self, coordinate: &Coordinate) -> &mut Taken {
        let (facts, disk) = (self.facts, self.disk);
        self.taken.entry(coordinate.clone()).or_insert_with(|| {
            let mut taken = Taken::default();
            let on_disk = disk.repositories.get(coordinate).into_iter();
            for (on_disk, name) in on_disk.flat_map(|on_disk| on_disk.refs.keys().map(move |name| (on_disk, name))) {
                let Some(event_id) = name.pull_request_id() else {
                    continue;
                };
                let author = on_disk.pull_request_authors.get(&event_id).copied();
                let is_maintainer = author.is_some_and(|author| facts.confirms(coordinate, &author));
                taken.add(author, is_maintainer);
            }
            taken
        })
    }
}

impl Taken {
    fn add(&mut self, author: Option<PublicKey>, is_maintainer: bool) {
        match is_maintainer {
            true => self.by_maintainers += 1,
            false => self.by_strangers += 1,
        }
        if let Some(author) = author {
            *self.by_author.entry(author).or_default() += 1;
        }
    }
}

fn full(whose: &str, max: usize) -> String {
    format!("room for its ref: a repository may have at most {max} PR refs of {whose}")
}

#[cfg(test)]
mod tests {
    use nostr::event::Event;

    use super::*;
    use crate::rules::OnDisk;
    use crate::rules::facts::tests::Scene;
    use crate::rules::facts::tests::announcement_event;
    use crate::rules::facts::tests::coordinate;
    use crate::rules::facts::tests::oid;
    use crate::rules::facts::tests::pubkey;
    use crate::rules::facts::tests::pull_request_event;
    use crate::rules::reconcile::Plan;
    use crate::rules::reconcile::PlanSettings;
    use crate::rules::reconcile::plan;

    const SETTINGS: PlanSettings = PlanSettings {
        sleep_secs: 1,
        pull_requests: PullRequestLimits {
            refs_per_repository_max: 3,
            refs_per_author_max: 2,
        },
    };

    /// Reconciles PRs that arrive at a repository with the commit `c`, the PRs of `there` and their refs.
    fn plan_for(there: &[&Event], are_noted: bool, arriving: &[&Event]) -> Plan {
        let mut on_disk = OnDisk {
            objects: [(oid('c'), crate::git::ObjectKind::Commit)].into(),
            ..OnDisk::default()
        };
        for event in there {
            on_disk.refs.insert(RefName::pull_request(&event.id), oid('c'));
            if are_noted {
                on_disk.pull_request_authors.insert(event.id, event.pubkey);
            }
        }
        let disk = Disk {
            repositories: [(coordinate(1, "r"), on_disk)].into(),
            ..Disk::default()
        };
        let announced = announcement_event(1, "r", 1, &[&["maintainers", &pubkey(2).to_hex()]]);
        let scene = Scene::default()
            .served([announced])
            .held(arriving.iter().copied().cloned());
        plan(&scene.facts(), &disk, &SETTINGS)
    }

    fn offer(author: u8, number: u64) -> Event {
        let address = coordinate(1, "r").to_string();
        let commit = oid('c').to_string();
        let tags: &[&[&str]] = &[&["a", &address], &["c", &commit]];
        crate::rules::facts::tests::event(author, crate::nip34::PULL_REQUEST, number, tags)
    }

    #[test]
    fn strangers_have_a_share_each_and_all_together_and_maintainers_room_of_their_own() {
        let offers: Vec<Event> = (1..=4).map(|number| offer(3, number)).collect();
        let (a, b) = (offer(4, 1), offer(4, 2));
        let full = [&offers[0], &offers[1], &a];
        let (owner, maintainer) = (offer(1, 1), offer(2, 1));
        for (story, there, are_noted, arriving, fits) in [
            ("the first", &[][..], true, &offers[0], true),
            (
                "one more than the share",
                &[&offers[0], &offers[1]],
                true,
                &offers[2],
                false,
            ),
            ("another's", &[&offers[0], &offers[1]], true, &a, true),
            ("another's in a full repository", &full, true, &b, false),
            ("one of authors unknown", &full, false, &b, false),
            ("one that has its ref", &full, true, &a, true),
            ("the owner's", &full, true, &owner, true),
            ("a maintainer's", &full, true, &maintainer, true),
        ] {
            let plan = plan_for(there, are_noted, &[arriving]);

            assert_eq!(!plan.releases.is_empty(), fits, "{story}: {plan:?}");
            let waits = plan
                .waiting
                .get(&arriving.id)
                .is_some_and(|text| text.contains("room for its ref"));
            assert_eq!(waits, !fits, "{story}: {plan:?}");
        }
    }

    #[test]
    fn those_that_arrive_together_share_what_is_left() {
        let offers: Vec<Event> = (1..=4).map(|number| offer(3, number)).collect();

        let plan = plan_for(&[], true, &offers.iter().collect::<Vec<_>>());

        assert_eq!((plan.releases.len(), plan.installations.len()), (2, 2));
        assert_eq!(plan.waiting.len(), 2);
    }

    #[test]
    fn one_that_finds_no_room_ends_at_its_deadline() {
        let (first, second) = (pull_request_event(3, &coordinate(1, "r"), 'c'), offer(3, 2));
        let late = offer(3, 3);
        let on_disk = OnDisk {
            refs: [&first, &second]
                .map(|event| (RefName::pull_request(&event.id), oid('c')))
                .into(),
            objects: [(oid('c'), crate::git::ObjectKind::Commit)].into(),
            pull_request_authors: [&first, &second].map(|event| (event.id, event.pubkey)).into(),
            ..OnDisk::default()
        };
        let disk = Disk {
            repositories: [(coordinate(1, "r"), on_disk)].into(),
            ..Disk::default()
        };
        let scene = Scene::default()
            .served([announcement_event(1, "r", 1, &[])])
            .held_until(0, [late.clone()]);

        let plan = plan(&scene.facts(), &disk, &SETTINGS);

        assert_eq!(plan.expired.len(), 1, "{plan:?}");
        assert_eq!(plan.expired[0].0, late.id);
    }
}
