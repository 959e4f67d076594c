//! The limits of what is held as options, the same for both programs: each holds by its own.

use clap::Args;

use crate::options::checker::Checker;
use crate::purgatory::Limits;

/// The limits of what is held, as typed.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Limits of what waits for git data")]
pub struct LimitOptions {
    /// Most bytes of one event that waits for its git data, as JSON.
    #[arg(long, env = "GRASP_HELD_EVENT_BYTES_MAX", value_name = "N", default_value = "524288")]
    held_event_bytes_max: String,
    /// Most events of one author that wait for git data.
    #[arg(long, env = "GRASP_HELD_PER_AUTHOR_MAX", value_name = "N", default_value = "1000")]
    held_per_author_max: String,
    /// Most bytes of them together.
    #[arg(
        long,
        env = "GRASP_HELD_BYTES_PER_AUTHOR_MAX",
        value_name = "N",
        default_value = "16777216"
    )]
    held_bytes_per_author_max: String,
    /// Most events that wait from one source: an IPv4 address, a /64 of IPv6, or a relay that is synced from.
    #[arg(long, env = "GRASP_HELD_PER_SOURCE_MAX", value_name = "N", default_value = "10000")]
    held_per_source_max: String,
    /// Most bytes of them together.
    #[arg(
        long,
        env = "GRASP_HELD_BYTES_PER_SOURCE_MAX",
        value_name = "N",
        default_value = "67108864"
    )]
    held_bytes_per_source_max: String,
    /// Most events of repositories with one identifier, the releasing ones too.
    #[arg(
        long,
        env = "GRASP_HELD_PER_IDENTIFIER_MAX",
        value_name = "N",
        default_value = "2000"
    )]
    held_per_identifier_max: String,
    /// Most events that wait in all.
    #[arg(long, env = "GRASP_HELD_MAX", value_name = "N", default_value = "100000")]
    held_max: String,
    /// Most bytes of them together.
    #[arg(long, env = "GRASP_HELD_BYTES_MAX", value_name = "N", default_value = "268435456")]
    held_bytes_max: String,
    /// Most PR commits that were pushed before their events, in all.
    #[arg(long, env = "GRASP_PLACEHOLDERS_MAX", value_name = "N", default_value = "10000")]
    placeholders_max: String,
}

impl LimitOptions {
    /// Checks what was typed; `None` after complaining.
    pub fn check(&self, checker: &mut Checker) -> Option<Limits> {
        let event_bytes_max = checker.count("--held-event-bytes-max", &self.held_event_bytes_max);
        let entries_per_author_max = checker.count("--held-per-author-max", &self.held_per_author_max);
        let bytes_per_author_max = checker.count("--held-bytes-per-author-max", &self.held_bytes_per_author_max);
        let entries_per_source_max = checker.count("--held-per-source-max", &self.held_per_source_max);
        let bytes_per_source_max = checker.count("--held-bytes-per-source-max", &self.held_bytes_per_source_max);
        let entries_per_identifier_max = checker.count("--held-per-identifier-max", &self.held_per_identifier_max);
        let entries_max = checker.count("--held-max", &self.held_max);
        let bytes_max = checker.count("--held-bytes-max", &self.held_bytes_max);
        let placeholders_max = checker.count("--placeholders-max", &self.placeholders_max);
        Some(Limits {
            event_bytes_max: event_bytes_max?,
            entries_per_author_max: entries_per_author_max?,
            bytes_per_author_max: bytes_per_author_max?,
            entries_per_source_max: entries_per_source_max?,
            bytes_per_source_max: bytes_per_source_max?,
            entries_per_identifier_max: entries_per_identifier_max?,
            entries_max: entries_max?,
            bytes_max: bytes_max?,
            placeholders_max: placeholders_max?,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        limits: LimitOptions,
    }

    fn check(arguments: &[&str]) -> Result<Option<Limits>, crate::options::checker::Complaints> {
        let arguments = ["test"].iter().chain(arguments);
        let mut checker = Checker::default();
        let limits = Cli::try_parse_from(arguments).unwrap().limits.check(&mut checker);
        checker.finish().map(|()| limits)
    }

    #[test]
    fn the_defaults_are_those_of_the_purgatory() {
        assert_eq!(check(&[]).unwrap(), Some(Limits::default()));
    }

    #[test]
    fn a_limit_is_a_number_above_nothing() {
        let complaints = check(&["--held-max=0", "--held-bytes-max=1e9", "--placeholders-max=-1"]).unwrap_err();

        assert_eq!(complaints.0.len(), 3, "{complaints}");
    }
}
