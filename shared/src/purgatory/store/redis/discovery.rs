//! Finds the one Redis to ask: the only one, the master that sentinels name, or the master of the purgatory's slot in a
//! cluster. All keys are in one slot, so there is one in every set-up, and no command has to be sent elsewhere.
//!
//! Asked again whenever the connection is lost, or Redis answers that it is not the one (`connection.rs`). What a node
//! of a cluster answers is documented in the Redis manual ("Redis cluster specification", MOVED redirection).

use std::fmt;
use std::future::Future;
use std::time::Duration;

use futures_util::future::BoxFuture;
use redis::Client;
use redis::ClientTlsConfig;
use redis::ConnectionAddr;
use redis::ConnectionInfo;
use redis::ErrorKind;
use redis::IntoConnectionInfo;
use redis::ProtocolVersion;
use redis::RedisError;
use redis::RedisResult;
use redis::TlsCertificates;
use redis::TlsMode;
use redis::cmd;
use redis::sentinel::SentinelClientBuilder;
use redis::sentinel::SentinelServerType;

use super::settings::RedisPlace;
use super::settings::RedisTls;
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
        certificates: TlsCertificates,
    },
    /// Any of these nodes.
    Cluster(Vec<ConnectionInfo>),
}

impl Discovery {
    /// Reads the URLs; nothing is sent.
    pub(super) fn new(place: &RedisPlace, tls: &RedisTls) -> RedisResult<Self> {
        let certificates = certificates(tls);
        let read_all = |urls: &[String]| {
            let addresses = urls.iter().map(|url| read(url, &certificates));
            addresses.collect::<RedisResult<Vec<_>>>()
        };
        Ok(match place {
            RedisPlace::Single(url) => Self::Single(read(url, &certificates)?),
            RedisPlace::Sentinel { urls, master_name } => Self::Sentinel {
                sentinels: read_all(urls)?,
                master_name: master_name.clone(),
                certificates,
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
                Self::Sentinel {
                    sentinels,
                    master_name,
                    certificates,
                } => {
                    let ask = async |sentinel| ask_sentinel(sentinel, master_name, certificates).await;
                    first_of(sentinels, ask).await
                }
                Self::Cluster(nodes) => first_of(nodes, ask_node).await,
            }
        })
    }
}

/// Names servers without users and passwords.
impl fmt::Display for Discovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = |addresses: &[ConnectionInfo]| {
            let names: Vec<String> = addresses.iter().map(|address| address.addr().to_string()).collect();
            names.join(", ")
        };
        match self {
            Self::Single(address) => write!(f, "{}", address.addr()),
            Self::Sentinel {
                sentinels, master_name, ..
            } => write!(f, "{master_name} of the sentinels {}", all(sentinels)),
            Self::Cluster(nodes) => write!(f, "the cluster of {}", all(nodes)),
        }
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
/// The master is behind TLS where they are.
async fn ask_sentinel(
    sentinel: ConnectionInfo,
    master_name: &str,
    certificates: &TlsCertificates,
) -> RedisResult<Client> {
    let address = sentinel.addr().clone();
    let is_tls = matches!(address, ConnectionAddr::TcpTls { .. });
    let master = sentinel.redis_settings();
    let mut builder = SentinelClientBuilder::new([address], master_name, SentinelServerType::Master)?
        .set_client_to_redis_db(master.db())
        .set_client_to_redis_protocol(ProtocolVersion::RESP3);
    if let Some(user) = master.username() {
        builder = builder.set_client_to_redis_username(user);
    }
    if let Some(password) = master.password() {
        builder = builder.set_client_to_redis_password(password);
    }
    if is_tls {
        builder = builder
            .set_client_to_redis_tls_mode(TlsMode::Secure)
            .set_client_to_redis_certificates(certificates.clone());
    }
    builder.build()?.async_get_client().await
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
    let port = port.parse().ok()?;
    let (own, certificates) = match node.addr() {
        ConnectionAddr::Tcp(own, _) => (own, None),
        ConnectionAddr::TcpTls {
            host: own, tls_params, ..
        } => (own, Some(tls_params)),
        // No node is asked by a socket.
        ConnectionAddr::Unix(_) | _ => return None,
    };
    // An empty one means "the same host as this node's".
    let host = if host.is_empty() { own } else { host }.to_owned();
    let address = match certificates {
        None => ConnectionAddr::Tcp(host, port),
        Some(certificates) => ConnectionAddr::TcpTls {
            host,
            port,
            insecure: false,
            tls_params: certificates.clone(),
        },
    };
    Some(node.clone().set_addr(address))
}

fn certificates(tls: &RedisTls) -> TlsCertificates {
    let own = tls.own.clone();
    TlsCertificates {
        client_tls: own.map(|(client_cert, client_key)| ClientTlsConfig {
            client_cert,
            client_key,
        }),
        root_cert: tls.authorities.clone(),
    }
}

fn read(url: &str, certificates: &TlsCertificates) -> RedisResult<ConnectionInfo> {
    let address = url.into_connection_info()?;
    let client = match matches!(address.addr(), ConnectionAddr::TcpTls { .. }) {
        true => Client::build_with_tls(address, certificates.clone())?,
        false => Client::open(address)?,
    };
    let address = client.get_connection_info().clone();
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
    fn servers_are_named_without_passwords() {
        let urls = || ["redis://user:secret@10.0.0.1:7000/2", "redis://10.0.0.2:7001"].map(str::to_owned);
        for (place, name) in [
            (RedisPlace::Single(urls()[0].clone()), "10.0.0.1:7000"),
            (
                RedisPlace::Single("unix:///run/redis.sock?user=user&pass=secret".to_owned()),
                "/run/redis.sock",
            ),
            (
                RedisPlace::Sentinel {
                    urls: urls().into(),
                    master_name: "mymaster".to_owned(),
                },
                "mymaster of the sentinels 10.0.0.1:7000, 10.0.0.2:7001",
            ),
            (
                RedisPlace::Cluster(urls().into()),
                "the cluster of 10.0.0.1:7000, 10.0.0.2:7001",
            ),
        ] {
            let discovery = Discovery::new(&place, &RedisTls::default()).ok().unwrap();

            assert_eq!(discovery.to_string(), name);
        }
    }

    #[test]
    fn a_master_is_where_a_node_says() {
        let certificates = certificates(&RedisTls::default());
        let node = read("redis://user:secret@10.0.0.1:7000", &certificates).unwrap();
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
        let node = read("rediss://10.0.0.1:7000", &certificates).unwrap();
        let master = at(&node, ":7001").unwrap();
        let same = matches!(master.addr(), ConnectionAddr::TcpTls { host, port: 7001, insecure: false, .. } if host == "10.0.0.1");
        assert!(same, "{master:?}");
    }
}
