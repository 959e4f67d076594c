//! What fetches may cost.

use std::time::Duration;

/// What one fetch may cost, and all together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UploadPackLimits {
    /// Most gits at once.
    pub(crate) children_max: usize,
    /// Longest wait for one of them to end.
    pub(crate) queue_wait_max: Duration,
    /// Longest wait for the client to send or to take the next bytes.
    pub(crate) stall_max: Duration,
    /// Longest time of one answer.
    pub(crate) duration_max: Duration,
    /// Most bytes of a request.
    pub(crate) request_bytes_max: u64,
    /// Most memory of one git.
    pub(crate) memory_bytes_max: u64,
    /// Most CPU time of one git.
    pub(crate) cpu_secs_max: u64,
}

impl UploadPackLimits {
    /// Room for clones of large projects, a few at a time.
    pub(crate) const DEFAULT: Self = Self {
        children_max: 4,
        queue_wait_max: Duration::from_secs(30),
        stall_max: Duration::from_secs(60),
        duration_max: Duration::from_secs(6 * 3600),
        request_bytes_max: 16 << 20,
        memory_bytes_max: 4 << 30,
        cpu_secs_max: 3600,
    };
}

impl Default for UploadPackLimits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
