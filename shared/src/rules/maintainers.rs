//! Whose states count for a repository: the reciprocal rule of GRASP v3, the one-way rule of GRASP-01's text, and
//! the hybrid of both (docs/facts/grasp.md 0.1 and 1.2).

use std::collections::BTreeSet;

use nostr::key::PublicKey;

use crate::nip34::Announcement;

/// The rule by which an announcement makes others maintainers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "io", derive(clap::ValueEnum))]
pub enum MaintainerMode {
    /// Announcements with role tags by the reciprocal rule, those with only the legacy tag by the recursive one.
    #[default]
    Hybrid,
    /// A listed maintainer counts once its own announcement lists a confirmed one back.
    Reciprocal,
    /// A listed maintainer counts at once, and so do those whom it lists.
    Recursive,
}

/// Who belongs to one repository.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Membership {
    /// Maintainers whose states count. Empty: the repository has no unambiguous lead, so nobody may push (fail closed).
    pub confirmed: BTreeSet<PublicKey>,
    /// Keys that a confirmed maintainer lists but that have not accepted: their states are held and authorise nothing.
    pub invited: BTreeSet<PublicKey>,
}

/// Most maintainers of one repository, and most keys that they may have invited in addition: those nearest to the lead.
/// No real repository comes near it.
pub const MEMBERS_MAX: usize = 200;

/// After so many steps, more distant keys do not join: the steps of sixty maintainers of whom each lists all others.
const STEPS_MAX: usize = 4000;

/// Who lists whom in some announcements of one identifier, one announcement of each author. A key is known here by its
/// number, its place among all the keys in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Listings {
    roles: Vec<Option<NumberedRoles>>,
    /// Who lists a key.
    listed_by: Vec<Vec<usize>>,
}

/// The roles in an announcement.
#[derive(Debug, Clone)]
struct NumberedRoles {
    explicit: bool,
    author_active: bool,
    leads: Vec<usize>,
    listed: Vec<usize>,
}

/// Who belongs to one repository, by the numbers of their keys, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Members {
    /// See [`Membership::confirmed`].
    pub(super) confirmed: Vec<usize>,
    /// See [`Membership::invited`].
    pub(super) invited: Vec<usize>,
    /// How many listings were read to find out.
    pub(super) steps: usize,
}

impl Members {
    pub(super) fn confirms(&self, key: usize) -> bool {
        self.confirmed.binary_search(&key).is_ok()
    }

    pub(super) fn invites(&self, key: usize) -> bool {
        self.invited.binary_search(&key).is_ok()
    }
}

