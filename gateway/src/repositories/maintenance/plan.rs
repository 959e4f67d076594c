//! Decides how to maintain the packs of a repository, given the packs that it has. No files here.

use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use crate::process::ChildLimits;

/// The packs of a repository, by their names without extension.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FoundPacks {
    /// Those in use.
    pub(super) packs: Vec<FoundPack>,
    /// Those that the multi-pack index has.
    pub(super) indexed: BTreeSet<PathBuf>,
    /// Those whose objects are all in others, and for how long they have been.
    pub(super) replaced: Vec<(PathBuf, Duration)>,
    /// Those of objects that no ref reaches.
    pub(super) unreachable: BTreeSet<PathBuf>,
    /// How long ago it was looked for such objects, if that holds still.
    pub(super) sorted_before: Duration,
}

impl FoundPacks {
    /// Returns the names of all that have objects which are nowhere else.
    pub(super) fn names(&self) -> BTreeSet<PathBuf> {
        let used = self.packs.iter().map(|pack| pack.name.clone());
        used.chain(self.unreachable.iter().cloned()).collect()
    }

    pub(super) fn bytes_of(&self, names: &BTreeSet<PathBuf>) -> u64 {
        let packs = self.packs.iter().filter(|pack| names.contains(&pack.name));
        packs.map(|pack| pack.bytes).sum()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FoundPack {
    pub(super) name: PathBuf,
    pub(super) bytes: u64,
    /// Several repositories share it on disk.
    pub(super) is_shared: bool,
}

/// When maintenance is worth its time, and its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MaintenanceSettings {
    /// So many packs that are not indexed, or in all, are indexed and combined.
    pub(crate) packs_max: usize,
    /// How long a pack stays after its objects are in another: a running reader may need it.
    pub(crate) keep_replaced: Duration,
    /// For how long objects that no ref reaches stay at least.
    pub(crate) keep_unreachable: Duration,
    /// Longest time of one git.
    pub(crate) duration_max: Duration,
    /// Most memory of one git.
    pub(crate) memory_bytes_max: u64,
}

impl MaintenanceSettings {
    /// No fetch takes longer than a replaced pack is kept.
    pub(crate) const DEFAULT: Self = Self {
        packs_max: 16,
        keep_replaced: Duration::from_secs(6 * 3600),
        keep_unreachable: Duration::from_secs(14 * 24 * 3600),
        duration_max: Duration::from_secs(3600),
        memory_bytes_max: 4 << 30,
    };

    pub(in crate::repositories) fn child_limits(&self) -> ChildLimits {
        ChildLimits {
            memory_bytes: self.memory_bytes_max,
            cpu_secs: self.duration_max.as_secs(),
            file_bytes: FILE_BYTES_MAX,
        }
    }
}

/// No repository is as large; `u64::MAX` means something else ([`ChildLimits`]).
const FILE_BYTES_MAX: u64 = 1 << 50;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// What pays for itself.
    WhereItPays,
    /// All that can be done: somebody asks for it.
    All,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct MaintenancePlan {
    /// Packs to make one of.
    pub(super) combine: BTreeSet<PathBuf>,
    /// Whether the index and the files that depend on it (bitmaps, commit-graph) are rewritten.
    pub(super) is_indexed_anew: bool,
    /// Packs that nobody reads any more.
    pub(super) remove: Vec<PathBuf>,
    /// Whether it is looked for objects that no ref reaches.
    pub(super) is_sorted: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Separation {
    /// Packs that have some, of which two are made.
    pub(super) split: BTreeSet<PathBuf>,
    /// Packs that have nothing else.
    pub(super) unreachable: BTreeSet<PathBuf>,
    /// Packs that had nothing else, and do now.
    pub(super) reached_again: BTreeSet<PathBuf>,
}

pub(super) fn plan(found: &FoundPacks, effort: Effort, settings: &MaintenanceSettings) -> MaintenancePlan {
    let is_due = |count: usize| match effort {
        Effort::WhereItPays => count >= settings.packs_max,
        Effort::All => count > 0,
    };
    let combine = match is_due(found.packs.len()) {
        true => to_combine(&found.packs),
        false => BTreeSet::new(),
    };
    let not_indexed = found.packs.iter().filter(|pack| !found.indexed.contains(&pack.name));
    let (count, bytes) = not_indexed.fold((0, 0), |(count, bytes), pack| (count + 1, bytes + pack.bytes));
    let all: u64 = found.packs.iter().map(|pack| pack.bytes).sum();
    let has_grown = bytes >= GROWTH_BYTES_MIN.max(all / GROWTH_PARTS);
    let old = found.replaced.iter().filter(|(_, age)| *age >= settings.keep_replaced);
    let is_sorted = effort == Effort::All || found.sorted_before >= settings.keep_unreachable / SORTED_PER_RETENTION;
    MaintenancePlan {
        is_sorted: is_sorted && !found.packs.is_empty(),
        is_indexed_anew: !combine.is_empty() || is_due(count) || has_grown,
        combine,
        remove: old.map(|(name, _)| name.clone()).collect(),
    }
}

/// Decides about packs, given how many objects of each are reachable, and how many it has. Packs that repositories
/// share are not rewritten.
pub(super) fn separate<'p>(found: &FoundPacks, counts: impl Iterator<Item = (&'p Path, usize, usize)>) -> Separation {
    let mut separation = Separation::default();
    for (name, reached, all) in counts {
        let pack = found.packs.iter().find(|pack| pack.name == name);
        match pack {
            Some(_) if reached == 0 => separation.unreachable.insert(name.to_owned()),
            Some(pack) if reached < all && !pack.is_shared => separation.split.insert(name.to_owned()),
            None if reached > 0 => separation.reached_again.insert(name.to_owned()),
            Some(_) | None => false,
        };
    }
    separation
}

