//! The connection to Redis: one for all, opened when it is needed and again when it is lost, never waited for longer
//! than [`TIMEOUT`].

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::AsyncConnectionConfig;
use redis::Client;
use redis::IntoConnectionInfo;
use redis::ProtocolVersion;
use redis::PushInfo;
use redis::PushKind;
use redis::RedisError;
use redis::RedisResult;
use redis::aio::MultiplexedConnection;
use tokio::sync::Mutex;
use tokio::time::timeout;

/// How long a step may take, from the call to the answer, connecting included.
pub(super) const TIMEOUT: Duration = Duration::from_secs(1);

/// The way to one Redis. Clones share the connection.
///
/// Not the library's `ConnectionManager`: after an outage that one first answers with the failure it has stored, and
/// a caller waits for all its attempts to connect.
#[derive(Clone)]
pub(super) struct Link {
    client: Client,
    open: Arc<Mutex<Option<Connection>>>,
}

#[derive(Clone)]
struct Connection {
    commands: MultiplexedConnection,
    /// Set as soon as anybody finds the connection unusable: then the next call opens another.
    is_lost: Arc<AtomicBool>,
}

impl Link {
    /// Prepares a connection; nothing is sent.
    pub(super) fn new(redis_url: &str) -> RedisResult<Self> {
        let address = redis_url.into_connection_info()?;
        // With RESP3 the library tells of a lost connection at once, and not only after the next command failed on it.
        let settings = address.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        Ok(Self {
            client: Client::open(address.set_redis_settings(settings))?,
            open: Arc::default(),
        })
    }

    /// Returns the client, for connections of another kind.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Lets `commands` work on the connection.
    pub(super) async fn run<T, F>(&self, commands: impl FnOnce(MultiplexedConnection) -> F) -> RedisResult<T>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let mut used = None;
        let work = async {
            let connection = self.connection().await?;
            used = Some(Arc::clone(&connection.is_lost));
            commands(connection.commands).await
        };
        let answer = match timeout(TIMEOUT, work).await {
            Ok(answer) => answer,
            Err(_) => Err(timed_out()),
        };
        // A master that became a replica refuses to write, and whoever is master now is found only by connecting anew.
        let is_lost = answer
            .as_ref()
            .is_err_and(|error| error.is_io_error() || error.is_unrecoverable_error());
        if let (true, Some(flag)) = (is_lost, used) {
            flag.store(true, Ordering::Relaxed);
        }
        answer
    }

    async fn connection(&self) -> RedisResult<Connection> {
        let mut open = self.open.lock().await;
        if let Some(connection) = &*open
            && !connection.is_lost.load(Ordering::Relaxed)
        {
            return Ok(connection.clone());
        }
        let is_lost = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&is_lost);
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(TIMEOUT))
            // `run` counts the time.
            .set_response_timeout(None)
            .set_push_sender(move |push: PushInfo| {
                if push.kind == PushKind::Disconnection {
                    flag.store(true, Ordering::Relaxed);
                }
                Ok::<(), ()>(())
            });
        let commands = self
            .client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        let connection = Connection { commands, is_lost };
        *open = Some(connection.clone());
        Ok(connection)
    }
}

/// The error of a step that took longer than [`TIMEOUT`].
pub(super) fn timed_out() -> RedisError {
    io::Error::from(io::ErrorKind::TimedOut).into()
}
