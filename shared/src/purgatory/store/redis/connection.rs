//! The connection to Redis: one for all, opened when it is needed and again when it is lost, never waited for longer
//! than [`RedisSettings::call_timeout`], and not used at all while Redis fails or is slow (`breaker.rs`).

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::AsyncConnectionConfig;
use redis::Client;
use redis::PushInfo;
use redis::PushKind;
use redis::RedisError;
use redis::RedisResult;
use redis::aio::MultiplexedConnection;
use redis::cmd;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::breaker::Breaker;
use super::discovery::Discovery;
use super::settings::RedisSettings;
use super::within::within;
use crate::connections_runtime::ConnectionsRuntime;
use crate::purgatory::store::error::is_elsewhere;
use crate::purgatory::store::keys;

/// The connection to one Redis. Clones share it.
///
/// Not the library's `ConnectionManager`: after an outage that one first answers with the failure it has stored, and
/// a caller waits for all its attempts to connect.
#[derive(Clone)]
pub(super) struct RedisConnection(Arc<ConnectionState>);

struct ConnectionState {
    discovery: Discovery,
    /// Where it is, for messages.
    server: Arc<str>,
    settings: RedisSettings,
    open: Mutex<Option<OpenConnection>>,
    breaker: Breaker,
    /// Why the breaker is open, and since when.
    outage: parking_lot::Mutex<(String, Instant)>,
    runtime: ConnectionsRuntime,
}

#[derive(Clone)]
struct OpenConnection {
    commands: MultiplexedConnection,
    /// Set as soon as any call finds the connection unusable: then the next call opens another.
    is_lost: Arc<AtomicBool>,
}

impl RedisConnection {
    /// Prepares a connection; nothing is sent.
    pub(super) fn new(settings: &RedisSettings) -> RedisResult<Self> {
        let discovery = Discovery::new(&settings.place, &settings.tls)?;
        Ok(Self(Arc::new(ConnectionState {
            server: discovery.to_string().into(),
            discovery,
            settings: settings.clone(),
            open: Mutex::default(),
            breaker: Breaker::new(settings.slow),
            outage: parking_lot::Mutex::new((String::new(), Instant::now())),
            runtime: ConnectionsRuntime::current(),
        })))
    }

    /// Returns where Redis is, without user and password.
    pub(super) fn server(&self) -> &Arc<str> {
        &self.0.server
    }

    /// Finds the Redis to ask, for a connection of another kind.
    pub(super) async fn find(&self) -> RedisResult<Client> {
        self.0.discovery.find().await
    }

    /// Runs `commands` on the connection, unless Redis failed or was slow a moment ago.
    pub(super) async fn run<T, F>(&self, commands: impl FnOnce(MultiplexedConnection) -> F) -> RedisResult<T>
    where
        F: Future<Output = RedisResult<T>>,
    {
        if self.0.breaker.is_open() {
            return Err(self.0.not_asked());
        }
        let asked_at = Instant::now();
        let answer = self.0.ask(self.0.settings.call_timeout, commands).await;
        let failure = answer.as_ref().err().filter(|error| is_failure(error));
        let opened = match failure {
            Some(_) => self.0.breaker.note_failure(),
            None => self.0.breaker.note_answer(asked_at, Instant::now()),
        };
        if opened {
            let why = failure.map_or_else(|| self.0.slowness(), ToString::to_string);
            *self.0.outage.lock() = (why.clone(), Instant::now());
            tracing::error!(
                server = %self.0.server,
                why,
                "Redis fails or is slow: git events and pushes are refused until it answers in time"
            );
            tokio::spawn(probe(Arc::downgrade(&self.0)));
        }
        answer
    }
}

