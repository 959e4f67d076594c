//! The loopback relay client: queries that are whole or an error, publishing with one outcome a variant, and a
//! subscription that reports when it may have missed something.
//!
//! `docs/strfry-contract.md` lists what it relies on in strfry. Signatures are not checked: the relay has checked them,
//! and it is the operator's own.

mod address;
mod connection;
mod crowded;
mod error;
mod information;
mod message;
mod outcome;
mod own_mark;
mod page;
mod pending;
mod prolific;
mod query;
mod subscribe;

use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nostr::event::Event;
use nostr::filter::Filter;
use tokio::sync::Mutex;
use tokio::sync::Semaphore;

use crate::connections_runtime::ConnectionsRuntime;

pub use address::RelayUrl;
pub use address::RelayUrlError;
use connection::PUBLISHES_MAX;
use connection::QUERIES_MAX;
use connection::RelayConnection;
use crowded::CrowdedTags;
pub use error::RelayError;
pub use outcome::PublishOutcome;
pub use own_mark::SENDER_HEADER;
pub use own_mark::own_mark;
use prolific::ProlificAuthors;
pub use subscribe::LiveSubscription;
pub use subscribe::Signal;

/// A relay, reached by one connection that is made at the first use and again whenever it is lost.
///
/// Clones share the connection; answers are matched to requests by subscription and event id.
#[derive(Debug, Clone)]
pub struct RelayClient {
    inner: Arc<ClientInner>,
}

#[derive(Debug)]
struct ClientInner {
    url: RelayUrl,
    timeout: Duration,
    connection: Mutex<Option<Arc<RelayConnection>>>,
    queries: Semaphore,
    crowded: CrowdedTags,
    /// Who has many, or large ones, of what [`RelayClient::query_with`] and [`RelayClient::fewer_than`] read.
    prolific_together: ProlificAuthors,
    prolific_alone: ProlificAuthors,
    publishes: Semaphore,
    runtime: ConnectionsRuntime,
    /// Whether the relay has not answered the last question, and is not asked until it does; `None`: each question
    /// waits.
    silent: Option<AtomicBool>,
}

impl RelayClient {
    /// Returns a client of the relay at `url`. Nothing is connected yet.
    ///
    /// `timeout` bounds each wait for the relay: connecting, one page of a query, one answer to an event.
    pub fn new(url: RelayUrl, timeout: Duration) -> Self {
        Self::with(url, timeout, None)
    }

    /// Returns a client that waits only once for a relay that hangs: from then on everything fails at once, until the
    /// relay has answered a query in the background.
    pub fn impatient(url: RelayUrl, timeout: Duration) -> Self {
        Self::with(url, timeout, Some(AtomicBool::new(false)))
    }

    fn with(url: RelayUrl, timeout: Duration, silent: Option<AtomicBool>) -> Self {
        Self {
            inner: Arc::new(ClientInner {
                url,
                timeout,
                connection: Mutex::new(None),
                queries: Semaphore::new(QUERIES_MAX),
                crowded: CrowdedTags::default(),
                prolific_together: ProlificAuthors::default(),
                prolific_alone: ProlificAuthors::default(),
                publishes: Semaphore::new(PUBLISHES_MAX),
                runtime: ConnectionsRuntime::current(),
                silent,
            }),
        }
    }

    /// Returns a client of the same relay with a connection of its own: neither waits for what the other asks.
    #[must_use]
    pub fn apart(&self) -> Self {
        let silent = self.inner.silent.as_ref().map(|_| AtomicBool::new(false));
        Self::with(self.inner.url.clone(), self.inner.timeout, silent)
    }

    /// Returns the relay's `host:port`.
    pub fn authority(&self) -> String {
        self.inner.url.authority()
    }

    /// Returns the path and query at which the relay is asked.
    pub fn target(&self) -> &str {
        self.inner.url.target()
    }

    /// Returns every stored event that matches one of `filters`, each once, in no particular order.
    ///
    /// A `limit` in a filter is ignored: the answer is all of them or an error. An event that is no valid
    /// [`Event`] (strfry takes tags with values that are not strings) is skipped with a warning.
    ///
    /// # Errors
    /// The relay did not answer in full, see [`RelayError`]. There is no partial answer.
    pub async fn query(&self, filters: Vec<Filter>) -> Result<Vec<Event>, RelayError> {
        self.query_up_to(filters, usize::MAX).await
    }

