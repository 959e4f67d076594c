//! The options of the server, which the commands that inspect it take too.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use relay::RelayLimits;
use shared::options::config_errors::ConfigErrors;
use shared::options::config_file::ConfigFile;
use shared::options::held_limits::Limits;
use shared::options::redis::RedisOptions;
use shared::options::redis::RedisUrls;
use shared::options::rules::RuleOptions;
use shared::options::values::ByteCount;
use shared::options::values::DAYS_MAX;
use shared::options::values::Expected;
use shared::options::values::HumanDuration;
use shared::options::values::SECS_MAX;
use shared::options::values::days;
use shared::options::values::parsed;
use shared::options::values::seconds;
use shared::options::values::secs;
use shared::purgatory::RedisSettings;
use shared::relay_client::RelayUrl;
use shared::rules::OtherKinds;
use shared::rules::PlanSettings;
use shared::rules::Service;

use crate::command_error::CommandError;
use crate::http::client_address::TrustedProxies;
use crate::options::maintenance::MaintenanceOptions;
use crate::options::reach::REDIS_CALL;
use crate::options::server_limits::ServerLimits;
use crate::options::strfry::StrfryOptions;

/// The options of `serve`.
#[derive(Args)]
pub(crate) struct GatewayOptions {
    /// As it was when the options were read.
    #[arg(skip = ConfigFile::of_this_program())]
    pub(crate) file: Option<ConfigFile>,
    #[command(flatten)]
    pub(crate) listen: ListenOptions,
    /// The directory of the repositories and of the built-in relay's database.
    #[arg(long, value_name = "DIR", default_value = DATA_DIR)]
    pub(crate) data_dir: PathBuf,
    /// Maximum bytes of the built-in relay's database and its notes of deletions. Of the last sixteenth a quarter is
    /// left for events that this server publishes, another for deletions too, and the rest for its deletions, and for
    /// its announcements and states of up to 256 KiB on the disk.
    #[arg(long, value_name = "BYTES",
          default_value_t = ByteCount(RelayLimits::default().database_bytes_max as u64))]
    pub(crate) relay_database_bytes_max: ByteCount,
    /// The strfry relay, on loopback; needs --redis-url [default: a built-in relay].
    #[arg(long, value_name = "ws://HOST:PORT", hide_env_values = true)]
    pub(crate) relay_url: Option<RelayUrl>,
    #[command(flatten)]
    pub(crate) strfry: StrfryOptions,
    /// The Redis of the purgatory, the same as the plugin's: `redis://USER:PASSWORD@HOST:PORT/DATABASE`,
    /// `unix:///PATH?user=USER&db=DATABASE`, or several of the first form, separated by commas, with --redis-mode
    /// [default: in memory, with the built-in relay only].
    #[arg(long, value_name = "redis://HOST:PORT", hide_env_values = true)]
    redis_url: Option<RedisUrls>,
    /// Whether the built-in relay accepts or refuses events that belong to no repository on this server. Issues,
    /// patches, statuses and comments that belong to none are always refused. With --relay-url the plugin decides.
    #[arg(long, value_name = "MODE", value_enum, hide_possible_values = true, default_value_t = OtherKinds::Refuse)]
    pub(crate) other_kinds: OtherKinds,
    #[command(flatten)]
    redis: RedisOptions,
    #[command(flatten)]
    pub(crate) rules: RuleOptions,
    #[command(flatten)]
    pub(crate) live: LiveOptions,
}

/// The options that change with the configuration file while the server runs.
#[derive(Debug, Clone, Copy, PartialEq, Args)]
pub(crate) struct LiveOptions {
    #[command(flatten)]
    pub(crate) times: TimeOptions,
    #[command(flatten)]
    pub(crate) server: ServerLimits,
    #[command(flatten)]
    pub(crate) maintenance: MaintenanceOptions,
    #[command(flatten)]
    pub(crate) held: Limits,
}

/// Where the server is, for its clients and its proxies.
#[derive(Debug, Clone, Args)]
pub(crate) struct ListenOptions {
    /// The address to listen on. Ignored if systemd passes a socket (LISTEN_FDS).
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:7334",
          value_parser = parsed::<SocketAddr>("an address and port such as 127.0.0.1:7334"))]
    pub(crate) bind: SocketAddr,
    /// The name of this server in `clone` and `relays` tags: a host, with a port unless clients use the default ports
    /// [default: the bind address].
    #[arg(long, value_name = "HOST[:PORT]", value_parser = parsed::<Service>(DOMAIN_EXPECTED))]
    pub(crate) domain: Option<Service>,
    /// The reverse proxies in front of this server, as addresses or networks: the client's address is taken from their
    /// X-Forwarded-For, or X-Real-IP if they send only that [default: none, forwarding headers are ignored].
    #[arg(long, value_name = "CIDR[,CIDR...]", value_parser = networks, default_value = "", hide_default_value = true)]
    pub(crate) trusted_proxies: TrustedProxies,
    /// The address of /livez, /readyz and /metrics, for supervisors and Prometheus, and of the operator's page, which
    /// can release and drop waiting events. It has no access control: do not expose it to clients or through a proxy
    /// [default: none].
    #[arg(long, value_name = "ADDR:PORT",
          value_parser = parsed::<SocketAddr>("an address and port such as 127.0.0.1:7335"))]
    pub(crate) admin_bind: Option<SocketAddr>,
}

