//! Faults of disks that come and go while the server works and is killed: no room, no inodes, repositories that cannot
//! be read or written, and git commands that fail with `EIO`. Drawn from the seed, one at a time.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::CWD;
use rustix::fs::RenameFlags;
use rustix::io::Errno;
use tokio::sync::RwLock;
use tokio::sync::watch;

use super::random::Random;
use crate::clients::nostr::now;
use crate::faults::git_wrapper::GitMoment;
use crate::faults::git_wrapper::GitWrapper;
use crate::faults::small_disk::SmallDisk;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DiskFaultKind {
    /// No block is left, or a few.
    NoRoom,
    /// No inode is left, or a few.
    NoInodes,
    /// Something stands in the place of a part of a repository.
    Unreadable,
    /// A repository, or one of the directories that all share, is read-only.
    Unwritable,
    /// Commands of git fail, before or after they have done their work.
    GitFails,
}

impl DiskFaultKind {
    /// All of them, as they are called.
    pub(super) const ALL: [(Self, &'static str); 5] = [
        (Self::Unreadable, "unreadable repository"),
        (Self::GitFails, "EIO of git"),
        (Self::NoRoom, "full disk"),
        (Self::Unwritable, "read-only directory"),
        (Self::NoInodes, "no inodes"),
    ];

    fn needs_a_small_disk(self) -> bool {
        match self {
            Self::NoRoom | Self::NoInodes | Self::Unwritable => true,
            Self::Unreadable | Self::GitFails => false,
        }
    }
}

/// What faults are made with.
#[derive(Clone)]
pub(super) struct Means {
    /// The data directory, as it is seen from here.
    pub(super) data: PathBuf,
    /// The file system of the data directory; `None` where nobody may mount one.
    pub(super) disk: Option<Arc<SmallDisk>>,
    /// What stands before git in the gateways' paths.
    pub(super) gits: Vec<Arc<GitWrapper>>,
    /// Held while something stands in the place of a repository: whoever reads repositories waits.
    pub(super) hidden: Arc<RwLock<()>>,
}

/// Makes faults, and counts them.
pub(super) struct DiskFaults {
    means: Means,
    random: Random,
    drawn: usize,
    /// How many there were of each kind.
    pub(super) tally: BTreeMap<DiskFaultKind, u64>,
    /// When each began, in unix seconds.
    pub(super) schedule: Vec<String>,
}

impl DiskFaults {
    /// Faults that follow from a seed.
    pub(super) fn new(seed: u64, means: Means) -> Self {
        Self {
            means,
            random: Random::new(seed, 1),
            drawn: 0,
            tally: BTreeMap::new(),
            schedule: Vec::new(),
        }
    }

    /// Makes one after the other until `stop` says so; none is left then.
    pub(super) async fn make(&mut self, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow_and_update() {
            let pause = Duration::from_millis(self.random.below(PAUSE_MAX_MS));
            let lasts = Duration::from_millis(LASTS_MIN_MS + self.random.below(LASTS_MORE_MS));
            wait(&mut stop, pause).await;
            if *stop.borrow() {
                return;
            }
            let kind = self.draw_kind();
            let began = now();
            if let Some(what) = self.happen(kind, async || wait(&mut stop.clone(), lasts).await).await {
                self.drawn += 1;
                *self.tally.entry(kind).or_default() += 1;
                self.schedule.push(format!("{began} {what} for {lasts:?}"));
            }
        }
    }

    /// The first ones go through all kinds in turn.
    fn draw_kind(&mut self) -> DiskFaultKind {
        let is_possible = |kind: &DiskFaultKind| self.means.disk.is_some() || !kind.needs_a_small_disk();
        let possible: Vec<_> = DiskFaultKind::ALL
            .map(|(kind, _)| kind)
            .into_iter()
            .filter(is_possible)
            .collect();
        match possible.get(self.drawn) {
            Some(kind) => *kind,
            None => self.random.pick(&possible),
        }
    }

    /// Makes a fault, and ends it after `wait`. Returns what it was; `None`: it was not possible now.
    async fn happen(&mut self, kind: DiskFaultKind, wait: impl AsyncFnOnce()) -> Option<String> {
        match kind {
            DiskFaultKind::NoRoom | DiskFaultKind::NoInodes => self.fill(kind, wait).await,
            DiskFaultKind::Unreadable => self.hide(wait).await,
            DiskFaultKind::Unwritable => self.make_read_only(wait).await,
            DiskFaultKind::GitFails => Some(self.fail_git(wait).await),
        }
    }

    async fn fill(&mut self, kind: DiskFaultKind, wait: impl AsyncFnOnce()) -> Option<String> {
        let disk = self.means.disk.clone()?;
        let left = self.random.pick(&[0, 0, 1, 3, 10, 30]);
        let (blocks, files) = match kind == DiskFaultKind::NoInodes {
            true => (BLOCKS_ENOUGH, left),
            false => (left, FILES_ENOUGH),
        };
        if !disk.leave(blocks, files).await {
            return None;
        }
        wait().await;
        disk.leave_all().await;
        Some(format!("{kind:?}: {left} left"))
    }

