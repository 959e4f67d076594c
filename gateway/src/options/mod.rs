//! The options of the gateway, by command.

pub(crate) mod completions;
#[cfg(test)]
mod compose_tests;
pub(crate) mod maintenance;
pub(crate) mod purgatory;
pub(crate) mod reach;
pub(crate) mod repo;
pub(crate) mod server;
pub(crate) mod server_limits;
pub(crate) mod strfry;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use clap::Command;
use clap::CommandFactory;
use clap::Parser;
use clap_complete::Shell;
use shared::options::config_errors::ConfigErrors;
use shared::options::config_file::DEFAULT_FILE;
use shared::options::environment::log_directives;
use shared::options::environment::log_format;
use shared::options::environment::unknown_variables;
use shared::options::read_options::ProgramOptions;
use shared::options::read_options::check_file;
use shared::options::read_options::read_options;
use shared::options::read_options::with_variables;
use shared::options::read_options::with_variables_for;
use shared::options::values::Expected;
use shared::options::values::HumanDuration;
use shared::options::values::seconds;
use shared::options::values::secs;
use url::Url;

use crate::declare::DeclareOptions;
use crate::options::purgatory::PurgatoryOptions;
use crate::options::repo::RepoOptions;
pub(crate) use crate::options::server::GatewayOptions;

/// GRASP git server: hosts git repositories whose branches and tags are declared by signed nostr events.
#[derive(Parser)]
#[command(name = "grasp-gateway", version, max_term_width = 100)]
#[command(subcommand_required = false, arg_required_else_help = false)]
pub(crate) enum GatewayCommand {
    /// Serves git, and the relay beside it, until stopped. The default if no command is given.
    ///
    /// Without --relay-url a built-in relay is started, and without --redis-url the purgatory is kept in memory:
    /// nothing else needs to be installed then.
    Serve(Box<GatewayOptions>),
    /// Signs a repository's announcement and state, sends them to a relay and prints the clone URL.
    ///
    /// To try a server with git alone.
    Declare(DeclareOptions),
    /// Checks everything that a server with these settings needs, from inside and as clients reach it, and reports each
    /// problem with its correction.
    ///
    /// Exit status 0: no problem; 1: an error; 2: only warnings.
    Doctor(Box<DoctorOptions>),
    /// Prints the configuration file with all settings, or checks one.
    Config(ConfigOptions),
    /// Shows the purgatory: which events wait, for what, and since when; and acts on single events.
    ///
    /// Needs the gateway's Redis, and no running gateway.
    Purgatory(Box<PurgatoryOptions>),
    /// Shows, checks and maintains the repositories of a data directory. A gateway need not run.
    Repo(Box<RepoOptions>),
    /// Prints shell completions for this program.
    Completions {
        /// The shell.
        #[arg(value_name = "SHELL", value_enum)]
        shell: Shell,
    },
    /// Writes the man pages of this program, one for each command.
    Man {
        /// The folder for the files.
        #[arg(value_name = "FOLDER")]
        folder: PathBuf,
    },
}

impl GatewayCommand {
    /// Reads the command line and the environment.
    ///
    /// # Errors
    /// All configuration errors at once.
    pub(crate) fn read(mut arguments: Vec<OsString>) -> Result<Self, ConfigErrors> {
        if arguments.len() < 2 {
            arguments = vec!["grasp-gateway".into(), "serve".into()];
        }
        read_options(&arguments)
    }
}

impl ProgramOptions for GatewayCommand {
    fn definition() -> Command {
        Self::command().mut_subcommands(|command| match command.get_name() {
            "serve" => with_variables(command),
            "doctor" => with_variables_for(command, is_of_server),
            "purgatory" => command.mut_subcommands(|action| with_variables_for(action, is_about_redis)),
            "repo" => command.mut_subcommands(|action| with_variables_for(action, is_of_server)),
            _ => command,
        })
    }

    fn check(&self, errors: &mut ConfigErrors) {
        // A server that ignores a setting which it was meant to have may serve the wrong relay from the right Redis.
        let unknown = unknown_variables(&Self::definition()).into_iter();
        let misspelt = unknown.filter(|variable| variable.meant.is_some());
        errors.lines.extend(misspelt.map(|variable| variable.to_string()));
        let log = [log_directives("").err(), log_format().err()];
        errors
            .lines
            .extend(log.into_iter().flatten().map(|error| error.to_string()));
        match self {
            Self::Serve(options) => options.check(errors),
            Self::Doctor(options) => options.server.check(errors),
            Self::Repo(options) => {
                if let Some(server) = options.action.server() {
                    server.check(errors);
                }
            }
            Self::Declare(_) | Self::Config(_) | Self::Completions { .. } | Self::Man { .. } => {}
            Self::Purgatory(options) => options.reach().check(errors),
        }
    }
}

