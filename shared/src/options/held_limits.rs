//! The limits of what is held as options, the same for both programs: each enforces them by itself.

use clap::Args;

use crate::options::values::ByteCount;
use crate::options::values::COUNT_MAX;
use crate::options::values::byte_count;
use crate::options::values::number;

/// The limits of the purgatory. Bytes are those of the events as JSON; releasing events count only for the limit of an
/// identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
#[command(next_help_heading = "Limits of what waits for git data")]
pub struct Limits {
    /// Most bytes of one event that waits for its git data, as JSON.
    #[arg(long = "held-event-bytes-max", value_name = "BYTES", value_parser = byte_count,
          default_value = ByteCount(Self::DEFAULT.event_bytes_max).to_string())]
    pub event_bytes_max: u64,
    /// Most events of one author that wait for git data.
    #[arg(long = "held-per-author-max", value_name = "N", value_parser = number(1..=COUNT_MAX),
          default_value_t = Self::DEFAULT.entries_per_author_max)]
    pub entries_per_author_max: u64,
    /// Most bytes of the events of one author that wait.
    #[arg(long = "held-bytes-per-author-max", value_name = "BYTES", value_parser = byte_count,
          default_value = ByteCount(Self::DEFAULT.bytes_per_author_max).to_string())]
    pub bytes_per_author_max: u64,
    /// Most events that wait from one source: an IPv4 address, a /64 of IPv6, or a relay that is synced from.
    #[arg(long = "held-per-source-max", value_name = "N", value_parser = number(1..=COUNT_MAX),
          default_value_t = Self::DEFAULT.entries_per_source_max)]
    pub entries_per_source_max: u64,
    /// Most bytes of the events from one source that wait.
    #[arg(long = "held-bytes-per-source-max", value_name = "BYTES", value_parser = byte_count,
          default_value = ByteCount(Self::DEFAULT.bytes_per_source_max).to_string())]
    pub bytes_per_source_max: u64,
    /// Most events of repositories with one identifier, the releasing ones too.
    #[arg(long = "held-per-identifier-max", value_name = "N", value_parser = number(1..=COUNT_MAX),
          default_value_t = Self::DEFAULT.entries_per_identifier_max)]
    pub entries_per_identifier_max: u64,
    /// Most events that wait in all.
    #[arg(long = "held-max", value_name = "N", value_parser = number(1..=COUNT_MAX),
          default_value_t = Self::DEFAULT.entries_max)]
    pub entries_max: u64,
    /// Most bytes of the events that wait in all.
    #[arg(long = "held-bytes-max", value_name = "BYTES", value_parser = byte_count,
          default_value = ByteCount(Self::DEFAULT.bytes_max).to_string())]
    pub bytes_max: u64,
    /// Most PR commits that were pushed before their events, in all.
    #[arg(long = "placeholders-max", value_name = "N", value_parser = number(1..=COUNT_MAX),
          default_value_t = Self::DEFAULT.placeholders_max)]
    pub placeholders_max: u64,
}

impl Limits {
    /// Room for a busy public server, some hundreds of megabytes of Redis at worst.
    pub const DEFAULT: Self = Self {
        event_bytes_max: 512 << 10,
        entries_per_author_max: 1_000,
        bytes_per_author_max: 16 << 20,
        entries_per_source_max: 10_000,
        bytes_per_source_max: 64 << 20,
        entries_per_identifier_max: 2_000,
        entries_max: 100_000,
        bytes_max: 256 << 20,
        placeholders_max: 10_000,
    };
    /// No limits, as numbers that are exact in Redis too.
    pub(crate) const NONE: Self = Self {
        event_bytes_max: UNLIMITED,
        entries_per_author_max: UNLIMITED,
        bytes_per_author_max: UNLIMITED,
        entries_per_source_max: UNLIMITED,
        bytes_per_source_max: UNLIMITED,
        entries_per_identifier_max: UNLIMITED,
        entries_max: UNLIMITED,
        bytes_max: UNLIMITED,
        placeholders_max: UNLIMITED,
    };
}

const UNLIMITED: u64 = 1 << 53;

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct HeldLimitsOnly {
        #[command(flatten)]
        limits: Limits,
    }

    fn limits(arguments: &[&str]) -> Result<Limits, clap::Error> {
        let options = HeldLimitsOnly::try_parse_from(["test"].iter().chain(arguments));
        options.map(|options| options.limits)
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
