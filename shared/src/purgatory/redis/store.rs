//! The purgatory in one Redis: each operation is one call of one script.

use std::sync::Arc;

use redis::Cmd;
use redis::FromRedisValue;
use redis::aio::MultiplexedConnection;
use redis::cmd;

use super::argv::Argv;
use super::check;
use super::connection::RedisConnection;
use super::decode;
use super::decode::Malformed;
use super::keys;
use super::listen::listen;
use super::script::PurgatoryScript;
use super::settings::RedisSettings;
use crate::nip34::Identifier;
use crate::purgatory::error::PurgatoryError;
use crate::purgatory::limits::Limits;
use crate::purgatory::notifications::Notifications;
use crate::purgatory::reading::DirtyNumber;

/// The purgatory in one Redis. Clones share the connection.
#[derive(Clone)]
pub(in crate::purgatory) struct RedisStore {
    connection: RedisConnection,
    limits: Arc<Limits>,
}

impl RedisStore {
    /// Reads the settings; nothing is sent.
    pub(in crate::purgatory) fn new(settings: &RedisSettings, limits: Limits) -> Result<Self, PurgatoryError> {
        Ok(Self {
            connection: RedisConnection::new(settings).map_err(|source| PurgatoryError::Url { source })?,
            limits: Arc::new(limits),
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

    /// Calls a script, and returns its answer as `decode` reads it.
    pub(in crate::purgatory) async fn call<T: FromRedisValue, A>(
        &self,
        script: &'static PurgatoryScript,
        arguments: impl FnOnce(Argv) -> Argv,
        decode: impl FnOnce(T) -> Result<A, Malformed>,
    ) -> Result<A, PurgatoryError> {
        let argv = arguments(Argv::new(script.script.prepare_invoke(), Arc::clone(&self.limits)));
        let asked = self.connection.run(async |mut connection| {
            let answer = argv.invocation.invoke_async(&mut connection).await?;
            Ok((answer, connection))
        });
        let (answer, connection) = asked.await.map_err(|source| PurgatoryError::of(script.name, source))?;
        if argv.is_replicated {
            self.await_replicas(script.name, connection).await?;
        }
        decode(answer).map_err(|malformed| PurgatoryError::malformed(script.name, malformed.to_string()))
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

    pub(in crate::purgatory) async fn dirty(
        &self,
        count_max: usize,
    ) -> Result<Vec<(Identifier, DirtyNumber)>, PurgatoryError> {
        const NAME: &str = "list dirty identifiers";
        let mut range = cmd("ZRANGE");
        range.arg(keys::DIRTY).arg("-inf").arg("+inf");
        range.arg("BYSCORE").arg("LIMIT").arg(0).arg(count_max);
        range.arg("WITHSCORES");
        let scores: Vec<(String, f64)> = self.ask(NAME, &range).await?;
        // Exact: dirty numbers stay below 2^53.
        let numbers = scores.into_iter().map(|(name, score)| (name, score as u64));
        decode::dirty_numbers(numbers.collect())
            .map_err(|malformed| PurgatoryError::malformed(NAME, malformed.to_string()))
    }

    pub(in crate::purgatory) async fn dirty_number(
        &self,
        identifier: &Identifier,
    ) -> Result<Option<DirtyNumber>, PurgatoryError> {
        let mut score = cmd("ZSCORE");
        score.arg(keys::DIRTY).arg(identifier.as_str());
        let number: Option<f64> = self.ask("read a dirty number", &score).await?;
        // Exact: dirty numbers stay below 2^53.
        Ok(number.map(|number| DirtyNumber(number as u64)))
    }

    async fn ask<T: FromRedisValue>(&self, operation: &'static str, command: &Cmd) -> Result<T, PurgatoryError> {
        let answer = self
            .connection
            .run(async |mut connection| command.query_async(&mut connection).await);
        answer.await.map_err(|source| PurgatoryError::of(operation, source))
    }

    pub(in crate::purgatory) fn notifications(&self) -> Notifications {
        Notifications::new(listen(self.connection.clone()))
    }
}
