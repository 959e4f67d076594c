//! The relay of a world: strfry where `STRFRY_BIN` names one, else its stand-in.

use std::path::Path;
use std::time::Duration;

use relay::RelayLimits;
use relay::RelayServer;
use tokio::net::TcpListener;

use crate::harness::plugin_host::PluginHost;
use crate::harness::process::Process;
use crate::harness::strfry::STRFRY_CONF;
use crate::harness::strfry::start_strfry;
use crate::harness::strfry::strfry_binary;
use crate::harness::strfry::strfry_configuration;

/// The relay of a world.
pub(crate) enum Relay {
    StandIn(Option<RelayServer>),
    Strfry(Process),
    Stopped,
}

impl Relay {
    /// Starts it with a plugin, as an operator writes the command into strfry.conf.
    pub(crate) async fn start(folder: &Path, port: u16, plugin: String) -> Self {
        if strfry_binary().is_some() {
            return Self::Strfry(start_strfry(folder, port, &plugin).await);
        }
        let database = format!("{:?}", folder.join("relay"));
        let configuration = strfry_configuration(&[("db", database)]);
        std::fs::write(folder.join(STRFRY_CONF), configuration).unwrap();
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let host = PluginHost::new(plugin, Duration::from_secs(10));
        let relay = RelayServer::start(listener, &folder.join("relay"), host, RelayLimits::default()).await;
        Self::StandIn(Some(relay.unwrap()))
    }

    /// Stops it.
    pub(crate) async fn stop(&mut self) {
        match std::mem::replace(self, Self::Stopped) {
            Self::StandIn(relay) => relay.expect("it runs").stop().await,
            Self::Strfry(mut strfry) => strfry.kill().await,
            Self::Stopped => panic!("it is stopped already"),
        }
    }
}
