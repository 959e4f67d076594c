//! What the pack of a push may cost, and why one is refused.

use std::time::Duration;

use shared::git::Oid;

use crate::git::error::GitError;
use crate::process::ChildLimits;
use crate::repositories::layout::FileError;
use crate::repositories::layout::is_disk_full;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IngestLimits {
    pub(crate) pack_bytes_max: u64,
    pub(crate) objects_max: u32,
    /// Most memory of the git that checks it: what a delta bomb runs into.
    pub(crate) memory_bytes_max: u64,
    /// Most CPU time of that git, for the largest pack.
    pub(crate) cpu_secs_max: u64,
    /// Most CPU time to tell what the commit of a PR needs from what came with it.
    pub(crate) pull_request_cpu_secs_max: u64,
    /// Longest time for the pack to come in, and again for its check.
    pub(crate) duration_max: Duration,
    /// Longest wait for the next bytes of the pusher.
    pub(crate) stall_max: Duration,
    /// Of `nice(1)`, for each git process that checks it: higher for each further pack of the same address.
    pub(crate) niceness: i32,
}

impl IngestLimits {
    pub(crate) const DEFAULT: Self = Self {
        pack_bytes_max: 512 << 20,
        objects_max: 5_000_000,
        memory_bytes_max: 2 << 30,
        cpu_secs_max: 600,
        pull_request_cpu_secs_max: 30,
        duration_max: Duration::from_secs(6 * 3600),
        stall_max: Duration::from_secs(60),
        niceness: 0,
    };

    /// Returns the limits for a pack of so many bytes: what sends little may not keep a processor for long.
    pub(crate) fn of_pack(self, bytes: u64) -> Self {
        let cpu_secs_max = CPU_SECS_FREE.saturating_add(bytes / BYTES_FOR_A_CPU_SEC);
        Self {
            cpu_secs_max: self.cpu_secs_max.min(cpu_secs_max),
            ..self
        }
    }

    /// Returns what is left of the limits for the commit of a PR after so much time.
    pub(super) fn of_pull_request(self, spent: Duration) -> Self {
        let cpu_secs_max = self.pull_request_cpu_secs_max.saturating_sub(spent.as_secs()).max(1);
        let duration_max = Duration::from_secs(self.pull_request_cpu_secs_max * PULL_REQUEST_SLOWNESS_MAX);
        Self {
            cpu_secs_max: cpu_secs_max.min(self.cpu_secs_max),
            duration_max: duration_max.saturating_sub(spent).min(self.duration_max),
            ..self
        }
    }

    pub(super) fn child_limits(&self) -> ChildLimits {
        ChildLimits {
            memory_bytes: self.memory_bytes_max,
            cpu_secs: self.cpu_secs_max,
            file_bytes: self.pack_bytes_max,
        }
    }
}

/// CPU time for a pack of any size: bases in the repository may be large.
const CPU_SECS_FREE: u64 = 30;
/// And what it brings for each second more: git checks what people write more than ten times as fast.
const BYTES_FOR_A_CPU_SEC: u64 = 100 << 10;

/// How many times as long as its CPU time the sorting of a PR may take, on a machine with much else to do.
const PULL_REQUEST_SLOWNESS_MAX: u64 = 10;

impl Default for IngestLimits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Why a pack was not taken. The text is for the pusher.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IngestError {
    #[error("the push has no pack")]
    NoPack,
    /// The data is not a pack of a version that git knows.
    #[error("the data after the commands is not a pack")]
    NotAPack,
    #[error("the pack has {count} objects, more than {max}: push in parts")]
    TooManyObjects { count: u32, max: u32 },
    #[error("the pack has more than {max_bytes} bytes: push in parts")]
    TooLarge { max_bytes: u64 },
    #[error("the pack is broken: {message}")]
    Broken { message: String },
    /// An object refers to another that is neither in the pack nor on the server.
    #[error("the pack is incomplete: {message}")]
    MissingObject { message: String },
    #[error("an object was refused by git fsck: {message}")]
    Fsck { message: String },
    /// A `.gitmodules` that makes some git harm who clones, or a tip of which that cannot be told.
    #[error(
        "{oid}, a .gitmodules or a commit with one, has a carriage return in a path or a URL, or takes too much to be \
         checked for that: write it without, or pack it with fewer deltas (git repack -adf), and push again"
    )]
    Gitmodules { oid: Oid },
    /// Checking the pack takes more memory or time than the limit.
    #[error("checking the pack exceeds the limits of memory or time of this server: push in parts")]
    TooExpensive,
    #[error(
        "finding the objects that the PR's commit needs takes more than {cpu_secs} s of CPU time: push the commit alone, \
         on top of what this repository has"
    )]
    PullRequestTooDear { cpu_secs: u64 },
    #[error("the PR commits of this push share much, and each is stored by itself: push them one by one")]
    CommitsApart,
    /// Somebody else than this server killed the git that checks: the system when memory is short, for one.
    #[error("the check of the pack was killed: push again, in parts if it is large")]
    Killed,
    #[error("checking the pack took more than {} s", max.as_secs())]
    Deadline { max: Duration },
    #[error("the server's disk is full")]
    DiskFull,
    /// A file or directory could not be made or written.
    #[error("the push cannot be stored on this server")]
    Disk(#[source] FileError),
    #[error("the server cannot check packs right now")]
    Git(#[from] GitError),
}

impl From<FileError> for IngestError {
    /// A full disk is called so wherever it shows.
    fn from(error: FileError) -> Self {
        match is_disk_full(&error.source) {
            true => Self::DiskFull,
            false => Self::Disk(error),
        }
    }
}

impl IngestError {
    /// Whether the server is the reason, and not the pack.
    pub(crate) fn is_ours(&self) -> bool {
        match self {
            Self::DiskFull | Self::Disk(_) | Self::Git(_) => true,
            Self::NoPack
            | Self::NotAPack
            | Self::TooManyObjects { .. }
            | Self::TooLarge { .. }
            | Self::Broken { .. }
            | Self::MissingObject { .. }
            | Self::Fsck { .. }
            | Self::Gitmodules { .. }
            | Self::TooExpensive
            | Self::PullRequestTooDear { .. }
            | Self::CommitsApart
            | Self::Killed
            | Self::Deadline { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_pack_has_little_cpu_time() {
        let secs = |bytes| IngestLimits::DEFAULT.of_pack(bytes).cpu_secs_max;

        assert_eq!([0, 1 << 20, 10 << 20].map(secs), [30, 40, 132]);
        assert_eq!(secs(u64::MAX), IngestLimits::DEFAULT.cpu_secs_max);
    }
}
