//! The purgatory in one Redis: each operation is one call of one script.

use redis::Value;
use redis::aio::MultiplexedConnection;
use tokio::sync::watch;

use super::check;
use super::connection::RedisConnection;
use super::listen::listen;
use super::settings::RedisSettings;
use crate::purgatory::argv::Argv;
use crate::purgatory::error::PurgatoryError;
use crate::purgatory::keys;
use crate::purgatory::script::PurgatoryScript;

/// The purgatory in one Redis. Clones share the connection.
#[derive(Clone)]
pub(in crate::purgatory) struct RedisStore {
    connection: RedisConnection,
}

impl RedisStore {
    /// Reads the settings; nothing is sent.
    pub(in crate::purgatory) fn new(settings: &RedisSettings) -> Result<Self, PurgatoryError> {
        Ok(Self {
            connection: RedisConnection::new(settings).map_err(|source| PurgatoryError::Url { source })?,
        })
    }

    /// Loads the scripts ahead, so that no event waits for it. A call loads its script if Redis does not have it.
    pub(in crate::purgatory) async fn load(&self, scripts: &[&PurgatoryScript]) {
        let mut load = redis::pipe();
        for script in scripts {
            load.cmd("SCRIPT").arg("LOAD").arg(&script.source);
        }
        let loaded = self
            .connection
            .run(async |mut connection| load.exec_async(&mut connection).await);
        if let Err(error) = loaded.await {
            tracing::debug!(%error, "purgatory scripts not loaded ahead");
        }
    }

    /// Calls a script.
    pub(in crate::purgatory) async fn call(
        &self,
        script: &'static PurgatoryScript,
        argv: Argv,
    ) -> Result<Value, PurgatoryError> {
        let asked = self.connection.run(async |mut connection| {
            let mut call = script.script.prepare_invoke();
            call.key(keys::fixed()).arg(argv.args);
            Ok((call.invoke_async(&mut connection).await?, connection))
        });
        let (answer, connection) = asked.await.map_err(|source| PurgatoryError::of(script.name, source))?;
        if argv.is_replicated {
            self.await_replicas(script.name, connection).await?;
        }
        Ok(answer)
    }

    /// Waits until as many replicas as the operator wants have what was written on this connection: what another one
    /// wrote, WAIT does not wait for.
    async fn await_replicas(
        &self,
        operation: &'static str,
        connection: MultiplexedConnection,
    ) -> Result<(), PurgatoryError> {
        let wanted = self.connection.replicas();
        if wanted == 0 {
            return Ok(());
        }
        let confirmed = self.connection.replicate(connection).await;
        match confirmed.map_err(|source| PurgatoryError::of(operation, source))? {
            confirmed if confirmed < wanted => Err(PurgatoryError::Unconfirmed {
                operation,
                confirmed,
                wanted,
            }),
            _ => Ok(()),
        }
    }

    pub(in crate::purgatory) async fn check_server(&self) -> Result<Vec<String>, PurgatoryError> {
        let server = self.connection.run(check::ask).await;
        server
            .map_err(|source| PurgatoryError::of("check the server", source))?
            .check()
    }

    pub(in crate::purgatory) fn listen(&self) -> watch::Receiver<u64> {
        listen(self.connection.clone())
    }
}
