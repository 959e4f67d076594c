//! What fetches may cost.

use std::time::Duration;

use crate::fairness::least_rate::LeastRate;
use crate::fairness::shares::ShareLimits;
use crate::repositories::disk_use::DiskLimits;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UploadPackLimits {
    /// Most git processes at once.
    pub(crate) children_max: usize,
    /// Longest wait for one of them to end.
    pub(crate) queue_wait_max: Duration,
    /// Longest wait for the client to send or to take the next bytes.
    pub(crate) stall_max: Duration,
    pub(crate) least_rate: LeastRate,
    /// Most fetches at once, also those whose git has ended.
    pub(crate) transfers_max: usize,
    /// Most bytes of requests and answers that wait on disk, in all.
    pub(crate) spool_bytes_max: u64,
    /// The same of one answer: git waits for the reader with the rest.
    pub(crate) answer_bytes_max: u64,
    /// Longest wait for an answer that git writes for somebody else just now.
    pub(crate) another_wait_max: Duration,
    /// Most bytes of answers that are kept for others; below 4 none is.
    pub(crate) kept_bytes_max: u64,
    pub(crate) disk_free_min: u64,
    /// Longest time of one answer.
    pub(crate) duration_max: Duration,
    pub(crate) request_bytes_max: u64,
    /// Most memory of one git.
    pub(crate) memory_bytes_max: u64,
    /// Most CPU time of one git.
    pub(crate) cpu_secs_max: u64,
}

impl UploadPackLimits {
    /// Returns the limits for a repository whose packs have so many bytes: what is small may not keep a processor for
    /// long, however it was made.
    pub(super) fn of_packs(self, bytes: u64) -> Self {
        let cpu_secs_max = CPU_SECS_FREE.saturating_add(bytes / BYTES_FOR_A_CPU_SEC);
        Self {
            cpu_secs_max: self.cpu_secs_max.min(cpu_secs_max),
            ..self
        }
    }

    /// Returns how much may be on its way in and out at the same time.
    pub(super) fn of_transfers(&self) -> ShareLimits {
        ShareLimits {
            claims_max: self.transfers_max,
            bytes_max: self.spool_bytes_max,
        }
    }

    /// Returns how many may wait for slow readers. A git that does costs the memory of its list of objects and no CPU.
    pub(super) fn of_paused(&self) -> ShareLimits {
        ShareLimits {
            claims_max: PAUSED_PER_SLOT * self.children_max,
            bytes_max: 0,
        }
    }

    /// Room for clones of large projects, a few at a time.
    pub(crate) const DEFAULT: Self = Self {
        children_max: 4,
        queue_wait_max: Duration::from_secs(30),
        stall_max: Duration::from_secs(60),
        least_rate: LeastRate::DEFAULT,
        transfers_max: 256,
        spool_bytes_max: 4 << 30,
        answer_bytes_max: 1 << 30,
        // Most clones take git no longer. Of one that does, a client has lost no more than this.
        another_wait_max: Duration::from_secs(5),
        kept_bytes_max: 4 << 30,
        disk_free_min: DiskLimits::DEFAULT.free_min,
        duration_max: Duration::from_secs(6 * 3600),
        // 100,000 objects wanted are 5 MB, what a client has is at most 1 MB more.
        request_bytes_max: 8 << 20,
        memory_bytes_max: 4 << 30,
        cpu_secs_max: 3600,
    };
}

const PAUSED_PER_SLOT: usize = 2;
/// A clone of an ordinary repository takes git a hundredth of this, and on a slow machine a tenth.
const CPU_SECS_FREE: u64 = 60;
const BYTES_FOR_A_CPU_SEC: u64 = 100 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_repository_has_little_cpu_time() {
        let cpu_secs = |bytes| UploadPackLimits::DEFAULT.of_packs(bytes).cpu_secs_max;

        assert_eq!([0, 1 << 20, 100 << 20, u64::MAX].map(cpu_secs), [60, 70, 1084, 3600]);
    }
}
