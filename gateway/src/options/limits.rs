//! The limits of the server as options: what its machine can carry.

use std::time::Duration;

use clap::Args;
use shared::options::checker::Checker;

use crate::fetch::process::UploadPackLimits;
use crate::http::client_address::TrustedProxies;
use crate::http::server::ConnectionLimits;
use crate::repositories::ingest::IngestLimits;

/// The limits of the server, as typed.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Limits of the server")]
pub(crate) struct ServerLimitOptions {
    /// Most connections at the same time; more wait to be taken.
    #[arg(long, env = "GRASP_CONNECTIONS_MAX", value_name = "N", default_value = "4096")]
    connections_max: String,
    /// Most connections at the same time from one address (a /64 of IPv6) that is no trusted proxy; more get 429.
    #[arg(
        long,
        env = "GRASP_CONNECTIONS_PER_ADDRESS_MAX",
        value_name = "N",
        default_value = "1024"
    )]
    connections_per_address_max: String,
    /// Most WebSockets at the same time; more get 503. Each also counts for its address.
    #[arg(long, env = "GRASP_WEBSOCKETS_MAX", value_name = "N", default_value = "4096")]
    websockets_max: String,
    /// Most packs taken in at the same time; more wait for their turn.
    #[arg(long, env = "GRASP_UPLOADS_MAX", value_name = "N", default_value = "8")]
    uploads_max: String,
    /// For how long a pack waits for its turn, in seconds; then the push is refused.
    #[arg(long, env = "GRASP_UPLOAD_WAIT_SECS", value_name = "N", default_value = "90")]
    upload_wait_secs: String,
    /// Most gits that answer fetches at the same time; more wait 30 s for their turn, then get 503.
    #[arg(long, env = "GRASP_FETCHES_MAX", value_name = "N", default_value = "4")]
    fetches_max: String,
    /// Most small gits at the same time: they set refs, make repositories and move PR commits; more wait.
    #[arg(long, env = "GRASP_GIT_COMMANDS_MAX", value_name = "N", default_value = "16")]
    git_commands_max: String,
    /// Most bytes of the pack of one push.
    #[arg(long, env = "GRASP_PACK_BYTES_MAX", value_name = "N", default_value = "536870912")]
    pack_bytes_max: String,
    /// Most objects in it.
    #[arg(long, env = "GRASP_PACK_OBJECTS_MAX", value_name = "N", default_value = "5000000")]
    pack_objects_max: String,
    /// Most memory of the git that takes in a pack.
    #[arg(
        long,
        env = "GRASP_UPLOAD_MEMORY_BYTES_MAX",
        value_name = "N",
        default_value = "2147483648"
    )]
    upload_memory_bytes_max: String,
    /// Most memory of a git that answers a fetch.
    #[arg(
        long,
        env = "GRASP_FETCH_MEMORY_BYTES_MAX",
        value_name = "N",
        default_value = "4294967296"
    )]
    fetch_memory_bytes_max: String,
}

/// What the server may carry at the same time, and what one request may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ServerLimits {
    /// Most connections.
    pub(crate) connections_max: usize,
    /// Most connections from one address.
    pub(crate) connections_per_address_max: usize,
    /// Most WebSockets.
    pub(crate) websockets_max: usize,
    /// Most packs taken in.
    pub(crate) uploads_max: usize,
    /// For how long a pack waits for its turn.
    pub(crate) upload_wait: Duration,
    /// Most gits that answer fetches.
    pub(crate) fetches_max: usize,
    /// Most small gits.
    pub(crate) git_commands_max: usize,
    /// Most bytes of one pack.
    pub(crate) pack_bytes_max: u64,
    /// Most objects in one pack.
    pub(crate) pack_objects_max: u32,
    /// Most memory of the git that takes in a pack, in bytes.
    pub(crate) upload_memory_bytes_max: u64,
    /// Most memory of a git that answers a fetch, in bytes.
    pub(crate) fetch_memory_bytes_max: u64,
}

impl ServerLimits {
    /// Returns what one pack may cost.
    pub(crate) fn of_an_upload(&self) -> IngestLimits {
        IngestLimits {
            pack_bytes_max: self.pack_bytes_max,
            objects_max: self.pack_objects_max,
            memory_bytes_max: self.upload_memory_bytes_max,
            ..IngestLimits::default()
        }
    }

    /// Returns what fetches may cost.
    pub(crate) fn of_fetches(&self) -> UploadPackLimits {
        UploadPackLimits {
            children_max: self.fetches_max,
            memory_bytes_max: self.fetch_memory_bytes_max,
            ..UploadPackLimits::default()
        }
    }