impl ConnectionState {
    async fn ask<T, F>(&self, limit: Duration, commands: impl FnOnce(MultiplexedConnection) -> F) -> RedisResult<T>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let mut used = None;
        let work = async {
            let connection = self.connection().await?;
            used = Some(Arc::clone(&connection.is_lost));
            commands(connection.commands).await
        };
        let answer = within(limit, work).await;
        // A master that became a replica refuses to write, and the new master is found only by connecting again.
        if let (Err(error), Some(flag)) = (&answer, used)
            && is_failure(error)
        {
            flag.store(true, Ordering::Relaxed);
        }
        answer
    }

    async fn connection(&self) -> RedisResult<OpenConnection> {
        let mut open = self.open.lock().await;
        if let Some(connection) = &*open
            && !connection.is_lost.load(Ordering::Relaxed)
        {
            return Ok(connection.clone());
        }
        let is_lost = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&is_lost);
        let config = AsyncConnectionConfig::new()
            // `ask` limits the time.
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_push_sender(move |push: PushInfo| {
                if push.kind == PushKind::Disconnection {
                    flag.store(true, Ordering::Relaxed);
                }
                Ok::<(), ()>(())
            });
        let opened = async {
            let client = self.discovery.find().await?;
            client.get_multiplexed_async_connection_with_config(&config).await
        };
        let commands = self.runtime.open(Box::pin(opened)).await?;
        let connection = OpenConnection { commands, is_lost };
        *open = Some(connection.clone());
        Ok(connection)
    }

    /// Asks once, and returns whether Redis answered in time. The probe writes, because writes are slow, and because a
    /// master that became a replica refuses them. A full Redis refuses them too, and is healthy otherwise.
    async fn probe(&self) -> RedisResult<bool> {
        let limit = PROBE_MAX.max(self.settings.slow);
        let took = self.ask(limit, async |mut connection| {
            let start = Instant::now();
            match touch(&mut connection).await {
                Err(error) if is_failure(&error) => Err(error),
                Ok(()) | Err(_) => Ok(start.elapsed()),
            }
        });
        Ok(!self.breaker.is_slow(took.await?))
    }

    fn slowness(&self) -> String {
        format!("slower than {} ms repeatedly", self.settings.slow.as_millis())
    }

    /// Notes why a probe was not answered in time. What Redis itself refuses is logged: who mends the first reason
    /// may have made another, such as a password.
    fn note_reason(&self, failed: RedisResult<()>) {
        let why = failed.as_ref().map_or_else(ToString::to_string, |()| self.slowness());
        if std::mem::replace(&mut self.outage.lock().0, why.clone()) != why
            && failed.is_err_and(|error| !is_failure(&error))
        {
            tracing::error!(server = %self.server, why, "Redis refuses to be asked again");
        }
    }

    /// The error of a call that was not made.
    fn not_asked(&self) -> RedisError {
        let (why, since) = self.outage.lock().clone();
        let text = format!(
            "{why}, for {} s; it is used again when it answers a probe in time",
            since.elapsed().as_secs()
        );
        io::Error::new(io::ErrorKind::NotConnected, text).into()
    }
}

/// Writes the probe's key.
pub(super) async fn touch(connection: &mut MultiplexedConnection) -> RedisResult<()> {
    let mut set = cmd("SET");
    set.arg(keys::PROBE).arg(1).arg("EX").arg(PROBE_KEY_SECS);
    set.query_async(connection).await
}

/// Asks until Redis answers in time, or the connection is not used any more.
async fn probe(shared: Weak<ConnectionState>) {
    let since = Instant::now();
    while let Some(shared) = shared.upgrade() {
        match shared.probe().await {
            Ok(true) => {
                shared.breaker.close();
                let away_ms = since.elapsed().as_millis();
                tracing::info!(server = %shared.server, away_ms, "Redis answers in time again");
                return;
            }
            Ok(false) => shared.note_reason(Ok(())),
            Err(error) => shared.note_reason(Err(error)),
        }
        drop(shared);
        tokio::time::sleep(PROBE_PAUSE).await;
    }
}

/// Whether an error means that Redis is not there, or not the one to ask. Every other error is an answer.
pub(super) fn is_failure(error: &RedisError) -> bool {
    is_elsewhere(error.kind()) || error.is_io_error() || error.is_unrecoverable_error()
}

/// Between two probes.
const PROBE_PAUSE: Duration = Duration::from_millis(250);

/// How long a probe may take, connecting included.
const PROBE_MAX: Duration = Duration::from_secs(1);

/// For how long what a probe writes stays.
const PROBE_KEY_SECS: u64 = 60;
