//! How much each measurement does.

use std::time::Duration;

/// How much each measurement does.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// For one kind of request, half of it for what stands beside it.
    pub(super) rate_time: Duration,
    pub(super) tags: usize,
    pub(super) refs: usize,
    /// Of what is measured one by one.
    pub(super) rounds: usize,
    pub(super) pushes: usize,
    pub(super) pushed_refs: usize,
    pub(super) commits: usize,
    pub(super) clones: usize,
    pub(super) transfer_bytes: usize,
    pub(super) large_bytes: usize,
    pub(super) updates: usize,
    pub(super) grown_refs: &'static [usize],
    pub(super) grown_repositories: &'static [usize],
    pub(super) grown_held: &'static [usize],
    /// Pushes at each of the last two.
    pub(super) grown_pushes: usize,
    /// For how long each start is watched.
    pub(super) watch: Duration,
}

impl Sizes {
    /// Those that the bounds are for.
    pub const FULL: Self = Self {
        rate_time: Duration::from_secs(6),
        tags: 2_000,
        refs: 100_000,
        rounds: 20,
        pushes: 50,
        pushed_refs: 2_001,
        commits: 20_000,
        clones: 5,
        transfer_bytes: 1_000_000_000,
        large_bytes: 5_000_000_000,
        updates: 10_000,
        grown_refs: &[1, 10, 100, 1_000, 10_000, 100_000],
        grown_repositories: &[1_000, 10_000, 100_000],
        grown_held: &[10_000, 100_000, 1_000_000],
        grown_pushes: 30,
        watch: Duration::from_secs(30),
    };

    /// Just enough for everything to happen once.
    pub const SHORT: Self = Self {
        rate_time: Duration::from_millis(60),
        tags: 20,
        refs: 500,
        rounds: 1,
        pushes: 1,
        pushed_refs: 11,
        commits: 20,
        clones: 1,
        transfer_bytes: 1_000_000,
        large_bytes: 1_000_000,
        updates: 100,
        grown_refs: &[1, 10],
        grown_repositories: &[2],
        grown_held: &[10],
        grown_pushes: 1,
        watch: Duration::ZERO,
    };
}
