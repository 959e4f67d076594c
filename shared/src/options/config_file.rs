//! The configuration file: one TOML file for both programs, whose keys are the names of the options. Its values become
//! the defaults of the options, so that variables and flags win, and are checked by the options' own parsers.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::path::PathBuf;

use clap::Arg;
use clap::Args;
use clap::Command;
use toml::Spanned;
use toml::de::DeTable;
use toml::de::DeValue;
use url::Url;

use crate::options::chain::ChainOptions;
use crate::options::config_errors::ConfigErrors;
use crate::options::config_errors::STAND_IN;
use crate::options::config_errors::expectation;
use crate::options::environment::has_variable;
use crate::options::environment::nearest;
use crate::options::redis_password::has_password;

/// The commented file with every setting and its default, as `config --print-default` prints it.
pub const DEFAULT_FILE: &str = include_str!("../../../strfry-config/config.toml");

/// The content of the file, and the lines that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFile {
    path: PathBuf,
    settings: Vec<Setting>,
    mistakes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Setting {
    key: String,
    value: String,
    line: usize,
}

impl ConfigFile {
    /// Reads the file that `--config` or `GRASP_CONFIG` names, or the one at the usual path; `None`: there is none.
    pub(super) fn of_program(arguments: &[OsString]) -> Option<Self> {
        let named = named_by(arguments).or_else(|| std::env::var_os(VARIABLE).filter(|path| !path.is_empty()));
        match named {
            Some(path) => Some(Self::read(Path::new(&path))),
            None => match fs::metadata(USUAL_PLACE) {
                Err(error) if error.kind() == ErrorKind::NotFound => None,
                Ok(_) | Err(_) => Some(Self::read(Path::new(USUAL_PLACE))),
            },
        }
    }

    /// Reads the file of the program that runs.
    pub fn of_this_program() -> Option<Self> {
        Self::of_program(&std::env::args_os().collect::<Vec<_>>())
    }

    /// Reads a file.
    pub(super) fn read(path: &Path) -> Self {
        let path = path.to_owned();
        match fs::read_to_string(&path) {
            Ok(text) => Self::parse(path, &text),
            Err(error) => Self {
                mistakes: vec![format!(
                    "cannot read the configuration file {}: {error}",
                    path.display()
                )],
                settings: Vec::new(),
                path,
            },
        }
    }

