//! The limits of the server as options: what its machine can carry.

use clap::Args;
use relay::RelayLimits;
use shared::options::values::ByteCount;
use shared::options::values::HumanDuration;
use shared::options::values::SECS_MAX;
use shared::options::values::number;
use shared::options::values::seconds;
use shared::options::values::secs;
use shared::rules::PullRequestLimits;

use crate::fairness::least_rate::LeastRate;
use crate::fairness::shares::ShareLimits;
use crate::fetch::limits::UploadPackLimits;
use crate::fetch::reader::CACHE_BYTES_MAX;
use crate::git::command::GIT_COMMANDS_MAX;
use crate::http::connections::ConnectionLimits;
use crate::push::receive::ReceiveTimes;
use crate::repositories::disk_use::DiskLimits;
use crate::repositories::pack::IngestLimits;

/// The load that the server accepts at the same time, and the cost of one request.
#[derive(Debug, Clone, Copy, PartialEq, Args)]
#[command(next_help_heading = "Limits of the server")]
pub(crate) struct ServerLimits {
    /// Maximum number of connections; further ones wait to be accepted.
    #[arg(long, value_name = "N", value_parser = number(1..=AT_ONCE_MAX), default_value_t = 4096)]
    pub(crate) connections_max: usize,
    /// Maximum number of connections from one address (a /64 of IPv6) that is not a trusted proxy; further ones get
    /// 429.
    // Sixteen addresses fill the server, and an office behind one address has room.
    #[arg(long, value_name = "N", value_parser = number(1..=AT_ONCE_MAX), default_value_t = 256)]
    pub(crate) connections_per_address_max: usize,
    /// Maximum number of WebSockets. When all are in use, a new one replaces one of the address with most; others get
    /// 503. Each also counts as a connection of its address.
    #[arg(long, value_name = "N", value_parser = number(1..=AT_ONCE_MAX), default_value_t = 4096)]
    pub(crate) websockets_max: usize,
    /// Maximum number of pushes that are received or wait for their repository, and also of fetch answers being sent.
    /// When all are in use, a new one replaces one of the address with most.
    #[arg(long, value_name = "N", value_parser = number(1..=AT_ONCE_MAX), 
          default_value_t = UploadPackLimits::DEFAULT.transfers_max)]
    pub(crate) transfers_max: usize,
    /// Maximum bytes on disk of packs that are not in a repository yet, and also of answers that wait for slow readers.
    /// When all are in use, a new pack or answer replaces one of the address with most.
    #[arg(long, value_name = "BYTES", default_value_t = ByteCount(UploadPackLimits::DEFAULT.spool_bytes_max))]
    pub(crate) spool_bytes_max: ByteCount,
    /// Minimum bytes per second at which a client must send a pack or read an answer; a client that is slower for
    /// --transfer-grace-secs is disconnected.
    #[arg(long, value_name = "BYTES", default_value_t = ByteCount(LeastRate::DEFAULT.bytes_per_sec))]
    pub(crate) transfer_rate_min: ByteCount,
    /// How long a client may be slower than --transfer-rate-min.
    #[arg(long = "transfer-grace-secs", value_name = "SECS", value_parser = seconds(1..=SECS_MAX),
          default_value_t = secs(LeastRate::DEFAULT.grace.as_secs()))]
    pub(crate) transfer_grace: HumanDuration,
    /// Maximum number of packs that are checked at the same time; others wait for a slot. One address (a /64 of IPv6)
    /// gets one more only where more are free than it has: about half of the slots at most.
    #[arg(long, value_name = "N", value_parser = number(1..=AT_ONCE_MAX), default_value_t = 8)]
    pub(crate) uploads_max: usize,
    /// How long a received pack waits for its check; after that the push is refused.
    #[arg(long = "upload-wait-secs", value_name = "SECS", value_parser = seconds(1..=SECS_MAX),
          default_value_t = secs(90))]
    pub(crate) upload_wait: HumanDuration,
    /// Maximum number of git processes that answer fetches; a fetch that waits longer than 30 s for a slot gets 503.
    /// One address (a /64 of IPv6) gets one more only where more are free than it has, and clones get all but one. A
    /// git process that has run for 100 ms is halted while an address with fewer waits. A request for an answer that
    /// git is already writing waits for that answer, 5 s at most.
    #[arg(long, value_name = "N", value_parser = number(1..=AT_ONCE_MAX),
          default_value_t = UploadPackLimits::DEFAULT.children_max)]
    pub(crate) fetches_max: usize,
    /// Maximum bytes on disk of answers to clones that are kept for later requests of the same; one repository gets at
    /// most a quarter. An answer is kept from its second request on, for an hour. 1: none is kept.
    #[arg(long, value_name = "BYTES", default_value_t = ByteCount(UploadPackLimits::DEFAULT.kept_bytes_max))]
    pub(crate) fetch_cache_bytes_max: ByteCount,
    /// Maximum bytes of memory of recently requested refs, answers and pages. If one repository needs more than three
    /// quarters of it, its answers are made for each request.
    #[arg(long, value_name = "BYTES", default_value_t = ByteCount(CACHE_BYTES_MAX))]
    pub(crate) read_cache_bytes_max: ByteCount,
    /// Maximum number of git commands under the locks of repositories at the same time. They read objects;
    /// where there are more, what needs one is refused or tried again.
    #[arg(long, value_name = "N", value_parser = number(1..=AT_ONCE_MAX), default_value_t = GIT_COMMANDS_MAX)]
    pub(crate) git_commands_max: usize,
    /// Maximum bytes of the pack of one push.
    #[arg(long, value_name = "BYTES", default_value_t = ByteCount(IngestLimits::DEFAULT.pack_bytes_max))]
    pub(crate) pack_bytes_max: ByteCount,
    /// Maximum number of objects in the pack of one push.
    #[arg(long, value_name = "N", value_parser = number(0..=u32::MAX),
          default_value_t = IngestLimits::DEFAULT.objects_max)]
    pub(crate) pack_objects_max: u32,
    /// Maximum bytes of packs of the repositories of one owner; a pack that repositories share counts for each.
    #[arg(long, value_name = "BYTES", default_value_t = ByteCount(DiskLimits::DEFAULT.per_owner))]
    pub(crate) disk_per_owner_max: ByteCount,
    /// Maximum bytes of packs of one repository. PRs of non-maintainers may bring a quarter of it, and a quarter of
    /// --disk-per-owner-max into all repositories of one owner.
    #[arg(long, value_name = "BYTES", default_value_t = ByteCount(DiskLimits::DEFAULT.per_repository))]
    pub(crate) disk_per_repository_max: ByteCount,
    /// Maximum bytes of commits that are staged beside one repository until their PR events arrive, unless these are a
    /// maintainer's. One address (a /64 of IPv6) may have as much as it leaves to all others.
    #[arg(long, value_name = "BYTES", default_value_t = ByteCount(DiskLimits::DEFAULT.staged_per_repository))]
    pub(crate) staged_per_repository_max: ByteCount,
    /// Minimum free bytes of the disk: below it pushes are refused.
    #[arg(long, value_name = "BYTES", default_value_t = ByteCount(DiskLimits::DEFAULT.free_min))]
    pub(crate) disk_free_min: ByteCount,
    /// Maximum bytes that the built-in relay stores or holds for one address in a day, counted as they stand on the
    /// disk. Small announcements and states may take as much again. A restart begins the day again.
    #[arg(long, value_name = "BYTES", default_value_t = ByteCount(RelayLimits::default().stored_bytes_per_day_max))]
    pub(crate) relay_stored_per_day_max: ByteCount,
    /// Maximum number of PR refs in one repository of all non-maintainers together, and as many again of its
    /// maintainers. Of those that are left to non-maintainers, one address (a /64 of IPv6) may have a quarter. A PR
    /// that finds no room waits, and expires.
    #[arg(long, value_name = "N", value_parser = number(0..=AT_ONCE_MAX),
          default_value_t = PullRequestLimits::DEFAULT.refs_per_repository_max)]
    pub(crate) pr_refs_per_repository_max: usize,
    /// Maximum number of PR refs in one repository of one author who is not a maintainer of it; in proportion fewer
    /// where not all of --pr-refs-per-repository-max are left, but one.
    #[arg(long, value_name = "N", value_parser = number(0..=AT_ONCE_MAX),
          default_value_t = PullRequestLimits::DEFAULT.refs_per_author_max)]
    pub(crate) pr_refs_per_author_max: usize,
    /// Maximum memory of the git process that checks a pack.
    #[arg(long, value_name = "BYTES", default_value_t = ByteCount(IngestLimits::DEFAULT.memory_bytes_max))]
    pub(crate) upload_memory_bytes_max: ByteCount,
    /// Maximum memory of a git process that answers a fetch.
    #[arg(long, value_name = "BYTES", default_value_t = ByteCount(UploadPackLimits::DEFAULT.memory_bytes_max))]
    pub(crate) fetch_memory_bytes_max: ByteCount,
}

