//! How much of the disk repositories and staged commits use, and their limits: per owner, per repository, and in all.
//! Sizes are read from the directories themselves, an owner's every few minutes, and new bytes are added in between:
//! nothing is stored that a crash could make wrong.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use nostr::key::PublicKey;
use quick_cache::sync::Cache;
use shared::live::Live;
use shared::nip34::Coordinate;
use shared::options::values::ByteCount;
use shared::rules::BytesLeft;
use shared::rules::SourceTag;
use shared::rules::StagedPacks;
use shared::rules::is_within_share;

use crate::repositories::layout::FileError;
use crate::repositories::layout::Layout;
use crate::repositories::layout::bytes_below;
use crate::repositories::layout::entries_if_any;
use crate::repositories::layout::failed;
use crate::repositories::layout::in_background;
use crate::repositories::offers::bytes_offered;
use crate::repositories::staging::pusher_of;
use crate::repositories::staging::staged_dirs;

/// How many bytes on disk there may be. Packs that several repositories share count for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DiskLimits {
    pub(crate) per_owner: u64,
    pub(crate) per_repository: u64,
    /// Of commits of strangers that wait beside one repository.
    pub(crate) staged_per_repository: u64,
    /// That stay free for everything else.
    pub(crate) free_min: u64,
}

impl DiskLimits {
    /// Room for the largest projects, and a limit for anyone who tries to fill a disk.
    pub(crate) const DEFAULT: Self = Self {
        per_owner: 20 << 30,
        per_repository: 10 << 30,
        staged_per_repository: 1 << 30,
        free_min: 256 << 20,
    };
}

/// What a push brings, and where it goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Incoming<'c> {
    pub(crate) coordinate: &'c Coordinate,
    /// Where its pack is, if it is here.
    pub(crate) object_dir: Option<&'c Path>,
    /// Whether its owner pays for it: it goes into the repository, or is a maintainer's PR.
    pub(crate) moves_in: bool,
    /// Who has pushed it, if any of it is staged for a non-maintainer.
    pub(crate) staged_by: Option<SourceTag>,
}

/// Why there is no room for a push. The text is for the pusher.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoRoom {
    #[error(
        "the repositories of this owner use {} of {} allowed on this server: delete one, or ask the operator",
        ByteCount(*used),
        ByteCount(*max)
    )]
    Owner { used: u64, max: u64 },
    #[error("this repository uses {} of {} allowed on this server: ask the operator", ByteCount(*used), ByteCount(*max))]
    Repository { used: u64, max: u64 },
    #[error(
        "PR commits that wait for their events use {} of {} allowed for this repository: publish the PR events, or push \
         again later",
        ByteCount(*used),
        ByteCount(*max)
    )]
    Staged { used: u64, max: u64 },
    #[error(
        "PR commits from your address that wait for their events would use {} beside this repository, and there is {} \
         left for all others: publish the PR events, or push again later",
        ByteCount(*used),
        ByteCount(*left)
    )]
    StagedByAddress { used: u64, left: u64 },
    #[error("the server's disk is full")]
    Disk,
    #[error("the push cannot be stored on this server")]
    Unread(#[from] FileError),
}

#[derive(Debug)]
pub(crate) struct DiskUse {
    layout: Layout,
    limits: Live<DiskLimits>,
    spare: Option<Arc<dyn Spare>>,
    owners: Cache<PublicKey, Measured>,
}

/// Files that are kept only as long as nothing else needs the room.
pub(crate) trait Spare: std::fmt::Debug + Send + Sync {
    /// Frees as much as possible. Blocks.
    fn give_way(&self);
}

#[derive(Debug, Clone)]
struct Measured {
    bytes: Arc<AtomicU64>,
    /// Those that came with PRs of non-maintainers.
    offered: Arc<AtomicU64>,
    at: Instant,
}

impl DiskUse {
    /// Measures the directories below `layout`. `spare` is freed when too little space is free.
    pub(crate) fn new(layout: Layout, limits: DiskLimits, spare: Option<Arc<dyn Spare>>) -> Self {
        Self {
            layout,
            limits: Live::new(limits),
            spare,
            owners: Cache::new(OWNERS_MAX),
        }
    }

    /// Returns the limits, which may change.
    pub(crate) fn limits(&self) -> &Live<DiskLimits> {
        &self.limits
    }

