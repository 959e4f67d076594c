//! Whether an event that arrives is held, accepted or refused (GRASP-01, "Repository Announcements", "State";
//! docs/facts/grasp.md 1.3, 1.5, 1.8; docs/ARCHITECTURE.md rule 3).

use std::collections::BTreeSet;

use nostr::event::Event;
use nostr::event::EventId;

use super::EventStatus;
use super::Facts;
use super::Refusal;
use super::namesakes::Counted;
use crate::nip01;
use crate::nip01::TimeDefect;
use crate::nip34;
use crate::nip34::Announcement;
use crate::nip34::Coordinate;
use crate::nip34::PullRequest;
use crate::nip34::State;
use crate::nip34::Unfulfillable;

/// An event that is held until its git data has arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GitEvent {
    /// Kind 30617.
    Announcement(Announcement),
    /// Kind 30618.
    State(State),
    /// Kinds 1618 and 1619.
    PullRequest(PullRequest),
}

impl GitEvent {
    /// Parses an event; `None`: its kind needs no git data.
    ///
    /// # Errors
    /// The refusal of an event that can never be held.
    pub fn parse(event: &Event) -> Result<Option<Self>, Refusal> {
        Ok(Some(match event.kind.as_u16() {
            nip34::ANNOUNCEMENT => Self::Announcement(Announcement::parse(event)?),
            nip34::STATE => Self::State(State::parse(event)?),
            nip34::PULL_REQUEST | nip34::PULL_REQUEST_UPDATE => Self::PullRequest(PullRequest::parse(event)?),
            _ => return Ok(None),
        }))
    }

    /// Returns its coordinates: its author's, or those of the repositories that a PR is offered to. The decision needs
    /// facts about these.
    pub fn coordinates(&self) -> BTreeSet<Coordinate> {
        match self {
            Self::Announcement(announcement) => BTreeSet::from([announcement.coordinate.clone()]),
            Self::State(state) => BTreeSet::from([state.home()]),
            Self::PullRequest(pull_request) => pull_request.coordinates.clone(),
        }
    }
}

/// What to do with an event that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// The relay may store it: it is being released.
    Accept,
    /// It waits for its git data.
    Hold {
        /// The coordinates under which the purgatory indexes it.
        coordinates: BTreeSet<Coordinate>,
        /// Entries whose deadlines are extended to this one's.
        extend: BTreeSet<EventId>,
    },
    /// It is refused, and changes nothing but the entries that it ends.
    Refuse {
        /// Why.
        refusal: Refusal,
        /// Held entries that it ends nevertheless: the announcement that it replaces by one of another server, or of a
        /// private repository.
        ends: BTreeSet<EventId>,
    },
}

impl Admission {
    /// Whether an announcement that lists the author, or the owner of a repository that a PR is offered to, would make
    /// another decision of it.
    pub fn is_for_want_of_listing(&self) -> bool {
        match self {
            Self::Accept | Self::Hold { .. } => false,
            Self::Refuse { refusal, ends } => {
                let is_unlisted = matches!(
                    refusal,
                    Refusal::NotListed(_) | Refusal::NotMaintainer | Refusal::NotHosted
                );
                is_unlisted && ends.is_empty()
            }
        }
    }

    /// Returns this decision, or another where it is for want of an announcement that lists somebody: the index has
    /// such announcements, and to read them would take too long for a relay that waits for the answer. What they
    /// authorise is decided when the event is reconciled.
    #[must_use]
    pub fn unless_listed(self, git_event: &GitEvent, facts: &Facts) -> Self {
        let is_listed = |at: &Coordinate| {
            let mut owners = facts.listed_by.get(at).into_iter().flatten();
            owners.any(|owner| !facts.access.denies_author(owner))
        };
        let mut coordinates = git_event.coordinates();
        coordinates.retain(is_listed);
        if coordinates.is_empty() || !self.is_for_want_of_listing() {
            return self;
        }
        match git_event {
            GitEvent::State(State {
                declared: Err(Unfulfillable::Malformed(defect)),
                ..
            }) => Refusal::Malformed(defect.clone()).into(),
            GitEvent::Announcement(_) | GitEvent::State(_) | GitEvent::PullRequest(_) => Self::Hold {
                coordinates,
                extend: BTreeSet::new(),
            },
        }
    }
}