impl ServerLimits {
    /// Returns the limits of one pack.
    pub(crate) fn of_an_upload(&self) -> IngestLimits {
        IngestLimits {
            pack_bytes_max: self.pack_bytes_max.0,
            objects_max: self.pack_objects_max,
            memory_bytes_max: self.upload_memory_bytes_max.0,
            ..IngestLimits::DEFAULT
        }
    }

    /// Returns the limits of the built-in relay, but for the size of its database.
    pub(crate) fn of_relay(&self) -> RelayLimits {
        RelayLimits {
            stored_bytes_per_day_max: self.relay_stored_per_day_max.0,
            connections_max: self.websockets_max + OWN_RELAY_CONNECTIONS,
            ..RelayLimits::default()
        }
    }

    /// Returns how much of the disk repositories may take.
    pub(crate) fn of_disk(&self) -> DiskLimits {
        DiskLimits {
            per_owner: self.disk_per_owner_max.0,
            per_repository: self.disk_per_repository_max.0,
            staged_per_repository: self.staged_per_repository_max.0,
            free_min: self.disk_free_min.0,
        }
    }

    /// Returns how many refs of PRs a repository may have.
    pub(crate) fn of_pull_requests(&self) -> PullRequestLimits {
        PullRequestLimits {
            refs_per_repository_max: self.pr_refs_per_repository_max,
            refs_per_author_max: self.pr_refs_per_author_max,
        }
    }