    /// Makes sure that there is room for a push. What it brings counts when it has moved in.
    pub(crate) async fn check(self: &Arc<Self>, incoming: Incoming<'_>) -> Result<(), NoRoom> {
        let (this, coordinate) = (Arc::clone(self), incoming.coordinate.clone());
        let packs = incoming.object_dir.map(|dir| dir.join("pack"));
        let Incoming {
            moves_in, staged_by, ..
        } = incoming;
        in_background(move || {
            let limits = this.limits.get();
            let bytes = packs.map_or(Ok(0), |packs| bytes_below(&packs, &mut BTreeSet::new()))?;
            let exceeds = |used: u64, max: u64| used.saturating_add(bytes) > max;
            if !this.is_free(limits.free_min)? {
                return Err(NoRoom::Disk);
            }
            if let Some(pusher) = staged_by {
                this.check_staged(&coordinate, pusher, bytes)?;
            }
            if moves_in {
                // An owner's size is measured and kept whatever comes of this push.
                let of_owner = this.of_owner(coordinate.owner)?;
                let (used, max) = (this.of_repository(&coordinate)?, limits.per_repository);
                if exceeds(used, max) {
                    return Err(NoRoom::Repository { used, max });
                }
                let (used, max) = (of_owner.bytes.load(Ordering::Relaxed), limits.per_owner);
                if exceeds(used, max) {
                    return Err(NoRoom::Owner { used, max });
                }
            }
            Ok(())
        })
        .await
    }

    /// Makes sure that what strangers may have staged beside a repository has room for so many bytes more, and that no
    /// address has more of it than what is left to all others. Blocks.
    fn check_staged(&self, coordinate: &Coordinate, pusher: SourceTag, bytes: u64) -> Result<(), NoRoom> {
        let (mut seen, mut by_pusher) = (BTreeSet::new(), BTreeMap::<_, u64>::new());
        for object_dir in staged_dirs(&self.layout.staging(coordinate))? {
            *by_pusher.entry(pusher_of(&object_dir)).or_default() += bytes_below(&object_dir.join("pack"), &mut seen)?;
        }
        let (used, max) = (by_pusher.values().sum::<u64>(), self.limits.get().staged_per_repository);
        let Some(left) = max.checked_sub(used.saturating_add(bytes)) else {
            return Err(NoRoom::Staged { used, max });
        };
        let its = by_pusher.get(&Some(pusher)).copied().unwrap_or_default();
        match is_within_share(its + bytes, left, STAGED_SHARE) {
            true => Ok(()),
            false => Err(NoRoom::StagedByAddress {
                used: its + bytes,
                left,
            }),
        }
    }

    /// Returns how many more bytes may move into a repository. Blocks.
    pub(super) fn bytes_left(&self, coordinate: &Coordinate) -> Result<BytesLeft, FileError> {
        let (limits, of_owner) = (self.limits.get(), self.of_owner(coordinate.owner)?);
        let left = |of_repository: u64, of_owner: u64, part: u64| {
            let in_repository = (limits.per_repository / part).saturating_sub(of_repository);
            in_repository.min((limits.per_owner / part).saturating_sub(of_owner))
        };
        let offered = bytes_offered(&self.layout.repository(coordinate))?;
        let [of_owner, offered_to_owner] = [&of_owner.bytes, &of_owner.offered].map(|is| is.load(Ordering::Relaxed));
        Ok(BytesLeft {
            all: left(self.of_repository(coordinate)?, of_owner, 1),
            of_strangers: left(offered, offered_to_owner, STRANGERS_PART),
        })
    }

    fn of_repository(&self, coordinate: &Coordinate) -> Result<u64, FileError> {
        let parts = bytes_below(&self.layout.parts(coordinate), &mut BTreeSet::new())?;
        Ok(bytes_of(&self.layout.repository(coordinate))? + parts)
    }

    /// Returns the packs of a staged commit. Blocks.
    pub(super) fn staged(object_dir: &Path) -> Result<StagedPacks, FileError> {
        Ok(StagedPacks {
            bytes: bytes_below(&object_dir.join("pack"), &mut BTreeSet::new())?,
            source: pusher_of(object_dir),
        })
    }

    /// Whether so many bytes can be written while the required minimum stays free.
    pub(crate) async fn has_room(self: &Arc<Self>, bytes: u64) -> Result<bool, FileError> {
        let this = Arc::clone(self);
        in_background(move || this.is_free(this.limits.get().free_min.saturating_add(bytes))).await
    }

    /// Whether so many bytes are free, if necessary after `spare` was freed. Blocks.
    fn is_free(&self, bytes: u64) -> Result<bool, FileError> {
        let is_free = || Ok(bytes_free(self.layout.root())? >= bytes);
        match &self.spare {
            Some(spare) if !is_free()? => spare.give_way(),
            Some(_) | None => {}
        }
        is_free()
    }

