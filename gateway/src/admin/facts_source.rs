//! Where commands get the facts that a server decides with.

use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use nostr::types::Timestamp;
use shared::load_facts::FactLoader;
use shared::options::access_files::AccessFiles;
use shared::purgatory::Purgatory;
use shared::relay_client::RelayClient;

use crate::command_error::CommandError;
use crate::options::server::GatewayOptions;

/// Returns what loads the facts of a server with these options; it queries nothing yet. The facts do not include the
/// purgatory of a server without Redis, which is in that server's memory.
///
/// # Errors
/// They do not give a required address.
pub(super) async fn loader_of(server: &GatewayOptions) -> Result<FactLoader, CommandError> {
    let purgatory = match server.redis() {
        Some(redis) => Purgatory::connect(&redis, server.live.held)
            .await
            .map_err(CommandError::because("cannot use --redis-url"))?,
        None => Purgatory::in_memory(server.live.held, Arc::new(|| Timestamp::now().as_secs())),
    };
    let relay = match &server.relay_url {
        Some(url) => url.clone(),
        // It passes WebSockets on to the relay that it has built in.
        None => format!("ws://{}", server.listen.bind)
            .parse()
            .map_err(CommandError::because("cannot derive a relay from --bind"))?,
    };
    Ok(FactLoader {
        purgatory,
        relay: RelayClient::new(relay, ANSWER_MAX),
        service: server.listen.service_at(server.listen.bind)?,
        mode: server.rules.maintainer_mode,
        access: AccessFiles::open(server.rules.lists.clone())
            .map_err(CommandError::because("cannot use the operator's lists"))?,
    })
}

/// Returns a time as unix seconds.
pub(super) fn unix_secs(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// For one answer of the relay.
const ANSWER_MAX: Duration = Duration::from_secs(5);
