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

/// Returns the places of what is marked, in order.
pub(super) fn marked(marks: &[bool]) -> Vec<usize> {
    let places = marks.iter().enumerate();
    places
        .filter_map(|(place, is_marked)| is_marked.then_some(place))
        .collect()
}

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
    /// The hosted repositories of which each key is a confirmed maintainer.
    confirmed_in: OnceLock<Vec<Vec<RepositoryIndex>>>,
    /// The hosted repositories that name each key in whatever way, but its own.
    named_in: OnceLock<Vec<Vec<RepositoryIndex>>>,
}

/// The listings, and the sets of maintainers that follow from them, resolved on demand.
#[derive(Debug, Clone)]
struct Circles {
    listings: Listings,
    members: Vec<OnceLock<Members>>,
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
            confirmed_in: OnceLock::new(),
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
        let confirmed = |owner| &self.current.members(owner, self.mode).confirmed;
        let init = || self.hosted_by_key(|owner| confirmed(owner).iter().copied());
        let number = self.number(key);
        number.map_or(&[], |number| &self.confirmed_in.get_or_init(init)[number])
    }

    /// Returns the places of the other hosted repositories that name a key, confirmed or not; see
    /// [`Self::all_confirming`].
    pub(super) fn all_naming(&self, key: &PublicKey) -> &[RepositoryIndex] {
        let named = |owner| {
            let members = self.current.members(owner, self.mode);
            let listed = self.current.listings.listed(owner);
            let named = members.confirmed.iter().chain(&members.invited).chain(listed);
            named.copied().filter(move |key| *key != owner)
        };
        let number = self.number(key);
        number.map_or(&[], |number| {
            &self.named_in.get_or_init(|| self.hosted_by_key(named))[number]
        })
    }

    /// Returns for each key the places of the hosted repositories for whose owners it is among `keys`, in order.
    fn hosted_by_key<I: Iterator<Item = usize>>(&self, keys: impl Fn(usize) -> I) -> Vec<Vec<RepositoryIndex>> {
        let hosted = || {
            let owners = self.hosted.iter().enumerate();
            owners.filter_map(|(owner, place)| Some((owner, (*place)?)))
        };
        // Counted first: hundreds of lists that grow place by place take longer than all the rest.
        let mut counts = vec![0; self.keys.len()];
        for (owner, _) in hosted() {
            keys(owner).for_each(|key| counts[key] += 1);
        }
        let mut by_key: Vec<Vec<RepositoryIndex>> = counts.into_iter().map(Vec::with_capacity).collect();
        for (owner, place) in hosted() {
            for key in keys(owner) {
                if by_key[key].last() != Some(&place) {
                    by_key[key].push(place);
                }
            }
        }
        by_key
    }
}