    /// Returns what an owner has; it is measured if that is not known, or was long ago. Blocks.
    fn of_owner(&self, owner: PublicKey) -> Result<Measured, FileError> {
        let measured = self.owners.get(&owner);
        if let Some(measured) = measured.filter(|measured| measured.at.elapsed() < MEASURED_FOR) {
            return Ok(measured);
        }
        let measured = measure_owner(&self.layout, &owner)?;
        self.owners.insert(owner, measured.clone());
        Ok(measured)
    }

    /// Counts bytes that have moved into a repository, and those of them that came with strangers' PRs.
    pub(super) fn moved_in(&self, coordinate: &Coordinate, bytes: u64, offered: u64) {
        if let Some(measured) = self.owners.get(&coordinate.owner) {
            measured.bytes.fetch_add(bytes, Ordering::Relaxed);
            measured.offered.fetch_add(offered, Ordering::Relaxed);
        }
    }

    /// Measures these repositories, and returns what each owner has, the largest first.
    pub(crate) async fn by_owner(&self, coordinates: Vec<Coordinate>) -> Result<Vec<(PublicKey, u64)>, FileError> {
        let mut owners: BTreeMap<PublicKey, u64> = BTreeMap::new();
        for (coordinate, bytes) in self.of(coordinates).await? {
            *owners.entry(coordinate.owner).or_default() += bytes;
        }
        let mut owners: Vec<(PublicKey, u64)> = owners.into_iter().collect();
        owners.sort_by_key(|(_, bytes)| Reverse(*bytes));
        Ok(owners)
    }

    /// Measures these repositories, and returns what each has, the largest first.
    pub(crate) async fn of(&self, coordinates: Vec<Coordinate>) -> Result<Vec<(Coordinate, u64)>, FileError> {
        let layout = self.layout.clone();
        in_background(move || {
            let measure = |coordinate: Coordinate| {
                let bytes = bytes_of(&layout.repository(&coordinate))?;
                Ok((coordinate, bytes))
            };
            let mut sizes = coordinates.into_iter().map(measure).collect::<Result<Vec<_>, _>>()?;
            sizes.sort_by(|(a, a_bytes), (b, b_bytes)| (b_bytes, a).cmp(&(a_bytes, b)));
            Ok(sizes)
        })
        .await
    }
}

/// Including replaced packs until they are removed: an owner whose packs are replaced fast pays for them.
fn bytes_of(repository: &Path) -> Result<u64, FileError> {
    bytes_below(&repository.join("objects/pack"), &mut BTreeSet::new())
}

fn measure_owner(layout: &Layout, owner: &PublicKey) -> Result<Measured, FileError> {
    let at = Instant::now();
    // Parts of the states of virtual repositories too.
    let (mut bytes, mut offered) = (bytes_below(&layout.parts_of(owner), &mut BTreeSet::new())?, 0);
    for repository in entries_if_any(&layout.repositories_of(owner))? {
        bytes += bytes_of(&repository.path())?;
        offered += bytes_offered(&repository.path())?;
    }
    let (bytes, offered) = (Arc::new(bytes.into()), Arc::new(offered.into()));
    Ok(Measured { bytes, offered, at })
}