impl From<Refusal> for Admission {
    fn from(refusal: Refusal) -> Self {
        Self::Refuse {
            refusal,
            ends: BTreeSet::new(),
        }
    }
}

/// Decides about an event that arrived. `facts` are those of its coordinates.
pub fn decide_admission(event: &Event, git_event: &GitEvent, facts: &Facts) -> Admission {
    if facts.access.denies_author(&event.pubkey) {
        return Refusal::Blocked.into();
    }
    // Before the pass of a releasing event: a deletion ends that too (docs/ARCHITECTURE.md rule 3).
    if facts.is_deleted(event) {
        return Refusal::Deleted.into();
    }
    if facts.is_releasing(&event.id) {
        return Admission::Accept;
    }
    match nip01::expiration(event) {
        Err(defect) => return Refusal::Untimely(defect).into(),
        Ok(Some(expiration)) if expiration <= facts.now => return Refusal::Untimely(TimeDefect::Expired).into(),
        Ok(Some(_) | None) => {}
    }
    match git_event {
        GitEvent::Announcement(announcement) => decide_announcement(announcement, facts),
        GitEvent::State(state) => decide_state(state, facts),
        GitEvent::PullRequest(pull_request) => decide_pull_request(pull_request, facts),
    }
}

fn decide_announcement(announcement: &Announcement, facts: &Facts) -> Admission {
    let coordinate = &announcement.coordinate;
    let served = facts.served_announcement(coordinate);
    if served.is_some_and(|known| known.item.revision > announcement.revision) {
        return Refusal::Replaced.into();
    }
    let hold = |extend| Admission::Hold {
        coordinates: BTreeSet::from([coordinate.clone()]),
        extend,
    };
    let names_us = facts.service.is_named_by(announcement);
    if names_us && !announcement.is_private {
        if !facts.access.permits(coordinate) {
            return Refusal::Blocked.into();
        }
        return hold(waiting_states(announcement, facts));
    }
    // An announcement that de-lists a served one of ours is released, so that readers see it.
    if !names_us && served.is_some_and(|known| facts.service.is_named_by(&known.item)) {
        return hold(BTreeSet::new());
    }
    let ends: BTreeSet<EventId> = facts
        .announcements_of(coordinate)
        .filter(|known| !known.status.counts_as_served() && known.item.revision < announcement.revision)
        .filter(|known| facts.service.is_named_by(&known.item))
        .map(|known| known.item.revision.event_id)
        .collect();
    if names_us {
        let refusal = Refusal::Private;
        return Admission::Refuse { refusal, ends };
    }
    // The maintainer exception: a maintainer whom a repository hosted here lists may announce the same identifier for
    // another server, so that readers find both.
    let namesakes = facts.namesakes_of(&coordinate.identifier);
    let is_listed_by_another = || namesakes.is_some_and(|namesakes| namesakes.is_named_elsewhere(&coordinate.owner));
    if ends.is_empty() && is_listed_by_another() {
        return hold(BTreeSet::new());
    }
    Admission::Refuse {
        refusal: Refusal::NotListed(facts.service.clone()),
        ends,
    }
}

/// Whether an event announces a repository for this server where no served announcement does: its git data makes one on
/// the disk.
pub fn announces_new_repository(git_event: &GitEvent, facts: &Facts) -> bool {
    let GitEvent::Announcement(announcement) = git_event else {
        return false;
    };
    let served = facts.served_announcement(&announcement.coordinate);
    facts.service.is_named_by(announcement) && !served.is_some_and(|known| facts.service.is_named_by(&known.item))
}

/// Returns the held states that wait for this repository: a replacement of a held announcement gives them a fresh
/// deadline together with its own.
fn waiting_states(announcement: &Announcement, facts: &Facts) -> BTreeSet<EventId> {
    let states = facts.states_authorised_by(&announcement.coordinate, Counted::IfAwake);
    let held = states.into_iter().filter(|known| known.status == EventStatus::Held);
    held.map(|known| known.item.revision.event_id).collect()
}

