//! The purgatory in one Redis: each operation is one call of one script.

use redis::Cmd;
use redis::ErrorKind;
use redis::RedisError;
use redis::ServerErrorKind;
use redis::Value;
use redis::aio::MultiplexedConnection;
use redis::cmd;
use tokio::sync::watch;

use super::check;
use super::check::ServerFault;
use super::connection::RedisConnection;
use super::listen::listen;
use super::settings::RedisSettings;
use super::within::within;
use crate::purgatory::store::argv::Argv;
use crate::purgatory::store::error::PurgatoryError;
use crate::purgatory::store::keys;
use crate::purgatory::store::script::PurgatoryScript;

/// The purgatory in one Redis. Clones share the connection.
#[derive(Clone)]
pub(in crate::purgatory::store) struct RedisStore {
    connection: RedisConnection,
    settings: RedisSettings,
}

impl RedisStore {
    /// Reads the settings; nothing is sent.
    pub(in crate::purgatory::store) fn new(settings: &RedisSettings) -> Result<Self, PurgatoryError> {
        Ok(Self {
            connection: RedisConnection::new(settings).map_err(|source| PurgatoryError::Url { source })?,
            settings: settings.clone(),
        })
    }

    /// Loads the scripts ahead, so that no event waits for it. A call loads its script if Redis does not have it.
    pub(in crate::purgatory::store) async fn load(&self, scripts: &[&PurgatoryScript]) {
        let mut all = redis::pipe();
        for script in scripts {
            all.add_command(load(script));
        }
        let loaded = self
            .connection
            .run(async |mut connection| all.exec_async(&mut connection).await);
        if let Err(error) = loaded.await {
            tracing::debug!(%error, "purgatory scripts not preloaded");
        }
    }

    /// Calls a script.
    pub(in crate::purgatory::store) async fn call(
        &self,
        script: &'static PurgatoryScript,
        argv: Argv,
    ) -> Result<Value, PurgatoryError> {
        let asked = self.connection.run(async |mut connection| {
            let keys = keys::fixed();
            let mut call = cmd("EVALSHA");
            call.arg(&script.hash).arg(keys.len()).arg(keys).arg(argv.args);
            let mut answer = call.query_async(&mut connection).await;
            if answer.as_ref().is_err_and(is_not_loaded) {
                load(script).exec_async(&mut connection).await?;
                answer = call.query_async(&mut connection).await;
            }
            Ok((answer?, connection))
        });
        let (answer, connection) = asked.await.map_err(|source| self.error(script.name, source))?;
        if argv.is_replicated {
            self.await_replicas(script.name, connection).await?;
        }
        Ok(answer)
    }

    /// Waits until as many replicas as the operator requires have what was written on this connection: WAIT does not
    /// cover writes of other connections. Its duration says nothing about Redis itself.
    async fn await_replicas(
        &self,
        operation: &'static str,
        mut connection: MultiplexedConnection,
    ) -> Result<(), PurgatoryError> {
        let wanted = self.settings.replicas;
        if wanted == 0 {
            return Ok(());
        }
        // Never zero, which means for ever.
        let wait_ms = self.settings.replicas_wait.as_millis().max(1).to_string();
        let mut wait = cmd("WAIT");
        wait.arg(wanted).arg(wait_ms);
        let limit = self.settings.replicas_wait + self.settings.call_timeout;
        let confirmed = within(limit, wait.query_async(&mut connection)).await;
        match confirmed.map_err(|source| self.error(operation, source))? {
            confirmed if confirmed < wanted => Err(PurgatoryError::Unconfirmed {
                operation,
                confirmed,
                wanted,
            }),
            _ => Ok(()),
        }
    }

    pub(in crate::purgatory::store) async fn check_server(&self) -> Result<Vec<ServerFault>, PurgatoryError> {
        let server = self.connection.run(check::ask).await;
        let server = server.map_err(|source| self.error("check the server", source))?;
        let mut faults = server.check(self.settings.slow)?;
        faults.extend(self.settings.shows_password.then(check::shown_password));
        Ok(faults)
    }

    fn error(&self, operation: &'static str, source: RedisError) -> PurgatoryError {
        PurgatoryError::of(operation, self.connection.server(), source)
    }

    pub(in crate::purgatory::store) fn listen(&self) -> watch::Receiver<u64> {
        listen(self.connection.clone())
    }
}

fn load(script: &PurgatoryScript) -> Cmd {
    let mut load = cmd("SCRIPT");
    load.arg("LOAD").arg(script.source());
    load
}

fn is_not_loaded(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}
