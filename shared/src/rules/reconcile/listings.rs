//! Which entries of the index of listings must be rewritten: a decision about an author's event uses this index to find
//! the repositories of others that the event concerns (docs/ARCHITECTURE.md rule 9).

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use nostr::event::EventId;
use nostr::key::PublicKey;

use super::plan::Plan;
use crate::nip34::Announcement;
use crate::nip34::Coordinate;
use crate::purgatory::Expiry;
use crate::purgatory::Reading;
use crate::rules::Facts;
use crate::rules::Known;

/// Whom the announcements of a repository list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    /// The keys.
    pub keys: BTreeSet<PublicKey>,
    /// Whether one of the announcements is served, or is to be.
    pub is_served: bool,
}

/// Returns the listings that differ from the index, of the coordinates that were read, and those of announcements that
/// are released.
pub fn listings_to_note(facts: &Facts, plan: &Plan) -> BTreeMap<Coordinate, Listing> {
    let gone = plan.expired.iter().filter(|(_, expiry)| *expiry == Expiry::Gone);
    let gone: BTreeSet<&EventId> = gone.map(|(id, _)| id).chain(&plan.ended).collect();
    let mut listings: BTreeMap<&Coordinate, Listing> = BTreeMap::new();
    let mut changed: BTreeSet<&Coordinate> = BTreeSet::new();
    for known in &facts.announcements {
        let (announcement, id) = (&known.item, &known.item.revision.event_id);
        if gone.contains(id) || announcement.roles.listed.is_empty() {
            continue;
        }
        let listing = listings.entry(&announcement.coordinate).or_default();
        listing.keys.extend(&announcement.roles.listed);
        listing.is_served |= known.status.counts_as_served() || plan.releases(id);
        if plan.releases(id) {
            changed.insert(&announcement.coordinate);
        }
    }
    let lists = |coordinate: &Coordinate, key: &PublicKey| {
        let listing = listings.get(coordinate);
        listing.is_some_and(|listing| listing.keys.contains(key))
    };
    for coordinate in &facts.covered.coordinates {
        let noted = facts.listed_by.get(coordinate);
        let stale = noted.into_iter().flatten().filter_map(|owner| {
            let listing = facts.covered.coordinates.get(&coordinate.of(*owner))?;
            (!lists(listing, &coordinate.owner)).then_some(listing)
        });
        changed.extend(stale);
    }
    for (listing, keys) in listings
        .iter()
        .map(|(coordinate, listing)| (*coordinate, &listing.keys))
    {
        let is_missing = keys.iter().any(|key| {
            let listed = listing.of(*key);
            let noted = facts.listed_by.get(&listed);
            let is_noted =
                noted.is_some_and(|owners| owners.contains(&listing.owner) || owners.len() >= Reading::LISTED_BY_MAX);
            facts.covered.coordinates.contains(&listed) && !is_noted
        });
        if is_missing {
            changed.insert(listing);
        }
    }
    // Of these not everybody whom they list may be known.
    let is_cut = |known: &&Known<Announcement>| facts.covered.cut.contains(&known.item.revision.event_id);
    for known in facts.announcements.iter().filter(is_cut) {
        changed.remove(&known.item.coordinate);
    }
    let changed = changed.into_iter();
    changed
        .map(|coordinate| {
            (
                coordinate.clone(),
                listings.get(coordinate).cloned().unwrap_or_default(),
            )
        })
        .collect()
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
    use crate::rules::facts::tests::coordinate;
    use crate::rules::facts::tests::pubkey;
    use crate::rules::plan;

    fn to_note(scene: Scene, noted: &[(u8, &[u8])]) -> Vec<(u8, Vec<u8>, bool)> {
        let mut facts = scene.facts();
        let noted = noted.iter().map(|(listed, owners)| {
            let owners = owners.iter().map(|owner| pubkey(*owner)).collect();
            (coordinate(*listed, "r"), owners)
        });
        facts.listed_by = noted.collect();
        let number = |key: &PublicKey| (1..9).find(|n| pubkey(*n) == *key).unwrap();
        let settings = PlanSettings {
            sleep_secs: 0,
            pull_requests: PullRequestLimits::DEFAULT,
        };
        let listings = listings_to_note(&facts, &plan(&facts, &Disk::default(), &settings));
        let rows = listings.iter().map(|(at, listing)| {
            let keys = listing.keys.iter().map(number).collect();
            (number(&at.owner), keys, listing.is_served)
        });
        rows.collect()
    }

    #[test]
    fn what_is_noted_otherwise_than_it_is_listed_is_noted_anew() {
        let listing = announcement_event(1, "r", 1, &[&["maintainers", &pubkey(2).to_hex()]]);
        let alone = announcement_event(1, "r", 1, &[]);
        for (story, scene, noted, expected) in [
            (
                "it is noted",
                Scene::default().served([listing.clone()]),
                &[(2, &[1][..])][..],
                vec![],
            ),
            (
                "it is not",
                Scene::default().served([listing.clone()]),
                &[],
                vec![(1, vec![2], true)],
            ),
            (
                "a held one is not",
                Scene::default().held([listing.clone()]),
                &[],
                vec![(1, vec![2], false)],
            ),
            (
                "it does not list any more",
                Scene::default().served([alone]),
                &[(2, &[1])],
                vec![(1, vec![], false)],
            ),
            (
                "it has expired",
                Scene::default().held_until(NOW, [listing]),
                &[(2, &[1])],
                vec![(1, vec![], false)],
            ),
        ] {
            assert_eq!(to_note(scene, noted), expected, "{story}");
        }
    }
}