impl Listings {
    /// Notes who lists whom. `keys` are all that the announcements name, their authors among them, in order.
    pub(super) fn of<'a>(keys: &[PublicKey], announcements: impl IntoIterator<Item = &'a Announcement>) -> Self {
        let number = |key: &PublicKey| keys.binary_search(key).ok();
        let mut listings = Self {
            roles: vec![None; keys.len()],
            listed_by: vec![Vec::new(); keys.len()],
        };
        for announcement in announcements {
            let Some(by) = number(&announcement.coordinate.owner) else {
                continue;
            };
            let roles = &announcement.roles;
            let listed: Vec<usize> = roles.listed.iter().filter_map(number).collect();
            for key in &listed {
                listings.listed_by[*key].push(by);
            }
            listings.roles[by] = Some(NumberedRoles {
                explicit: roles.explicit,
                author_active: roles.author_active,
                leads: roles.leads.iter().filter_map(number).collect(),
                listed,
            });
        }
        listings
    }

    /// Whether the announcement of one key lists another one, in whatever role.
    pub(super) fn lists(&self, by: usize, key: usize) -> bool {
        self.listed(by).binary_search(&key).is_ok()
    }

    /// Whether the announcement of an owner makes a key a maintainer by itself, whatever others announce.
    pub(super) fn confirms_at_once(&self, owner: usize, key: usize, mode: MaintainerMode) -> bool {
        let is_active = |key: usize| self.roles[key].as_ref().is_none_or(|roles| roles.author_active);
        let is_one_way = match (&self.roles[owner], mode) {
            (None, _) | (Some(_), MaintainerMode::Reciprocal) => false,
            (Some(_), MaintainerMode::Recursive) => true,
            (Some(roles), MaintainerMode::Hybrid) => !roles.explicit && is_active(key),
        };
        is_one_way && self.lists(owner, key) && self.listed(owner).len() < MEMBERS_MAX
    }

    /// Returns whom the announcement of a key lists, in order.
    pub(super) fn listed(&self, by: usize) -> &[usize] {
        let roles = self.roles[by].as_ref();
        roles.map_or(&[], |roles| &roles.listed)
    }

    /// Returns every key whose repository a key could belong to, itself first, then the nearest: those that list it,
    /// those that list these, and so on. No other announcement can make it a maintainer of anything.
    pub(super) fn towards(&self, key: usize) -> Vec<usize> {
        let mut is_seen = vec![false; self.listed_by.len()];
        is_seen[key] = true;
        let mut found = vec![key];
        let mut next = 0;
        // A round for each member that could stand between the two.
        for _ in 0..MEMBERS_MAX {
            let round = next..found.len();
            if round.is_empty() {
                break;
            }
            next = found.len();
            for at in round {
                for by in &self.listed_by[found[at]] {
                    if !std::mem::replace(&mut is_seen[*by], true) {
                        found.push(*by);
                    }
                }
            }
        }
        found
    }

    /// Resolves the members of the repository of `owner`, outwards from it: each listing of each member is read once,
    /// and no announcement of any other key.
    ///
    /// The answer does not depend on the order in which the announcements became known.
    pub(super) fn resolve(&self, owner: usize, mode: MaintainerMode) -> Members {
        match self.root(owner, mode) {
            Some(root) => Walk::new(self, mode).from(root),
            None => Members::default(),
        }
    }

    /// Follows the leads from the owner to the maintainer with whom the set begins. `None`: none is unambiguous.
    fn root(&self, owner: usize, mode: MaintainerMode) -> Option<usize> {
        let mut at = owner;
        let mut visited = BTreeSet::new();
        loop {
            let roles = self.roles[at].as_ref()?;
            if mode == MaintainerMode::Recursive {
                return Some(at);
            }
            let followed = !visited.is_empty();
            match roles.leads.as_slice() {
                [] if roles.author_active && !followed => return Some(at),
                [lead] if *lead == at => return Some(at),
                [lead] if visited.len() < MEMBERS_MAX && visited.insert(at) => at = *lead,
                // Nobody leads, several do, or the leads do not end, perhaps in a circle.
                _ => return None,
            }
        }
    }
}

/// The way from the first maintainer of a set to all others.
struct Walk<'l> {
    listings: &'l Listings,
    mode: MaintainerMode,
    is_confirmed: Vec<bool>,
    is_invited: Vec<bool>,
    /// In the order in which they were found, the nearest first, until the walk ends.
    confirmed: Vec<usize>,
    invited: Vec<usize>,
    /// Keys that are about to be confirmed.
    confirming: Vec<usize>,
    steps: usize,
}

/// The effect of a listing on the key that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Listed {
    /// It makes it a maintainer.
    Confirms,
    /// It does once that key lists a maintainer back.
    Invites,
    /// Nothing: that key has not announced the repository, or has ended its own role.
    Names,
}

impl<'l> Walk<'l> {
    fn new(listings: &'l Listings, mode: MaintainerMode) -> Self {
        Self {
            listings,
            mode,
            is_confirmed: vec![false; listings.roles.len()],
            is_invited: vec![false; listings.roles.len()],
            confirmed: Vec::with_capacity(MEMBERS_MAX.min(listings.roles.len())),
            invited: Vec::new(),
            confirming: Vec::new(),
            steps: 0,
        }
    }

    fn from(mut self, root: usize) -> Members {
        self.confirm(root);
        let mut next = 0;
        while let Some(by) = self.confirmed.get(next).copied() {
            next += 1;
            let Some(roles) = &self.listings.roles[by] else {
                continue;
            };
            for key in &roles.listed {
                // More distant keys do not join.
                if self.confirmed.len() == MEMBERS_MAX || self.steps >= STEPS_MAX {
                    next = self.confirmed.len();
                    break;
                }
                self.follow(roles, *key);
            }
        }
        // By the marks, they are in order.
        let keys = 0..self.is_confirmed.len();
        self.confirmed.clear();
        self.confirmed.extend(keys.filter(|key| self.is_confirmed[*key]));
        self.invited.retain(|key| !self.is_confirmed[*key]);
        self.invited.sort_unstable();
        Members {
            confirmed: self.confirmed,
            invited: self.invited,
            steps: self.steps,
        }
    }

