//! Whose states count for a repository: the reciprocal rule of GRASP v3, the one-way rule of GRASP-01's text, and
//! the hybrid of both (docs/facts/grasp.md 0.1 and 1.2).

use std::collections::BTreeSet;

use nostr::key::PublicKey;

use crate::nip34::Announcement;

/// By which rule an announcement makes others maintainers.
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

impl Membership {
    /// Resolves who belongs to the repository of `owner`. `announcement_of` finds the announcement of an author, of the
    /// repository's identifier.
    ///
    /// The answer does not depend on the order in which the announcements became known.
    pub fn resolve<'a>(
        owner: &PublicKey,
        announcement_of: impl Fn(&PublicKey) -> Option<&'a Announcement>,
        mode: MaintainerMode,
    ) -> Self {
        let announcements: &Find<'a, '_> = &announcement_of;
        let Some(root) = root(owner, announcements, mode) else {
            return Self::default();
        };
        let mut confirmed = BTreeSet::from([root]);
        loop {
            let joining: BTreeSet<PublicKey> = listings(&confirmed, announcements)
                .filter(|(_, listed)| !confirmed.contains(listed))
                .filter(|(by, listed)| accepts(by, listed, announcements, &confirmed, mode))
                .map(|(_, listed)| listed)
                .collect();
            if joining.is_empty() {
                break;
            }
            confirmed.extend(joining);
        }
        let invited = listings(&confirmed, announcements)
            .map(|(_, listed)| listed)
            .filter(|listed| !confirmed.contains(listed))
            .collect();
        Self { confirmed, invited }
    }
}

type Find<'a, 'f> = dyn Fn(&PublicKey) -> Option<&'a Announcement> + 'f;

/// Follows the leads from the owner to the maintainer with whom the set begins. `None`: there is no unambiguous one.
fn root(owner: &PublicKey, announcements: &Find<'_, '_>, mode: MaintainerMode) -> Option<PublicKey> {
    let mut at = *owner;
    let mut visited = BTreeSet::new();
    loop {
        let roles = &announcements(&at)?.roles;
        if mode == MaintainerMode::Recursive {
            return Some(at);
        }
        let followed = !visited.is_empty();
        let mut leads = roles.leads.iter();
        match (leads.next(), leads.next()) {
            (None, _) if roles.author_active && !followed => return Some(at),
            (Some(lead), None) if *lead == at => return Some(at),
            (Some(lead), None) if visited.insert(at) => at = *lead,
            // Nobody leads, several do, or the leads go round in a circle.
            _ => return None,
        }
    }
}

/// Returns a pair for each key that a confirmed maintainer lists: (maintainer, listed key).
fn listings<'a>(
    confirmed: &'a BTreeSet<PublicKey>,
    announcements: &'a Find<'_, '_>,
) -> impl Iterator<Item = (PublicKey, PublicKey)> {
    confirmed.iter().filter_map(announcements).flat_map(|announcement| {
        let by = announcement.coordinate.owner;
        announcement.roles.listed.iter().map(move |listed| (by, *listed))
    })
}

/// Whether being listed by `by` makes `listed` a maintainer.
fn accepts(
    by: &PublicKey,
    listed: &PublicKey,
    announcements: &Find<'_, '_>,
    confirmed: &BTreeSet<PublicKey>,
    mode: MaintainerMode,
) -> bool {
    let own = announcements(listed).map(|announcement| &announcement.roles);
    let listed_by_legacy_tag = announcements(by).is_some_and(|announcement| !announcement.roles.explicit);
    let one_way = match mode {
        MaintainerMode::Recursive => return true,
        MaintainerMode::Hybrid => listed_by_legacy_tag,
        MaintainerMode::Reciprocal => false,
    };
    match own {
        // An author who has ended the own role is out, even if others list the key.
        Some(roles) if !roles.author_active => false,
        Some(_) | None if one_way => true,
        Some(roles) => roles.listed.iter().any(|back| confirmed.contains(back)),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

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
        let find = |author: &PublicKey| announcements.iter().find(|a| a.coordinate.owner == *author);
        let confirmed = Membership::resolve(&pubkey(owner), find, mode).confirmed;
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
        let by_author = BTreeMap::from([(pubkey(1), &listing)]);

        let membership = Membership::resolve(
            &pubkey(1),
            |author| by_author.get(author).copied(),
            MaintainerMode::Hybrid,
        );

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
            let alone = BTreeMap::from([(pubkey(1), &own)]);
            let both = BTreeMap::from([(pubkey(1), &own), (pubkey(stranger), &other)]);
            for mode in [MaintainerMode::Hybrid, MaintainerMode::Reciprocal, MaintainerMode::Recursive] {
                prop_assert_eq!(
                    Membership::resolve(&pubkey(1), |author| alone.get(author).copied(), mode),
                    Membership::resolve(&pubkey(1), |author| both.get(author).copied(), mode)
                );
            }
        }
    }
}