    fn parse(path: PathBuf, text: &str) -> Self {
        let mut file = Self {
            path,
            settings: Vec::new(),
            mistakes: Vec::new(),
        };
        let line_of = |place: usize| 1 + text.bytes().take(place).filter(|byte| *byte == b'\n').count();
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let line = error.span().map_or(1, |span| line_of(span.start));
            let key = error.span().and_then(|span| text.get(span)).unwrap_or_default();
            let mistake = match error.message() {
                "duplicate key" => file.at(line, &format!("duplicate key {key}")),
                message => file.at(line, message),
            };
            file.mistakes.push(mistake);
        }
        for (key, value) in table.get_ref() {
            let line = line_of(key.span().start);
            let key = key.get_ref().to_string();
            match text_of(value) {
                Some(value) => file.settings.push(Setting { key, value, line }),
                None => {
                    let mistake = match value.get_ref().is_table() {
                        true => format!("the file has no tables: remove the line [{key}]"),
                        false => format!("{key}: it must be a text, a number, true or false, or a list of texts"),
                    };
                    file.mistakes.push(file.at(line, &mistake));
                }
            }
        }
        file.settings.sort_by_key(|setting| setting.line);
        file
    }

    /// Makes the settings of the file the defaults of `command` and of its subcommands, and adds every mistake in it.
    pub(super) fn put_into(&self, mut command: Command, errors: &mut ConfigErrors) -> Command {
        errors.lines.extend_from_slice(&self.mistakes);
        for setting in &self.settings {
            // With one of the plugin's the gateway could start, and the plugin could not.
            let found = find(&command, &setting.key).or_else(|| of_the_plugin(&setting.key));
            let Some(argument) = found else {
                if !default_keys().any(|key| key == setting.key) {
                    errors.push(self.at(setting.line, &unknown(&setting.key, &command)));
                }
                continue;
            };
            if setting.value.is_empty() {
                continue;
            }
            let Some(mistake) = mistake_in(setting, &argument) else {
                command = with_default(command, &setting.key, &setting.value);
                continue;
            };
            errors.push_invalid(&setting.key, self.at(setting.line, &mistake));
            if argument.is_required_set() {
                command = with_default(command, &setting.key, STAND_IN);
            }
        }
        command
    }

    /// Returns the lines with the options that an error about several options names.
    pub(super) fn lines_named_in(&self, error: &str) -> Option<String> {
        let is_named = |setting: &&Setting| {
            let option = format!("--{}", setting.key);
            let mut rests = error
                .match_indices(&option)
                .map(|(place, _)| &error[place + option.len()..]);
            let is_path = setting.value.starts_with('/') && error.contains(&setting.value);
            is_path || rests.any(|rest| !rest.starts_with(|next: char| next == '-' || next.is_alphanumeric()))
        };
        let named = self.settings.iter().filter(is_named);
        let lines: Vec<_> = named
            .map(|setting| format!("{} in line {}", setting.key, setting.line))
            .collect();
        (!lines.is_empty()).then(|| format!("{} has {}", self.path.display(), lines.join(", ")))
    }

    /// Returns the same file as it is now.
    pub(super) fn read_again(&self) -> Self {
        Self::read(&self.path)
    }

    /// Returns where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the keys that do not have the same value in both.
    pub(super) fn keys_that_differ(&self, other: &Self) -> Vec<String> {
        let missing = |from: &Self, settings: &[Setting]| -> Vec<String> {
            let is_same = |ours: &Setting, theirs: &Setting| ours.key == theirs.key && ours.value == theirs.value;
            let differ = settings
                .iter()
                .filter(|ours| !from.settings.iter().any(|theirs| is_same(ours, theirs)));
            differ.map(|setting| setting.key.clone()).collect()
        };
        let mut keys = missing(other, &self.settings);
        keys.extend(missing(self, &other.settings));
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    fn at(&self, line: usize, mistake: &str) -> String {
        format!("{}, line {line}: {mistake}", self.path.display())
    }
}

fn named_by(arguments: &[OsString]) -> Option<OsString> {
    arguments
        .iter()
        .enumerate()
        .find_map(|(place, argument)| match argument.to_str()?.strip_prefix("--config")? {
            "" => arguments.get(place + 1).cloned(),
            rest => rest.strip_prefix('=').map(OsString::from),
        })
}

/// A list is the option's value, separated by commas.
fn text_of(value: &Spanned<DeValue<'_>>) -> Option<String> {
    match value.get_ref() {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Float(number) => Some(number.to_string()),
        DeValue::Boolean(flag) => Some(flag.to_string()),
        DeValue::Array(list) => {
            let texts: Option<Vec<_>> = list.iter().map(|item| item.get_ref().as_str()).collect();
            Some(texts?.join(","))
        }
        DeValue::Datetime(_) | DeValue::Table(_) => None,
    }
}

/// Returns the option of this name; one without a variable belongs to a single command, and is in no file.
fn find(command: &Command, key: &str) -> Option<Arg> {
    let mut arguments = command.get_arguments();
    let found = arguments.find(|argument| is_setting(argument, key)).cloned();
    found.or_else(|| command.get_subcommands().find_map(|command| find(command, key)))
}

/// Returns the option of this name if only the plugin has it.
fn of_the_plugin(key: &str) -> Option<Arg> {
    let own = ChainOptions::augment_args(Command::new("grasp-plugin"));
    own.get_arguments()
        .find(|argument| argument.get_long() == Some(key))
        .cloned()
}

