//! How many PR refs a repository has room for, and for how many bytes that come with them. Any author of an event can
//! ask for a ref in 16 repositories, and it stays as long as the event; its maintainers have room that strangers cannot
//! take. Of strangers' room, each author and each address may have a part of what nobody else has: keys cost nothing,
//! and so the payer with most is the first to find none.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use nostr::key::PublicKey;

use crate::git::Oid;
use crate::git::RefName;
use crate::rules::BytesLeft;
use crate::rules::Disk;
use crate::rules::Facts;
use crate::rules::OnDisk;
use crate::rules::PullRequestOffer;
use crate::rules::SourceTag;
use crate::rules::StagedPacks;
use crate::rules::is_within_share;
use crate::rules::namesakes::RepositoryIndex;

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

/// What room each repository has left; counted where a PR asks. Repositories are known by their places.
pub(super) struct RefRoom<'f> {
    facts: &'f Facts,
    disk: &'f Disk,
    limits: PullRequestLimits,
    on_disk: Vec<Option<&'f OnDisk>>,
    taken: Vec<Option<Taken>>,
    /// What moves into the repositories of each owner by this plan: in all, and of strangers.
    planned: BTreeMap<PublicKey, (u64, u64)>,
}

/// A PR that asks for room in a repository.
#[derive(Debug, Clone, Copy)]
pub(super) struct RoomRequest<'p> {
    /// The repository.
    pub(super) at: RepositoryIndex,
    /// The author of the PR.
    pub(super) author: &'p PublicKey,
    /// Whether the author is a maintainer of the repository.
    pub(super) is_maintainers: bool,
    /// The name of its ref.
    pub(super) name: &'p RefName,
    /// What comes with it.
    pub(super) brought: StagedPacks,
}

/// What room a PR lacks, in words.
pub(super) struct RoomLack(pub(super) String);

/// The ref that a PR has, or room for it.
pub(super) struct FoundRoom {
    /// The current value of its ref; `None`: it does not exist, and there is room for it.
    pub(super) old: Option<Oid>,
    /// For whose shares the ref and its bytes count.
    pub(super) offer: PullRequestOffer,
}

/// Whose refs of PRs a repository has.
#[derive(Default)]
struct Taken {
    refs_of_maintainers: u64,
    /// Of all others, and of authors that were not recorded.
    of_strangers: Share,
    by_author: BTreeMap<PublicKey, Share>,
    by_source: BTreeMap<Option<SourceTag>, Share>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Share {
    refs: u64,
    bytes: u64,
}

impl<'f> RefRoom<'f> {
    pub(super) fn new(facts: &'f Facts, disk: &'f Disk, limits: PullRequestLimits) -> Self {
        let hosted = facts.hosted().iter();
        Self {
            facts,
            disk,
            limits,
            on_disk: hosted.map(|coordinate| disk.repositories.get(coordinate)).collect(),
            taken: facts.hosted().iter().map(|_| None).collect(),
            planned: BTreeMap::new(),
        }
    }

    /// Finds room for the ref of a PR and for what comes with it. A ref that exists needs none.
    pub(super) fn find(&mut self, request: RoomRequest<'_>) -> Result<FoundRoom, RoomLack> {
        let RoomRequest {
            at,
            author,
            is_maintainers,
            name,
            brought,
        } = request;
        let old = self.on_disk[at].and_then(|on_disk| on_disk.refs.get(name).copied());
        let lack = if old.is_none() { self.lack(request) } else { None };
        match lack {
            Some(lack) => Err(RoomLack(lack)),
            None => Ok(FoundRoom {
                old,
                offer: PullRequestOffer {
                    author: *author,
                    bytes: if is_maintainers { 0 } else { brought.bytes },
                    source: brought.source,
                },
            }),
        }
    }

    fn lack(&mut self, request: RoomRequest<'_>) -> Option<String> {
        let RoomRequest {
            at,
            author,
            is_maintainers,
            brought,
            ..
        } = request;
        // Without bytes it fits into a full repository too.
        let left = (brought.bytes > 0).then(|| self.bytes_left(at));
        let limits = self.limits;
        let taken = self.taken(at);
        let of_refs = match is_maintainers {
            true => taken.lacks_refs_for_maintainers(limits),
            false => taken.lacks_refs_for(author, brought.source, limits),
        };
        let of_bytes = |left: BytesLeft| match brought.bytes {
            bytes if bytes > left.all => Some(FULL),
            _ if is_maintainers => None,
            bytes => taken.lacks_bytes_for(author, brought, left.of_strangers.checked_sub(bytes)),
        };
        of_refs.or_else(|| left.and_then(of_bytes).map(str::to_owned))
    }

