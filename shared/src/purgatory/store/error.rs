//! Failures between this program and Redis.

use std::fmt;
use std::sync::Arc;

use redis::ErrorKind;
use redis::ServerErrorKind;

/// Why the purgatory did not do an operation. Nothing was changed, except after a timeout
/// ([`PurgatoryError::Unavailable`]) or with missing replicas ([`PurgatoryError::Unconfirmed`]): then it is unknown,
/// and every operation may be repeated.
#[derive(Debug, thiserror::Error)]
pub enum PurgatoryError {
    /// Redis cannot be reached, does not answer in time, or answers that it cannot serve at the moment. It passes.
    #[error("cannot {operation} in the purgatory: redis is unavailable ({server})")]
    Unavailable {
        /// The operation that failed.
        operation: &'static str,
        /// Which Redis.
        server: Arc<str>,
        /// The error of the connection or the server.
        #[source]
        source: redis::RedisError,
    },
    /// Too few replicas confirmed in time that they have it. It may be done on the master alone.
    #[error("cannot {operation} in the purgatory: {confirmed} of {wanted} replicas of redis have it")]
    Unconfirmed {
        /// The operation that failed.
        operation: &'static str,
        /// How many have it.
        confirmed: u64,
        /// How many must.
        wanted: u64,
    },
    /// Redis is at its `maxmemory`. What lets it empty itself still works.
    #[error("cannot {operation} in the purgatory: redis is out of memory (maxmemory)")]
    Full {
        /// The operation that failed.
        operation: &'static str,
    },
    /// The server is older than the scripts need.
    #[error(
        "redis {version} is too old for the purgatory: it needs {} or newer",
        PurgatoryError::VERSION_MIN
    )]
    TooOld {
        /// What the server calls itself.
        version: String,
    },
    /// The URL of Redis cannot be used.
    #[error("cannot use the redis URL")]
    Url {
        /// The fault, without the URL, which may contain a password.
        #[source]
        source: redis::RedisError,
    },
    /// Redis refused the command or the script: a wrong password, a missing right, or a bug.
    #[error("cannot {operation} in the purgatory: redis refused ({server})")]
    Script {
        /// The operation that failed.
        operation: &'static str,
        /// Which Redis.
        server: Arc<str>,
        /// The error of the server.
        #[source]
        source: redis::RedisError,
    },
    /// Something in Redis was not written by this program, or a script has a bug.
    #[error("cannot {operation} in the purgatory: {what}")]
    Protocol {
        /// The operation that failed.
        operation: &'static str,
        /// The unreadable or failing part.
        what: String,
    },
}

impl PurgatoryError {
    /// Oldest Redis: `#!lua` flags came with 7.0 (Redis manual, "Lua API reference", script flags).
    pub const VERSION_MIN: &str = "7.0";

    /// Reads the client library's error about `operation` at a server.
    pub(super) fn of(operation: &'static str, server: &Arc<str>, source: redis::RedisError) -> Self {
        let server = Arc::clone(server);
        if source.code() == Some("OOM") {
            return Self::Full { operation };
        }
        // Codes the library has no kind for: no disk to write to, too few replicas, a script that blocks the server.
        let is_passing_code = matches!(source.code(), Some("MISCONF" | "NOREPLICAS" | "BUSY"));
        let is_passing_kind = is_elsewhere(source.kind())
            || matches!(
                source.kind(),
                ErrorKind::Io | ErrorKind::Server(ServerErrorKind::TryAgain)
            );
        if is_passing_code || is_passing_kind {
            return Self::Unavailable {
                operation,
                server,
                source,
            };
        }
        if matches!(source.kind(), ErrorKind::Parse | ErrorKind::UnexpectedReturnType) {
            return Self::malformed(operation, source);
        }
        Self::Script {
            operation,
            server,
            source,
        }
    }

    /// Makes the error of an answer that cannot be read.
    pub(super) fn malformed(operation: &'static str, what: impl fmt::Display) -> Self {
        let what = format!("unreadable answer: {what}");
        Self::Protocol { operation, what }
    }
}

/// Whether an error of this kind means that no server can serve at the moment, or another than the one that was asked.
pub(super) fn is_elsewhere(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ClusterConnectionNotFound
            | ErrorKind::MasterNameNotFoundBySentinel
            | ErrorKind::Server(
                ServerErrorKind::BusyLoading
                    | ServerErrorKind::ClusterDown
                    | ServerErrorKind::MasterDown
                    | ServerErrorKind::Moved
                    | ServerErrorKind::Ask
                    | ServerErrorKind::ReadOnly
            )
    )
}
