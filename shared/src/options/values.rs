//! The values of options: numbers in a range, times and sizes with units.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
pub use humantime::Duration as HumanDuration;

/// The expected form of a value, as in "it must be a number from 1 to 16". Never repeats the value, which may contain a
/// password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it must be {0}")]
pub struct Expected(pub(super) String);

impl Expected {
    /// The end of the sentence "it must be ...".
    pub fn new(expected: String) -> Self {
        Self(expected)
    }
}

/// A number of bytes, written as an operator would: `512MiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteCount(pub u64);

impl fmt::Display for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match units
            .iter()
            .find(|(unit, _)| self.0 >= *unit && self.0.is_multiple_of(*unit))
        {
            Some((unit, name)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}", self.0),
        }
    }
}

impl FromStr for ByteCount {
    type Err = Expected;

    /// Parses from 1 to [`COUNT_MAX`] bytes; a plain number is one of bytes.
    fn from_str(text: &str) -> Result<Self, Expected> {
        let size = text.parse::<ByteSize>().ok().map(|size| size.as_u64());
        let size = size.filter(|size| (1..=COUNT_MAX).contains(size));
        let expected = || {
            Expected(format!(
                "a number of bytes from 1 to {COUNT_MAX}, or such a size as 512MiB"
            ))
        };
        size.map(Self).ok_or_else(expected)
    }
}

/// Parses a number of bytes as [`ByteCount`] does.
pub fn byte_count(text: &str) -> Result<u64, Expected> {
    text.parse().map(|ByteCount(bytes)| bytes)
}

/// Returns a parser for a type with a `FromStr` of its own; `expected` ends the sentence "it must be ...".
pub fn parsed<T: FromStr>(expected: &'static str) -> impl Fn(&str) -> Result<T, Expected> + Clone {
    move |text| text.parse().map_err(|_| Expected(expected.to_owned()))
}

/// Returns a parser of whole numbers.
pub fn number<T>(range: RangeInclusive<T>) -> impl Fn(&str) -> Result<T, Expected> + Clone
where
    T: FromStr + PartialOrd + fmt::Display + Clone,
{
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| Expected(format!("a number from {} to {}", range.start(), range.end())))
    }
}

/// Returns a parser of times in whole seconds; a plain number is one of seconds.
pub fn seconds(range: RangeInclusive<u64>) -> impl Fn(&str) -> Result<HumanDuration, Expected> + Clone {
    let count = count_of(Duration::from_secs(1), range, "seconds", "90s or 30m");
    move |text| Ok(secs(count(text)?))
}

/// Returns a parser of times in whole milliseconds; a plain number is one of milliseconds.
pub fn milliseconds(range: RangeInclusive<u64>) -> impl Fn(&str) -> Result<HumanDuration, Expected> + Clone {
    let count = count_of(Duration::from_millis(1), range, "milliseconds", "200ms or 1s");
    move |text| Ok(HumanDuration::new(Duration::from_millis(count(text)?)))
}

/// Returns a parser of days; a plain number is one of days.
pub fn days(range: RangeInclusive<u64>) -> impl Fn(&str) -> Result<u64, Expected> + Clone {
    count_of(Duration::from_secs(86_400), range, "days", "90d")
}

/// Returns a number of seconds.
pub const fn secs(secs: u64) -> HumanDuration {
    HumanDuration::new(Duration::from_secs(secs))
}

/// Returns a parser of how many units a time has; `name` and `example` are for the operator.
fn count_of(
    unit: Duration,
    range: RangeInclusive<u64>,
    name: &'static str,
    example: &'static str,
) -> impl Fn(&str) -> Result<u64, Expected> + Clone {
    let (least, most) = (*range.start(), *range.end());
    move |text| {
        let in_units = || {
            let (time, unit) = (humantime::parse_duration(text).ok()?.as_nanos(), unit.as_nanos());
            time.is_multiple_of(unit).then(|| u64::try_from(time / unit).ok())?
        };
        let count = text.parse().ok().or_else(in_units);
        count.filter(|count| (least..=most).contains(count)).ok_or_else(|| {
            Expected(format!(
                "a number of {name} from {least} to {most}, or such a time as {example}"
            ))
        })
    }
}

/// Longest time that an option takes, in seconds: one year, so that no sum of times overflows.
pub const SECS_MAX: u64 = 365 * 86_400;

/// Longest time that an option takes, in days: a hundred years.
pub const DAYS_MAX: u64 = 36_500;

/// Highest count that an option takes: every number up to it is exact in Redis too.
pub const COUNT_MAX: u64 = 1_000_000_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_plain_numbers_or_have_units() {
        let seconds = seconds(1..=SECS_MAX);
        for (text, secs) in [
            ("1800", 1800),
            ("30m", 1800),
            ("90s", 90),
            ("1h 30min", 5400),
            ("1d", 86400),
        ] {
            assert_eq!(seconds(text).as_deref(), Ok(&Duration::from_secs(secs)), "{text}");
        }
        for text in [
            "",
            "0",
            "0s",
            "-1",
            "1.5",
            "500ms",
            "1500ms",
            "soon",
            "30 m x",
            "366d",
            "99999999999999999999",
        ] {
            assert!(seconds(text).is_err(), "{text}");
        }
        assert_eq!(milliseconds(0..=10_000)("1s"), milliseconds(0..=10_000)("1000"));
        assert_eq!(days(0..=DAYS_MAX)("90d"), days(0..=DAYS_MAX)("90"));
        assert!(days(0..=DAYS_MAX)("36501").is_err());
        assert!(days(0..=DAYS_MAX)("12h").is_err());
    }

    #[test]
    fn sizes_are_plain_numbers_or_have_units() {
        for (text, size) in [
            ("1", 1),
            ("536870912", 512 << 20),
            ("512MiB", 512 << 20),
            ("1GB", 1_000_000_000),
        ] {
            assert_eq!(text.parse(), Ok(ByteCount(size)), "{text}");
        }
        for text in [
            "",
            "0",
            "0KiB",
            "-1",
            "many",
            "1e9",
            "1m30s",
            "1EiB",
            "99999999999999999999GiB",
        ] {
            assert!(text.parse::<ByteCount>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_written_as_they_are_read() {
        for (size, text) in [
            (1, "1"),
            (1023, "1023"),
            (1536, "1536"),
            (512 << 10, "512KiB"),
            (4 << 30, "4GiB"),
        ] {
            assert_eq!(ByteCount(size).to_string(), text);
            assert_eq!(text.parse(), Ok(ByteCount(size)));
        }
    }

    #[test]
    fn a_number_is_in_its_range() {
        let number = number(1..=10_u64);

        assert_eq!(number("10"), Ok(10));
        for text in ["0", "11", "-1", "x", ""] {
            let error = number(text).unwrap_err();
            assert_eq!(error.to_string(), "it must be a number from 1 to 10", "{text}");
        }
    }
}
