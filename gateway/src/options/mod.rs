//! The command line: what the operator typed (`Serve`), and what the program needs (`Config`), with every complaint
//! about the one made before the other exists.

pub(crate) mod limits;

use std::fs;
use std::fs::Metadata;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::Parser;
use clap::Subcommand;
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

use crate::declare::Declare;
use crate::http::client_address::TrustedProxies;
use crate::options::limits::ServerLimitOptions;
use crate::options::limits::ServerLimits;
use crate::strfry_import::StrfryPaths;

/// GRASP git server: hosts git repositories whose branches and tags are declared by signed nostr events.
#[derive(Debug, Parser)]
#[command(name = "grasp-gateway", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

impl Cli {
    /// Returns what to do: to serve, unless something else is said.
    pub(crate) fn command(self) -> Command {
        self.command
            .unwrap_or_else(|| match Self::parse_from(["grasp-gateway", "serve"]).command {
                Some(serve) => serve,
                None => unreachable!("it says serve"),
            })
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serves git, and the relay beside it, until stopped. What is done if no command is given.
    ///
    /// Without --relay-url a built-in relay is started, and without --redis-url the purgatory is kept in memory:
    /// nothing else needs to be installed then.
    Serve(Box<Serve>),
    /// Signs a repository's announcement and state, sends them to a relay and prints the clone URL.
    ///
    /// For trying a server out with nothing but git.
    Declare(Declare),
}

/// The options of `serve`, as typed.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Where to listen, as ADDR:PORT. Does not count if systemd hands a socket over (LISTEN_FDS).
    #[arg(long, env = "GRASP_BIND", value_name = "ADDR:PORT", default_value = "127.0.0.1:7334")]
    pub(crate) bind: String,
    /// What `clone` and `relays` tags must name. A domain without a port is reached on the default ports of its
    /// schemes [default: the bind address].
    #[arg(long, env = "GRASP_DOMAIN", value_name = "HOST[:PORT]")]
    pub(crate) domain: Option<String>,
    /// Where repositories are kept, and the built-in relay's database.
    #[arg(long, env = "GRASP_DATA_DIR", value_name = "DIR", default_value = "./grasp-data")]
    pub(crate) data_dir: String,
    /// The strfry relay, on loopback [default: a built-in relay].
    #[arg(long, env = "GRASP_RELAY_URL", value_name = "ws://HOST:PORT")]
    pub(crate) relay_url: Option<String>,
    /// The strfry binary, for events that the relay refuses from any client: protected ones (NIP-70), and those from
    /// longer ago or further ahead than it takes. Needs --strfry-conf and --relay-url [default: such events are stuck].
    #[arg(long, env = "GRASP_STRFRY_BIN", value_name = "PATH")]
    pub(crate) strfry_bin: Option<String>,
    /// The configuration of the strfry at --relay-url, with an absolute path in `db`. This server's user must be able
    /// to write that database.
    #[arg(long, env = "GRASP_STRFRY_CONF", value_name = "PATH")]
    pub(crate) strfry_conf: Option<String>,
    /// The Redis that the purgatory is kept in, the same as the plugin's [default: in memory, built-in relay only].
    #[arg(
        long,
        env = "GRASP_REDIS_URL",
        value_name = "redis://HOST:PORT",
        hide_env_values = true
    )]
    pub(crate) redis_url: Option<String>,
    #[command(flatten)]
    redis: RedisOptions,
    /// For how long an event waits for its git data, in seconds.
    #[arg(long, env = "GRASP_HOLD_SECS", value_name = "N", default_value = "1800")]
    pub(crate) hold_secs: String,
    /// For how long an expired announcement can still be woken by an authorised state, in seconds; 0: not at all.
    #[arg(long, env = "GRASP_SLEEP_SECS", value_name = "N", default_value = "86400")]
    pub(crate) sleep_secs: String,
    /// For how long a push waits until its events are served, in seconds. After that it succeeds all the same, and
    /// the events are served when the relay is back.
    #[arg(long, env = "GRASP_RELEASE_WAIT_SECS", value_name = "N", default_value = "60")]
    pub(crate) release_wait_secs: String,
    /// For how long requests and pushes that run may go on when the server is stopped (SIGTERM), in seconds; 0: not at
    /// all. A second signal ends them at once.
    #[arg(long, env = "GRASP_DRAIN_SECS", value_name = "N", default_value = "30")]
    pub(crate) drain_secs: String,
    /// For how long the data of a repository is kept whose announcement was deleted or names another server, in days;
    /// 0: until the next daily check.
    #[arg(long, env = "GRASP_DELETED_RETENTION_DAYS", value_name = "N", default_value = "90")]
    pub(crate) deleted_retention_days: String,
    /// By which rule listed maintainers count: hybrid, reciprocal or recursive.
    #[arg(long, env = "GRASP_MAINTAINER_MODE", value_name = "MODE", default_value = "hybrid")]
    pub(crate) maintainer_mode: String,
    /// What the built-in relay does with events that belong to no repository served here: accept or refuse. With
    /// --relay-url the plugin decides.
    #[arg(
        long,
        env = "GRASP_OTHER_KINDS",
        value_name = "accept|refuse",
        default_value = "refuse"
    )]
    pub(crate) other_kinds: String,
    /// File with the only repositories to host: one npub, npub/identifier or identifier a line. Read again when it
    /// changes [default: everybody's].
    #[arg(long, env = "GRASP_REPOS_ALLOW", value_name = "FILE")]
    pub(crate) repos_allow: Option<PathBuf>,
    /// File with repositories not to host, whatever else is said; as --repos-allow.
    #[arg(long, env = "GRASP_REPOS_DENY", value_name = "FILE")]
    pub(crate) repos_deny: Option<PathBuf>,
    /// File with authors (npub) whose events count for nothing.
    #[arg(long, env = "GRASP_AUTHORS_DENY", value_name = "FILE")]
    pub(crate) authors_deny: Option<PathBuf>,
    /// The reverse proxies in front of this server, as addresses or networks: who the client is is taken from their
    /// X-Forwarded-For, or X-Real-IP if they send only that [default: none, forwarding headers are ignored].
    #[arg(long, env = "GRASP_TRUSTED_PROXIES", value_name = "CIDR[,CIDR...]")]
    pub(crate) trusted_proxies: Option<String>,
    #[command(flatten)]
    server_limits: ServerLimitOptions,
    #[command(flatten)]
    limits: LimitOptions,
}