/// Times and deadlines.
#[derive(Debug, Clone, Copy, PartialEq, Args)]
#[command(next_help_heading = "Times")]
pub(crate) struct TimeOptions {
    /// How long an authorised state can still wake an expired announcement; 0: not at all.
    #[arg(long = "sleep-secs", value_name = "SECS", value_parser = seconds(0..=SECS_MAX),
          default_value_t = secs(86_400))]
    pub(crate) sleep: HumanDuration,
    /// How long a push waits until its events are served. After that it succeeds anyway, and the events are served when
    /// the relay is back.
    #[arg(long = "release-wait-secs", value_name = "SECS", value_parser = seconds(1..=SECS_MAX),
          default_value_t = secs(60))]
    pub(crate) release_wait: HumanDuration,
    /// How long running requests and pushes may continue when the server is stopped (SIGTERM); 0: not at all. A second
    /// signal ends them at once.
    #[arg(long = "drain-secs", value_name = "SECS", value_parser = seconds(0..=SECS_MAX), default_value_t = secs(30))]
    pub(crate) drain: HumanDuration,
    /// How long the data of a repository is kept after its announcement was deleted or names another server; 0: until
    /// the next daily check.
    #[arg(long, value_name = "DAYS", value_parser = days(0..=DAYS_MAX),
          default_value_t = 90)]
    pub(crate) deleted_retention_days: u64,
}

impl LiveOptions {
    /// Returns what a reconcile may do.
    pub(crate) fn of_reconciles(&self) -> PlanSettings {
        PlanSettings {
            sleep_secs: self.times.sleep.as_secs(),
            pull_requests: self.server.of_pull_requests(),
        }
    }

    /// Returns for how many seconds data without an announcement is kept.
    pub(crate) fn deleted_retention_secs(&self) -> u64 {
        self.times.deleted_retention_days * DAY_SECS
    }
}

impl ListenOptions {
    /// Returns the name of a server on this address.
    ///
    /// # Errors
    /// The address is no name, and no other is given.
    pub(crate) fn service_at(&self, address: SocketAddr) -> Result<Service, CommandError> {
        match &self.domain {
            Some(service) => Ok(service.clone()),
            None => address.to_string().parse().map_err(CommandError::because(format!(
                "cannot derive a domain from the address {address}: give one with --domain"
            ))),
        }
    }
}

impl GatewayOptions {
    /// Returns where Redis is; `None`: the purgatory is in memory.
    pub(crate) fn redis(&self) -> Option<RedisSettings> {
        self.redis_url
            .as_ref()
            .map(|urls| self.redis.settings(urls, REDIS_CALL))
    }

    /// Returns the limits of the built-in relay.
    pub(crate) fn of_relay(&self) -> RelayLimits {
        // LMDB takes whole pages of memory, of at most 64 KiB.
        let pages = self.relay_database_bytes_max.0.next_multiple_of(64 << 10);
        RelayLimits {
            database_bytes_max: usize::try_from(pages).unwrap_or(usize::MAX),
            ..self.live.server.of_relay()
        }
    }

    /// Adds the errors of options whose values are valid one by one.
    pub(super) fn check(&self, errors: &mut ConfigErrors) {
        self.check_addresses(errors);
        let has_relay_url = self.relay_url.is_some() || errors.has_invalid("relay-url");
        if let Some(urls) = &self.redis_url {
            self.redis.check(urls, errors);
        } else if has_relay_url && !errors.has_invalid("redis-url") {
            errors.push(REDIS_MISSING);
        }
        self.strfry.check(has_relay_url, errors);
        self.rules.check(errors);
    }

    /// Names two uses of one address. Whether the relay's is ours, whatever its name, is asked when the server starts.
    fn check_addresses(&self, errors: &mut ConfigErrors) {
        let bind = self.listen.bind;
        if bind.port() == 0 || errors.has_invalid("bind") {
            return;
        }
        if self.listen.admin_bind == Some(bind) {
            errors.push(format!(
                "--admin-bind is the address of --bind, {bind}: give it another one"
            ));
        }
    }
}

/// Nothing is the default.
pub(super) fn networks(text: &str) -> Result<TrustedProxies, Expected> {
    match text {
        "" => Ok(TrustedProxies::default()),
        _ => text.parse(),
    }
}

const DAY_SECS: u64 = 86_400;

/// Of the repositories.
pub(super) const DATA_DIR: &str = "./grasp-data";

const DOMAIN_EXPECTED: &str = "a domain such as git.example.com or git.example.com:7334, without scheme and path";

const REDIS_MISSING: &str = "--relay-url needs --redis-url: the relay's plugin and this server share their data through Redis; \
                             give both, or neither to run the built-in relay with a purgatory in memory";