    async fn hide(&mut self, wait: impl AsyncFnOnce()) -> Option<String> {
        let repository = self.a_repository()?;
        let part = self.random.pick(&[
            "",
            "objects",
            "objects/pack",
            "refs",
            "refs/heads",
            "HEAD",
            "packed-refs",
        ]);
        // A path that ends in a slash is none of a file.
        let place = if part.is_empty() {
            repository.clone()
        } else {
            repository.join(part)
        };
        let screen = Screen::before(&place, &self.means.data.join("away"), self.random.chance(50))?;
        let hidden = Arc::clone(&self.means.hidden);
        let hidden = hidden.write().await;
        screen.exchange().ok()?;
        wait().await;
        let shown = screen.exchange();
        drop(hidden);
        // What was removed with all around it needs nothing back.
        assert!(
            matches!(shown, Ok(()) | Err(Errno::NOENT)),
            "{shown:?}: {}",
            place.display()
        );
        Some(format!(
            "{} of {}",
            if part.is_empty() { "all" } else { part },
            name(&repository)
        ))
    }

    async fn make_read_only(&mut self, wait: impl AsyncFnOnce()) -> Option<String> {
        let disk = self.means.disk.clone()?;
        let shared = ["repositories", "staging", "quarantine", "locks"];
        let place = match self.random.chance(50) {
            true => PathBuf::from(self.random.pick(&shared)),
            false => self.a_repository()?.strip_prefix(&self.means.data).ok()?.to_owned(),
        };
        if !disk.make_read_only(&place).await {
            return None;
        }
        wait().await;
        disk.make_writable(&place).await;
        Some(format!("{} read-only", place.display()))
    }

    async fn fail_git(&mut self, wait: impl AsyncFnOnce()) -> String {
        let gateway = usize::try_from(self.random.below(self.means.gits.len() as u64)).unwrap_or_default();
        let moment = self.random.pick(&[GitMoment::Before, GitMoment::After]);
        let one_in = self.random.pick(&[1, 1, 2, 3, 5]);
        let git = Arc::clone(&self.means.gits[gateway]);
        git.fail(one_in, moment);
        wait().await;
        let failed = git.stop_failing();
        format!("{failed} git commands of gateway {gateway}, one in {one_in}, fail {moment:?}")
    }

    fn a_repository(&mut self) -> Option<PathBuf> {
        let owners = entries(&self.means.data.join("repositories"));
        let mut repositories: Vec<_> = owners.iter().flat_map(|owner| entries(owner)).collect();
        repositories.retain(|repository| repository.is_dir());
        // The order of a directory does not follow from a seed.
        repositories.sort();
        match repositories.as_slice() {
            [] => None,
            some => Some(some[usize::try_from(self.random.below(some.len() as u64)).unwrap_or_default()].clone()),
        }
    }
}

/// What is put in the place of something.
struct Screen {
    place: PathBuf,
    behind: PathBuf,
}

impl Screen {
    /// Makes what stands in the place of a directory or a file, at `behind`; `None`: there is nothing at `place`.
    fn before(place: &Path, behind: &Path, as_link: bool) -> Option<Self> {
        let is_directory = place.symlink_metadata().ok()?.is_dir();
        std::fs::remove_file(behind)
            .or_else(|_| std::fs::remove_dir_all(behind))
            .ok();
        match (as_link, is_directory) {
            // Whoever follows it comes back to it: ELOOP.
            (true, _) => symlink(place, behind).ok()?,
            // ENOTDIR
            (false, true) => std::fs::write(behind, "").ok()?,
            // EISDIR
            (false, false) => std::fs::create_dir(behind).ok()?,
        }
        Some(Self {
            place: place.to_owned(),
            behind: behind.to_owned(),
        })
    }

    fn exchange(&self) -> rustix::io::Result<()> {
        rustix::fs::renameat_with(CWD, &self.place, CWD, &self.behind, RenameFlags::EXCHANGE)
    }
}

impl fmt::Debug for DiskFaults {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("DiskFaults")
            .field("tally", &self.tally)
            .finish_non_exhaustive()
    }
}

async fn wait(stop: &mut watch::Receiver<bool>, time: Duration) {
    // How long it lasts cannot be told by anything that happens.
    tokio::time::timeout(time, stop.wait_for(|stop| *stop)).await.ok();
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Between two faults, at most.
const PAUSE_MAX_MS: u64 = 1000;
/// A fault lasts so long, and a random part of the rest.
const LASTS_MIN_MS: u64 = 200;
const LASTS_MORE_MS: u64 = 2500;
/// What a soak does not use up while inodes are rare, and the other way round.
const BLOCKS_ENOUGH: u64 = 1 << 16;
const FILES_ENOUGH: u64 = 1 << 18;
