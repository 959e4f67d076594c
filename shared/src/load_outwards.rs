//! Facts outwards from a coordinate: first what its owner has published, then what the maintainers whom the owner lists
//! have published, and so on. An author who is not reached this way does not exist for it, even with events under the
//! same identifier (docs/ARCHITECTURE.md rule 9).

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use nostr::event::Event;
use nostr::event::EventId;

use crate::facts_scope::FactsScope;
use crate::facts_scope::Reach;
use crate::nip34;
use crate::nip34::Coordinate;
use crate::nip34::Identifier;
use crate::nip34::Roles;
use crate::purgatory::Reading;
use crate::rules::Covered;
use crate::rules::MEMBERS_MAX;

/// The coordinates found so far.
#[derive(Default)]
pub(crate) struct Outwards {
    /// The coordinates that were or are being read.
    seen: BTreeSet<Coordinate>,
    /// Those that were read.
    read: BTreeSet<Coordinate>,
    /// Whom the announcements of each list.
    lists: BTreeMap<Coordinate, BTreeSet<Coordinate>>,
    /// The purgatory's events about them.
    pub(crate) reading: Reading,
    /// The relay's events.
    pub(crate) served: Vec<Event>,
    /// What was not read of these, or not kept.
    pub(crate) left_out: LeftOut,
    /// How many coordinates may be seen.
    seen_max: usize,
}

/// What is left out of facts that are read in parts.
#[derive(Default)]
pub(crate) struct LeftOut {
    /// Of which events only a part is kept, and their coordinates.
    pub(crate) cut: BTreeMap<EventId, Coordinate>,
    /// Coordinates of others about which there is more than can be read.
    pub(crate) unread: BTreeSet<Coordinate>,
}

impl Outwards {
    /// Begins with these coordinates.
    pub(crate) fn from(coordinates: &BTreeSet<Coordinate>) -> Self {
        Self {
            seen: coordinates.clone(),
            seen_max: coordinates.len() + MEMBERS_MAX,
            ..Self::default()
        }
    }

    /// Adds what was read about coordinates, and returns those that it leads to and that were not seen yet.
    pub(crate) fn add(
        &mut self,
        coordinates: BTreeSet<Coordinate>,
        reading: Reading,
        served: Vec<Event>,
    ) -> BTreeSet<Coordinate> {
        let held = reading.entries.iter().map(|entry| entry.event.as_ref());
        let mut lists = Vec::new();
        for (coordinate, listed) in held.chain(&served).filter_map(listed_by) {
            if coordinates.contains(&coordinate) {
                self.lists.entry(coordinate).or_default().extend(listed.iter().cloned());
                lists.push(listed);
            }
        }
        let unread = &self.left_out.unread;
        self.read
            .extend(coordinates.into_iter().filter(|at| !unread.contains(at)));
        self.served.extend(served);
        self.reading.extend(reading);
        self.in_turns(&lists)
    }

    /// Takes those not seen yet, the first of each list, then the second of each: a long list cannot crowd out another.
    fn in_turns(&mut self, lists: &[Vec<Coordinate>]) -> BTreeSet<Coordinate> {
        let longest = lists.iter().map(Vec::len).max().unwrap_or_default();
        let in_turns = (0..longest).flat_map(|turn| lists.iter().filter_map(move |list| list.get(turn)));
        let mut found = BTreeSet::new();
        for coordinate in in_turns {
            if self.seen.len() >= self.seen_max {
                break;
            }
            if self.seen.insert(coordinate.clone()) {
                found.insert(coordinate.clone());
            }
        }
        found
    }

    /// Returns the coordinates that were read, and about which of them not everything that decides was.
    pub(crate) fn covered(&self, scope: &FactsScope) -> Covered {
        let partial = self.partial(scope);
        let mut unsettled = self.unsettled(scope, &partial);
        let of_others = self.left_out.cut.values().filter(|at| !scope.coordinates.contains(at));
        unsettled.extend(of_others.cloned());
        Covered {
            coordinates: self.read.clone(),
            unsettled,
            partial,
            cut: self.left_out.cut.keys().copied().collect(),
        }
    }

    /// Whether a coordinate asked about leads to one that could not be read: nothing is decided without a member.
    pub(crate) fn lacks_a_member(&self, scope: &FactsScope) -> bool {
        let (mut seen, mut next) = (BTreeSet::new(), Vec::from_iter(&scope.coordinates));
        while let Some(at) = next.pop() {
            if self.left_out.unread.contains(at) {
                return true;
            }
            if seen.insert(at) {
                next.extend(self.lists.get(at).into_iter().flatten());
            }
        }
        false
    }

    /// Returns the coordinates whose members were not all read. Of the coordinates asked about, the nearest members
    /// count, however many they list.
    fn partial(&self, scope: &FactsScope) -> BTreeSet<Coordinate> {
        let is_cut = self.lists.iter().filter(|(_, listed)| !listed.is_subset(&self.read));
        let lists = self.lists.iter();
        let edges = lists.flat_map(|(at, listed)| listed.iter().map(move |listed| (listed, at)));
        let mut partial = spread(is_cut.map(|(at, _)| at).collect(), edges);
        partial.retain(|coordinate| !scope.coordinates.contains(coordinate));
        partial
    }