    /// Returns how many connections there may be, and whose are not counted.
    pub(crate) fn of_connections(&self, trusted_proxies: TrustedProxies) -> ConnectionLimits {
        ConnectionLimits {
            connections_max: self.connections_max,
            per_address_max: self.connections_per_address_max,
            trusted_proxies,
        }
    }
}

impl ServerLimitOptions {
    /// Checks what was typed; `None` after complaining.
    pub(crate) fn check(&self, checker: &mut Checker) -> Option<ServerLimits> {
        let mut few = |option, value: &str| {
            let few = value.parse().ok().filter(|count| (1..=AT_ONCE_MAX).contains(count));
            if few.is_none() {
                checker.complain(format!(
                    "{option} is {value:?}: it must be a number from 1 to {AT_ONCE_MAX}"
                ));
            }
            few
        };
        let connections_max = few("--connections-max", &self.connections_max);
        let connections_per_address_max = few("--connections-per-address-max", &self.connections_per_address_max);
        let websockets_max = few("--websockets-max", &self.websockets_max);
        let uploads_max = few("--uploads-max", &self.uploads_max);
        let fetches_max = few("--fetches-max", &self.fetches_max);
        let git_commands_max = few("--git-commands-max", &self.git_commands_max);
        let upload_wait_secs = checker.secs("--upload-wait-secs", &self.upload_wait_secs, 1);
        let pack_bytes_max = checker.count("--pack-bytes-max", &self.pack_bytes_max);
        let objects = &self.pack_objects_max;
        let pack_objects_max = checker.parse("--pack-objects-max", objects, "a number from 0 to 4294967295");
        let upload_memory_bytes_max = checker.count("--upload-memory-bytes-max", &self.upload_memory_bytes_max);
        let fetch_memory_bytes_max = checker.count("--fetch-memory-bytes-max", &self.fetch_memory_bytes_max);
        Some(ServerLimits {
            connections_max: connections_max?,
            connections_per_address_max: connections_per_address_max?,
            websockets_max: websockets_max?,
            uploads_max: uploads_max?,
            upload_wait: Duration::from_secs(upload_wait_secs?),
            fetches_max: fetches_max?,
            git_commands_max: git_commands_max?,
            pack_bytes_max: pack_bytes_max?,
            pack_objects_max: pack_objects_max?,
            upload_memory_bytes_max: upload_memory_bytes_max?,
            fetch_memory_bytes_max: fetch_memory_bytes_max?,
        })
    }
}

/// Highest number of things at the same time: no machine has more descriptors.
const AT_ONCE_MAX: usize = 1_000_000;

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::git::command::GIT_COMMANDS_MAX;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        limits: ServerLimitOptions,
    }

    fn check(arguments: &[&str]) -> ServerLimits {
        let arguments = ["test"].iter().chain(arguments);
        let mut checker = Checker::default();
        let limits = Cli::try_parse_from(arguments).unwrap().limits.check(&mut checker);
        checker.finish().unwrap();
        limits.unwrap()
    }

    #[test]
    fn the_defaults_are_those_of_the_parts() {
        let limits = check(&[]);

        assert_eq!(limits.of_an_upload(), IngestLimits::default());
        assert_eq!(limits.of_fetches(), UploadPackLimits::default());
        assert_eq!(limits.git_commands_max, GIT_COMMANDS_MAX);
    }

    #[test]
    fn each_option_sets_its_own_limit() {
        let limits = check(&[
            "--connections-max=1",
            "--connections-per-address-max=2",
            "--uploads-max=3",
            "--fetches-max=4",
            "--pack-bytes-max=5",
            "--pack-objects-max=6",
            "--upload-memory-bytes-max=7",
            "--fetch-memory-bytes-max=8",
            "--upload-wait-secs=9",
            "--websockets-max=10",
            "--git-commands-max=11",
        ]);

        let connections = limits.of_connections(TrustedProxies::default());
        let (upload, fetches) = (limits.of_an_upload(), limits.of_fetches());
        assert_eq!((connections.connections_max, connections.per_address_max), (1, 2));
        assert_eq!((limits.uploads_max, fetches.children_max), (3, 4));
        assert_eq!(limits.upload_wait, Duration::from_secs(9));
        assert_eq!((limits.websockets_max, limits.git_commands_max), (10, 11));
        assert_eq!((upload.pack_bytes_max, upload.objects_max), (5, 6));
        assert_eq!((upload.memory_bytes_max, fetches.memory_bytes_max), (7, 8));
    }
}
