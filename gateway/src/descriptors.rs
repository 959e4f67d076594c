//! File descriptors: raises their number as far as possible, and checks whether they are enough for the limits.

use rustix::process::Resource;
use rustix::process::Rlimit;
use rustix::process::getrlimit;
use rustix::process::setrlimit;

use crate::fetch::answers::KEPT_MAX;
use crate::options::server_limits::ServerLimits;

/// Raises the number of open files from the system's soft limit to its hard limit, logs a warning if that is less than
/// the limits of the server may need, and returns it; `None`: there is no limit.
pub(crate) fn raise(limits: &ServerLimits) -> Option<u64> {
    let allowed = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit {
        current: allowed,
        maximum: allowed,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "cannot raise the number of open files");
    }
    let current = getrlimit(Resource::Nofile).current;
    let needed = needed(limits);
    if let Some(given) = current.filter(|given| *given < needed) {
        tracing::warn!(
            given,
            needed,
            "the limits of connections, WebSockets and git processes allow for more file descriptors than the system does: raise \
             LimitNOFILE (ulimit -n), or lower --connections-max and --websockets-max"
        );
    }
    current
}

/// Returns how many are open when every limit is reached.
pub(crate) fn needed(limits: &ServerLimits) -> u64 {
    let transfers = TRANSFER_DESCRIPTORS * limits.transfers_max;
    let processes = limits.uploads_max + limits.fetches_max + limits.git_commands_max;
    let count =
        limits.connections_max + WEBSOCKET_DESCRIPTORS * limits.websockets_max + PROCESS_DESCRIPTORS * processes;
    (count + transfers + KEPT_MAX) as u64 + REST_DESCRIPTORS
}

/// One to the client, and one to the relay.
const WEBSOCKET_DESCRIPTORS: usize = 2;

/// The spool of an incoming pack, and that of an outgoing answer.
const TRANSFER_DESCRIPTORS: usize = 2;

/// The pipes of a git process, its process descriptor, and the files that are read and moved before and after it runs.
const PROCESS_DESCRIPTORS: usize = 16;

/// Redis, relay, lock files, packs that are read, the built-in relay's database.
const REST_DESCRIPTORS: u64 = 256;