/// Returns the small packs of which one is made, so that of those left each has twice the bytes of the next smaller one
/// at least (`git-repack(1)`, `--geometric`): however many pushes come, an object is packed again a few times. Shared
/// packs stay as they are: of each repository's own they would take the disk once for each.
fn to_combine(packs: &[FoundPack]) -> BTreeSet<PathBuf> {
    let mut own: Vec<&FoundPack> = packs.iter().filter(|pack| !pack.is_shared).collect();
    own.sort_by_key(|pack| pack.bytes);
    let is_close = |pair: &[&FoundPack]| pair[1].bytes < 2 * pair[0].bytes;
    let Some(closest) = own.windows(2).rposition(is_close) else {
        return BTreeSet::new();
    };
    let mut count = closest + 2;
    let mut bytes: u64 = own[..count].iter().map(|pack| pack.bytes).sum();
    while let Some(next) = own.get(count).filter(|next| next.bytes < 2 * bytes) {
        bytes += next.bytes;
        count += 1;
    }
    own[..count].iter().map(|pack| pack.name.clone()).collect()
}

/// Packs of fewer bytes are read as fast without an index.
const GROWTH_BYTES_MIN: u64 = 1 << 20;

/// The index is rewritten when this part of the repository is not in it; otherwise bitmaps cover enough.
const GROWTH_PARTS: u64 = 10;

