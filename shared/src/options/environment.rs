//! The rest of the environment: variables that no option has, and the log level. A mistake there is reported: otherwise
//! the program would ignore it silently.

use std::collections::BTreeSet;
use std::fmt;

use clap::Arg;
use clap::Command;

use crate::options::redis_password;

/// A variable that looks like one of ours but is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownVariable {
    /// Its name.
    pub name: String,
    /// The variable that is most like it, if one is like it at all.
    pub meant: Option<String>,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// A JSON object a line.
    Json,
}

/// What the variables of the log cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// What is logged.
    #[error(
        "GRASP_LOG has {part:?}: it must be error, warn, info, debug, trace or off, or such levels for modules as in \
         warn,grasp_gateway::reconcile=debug"
    )]
    Directives {
        /// Which part of it.
        part: String,
    },
    /// How it is written.
    #[error("GRASP_LOG_FORMAT is {0:?}: it must be text or json")]
    Format(String),
}

impl fmt::Display for UnknownVariable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not a variable of this program", self.name)?;
        match &self.meant {
            Some(meant) => write!(f, ": did you mean {meant}?"),
            None => Ok(()),
        }
    }
}

/// Returns the variable of the option with this name.
pub(super) fn variable_of(long: &str) -> String {
    format!("{PREFIX}{}", long.to_uppercase().replace('-', "_"))
}

/// Whether an option has a variable of ours, and so is a setting that a file may have too.
pub(super) fn has_variable(argument: &Arg) -> bool {
    let variable = argument.get_env().and_then(|variable| variable.to_str());
    variable.is_some_and(|variable| variable.starts_with(PREFIX))
}

/// Returns the variables that begin as ours do, and that neither `command` nor one of its subcommands has.
pub fn unknown_variables(command: &Command) -> Vec<UnknownVariable> {
    let mut known = BTreeSet::from([LOG, LOG_FORMAT, redis_password::VARIABLE].map(str::to_owned));
    collect_variables(command, &mut known);
    let set = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    unknown(set.filter(|name| name.starts_with(PREFIX)), &known)
}

fn collect_variables(command: &Command, known: &mut BTreeSet<String>) {
    let variables = command.get_arguments().filter_map(|argument| argument.get_env());
    known.extend(variables.map(|variable| variable.to_string_lossy().into_owned()));
    for subcommand in command.get_subcommands() {
        collect_variables(subcommand, known);
    }
}

fn unknown(set: impl Iterator<Item = String>, known: &BTreeSet<String>) -> Vec<UnknownVariable> {
    let unknown = set.filter(|name| !known.contains(name));
    unknown
        .map(|name| UnknownVariable {
            meant: nearest(&name, known),
            name,
        })
        .collect()
}

/// Returns the known name that somebody may have meant; what only lacks an underscore or a dash is the same.
pub(super) fn nearest(name: &str, known: &BTreeSet<String>) -> Option<String> {
    let bare = |name: &str| name.replace(['_', '-'], "");
    let distances = known
        .iter()
        .map(|known| (strsim::osa_distance(&bare(name), &bare(known)), known));
    let (distance, nearest) = distances.min()?;
    let own = bare(name.strip_prefix(PREFIX).unwrap_or(name));
    (distance <= TYPOS_MAX.min(own.len() / 3)).then(|| nearest.clone())
}

/// Returns the log directives: those of `GRASP_LOG`, or `default` without it.
///
/// # Errors
/// The variable is not a valid directive.
pub fn log_directives(default: &str) -> Result<String, LogError> {
    match std::env::var(LOG) {
        Ok(text) if !text.trim().is_empty() => check_directives(&text).map(|()| text),
        Ok(_) | Err(_) => Ok(default.to_owned()),
    }
}

/// Returns the format of the log: `GRASP_LOG_FORMAT`, or text without it.
///
/// # Errors
/// The variable names no format.
pub fn log_format() -> Result<LogFormat, LogError> {
    match std::env::var(LOG_FORMAT).unwrap_or_default().as_str() {
        "" | "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        other => Err(LogError::Format(other.to_owned())),
    }
}

/// A bare word that is not a level would be taken for the name of a module that does not exist.
fn check_directives(text: &str) -> Result<(), LogError> {
    for part in text.split(',').map(str::trim) {
        let is_sound = match part.rsplit_once('=') {
            Some((module, level)) => !module.is_empty() && is_level(level),
            None => is_level(part) || part.contains("::"),
        };
        if !is_sound {
            let part = part.to_owned();
            return Err(LogError::Directives { part });
        }
    }
    Ok(())
}

fn is_level(text: &str) -> bool {
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    levels.iter().any(|level| text.eq_ignore_ascii_case(level))
}

const PREFIX: &str = "GRASP_";

const LOG: &str = "GRASP_LOG";

const LOG_FORMAT: &str = "GRASP_LOG_FORMAT";

/// Characters in which a name may differ from the one that was meant; a short one, in a third of them.
const TYPOS_MAX: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_variable_is_named_with_the_one_that_was_meant() {
        let known: BTreeSet<String> = ["GRASP_RELAY_URL", "GRASP_REDIS_URL", "GRASP_LOG", "GRASP_BIND"]
            .map(str::to_owned)
            .into();
        for (name, meant) in [
            ("GRASP_RELAYURL", Some("GRASP_RELAY_URL")),
            ("GRASP_REDSI_URL", Some("GRASP_REDIS_URL")),
            ("GRASP_LOGS", Some("GRASP_LOG")),
            ("GRASP_FOO", None),
            ("GRASP_TEST_REDIS", None),
            ("AUDIT_BIN", None),
        ] {
            let found = unknown([name.to_owned()].into_iter(), &known);

            let meant = meant.map(str::to_owned);
            assert_eq!(
                found,
                [UnknownVariable {
                    name: name.to_owned(),
                    meant
                }]
            );
        }
        assert!(unknown(known.clone().into_iter(), &known).is_empty());
    }

    #[test]
    fn what_is_logged_is_a_level_or_levels_of_modules() {
        for text in [
            "info",
            "WARN",
            "off",
            "warn,grasp_gateway::reconcile=debug",
            "info, nostr_lmdb=warn",
            "a::b",
        ] {
            assert_eq!(check_directives(text), Ok(()), "{text}");
        }
        for text in ["debgu", "verbose", "info,", "grasp_gateway=loud", "=debug", "all"] {
            assert!(check_directives(text).is_err(), "{text}");
        }
    }
}