    /// Returns the same, unless one of the filters matches more than `events_max` events, or than as many for each half
    /// of its authors if these are too large to be read at once.
    ///
    /// # Errors
    /// The relay did not answer in full, or there are more ([`RelayError::TooMany`]).
    pub async fn query_up_to(&self, filters: Vec<Filter>, events_max: usize) -> Result<Vec<Event>, RelayError> {
        let crowded = &self.inner.crowded;
        let query = |connection| query::query(connection, crowded, &filters, events_max, usize::MAX);
        self.ask(&self.inner.queries, query).await
    }

    /// Returns the same as [`RelayClient::query`], unless the events take more than so many bytes of
    /// memory.
    ///
    /// # Errors
    /// The relay did not answer in full, or there is more ([`RelayError::TooLarge`]).
    pub async fn query_within(&self, bytes_max: usize, filters: Vec<Filter>) -> Result<Vec<Event>, RelayError> {
        let crowded = &self.inner.crowded;
        let query = |connection| query::query(connection, crowded, &filters, usize::MAX, bytes_max);
        self.ask(&self.inner.queries, query).await
    }

    /// Returns every stored event that matches one of `filters`, as [`RelayClient::query`], and by the same request
    /// those that match `few`, if these are clearly fewer than `count` and all together are small; `None`: all may be
    /// more, or one of the authors had many or large ones a while ago.
    ///
    /// # Errors
    /// See [`RelayClient::query`].
    pub async fn query_with(
        &self,
        filters: Vec<Filter>,
        few: Filter,
        count: usize,
    ) -> Result<Option<Vec<Event>>, RelayError> {
        let ClientInner {
            crowded,
            prolific_together,
            ..
        } = &*self.inner;
        let of_few = std::slice::from_ref(&few);
        if prolific_together.are_named_by(of_few) {
            return Ok(None);
        }
        let query_with = |connection| query::query_with(connection, crowded, &filters, &few, count);
        let found = self.ask(&self.inner.queries, query_with).await?;
        Ok(prolific_together.note(found, of_few, count))
    }

    /// Returns every stored event that matches one of `filters`, each with a `limit` of `count`. `None`: there may be
    /// as many as that, or more than are small or take so many bytes of memory, or one of the authors had many or large
    /// ones a while ago.
    ///
    /// # Errors
    /// See [`RelayClient::query`].
    pub async fn fewer_than(
        &self,
        bytes_max: usize,
        count: usize,
        filters: Vec<Filter>,
    ) -> Result<Option<Vec<Event>>, RelayError> {
        let ClientInner {
            crowded,
            prolific_alone,
            ..
        } = &*self.inner;
        if prolific_alone.are_named_by(&filters) {
            return Ok(None);
        }
        let fewer_than = |connection| query::fewer_than(connection, crowded, bytes_max, count, &filters);
        let found = self.ask(&self.inner.queries, fewer_than).await?;
        Ok(prolific_alone.note(found, &filters, count))
    }

    /// Returns the newest stored events that match each of `filters`, up to each one's `limit`, unless they take more
    /// than so many bytes of memory.
    ///
    /// # Errors
    /// The relay did not answer, or there is more ([`RelayError::TooLarge`]).
    pub async fn newest(&self, bytes_max: usize, filters: Vec<Filter>) -> Result<Vec<Event>, RelayError> {
        let newest = |connection| query::newest(connection, &filters, bytes_max);
        self.ask(&self.inner.queries, newest).await
    }

    /// Returns the newest stored events that match `filter`, up to its `limit`, and as many of these as take no more
    /// than about so many bytes of memory; and whether these are all.
    ///
    /// # Errors
    /// The relay did not answer.
    pub async fn newest_cut(&self, bytes_max: usize, filter: Filter) -> Result<(Vec<Event>, bool), RelayError> {
        let newest = |connection| query::newest_cut(connection, &filter, bytes_max);
        self.ask(&self.inner.queries, newest).await
    }

    /// Whether any stored event matches one of `filters`.
    pub async fn any(&self, filters: Vec<Filter>) -> Result<bool, RelayError> {
        let crowded = &self.inner.crowded;
        self.ask(&self.inner.queries, |connection| {
            query::any(connection, crowded, &filters)
        })
        .await
    }

