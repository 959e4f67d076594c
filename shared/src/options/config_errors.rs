//! Reads the options of a program, from its command line and its environment, and names everything that is wrong at
//! once: clap alone ends at the first mistake.

use std::error::Error;
use std::ffi::OsString;
use std::fmt;

use clap::Arg;
use clap::ArgAction;
use clap::Command;
use clap::Parser;
use clap::builder::OsStringValueParser;
use clap::error::ContextKind;
use clap::error::ContextValue;
use clap::error::ErrorKind;

/// Everything that is wrong with the options of a program.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConfigErrors {
    /// Each with what is expected instead.
    pub lines: Vec<String>,
    /// The options whose values are invalid, without their dashes.
    invalid: Vec<String>,
}

impl ConfigErrors {
    /// Adds an error.
    pub fn push(&mut self, error: impl Into<String>) {
        self.lines.push(error.into());
    }

    /// Returns whether an option, which has its default or none now, was given an invalid value.
    pub fn has_invalid(&self, option: &str) -> bool {
        self.invalid.iter().any(|invalid| invalid == option)
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot start because of configuration errors:")?;
        self.lines.iter().try_for_each(|error| write!(f, "\n  - {error}"))
    }
}

impl Error for ConfigErrors {}

/// The options of a program, with the checks that concern more than one of them, or files.
pub trait ProgramOptions: Parser {
    /// Returns the command with its environment variables.
    fn definition() -> Command {
        with_variables(Self::command())
    }

    /// Adds what is wrong with options whose values are valid one by one.
    fn check(&self, errors: &mut ConfigErrors);
}

/// Reads the options of a program. Ends it as clap does for `--help`, and for what stops clap from reading on, such as
/// an unknown option.
pub fn read_options<O: ProgramOptions>(arguments: &[OsString]) -> Result<O, ConfigErrors> {
    let mut command = O::definition();
    let mut errors = ConfigErrors::default();
    loop {
        let read = command.clone().try_get_matches_from(arguments);
        let error = match read.and_then(|mut matches| O::from_arg_matches_mut(&mut matches)) {
            Ok(options) => {
                options.check(&mut errors);
                return if errors.lines.is_empty() {
                    Ok(options)
                } else {
                    Err(errors)
                };
            }
            Err(error) => error,
        };
        let failed: Vec<Arg> = named_in(&error)
            .iter()
            .filter_map(|shown| find(&command, shown, arguments))
            .filter(|argument| !argument.get_id().as_str().ends_with(SET_ASIDE))
            .cloned()
            .collect();
        if failed.is_empty() && errors.lines.is_empty() {
            error.exit();
        } else if failed.is_empty() {
            return Err(errors);
        }
        for argument in failed {
            errors.push(describe(&error, &argument, arguments));
            errors.invalid.extend(argument.get_long().map(str::to_owned));
            command = set_aside(command, &argument);
        }
    }
}

/// Gives each option the environment variable of its name: `GRASP_HOLD_SECS` for `--hold-secs`.
pub fn with_variables(command: Command) -> Command {
    with_variables_for(command, |_| true)
}

/// Gives those options their environment variables that `has_one`.
pub fn with_variables_for(command: Command, has_one: impl Fn(&str) -> bool) -> Command {
    command.mut_args(|argument| match argument.get_long().map(str::to_owned) {
        Some(long) if has_one(&long) => argument.env(format!("GRASP_{}", long.to_uppercase().replace('-', "_"))),
        Some(_) | None => argument,
    })
}

/// Returns the options whose values are wrong or missing, as clap shows them: `--hold-secs <SECS>`.
fn named_in(error: &clap::Error) -> Vec<String> {
    let is_about_a_value = matches!(
        error.kind(),
        ErrorKind::ValueValidation | ErrorKind::InvalidValue | ErrorKind::MissingRequiredArgument
    );
    match error.get(ContextKind::InvalidArg).filter(|_| is_about_a_value) {
        Some(ContextValue::String(name)) => vec![name.clone()],
        Some(ContextValue::Strings(names)) => names.clone(),
        Some(_) | None => Vec::new(),
    }
}

fn find<'c>(command: &'c Command, shown: &str, arguments: &[OsString]) -> Option<&'c Arg> {
    let long = shown.strip_prefix("--")?.split([' ', '=']).next();
    let mut used = command;
    while let Some(subcommand) = arguments.iter().skip(1).find_map(|name| used.find_subcommand(name)) {
        used = subcommand;
    }
    used.get_arguments().find(|argument| argument.get_long() == long)
}

/// Lets an option fall back to its default, and gives its name to another one that takes any value.
fn set_aside(command: Command, failed: &Arg) -> Command {
    let command = command.mut_subcommands(|command| set_aside(command, failed));
    if !command.get_arguments().any(|argument| argument == failed) {
        return command;
    }
    let long = failed.get_long().unwrap_or_default().to_owned();
    let takes_anything = Arg::new(format!("{long}{SET_ASIDE}"))
        .long(long.clone())
        .action(ArgAction::Append)
        .num_args(0..=1)
        .value_parser(OsStringValueParser::new());
    let falls_back = |argument: Arg| {
        let is_required = argument.is_required_set();
        let argument = argument
            .long(format!("{long}{SET_ASIDE}"))
            .env(None::<&str>)
            .required(false);
        if is_required {
            argument.default_value(STAND_IN)
        } else {
            argument
        }
    };
    command.mut_arg(failed.get_id(), falls_back).arg(takes_anything)
}

