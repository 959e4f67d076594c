//! Where Redis is, and how long calls wait for it.

use std::fmt;
use std::time::Duration;

/// Where Redis is, and how long calls wait for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisSettings {
    /// Where it is.
    pub place: RedisPlace,
    /// Whether a password is in a URL on a command line, where others can read it.
    pub shows_password: bool,
    /// What `rediss://` is spoken with.
    pub tls: RedisTls,
    /// Answers that take longer are slow; after several slow ones in a row Redis is not used until it is faster.
    pub slow: Duration,
    /// How long one call may take, connecting included.
    pub call_timeout: Duration,
    /// How many replicas must have an event before it counts as held; 0: the master alone is enough.
    pub replicas: u64,
    /// How long a call waits for them.
    pub replicas_wait: Duration,
}

/// Whom to trust and who to be at a Redis behind TLS.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct RedisTls {
    /// CA certificates (PEM) for the certificate of Redis; `None`: those that the system trusts.
    pub authorities: Option<Vec<u8>>,
    /// Our own certificate and its key (PEM), if Redis asks for one.
    pub own: Option<(Vec<u8>, Vec<u8>)>,
}

/// Where Redis is. URLs are `redis://user:password@host:port/database`, `rediss://` by TLS, or
/// `unix:///path?user=…&pass=…&db=…`.
#[derive(Clone, PartialEq, Eq)]
pub enum RedisPlace {
    /// One server.
    Single(String),
    /// The master that these sentinels name.
    Sentinel {
        /// The sentinels; user, password and database are those of the master.
        urls: Vec<String>,
        /// The name of the master at the sentinels.
        master_name: String,
    },
    /// The master of the purgatory's slot in the cluster that these nodes belong to.
    Cluster(Vec<String>),
}

impl RedisSettings {
    /// The default of `slow`: several times what a healthy disk takes for a flush.
    pub const SLOW: Duration = Duration::from_millis(50);

    /// The default of `replicas_wait`: far longer than a replica on the same network takes to have a write.
    pub const REPLICAS_WAIT: Duration = Duration::from_millis(200);

    /// Returns the default settings for one server.
    pub fn at(url: &str) -> Self {
        Self {
            place: RedisPlace::Single(url.to_owned()),
            shows_password: false,
            tls: RedisTls::default(),
            slow: Self::SLOW,
            call_timeout: CALL_TIMEOUT,
            replicas: 0,
            replicas_wait: Self::REPLICAS_WAIT,
        }
    }
}

impl fmt::Debug for RedisPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // URLs may hold a password.
        f.write_str("RedisPlace")
    }
}

impl fmt::Debug for RedisTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One of them is a secret.
        f.write_str("RedisTls")
    }
}

/// Longer than any call takes on a healthy Redis, however late its disk is.
const CALL_TIMEOUT: Duration = Duration::from_secs(1);
