//! The limits of held events as options, the same for both programs: each enforces them by itself.

use clap::Args;

use crate::options::values::ByteCount;
use crate::options::values::COUNT_MAX;
use crate::options::values::HumanDuration;
use crate::options::values::SECS_MAX;
use crate::options::values::byte_count;
use crate::options::values::number;
use crate::options::values::seconds;
use crate::options::values::secs;

/// The limits of the purgatory. Bytes are those of the events as JSON, and of an announcement also what the index of
/// listings takes; releasing events count only for the limits of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
#[command(next_help_heading = "Limits of events that wait for git data")]
pub struct Limits {
    /// How long an event waits for its git data. Give both programs the same.
    #[arg(long = "hold-secs", value_name = "SECS", value_parser = seconds(1..=SECS_MAX),
          default_value_t = Self::DEFAULT.hold)]
    pub hold: HumanDuration,
    /// Maximum bytes of one event that waits for its git data, as JSON.
    #[arg(long = "held-event-bytes-max", value_name = "BYTES", value_parser = byte_count,
          default_value = ByteCount(Self::DEFAULT.event_bytes_max).to_string())]
    pub event_bytes_max: u64,
    /// Maximum number of waiting events of one author, including releasing ones.
    #[arg(long = "held-per-author-max", value_name = "N", value_parser = number(1..=COUNT_MAX),
          default_value_t = Self::DEFAULT.entries_per_author_max)]
    pub entries_per_author_max: u64,
    /// Maximum bytes of the waiting events of one author, including releasing ones.
    #[arg(long = "held-bytes-per-author-max", value_name = "BYTES", value_parser = byte_count,
          default_value = ByteCount(Self::DEFAULT.bytes_per_author_max).to_string())]
    pub bytes_per_author_max: u64,
    /// Maximum number of waiting events from one source, including releasing ones: an IPv4 address, a /64 of IPv6, or a
    /// relay that strfry syncs from.
    #[arg(long = "held-per-source-max", value_name = "N", value_parser = number(1..=COUNT_MAX),
          default_value_t = Self::DEFAULT.entries_per_source_max)]
    pub entries_per_source_max: u64,
    /// Maximum bytes of the waiting events from one source, including releasing ones.
    #[arg(long = "held-bytes-per-source-max", value_name = "BYTES", value_parser = byte_count,
          default_value = ByteCount(Self::DEFAULT.bytes_per_source_max).to_string())]
    pub bytes_per_source_max: u64,
    /// Maximum number of announcements from one source of repositories that are not served here, at once, and as many
    /// again in each day. Each may make a repository on the disk.
    #[arg(long = "new-repositories-per-source-and-day-max", value_name = "N", value_parser = number(1..=COUNT_MAX),
          default_value_t = Self::DEFAULT.new_repositories_per_day_max)]
    pub new_repositories_per_day_max: u64,
    /// Maximum number of waiting events of one author for one repository, including releasing ones.
    #[arg(long = "held-per-author-and-repository-max", value_name = "N", value_parser = number(1..=COUNT_MAX),
          default_value_t = Self::DEFAULT.entries_per_share_max)]
    pub entries_per_share_max: u64,
    /// Maximum number of waiting events for one repository, including releasing ones. Beyond it each author may still
    /// have 32.
    #[arg(long = "held-per-repository-max", value_name = "N", value_parser = number(1..=COUNT_MAX),
          default_value_t = Self::DEFAULT.entries_per_repository_max)]
    pub entries_per_repository_max: u64,
    /// Maximum number of waiting events in all, including releasing ones.
    #[arg(long = "held-max", value_name = "N", value_parser = number(1..=COUNT_MAX),
          default_value_t = Self::DEFAULT.entries_max)]
    pub entries_max: u64,
    /// Maximum bytes of all waiting events, including releasing ones.
    #[arg(long = "held-bytes-max", value_name = "BYTES", value_parser = byte_count,
          default_value = ByteCount(Self::DEFAULT.bytes_max).to_string())]
    pub bytes_max: u64,
    /// Maximum number of PR commits that were pushed to one repository before their events.
    #[arg(long = "placeholders-per-repository-max", value_name = "N", value_parser = number(1..=COUNT_MAX),
          default_value_t = Self::DEFAULT.placeholders_per_repository_max)]
    pub placeholders_per_repository_max: u64,
    /// Maximum number of PR commits that were pushed from one address, or /64 of IPv6, before their events.
    #[arg(long = "placeholders-per-source-max", value_name = "N", value_parser = number(1..=COUNT_MAX),
          default_value_t = Self::DEFAULT.placeholders_per_source_max)]
    pub placeholders_per_source_max: u64,
    /// Maximum number of PR commits that were pushed before their events, in all. Beyond it each repository may still
    /// have 16.
    #[arg(long = "placeholders-max", value_name = "N", value_parser = number(1..=COUNT_MAX),
          default_value_t = Self::DEFAULT.placeholders_max)]
    pub placeholders_max: u64,
}

impl Limits {
    /// Room for a busy public server, some hundreds of megabytes of Redis at worst.
    pub const DEFAULT: Self = Self {
        // GRASP-01 asks for 30 minutes.
        hold: secs(1800),
        event_bytes_max: 512 << 10,
        entries_per_author_max: 1_000,
        bytes_per_author_max: 16 << 20,
        entries_per_source_max: 10_000,
        bytes_per_source_max: 64 << 20,
        // 47 MiB of the disk at once, and in each day.
        new_repositories_per_day_max: 1_000,
        entries_per_share_max: 200,
        entries_per_repository_max: 2_000,
        entries_max: 100_000,
        bytes_max: 256 << 20,
        placeholders_per_repository_max: 200,
        placeholders_per_source_max: 64,
        placeholders_max: 10_000,
    };
}