/// Names the option or the variable, its value, and what is expected instead.
fn describe(error: &clap::Error, argument: &Arg, arguments: &[OsString]) -> String {
    let flag = format!("--{}", argument.get_long().unwrap_or_default());
    let variable = argument
        .get_env()
        .map(|variable| variable.to_string_lossy().into_owned());
    if error.kind() == ErrorKind::MissingRequiredArgument {
        return match variable {
            Some(variable) => format!("{flag} (or {variable}) must be given"),
            None => format!("{flag} must be given"),
        };
    }
    let is_flag = |text: &OsString| {
        let text = text.to_string_lossy();
        text.strip_prefix(&flag)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    };
    let name = variable.filter(|_| !arguments.iter().any(is_flag)).unwrap_or(flag);
    let expected = match (error.source(), error.get(ContextKind::ValidValue)) {
        (Some(source), _) => source.to_string(),
        (None, Some(ContextValue::Strings(values))) if !values.is_empty() => {
            format!("it must be {}", values.join(" or "))
        }
        (None, _) => "it must have a value".to_owned(),
    };
    match error.get(ContextKind::InvalidValue) {
        // What is not shown in --help is not shown here.
        Some(ContextValue::String(value)) if !value.is_empty() && !argument.is_hide_env_values_set() => {
            format!("{name} is {value:?}: {expected}")
        }
        Some(_) | None => format!("{name}: {expected}"),
    }
}

/// Ends the name of an option whose value has failed.
const SET_ASIDE: &str = " set aside";

/// What a required option is taken to be after its own value has failed, so that the others can be checked: a name
/// that is a valid domain, path and identifier. No program starts with it.
const STAND_IN: &str = "localhost";

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use clap::CommandFactory;

    use super::*;
    use crate::options::values::number;
    use crate::options::values::parsed;
    use crate::rules::Service;

    /// Options of each sort.
    #[derive(Parser)]
    struct SomeOptions {
        #[arg(long, value_parser = parsed::<Service>("a domain"))]
        domain: Service,
        #[arg(long, default_value_t = 5, value_parser = number(1..=9_u64))]
        count: u64,
        /// A variable that cargo sets for every test.
        #[arg(long, env = "CARGO_PKG_NAME", default_value_t = 1, value_parser = number(1..=9_u64))]
        from_variable: u64,
        #[arg(long, hide_env_values = true, value_parser = parsed::<u64>("a number"))]
        secret: Option<u64>,
        #[arg(long, value_parser = ["on", "off"])]
        state: Option<String>,
        #[arg(long)]
        path: Option<PathBuf>,
    }

    impl ProgramOptions for SomeOptions {
        fn definition() -> Command {
            Self::command()
        }

        fn check(&self, errors: &mut ConfigErrors) {
            if self.count == 5 && self.path.is_some() {
                errors.push("--path needs another --count");
            }
        }
    }

    fn read(arguments: &[&str]) -> Result<SomeOptions, Vec<String>> {
        let arguments: Vec<OsString> = ["test"].iter().chain(arguments).map(OsString::from).collect();
        read_options(&arguments).map_err(|errors| errors.lines)
    }

    #[test]
    fn valid_options_are_read() {
        let options = read(&["--domain=a.example", "--count=7", "--from-variable=2", "--state=on"]);

        let options = options.ok().unwrap();
        assert_eq!(options.domain.to_string(), "a.example");
        assert_eq!((options.count, options.from_variable, options.secret), (7, 2, None));
        assert_eq!((options.state.as_deref(), options.path), (Some("on"), None));
    }

    #[test]
    fn all_errors_of_flags_variables_and_options_together_are_named_at_once_without_secrets() {
        let errors = read(&[
            "--domain=https://x/",
            "--secret=hunter2",
            "--count",
            "10",
            "--state=maybe",
            "--path=/",
        ]);

        let mut errors = errors.err().unwrap();
        errors.sort();
        assert_eq!(
            errors,
            [
                "--count is \"10\": it must be a number from 1 to 9",
                "--domain is \"https://x/\": it must be a domain",
                "--path needs another --count",
                "--secret: it must be a number",
                "--state is \"maybe\": it must be on or off",
                "CARGO_PKG_NAME is \"shared\": it must be a number from 1 to 9",
            ]
        );
    }

    #[test]
    fn each_option_has_the_variable_of_its_name() {
        let command = with_variables(Command::new("test").arg(Arg::new("held").long("held-bytes-max")));

        let variable = command.get_arguments().next().unwrap().get_env().unwrap().to_owned();
        assert_eq!(variable, "GRASP_HELD_BYTES_MAX");
    }

    #[test]
    fn what_is_missing_is_named_with_the_rest() {
        let errors = read(&["--from-variable=0", "--count", "--state=", "--path=/"])
            .err()
            .unwrap();

        assert_eq!(
            errors,
            [
                "--from-variable is \"0\": it must be a number from 1 to 9",
                "--count: it must have a value",
                "--state: it must be on or off",
                "--domain must be given",
                "--path needs another --count",
            ]
        );
    }
}
