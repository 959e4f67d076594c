//! The slots of loads: each load has one for what it may take, so that all together have a bound. Most take little;
//! those that take more, because many keys list each other or declare thousands of refs, wait for others of their kind,
//! and no smaller ones do.

use crate::fairness::slots::Slots;

/// What a load may take: which kind of slot it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum LoadSize {
    /// Enough for most: the events of one maintainer with a thousand refs, or of some with few.
    #[default]
    Tiny,
    /// The events of some maintainers with thousands of refs.
    Small,
    /// The events of two hundred maintainers with some hundred refs each.
    Large,
}

impl LoadSize {
    /// Returns the next one; `None`: what takes more is not loaded.
    pub(super) fn larger(self) -> Option<Self> {
        match self {
            Self::Tiny => Some(Self::Small),
            Self::Small => Some(Self::Large),
            Self::Large => None,
        }
    }

    /// Returns how much memory the events of such a load may take.
    pub(super) fn bytes_max(self) -> usize {
        match self {
            Self::Tiny => 256 << 10,
            Self::Small => 2 << 20,
            Self::Large => 24 << 20,
        }
    }
}

#[derive(Debug)]
pub(super) struct LoadSlots {
    tiny: Slots,
    small: Slots,
    /// Of large loads about what is not on disk, and about what is: who has pushed something into a repository does
    /// not wait for those that were merely announced.
    large: Slots,
    large_on_disk: Slots,
}

impl LoadSlots {
    pub(super) fn new() -> Self {
        Self {
            tiny: Slots::new(TINY_MAX),
            small: Slots::new(SMALL_MAX),
            large: Slots::new(LARGE_MAX),
            large_on_disk: Slots::new(LARGE_ON_DISK_MAX),
        }
    }

    /// Returns the slots for loads of this size, about what is on disk or is not.
    pub(super) fn of(&self, size: LoadSize, is_on_disk: bool) -> &Slots {
        match size {
            LoadSize::Tiny => &self.tiny,
            LoadSize::Small => &self.small,
            LoadSize::Large if is_on_disk => &self.large_on_disk,
            LoadSize::Large => &self.large,
        }
    }
}

/// 8 MiB: more loads than the relay is asked for at once.
const TINY_MAX: usize = 32;

/// 16 MiB.
const SMALL_MAX: usize = 8;

/// One of 24 MiB; and two, 48 MiB, for repositories on disk.
const LARGE_MAX: usize = 1;
const LARGE_ON_DISK_MAX: usize = 2;
