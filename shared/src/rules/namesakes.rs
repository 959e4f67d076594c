//! Who belongs to which repository of one identifier: each question is answered outwards from the repository or the
//! author that it is about, and each set of maintainers is resolved at most once.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use nostr::key::PublicKey;

use super::maintainers::Listings;
use super::maintainers::MaintainerMode;
use super::maintainers::Members;
use super::maintainers::Membership;
use crate::nip34::Announcement;
use crate::nip34::Coordinate;
use crate::nip34::Identifier;

/// A repository by its place in [`Facts::hosted`](super::Facts::hosted).
pub(super) type RepositoryIndex = usize;

/// A state by its place in [`Facts::states`](super::Facts::states).
pub(super) type StateIndex = usize;

/// The repositories of one identifier. A key is known by its number, its place in `keys`.
#[derive(Debug, Clone)]
pub(super) struct Namesakes {
    identifier: Identifier,
    mode: MaintainerMode,
    keys: Vec<PublicKey>,
    /// By the announcements that count.
    current: Circles,
    /// The same with sleeping ones awake; `None`: none sleeps.
    awake: Option<Circles>,
    /// Each key's repository, if that is hosted.
    hosted: Vec<Option<RepositoryIndex>>,
    /// The states of each author.
    states: Vec<Vec<StateIndex>>,
    named_in: OnceLock<NamedIn>,
}

/// The listings, and the sets of maintainers that follow from them, resolved on demand.
#[derive(Debug, Clone)]
struct Circles {
    listings: Listings,
    members: Vec<OnceLock<Members>>,
}

/// The hosted repositories that name each key.
#[derive(Debug, Clone)]
struct NamedIn {
    /// As a confirmed maintainer.
    confirmed: Vec<Vec<RepositoryIndex>>,
    /// In whatever way, other repositories than the key's own.
    at_all: Vec<Vec<RepositoryIndex>>,
}

/// Which announcements count for the maintainers of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counted {
    /// Those that are held or count as served.
    Current,
    /// Sleeping ones too: only to decide whether a state may wake them.
    IfAwake,
}

/// The repositories of one identifier.
#[derive(Debug, Default)]
pub(super) struct Namesake<'f> {
    /// The newest announcement of each author that is held or counts as served.
    pub(super) current: Vec<&'f Announcement>,
    /// The newest of each, sleeping ones included; `None`: none sleeps.
    pub(super) awake: Option<Vec<&'f Announcement>>,
    /// Whose repositories this server hosts, with their places.
    pub(super) hosted: BTreeMap<PublicKey, RepositoryIndex>,
    /// The authors of states, with their places.
    pub(super) states: BTreeMap<PublicKey, Vec<StateIndex>>,
}

impl Circles {
    fn of(keys: &[PublicKey], announcements: &[&Announcement]) -> Self {
        Self {
            listings: Listings::of(keys, announcements.iter().copied()),
            members: vec![OnceLock::new(); keys.len()],
        }
    }

    fn confirms(&self, owner: usize, key: usize, mode: MaintainerMode) -> bool {
        self.listings.confirms_at_once(owner, key, mode) || self.members(owner, mode).confirms(key)
    }

    fn members(&self, owner: usize, mode: MaintainerMode) -> &Members {
        self.members[owner].get_or_init(|| self.listings.resolve(owner, mode))
    }
}

impl Namesakes {
    pub(super) fn new(identifier: Identifier, mode: MaintainerMode, known: &Namesake<'_>) -> Self {
        let announcements = known.current.iter().chain(known.awake.iter().flatten());
        let mut keys: Vec<PublicKey> = announcements
            .flat_map(|announcement| announcement.roles.listed.iter().chain([&announcement.coordinate.owner]))
            .chain(known.states.keys())
            .copied()
            .collect();
        keys.sort_unstable();
        keys.dedup();
        let places_of = |key| known.states.get(key).cloned().unwrap_or_default();
        Self {
            current: Circles::of(&keys, &known.current),
            awake: known.awake.as_ref().map(|awake| Circles::of(&keys, awake)),
            hosted: keys.iter().map(|key| known.hosted.get(key).copied()).collect(),
            states: keys.iter().map(places_of).collect(),
            named_in: OnceLock::new(),
            identifier,
            mode,
            keys,
        }
    }

    fn number(&self, key: &PublicKey) -> Option<usize> {
        self.keys.binary_search(key).ok()
    }

    fn circles(&self, counted: Counted) -> &Circles {
        match counted {
            Counted::Current => &self.current,
            Counted::IfAwake => self.awake.as_ref().unwrap_or(&self.current),
        }
    }

    fn members(&self, owner: &PublicKey, counted: Counted) -> Option<&Members> {
        Some(self.circles(counted).members(self.number(owner)?, self.mode))
    }

