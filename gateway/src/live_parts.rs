//! The parts of a running server whose limits and times change with the configuration file.

use std::sync::Arc;
use std::time::Duration;

use relay::LiveRelayLimits;
use shared::live::Live;

use crate::descriptors;
use crate::http::routes::Gateway;
use crate::options::server::LiveOptions;

pub(crate) struct LiveParts {
    pub(crate) gateway: Arc<Gateway>,
    /// That of the built-in relay.
    pub(crate) relay: Option<LiveRelayLimits>,
    pub(crate) drain: Live<Duration>,
    pub(crate) deleted_retention_secs: Live<u64>,
}

impl LiveParts {
    /// Gives each part what concerns it. What runs, is open or is held stays, whatever the new limits are.
    pub(crate) fn apply(&self, options: &LiveOptions) {
        let (times, limits) = (&options.times, &options.server);
        descriptors::raise(limits);
        if let Some(relay) = &self.relay {
            relay.set(&limits.of_relay());
        }
        let gateway = &*self.gateway;
        gateway.connections.set_limits(limits.of_connections());
        gateway.websockets.set_max(limits.websockets_max);
        gateway.upload_pack.set_limits(limits.of_fetches());
        gateway.reader.set_cache_bytes_max(limits.read_cache_bytes_max.0);
        let pusher = &*gateway.pusher;
        pusher.receiver.incoming.set_limits(limits.of_transfers());
        pusher.receiver.times.set(limits.of_receiving());
        pusher.receiver.checks.set_max(limits.uploads_max);
        pusher.publisher.release_wait.set(*times.release_wait);
        let reconciler = &*pusher.reconciler;
        reconciler.settings.set(options.of_reconciles());
        let (of_an_upload, of_disk) = (limits.of_an_upload(), limits.of_disk());
        let repositories = &reconciler.repositories;
        repositories.set_limits(of_an_upload, of_disk, options.maintenance.settings());
        repositories.set_git_commands_max(limits.git_commands_max);
        reconciler.loader.purgatory.set_limits(options.held);
        self.drain.set(*times.drain);
        self.deleted_retention_secs.set(options.deleted_retention_secs());
    }
}
