//! In which of the two worlds a test runs, and what it changes of the programs' defaults.

use crate::harness::redis::RedisSetup;
use crate::harness::strfry_import::Import;

/// Which world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One gateway process with its built-in relay and the purgatory in memory.
    Embedded,
    /// Redis, a relay with the plugin, and the gateway.
    Strfry,
}

/// What tests change of the defaults.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// `--hold-secs`
    pub hold_secs: u64,
    /// `--sleep-secs`
    pub sleep_secs: u64,
    /// `--release-wait-secs`
    pub release_wait_secs: u64,
    /// `--other-kinds` of whoever decides: the plugin, or the built-in relay.
    pub other_kinds: &'static str,
    /// Whether both programs have lists of repositories that are not hosted and of authors that are ignored, empty at
    /// first.
    pub with_deny_list: bool,
    /// `--deleted-retention-days`
    pub deleted_retention_days: u64,
    /// `--trusted-proxies`; empty: not given
    pub trusted_proxies: &'static str,
    /// Limits of what is held, as options of both programs.
    pub held: &'static [&'static str],
    /// More options of the gateway alone.
    pub gateway: &'static [&'static str],
    /// More options of the plugin alone, as a shell reads them.
    pub plugin: &'static str,
    /// `--strfry-bin` and `--strfry-conf`
    pub import: Import,
    /// `--redis-slow-ms` of both programs
    pub redis_slow_ms: u64,
    /// Which Redis there is.
    pub redis: RedisSetup,
    /// Whether both programs reach Redis through a proxy.
    pub is_redis_behind_proxy: bool,
    /// Whether the gateway, and so every client, reaches the relay through a proxy.
    pub is_relay_behind_proxy: bool,
}

impl Options {
    /// What the programs do if nothing is said, but for other kinds, which pass, and for a Redis that is slow because
    /// many tests run at once, which is no failure.
    pub const DEFAULT: Self = Self {
        hold_secs: 1800,
        sleep_secs: 86400,
        release_wait_secs: 60,
        other_kinds: "accept",
        with_deny_list: false,
        deleted_retention_days: 90,
        trusted_proxies: "",
        held: &[],
        gateway: &[],
        plugin: "",
        import: Import::NotGiven,
        redis_slow_ms: 2_000,
        redis: RedisSetup::AsAsked,
        is_redis_behind_proxy: false,
        is_relay_behind_proxy: false,
    };
}

impl Default for Options {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The name of the list of repositories that are not hosted, in a world's folder.
pub(super) const DENY_LIST: &str = "repos-deny";

/// The name of the list of authors whose events are ignored.
pub(super) const DENIED_AUTHORS: &str = "authors-deny";