/// It is looked for unreachable objects so many times in the time that they stay, which is so much longer at most.
const SORTED_PER_RETENTION: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(name: &str, bytes: u64) -> FoundPack {
        FoundPack {
            name: name.into(),
            bytes,
            is_shared: false,
        }
    }

    fn decide(packs: &[(&str, u64)], indexed: &[&str], effort: Effort) -> (Vec<String>, bool) {
        let found = FoundPacks {
            packs: packs.iter().map(|(name, bytes)| pack(name, *bytes)).collect(),
            indexed: indexed.iter().map(PathBuf::from).collect(),
            ..FoundPacks::default()
        };
        let settings = MaintenanceSettings {
            packs_max: 4,
            ..MaintenanceSettings::DEFAULT
        };
        let plan = plan(&found, effort, &settings);
        let combine = plan.combine.iter().map(|name| name.display().to_string());
        (combine.collect(), plan.is_indexed_anew)
    }

    #[test]
    fn packs_are_indexed_and_combined_when_that_pays() {
        const MIB: u64 = 1 << 20;
        let (pays, all) = (Effort::WhereItPays, Effort::All);
        // The packs, those indexed, the effort; those combined, and whether there is a new index.
        type PacksRow<'r> = (&'r [(&'r str, u64)], &'r [&'r str], Effort, &'r [&'r str], bool);
        let rows: &[PacksRow<'_>] = &[
            // Nothing, and little, is left alone.
            (&[], &[], all, &[], false),
            (&[("a", 10)], &[], pays, &[], false),
            (&[("a", 10)], &[], all, &[], true),
            (&[("a", 10)], &["a"], all, &[], false),
            // A repository that has grown by this part is indexed.
            (&[("a", MIB)], &[], pays, &[], true),
            (&[("a", 100 * MIB), ("b", 9 * MIB)], &["a"], pays, &[], false),
            (&[("a", 100 * MIB), ("b", 20 * MIB)], &["a"], pays, &[], true),
            // Few packs stay; of many the small ones become one.
            (&[("a", 100), ("b", 1), ("c", 1)], &["a", "b", "c"], pays, &[], false),
            (
                &[("a", 100), ("b", 1), ("c", 1)],
                &["a", "b", "c"],
                all,
                &["b", "c"],
                true,
            ),
            (
                &[("a", 100), ("b", 2), ("c", 1), ("d", 1)],
                &["a"],
                pays,
                &["b", "c", "d"],
                true,
            ),
            (
                &[("a", 9), ("b", 3), ("c", 2), ("d", 2)],
                &["a"],
                pays,
                &["a", "b", "c", "d"],
                true,
            ),
            // In progression.
            (
                &[("a", 8), ("b", 4), ("c", 2), ("d", 1)],
                &["a", "b", "c", "d"],
                pays,
                &[],
                false,
            ),
        ];
        for (packs, indexed, effort, combine, is_indexed) in rows {
            let expected = combine.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(
                decide(packs, indexed, *effort),
                (expected, *is_indexed),
                "{packs:?} {effort:?}"
            );
        }
    }

    #[test]
    fn shared_packs_stay_as_they_are_and_replaced_ones_for_a_while() {
        let shared = FoundPack {
            is_shared: true,
            ..pack("shared", 1)
        };
        let keep = MaintenanceSettings::DEFAULT.keep_replaced;
        let found = FoundPacks {
            packs: vec![shared, pack("a", 1), pack("b", 1)],
            indexed: BTreeSet::new(),
            replaced: vec![("young".into(), keep / 2), ("old".into(), keep)],
            ..FoundPacks::default()
        };

        let plan = plan(&found, Effort::All, &MaintenanceSettings::DEFAULT);

        assert_eq!(plan.combine, [PathBuf::from("a"), PathBuf::from("b")].into());
        assert_eq!(plan.remove, [PathBuf::from("old")]);
    }

    #[test]
    fn it_is_looked_for_unreachable_objects_a_few_times_before_they_go() {
        let settings = MaintenanceSettings::DEFAULT;
        let due = settings.keep_unreachable / SORTED_PER_RETENTION;
        let is_sorted = |sorted_before: Duration, packs: &[FoundPack], effort| {
            let found = FoundPacks {
                packs: packs.to_vec(),
                sorted_before,
                ..FoundPacks::default()
            };
            plan(&found, effort, &settings).is_sorted
        };
        let some = [pack("a", 1)];

        assert!(is_sorted(due, &some, Effort::WhereItPays));
        assert!(!is_sorted(due / 2, &some, Effort::WhereItPays));
        assert!(is_sorted(due / 2, &some, Effort::All));
        assert!(!is_sorted(due, &[], Effort::All));
    }

    #[test]
    fn packs_are_split_by_what_refs_reach() {
        let shared = |name| FoundPack {
            is_shared: true,
            ..pack(name, 1)
        };
        let found = FoundPacks {
            packs: vec![
                pack("all", 1),
                pack("some", 1),
                pack("none", 1),
                shared("shared"),
                shared("nobodys"),
            ],
            unreachable: ["still".into(), "again".into()].into(),
            ..FoundPacks::default()
        };
        let counts = [
            ("all", 2, 2),
            ("some", 1, 2),
            ("none", 0, 2),
            ("shared", 1, 2),
            ("nobodys", 0, 2),
            ("still", 0, 2),
            ("again", 1, 2),
        ];

        let separation = separate(
            &found,
            counts
                .iter()
                .map(|(name, reached, all)| (Path::new(name), *reached, *all)),
        );

        let names = |names: &[&str]| names.iter().map(PathBuf::from).collect::<BTreeSet<_>>();
        assert_eq!(separation.split, names(&["some"]));
        assert_eq!(separation.unreachable, names(&["none", "nobodys"]));
        assert_eq!(separation.reached_again, names(&["again"]));
    }
}