/// The options that a command shares with the server, by their variables too.
fn is_about_redis(long: &str) -> bool {
    long.starts_with("redis-")
}

/// For a command that takes the server's options: those of the server.
fn is_of_server(long: &str) -> bool {
    let own = [
        "all",
        "by",
        "json",
        "owner",
        "public-url",
        "refs-only",
        "silence-secs",
        "wait-secs",
    ];
    !own.contains(&long)
}

/// The options of `config`.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub(crate) struct ConfigOptions {
    /// Print the file with all settings, commented, with their defaults.
    #[arg(long)]
    print_default: bool,
    /// Check a file, as a server without other options and variables would: reports every mistake with its line.
    #[arg(long, value_name = "FILE")]
    check: Option<PathBuf>,
}

impl ConfigOptions {
    /// Returns the requested text.
    ///
    /// # Errors
    /// Every mistake in the file.
    pub(crate) fn run(&self) -> Result<String, ConfigErrors> {
        let Some(path) = &self.check else {
            return Ok(DEFAULT_FILE.to_owned());
        };
        check_file::<GatewayCommand>(path, &["grasp-gateway", "serve"].map(OsString::from))?;
        Ok(format!("{}: no mistakes\n", path.display()))
    }
}

/// The options of `doctor`: all options of the server, which is checked as it would be started.
#[derive(Args)]
pub(crate) struct DoctorOptions {
    /// Where clients reach the server [default: the domain, by https unless it has a port].
    #[arg(long, value_name = "http[s]://HOST[:PORT]", value_parser = public_url)]
    pub(crate) public_url: Option<Url>,
    /// For how long connections are left silent, to find the time-outs of a reverse proxy: 80 finds those that nginx
    /// comes with.
    #[arg(long = "silence-secs", value_name = "SECS", value_parser = seconds(1..=SILENCE_SECS_MAX),
          default_value_t = secs(5))]
    pub(crate) silence: HumanDuration,
    /// Answer in JSON, for scripts.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) server: GatewayOptions,
}

/// The gateway itself keeps a connection for 5 minutes.
const SILENCE_SECS_MAX: u64 = 240;

fn public_url(text: &str) -> Result<Url, Expected> {
    let url = Url::parse(text).ok().filter(|url| {
        let is_origin = url.path() == "/" && url.query().is_none() && url.username().is_empty();
        matches!(url.scheme(), "http" | "https") && url.host_str().is_some() && is_origin
    });
    url.ok_or_else(|| Expected::new("an origin such as https://git.example.com".to_owned()))
}

#[cfg(test)]
mod tests {
    use options_reference::check_document;
    use relay::RelayLimits;

    use crate::options::server::networks;

    use super::*;

    fn serve(arguments: &[&str]) -> Result<Box<GatewayOptions>, ConfigErrors> {
        let arguments = ["grasp-gateway", "serve"].iter().chain(arguments);
        let GatewayCommand::Serve(options) = GatewayCommand::read(arguments.map(OsString::from).collect())? else {
            unreachable!("the command is serve");
        };
        Ok(options)
    }

    fn errors(arguments: &[&str]) -> ConfigErrors {
        serve(arguments).err().unwrap()
    }

    #[test]
    fn the_defaults_are_complete() {
        let Ok(GatewayCommand::Serve(options)) = GatewayCommand::read(vec!["grasp-gateway".into()]) else {
            panic!("serve is the default");
        };

        let times = [options.live.held.hold, options.live.times.sleep].map(|time| time.as_secs());
        assert_eq!(options.listen.bind, "127.0.0.1:7334".parse().unwrap());
        assert_eq!(times, [1800, 86400]);
        assert_eq!(options.live.times.deleted_retention_days, 90);
        assert_eq!((&options.relay_url, options.redis()), (&None, None));
        assert_eq!(options.of_relay(), RelayLimits::default());
    }

    #[test]
    fn plain_numbers_and_units_mean_the_same() {
        for hold in ["--hold-secs=1800", "--hold-secs=30m"] {
            assert_eq!(serve(&[hold]).ok().unwrap().live.held.hold.as_secs(), 1800);
        }
    }