    /// Notes that a repository gets the ref of a PR. One that exists takes no more room.
    pub(super) fn take(&mut self, request: RoomRequest<'_>, room: &FoundRoom) {
        if room.old.is_some() {
            return;
        }
        let taken = self.taken(request.at);
        match request.is_maintainers {
            true => taken.refs_of_maintainers += 1,
            false => taken.add(Some(&room.offer), 1),
        }
        if request.brought.bytes > 0 {
            let owner = self.facts.hosted()[request.at].owner;
            let (all, of_strangers) = self.planned.entry(owner).or_default();
            (*all, *of_strangers) = (*all + request.brought.bytes, *of_strangers + room.offer.bytes);
        }
    }

    fn bytes_left(&self, at: RepositoryIndex) -> BytesLeft {
        let coordinate = &self.facts.hosted()[at];
        let unbounded = BytesLeft {
            all: u64::MAX,
            of_strangers: u64::MAX,
        };
        let left = self.disk.room.get(coordinate).copied().unwrap_or(unbounded);
        let (all, of_strangers) = self.planned.get(&coordinate.owner).copied().unwrap_or_default();
        BytesLeft {
            all: left.all.saturating_sub(all),
            of_strangers: left.of_strangers.saturating_sub(of_strangers),
        }
    }

    fn taken(&mut self, at: RepositoryIndex) -> &mut Taken {
        let count = || self.on_disk[at].map_or_else(Taken::default, |on_disk| Taken::of(self.facts, at, on_disk));
        self.taken[at].get_or_insert_with(count)
    }
}

impl Taken {
    fn of(facts: &Facts, at: RepositoryIndex, on_disk: &OnDisk) -> Self {
        let mut taken = Self::default();
        let event_ids: BTreeSet<_> = on_disk.refs.keys().filter_map(RefName::pull_request_id).collect();
        for event_id in &event_ids {
            let offer = on_disk.offers.get(event_id);
            match offer.is_some_and(|offer| facts.confirms(&facts.hosted()[at], &offer.author)) {
                true => taken.refs_of_maintainers += 1,
                false => taken.add(offer, 1),
            }
        }
        let ended = on_disk
            .offers
            .iter()
            .filter(|(event_id, _)| !event_ids.contains(event_id));
        ended.for_each(|(_, offer)| taken.add(Some(offer), 0));
        taken
    }

    fn add(&mut self, offer: Option<&PullRequestOffer>, refs: u64) {
        let source = self.by_source.entry(offer.and_then(|offer| offer.source)).or_default();
        let author = offer.map(|offer| self.by_author.entry(offer.author).or_default());
        for share in [Some(&mut self.of_strangers), Some(source), author]
            .into_iter()
            .flatten()
        {
            share.refs += refs;
            share.bytes += offer.map_or(0, |offer| offer.bytes);
        }
    }

    fn lacks_refs_for_maintainers(&self, limits: PullRequestLimits) -> Option<String> {
        let max = limits.refs_per_repository_max;
        (self.refs_of_maintainers >= max as u64).then(|| full("its maintainers", max))
    }

    fn lacks_refs_for(
        &self,
        author: &PublicKey,
        source: Option<SourceTag>,
        limits: PullRequestLimits,
    ) -> Option<String> {
        let (max, of_author_max) = (limits.refs_per_repository_max, limits.refs_per_author_max);
        let Some(left) = (max as u64).checked_sub(self.of_strangers.refs + 1) else {
            return Some(full("all non-maintainers together", max));
        };
        let (of_author, of_source) = self.shares(author, source);
        // A payer without any may have one.
        let fits = |its: u64, share| its == 0 || is_within_share(its + 1, left, share);
        if of_author_max == 0 || !fits(of_author.refs, (of_author_max as u64, max as u64)) {
            return Some(full("one author, and fewer where it has many", of_author_max));
        }
        let of_source_max = max * SOURCE_SHARE.0 as usize / SOURCE_SHARE.1 as usize;
        (!fits(of_source.refs, SOURCE_SHARE))
            .then(|| full("authors at one address, and fewer where it has many", of_source_max))
    }