    /// Returns who belongs to the repository of `owner`.
    pub(super) fn membership(&self, owner: &PublicKey, counted: Counted) -> Membership {
        let keys = |numbers: &[usize]| numbers.iter().map(|number| self.keys[*number]).collect();
        match self.members(owner, counted) {
            Some(members) => Membership {
                confirmed: keys(&members.confirmed),
                invited: keys(&members.invited),
            },
            None => Membership::default(),
        }
    }

    /// Whether a key is a confirmed maintainer of the repository of `owner`.
    pub(super) fn confirms(&self, owner: &PublicKey, key: &PublicKey) -> bool {
        let Some(key) = self.number(key) else {
            return false;
        };
        let members = self.members(owner, Counted::Current);
        members.is_some_and(|members| members.confirms(key))
    }

    /// Returns the places of the states whose authors are confirmed maintainers of the repository of `owner`.
    pub(super) fn authorised(&self, owner: &PublicKey, counted: Counted) -> impl Iterator<Item = StateIndex> + '_ {
        let members = self.members(owner, counted).into_iter();
        let confirmed = members.flat_map(|members| &members.confirmed);
        confirmed.flat_map(|member| self.states[*member].iter().copied())
    }

    /// Returns the places of all states by an author.
    pub(super) fn states_by(&self, author: &PublicKey) -> impl Iterator<Item = StateIndex> + '_ {
        let states = self.number(author).map(|number| &self.states[number]);
        states.into_iter().flatten().copied()
    }

    /// Whether the repository of `owner` names a key, confirmed or not.
    fn names(&self, owner: usize, key: usize) -> bool {
        if self.current.listings.lists(owner, key) {
            return true;
        }
        let members = self.current.members(owner, self.mode);
        members.confirms(key) || members.invites(key)
    }

    /// Whether another repository on this server names a key as maintainer, confirmed or not. Resolves only those whose
    /// maintainers list it, or list a key that does, and so on.
    pub(super) fn is_named_elsewhere(&self, key: &PublicKey) -> bool {
        let Some(key) = self.number(key) else {
            return false;
        };
        let towards = self.current.listings.towards(key).into_iter();
        let mut hosted = towards.filter(|owner| *owner != key && self.hosted[*owner].is_some());
        hosted.any(|owner| self.names(owner, key))
    }

    /// Whether a key is a confirmed maintainer of a hosted repository. Resolves as few of them as necessary.
    pub(super) fn is_confirmed(&self, key: &PublicKey) -> bool {
        let Some(key) = self.number(key) else {
            return false;
        };
        let towards = self.current.listings.towards(key).into_iter();
        let mut hosted = towards.filter(|owner| self.hosted[*owner].is_some());
        hosted.any(|owner| self.current.confirms(owner, key, self.mode))
    }

    /// Returns whose announcements, sleeping ones included, make a key a maintainer, and whether it is invited only.
    pub(super) fn admitting(&self, key: &PublicKey) -> (Vec<Coordinate>, bool) {
        let (mut confirming, mut is_invited) = (Vec::new(), false);
        let Some(key) = self.number(key) else {
            return (confirming, is_invited);
        };
        let circles = self.circles(Counted::IfAwake);
        for owner in circles.listings.towards(key) {
            if circles.confirms(owner, key, self.mode) {
                confirming.push(Coordinate::new(self.keys[owner], &self.identifier));
            } else {
                is_invited |= circles.members(owner, self.mode).invites(key);
            }
        }
        (confirming, is_invited)
    }

    /// Returns the positions, in order, of the hosted repositories of which a key is a confirmed maintainer. Resolves
    /// the sets of all of them at the first call: for decisions about all of them.
    pub(super) fn all_confirming(&self, key: &PublicKey) -> &[RepositoryIndex] {
        let number = self.number(key);
        number.map_or(&[], |number| &self.named_in().confirmed[number])
    }

    /// Returns the places of the other hosted repositories that name a key, confirmed or not; see
    /// [`Self::all_confirming`].
    pub(super) fn all_naming(&self, key: &PublicKey) -> &[RepositoryIndex] {
        let number = self.number(key);
        number.map_or(&[], |number| &self.named_in().at_all[number])
    }

    fn named_in(&self) -> &NamedIn {
        self.named_in.get_or_init(|| {
            let nobody = || vec![Vec::new(); self.keys.len()];
            let (mut confirmed, mut at_all) = (nobody(), nobody());
            let hosted = self.hosted.iter().enumerate();
            for (owner, place) in hosted.filter_map(|(owner, place)| Some((owner, (*place)?))) {
                let members = self.current.members(owner, self.mode);
                let listed = self.current.listings.listed(owner);
                let named = members.confirmed.iter().chain(&members.invited).chain(listed);
                for key in named.filter(|key| **key != owner) {
                    let places: &mut Vec<RepositoryIndex> = &mut at_all[*key];
                    if places.last() != Some(&place) {
                        places.push(place);
                    }
                }
                for key in &members.confirmed {
                    confirmed[*key].push(place);
                }
            }
            NamedIn { confirmed, at_all }
        })
    }
}
