//! How the commands beside the server reach its purgatory.

use std::ops::RangeInclusive;
use std::time::Duration;

use clap::Args;
use shared::options::config_errors::ConfigErrors;
use shared::options::redis::RedisOptions;
use shared::options::redis::RedisUrls;
use shared::purgatory::RedisSettings;

/// Where the purgatory is, and how to answer.
#[derive(Args)]
pub(crate) struct ReachOptions {
    /// The Redis of the gateway and the plugin. Without Redis the purgatory is in the gateway's memory, which no other
    /// process can read.
    #[arg(long, value_name = "redis://HOST:PORT", hide_env_values = true)]
    redis_url: Option<RedisUrls>,
    /// Answer in JSON, for scripts.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    redis: RedisOptions,
}

impl ReachOptions {
    /// Adds the errors in these options.
    pub(super) fn check(&self, errors: &mut ConfigErrors) {
        match &self.redis_url {
            Some(urls) => self.redis.check(urls, errors),
            None if errors.has_invalid("redis-url") => {}
            None => errors.push(REDIS_MISSING),
        }
    }

    /// Returns where Redis is; `None`: not given, which is checked before.
    pub(crate) fn redis(&self) -> Option<RedisSettings> {
        let urls = self.redis_url.as_ref()?;
        Some(self.redis.settings(urls, REDIS_CALL))
    }
}

/// How long a call to Redis may take: a reconcile may write a lot at once.
pub(super) const REDIS_CALL: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(10);

const REDIS_MISSING: &str = "--redis-url (or GRASP_REDIS_URL) must be given: the gateway's Redis. Without Redis the \
                             purgatory is in the gateway's memory, and only --admin-bind shows it; redis-url in \
                             /etc/grasp/config.toml serves all programs";