    /// `left`: what is left of strangers' room with what this brings; `None`: that does not fit at all.
    fn lacks_bytes_for(&self, author: &PublicKey, brought: StagedPacks, left: Option<u64>) -> Option<&'static str> {
        let Some(left) = left else {
            return Some(FULL_OF_STRANGERS);
        };
        let (of_author, of_source) = self.shares(author, brought.source);
        let fits = |its: Share| is_within_share(its.bytes.saturating_add(brought.bytes), left, BYTES_SHARE);
        (!fits(of_author) || !fits(of_source)).then_some(FULL_OF_ONE)
    }

    fn shares(&self, author: &PublicKey, source: Option<SourceTag>) -> (Share, Share) {
        let of_author = self.by_author.get(author).copied().unwrap_or_default();
        (of_author, self.by_source.get(&source).copied().unwrap_or_default())
    }
}

fn full(whose: &str, max: usize) -> String {
    format!("room for its ref: a repository may have at most {max} PR refs of {whose}")
}

/// The part of strangers' refs in a repository that one address may have.
const SOURCE_SHARE: (u64, u64) = (1, 4);

/// The part of the bytes of strangers' PRs that one author, and one address, may have.
const BYTES_SHARE: (u64, u64) = (1, 4);

/// What a PR waits for that does not fit.
const FULL: &str = "room for its commit: the repository, or all of its owner's together, would have more than they may";
const FULL_OF_STRANGERS: &str =
    "room for its commit: PRs of non-maintainers may bring a quarter of what a repository and its owner may have";