    fn follow(&mut self, by: &NumberedRoles, key: usize) {
        self.steps += 1;
        if self.is_confirmed[key] {
            return;
        }
        let listed = self.effect(by, key);
        if listed == Listed::Confirms || listed == Listed::Invites && !self.is_invited[key] && self.lists_back(key) {
            self.confirm(key);
        } else if !self.is_invited[key] && self.invited.len() < MEMBERS_MAX {
            self.is_invited[key] = true;
            self.invited.push(key);
        }
    }

    fn effect(&self, by: &NumberedRoles, key: usize) -> Listed {
        let is_one_way = match self.mode {
            MaintainerMode::Recursive => return Listed::Confirms,
            MaintainerMode::Hybrid => !by.explicit,
            MaintainerMode::Reciprocal => false,
        };
        match &self.listings.roles[key] {
            // An author who has ended the own role is out, even if others list the key.
            Some(roles) if !roles.author_active => Listed::Names,
            Some(_) | None if is_one_way => Listed::Confirms,
            Some(_) => Listed::Invites,
            None => Listed::Names,
        }
    }

    fn lists_back(&mut self, key: usize) -> bool {
        let listed = self.listings.listed(key);
        if self.confirmed.len() < listed.len() {
            self.steps += self.confirmed.len();
            return self.confirmed.iter().any(|member| self.listings.lists(key, *member));
        }
        self.steps += listed.len();
        listed.iter().any(|back| self.is_confirmed[*back])
    }