    /// Returns how much may be on its way in at the same time.
    pub(crate) fn of_transfers(&self) -> ShareLimits {
        ShareLimits {
            claims_max: self.transfers_max,
            bytes_max: self.spool_bytes_max.0,
        }
    }

    /// Returns how slow a client may be.
    fn least_rate(&self) -> LeastRate {
        LeastRate {
            bytes_per_sec: self.transfer_rate_min.0,
            grace: *self.transfer_grace,
        }
    }

    /// Returns how long a push may take.
    pub(crate) fn of_receiving(&self) -> ReceiveTimes {
        ReceiveTimes {
            least_rate: self.least_rate(),
            check_wait: *self.upload_wait,
        }
    }

    /// Returns what fetches may cost.
    pub(crate) fn of_fetches(&self) -> UploadPackLimits {
        UploadPackLimits {
            children_max: self.fetches_max,
            least_rate: self.least_rate(),
            transfers_max: self.transfers_max,
            spool_bytes_max: self.spool_bytes_max.0,
            memory_bytes_max: self.fetch_memory_bytes_max.0,
            kept_bytes_max: self.fetch_cache_bytes_max.0,
            disk_free_min: self.disk_free_min.0,
            ..UploadPackLimits::DEFAULT
        }
    }

    /// Returns how many connections there may be.
    pub(crate) fn of_connections(&self) -> ConnectionLimits {
        ConnectionLimits {
            connections_max: self.connections_max,
            per_address_max: self.connections_per_address_max,
            least_rate: self.least_rate(),
        }
    }
}

