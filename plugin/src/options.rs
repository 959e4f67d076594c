//! The plugin's options; the same variables as the gateway's, so that one environment file serves both.

use std::time::Duration;

use clap::Parser;
use shared::options::chain::ChainOptions;
use shared::options::config_errors::ConfigErrors;
use shared::options::config_file::ConfigFile;
use shared::options::held_limits::Limits;
use shared::options::read_options::ProgramOptions;
use shared::options::redis::RedisOptions;
use shared::options::redis::RedisUrls;
use shared::options::rules::RuleOptions;
use shared::options::values::parsed;
use shared::purgatory::RedisSettings;
use shared::relay_client::RelayUrl;
use shared::rules::OtherKinds;
use shared::rules::Service;

/// strfry write policy of a GRASP server: holds git events until their data has arrived.
///
/// strfry.conf: relay.writePolicy.plugin = "exec /usr/bin/grasp-plugin"
#[derive(Parser)]
#[command(name = "grasp-plugin", version, max_term_width = 100)]
pub(crate) struct PluginOptions {
    /// As it was when the options were read.
    #[arg(skip = ConfigFile::of_this_program())]
    pub(crate) file: Option<ConfigFile>,
    /// The name of this server in `clone` and `relays` tags, the same as the gateway's.
    #[arg(long, value_name = "HOST[:PORT]", value_parser = parsed::<Service>("a domain such as git.example.com,
          without scheme and path"))]
    pub(crate) domain: Service,
    /// The relay that runs this plugin, on loopback: the plugin queries served events there.
    #[arg(
        long,
        value_name = "ws://HOST:PORT",
        default_value = "ws://127.0.0.1:7777",
        hide_env_values = true
    )]
    pub(crate) relay_url: RelayUrl,
    /// The Redis of the purgatory, the same as the gateway's: `redis://USER:PASSWORD@HOST:PORT/DATABASE`,
    /// `unix:///PATH?user=USER&db=DATABASE`, or several of the first form, separated by commas, with --redis-mode.
    #[arg(
        long,
        value_name = "redis://HOST:PORT",
        default_value = "redis://127.0.0.1:6379",
        hide_env_values = true
    )]
    redis_url: RedisUrls,
    /// What to do with events that have nothing to do with git: accept them, on a general relay, or refuse all that
    /// belong to no repository on this server. Issues, patches, statuses and comments that belong to none are always
    /// refused.
    #[arg(long, value_name = "MODE", value_enum, hide_possible_values = true, default_value_t = OtherKinds::Accept)]
    pub(crate) other_kinds: OtherKinds,
    #[command(flatten)]
    redis: RedisOptions,
    #[command(flatten)]
    pub(crate) rules: RuleOptions,
    #[command(flatten)]
    pub(crate) held_limits: Limits,
    #[command(flatten)]
    pub(crate) chain: ChainOptions,
}

impl PluginOptions {
    /// Returns where Redis is.
    pub(crate) fn redis(&self) -> RedisSettings {
        self.redis.settings(&self.redis_url, REDIS_CALL..=REDIS_CALL)
    }
}

impl ProgramOptions for PluginOptions {
    fn check(&self, errors: &mut ConfigErrors) {
        self.redis.check(&self.redis_url, errors);
        self.rules.check(errors);
    }
}

/// How long a call to Redis may take: strfry's only writer waits for it. Less than the whole answer may take, so that
/// a Redis that hangs is noticed. Giving up is safe: an event that was held in spite of it is found held when the
/// client sends it again.
const REDIS_CALL: Duration = Duration::from_millis(900);

#[cfg(test)]
mod tests {
    use options_reference::check_document;
    use shared::options::read_options::read_options;

    use super::*;

    #[test]
    fn every_configuration_error_is_named_at_once() {
        let arguments = [
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
            "--chain-for=x",
            "--chain-timeout-ms=0",
            "--chain-on-error=x",
        ];

        let errors = read_options::<PluginOptions>(&arguments.map(Into::into)).err().unwrap();

        let text = errors.to_string();
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
            "--chain-for",
            "--chain-timeout-ms",
            "--chain-on-error",
        ] {
            assert!(text.contains(option), "{option} in {text}");
        }
        assert_eq!(errors.lines.len(), 12, "{text}");
    }

    #[test]
    fn the_reference_of_options_is_up_to_date() {
        check_document("grasp-plugin", &PluginOptions::definition());
        options_reference::check_file("grasp-plugin", &PluginOptions::definition());
    }
}