    /// Returns the coordinates that an unread author lists, or that such a coordinate leads to.
    fn unsettled(&self, scope: &FactsScope, partial: &BTreeSet<Coordinate>) -> BTreeSet<Coordinate> {
        let (mut open, mut edges) = (Vec::new(), Vec::new());
        for (listed, owners) in &self.reading.listed_by {
            let is_asked = scope.reach != Reach::Members && scope.coordinates.contains(listed);
            let by_many = owners.len() >= Reading::LISTED_BY_MAX;
            // Of the coordinates asked about, only those beyond the reach are open.
            if is_asked && (scope.reach == Reach::FULL || !by_many) {
                continue;
            }
            let listing: Vec<Coordinate> = owners.iter().map(|owner| listed.of(*owner)).collect();
            let is_unread = |listing: &Coordinate| !self.read.contains(listing) || partial.contains(listing);
            if by_many || listing.iter().any(is_unread) {
                open.push(listed);
            }
            edges.extend(listing.into_iter().map(|listing| (listing, listed)));
        }
        spread(open, edges.iter().map(|(listing, listed)| (listing, *listed)))
    }
}

/// Returns the coordinates that are `open`, and all that `edges` reach from them.
fn spread<'c>(
    mut open: Vec<&'c Coordinate>,
    edges: impl Iterator<Item = (&'c Coordinate, &'c Coordinate)>,
) -> BTreeSet<Coordinate> {
    if open.is_empty() {
        return BTreeSet::new();
    }
    let mut leads: BTreeMap<&Coordinate, Vec<&Coordinate>> = BTreeMap::new();
    for (from, to) in edges {
        leads.entry(from).or_default().push(to);
    }
    let mut found = BTreeSet::new();
    while let Some(coordinate) = open.pop() {
        if found.insert(coordinate.clone()) {
            open.extend(leads.get(coordinate).into_iter().flatten());
        }
    }
    found
}

/// Returns the coordinate of an announcement, and whom it lists.
fn listed_by(event: &Event) -> Option<(Coordinate, Vec<Coordinate>)> {
    if event.kind.as_u16() != nip34::ANNOUNCEMENT {
        return None;
    }
    let identifier = Identifier::of(event).ok()?;
    let listed = Roles::of(event).listed.into_iter().take(MEMBERS_MAX);
    let listed = listed.map(|key| Coordinate::new(key, &identifier));
    Some((Coordinate::new(event.pubkey, &identifier), listed.collect()))
}

/// The depth of listings: no honest set of maintainers is deeper.
pub(crate) const ROUNDS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::tests::coordinate;
    use crate::rules::tests::pubkey;

    fn seen(owners: impl IntoIterator<Item = u8>) -> BTreeSet<Coordinate> {
        owners.into_iter().map(|owner| coordinate(owner, "r")).collect()
    }

    #[test]
    fn nobodys_long_list_keeps_another_out() {
        let (long, short) = (
            seen(1..9).into_iter().collect(),
            vec![coordinate(9, "r"), coordinate(1, "r")],
        );
        let mut found = Outwards::from(&seen([2]));
        found.seen_max = 3;

        let next = found.in_turns(&[long, short]);

        assert_eq!(next.len(), 2);
        assert!(next.contains(&coordinate(9, "r")), "{next:?}");
    }

    fn outwards(listed_by: &[(u8, &[u8])], lists: &[(u8, &[u8])]) -> Outwards {
        let mut found = Outwards::from(&seen([1, 2, 3]));
        found.read = found.seen.clone();
        let listed_by = listed_by.iter().map(|(owner, listing)| {
            let listing = listing.iter().map(|key| pubkey(*key)).collect();
            (coordinate(*owner, "r"), listing)
        });
        found.reading.listed_by = listed_by.collect();
        let lists = lists
            .iter()
            .map(|(owner, listed)| (coordinate(*owner, "r"), seen(listed.iter().copied())));
        found.lists = lists.collect();
        found
    }

    fn asked(reach: Reach) -> FactsScope {
        FactsScope {
            coordinates: seen([1]),
            reach,
            ..FactsScope::default()
        }
    }

    #[test]
    fn settled_is_who_is_listed_only_by_what_was_read() {
        for (story, listed_by, reach, expected) in [
            ("nobody lists anybody", &[][..], Reach::Members, vec![]),
            (
                "all who list were read",
                &[(1, &[2][..]), (2, &[1, 3])],
                Reach::Members,
                vec![],
            ),
            ("a stranger lists the first", &[(1, &[9])], Reach::Members, vec![1]),
            ("he was asked for", &[(1, &[9])], Reach::Listing { most: 9 }, vec![]),
            (
                "who is listed by him is led to",
                &[(2, &[9]), (3, &[2])],
                Reach::Members,
                vec![2, 3],
            ),
        ] {
            let covered = outwards(listed_by, &[]).covered(&asked(reach));

            assert_eq!(covered.unsettled, seen(expected), "{story}");
        }
    }

    #[test]
    fn partial_is_whose_members_were_not_all_read_but_for_those_asked_about() {
        for (story, lists, expected) in [
            ("all were read", &[(1, &[2][..]), (2, &[3])][..], vec![]),
            ("the first lists more than may be read", &[(1, &[9]), (2, &[3])], vec![]),
            ("another does", &[(1, &[2]), (2, &[9])], vec![2]),
            ("one who leads to him", &[(3, &[2]), (2, &[9])], vec![2, 3]),
        ] {
            let covered = outwards(&[], lists).covered(&asked(Reach::Members));

            assert_eq!(covered.partial, seen(expected), "{story}");
        }
    }
}