/// Connections of the gateway itself to the built-in relay: as few as one for each look-up or publication at a time.
const OWN_RELAY_CONNECTIONS: usize = 64;

/// Highest number of things at the same time: no machine has more descriptors.
const AT_ONCE_MAX: usize = 1_000_000;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct ServerLimitsOnly {
        #[command(flatten)]
        limits: ServerLimits,
    }

    fn read(arguments: &[&str]) -> ServerLimits {
        let arguments = ["test"].iter().chain(arguments);
        ServerLimitsOnly::try_parse_from(arguments).unwrap().limits
    }

    #[test]
    fn the_defaults_are_those_of_the_parts() {
        let limits = read(&[]);

        assert_eq!(limits.of_an_upload(), IngestLimits::default());
        assert_eq!(limits.of_fetches(), UploadPackLimits::DEFAULT);
        assert_eq!(limits.git_commands_max, GIT_COMMANDS_MAX);
        assert_eq!(limits.least_rate(), LeastRate::DEFAULT);
        assert_eq!(limits.of_pull_requests(), PullRequestLimits::DEFAULT);
        assert_eq!(limits.of_disk(), DiskLimits::DEFAULT);
        assert_eq!(limits.of_relay(), RelayLimits::default());
    }

    #[test]
    fn each_option_sets_its_own_limit() {
        let limits = read(&[
            "--connections-max=1",
            "--connections-per-address-max=2",
            "--uploads-max=3",
            "--fetches-max=4",
            "--pack-bytes-max=5KiB",
            "--pack-objects-max=6",
            "--upload-memory-bytes-max=7",
            "--fetch-memory-bytes-max=8",
            "--upload-wait-secs=9",
            "--websockets-max=10",
            "--git-commands-max=11",
            "--transfers-max=12",
            "--spool-bytes-max=13KiB",
            "--transfer-rate-min=14",
            "--transfer-grace-secs=15",
            "--pr-refs-per-repository-max=16",
            "--pr-refs-per-author-max=17",
            "--disk-per-owner-max=18",
            "--disk-per-repository-max=19",
            "--staged-per-repository-max=20",
            "--disk-free-min=21",
            "--fetch-cache-bytes-max=22",
            "--relay-stored-per-day-max=23",
        ]);

        let connections = limits.of_connections();
        let (upload, fetches) = (limits.of_an_upload(), limits.of_fetches());
        assert_eq!((connections.connections_max, connections.per_address_max), (1, 2));
        assert_eq!((limits.uploads_max, fetches.children_max), (3, 4));
        assert_eq!(limits.of_receiving().check_wait, Duration::from_secs(9));
        assert_eq!((limits.websockets_max, limits.git_commands_max), (10, 11));
        let (transfers, rate) = (limits.of_transfers(), limits.least_rate());
        assert_eq!((transfers.claims_max, transfers.bytes_max), (12, 13 << 10));
        assert_eq!((rate.bytes_per_sec, rate.grace), (14, Duration::from_secs(15)));
        let pull_requests = limits.of_pull_requests();
        assert_eq!(pull_requests.refs_per_repository_max, 16);
        assert_eq!(pull_requests.refs_per_author_max, 17);
        let disk = limits.of_disk();
        assert_eq!((disk.per_owner, disk.per_repository), (18, 19));
        assert_eq!((disk.staged_per_repository, disk.free_min), (20, 21));
        assert_eq!((fetches.disk_free_min, fetches.kept_bytes_max), (21, 22));
        let relay = limits.of_relay();
        assert_eq!(
            (relay.stored_bytes_per_day_max, relay.connections_max),
            (23, 10 + OWN_RELAY_CONNECTIONS)
        );
        assert_eq!((upload.pack_bytes_max, upload.objects_max), (5 << 10, 6));
        assert_eq!((upload.memory_bytes_max, fetches.memory_bytes_max), (7, 8));
    }
}
