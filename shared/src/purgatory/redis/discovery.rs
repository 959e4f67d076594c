//! Finds the one Redis to ask: the only one, the master that sentinels name, or the master of the purgatory's slot in a
//! cluster. All keys are in one slot, so there is one in every set-up, and no command has to be sent elsewhere.
//!
//! Asked again whenever the connection is lost, or Redis answers that it is not the one (`connection.rs`). CLUSTER
//! SLOTS is documented in the Redis manual.

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
use crate::purgatory::keys;

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

async fn ask_node(node: ConnectionInfo) -> RedisResult<Client> {
    let mut connection = Client::open(node.clone())?.get_multiplexed_async_connection().await?;
    let mut ask = cmd("CLUSTER");
    let slot: u16 = ask.arg("KEYSLOT").arg(keys::EPOCH).query_async(&mut connection).await?;
    let ranges: Vec<redis::Value> = cmd("CLUSTER").arg("SLOTS").query_async(&mut connection).await?;
    let master = ranges.into_iter().find_map(|range| master_of(range, slot));
    let (host, port) = master.ok_or_else(|| unknown("no node of the cluster has the purgatory's slot"))?;
    // An empty one means "the same host as this node's".
    let host = match (host.is_empty(), node.addr()) {
        (true, ConnectionAddr::Tcp(own, _)) => own.clone(),
        (true | false, _) => host,
    };
    Client::open(node.set_addr(ConnectionAddr::Tcp(host, port)))
}

/// Returns the master of a range of slots (first slot, last slot, master, replicas) if `slot` is in it.
fn master_of(range: redis::Value, slot: u16) -> Option<(String, u16)> {
    let redis::Value::Array(parts) = range else { return None };
    let mut parts = parts.into_iter();
    let mut next_slot = || redis::from_redis_value::<u16>(parts.next()?).ok();
    let (first, last) = (next_slot()?, next_slot()?);
    let redis::Value::Array(master) = parts.next()? else {
        return None;
    };
    let mut master = master.into_iter();
    let host: Option<String> = redis::from_redis_value(master.next()?).ok()?;
    let port: u16 = redis::from_redis_value(master.next()?).ok()?;
    (first..=last).contains(&slot).then(|| (host.unwrap_or_default(), port))
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
    use redis::Value;

    use super::*;

    fn node(host: Value, port: i64) -> Value {
        Value::Array(vec![host, Value::Int(port), Value::BulkString(b"id".to_vec())])
    }

    #[test]
    fn the_master_of_a_slot_is_the_first_node_of_its_range() {
        let range = |host: Value| {
            let (master, replica) = (node(host, 1), node(Value::BulkString(b"b".to_vec()), 2));
            Value::Array(vec![Value::Int(5), Value::Int(9), master, replica])
        };
        let named = || range(Value::BulkString(b"a".to_vec()));

        for slot in [5, 9] {
            assert_eq!(master_of(named(), slot), Some(("a".to_owned(), 1)));
        }
        for slot in [4, 10] {
            assert_eq!(master_of(named(), slot), None);
        }
        assert_eq!(master_of(range(Value::Nil), 5), Some((String::new(), 1)));
        assert_eq!(master_of(Value::Nil, 5), None);
    }
}
