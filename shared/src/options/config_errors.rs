//! Everything that is wrong with the options of a program, wherever they come from, and how a wrong value is named.

use std::error::Error;
use std::fmt;

use clap::Arg;
use clap::error::ContextKind;
use clap::error::ContextValue;

/// Everything that is wrong with the options of a program.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConfigErrors {
    /// Each with the expected form.
    pub lines: Vec<String>,
    /// The options whose values are invalid, without their dashes.
    invalid: Vec<String>,
}

impl ConfigErrors {
    /// Adds an error.
    pub fn push(&mut self, error: impl Into<String>) {
        self.lines.push(error.into());
    }

    /// Adds that the value of an option is invalid.
    pub(super) fn push_invalid(&mut self, option: &str, error: String) {
        self.lines.push(error);
        self.invalid.push(option.to_owned());
    }

    /// Returns whether an option, which has its default or none now, was given an invalid value.
    pub fn has_invalid(&self, option: &str) -> bool {
        self.invalid.iter().any(|invalid| invalid == option)
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("configuration errors:")?;
        self.lines.iter().try_for_each(|error| write!(f, "\n  - {error}"))
    }
}

impl Error for ConfigErrors {}

/// Names the value of `name`, and the expected form.
pub(super) fn expectation(name: &str, error: &clap::Error, argument: &Arg) -> String {
    let expected = match (error.source(), error.get(ContextKind::ValidValue)) {
        (Some(source), _) => source.to_string(),
        (None, Some(ContextValue::Strings(values))) if !values.is_empty() => {
            format!("it must be {}", values.join(" or "))
        }
        (None, _) => "it must have a value".to_owned(),
    };
    match error.get(ContextKind::InvalidValue) {
        // Options that --help does not show are not shown here.
        Some(ContextValue::String(value)) if !value.is_empty() && !argument.is_hide_env_values_set() => {
            format!("{name} is {value:?}: {expected}")
        }
        Some(_) | None => format!("{name}: {expected}"),
    }
}

/// The stand-in for a required option after its own value has failed, so that the others can be checked: a name that is
/// a valid domain, path and identifier. No program starts with it.
pub(super) const STAND_IN: &str = "localhost";