    #[test]
    fn every_configuration_error_is_named_at_once() {
        let errors = errors(&[
            "--bind=nowhere",
            "--domain=https://git.example.com/",
            "--hold-secs=0",
            "--release-wait-secs=soon",
            "--drain-secs=-1",
            "--relay-url=http://127.0.0.1",
            "--maintainer-mode=all",
            "--trusted-proxies=10.1.2.3/8",
            "--uploads-max=0",
            "--pack-bytes-max=1 parsec",
            "--held-max=many",
        ]);

        let text = errors.to_string();
        for option in [
            "--bind",
            "--domain",
            "--hold-secs",
            "--release-wait-secs",
            "--drain-secs",
            "--relay-url: it must",
            "--maintainer-mode",
            "--redis-url",
            "--trusted-proxies",
            "--uploads-max",
            "--pack-bytes-max",
            "--held-max",
        ] {
            assert!(text.contains(option), "{option} in {text}");
        }
        assert_eq!(errors.lines.len(), 12, "{text}");
    }

    #[test]
    fn a_strfry_that_cannot_import_is_a_configuration_error() {
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
            let errors = errors(&[&RELAY, arguments].concat());

            assert!(errors.to_string().contains(expected), "{errors}");
            assert_eq!(errors.lines.len(), 1, "{errors}");
        }
        let errors = errors(&["--strfry-bin=/bin/sh", CONF]);
        assert!(errors.to_string().contains("needs --relay-url"), "{errors}");
        let given = serve(&[&RELAY, &["--strfry-bin=/bin/sh", CONF][..]].concat());
        assert!(given.ok().unwrap().strfry.paths().is_some());
        let unset = serve(&["--strfry-bin=", "--strfry-conf=", "--trusted-proxies="]);
        assert_eq!(unset.ok().unwrap().strfry.paths(), None);
    }

    #[test]
    fn what_a_command_of_a_command_is_given_is_checked() {
        let read = |arguments: &[&str]| {
            let arguments = ["grasp-gateway", "purgatory"].iter().chain(arguments);
            GatewayCommand::read(arguments.map(OsString::from).collect())
        };

        assert!(read(&["show", "--redis-url=redis://h", &"a".repeat(64)]).is_ok());
        assert!(read(&["list", "--redis-url=redis://h", "--author", &"A1".repeat(32)]).is_ok());
        let Err(errors) = read(&["list", "--redis-url=http://h", "--count=0", "--author=me"]) else {
            panic!("it is wrong")
        };
        assert_eq!(errors.lines.len(), 3, "{errors}");
        let Err(errors) = read(&["stats"]) else {
            panic!("no Redis")
        };
        assert!(errors.to_string().contains("GRASP_REDIS_URL"), "{errors}");
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn a_file_gives_defaults_and_options_win_over_it() {
        let file = file("hold-secs = '10m'\nheld-max = 7\ntrusted-proxies = ['127.0.0.1', '10.0.0.0/8']\n");
        let config = format!("--config={}", file.path().display());

        let options = serve(&[&config, "--hold-secs=20m"]).ok().unwrap();

        assert_eq!(options.live.held.hold.as_secs(), 1200);
        assert_eq!(options.live.held.entries_max, 7);
        let proxies = networks("127.0.0.1,10.0.0.0/8").unwrap();
        assert_eq!(options.listen.trusted_proxies, proxies);
    }

    #[test]
    fn every_mistake_in_a_file_is_named_with_its_line() {
        let file = file(
            "domain = 'https://x/'\nhold_secs = 5\nrelay-url = 'ws://127.0.0.1:7777'\nheld-max = 'many'\n\
             redis-url = 'redis://:hunter2@h'\nrepos-deny = '/nowhere'\nsurplus = 1\n[gateway]\nstrfry-bin = '/x'\n",
        );
        let options = ConfigOptions {
            print_default: false,
            check: Some(file.path().to_owned()),
        };

        let errors = options.run().unwrap_err();

        let text = errors.to_string();
        for expected in [
            "line 1: domain is \"https://x/\": it must be a domain",
            "line 2: there is no setting hold_secs: did you mean hold-secs?",
            "line 4: held-max is \"many\": it must be a number",
            "line 5: redis-url contains a password",
            "repos-deny in line 6",
            "line 7: there is no setting surplus\n",
            "line 8: the file has no tables: remove the line [gateway]",
        ] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
        assert!(errors.lines.len() == 7 && !text.contains("hunter2"), "{text}");
    }

    #[test]
    fn the_printed_file_is_valid_and_so_is_each_default_in_it() {
        let print = ConfigOptions {
            print_default: true,
            check: None,
        };
        let printed = print.run().unwrap();
        let is_default = |line: &&str| line.starts_with('#') && line.contains(" = ") && !line.starts_with("# ");
        let is_form = |line: &str| ["HOST", "FILE", "ADDR", "CIDR"].iter().any(|form| line.contains(form));
        let lines = printed.lines().filter(is_default).map(|line| &line[1..]);
        let defaults: Vec<&str> = lines.filter(|line| !is_form(line)).collect();
        assert!(defaults.len() > 30, "{defaults:?}");

        for text in [printed.clone(), defaults.join("\n")] {
            let file = file(&text);
            let check = ConfigOptions {
                print_default: false,
                check: Some(file.path().to_owned()),
            };
            assert!(check.run().unwrap().ends_with("no mistakes\n"));
        }
    }

    #[test]
    fn a_relay_without_redis_is_refused() {
        assert!(serve(&["--relay-url=ws://127.0.0.1:7777"]).is_err());
        assert!(serve(&["--redis-url=redis://127.0.0.1"]).is_ok());
    }

    #[test]
    fn an_invalid_option_counts_as_given_where_another_needs_it() {
        for arguments in [
            &["--relay-url=ws://127.0.0.1:7777", "--redis-url=http://127.0.0.1"][..],
            &["--redis-url=redis://127.0.0.1,redis://127.0.0.2", "--redis-mode=many"],
        ] {
            assert_eq!(errors(arguments).lines.len(), 1, "{arguments:?}");
        }
    }

    #[test]
    fn one_address_for_two_uses_is_a_mistake() {
        let lines = errors(&["--admin-bind=127.0.0.1:7334"]).lines;
        assert!(
            lines.len() == 1 && lines[0].starts_with("--admin-bind is the address of --bind"),
            "{lines:?}"
        );
        assert!(serve(&["--bind=127.0.0.1:0", "--admin-bind=127.0.0.1:0"]).is_ok());
    }

    #[test]
    fn an_empty_text_in_the_file_is_as_if_the_setting_were_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(
            &path,
            "admin-bind = ''\nredis-url = ''\nhold-secs = ''\ntrusted-proxies = []\n",
        )
        .unwrap();

        let read = check_file::<GatewayCommand>(&path, &["grasp-gateway", "serve"].map(OsString::from));

        let Ok(GatewayCommand::Serve(options)) = read else {
            panic!("{:?}", read.err());
        };
        assert_eq!((options.listen.admin_bind, options.redis()), (None, None));
        assert_eq!(options.live.held.hold.as_secs(), 1800);
    }

    #[test]
    fn shells_and_man_know_every_command() {
        let mut completions = Vec::new();
        let mut definition = GatewayCommand::definition();
        clap_complete::generate(Shell::Fish, &mut definition, "grasp-gateway", &mut completions);
        let completions = String::from_utf8(completions).unwrap();
        let folder = tempfile::tempdir().unwrap();

        clap_mangen::generate_to(GatewayCommand::definition(), &folder).unwrap();

        for part in ["redis-url", "purgatory", "refusals", "request"] {
            assert!(completions.contains(part), "{part}");
        }
        let page = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert!(page("grasp-gateway-serve.1").contains("redis\\-url"));
        assert!(page("grasp-gateway-purgatory-refusals.1").contains("beginning of either"));
    }

    #[test]
    fn the_reference_of_options_is_up_to_date() {
        let command = GatewayCommand::definition();
        options_reference::check_file("grasp-gateway", command.find_subcommand("serve").unwrap());
        for name in ["serve", "declare"] {
            let options = command.find_subcommand(name).unwrap();
            check_document(&format!("grasp-gateway {name}"), options);
        }
        let purgatory = command.find_subcommand("purgatory").unwrap();
        for name in ["list", "release", "refusals"] {
            let options = purgatory.find_subcommand(name).unwrap();
            check_document(&format!("grasp-gateway purgatory {name}"), options);
        }
        let repo = command.find_subcommand("repo").unwrap();
        for name in ["list", "maintain"] {
            check_document(
                &format!("grasp-gateway repo {name}"),
                repo.find_subcommand(name).unwrap(),
            );
        }
    }
}