const FULL_OF_ONE: &str = "room for its commit: its author, or the address that it came from, would have most of what \
                           PRs of non-maintainers may bring";

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use nostr::event::Event;

    use super::*;
    use crate::git::ObjectKind;
    use crate::rules::OnDisk;
    use crate::rules::Staged;
    use crate::rules::facts::tests::Scene;
    use crate::rules::facts::tests::announcement_event;
    use crate::rules::facts::tests::coordinate;
    use crate::rules::facts::tests::oid;
    use crate::rules::facts::tests::pubkey;
    use crate::rules::reconcile::Plan;
    use crate::rules::reconcile::PlanSettings;
    use crate::rules::reconcile::plan;

    const SETTINGS: PlanSettings = PlanSettings {
        sleep_secs: 1,
        pull_requests: PullRequestLimits {
            refs_per_repository_max: 12,
            refs_per_author_max: 2,
        },
    };

    fn address(last: u8) -> IpAddr {
        IpAddr::from([203, 0, 113, last])
    }

    /// A PR, and the address that it comes from.
    type From<'e> = (&'e Event, u8);

    fn on_disk(there: &[From<'_>], are_noted: bool) -> OnDisk {
        let mut on_disk = OnDisk {
            objects: [(oid('c'), ObjectKind::Commit)].into(),
            ..OnDisk::default()
        };
        for (event, from) in there {
            on_disk.refs.insert(RefName::pull_request(&event.id), oid('c'));
            if are_noted {
                on_disk.offers.insert(event.id, brought(event.pubkey, 0, *from));
            }
        }
        on_disk
    }

    fn brought(author: PublicKey, bytes: u64, from: u8) -> PullRequestOffer {
        PullRequestOffer {
            author,
            bytes,
            source: Some(SourceTag::of_address(address(from))),
        }
    }

    /// Reconciles PRs that arrive at a repository with the commit `c`, the PRs of `there` and their refs.
    fn plan_for(there: &[From<'_>], are_noted: bool, arriving: &[From<'_>]) -> Plan {
        let disk = Disk {
            repositories: [(coordinate(1, "r"), on_disk(there, are_noted))].into(),
            ..Disk::default()
        };
        plan(&arriving_at(arriving, u64::MAX).facts(), &disk, &SETTINGS)
    }

    fn arriving_at(arriving: &[From<'_>], deadline: u64) -> Scene {
        let announced = announcement_event(1, "r", 1, &[&["maintainers", &pubkey(2).to_hex()]]);
        let events = arriving.iter().map(|(event, _)| (*event).clone());
        let mut scene = Scene::default().served([announced]).held_until(deadline, events);
        for (entry, (_, from)) in scene.entries.iter_mut().zip(arriving) {
            entry.source = format!("IP4 {}", address(*from));
        }
        scene
    }

    fn offer(author: u8, number: u64) -> Event {
        let address = coordinate(1, "r").to_string();
        let commit = oid('c').to_string();
        let tags: &[&[&str]] = &[&["a", &address], &["c", &commit]];
        crate::rules::facts::tests::event(author, crate::nip34::PULL_REQUEST, number, tags)
    }

    #[test]
    fn a_ref_that_gets_another_commit_takes_no_more_room() {
        let offers: Vec<Event> = (1..=12).map(|number| offer(1, number)).collect();
        let there: Vec<From<'_>> = offers[..11].iter().map(|event| (event, 1)).collect();
        let mut changing = on_disk(&there, true);
        changing.refs.insert(RefName::pull_request(&offers[0].id), oid('d'));
        let disk = Disk {
            repositories: [(coordinate(1, "r"), changing)].into(),
            ..Disk::default()
        };
        let arriving = [(&offers[0], 1), (&offers[11], 1)];

        let plan = plan(&arriving_at(&arriving, u64::MAX).facts(), &disk, &SETTINGS);

        let installed: Vec<_> = plan.installations.iter().map(|it| (it.event_id, it.old)).collect();
        assert_eq!(installed, [(offers[0].id, Some(oid('d'))), (offers[11].id, None)]);
    }

    #[test]
    fn strangers_have_a_share_each_and_all_together_and_maintainers_room_of_their_own() {
        let own: Vec<Event> = (1..=3).map(|number| offer(3, number)).collect();
        let others: Vec<Event> = (4..=16).map(|author| offer(author, 1)).collect();
        let apart: Vec<From<'_>> = others.iter().zip(1..).take(12).collect();
        let two = [(&own[0], 1), (&own[1], 2)];
        let at_one = [(&others[0], 1), (&others[1], 1), (&others[2], 1)];
        let (owner, maintainer, again) = (offer(1, 1), offer(2, 1), offer(4, 2));
        for (story, there, are_noted, arriving, lacks) in [
            ("the first", &[][..], true, (&own[0], 1), None),
            (
                "more than an author's share",
                &two,
                true,
                (&own[2], 3),
                Some("one author"),
            ),
            ("another's", &two, true, (&others[0], 1), None),
            (
                "more than an address's share",
                &at_one,
                true,
                (&others[3], 1),
                Some("one address"),
            ),
            ("another address's", &at_one, true, (&others[3], 2), None),
            (
                "the last one, of somebody without any",
                &apart[..11],
                true,
                (&others[12], 13),
                None,
            ),
            (
                "the last one, of one who has one",
                &apart[..11],
                true,
                (&again, 13),
                Some("one author"),
            ),
            (
                "the last one, of an address that has one",
                &apart[..11],
                true,
                (&others[12], 1),
                Some("one address"),
            ),
            (
                "one in a full repository",
                &apart,
                true,
                (&others[12], 13),
                Some("all non-maintainers"),
            ),
            (
                "one of authors unknown",
                &apart,
                false,
                (&others[12], 13),
                Some("all non-maintainers"),
            ),
            ("one that has its ref", &apart, true, (&others[0], 1), None),
            ("the owner's", &apart, true, (&owner, 1), None),
            ("a maintainer's", &apart, true, (&maintainer, 1), None),
        ] {
            let plan = plan_for(there, are_noted, &[arriving]);

            assert_eq!(!plan.releases.is_empty(), lacks.is_none(), "{story}: {plan:?}");
            let waits = plan.waiting.get(&arriving.0.id);
            let expected =
                lacks.map(|lacks| waits.is_some_and(|it| it.contains("room for its ref") && it.contains(lacks)));
            assert!(expected.unwrap_or(waits.is_none()), "{story}: {plan:?}");
        }
    }

    #[test]
    fn those_that_arrive_together_share_what_is_left() {
        let offers: Vec<Event> = (1..=4).map(|number| offer(3, number)).collect();
        let offers: Vec<From<'_>> = offers.iter().zip(1..).collect();

        let plan = plan_for(&[], true, &offers);

        assert_eq!((plan.releases.len(), plan.installations.len()), (2, 2));
        assert_eq!((plan.waiting.len(), plan.lacking.len()), (2, 2));
    }

    #[test]
    fn one_that_finds_no_room_ends_at_its_deadline() {
        let offers: Vec<Event> = (1..=3).map(|number| offer(3, number)).collect();
        let disk = Disk {
            repositories: [(coordinate(1, "r"), on_disk(&[(&offers[0], 1), (&offers[1], 2)], true))].into(),
            ..Disk::default()
        };

        let plan = plan(&arriving_at(&[(&offers[2], 3)], 0).facts(), &disk, &SETTINGS);

        assert_eq!(plan.expired.len(), 1, "{plan:?}");
        assert_eq!(plan.expired[0].0, offers[2].id);
    }

    /// PRs to a repository, each with its commit and so many bytes staged, and PRs that have brought some.
    fn staged(arriving: &[(&Event, u64, u8)], had: &[PullRequestOffer], left: BytesLeft) -> Disk {
        let here = OnDisk {
            offers: (0..)
                .zip(had)
                .map(|(id, offer)| (nostr::event::EventId::from_byte_array([id; 32]), *offer))
                .collect(),
            ..OnDisk::default()
        };
        let packs = arriving.iter().map(|(event, bytes, from)| {
            let staged = Staged {
                coordinate: coordinate(1, "r"),
                event_id: event.id,
                commit_oid: oid('c'),
            };
            let source = Some(SourceTag::of_address(address(*from)));
            (staged, StagedPacks { bytes: *bytes, source })
        });
        let staged_packs: BTreeMap<_, _> = packs.collect();
        Disk {
            repositories: [(coordinate(1, "r"), here)].into(),
            staged: staged_packs.keys().cloned().collect(),
            staged_packs,
            room: [(coordinate(1, "r"), left)].into(),
            ..Disk::default()
        }
    }

    /// PR commits were charged to nobody: the disk filled, and the owner's own push found no room.
    #[test]
    fn the_commit_of_a_pull_request_moves_in_where_there_is_room_for_its_bytes() {
        let (stranger, owner) = (offer(3, 1), offer(1, 1));
        let left = BytesLeft {
            all: 1000,
            of_strangers: 400,
        };
        let none = BytesLeft {
            all: 0,
            of_strangers: 0,
        };
        let (own, other) = (brought(pubkey(3), 60, 7), brought(pubkey(4), 60, 1));
        for (story, event, bytes, had, left, lack) in [
            ("a quarter of what strangers may", &stranger, 100, &[][..], left, None),
            ("more than that", &stranger, 101, &[], left, Some(FULL_OF_ONE)),
            (
                "its author has brought some",
                &stranger,
                100,
                &[own],
                left,
                Some(FULL_OF_ONE),
            ),
            (
                "somebody at its address has",
                &stranger,
                100,
                &[other],
                left,
                Some(FULL_OF_ONE),
            ),
            (
                "more than all strangers may",
                &stranger,
                401,
                &[],
                left,
                Some(FULL_OF_STRANGERS),
            ),
            ("nothing but a ref", &stranger, 0, &[], none, None),
            ("the owner's", &owner, 1000, &[own], left, None),
            ("more than there is for the owner", &owner, 1001, &[], left, Some(FULL)),
        ] {
            let disk = staged(&[(event, bytes, 1)], had, left);

            let held = plan(&arriving_at(&[(event, 9)], u64::MAX).facts(), &disk, &SETTINGS);

            assert_eq!(held.releases.is_empty(), lack.is_some(), "{story}: {held:?}");
            assert_eq!(
                held.waiting.get(&event.id).map(String::as_str),
                lack,
                "{story}: {held:?}"
            );
            assert!(held.unstage.is_empty(), "{story}: {held:?}");
            let paid: Vec<_> = held.installations.iter().map(|it| (it.bytes, it.offer)).collect();
            let paid_by_strangers = if event.id == owner.id { 0 } else { bytes };
            let expected = [(bytes, brought(event.pubkey, paid_by_strangers, 1))];
            assert_eq!(paid, expected[..usize::from(lack.is_none())], "{story}");
            // One that another repository's commit has completed waits in no purgatory.
            let served = plan(&arriving_at(&[], 1).served([event.clone()]).facts(), &disk, &SETTINGS);
            assert_eq!(!served.unstage.is_empty(), lack.is_some(), "{story}: {served:?}");
        }
    }

    #[test]
    fn bytes_that_arrive_together_share_what_is_left() {
        let (one, two) = (offer(3, 1), offer(4, 1));
        let left = BytesLeft {
            all: 1000,
            of_strangers: 400,
        };
        let disk = staged(&[(&one, 100, 1), (&two, 100, 2)], &[], left);

        let plan = plan(
            &arriving_at(&[(&one, 1), (&two, 2)], u64::MAX).facts(),
            &disk,
            &SETTINGS,
        );

        assert_eq!((plan.installations.len(), plan.lacking.len()), (1, 1), "{plan:?}");
    }
}
