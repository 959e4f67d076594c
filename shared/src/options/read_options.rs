//! Reads the options of a program, from its command line, its environment and the configuration file, and names
//! everything that is wrong at once: clap alone ends at the first mistake.

use std::ffi::OsString;
use std::path::Path;

use clap::Arg;
use clap::ArgAction;
use clap::Command;
use clap::Parser;
use clap::builder::OsStringValueParser;
use clap::error::ContextKind;
use clap::error::ContextValue;
use clap::error::ErrorKind;

use crate::options::config_errors::ConfigErrors;
use crate::options::config_errors::STAND_IN;
use crate::options::config_errors::expectation;
use crate::options::config_file;
use crate::options::config_file::ConfigFile;
use crate::options::environment::variable_of;

/// The options of a program, with the checks that concern more than one of them, or files.
pub trait ProgramOptions: Parser {
    /// Returns the command with its environment variables.
    fn definition() -> Command {
        with_variables(Self::command())
    }

    /// Adds the errors of options whose values are valid one by one.
    fn check(&self, errors: &mut ConfigErrors);
}

/// Reads the options of a program. Ends it as clap does for `--help`, and for what stops clap from reading on, such as
/// an unknown option.
pub fn read_options<O: ProgramOptions>(arguments: &[OsString]) -> Result<O, ConfigErrors> {
    let command = O::definition();
    let is_file = |argument: &Arg| argument.get_long() == Some(config_file::OPTION);
    let takes_file = used(&command, arguments).get_arguments().any(is_file);
    match ConfigFile::of_program(arguments).filter(|_| takes_file) {
        Some(file) => read_with_file(command, &file, arguments, |command| command),
        None => read(command, ConfigErrors::default(), arguments),
    }
}

/// Returns the options that a file alone makes, whatever the environment; `arguments` only name the command.
///
/// # Errors
/// Every mistake in the file.
pub fn check_file<O: ProgramOptions>(file: &Path, arguments: &[OsString]) -> Result<O, ConfigErrors> {
    read_with_file(O::definition(), &ConfigFile::read(file), arguments, without_variables)
}

fn read_with_file<O: ProgramOptions>(
    command: Command,
    file: &ConfigFile,
    arguments: &[OsString],
    prepare: impl FnOnce(Command) -> Command,
) -> Result<O, ConfigErrors> {
    let mut errors = ConfigErrors::default();
    let command = file.put_into(command, &mut errors);
    let from_file = errors.lines.len();
    read(prepare(command), errors, arguments).map_err(|mut errors| {
        for error in errors.lines.iter_mut().skip(from_file) {
            if let Some(lines) = file.lines_named_in(error) {
                error.push_str(&format!(" ({lines})"));
            }
        }
        errors
    })
}

fn read<O: ProgramOptions>(
    command: Command,
    mut errors: ConfigErrors,
    arguments: &[OsString],
) -> Result<O, ConfigErrors> {
    let mut command = without_empty_variables(command);
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
            let option = argument.get_long().unwrap_or_default();
            errors.push_invalid(option, describe(&error, &argument, arguments));
            command = set_aside(command, &argument);
        }
    }
}

/// Gives each option the environment variable of its name: `GRASP_HOLD_SECS` for `--hold-secs`.
pub fn with_variables(command: Command) -> Command {
    with_variables_for(command, |_| true)
}

/// Gives those options their environment variables that `has_one`, and the command the option that names a file with
/// them.
pub fn with_variables_for(command: Command, has_one: impl Fn(&str) -> bool) -> Command {
    let config = Arg::new(config_file::OPTION)
        .long(config_file::OPTION)
        .value_name("FILE")
        .env(variable_of(config_file::OPTION))
        .value_parser(OsStringValueParser::new())
        .help_heading(None)
        .help(format!(
            "File with these settings for both programs (TOML); variables and options override it [default: {} if it \
             is there]",
            config_file::USUAL_PLACE
        ));
    command
        .arg(config)
        .mut_args(|argument| match argument.get_long().map(str::to_owned) {
            Some(long) if has_one(&long) => argument.env(variable_of(&long)),
            Some(_) | None => argument,
        })
}

/// A variable that is set to nothing is how an environment file leaves it unset.
pub(super) fn without_empty_variables(command: Command) -> Command {
    let command = command.mut_subcommands(without_empty_variables);
    command.mut_args(|argument| {
        let set = argument.get_env().and_then(std::env::var_os);
        match set.is_some_and(|value| value.is_empty()) {
            true => argument.env(None::<&str>),
            false => argument,
        }
    })
}

fn without_variables(command: Command) -> Command {
    let command = command.mut_subcommands(without_variables);
    command.mut_args(|argument| argument.env(None::<&str>))
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
    let mut arguments = used(command, arguments).get_arguments();
    arguments.find(|argument| argument.get_long() == long)
}

/// Returns the command that is called.
fn used<'c>(mut command: &'c Command, arguments: &[OsString]) -> &'c Command {
    while let Some(subcommand) = arguments.iter().skip(1).find_map(|name| command.find_subcommand(name)) {
        command = subcommand;
    }
    command
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

/// Names the option or the variable, its value, and the expected form.
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
    expectation(&name, error, argument)
}

/// Ends the name of an option whose value has failed.
const SET_ASIDE: &str = " set aside";

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
        /// A variable that cargo sets to nothing, as the version has no such part.
        #[arg(long, env = "CARGO_PKG_VERSION_PRE", value_parser = number(1..=9_u64))]
        from_empty: Option<u64>,
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
    fn an_empty_variable_is_as_if_it_were_not_there() {
        assert_eq!(std::env::var("CARGO_PKG_VERSION_PRE").as_deref(), Ok(""));

        let options = read(&["--domain=a.example", "--from-variable=2"]).ok().unwrap();

        assert_eq!(options.from_empty, None);
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
