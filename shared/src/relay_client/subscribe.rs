//! A live subscription that outlives its connections and reports when it may have missed something.

use std::time::Duration;

use futures_util::SinkExt;
use futures_util::StreamExt;
use nostr::event::Event;
use nostr::filter::Filter;
use nostr::message::ClientMessage;
use nostr::message::SubscriptionId;
use tokio::time::Instant;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use super::address::RelaySocket;
use super::address::RelayUrl;
use super::connection::to_json;
use super::error::RelayError;
use super::message::RelayMessage;

/// The reports of a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    /// From here on nothing is missed until the next `Connected`. Events that were stored before must be queried.
    Connected,
    /// An event was stored. It may come twice; those stored during a break do not come.
    Event(Box<Event>),
}

/// A subscription, see [`super::RelayClient::subscribe`]. Dropped, it ends.
#[derive(Debug)]
pub struct LiveSubscription {
    url: RelayUrl,
    timeout: Duration,
    filters: Vec<Filter>,
    /// `None`: not connected, not yet or not any more.
    socket: Option<RelaySocket>,
    /// Before the next attempt to connect, if one fails.
    pause: Duration,
    /// When its loss was logged last; `None`: it is not lost.
    lost_logged: Option<Instant>,
}

impl LiveSubscription {
    pub(super) fn new(url: RelayUrl, timeout: Duration, filters: Vec<Filter>) -> Self {
        Self {
            url,
            timeout,
            filters: filters.into_iter().map(|filter| filter.limit(0)).collect(),
            socket: None,
            pause: PAUSE_MIN,
            lost_logged: None,
        }
    }

    /// Waits for the next signal. Connects at the first call, and again for as long as it takes whenever the
    /// connection is lost. Nothing is read from the relay between two calls.
    pub async fn next(&mut self) -> Signal {
        loop {
            let signal = match &mut self.socket {
                Some(socket) => next_event(socket, self.timeout).await.map(Signal::Event),
                None => match timeout(self.timeout, self.connect()).await {
                    Ok(connected) => connected.map(|socket| {
                        self.socket = Some(socket);
                        self.pause = PAUSE_MIN;
                        if self.lost_logged.take().is_some() {
                            tracing::info!("the relay answers again: the subscription continues");
                        }
                        Signal::Connected
                    }),
                    Err(_) => Err(RelayError::Timeout),
                },
            };
            match signal {
                Ok(signal) => return signal,
                Err(error) => self.log_loss(&error),
            }
            self.socket = None;
            tokio::time::sleep(self.pause).await;
            self.pause = (self.pause * 2).min(PAUSE_MAX);
        }
    }

    /// Logs a loss once, and again each minute for as long as it lasts.
    fn log_loss(&mut self, error: &RelayError) {
        if self.lost_logged.is_none_or(|at| at.elapsed() >= LOGGED_EVERY) {
            self.lost_logged = Some(Instant::now());
            tracing::warn!(%error, "the subscription at the relay is lost; trying again");
        }
    }

    /// Connects, and waits until the subscription stands.
    async fn connect(&self) -> Result<RelaySocket, RelayError> {
        let mut socket = self.url.open().await?;
        let request = ClientMessage::req(SubscriptionId::new("live"), self.filters.clone());
        let sent = socket.send(Message::text(to_json(&request))).await;
        sent.map_err(|_| RelayError::Disconnected)?;
        loop {
            match read(&mut socket).await? {
                RelayMessage::EndOfStored { .. } => return Ok(socket),
                RelayMessage::Closed { message, .. } => return Err(RelayError::Closed(message)),
                RelayMessage::Notice { message } => return Err(RelayError::Notice(message)),
                RelayMessage::Event { .. } | RelayMessage::Ok { .. } | RelayMessage::Other => {}
            }
        }
    }
}

/// Reads until the next event.
async fn next_event(socket: &mut RelaySocket, answer_timeout: Duration) -> Result<Box<Event>, RelayError> {
    let mut is_silent = false;
    loop {
        let Ok(message) = timeout(SILENCE_MAX, read(socket)).await else {
            if is_silent {
                return Err(RelayError::Timeout);
            }
            // Silence is normal, but after a ping it is not.
            is_silent = true;
            match timeout(answer_timeout, socket.send(Message::Ping(Default::default()))).await {
                Ok(sent) => sent.map_err(|_| RelayError::Disconnected)?,
                Err(_) => return Err(RelayError::Timeout),
            }
            continue;
        };
        is_silent = false;
        match message? {
            RelayMessage::Event { event: Some(event), .. } => return Ok(event),
            RelayMessage::Event { event: None, .. } => {
                tracing::warn!("the relay sent an event that is not valid; skipped");
            }
            RelayMessage::Closed { message, .. } => return Err(RelayError::Closed(message)),
            RelayMessage::EndOfStored { .. }
            | RelayMessage::Ok { .. }
            | RelayMessage::Notice { .. }
            | RelayMessage::Other => {}
        }
    }
}

async fn read(socket: &mut RelaySocket) -> Result<RelayMessage, RelayError> {
    match socket.next().await {
        Some(Ok(frame)) => Ok(RelayMessage::of(&frame)),
        Some(Err(_)) | None => Err(RelayError::Disconnected),
    }
}

/// First pause before another attempt to connect.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// Longest pause before another attempt: all recovers within 2 s of the relay's return (docs/reliability.md).
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Between two log lines about the same loss.
const LOGGED_EVERY: Duration = Duration::from_secs(60);
/// After this long without a frame the relay is pinged, and after as long again it counts as gone. strfry pings every
/// 55 s.
const SILENCE_MAX: Duration = Duration::from_secs(30);