    /// Confirms a key, and with it every key that was invited before and lists it back.
    fn confirm(&mut self, key: usize) {
        self.confirming.push(key);
        while let Some(key) = self.confirming.pop() {
            if self.is_confirmed[key] || self.confirmed.len() == MEMBERS_MAX {
                continue;
            }
            self.is_confirmed[key] = true;
            self.confirmed.push(key);
            self.steps += self.invited.len();
            let answers = |invited: &&usize| {
                let roles = self.listings.roles[**invited].as_ref();
                let is_active = roles.is_some_and(|roles| roles.author_active);
                is_active && self.listings.lists(**invited, key)
            };
            self.confirming.extend(self.invited.iter().rev().filter(answers));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::nip34::Roles;
    use crate::rules::facts::tests::announcement;
    use crate::rules::facts::tests::pubkey;

    /// One announcement of a case: author, leads, others listed, explicit roles?, author active?
    struct Case(u8, &'static [u8], &'static [u8], bool, bool);

    fn legacy(author: u8, listed: &'static [u8]) -> Case {
        Case(author, &[], listed, false, true)
    }

    fn explicit(author: u8, leads: &'static [u8], listed: &'static [u8]) -> Case {
        Case(author, leads, listed, true, true)
    }

    /// Every key that these announcements name, in order.
    fn keys_of(announcements: &[Announcement]) -> Vec<PublicKey> {
        let named = announcements
            .iter()
            .flat_map(|announcement| announcement.roles.listed.iter().chain([&announcement.coordinate.owner]));
        named.copied().collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn membership(owner: u8, announcements: &[Announcement], mode: MaintainerMode) -> Membership {
        let keys = keys_of(announcements);
        let Ok(owner) = keys.binary_search(&pubkey(owner)) else {
            return Membership::default();
        };
        let members = Listings::of(&keys, announcements).resolve(owner, mode);
        Membership {
            confirmed: members.confirmed.iter().map(|key| keys[*key]).collect(),
            invited: members.invited.iter().map(|key| keys[*key]).collect(),
        }
    }

    fn resolve(owner: u8, cases: &[Case], mode: MaintainerMode) -> Vec<u8> {
        let announcements: Vec<Announcement> = cases
            .iter()
            .map(|&Case(author, leads, listed, explicit, author_active)| Announcement {
                roles: Roles {
                    explicit,
                    leads: leads.iter().map(|&n| pubkey(n)).collect(),
                    listed: leads.iter().chain(listed).map(|&n| pubkey(n)).collect(),
                    author_active,
                },
                ..announcement(author, "r", 1)
            })
            .collect();
        let confirmed = membership(owner, &announcements, mode).confirmed;
        (0..16).filter(|&n| confirmed.contains(&pubkey(n))).collect()
    }

    #[test]
    fn cases() {
        use MaintainerMode::Hybrid;
        use MaintainerMode::Reciprocal;
        use MaintainerMode::Recursive;
        let table: &[(&str, &[Case], MaintainerMode, &[u8])] = &[
            ("no announcement, no authority", &[], Hybrid, &[]),
            ("an owner alone", &[legacy(1, &[])], Hybrid, &[1]),
            ("legacy lists one way", &[legacy(1, &[2])], Hybrid, &[1, 2]),
            (
                "legacy lists recursively",
                &[legacy(1, &[2]), legacy(2, &[3])],
                Hybrid,
                &[1, 2, 3],
            ),
            (
                "listing oneself into another's set does nothing",
                &[legacy(1, &[]), legacy(2, &[1])],
                Hybrid,
                &[1],
            ),
            ("roles want an answer", &[explicit(1, &[1], &[2])], Hybrid, &[1]),
            (
                "an answer confirms",
                &[explicit(1, &[1], &[2]), explicit(2, &[1], &[2])],
                Hybrid,
                &[1, 2],
            ),
            (
                "an answer to nobody confirmed does not",
                &[explicit(1, &[1], &[2]), explicit(2, &[2], &[3])],
                Hybrid,
                &[1],
            ),
            (
                "a legacy answer confirms as well",
                &[explicit(1, &[1], &[2]), legacy(2, &[1])],
                Hybrid,
                &[1, 2],
            ),
            ("reciprocal holds for legacy too", &[legacy(1, &[2])], Reciprocal, &[1]),
            (
                "reciprocal legacy",
                &[legacy(1, &[2]), legacy(2, &[1])],
                Reciprocal,
                &[1, 2],
            ),
            (
                "recursive holds for roles too",
                &[explicit(1, &[1], &[2])],
                Recursive,
                &[1, 2],
            ),
            (
                "an ended own role beats a listing",
                &[legacy(1, &[2]), Case(2, &[], &[], true, false)],
                Hybrid,
                &[1],
            ),
            (
                "an ended owner without a lead has nobody",
                &[Case(1, &[], &[2], true, false)],
                Hybrid,
                &[],
            ),
            (
                "the lead of another coordinate begins the set",
                &[explicit(1, &[2], &[1]), explicit(2, &[2], &[1])],
                Hybrid,
                &[1, 2],
            ),
            (
                "a former lead's coordinate follows the new lead and keeps no authority of its own",
                &[
                    Case(1, &[2], &[], true, false),
                    explicit(2, &[2], &[3]),
                    explicit(3, &[2], &[3]),
                ],
                Hybrid,
                &[2, 3],
            ),
            ("a missing lead fails closed", &[explicit(1, &[2], &[1])], Hybrid, &[]),
            ("two leads fail closed", &[explicit(1, &[1, 2], &[])], Hybrid, &[]),
            (
                "leads in a circle fail closed",
                &[explicit(1, &[2], &[]), explicit(2, &[1], &[])],
                Hybrid,
                &[],
            ),
            (
                "a followed lead must name itself",
                &[explicit(1, &[2], &[]), legacy(2, &[1])],
                Hybrid,
                &[],
            ),
        ];
        for (story, announcements, mode, confirmed) in table {
            assert_eq!(resolve(1, announcements, *mode), *confirmed, "{story}");
        }
    }

    #[test]
    fn an_unanswered_invitation_is_remembered() {
        let mut listing = announcement(1, "r", 1);
        listing.roles.explicit = true;
        listing.roles.listed.insert(pubkey(2));

        let membership = membership(1, &[listing], MaintainerMode::Hybrid);

        assert_eq!(membership.invited, BTreeSet::from([pubkey(2)]));
    }

    proptest! {
        /// The fixpoint is reached by rounds; adding a listing by somebody outside the set must not change the set.
        #[test]
        fn strangers_cannot_change_a_set(
            listed in proptest::collection::btree_set(1_u8..8, 0..6),
            stranger in 9_u8..15,
        ) {
            let mut own = announcement(1, "r", 1);
            own.roles.listed = listed.iter().map(|&n| pubkey(n)).collect();
            let mut other = announcement(stranger, "r", 1);
            other.roles.listed = (0..16).map(pubkey).collect();
            let alone = [own.clone()];
            let both = [own, other];
            for mode in MODES {
                prop_assert_eq!(membership(1, &alone, mode), membership(1, &both, mode));
            }
        }
    }

    const MODES: [MaintainerMode; 3] = [
        MaintainerMode::Hybrid,
        MaintainerMode::Reciprocal,
        MaintainerMode::Recursive,
    ];

    /// The rules as they are written down, round after round until nobody joins, from an owner who leads.
    fn by_rounds(owner: u8, announcements: &[Announcement], mode: MaintainerMode) -> BTreeSet<PublicKey> {
        let of = |author: &PublicKey| announcements.iter().find(|known| known.coordinate.owner == *author);
        let mut confirmed = BTreeSet::from([pubkey(owner)]);
        loop {
            let before = confirmed.len();
            for by in confirmed.clone() {
                let Some(by) = of(&by) else { continue };
                let joins = |key: &&PublicKey| match (of(key), mode) {
                    (_, MaintainerMode::Recursive) => true,
                    (Some(own), _) if !own.roles.author_active => false,
                    (_, MaintainerMode::Hybrid) if !by.roles.explicit => true,
                    (Some(own), _) => own.roles.listed.iter().any(|back| confirmed.contains(back)),
                    (None, _) => false,
                };
                let joining: Vec<PublicKey> = by.roles.listed.iter().filter(joins).copied().collect();
                confirmed.extend(joining);
            }
            if confirmed.len() == before {
                return confirmed;
            }
        }
    }

    fn any_roles() -> impl Strategy<Value = (bool, bool, Vec<u8>)> {
        (
            any::<bool>(),
            prop::bool::weighted(0.8),
            prop::collection::vec(1_u8..10, 0..4),
        )
    }

    proptest! {
        #[test]
        fn one_walk_finds_whom_rounds_find(roles in prop::collection::vec(any_roles(), 9)) {
            let announcements: Vec<Announcement> = (1_u8..).zip(&roles).map(|(author, (explicit, active, listed))| {
                let mut own = announcement(author, "r", 1);
                own.roles.explicit = *explicit;
                own.roles.author_active = *active || author == 1;
                own.roles.listed = listed.iter().map(|&n| pubkey(n)).collect();
                own
            }).collect();
            for mode in MODES {
                let membership = membership(1, &announcements, mode);

                prop_assert_eq!(&membership.confirmed, &by_rounds(1, &announcements, mode));
                prop_assert!(membership.invited.is_disjoint(&membership.confirmed));
            }
        }
    }

    /// `count` announcements whose authors list those that `lists` returns for each, and the keys in order.
    fn many(count: usize, explicit: bool, lists: impl Fn(usize) -> Vec<usize>) -> (Vec<PublicKey>, Vec<Announcement>) {
        let keys: BTreeSet<PublicKey> = (0..count)
            .map(|n| {
                let mut bytes = [7; 32];
                bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
                PublicKey::from_byte_array(bytes)
            })
            .collect();
        let keys: Vec<PublicKey> = keys.into_iter().collect();
        let plain = announcement(1, "r", 1);
        let announcements = (0..count)
            .map(|n| {
                let mut own = plain.clone();
                own.coordinate.owner = keys[n];
                own.roles.explicit = explicit;
                own.roles.listed = lists(n).into_iter().map(|n| keys[n % count]).collect();
                own
            })
            .collect();
        (keys, announcements)
    }

    /// 300 announcements that list each other in a chain took 2.2 s: the cube of their number.
    #[test]
    fn each_listing_is_read_once_and_at_most_so_many_join() {
        let most = STEPS_MAX + 2 * MEMBERS_MAX * MEMBERS_MAX;
        for explicit in [false, true] {
            let (chain_most, star_most) = (5 * MEMBERS_MAX, MEMBERS_MAX * 3 + 2);
            let chain = |n: usize| match explicit {
                true => vec![n.saturating_sub(1), n + 1],
                false => vec![n + 1],
            };
            let (keys, chained) = many(2000, explicit, chain);
            let members = Listings::of(&keys, &chained).resolve(0, MaintainerMode::Hybrid);
            assert_eq!(members.confirmed, (0..MEMBERS_MAX).collect::<Vec<_>>(), "the nearest");
            assert!(members.steps <= chain_most * 2, "a chain: {}", members.steps);

            let star = |n: usize| if n == 0 { (1..MEMBERS_MAX).collect() } else { vec![0] };
            let (keys, star) = many(2000, explicit, star);
            let members = Listings::of(&keys, &star).resolve(0, MaintainerMode::Hybrid);
            assert_eq!(members.confirmed.len(), MEMBERS_MAX);
            assert!(members.steps <= star_most, "a star: {}", members.steps);

            let (keys, clique) = many(300, explicit, |n| (n..n + MEMBERS_MAX).collect());
            let members = Listings::of(&keys, &clique).resolve(0, MaintainerMode::Hybrid);
            assert!(members.confirmed.len() >= 20, "{members:?}");
            assert!(members.steps <= most, "a clique: {}", members.steps);
        }
    }
}
