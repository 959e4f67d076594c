//! Finds the one Redis to ask: the only one, the master that sentinels name, or the master of the purgatory's slot in a
//! cluster. All keys are in one slot, so there is one in every set-up, and no command has to be sent elsewhere.
//!
//! Asked again whenever the connection is lost, or Redis answers that it is not the one (`connection.rs`). What a node
//! of a cluster answers is documented in the Redis manual ("Redis cluster specification", MOVED redirection).

use std::future::Future;
use std::time::Duration;

use futures_util::future::BoxFuture;
use redis::Client;
use redis::ConnectionAddr;
use redis::ConnectionInfo;
use redis::ErrorKind;
use redis::IntoConnectionInfo;
use redis::ProtocolVersion;
use redis::RedisConnectionInfo;
use redis::RedisError;
use redis::RedisResult;
use redis::cmd;
use redis::sentinel::Sentinel;
use redis::sentinel::SentinelNodeConnectionInfo;

use super::settings::RedisPlace;
use super::within::within;
use crate::purgatory::store::keys;

/// Where to ask for the Redis to ask.
pub(super) enum Discovery {
    /// Here.
    Single(ConnectionInfo),
    /// Any of these sentinels.
    Sentinel {
        sentinels: Vec<ConnectionInfo>,
        master_name: String,
    },
    /// Any of these nodes.
    Cluster(Vec<ConnectionInfo>),
}

impl Discovery {
    /// Reads the URLs; nothing is sent.
    pub(super) fn new(place: &RedisPlace) -> RedisResult<Self> {
        let read_all = |urls: &[String]| urls.iter().map(|url| read(url)).collect::<RedisResult<Vec<_>>>();
        Ok(match place {
            RedisPlace::Single(url) => Self::Single(read(url)?),
            RedisPlace::Sentinel { urls, master_name } => Self::Sentinel {
                sentinels: read_all(urls)?,
                master_name: master_name.clone(),
            },
            RedisPlace::Cluster(urls) => Self::Cluster(read_all(urls)?),
        })
    }

    /// Returns the Redis to ask now. It may not answer.
    ///
    /// In a box: it is awaited deep below every request, and rustc gives up on futures that are nested much deeper.
    pub(super) fn find(&self) -> BoxFuture<'_, RedisResult<Client>> {
        Box::pin(async {
            match self {
                Self::Single(address) => Client::open(address.clone()),
                Self::Sentinel { sentinels, master_name } => {
                    first_of(sentinels, async |sentinel| ask_sentinel(sentinel, master_name).await).await
                }
                Self::Cluster(nodes) => first_of(nodes, ask_node).await,
            }
        })
    }
}

/// Asks one after the other until one knows.
async fn first_of<F>(addresses: &[ConnectionInfo], ask: impl Fn(ConnectionInfo) -> F) -> RedisResult<Client>
where
    F: Future<Output = RedisResult<Client>>,
{
    let mut failure = unknown("no sentinel or node is named");
    for address in addresses {
        match within(ASK_TIMEOUT, ask(address.clone())).await {
            Ok(found) => return Ok(found),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Each sentinel for itself: asked together by the library, one that is silent would hold up the others for as long as
/// connecting may take. Sentinels have passwords of their own, and none by default: those in the URL are the master's.
async fn ask_sentinel(sentinel: ConnectionInfo, master_name: &str) -> RedisResult<Client> {
    let master = SentinelNodeConnectionInfo::default().set_redis_connection_info(sentinel.redis_settings().clone());
    let sentinel = sentinel.set_redis_settings(RedisConnectionInfo::default());
    Sentinel::build(vec![sentinel])?
        .async_master_for(master_name, Some(&master))
        .await
}

/// Asks a node for a key: one that is not the master of its slot names that one.
async fn ask_node(node: ConnectionInfo) -> RedisResult<Client> {
    let mut connection = Client::open(node.clone())?.get_multiplexed_async_connection().await?;
    match cmd("GET").arg(keys::EPOCH).exec_async(&mut connection).await {
        Ok(()) => Client::open(node),
        Err(error) => match error.redirect_node().and_then(|(master, _slot)| at(&node, master)) {
            Some(master) => Client::open(master),
            None => Err(error),
        },
    }
}

/// Returns how to reach the master that `node` has named, `host:port`.
fn at(node: &ConnectionInfo, master: &str) -> Option<ConnectionInfo> {
    let (host, port) = master.rsplit_once(':')?;
    // An empty one means "the same host as this node's".
    let host = match (host, node.addr()) {
        ("", ConnectionAddr::Tcp(own, _)) => own,
        (host, _) => host,
    };
    let address = ConnectionAddr::Tcp(host.to_owned(), port.parse().ok()?);
    Some(node.clone().set_addr(address))
}

fn read(url: &str) -> RedisResult<ConnectionInfo> {
    let address = url.into_connection_info()?;
    // With RESP3 the library reports a lost connection at once, and not only after the next command failed on it.
    let resp3 = address.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    Ok(address.set_redis_settings(resp3))
}

fn unknown(why: &'static str) -> RedisError {
    (ErrorKind::ClusterConnectionNotFound, why).into()
}

/// How long one sentinel or node may take to find the master.
const ASK_TIMEOUT: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_is_where_a_node_says() {
        let node = read("redis://user:secret@10.0.0.1:7000").unwrap();
        for (named, host, port) in [
            ("10.0.0.2:7001", "10.0.0.2", 7001),
            ("2001:db8::2:7001", "2001:db8::2", 7001),
            (":7001", "10.0.0.1", 7001),
        ] {
            let master = at(&node, named).unwrap();
            assert_eq!(master.addr(), &ConnectionAddr::Tcp(host.to_owned(), port), "{named}");
            assert_eq!(master.redis_settings().username(), Some("user"), "{named}");
        }
        assert!(at(&node, "10.0.0.2").is_none());
        assert!(at(&node, "10.0.0.2:70010").is_none());
    }
}
