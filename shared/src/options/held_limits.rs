//! The limits of what is held as options, the same for both programs: each enforces them by itself.

use clap::Args;

use crate::options::values::ByteCount;
use crate::options::values::COUNT_MAX;
use crate::options::values::number;
use crate::purgatory::Limits;

/// The limits of what is held.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Limits of what waits for git data")]
pub struct HeldLimitOptions {
    /// Most bytes of one event that waits for its git data, as JSON.
    #[arg(long, value_name = "BYTES", default_value_t = ByteCount(Limits::DEFAULT.event_bytes_max))]
    held_event_bytes_max: ByteCount,
    /// Most events of one author that wait for git data.
    #[arg(long, value_name = "N", value_parser = number(1..=COUNT_MAX),
          default_value_t = Limits::DEFAULT.entries_per_author_max)]
    held_per_author_max: u64,
    /// Most bytes of the events of one author that wait.
    #[arg(long, value_name = "BYTES", default_value_t = ByteCount(Limits::DEFAULT.bytes_per_author_max))]
    held_bytes_per_author_max: ByteCount,
    /// Most events that wait from one source: an IPv4 address, a /64 of IPv6, or a relay that is synced from.
    #[arg(long, value_name = "N", value_parser = number(1..=COUNT_MAX),
          default_value_t = Limits::DEFAULT.entries_per_source_max)]
    held_per_source_max: u64,
    /// Most bytes of the events from one source that wait.
    #[arg(long, value_name = "BYTES", default_value_t = ByteCount(Limits::DEFAULT.bytes_per_source_max))]
    held_bytes_per_source_max: ByteCount,
    /// Most events of repositories with one identifier, the releasing ones too.
    #[arg(long, value_name = "N", value_parser = number(1..=COUNT_MAX),
          default_value_t = Limits::DEFAULT.entries_per_identifier_max)]
    held_per_identifier_max: u64,
    /// Most events that wait in all.
    #[arg(long, value_name = "N", value_parser = number(1..=COUNT_MAX), default_value_t = Limits::DEFAULT.entries_max)]
    held_max: u64,
    /// Most bytes of the events that wait in all.
    #[arg(long, value_name = "BYTES", default_value_t = ByteCount(Limits::DEFAULT.bytes_max))]
    held_bytes_max: ByteCount,
    /// Most PR commits that were pushed before their events, in all.
    #[arg(long, value_name = "N", value_parser = number(1..=COUNT_MAX),
          default_value_t = Limits::DEFAULT.placeholders_max)]
    placeholders_max: u64,
}

impl From<HeldLimitOptions> for Limits {
    fn from(options: HeldLimitOptions) -> Self {
        Self {
            event_bytes_max: options.held_event_bytes_max.0,
            entries_per_author_max: options.held_per_author_max,
            bytes_per_author_max: options.held_bytes_per_author_max.0,
            entries_per_source_max: options.held_per_source_max,
            bytes_per_source_max: options.held_bytes_per_source_max.0,
            entries_per_identifier_max: options.held_per_identifier_max,
            entries_max: options.held_max,
            bytes_max: options.held_bytes_max.0,
            placeholders_max: options.placeholders_max,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct HeldLimitsOnly {
        #[command(flatten)]
        limits: HeldLimitOptions,
    }

    fn limits(arguments: &[&str]) -> Result<Limits, clap::Error> {
        let options = HeldLimitsOnly::try_parse_from(["test"].iter().chain(arguments));
        options.map(|options| options.limits.into())
    }

    #[test]
    fn the_defaults_are_those_of_the_purgatory() {
        assert_eq!(limits(&[]).unwrap(), Limits::default());
    }

    #[test]
    fn each_option_sets_its_own_limit() {
        let limits = limits(&[
            "--held-event-bytes-max=1",
            "--held-per-author-max=2",
            "--held-bytes-per-author-max=3KiB",
            "--held-per-source-max=4",
            "--held-bytes-per-source-max=5",
            "--held-per-identifier-max=6",
            "--held-max=7",
            "--held-bytes-max=8MiB",
            "--placeholders-max=9",
        ]);

        let expected = Limits {
            event_bytes_max: 1,
            entries_per_author_max: 2,
            bytes_per_author_max: 3 << 10,
            entries_per_source_max: 4,
            bytes_per_source_max: 5,
            entries_per_identifier_max: 6,
            entries_max: 7,
            bytes_max: 8 << 20,
            placeholders_max: 9,
        };
        assert_eq!(limits.unwrap(), expected);
    }

    #[test]
    fn a_limit_is_a_number_above_nothing() {
        for wrong in ["--held-max=0", "--held-bytes-max=1e9", "--placeholders-max=-1"] {
            assert!(limits(&[wrong]).is_err(), "{wrong}");
        }
    }
}
