//! Where Redis is and how long it is waited for.

use std::fmt;
use std::time::Duration;

/// Where Redis is and how long it is waited for.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisSettings {
    /// `redis://user:password@host:port/database`
    pub url: String,
    /// Several answers in a row that take longer, and Redis is not asked any more until it is faster.
    pub slow: Duration,
    /// How long one step may take, from the call to the answer, connecting included.
    pub step_max: Duration,
}

impl RedisSettings {
    /// The settings that are used if nothing is said.
    pub fn at(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            slow: SLOW,
            step_max: STEP_MAX,
        }
    }
}

impl fmt::Debug for RedisSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may hold a password.
        f.debug_struct("RedisSettings")
            .field("slow", &self.slow)
            .field("step_max", &self.step_max)
            .finish_non_exhaustive()
    }
}

/// Slower than this is slow: several times what a disk that is well takes for a flush.
const SLOW: Duration = Duration::from_millis(50);

/// Longer than any step takes on a Redis that is well, however late its disk is.
const STEP_MAX: Duration = Duration::from_secs(1);
