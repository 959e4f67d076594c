//! strfry's stand-in as a process of its own, so that it can be killed as one: the built-in relay with a plugin.
//!
//! `relay-stand-in <port> <database directory> <plugin command>`

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use relay::RelayLimits;
use relay::RelayServer;
use tests::harness::plugin_host::PluginHost;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [port, database, plugin] = arguments.as_slice() else {
        return Err("usage: relay-stand-in <port> <database directory> <plugin command>".into());
    };
    let listener = TcpListener::bind(("127.0.0.1", port.parse()?)).await?;
    let host = PluginHost::new(plugin.clone(), Duration::from_secs(10));
    let relay = RelayServer::start(listener, Path::new(database), host, RelayLimits::default()).await?;
    std::future::pending::<()>().await;
    relay.stop().await;
    Ok(())
}
