//! The server that the doctor checks.

use std::time::Duration;

use shared::load_facts::FactLoader;
use shared::rules::Service;
use tokio::sync::OnceCell;
use url::Url;

use crate::admin::doctor::probe::Probe;
use crate::admin::facts_source::loader_of;
use crate::command_error::CommandError;
use crate::options::DoctorOptions;
use crate::options::GatewayOptions;

/// The server that is checked.
pub(super) struct CheckedServer<'o> {
    pub(super) options: &'o GatewayOptions,
    pub(super) service: Service,
    /// Where clients reach it.
    pub(super) public_url: Url,
    /// For how long connections to it are left silent.
    pub(super) silence: Duration,
    /// The purgatory beside strfry; `None`: the built-in relay and memory.
    pub(super) behind: Option<FactLoader>,
    /// An announcement that was sent to the relay.
    pub(super) probe: OnceCell<Probe>,
}

impl<'o> CheckedServer<'o> {
    /// Finds everything that the options name; nothing is asked yet.
    ///
    /// # Errors
    /// They do not give a required address.
    pub(super) async fn open(options: &'o DoctorOptions) -> Result<Self, CommandError> {
        let server = &options.server;
        let service = server.listen.service_at(server.listen.bind)?;
        let public_url = match &options.public_url {
            Some(url) => url.clone(),
            None => service
                .http_origin()
                .parse()
                .map_err(CommandError::because("the domain makes no URL"))?,
        };
        let behind = match server.redis().is_some() && server.relay_url.is_some() {
            true => Some(loader_of(server).await?),
            false => None,
        };
        Ok(Self {
            options: server,
            service,
            public_url,
            silence: *options.silence,
            behind,
            probe: OnceCell::new(),
        })
    }
}
