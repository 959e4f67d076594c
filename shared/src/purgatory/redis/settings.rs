//! Where Redis is and how long it is waited for.

use std::fmt;
use std::time::Duration;

/// Where Redis is and how long it is waited for.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisSettings {
    /// Where it is.
    pub place: RedisPlace,
    /// Several answers in a row that take longer, and Redis is not asked any more until it is faster.
    pub slow: Duration,
    /// How long one step may take, from the call to the answer, connecting included.
    pub step_max: Duration,
    /// How many replicas must have an event before it counts as held; 0: Redis' word is enough.
    pub replicas: u64,
    /// How long they are waited for.
    pub replicas_wait: Duration,
}

/// Where Redis is. URLs are `redis://user:password@host:port/database`.
#[derive(Clone, PartialEq, Eq)]
pub enum RedisPlace {
    /// One server.
    Single(String),
    /// The master that these sentinels name.
    Sentinel {
        /// The sentinels; user, password and database are those of the master.
        urls: Vec<String>,
        /// What they call it.
        master_name: String,
    },
    /// The master of the purgatory's slot in the cluster that these nodes belong to.
    Cluster(Vec<String>),
}

impl RedisSettings {
    /// The settings that are used if nothing is said.
    pub fn at(url: &str) -> Self {
        Self {
            place: RedisPlace::Single(url.to_owned()),
            slow: SLOW,
            step_max: STEP_MAX,
            replicas: 0,
            replicas_wait: REPLICAS_WAIT,
        }
    }
}

impl fmt::Debug for RedisSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // URLs may hold a password.
        f.debug_struct("RedisSettings")
            .field("slow", &self.slow)
            .field("step_max", &self.step_max)
            .field("replicas", &self.replicas)
            .field("replicas_wait", &self.replicas_wait)
            .finish_non_exhaustive()
    }
}

/// Slower than this is slow: several times what a disk that is well takes for a flush.
const SLOW: Duration = Duration::from_millis(50);

/// Longer than any step takes on a Redis that is well, however late its disk is.
const STEP_MAX: Duration = Duration::from_secs(1);

/// Far longer than a replica in the same place takes to have a write.
const REPLICAS_WAIT: Duration = Duration::from_millis(200);