fn is_setting(argument: &Arg, key: &str) -> bool {
    key != OPTION && argument.get_long() == Some(key) && has_variable(argument)
}

fn with_default(command: Command, key: &str, value: &str) -> Command {
    let command = command.mut_subcommands(|command| with_default(command, key, value));
    command.mut_args(|argument| match is_setting(&argument, key) {
        true => {
            let is_hidden = argument.is_hide_env_values_set() || argument.is_hide_default_value_set();
            let argument = argument.required(false).hide_default_value(is_hidden);
            argument.default_value(value.to_owned())
        }
        false => argument,
    })
}

/// Returns the error of the option's own parser for a value.
fn mistake_in(setting: &Setting, argument: &Arg) -> Option<String> {
    let Setting { key, value, .. } = setting;
    // A password may have a comma itself.
    let mut texts = std::iter::once(value.as_str()).chain(value.split(','));
    if texts.any(|text| Url::parse(text.trim()).is_ok_and(|url| has_password(&url))) {
        return Some(format!(
            "{key} contains a password: put it into a separate file, and name that in redis-password-file"
        ));
    }
    if !argument.get_action().takes_values() {
        let is_flag = matches!(value.as_str(), "true" | "false");
        return (!is_flag).then(|| format!("{key}: it must be true or false"));
    }
    let alone = argument.clone().required(false).env(None::<&str>);
    let command = Command::new("check").no_binary_name(true).arg(alone);
    let error = command.try_get_matches_from([format!("--{key}={value}")]).err()?;
    Some(expectation(key, &error, argument))
}

fn unknown(key: &str, command: &Command) -> String {
    let own = keys_of(command);
    let known = default_keys().map(str::to_owned).chain(own).collect();
    match nearest(key, &known).or_else(|| begun_by(key, &known)) {
        Some(meant) => format!("there is no setting {key}: did you mean {meant}?"),
        None => format!("there is no setting {key}"),
    }
}

/// Returns the only key that is longer by a word or more.
fn begun_by(key: &str, known: &BTreeSet<String>) -> Option<String> {
    let mut longer = known.iter().filter(|known| known.starts_with(&format!("{key}-")));
    let only = longer.next()?;
    longer.next().is_none().then(|| only.clone())
}

fn keys_of(command: &Command) -> Vec<String> {
    let settings = command.get_arguments().filter(|argument| has_variable(argument));
    let own = settings.filter_map(|argument| argument.get_long()).map(str::to_owned);
    own.chain(command.get_subcommands().flat_map(keys_of)).collect()
}

/// The settings of either program, whichever this one is: each has a line in the file of defaults.
fn default_keys() -> impl Iterator<Item = &'static str> {
    let lines = DEFAULT_FILE.lines().filter_map(|line| line.strip_prefix('#'));
    lines.filter_map(|line| Some(line.split_once(" = ")?.0).filter(|key| !key.contains(' ')))
}

/// Where the file is looked for unless it is named.
pub const USUAL_PLACE: &str = "/etc/grasp/config.toml";

/// The option that names it, without dashes.
pub(super) const OPTION: &str = "config";