/// What the server needs to know, valid.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// Where to listen.
    pub(crate) bind: SocketAddr,
    /// The name of this server; `None`: the address it listens on.
    pub(crate) service: Option<Service>,
    /// Where everything is kept.
    pub(crate) data_dir: PathBuf,
    /// The relay; `None`: the built-in one.
    pub(crate) relay_url: Option<String>,
    /// The strfry that imports what the relay refuses; `None`: nobody.
    pub(crate) strfry: Option<StrfryPaths>,
    /// The purgatory's Redis; `None`: in memory.
    pub(crate) redis: Option<RedisSettings>,
    /// For how long an event is held, in seconds.
    pub(crate) hold_secs: u64,
    /// For how long an announcement sleeps, in seconds.
    pub(crate) sleep_secs: u64,
    /// For how long a push waits for its events to be served.
    pub(crate) release_wait: Duration,
    /// For how long what runs may go on when the server is stopped.
    pub(crate) drain: Duration,
    /// For how long the data of a repository is kept that is not hosted any more, in seconds.
    pub(crate) deleted_retention_secs: u64,
    /// By which rule listed maintainers count.
    pub(crate) maintainer_mode: MaintainerMode,
    /// What the built-in relay does with events that belong to nothing here.
    pub(crate) other_kinds: OtherKinds,
    /// Whose repositories are hosted.
    pub(crate) access: AccessFiles,
    /// Whose word about the client's address is believed.
    pub(crate) trusted_proxies: TrustedProxies,
    /// What the server may carry.
    pub(crate) server_limits: ServerLimits,
    /// What the purgatory may hold.
    pub(crate) limits: Limits,
}

