//! The plugin's options; the same variables as the gateway's, so that one environment file serves both.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use shared::options::access_files::AccessFiles;
use shared::options::access_files::AccessPaths;
use shared::options::checker::Checker;
use shared::options::checker::Complaints;
use shared::options::limits::LimitOptions;
use shared::options::redis::RedisOptions;
use shared::purgatory::Limits;
use shared::purgatory::RedisSettings;
use shared::rules::MaintainerMode;
use shared::rules::OtherKinds;
use shared::rules::Service;

/// strfry write policy of a GRASP server: holds git events until their data is there.
///
/// strfry.conf: relay.writePolicy.plugin = "exec /usr/bin/grasp-plugin --domain git.example.com"
#[derive(Debug, Parser)]
#[command(name = "grasp-plugin", version, max_term_width = 100)]
pub(crate) struct Cli {
    /// What `clone` and `relays` tags must name, the same as the gateway's.
    #[arg(long, env = "GRASP_DOMAIN", value_name = "HOST[:PORT]")]
    domain: String,
    /// This very relay, on loopback: where served events are looked up.
    #[arg(
        long,
        env = "GRASP_RELAY_URL",
        value_name = "ws://HOST:PORT",
        default_value = "ws://127.0.0.1:7777"
    )]
    relay_url: String,
    /// The Redis that the purgatory is kept in, the same as the gateway's.
    #[arg(
        long,
        env = "GRASP_REDIS_URL",
        value_name = "redis://HOST:PORT",
        default_value = "redis://127.0.0.1:6379",
        hide_env_values = true
    )]
    redis_url: String,
    #[command(flatten)]
    redis: RedisOptions,
    /// For how long an event waits for its git data, in seconds.
    #[arg(long, env = "GRASP_HOLD_SECS", value_name = "N", default_value = "1800")]
    hold_secs: String,
    /// By which rule listed maintainers count, the same as the gateway's: hybrid, reciprocal or recursive.
    #[arg(long, env = "GRASP_MAINTAINER_MODE", value_name = "MODE", default_value = "hybrid")]
    maintainer_mode: String,
    /// What to do with events that are none of git's business: accept them, on a general relay, or refuse all that
    /// belong to no repository served here.
    #[arg(
        long,
        env = "GRASP_OTHER_KINDS",
        value_name = "accept|refuse",
        default_value = "accept"
    )]
    other_kinds: String,
    /// File with the only repositories to host: one npub, npub/identifier or identifier a line. Read again when it
    /// changes [default: everybody's].
    #[arg(long, env = "GRASP_REPOS_ALLOW", value_name = "FILE")]
    repos_allow: Option<PathBuf>,
    /// File with repositories not to host, whatever else is said; as --repos-allow.
    #[arg(long, env = "GRASP_REPOS_DENY", value_name = "FILE")]
    repos_deny: Option<PathBuf>,
    /// File with authors (npub) whose events count for nothing.
    #[arg(long, env = "GRASP_AUTHORS_DENY", value_name = "FILE")]
    authors_deny: Option<PathBuf>,
    #[command(flatten)]
    limits: LimitOptions,
}

/// The options, valid.
pub(crate) struct Config {
    pub(crate) service: Service,
    pub(crate) relay_url: String,
    pub(crate) redis: RedisSettings,
    pub(crate) hold_secs: u64,
    pub(crate) maintainer_mode: MaintainerMode,
    pub(crate) other_kinds: OtherKinds,
    pub(crate) access: AccessFiles,
    pub(crate) limits: Limits,
}

impl Cli {
    /// Checks everything that was typed.
    ///
    /// # Errors
    /// All complaints at once.
    pub(crate) fn check(&self) -> Result<Config, Complaints> {
        let mut checker = Checker::default();
        let service = checker.parse(
            "--domain",
            &self.domain,
            "a domain such as git.example.com, without scheme and path",
        );
        let relay_url = checker.url("--relay-url", &self.relay_url, &["ws"], "ws://127.0.0.1:7777");
        let redis = self.redis.check(&mut checker, &self.redis_url, REDIS_STEP..=REDIS_STEP);
        let hold_secs = checker.secs("--hold-secs", &self.hold_secs, 1);
        let mode = &self.maintainer_mode;
        let maintainer_mode = checker.parse("--maintainer-mode", mode, "hybrid, reciprocal or recursive");
        let other_kinds = checker.parse("--other-kinds", &self.other_kinds, "accept or refuse");
        let access = AccessFiles::open(AccessPaths {
            allowed: self.repos_allow.clone(),
            denied: self.repos_deny.clone(),
            denied_authors: self.authors_deny.clone(),
        });
        let access = access.map_err(|error| checker.complain(error.to_text())).ok();
        let limits = self.limits.check(&mut checker);
        checker.finish()?;
        // Whatever is `None` here was complained about.
        let config = || {
            Some(Config {
                service: service?,
                relay_url: relay_url?,
                redis: redis?,
                hold_secs: hold_secs?,
                maintainer_mode: maintainer_mode?,
                other_kinds: other_kinds?,
                access: access?,
                limits: limits?,
            })
        };
        config().ok_or(Complaints(Vec::new()))
    }
}

/// How long a step in Redis may take: strfry's only writer waits for it. Less than the whole answer may take, so that
/// a Redis that hangs is noticed. Giving up is safe: a hold that was done all the same is found held when the client
/// sends the event again.
const REDIS_STEP: Duration = Duration::from_millis(900);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bad_value_is_complained_about_at_once() {
        let cli = Cli::try_parse_from([
            "grasp-plugin",
            "--domain=wss://x/",
            "--relay-url=x",
            "--redis-url=redis:",
            "--redis-slow-ms=0",
            "--hold-secs=-1",
            "--maintainer-mode=x",
            "--other-kinds=x",
            "--repos-deny=/nowhere",
            "--held-max=0",
        ]);

        let complaints = cli.unwrap().check().err().unwrap();

        let text = complaints.to_string();
        for option in [
            "--domain",
            "--relay-url",
            "--redis-url",
            "--redis-slow-ms",
            "--hold-secs",
            "--maintainer-mode",
            "--other-kinds",
            "/nowhere",
            "--held-max",
        ] {
            assert!(text.contains(option), "{option} in {text}");
        }
        assert_eq!(complaints.0.len(), 9, "{text}");
    }
}