    /// Publishes `event` and waits for the relay's answer.
    pub async fn publish(&self, event: &Event) -> PublishOutcome {
        let publish = |connection: Arc<RelayConnection>| async move { connection.publish(event).await };
        match self.ask(&self.inner.publishes, publish).await {
            Ok(outcome) => outcome,
            // It would be the same at the next attempt.
            Err(error @ RelayError::MessageTooLong { .. }) => PublishOutcome::Refused(error.to_string()),
            Err(error) => PublishOutcome::Busy(error.to_string()),
        }
    }

    /// Returns a subscription to what matches one of `filters` and is stored from now on. Stored events are not
    /// delivered. It has a connection of its own, made at the first call of [`LiveSubscription::next`].
    pub fn subscribe(&self, filters: Vec<Filter>) -> LiveSubscription {
        LiveSubscription::new(self.inner.url.clone(), self.inner.timeout, filters)
    }

    /// Reads the relay's information document (NIP-11) and returns it.
    pub async fn information(&self) -> Result<serde_json::Value, RelayError> {
        tokio::time::timeout(self.inner.timeout, information::fetch(&self.inner.url))
            .await
            .map_err(|_| RelayError::Timeout)?
    }

    async fn ask<T, F>(&self, permits: &Semaphore, request: impl Fn(Arc<RelayConnection>) -> F) -> Result<T, RelayError>
    where
        F: Future<Output = Result<T, RelayError>>,
    {
        let Some(silent) = &self.inner.silent else {
            return self.ask_now(permits, request).await;
        };
        if silent.load(Ordering::Relaxed) {
            return Err(RelayError::Timeout);
        }
        let answer = self.ask_now(permits, request).await;
        if matches!(answer, Err(RelayError::Timeout)) && !silent.swap(true, Ordering::Relaxed) {
            tokio::spawn(until_it_answers(Arc::downgrade(&self.inner)));
        }
        answer
    }

    /// Sends a query on the connection, and once more on a new one if the old one turns out to be gone, as it is after
    /// a restart of the relay: repeating a query or a publication is harmless.
    async fn ask_now<T, F>(
        &self,
        permits: &Semaphore,
        request: impl Fn(Arc<RelayConnection>) -> F,
    ) -> Result<T, RelayError>
    where
        F: Future<Output = Result<T, RelayError>>,
    {
        // Behind others, too, nobody waits longer than for the relay itself.
        let permit = tokio::time::timeout(self.inner.timeout, permits.acquire()).await;
        let _permit = permit.map_err(|_| RelayError::Timeout)?;
        match request(self.connection().await?).await {
            Err(RelayError::Disconnected) => request(self.connection().await?).await,
            answer => answer,
        }
    }

    /// Returns the connection, made now unless there is one.
    async fn connection(&self) -> Result<Arc<RelayConnection>, RelayError> {
        let ClientInner {
            url, timeout, runtime, ..
        } = &*self.inner;
        // The wait for another task that connects counts too, or all would wait for a dead relay one after the other.
        let connected = tokio::time::timeout(*timeout, async {
            let mut slot = self.inner.connection.lock().await;
            if let Some(connection) = slot.as_ref().filter(|connection| !connection.is_closed()) {
                return Ok(Arc::clone(connection));
            }
            let connection = runtime.open(Box::pin(RelayConnection::open(url, *timeout))).await?;
            let connection = Arc::new(connection);
            *slot = Some(Arc::clone(&connection));
            Ok(connection)
        });
        connected.await.map_err(|_| RelayError::Timeout)?
    }
}

/// Sends a query to a silent relay until it answers, or the client is dropped. One late answer is not worth a log line.
async fn until_it_answers(client: Weak<ClientInner>) {
    let anything = [Filter::new().limit(1)];
    let mut is_logged = false;
    while let Some(inner) = client.upgrade() {
        let client = RelayClient { inner };
        let crowded = &client.inner.crowded;
        let answer = client.ask_now(&client.inner.queries, |connection| {
            query::any(connection, crowded, &anything)
        });
        if !matches!(answer.await, Err(RelayError::Timeout)) {
            if let Some(silent) = &client.inner.silent {
                silent.store(false, Ordering::Relaxed);
            }
            if is_logged {
                tracing::info!("the relay answers again: queries continue");
            }
            return;
        }
        if !is_logged {
            tracing::error!("the relay does not answer in time: no queries until it does");
            is_logged = true;
        }
        drop(client);
        tokio::time::sleep(PROBE_PAUSE).await;
    }
}

/// Between two questions to a silent relay.
const PROBE_PAUSE: Duration = Duration::from_millis(250);

#[cfg(test)]
pub(crate) mod tests;