impl Serve {
    /// Checks everything that was typed.
    ///
    /// # Errors
    /// All complaints at once.
    pub(crate) fn check(&self) -> Result<Config, Complaints> {
        let mut checker = Checker::default();
        let bind = checker.parse("--bind", &self.bind, "an address and port such as 127.0.0.1:7334");
        let service = self
            .domain
            .as_deref()
            .map(|domain| checker.parse("--domain", domain, DOMAIN_EXPECTED));
        let hold_secs = checker.secs("--hold-secs", &self.hold_secs, 1);
        let sleep_secs = checker.secs("--sleep-secs", &self.sleep_secs, 0);
        let release_wait_secs = checker.secs("--release-wait-secs", &self.release_wait_secs, 1);
        let drain_secs = checker.secs("--drain-secs", &self.drain_secs, 0);
        let days = checker.days("--deleted-retention-days", &self.deleted_retention_days);
        let mode = &self.maintainer_mode;
        let maintainer_mode = checker.parse("--maintainer-mode", mode, "hybrid, reciprocal or recursive");
        let trusted_proxies = match self.trusted_proxies.as_deref() {
            // A variable that is set to nothing is how an environment file leaves it unset.
            None | Some("") => Some(TrustedProxies::default()),
            Some(networks) => checker.parse("--trusted-proxies", networks, NETWORKS_EXPECTED),
        };
        let relay_url = self.relay_url.as_deref();
        let relay_url = relay_url.and_then(|url| checker.url("--relay-url", url, &["ws"], "ws://127.0.0.1:7777"));
        let redis_url = self.redis_url.as_deref();
        let redis = redis_url.and_then(|url| self.redis.check(&mut checker, url, REDIS_STEP));
        if self.relay_url.is_some() && self.redis_url.is_none() {
            checker.complain(REDIS_MISSING);
        }
        let strfry = self.check_strfry(&mut checker);
        let other_kinds = checker.parse("--other-kinds", &self.other_kinds, "accept or refuse");
        let access = AccessFiles::open(AccessPaths {
            allowed: self.repos_allow.clone(),
            denied: self.repos_deny.clone(),
            denied_authors: self.authors_deny.clone(),
        });
        let access = access.map_err(|error| checker.complain(error.to_text())).ok();
        if self.data_dir.is_empty() {
            checker.complain("--data-dir must name a directory");
        }
        let server_limits = self.server_limits.check(&mut checker);
        let limits = self.limits.check(&mut checker);
        checker.finish()?;
        // Whatever is `None` here was complained about.
        let config = || {
            Some(Config {
                bind: bind?,
                service: service.flatten(),
                data_dir: PathBuf::from(&self.data_dir),
                relay_url,
                strfry,
                redis,
                hold_secs: hold_secs?,
                sleep_secs: sleep_secs?,
                release_wait: Duration::from_secs(release_wait_secs?),
                drain: Duration::from_secs(drain_secs?),
                deleted_retention_secs: days? * 86_400,
                maintainer_mode: maintainer_mode?,
                other_kinds: other_kinds?,
                access: access?,
                trusted_proxies: trusted_proxies?,
                server_limits: server_limits?,
                limits: limits?,
            })
        };
        config().ok_or(Complaints(Vec::new()))
    }

    /// Checks what can be checked without running it.
    fn check_strfry(&self, checker: &mut Checker) -> Option<StrfryPaths> {
        // A variable that is set to nothing is how an environment file leaves it unset.
        let given = |path: &Option<String>| path.clone().filter(|path| !path.is_empty()).map(PathBuf::from);
        let (program, config) = match (given(&self.strfry_bin), given(&self.strfry_conf)) {
            (None, None) => return None,
            (Some(program), Some(config)) => (program, config),
            (Some(_), None) | (None, Some(_)) => {
                checker.complain("--strfry-bin and --strfry-conf belong together: give both or neither");
                return None;
            }
        };
        if self.relay_url.is_none() {
            checker.complain("--strfry-bin needs --relay-url: the built-in relay has no strfry");
        }
        let is_program = |meta: Metadata| meta.is_file() && meta.permissions().mode() & 0o111 != 0;
        if !fs::metadata(&program).is_ok_and(is_program) {
            checker.complain(format!("--strfry-bin is {}: it must be a program", program.display()));
        }
        if let Err(error) = fs::read_to_string(&config) {
            let config = config.display();
            checker.complain(format!("--strfry-conf is {config}, which cannot be read: {error}"));
        }
        Some(StrfryPaths { program, config })
    }
}