const VARIABLE: &str = "GRASP_CONFIG";

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> ConfigFile {
        ConfigFile::parse(PathBuf::from("c.toml"), text)
    }

    fn values(text: &str) -> Vec<(String, String, usize)> {
        let settings = file(text).settings.into_iter();
        settings
            .map(|setting| (setting.key, setting.value, setting.line))
            .collect()
    }

    #[test]
    fn each_sort_of_value_is_read_with_its_line() {
        let text = "# first\ndomain = \"git.example\"\n\nheld-max = 1_000\nflag = true\nlist = [\n  'a', 'b',\n]\n";
        let row = |key: &str, value: &str, line| (key.to_owned(), value.to_owned(), line);
        assert_eq!(
            values(text),
            [
                row("domain", "git.example", 2),
                row("held-max", "1000", 4),
                row("flag", "true", 5),
                row("list", "a,b", 6)
            ]
        );
    }

    #[test]
    fn every_line_that_is_no_setting_is_named() {
        let mistakes = file("a = \nb = 1\nb = 2\n[table]\nc = 1979-05-27\n\n= x\n").mistakes;
        let text = mistakes.join("\n");
        for line in [
            "line 1:",
            "line 3: duplicate key b",
            "line 4: the file has no tables: remove the line [table]",
            "line 7:",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }

    /// Anyone may read the file.
    #[test]
    fn a_password_in_any_url_of_a_value_is_a_mistake() {
        for (value, expected) in [
            ("redis://user:secret@h", true),
            ("redis://:a,b@h", true),
            ("unix:///run/redis.sock?pass=secret", true),
            ("redis://one, redis://user:secret@two", true),
            ("redis://one,unix:///run/redis.sock?user=me&pass=secret", true),
            ("redis://one,redis://user@two", false),
        ] {
            let setting = Setting {
                key: "redis-url".to_owned(),
                value: value.to_owned(),
                line: 1,
            };
            let mistake = mistake_in(&setting, &Arg::new("redis-url").long("redis-url"));
            assert_eq!(
                mistake.is_some_and(|mistake| mistake.contains("contains a password")),
                expected,
                "{value}"
            );
        }
    }

    #[test]
    fn what_only_the_plugin_has_is_checked_by_every_program_that_reads_the_file() {
        let file = file("chain = 'exec /x'\nchain-for = 'both'\nchain-timeout-ms = 0\nchain-on-error = 'accept'\n");
        let mut errors = ConfigErrors::default();

        file.put_into(Command::new("grasp-gateway"), &mut errors);

        assert_eq!(errors.lines.len(), 2, "{errors}");
        assert!(errors.lines[0].starts_with("c.toml, line 2: chain-for"), "{errors}");
        assert!(
            errors.lines[1].starts_with("c.toml, line 3: chain-timeout-ms"),
            "{errors}"
        );
    }

    #[test]
    fn the_setting_that_was_meant_is_named() {
        let command = Command::new("test");
        for (key, meant) in [
            ("redis-password", Some("redis-password-file")),
            ("holdsecs", Some("hold-secs")),
            ("redis", None),
            ("held", None),
        ] {
            let text = unknown(key, &command);
            let named = meant.map(|meant| format!("did you mean {meant}?"));
            assert_eq!(
                text.split_once(": ").map(|(_, named)| named),
                named.as_deref(),
                "{text}"
            );
        }
    }

    #[test]
    fn what_has_changed_is_named_by_key() {
        let (before, after) = (file("a = 1\nb = 2\nc = 3"), file("# moved\nb = 2\na = 2\nd = 4"));
        assert_eq!(before.keys_that_differ(&after), ["a", "c", "d"]);
        assert!(before.keys_that_differ(&before).is_empty());
    }

    #[test]
    fn an_error_about_several_options_leads_to_their_lines() {
        let file = file("redis-url = 'x'\nredis = 1\nrepos-deny = '/nowhere'\n");
        let named = |error: &str| file.lines_named_in(error);
        assert_eq!(
            named("--relay-url needs --redis-url: both").as_deref(),
            Some("c.toml has redis-url in line 1")
        );
        assert_eq!(
            named("cannot use the list /nowhere").as_deref(),
            Some("c.toml has repos-deny in line 3")
        );
        assert_eq!(named("--domain must be given"), None);
    }

    #[test]
    fn the_file_is_named_in_either_form() {
        for arguments in [&["p", "serve", "--config", "f"][..], &["p", "--config=f", "--bind=x"]] {
            let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
            assert_eq!(named_by(&arguments), Some("f".into()));
        }
        assert_eq!(named_by(&["p".into(), "--configure=f".into()]), None);
    }
}
