//! File descriptors: as many as the system gives, and whether they are enough for what the limits allow.

use rustix::process::Resource;
use rustix::process::Rlimit;
use rustix::process::getrlimit;
use rustix::process::setrlimit;

use crate::options::limits::ServerLimits;

/// Raises the number of open files from what the system gives at first to what it allows, says so if it is less than
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
            "the limits of connections, WebSockets and gits allow for more file descriptors than the system does: raise \
             LimitNOFILE (ulimit -n), or lower --connections-max and --websockets-max"
        );
    }
    current
}

/// Returns how many there are open when every limit is reached.
pub(crate) fn needed(limits: &ServerLimits) -> u64 {
    let gits = limits.uploads_max + limits.fetches_max + limits.git_commands_max;
    let count = limits.connections_max + WEBSOCKET_DESCRIPTORS * limits.websockets_max + GIT_DESCRIPTORS * gits;
    count as u64 + REST_DESCRIPTORS
}

/// One to the client, and one to the relay.
const WEBSOCKET_DESCRIPTORS: usize = 2;

/// Its pipes, the number of its process, and the files that are looked at and moved before and after it runs.
const GIT_DESCRIPTORS: usize = 16;

/// Redis, relay, lock files, packs that are looked into, the built-in relay's database.
const REST_DESCRIPTORS: u64 = 256;
