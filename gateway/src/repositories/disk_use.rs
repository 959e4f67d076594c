//! How much of the disk repositories and staged commits use, and their limits: per owner, per repository, and in all.
//! Sizes are read from the directories themselves, an owner's every few minutes, and new bytes are added in between:
//! nothing is stored that a crash could make wrong.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use nostr::key::PublicKey;
use quick_cache::sync::Cache;
use shared::nip34::Coordinate;
use shared::options::values::ByteCount;

use crate::repositories::layout::FileError;
use crate::repositories::layout::Layout;
use crate::repositories::layout::entries_if_any;
use crate::repositories::layout::failed;
use crate::repositories::layout::if_found;
use crate::repositories::layout::in_background;

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
    /// Whether any of it goes into the repository.
    pub(crate) moves_in: bool,
    /// Whether a non-maintainer has any of it staged.
    pub(crate) is_staged_by_stranger: bool,
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
    #[error("the server's disk is full")]
    Disk,
    #[error("the push cannot be stored on this server")]
    Unread(#[from] FileError),
}

#[derive(Debug)]
pub(crate) struct DiskUse {
    layout: Layout,
    limits: DiskLimits,
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
    at: Instant,
}

impl DiskUse {
    /// Measures the directories below `layout`. `spare` is freed when too little space is free.
    pub(crate) fn new(layout: Layout, limits: DiskLimits, spare: Option<Arc<dyn Spare>>) -> Self {
        Self {
            layout,
            limits,
            spare,
            owners: Cache::new(OWNERS_MAX),
        }
    }

    /// Makes sure that there is room for a push, and counts a pack that is about to move in.
    pub(crate) async fn check(self: &Arc<Self>, incoming: Incoming<'_>) -> Result<(), NoRoom> {
        let (this, coordinate) = (Arc::clone(self), incoming.coordinate.clone());
        let packs = incoming.object_dir.map(|dir| dir.join("pack"));
        let Incoming {
            moves_in,
            is_staged_by_stranger,
            ..
        } = incoming;
        in_background(move || {
            let (layout, limits) = (&this.layout, &this.limits);
            let bytes = packs.map_or(Ok(0), |packs| bytes_below(&packs))?;
            let exceeds = |used: u64, max: u64| used.saturating_add(bytes) > max;
            if !this.is_free(limits.free_min)? {
                return Err(NoRoom::Disk);
            }
            if is_staged_by_stranger {
                let (used, max) = (bytes_below(&layout.staging(&coordinate))?, limits.staged_per_repository);
                if exceeds(used, max) {
                    return Err(NoRoom::Staged { used, max });
                }
            }
            if moves_in {
                // An owner's size is measured and kept whatever comes of this push.
                let of_owner = this.of_owner(coordinate.owner)?;
                let used = bytes_of(&layout.repository(&coordinate))? + bytes_below(&layout.parts(&coordinate))?;
                let max = limits.per_repository;
                if exceeds(used, max) {
                    return Err(NoRoom::Repository { used, max });
                }
                let (used, max) = (of_owner, limits.per_owner);
                if exceeds(used, max) {
                    return Err(NoRoom::Owner { used, max });
                }
                this.add(&coordinate.owner, bytes);
            }
            Ok(())
        })
        .await
    }

