//! The loopback relay client: queries that are whole or an error, publishing with one outcome a variant, and a
//! subscription that says when it may have missed something.
//!
//! What it relies on in strfry stands in `docs/strfry-contract.md`. Signatures are not checked: the relay has done
//! so, and it is the operator's own.

mod address;
mod connection;
mod error;
mod information;
mod message;
mod outcome;
mod pending;
mod query;
mod subscribe;

use std::sync::Arc;
use std::time::Duration;

use nostr::event::Event;
use nostr::filter::Filter;
use tokio::sync::Mutex;
use tokio::sync::Semaphore;

use address::Address;
pub use address::RelayUrlError;
use connection::Connection;
pub use error::RelayError;
pub use outcome::PublishOutcome;
pub use subscribe::Signal;
pub use subscribe::Subscription;

/// A relay, reached by one connection that is made at the first use and again whenever it is lost.
///
/// Clones share the connection; what they ask is told apart by subscription and event id.
#[derive(Debug, Clone)]
pub struct RelayClient {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    address: Address,
    timeout: Duration,
    connection: Mutex<Option<Arc<Connection>>>,
    queries: Semaphore,
    publishes: Semaphore,
}

impl RelayClient {
    /// Returns a client of the relay at `url` (`ws://host:port/path`). Nothing is connected yet.
    ///
    /// `timeout` bounds each wait for the relay: connecting, one page of a query, one answer to an event.
    ///
    /// # Errors
    /// `url` is not a `ws` URL with a host.
    pub fn new(url: &str, timeout: Duration) -> Result<Self, RelayUrlError> {
        Ok(Self {
            shared: Arc::new(Shared {
                address: url.parse()?,
                timeout,
                connection: Mutex::new(None),
                queries: Semaphore::new(QUERIES_MAX),
                publishes: Semaphore::new(PUBLISHES_MAX),
            }),
        })
    }

    /// Returns the relay's `host:port`.
    pub fn authority(&self) -> String {
        self.shared.address.authority()
    }

    /// Returns the path and query at which the relay is asked.
    pub fn target(&self) -> &str {
        &self.shared.address.target
    }

    /// Returns every stored event that matches one of `filters`, each once, in no particular order.
    ///
    /// A `limit` in a filter is ignored: the answer is all of them or an error. An event that is no valid
    /// [`Event`] (strfry takes tags with values that are not strings) is skipped with a warning.
    ///
    /// # Errors
    /// The relay did not answer in full, see [`RelayError`]. There is no partial answer.
    pub async fn query(&self, filters: Vec<Filter>) -> Result<Vec<Event>, RelayError> {
        let _permit = self.shared.queries.acquire().await;
        let (connection, age) = self.connection().await?;
        match query::query(&connection, &filters).await {
            Err(RelayError::Disconnected) if age == Age::Reused => {
                let (connection, _) = self.connection().await?;
                query::query(&connection, &filters).await
            }
            answer => answer,
        }
    }

    /// Returns the newest stored events that match each of `filters`, as many as each one's `limit` says.
    ///
    /// # Errors
    /// The relay did not answer.
    pub async fn newest(&self, filters: Vec<Filter>) -> Result<Vec<Event>, RelayError> {
        let _permit = self.shared.queries.acquire().await;
        let (connection, age) = self.connection().await?;
        match query::newest(&connection, &filters).await {
            Err(RelayError::Disconnected) if age == Age::Reused => {
                let (connection, _) = self.connection().await?;
                query::newest(&connection, &filters).await
            }
            answer => answer,
        }
    }

    /// Tells whether any stored event matches one of `filters`.
    ///
    /// # Errors
    /// The relay did not answer.
    pub async fn any(&self, filters: Vec<Filter>) -> Result<bool, RelayError> {
        let _permit = self.shared.queries.acquire().await;
        let (connection, age) = self.connection().await?;
        match query::any(&connection, &filters).await {
            Err(RelayError::Disconnected) if age == Age::Reused => {
                let (connection, _) = self.connection().await?;
                query::any(&connection, &filters).await
            }
            answer => answer,
        }
    }

    /// Publishes `event` and waits for the relay's answer.
    pub async fn publish(&self, event: &Event) -> PublishOutcome {
        let _permit = self.shared.publishes.acquire().await;
        match self.publish_once_or_twice(event).await {
            Ok(outcome) => outcome,
            // It would be the same at the next attempt.
            Err(error @ RelayError::MessageTooLong { .. }) => PublishOutcome::Refused(error.to_string()),
            Err(error) => PublishOutcome::Busy(error.to_string()),
        }
    }

    /// Returns a subscription to what matches one of `filters` and is stored from now on. Stored events are not
    /// delivered. It has a connection of its own, made at the first call of [`Subscription::next`].
    pub fn subscribe(&self, filters: Vec<Filter>) -> Subscription {
        Subscription::new(self.shared.address.clone(), self.shared.timeout, filters)
    }

    /// Returns the relay's information document (NIP-11), read anew.
    ///
    /// # Errors
    /// The relay could not be reached, or did not answer with a JSON document.
    pub async fn information(&self) -> Result<serde_json::Value, RelayError> {
        tokio::time::timeout(self.shared.timeout, information::fetch(&self.shared.address))
            .await
            .map_err(|_| RelayError::Timeout)?
    }

    /// Publishes, and once more on a new connection where the old one turned out to be gone: sending an event twice
    /// does no harm.
    async fn publish_once_or_twice(&self, event: &Event) -> Result<PublishOutcome, RelayError> {
        let (connection, age) = self.connection().await?;
        match connection.publish(event).await {
            Err(RelayError::Disconnected) if age == Age::Reused => {
                let (connection, _) = self.connection().await?;
                connection.publish(event).await
            }
            answer => answer,
        }
    }

    /// Returns the connection, made now unless there is one.
    async fn connection(&self) -> Result<(Arc<Connection>, Age), RelayError> {
        let Shared { address, timeout, .. } = &*self.shared;
        // Waiting for another who connects counts too, or all would wait for a dead relay one after the other.
        let connected = tokio::time::timeout(*timeout, async {
            let mut slot = self.shared.connection.lock().await;
            if let Some(connection) = slot.as_ref().filter(|connection| !connection.is_closed()) {
                return Ok((Arc::clone(connection), Age::Reused));
            }
            let connection = Arc::new(Connection::open(address, *timeout).await?);
            *slot = Some(Arc::clone(&connection));
            Ok((connection, Age::New))
        });
        connected.await.map_err(|_| RelayError::Timeout)?
    }
}

/// Whether a connection was there before: only then is its loss no news about the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Age {
    New,
    Reused,
}

/// Most queries at a time. strfry allows 200 subscriptions for one connection, 1.0.4 only 20.
const QUERIES_MAX: usize = 16;
/// Most events that wait for an answer at a time.
const PUBLISHES_MAX: usize = 32;
/// Longest message that is read from a relay.
const MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

#[cfg(test)]
mod tests;