/// Returns how many bytes are free on the disk of `dir`. Blocks.
pub(crate) fn bytes_free(dir: &Path) -> Result<u64, FileError> {
    let found = rustix::fs::statvfs(dir).map_err(|errno| failed("look at", dir)(errno.into()))?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// For how long the size of an owner's repositories is believed: other gateways add to them too.
const MEASURED_FOR: Duration = Duration::from_secs(300);

const OWNERS_MAX: usize = 100_000;

/// The part of what strangers may have staged beside a repository that one address may have: as much as all others.
const STAGED_SHARE: (u64, u64) = (1, 2);

/// PRs of non-maintainers may bring a quarter of what a repository may have, and of what its owner may.
const STRANGERS_PART: u64 = 4;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::AtomicUsize;

    use shared::rules::PullRequestOffer;

    use super::*;
    use crate::repositories::testing::World;

    fn write(path: &Path, bytes: usize) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, vec![0; bytes]).unwrap();
    }

    #[tokio::test]
    async fn each_has_its_own_room() {
        let world = World::new().await;
        let (a, b) = (world.repository("a"), world.repository("b"));
        write(&a.path().join("objects/pack/x.pack"), 600);
        // It counts until it is gone.
        write(&a.path().join("objects/pack/x.replaced"), 0);
        write(&b.path().join("objects/pack/y.pack"), 100);
        let staging = world.store.layout().staging(a.coordinate());
        let [pack, same] = ["e0", "e1"].map(|event| staging.join(event).join("c0/pack/z.pack"));
        write(&pack, 300);
        fs::create_dir_all(same.parent().unwrap()).unwrap();
        fs::hard_link(&pack, &same).unwrap();
        let limits = DiskLimits {
            per_owner: 1000,
            per_repository: 800,
            staged_per_repository: 400,
            free_min: 0,
        };
        let disk = Arc::new(DiskUse::new(world.store.layout().clone(), limits, None));
        let pack = world.store.layout().root().join("received");
        let check = async |of: &crate::repositories::repository::Repository, bytes, staged_by: Option<SourceTag>| {
            write(&pack.join("pack/p.pack"), bytes);
            let incoming = Incoming {
                coordinate: of.coordinate(),
                object_dir: Some(&pack),
                moves_in: staged_by.is_none(),
                staged_by,
            };
            match disk.check(incoming).await {
                Ok(()) => "fits",
                Err(NoRoom::Owner { .. }) => "owner",
                Err(NoRoom::Repository { .. }) => "repository",
                Err(NoRoom::Staged { .. }) => "staged",
                Err(NoRoom::StagedByAddress { .. }) => "address",
                Err(NoRoom::Disk | NoRoom::Unread(_)) => "disk",
            }
        };

        assert_eq!(check(&a, 200, None).await, "fits");
        assert_eq!(check(&a, 201, None).await, "repository");
        // A push counts when it has moved in: others that fail take nothing.
        assert_eq!(check(&b, 300, None).await, "fits");
        assert_eq!(check(&b, 301, None).await, "owner");
        disk.moved_in(a.coordinate(), 200, 0);
        assert_eq!(check(&b, 100, None).await, "fits");
        assert_eq!(check(&b, 101, None).await, "owner");
        // One address closed a repository to all others.
        fs::write(staging.join("e0/c0/pushed-by"), "00a1\n").unwrap();
        let (has_most, other) = (Some(SourceTag(0xa1)), Some(SourceTag(0xa2)));
        assert_eq!(check(&a, 1, has_most).await, "address");
        assert_eq!(check(&a, 50, other).await, "fits");
        assert_eq!(check(&a, 51, other).await, "address");
        assert_eq!(check(&a, 101, other).await, "staged");
        let owners = disk
            .by_owner(vec![a.coordinate().clone(), b.coordinate().clone()])
            .await;
        assert_eq!(owners.unwrap(), [(a.coordinate().owner, 700)]);

        let full = DiskLimits {
            free_min: u64::MAX,
            ..limits
        };
        let spare = Arc::new(Spared::default());
        let disk = DiskUse::new(world.store.layout().clone(), full, Some(Arc::clone(&spare) as _));
        let disk = Arc::new(disk);
        let incoming = Incoming {
            coordinate: a.coordinate(),
            object_dir: None,
            moves_in: true,
            staged_by: None,
        };
        assert!(matches!(disk.check(incoming).await, Err(NoRoom::Disk)));
        assert!(!disk.has_room(0).await.unwrap());
        assert_eq!(spare.0.load(Ordering::SeqCst), 2, "it was asked to give way before");
    }

    #[tokio::test]
    async fn strangers_have_a_quarter_of_what_a_repository_and_its_owner_may_have() {
        let world = World::new().await;
        let (a, b) = (world.repository("a"), world.repository("b"));
        write(&a.path().join("objects/pack/x.pack"), 600);
        write(&b.path().join("objects/pack/y.pack"), 100);
        let offer = PullRequestOffer {
            author: a.coordinate().owner,
            bytes: 150,
            source: None,
        };
        a.note_offer(&nostr::event::EventId::from_byte_array([1; 32]), offer)
            .await
            .unwrap();
        let limits = DiskLimits {
            per_owner: 1000,
            per_repository: 800,
            ..DiskLimits::DEFAULT
        };
        let disk = DiskUse::new(world.store.layout().clone(), limits, None);
        let left = |of: &crate::repositories::repository::Repository| {
            let BytesLeft { all, of_strangers } = disk.bytes_left(of.coordinate()).unwrap();
            (all, of_strangers)
        };

        assert_eq!((left(&a), left(&b)), ((200, 50), (300, 100)));
        disk.moved_in(b.coordinate(), 80, 60);
        assert_eq!(left(&b), (220, 40), "before its owner is measured again");
    }

    #[derive(Debug, Default)]
    struct Spared(AtomicUsize);

    impl Spare for Spared {
        fn give_way(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}