    /// Whether so many bytes can be written while the required minimum stays free.
    pub(super) async fn has_room(self: &Arc<Self>, bytes: u64) -> Result<bool, FileError> {
        let this = Arc::clone(self);
        in_background(move || this.is_free(this.limits.free_min.saturating_add(bytes))).await
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
    fn of_owner(&self, owner: PublicKey) -> Result<u64, FileError> {
        let measured = self.owners.get(&owner);
        if let Some(measured) = measured.filter(|measured| measured.at.elapsed() < MEASURED_FOR) {
            return Ok(measured.bytes.load(Ordering::Relaxed));
        }
        let bytes = bytes_of_owner(&self.layout, &owner)?;
        let measured = Measured {
            bytes: Arc::new(bytes.into()),
            at: Instant::now(),
        };
        self.owners.insert(owner, measured);
        Ok(bytes)
    }

    /// Adds bytes that are about to move in. If they do not, the next measurement of the owner corrects it.
    fn add(&self, owner: &PublicKey, bytes: u64) {
        if let Some(measured) = self.owners.get(owner) {
            measured.bytes.fetch_add(bytes, Ordering::Relaxed);
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
    bytes_below(&repository.join("objects/pack"))
}

fn bytes_of_owner(layout: &Layout, owner: &PublicKey) -> Result<u64, FileError> {
    let mut bytes = 0;
    for repository in entries_if_any(&layout.repositories_of(owner))? {
        bytes += bytes_of(&repository.path())?;
    }
    // Those of virtual ones too.
    Ok(bytes + bytes_below(&layout.parts_of(owner))?)
}

/// Returns the bytes of the files below `dir`, each once however many names it has there.
pub(super) fn bytes_below(dir: &Path) -> Result<u64, FileError> {
    let (mut bytes, mut seen) = (0, BTreeSet::new());
    let mut dirs: Vec<PathBuf> = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in entries_if_any(&dir)? {
            match if_found(entry.metadata()).map_err(failed("look at", &entry.path()))? {
                Some(found) if found.is_dir() => dirs.push(entry.path()),
                Some(found) if seen.insert(found.ino()) => bytes += found.len(),
                // `None`: it has moved in meanwhile, or was removed.
                Some(_) | None => {}
            }
        }
    }
    Ok(bytes)
}

/// Returns how many bytes are free on the disk of `dir`. Blocks.
pub(crate) fn bytes_free(dir: &Path) -> Result<u64, FileError> {
    let found = rustix::fs::statvfs(dir).map_err(|errno| failed("look at", dir)(errno.into()))?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// For how long the size of an owner's repositories is believed: other gateways add to them too.
const MEASURED_FOR: Duration = Duration::from_secs(300);

const OWNERS_MAX: usize = 100_000;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::AtomicUsize;

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
        write(&staging.join("event/commit/pack/z.pack"), 300);
        fs::create_dir_all(staging.join("other/commit/pack")).unwrap();
        fs::hard_link(
            staging.join("event/commit/pack/z.pack"),
            staging.join("other/commit/pack/z.pack"),
        )
        .unwrap();
        let limits = DiskLimits {
            per_owner: 1000,
            per_repository: 800,
            staged_per_repository: 400,
            free_min: 0,
        };
        let disk = Arc::new(DiskUse::new(world.store.layout().clone(), limits, None));
        let pack = world.store.layout().root().join("received");
        let check = async |of: &crate::repositories::repository::Repository, bytes, moves_in| {
            write(&pack.join("pack/p.pack"), bytes);
            let incoming = Incoming {
                coordinate: of.coordinate(),
                object_dir: Some(&pack),
                moves_in,
                is_staged_by_stranger: !moves_in,
            };
            match disk.check(incoming).await {
                Ok(()) => "fits",
                Err(NoRoom::Owner { .. }) => "owner",
                Err(NoRoom::Repository { .. }) => "repository",
                Err(NoRoom::Staged { .. }) => "staged",
                Err(NoRoom::Disk | NoRoom::Unread(_)) => "disk",
            }
        };

        assert_eq!(check(&a, 200, true).await, "fits");
        assert_eq!(check(&a, 201, true).await, "repository");
        // What moved in counts before it is measured.
        assert_eq!(check(&b, 101, true).await, "owner");
        assert_eq!(check(&b, 100, true).await, "fits");
        assert_eq!(check(&b, 1, true).await, "owner");
        assert_eq!(check(&a, 100, false).await, "fits");
        assert_eq!(check(&a, 101, false).await, "staged");
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
            is_staged_by_stranger: false,
        };
        assert!(matches!(disk.check(incoming).await, Err(NoRoom::Disk)));
        assert!(!disk.has_room(0).await.unwrap());
        assert_eq!(spare.0.load(Ordering::SeqCst), 2, "it was asked to give way before");
    }

    #[derive(Debug, Default)]
    struct Spared(AtomicUsize);

    impl Spare for Spared {
        fn give_way(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}
