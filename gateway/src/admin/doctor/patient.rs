//! What the doctor looks at.

use std::time::Duration;

use shared::load_facts::FactLoader;
use shared::options::access_files::AccessFiles;
use shared::purgatory::Limits;
use shared::purgatory::Purgatory;
use shared::relay_client::RelayClient;
use shared::rules::Service;
use tokio::sync::OnceCell;
use url::Url;

use crate::admin::doctor::probe::Probe;
use crate::command_error::CommandError;
use crate::options::DoctorOptions;
use crate::options::GatewayOptions;

/// What is looked at.
pub(super) struct Patient<'o> {
    pub(super) options: &'o GatewayOptions,
    pub(super) service: Service,
    /// Where clients reach it.
    pub(super) public_url: Url,
    /// What stands beside strfry; `None`: the built-in relay and memory.
    pub(super) behind: Option<FactLoader>,
    /// An announcement that was sent to the relay.
    pub(super) probe: OnceCell<Probe>,
}

impl<'o> Patient<'o> {
    /// Finds everything that the options name; nothing is asked yet.
    ///
    /// # Errors
    /// They do not tell where something is.
    pub(super) async fn admit(options: &'o DoctorOptions) -> Result<Self, CommandError> {
        let server = &options.server;
        let service = match &server.listen.domain {
            Some(service) => service.clone(),
            None => server.listen.bind.to_string().parse().map_err(CommandError::because(
                "cannot derive a domain from the address: give one with --domain",
            ))?,
        };
        let public_url = match &options.public_url {
            Some(url) => url.clone(),
            None => service
                .http_origin()
                .parse()
                .map_err(CommandError::because("the domain makes no URL"))?,
        };
        let behind = match (server.redis(), &server.relay_url) {
            (Some(redis), Some(relay)) => Some(FactLoader {
                purgatory: Purgatory::connect(&redis, Limits::DEFAULT)
                    .await
                    .map_err(CommandError::because("cannot use --redis-url"))?,
                relay: RelayClient::new(relay.clone(), ANSWER_MAX),
                service: service.clone(),
                mode: server.rules.maintainer_mode,
                access: AccessFiles::open(server.rules.lists.clone())
                    .map_err(CommandError::because("cannot use the operator's lists"))?,
            }),
            _ => None,
        };
        Ok(Self {
            options: server,
            service,
            public_url,
            behind,
            probe: OnceCell::new(),
        })
    }
}

/// Writes an error with those of its causes that it does not repeat.
pub(super) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// For one answer of the relay.
const ANSWER_MAX: Duration = Duration::from_secs(5);