fn decide_state(state: &State, facts: &Facts) -> Admission {
    let served = facts.served_state_by(&state.author, &state.identifier);
    if served.is_some_and(|revision| revision > state.revision) {
        return Refusal::Replaced.into();
    }
    let namesakes = facts.namesakes_of(&state.identifier);
    let (confirming, is_invited) = namesakes.map_or_else(Default::default, |known| known.admitting(&state.author));
    if confirming.is_empty() && !is_invited {
        return Refusal::NotMaintainer.into();
    }
    let announcements = confirming.iter().flat_map(|at| facts.announcements_of(at));
    let extend = announcements
        .filter(|known| !known.status.counts_as_served())
        .map(|known| known.item.revision.event_id)
        .collect();
    if let Err(Unfulfillable::Malformed(defect)) = &state.declared {
        return Refusal::Malformed(defect.clone()).into();
    }
    Admission::Hold {
        coordinates: BTreeSet::from([state.home()]),
        extend,
    }
}

fn decide_pull_request(pull_request: &PullRequest, facts: &Facts) -> Admission {
    let is_open = |offered: &&Coordinate| facts.stands_for_a_repository(offered);
    let coordinates: BTreeSet<Coordinate> = pull_request.coordinates.iter().filter(is_open).cloned().collect();
    if coordinates.is_empty() {
        return Refusal::NotHosted.into();
    }
    Admission::Hold {
        coordinates,
        extend: BTreeSet::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::purgatory::EntryStatus;
    use crate::rules::facts::tests::Scene;
    use crate::rules::facts::tests::announcement_event;
    use crate::rules::facts::tests::coordinate;
    use crate::rules::facts::tests::event;
    use crate::rules::facts::tests::foreign_announcement_event;
    use crate::rules::facts::tests::pubkey;
    use crate::rules::facts::tests::pull_request_event;
    use crate::rules::facts::tests::state_event;

    fn admit(event: &Event, scene: Scene) -> Admission {
        let git_event = GitEvent::parse(event).unwrap().unwrap();
        decide_admission(event, &git_event, &scene.facts())
    }

    fn refusal(admission: &Admission) -> Option<String> {
        match admission {
            Admission::Refuse { refusal, .. } => Some(refusal.to_string()),
            Admission::Accept | Admission::Hold { .. } => None,
        }
    }

    const REFS: &[(&str, char)] = &[("heads/main", 'a')];

    #[test]
    fn an_announcement_that_names_this_server_is_held() {
        let admission = admit(&announcement_event(1, "r", 1, &[]), Scene::default());

        assert!(matches!(admission, Admission::Hold { extend, .. } if extend.is_empty()));
    }

    #[test]
    fn a_replacement_gives_waiting_states_a_fresh_deadline() {
        let state = state_event(1, "r", 5, REFS);
        let scene = Scene::default().held([
            announcement_event(1, "r", 1, &[]),
            state.clone(),
            state_event(2, "r", 5, REFS),
        ]);

        let admission = admit(&announcement_event(1, "r", 2, &[]), scene);

        assert!(matches!(admission, Admission::Hold { extend, .. } if extend == BTreeSet::from([state.id])));
    }

    #[test]
    fn a_repository_is_new_until_an_announcement_for_this_server_is_served() {
        let ours = announcement_event(1, "r", 1, &[]);
        let elsewhere = foreign_announcement_event(1, "r", 1, &[]);
        let again = announcement_event(1, "r", 2, &[]);
        for (story, scene, event, is_new) in [
            ("nobody knows it", Scene::default(), &again, true),
            ("it waits already", Scene::default().held([ours.clone()]), &again, true),
            ("it is served", Scene::default().served([ours.clone()]), &again, false),
            (
                "it is served for another server",
                Scene::default().served([elsewhere]),
                &again,
                true,
            ),
            (
                "it goes to another server",
                Scene::default().served([ours.clone()]),
                &foreign_announcement_event(1, "r", 2, &[]),
                false,
            ),
            (
                "a state is none",
                Scene::default(),
                &state_event(1, "r", 1, REFS),
                false,
            ),
        ] {
            let git_event = GitEvent::parse(event).unwrap().unwrap();
            assert_eq!(announces_new_repository(&git_event, &scene.facts()), is_new, "{story}");
        }
    }

    #[test]
    fn announcements_of_another_server() {
        let elsewhere = foreign_announcement_event(1, "r", 9, &[]);
        let ours = announcement_event(1, "r", 1, &[]);
        let lists_author = announcement_event(2, "r", 1, &[&["maintainers", &pubkey(1).to_hex()]]);
        let invites_author = announcement_event(2, "r", 1, &[&["m", &pubkey(1).to_hex()]]);
        let other_identifier = announcement_event(2, "x", 1, &[&["maintainers", &pubkey(1).to_hex()]]);
        for (story, scene, held) in [
            ("nobody knows it", Scene::default(), false),
            (
                "it takes a served one of ours away",
                Scene::default().served([ours.clone()]),
                true,
            ),
            (
                "it takes a held one of ours away",
                Scene::default().held([ours.clone()]),
                false,
            ),
            (
                "a served one lists its author",
                Scene::default().served([lists_author.clone()]),
                true,
            ),
            (
                "a held one lists its author",
                Scene::default().held([lists_author]),
                true,
            ),
            (
                "a held one invites its author",
                Scene::default().held([invites_author]),
                true,
            ),
            (
                "another repository lists its author",
                Scene::default().served([other_identifier]),
                false,
            ),
        ] {
            let admission = admit(&elsewhere, scene);

            assert_eq!(matches!(admission, Admission::Hold { .. }), held, "{story}");
            if let Some(text) = refusal(&admission) {
                assert!(text.starts_with("invalid: "), "{text}");
            }
        }
    }

    /// Where only the repository of a maintainer is hosted and not that of its lead, the lead's announcement has to be
    /// here too, or the maintainer may never push (ngit-grasp before 2.0.0).
    #[test]
    fn a_lead_on_another_server_is_announced_here() {
        let (lead, maintainer) = (pubkey(1).to_hex(), pubkey(2).to_hex());
        let roles: &[&[&str]] = &[&["M", &lead], &["m", &maintainer]];
        let elsewhere = foreign_announcement_event(1, "r", 9, roles);
        let here = announcement_event(2, "r", 1, roles);
        for (story, scene) in [
            ("held", Scene::default().held([here.clone()])),
            ("served", Scene::default().served([here])),
        ] {
            let admission = admit(&elsewhere, scene);

            assert!(matches!(admission, Admission::Hold { .. }), "{story}: {admission:?}");
        }
    }

    #[test]
    fn moving_away_ends_the_older_held_announcement_only() {
        let ours = announcement_event(1, "r", 5, &[]);
        for (created_at, ends) in [(6, true), (4, false)] {
            let admission = admit(
                &foreign_announcement_event(1, "r", created_at, &[]),
                Scene::default().held([ours.clone()]),
            );

            let Admission::Refuse { ends: ended, .. } = admission else {
                panic!("held")
            };
            assert_eq!(ended.contains(&ours.id), ends, "{created_at}");
        }
    }

    #[test]
    fn an_announcement_of_a_private_repository_is_refused_and_ends_a_held_public_one() {
        let ours = announcement_event(1, "r", 5, &[]);
        for (tags, private) in [
            (&["private", "true"][..], true),
            (&["private"], true),
            (&["private", "false"], false),
            (&["public-read", "false"], true),
            (&["public-read", "true"], false),
        ] {
            let newer = announcement_event(1, "r", 6, &[tags]);
            match admit(&newer, Scene::default().held([ours.clone()])) {
                Admission::Refuse { refusal, ends } => {
                    assert!(
                        private && refusal.to_string().starts_with("restricted: "),
                        "{tags:?}: {refusal}"
                    );
                    assert_eq!(ends, BTreeSet::from([ours.id]));
                }
                Admission::Hold { .. } => assert!(!private, "{tags:?}"),
                Admission::Accept => panic!("{tags:?}"),
            }
            let served = admit(&newer, Scene::default().served([ours.clone()]));
            assert_eq!(refusal(&served).is_some(), private, "{tags:?}");
            // It may go to another server.
            let away = foreign_announcement_event(1, "r", 6, &[tags]);
            let away = admit(&away, Scene::default().served([ours.clone()]));
            assert!(matches!(away, Admission::Hold { .. }), "{tags:?}");
        }
    }

    /// Their author got OK, and then nothing.
    #[test]
    fn a_state_that_no_push_can_fulfil_is_refused_by_the_name_of_its_ref() {
        let announced = || Scene::default().served([announcement_event(1, "r", 1, &[])]);
        let oid = &*"a".repeat(40);
        let long = format!("refs/heads/{}", "x".repeat(251));
        for (tags, refused) in [
            (
                &[&["refs/heads/main", ""][..]][..],
                Some("refs/heads/main has no valid object id"),
            ),
            (
                &[&["refs/heads/main", oid], &["refs/tags/v1", "latest"]],
                Some("refs/tags/v1 has no valid object id"),
            ),
            (
                &[&["refs/heads/main", &"A".repeat(40)]],
                Some("refs/heads/main has no valid object id"),
            ),
            (
                &[&["refs/heads/main", &"0".repeat(40)]],
                Some("refs/heads/main has no valid object id"),
            ),
            (
                &[&["refs/heads/main", "abc123"], &["refs/heads/x", ""]],
                Some("refs/heads/x has no valid object id"),
            ),
            (
                &[&["refs/heads/a..b", oid]],
                Some("refs/heads/a..b is not a valid ref name"),
            ),
            (&[&[&long, oid]], Some("is not a valid ref name")),
            (
                &[&["refs/heads/a", oid], &["refs/heads/a/b", oid]],
                Some("cannot both exist"),
            ),
            // The public audit sends it, and wants it to be taken.
            (&[&["refs/heads/main", "abc123"]], None),
            (&[&["refs/heads/main", oid], &["refs/tags/v1^{}", ""]], None),
        ] {
            let tags = [&[&["d", "r"][..]], tags].concat();
            let admission = admit(&event(1, nip34::STATE, 5, &tags), announced());
            let text = refusal(&admission);
            match refused {
                Some(name) => {
                    let text = text.unwrap();
                    assert!(text.starts_with("invalid: ") && text.contains(name), "{text}");
                }
                None => assert_eq!(text, None, "{tags:?}"),
            }
        }
    }

    /// Of two announcements of one second the one with the higher id took a repository away (ngit-grasp before 3.0.3).
    #[test]
    fn of_one_second_only_the_lower_id_moves_a_repository_away() {
        let mut outcomes = BTreeSet::new();
        for n in 0..16 {
            let away = foreign_announcement_event(1, "r", 5, &[&["n", &n.to_string()]]);
            let ours = announcement_event(1, "r", 5, &[]);
            let wins = away.id < ours.id;
            outcomes.insert(wins);

            let held = admit(&away, Scene::default().held([ours.clone()]));
            let served = admit(&away, Scene::default().served([ours.clone()]));

            let Admission::Refuse { ends, .. } = held else {
                panic!("{held:?}")
            };
            assert_eq!(ends.contains(&ours.id), wins);
            assert_eq!(matches!(served, Admission::Hold { .. }), wins, "{served:?}");
        }
        assert_eq!(outcomes.len(), 2, "both orders came up");
    }

    #[test]
    fn older_than_served_is_replaced() {
        let scene = || Scene::default().served([announcement_event(1, "r", 5, &[]), state_event(1, "r", 5, REFS)]);

        let texts = [
            refusal(&admit(&announcement_event(1, "r", 4, &[]), scene())),
            refusal(&admit(&state_event(1, "r", 4, REFS), scene())),
        ];

        assert_eq!(
            texts,
            [
                Some("replaced: have newer event".to_owned()),
                Some("replaced: have newer event".to_owned())
            ]
        );
    }

    #[test]
    fn states() {
        let own = announcement_event(1, "r", 1, &[]);
        let listing = announcement_event(1, "r", 1, &[&["maintainers", &pubkey(2).to_hex()]]);
        let inviting = announcement_event(1, "r", 1, &[&["m", &pubkey(2).to_hex()]]);
        for (story, author, scene, expected) in [
            (
                "no announcement",
                1,
                Scene::default(),
                Err("restricted: no announcement (kind 30617)"),
            ),
            (
                "another identifier",
                1,
                Scene::default().held([announcement_event(1, "x", 1, &[])]),
                Err("restricted: no announcement (kind 30617)"),
            ),
            ("the owner, held", 1, Scene::default().held([own.clone()]), Ok(true)),
            (
                "the owner, served",
                1,
                Scene::default().served([own.clone()]),
                Ok(false),
            ),
            (
                "the owner, asleep",
                1,
                Scene::default().with(EntryStatus::Asleep, 2000, [own.clone()]),
                Ok(true),
            ),
            (
                "a stranger",
                2,
                Scene::default().held([own.clone()]),
                Err("restricted: no announcement (kind 30617)"),
            ),
            ("a maintainer", 2, Scene::default().held([listing]), Ok(true)),
            (
                "an invited one holds, but keeps nothing alive",
                2,
                Scene::default().held([inviting]),
                Ok(false),
            ),
        ] {
            let admission = admit(&state_event(author, "r", 5, REFS), scene);

            match (admission, expected) {
                (Admission::Hold { extend, .. }, Ok(extends)) => assert_eq!(!extend.is_empty(), extends, "{story}"),
                (Admission::Refuse { refusal, .. }, Err(text)) => {
                    assert!(refusal.to_string().starts_with(text), "{story}")
                }
                (admission, expected) => panic!("{story}: {admission:?}, not {expected:?}"),
            }
        }
    }

    #[test]
    fn a_pull_request_needs_a_hosted_repository() {
        let request = pull_request_event(3, &coordinate(1, "r"), 'c');
        for (scene, held) in [
            (Scene::default(), false),
            (Scene::default().served([announcement_event(2, "r", 1, &[])]), false),
            (Scene::default().held([announcement_event(1, "r", 1, &[])]), true),
            (Scene::default().served([announcement_event(1, "r", 1, &[])]), true),
            // Of somebody who lists the one it is offered to.
            (
                Scene::default().served([announcement_event(2, "r", 1, &[&["maintainers", &pubkey(1).to_hex()]])]),
                true,
            ),
        ] {
            assert_eq!(matches!(admit(&request, scene), Admission::Hold { .. }), held);
        }
    }

    #[test]
    fn an_event_past_its_expiration_is_refused_unless_it_is_on_its_way() {
        let dated = |expiration: &str| announcement_event(1, "r", 1, &[&["expiration", expiration]]);
        for (expiration, expected) in [
            ("1001", None),
            ("1000", Some("invalid: event expired")),
            ("100", Some("invalid: event expired")),
            ("soon", Some("invalid: invalid expiration")),
        ] {
            let admission = admit(&dated(expiration), Scene::default());
            assert_eq!(refusal(&admission).as_deref(), expected, "{expiration}");
        }
        let releasing = Scene::default().with(EntryStatus::Releasing, 0, [dated("1000")]);
        assert_eq!(admit(&dated("1000"), releasing), Admission::Accept);
    }

    #[test]
    fn a_pull_request_without_commit_is_invalid_for_good() {
        let address = coordinate(1, "r").to_string();
        let parsed = GitEvent::parse(&event(1, nip34::PULL_REQUEST, 1, &[&["a", &address]]));

        assert_eq!(
            parsed.unwrap_err().to_string(),
            "invalid: PR event has no 'c' tag with its commit"
        );
    }

    #[test]
    fn what_is_being_released_passes_unless_it_was_deleted() {
        let state = state_event(1, "r", 5, REFS);
        let releasing = || Scene::default().with(EntryStatus::Releasing, 0, [state.clone()]);
        let deletion = event(1, nip34::DELETION, 9, &[&["e", &state.id.to_hex()]]);

        assert_eq!(admit(&state, releasing()), Admission::Accept);
        assert_eq!(admit(&state, releasing().served([deletion])), Refusal::Deleted.into());
    }
}
