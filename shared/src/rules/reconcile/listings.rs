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
use crate::purgatory::Listing;
use crate::purgatory::Reading;
use crate::rules::Facts;
use crate::rules::Known;

/// Returns the listings that differ from the index, of the coordinates that were read, and those of announcements that
/// are released, or end: with these more may have left the index than they alone list.
pub fn listings_to_note(facts: &Facts, plan: &Plan) -> BTreeMap<Coordinate, Listing> {
    let gone = plan.expired.iter().filter(|(_, expiry)| *expiry == Expiry::Gone);
    let gone: BTreeSet<&EventId> = gone.map(|(id, _)| id).chain(&plan.ended).collect();
    let mut changed: BTreeSet<&Coordinate> = BTreeSet::new();
    let mut lists: BTreeMap<&Coordinate, [BTreeSet<PublicKey>; 2]> = BTreeMap::new();
    for known in &facts.announcements {
        let (announcement, id) = (&known.item, &known.item.revision.event_id);
        if announcement.roles.listed.is_empty() {
            continue;
        }
        if gone.contains(id) || plan.releases(id) {
            changed.insert(&announcement.coordinate);
        }
        if !gone.contains(id) {
            let is_served = known.status.counts_as_served() || plan.releases(id);
            let of_kind = &mut lists.entry(&announcement.coordinate).or_default()[usize::from(!is_served)];
            of_kind.extend(&announcement.roles.listed);
        }
    }
    let listings = lists
        .into_iter()
        .map(|(at, [served, held])| (at, Listing::new(&served, &held)));
    let mut listings: BTreeMap<&Coordinate, Listing> = listings.collect();
    let is_missing = |at: &Coordinate, key: &PublicKey| {
        let listed = at.of(*key);
        let noted = facts.listed_by.get(&listed);
        let is_noted = noted.is_some_and(|owners| owners.contains(&at.owner) || owners.len() >= Reading::LISTED_BY_MAX);
        facts.covered.coordinates.contains(&listed) && !is_noted
    };
    for at in &facts.covered.coordinates {
        let noted = facts.noted.get(at).copied().unwrap_or_default();
        let mut keys = listings.get(at).into_iter().flat_map(Listing::keys);
        // Where as many are noted as are listed, another key is noted in place of one that is missing.
        if keys.clone().count() != noted || keys.any(|key| is_missing(at, key)) {
            changed.insert(at);
        }
    }
    // Of these not everybody whom they list may be known.
    let is_cut = |known: &&Known<Announcement>| facts.covered.cut.contains(&known.item.revision.event_id);
    for known in facts.announcements.iter().filter(is_cut) {
        changed.remove(&known.item.coordinate);
    }
    let changed = changed.into_iter();
    changed
        .map(|at| (at.clone(), listings.remove(at).unwrap_or_default()))
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

    /// Returns whose listings are noted anew, and whom they list, served and held.
    fn to_note(scene: Scene, noted: &[(u8, &[u8])]) -> Vec<(u8, Vec<u8>, Vec<u8>)> {
        let mut facts = scene.facts();
        let noted = noted.iter().map(|(listed, owners)| {
            let owners = owners.iter().map(|owner| pubkey(*owner)).collect();
            (coordinate(*listed, "r"), owners)
        });
        facts.listed_by = noted.collect();
        for (listed, owners) in &facts.listed_by {
            for owner in owners {
                *facts.noted.entry(listed.of(*owner)).or_default() += 1;
            }
        }
        let number = |key: &PublicKey| (1..9).find(|n| pubkey(*n) == *key).unwrap();
        let settings = PlanSettings {
            sleep_secs: 0,
            pull_requests: PullRequestLimits::DEFAULT,
        };
        let listings = listings_to_note(&facts, &plan(&facts, &Disk::default(), &settings));
        let rows = listings.iter().map(|(at, listing)| {
            let [served, held] = listing.of_kinds().map(|keys| keys.iter().map(number).collect());
            (number(&at.owner), served, held)
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
                vec![(1, vec![2], vec![])],
            ),
            (
                "a held one is not",
                Scene::default().held([listing.clone()]),
                &[],
                vec![(1, vec![], vec![2])],
            ),
            (
                "it does not list any more",
                Scene::default().served([alone.clone()]),
                &[(2, &[1])],
                vec![(1, vec![], vec![])],
            ),
            (
                "nor does it list one who was not read",
                Scene::default().served([alone]),
                &[(8, &[1])],
                vec![(1, vec![], vec![])],
            ),
            (
                "another is noted",
                Scene::default().served([listing.clone()]),
                &[(8, &[1])],
                vec![(1, vec![2], vec![])],
            ),
            (
                "it has expired",
                Scene::default().held_until(NOW, [listing]),
                &[(2, &[1])],
                vec![(1, vec![], vec![])],
            ),
        ] {
            assert_eq!(to_note(scene, noted), expected, "{story}");
        }
    }
}