/// How long a step in Redis may take: a look may write a lot at once.
const REDIS_STEP: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(10);

const DOMAIN_EXPECTED: &str = "a domain such as git.example.com or git.example.com:7334, without scheme and path";

const NETWORKS_EXPECTED: &str = "addresses and networks without host bits, such as 127.0.0.1,10.0.0.0/8,fd00::/8";

const REDIS_MISSING: &str = "--relay-url needs --redis-url: the plugin in the relay and this server meet in Redis; \
                             give both, or neither to run the built-in relay with a purgatory in memory";

#[cfg(test)]
mod tests {
    use super::*;

    fn serve(arguments: &[&str]) -> Result<Config, Complaints> {
        let arguments = ["grasp-gateway", "serve"].iter().chain(arguments);
        match Cli::try_parse_from(arguments).unwrap().command() {
            Command::Serve(serve) => serve.check(),
            Command::Declare(_) => unreachable!("it says serve"),
        }
    }

    #[test]
    fn the_defaults_are_complete() {
        let config = serve(&[]).unwrap();

        assert_eq!(config.bind, "127.0.0.1:7334".parse().unwrap());
        assert_eq!((config.hold_secs, config.sleep_secs), (1800, 86400));
        assert_eq!((config.relay_url, config.redis.is_none()), (None, true));
    }

    #[test]
    fn every_bad_value_is_complained_about_at_once() {
        let complaints = serve(&[
            "--bind=nowhere",
            "--domain=https://git.example.com/",
            "--hold-secs=0",
            "--release-wait-secs=soon",
            "--drain-secs=-1",
            "--relay-url=http://127.0.0.1",
            "--maintainer-mode=all",
            "--trusted-proxies=10.1.2.3/8",
            "--uploads-max=0",
            "--pack-bytes-max=1G",
            "--held-max=many",
        ])
        .unwrap_err();

        let text = complaints.to_string();
        for option in [
            "--bind",
            "--domain",
            "--hold-secs",
            "--release-wait-secs",
            "--drain-secs",
            "--relay-url must",
            "--maintainer-mode",
            "--redis-url",
            "--trusted-proxies",
            "--uploads-max",
            "--pack-bytes-max",
            "--held-max",
        ] {
            assert!(text.contains(option), "{option} in {text}");
        }
        assert_eq!(complaints.0.len(), 12, "{text}");
    }

    #[test]
    fn a_strfry_that_cannot_import_is_complained_about() {
        const RELAY: [&str; 2] = ["--relay-url=ws://127.0.0.1:7777", "--redis-url=redis://127.0.0.1"];
        const CONF: &str = concat!("--strfry-conf=", env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let rows: [(&[&str], &str); 6] = [
            (&["--strfry-bin=/bin/sh"], "both or neither"),
            (&[CONF], "both or neither"),
            (&["--strfry-bin=/bin", CONF], "must be a program"),
            (&["--strfry-bin=/etc/passwd", CONF], "must be a program"),
            (&["--strfry-bin=/bin/sh", "--strfry-conf=/nowhere"], "cannot be read"),
            (&["--strfry-bin=/bin/sh", "--strfry-conf=/bin"], "cannot be read"),
        ];
        for (arguments, expected) in rows {
            let complaints = serve(&[&RELAY, arguments].concat()).unwrap_err();

            assert!(complaints.to_string().contains(expected), "{complaints}");
            assert_eq!(complaints.0.len(), 1, "{complaints}");
        }
        let complaints = serve(&["--strfry-bin=/bin/sh", CONF]).unwrap_err();
        assert!(complaints.to_string().contains("needs --relay-url"), "{complaints}");
        let given = serve(&[&RELAY, &["--strfry-bin=/bin/sh", CONF][..]].concat()).unwrap();
        assert!(given.strfry.is_some());
        let unset = serve(&["--strfry-bin=", "--strfry-conf="]).unwrap();
        assert_eq!(unset.strfry, None);
    }

    #[test]
    fn a_relay_without_redis_is_refused() {
        assert!(serve(&["--relay-url=ws://127.0.0.1:7777"]).is_err());
        assert!(serve(&["--redis-url=redis://127.0.0.1"]).is_ok());
    }
}
