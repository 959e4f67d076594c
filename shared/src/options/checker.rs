//! Checks of what an operator typed: every complaint is collected, so that one start shows all of them.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Everything that is wrong with some settings, each with what is expected instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaints(pub Vec<String>);

impl fmt::Display for Complaints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot start with these settings:")?;
        self.0.iter().try_for_each(|complaint| write!(f, "\n  - {complaint}"))
    }
}

impl std::error::Error for Complaints {}

/// Collects complaints while settings are read.
#[derive(Debug, Default)]
pub struct Checker {
    complaints: Vec<String>,
}

impl Checker {
    /// Adds a complaint.
    pub fn complain(&mut self, complaint: impl Into<String>) {
        self.complaints.push(complaint.into());
    }

    /// Reads the value of an option; `None` after complaining that it must be `expected`.
    pub fn parse<T: FromStr>(&mut self, option: &str, value: &str, expected: &str) -> Option<T> {
        let parsed = value.parse().ok();
        if parsed.is_none() {
            self.complain(format!("{option} is {value:?}: it must be {expected}"));
        }
        parsed
    }

    /// Reads a number of seconds, from `least` up to [`SECS_MAX`].
    pub fn secs(&mut self, option: &str, value: &str, least: u64) -> Option<u64> {
        let secs = value.parse().ok().filter(|secs| (least..=SECS_MAX).contains(secs));
        if secs.is_none() {
            self.complain(format!(
                "{option} is {value:?}: it must be a number of seconds from {least} to {SECS_MAX}"
            ));
        }
        secs
    }

    /// Reads a number of something, such as milliseconds.
    pub fn number(&mut self, option: &str, value: &str, range: RangeInclusive<u64>, of: &str) -> Option<u64> {
        let number = value.parse().ok().filter(|number| range.contains(number));
        if number.is_none() {
            let (least, most) = (range.start(), range.end());
            self.complain(format!(
                "{option} is {value:?}: it must be a number of {of} from {least} to {most}"
            ));
        }
        number
    }

    /// Reads a number of days, up to [`DAYS_MAX`].
    pub fn days(&mut self, option: &str, value: &str) -> Option<u64> {
        let days = value.parse().ok().filter(|days| *days <= DAYS_MAX);
        if days.is_none() {
            self.complain(format!(
                "{option} is {value:?}: it must be a number of days from 0 to {DAYS_MAX}"
            ));
        }
        days
    }

    /// Reads a number of things, from 1 up to [`COUNT_MAX`].
    pub fn count(&mut self, option: &str, value: &str) -> Option<u64> {
        let count = value.parse().ok().filter(|count| (1..=COUNT_MAX).contains(count));
        if count.is_none() {
            self.complain(format!(
                "{option} is {value:?}: it must be a number from 1 to {COUNT_MAX}"
            ));
        }
        count
    }

    /// Reads a URL of one of the schemes. The complaint does not repeat it: it may hold a password.
    pub fn url(&mut self, option: &str, value: &str, schemes: &[&str], example: &str) -> Option<String> {
        let valid = url::Url::parse(value).is_ok_and(|url| schemes.contains(&url.scheme()) && url.has_host());
        if !valid {
            self.complain(format!("{option} must be a URL such as {example}"));
        }
        valid.then(|| value.to_owned())
    }

    /// Ends the checks.
    ///
    /// # Errors
    /// All complaints, if there is any.
    pub fn finish(self) -> Result<(), Complaints> {
        if self.complaints.is_empty() {
            Ok(())
        } else {
            Err(Complaints(self.complaints))
        }
    }
}

/// Longest time that a setting takes: one year, so that no sum of times overflows.
pub const SECS_MAX: u64 = 31_536_000;

/// Longest time in days that a setting takes: a hundred years.
pub const DAYS_MAX: u64 = 36_500;

/// Highest count that a setting takes: every number up to it is exact in Redis too.
pub const COUNT_MAX: u64 = 1_000_000_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_complaints_are_made_and_no_password_is_repeated() {
        let mut checker = Checker::default();

        assert_eq!(checker.secs("--a", "-1", 0), None);
        assert_eq!(checker.secs("--b", "0", 1), None);
        assert_eq!(checker.count("--e", "0"), None);
        assert_eq!(checker.count("--f", "1"), Some(1));
        assert_eq!(checker.url("--c", "http://u:secret@h", &["redis"], "redis://h"), None);
        assert_eq!(checker.parse::<u16>("--d", "x", "a port"), None);

        assert_eq!(checker.number("--g", "11", 1..=10, "milliseconds"), None);
        assert_eq!(checker.number("--h", "10", 1..=10, "milliseconds"), Some(10));

        let text = checker.finish().unwrap_err().to_string();
        assert_eq!(text.lines().count(), 7, "{text}");
        assert!(!text.contains("secret"), "{text}");
    }
}
