//! A live subscription that outlives its connections and reports when it may have missed something.

use std::time::Duration;

use futures_util::SinkExt;
use futures_util::StreamExt;
use nostr::event::Event;
use nostr::filter::Filter;
use nostr::message::ClientMessage;
use nostr::message::SubscriptionId;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite;

use super::address::RelayAddress;
use super::connection::to_json;
use super::error::RelayError;
use super::message::RelayMessage;

/// What a subscription reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    /// From here on nothing is missed until the next `Connected`. What was stored before has to be asked for.
    Connected,
    /// An event was stored. It may come twice; those stored during a break do not come.
    Event(Box<Event>),
}

/// A subscription, see [`super::RelayClient::subscribe`]. Dropped, it ends.
#[derive(Debug)]
pub struct LiveSubscription {
    follower: Follower,
    signals: Option<mpsc::Receiver<Signal>>,
}

#[derive(Debug, Clone)]
struct Follower {
    address: RelayAddress,
    timeout: Duration,
    filters: Vec<Filter>,
}

impl LiveSubscription {
    pub(super) fn new(address: RelayAddress, timeout: Duration, filters: Vec<Filter>) -> Self {
        let filters = filters.into_iter().map(|filter| filter.limit(0)).collect();
        Self {
            follower: Follower {
                address,
                timeout,
                filters,
            },
            signals: None,
        }
    }

    /// Waits for the next signal. Connects at the first call, and again for as long as it takes whenever the
    /// connection is lost.
    ///
    /// Cancel-safe: a signal is returned or kept.
    pub async fn next(&mut self) -> Signal {
        loop {
            let signals = self.signals.get_or_insert_with(|| self.follower.clone().spawn());
            match signals.recv().await {
                Some(signal) => return signal,
                // The task is gone: it panicked, or the runtime is shutting down.
                None => self.signals = None,
            }
        }
    }
}

impl Follower {
    fn spawn(self) -> mpsc::Receiver<Signal> {
        let (sender, signals) = mpsc::channel(SIGNALS_MAX);
        tokio::spawn(async move {
            let receiver_gone = sender.clone();
            tokio::select! {
                () = self.run(sender) => {}
                () = receiver_gone.closed() => {}
            }
        });
        signals
    }

    /// Connects again and again.
    async fn run(self, signals: mpsc::Sender<Signal>) {
        let mut pause = PAUSE_MIN;
        loop {
            let mut connected = false;
            if let Err(error) = self.follow(&signals, &mut connected).await {
                tracing::warn!(%error, "the subscription at the relay is lost; trying again");
            }
            pause = if connected {
                PAUSE_MIN
            } else {
                (pause * 2).min(PAUSE_MAX)
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Follows the relay on one connection until it is lost. Sets `connected` once the subscription stands.
    async fn follow(&self, signals: &mpsc::Sender<Signal>, connected: &mut bool) -> Result<(), RelayError> {
        let mut socket = tokio::time::timeout(self.timeout, self.subscribe())
            .await
            .map_err(|_| RelayError::Timeout)??;
        let mut wait = self.timeout;
        let mut silent = false;
        loop {
            let Ok(frame) = tokio::time::timeout(wait, socket.next()).await else {
                if silent || !*connected {
                    return Err(RelayError::Timeout);
                }
                // Silence is normal, but after a ping it is not.
                silent = true;
                send(
                    &mut socket,
                    tungstenite::Message::Ping(Default::default()),
                    self.timeout,
                )
                .await?;
                continue;
            };
            silent = false;
            let text = match frame {
                Some(Ok(tungstenite::Message::Text(text))) => text,
                Some(Ok(_)) => continue,
                Some(Err(_)) | None => return Err(RelayError::Disconnected),
            };
            let signal = match RelayMessage::parse(text.as_str()) {
                RelayMessage::Event { event: Some(event), .. } => Signal::Event(event),
                RelayMessage::EndOfStored { .. } => {
                    *connected = true;
                    wait = SILENCE_MAX;
                    Signal::Connected
                }
                RelayMessage::Closed { message, .. } => return Err(RelayError::Closed { message }),
                RelayMessage::Notice { message } if !*connected => {
                    return Err(RelayError::Notice { message });
                }
                RelayMessage::Event { event: None, .. } => {
                    tracing::warn!("the relay sent an event that is not valid; skipped");
                    continue;
                }
                RelayMessage::Ok { .. } | RelayMessage::Notice { .. } | RelayMessage::Other => continue,
            };
            if signals.send(signal).await.is_err() {
                return Ok(());
            }
        }
    }

    async fn subscribe(&self) -> Result<WebSocketStream<TcpStream>, RelayError> {
        let mut socket = self.address.open().await?;
        let request = ClientMessage::req(SubscriptionId::new("live"), self.filters.clone());
        send(&mut socket, tungstenite::Message::text(to_json(&request)), self.timeout).await?;
        Ok(socket)
    }
}

async fn send(
    socket: &mut WebSocketStream<TcpStream>,
    message: tungstenite::Message,
    timeout: Duration,
) -> Result<(), RelayError> {
    tokio::time::timeout(timeout, socket.send(message))
        .await
        .map_err(|_| RelayError::Timeout)?
        .map_err(|_| RelayError::Disconnected)
}

/// Most signals that wait for [`LiveSubscription::next`]; the relay's own buffer takes what is more.
const SIGNALS_MAX: usize = 256;
/// First pause before another attempt to connect.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// Longest pause before another attempt: all recovers within 2 s of the relay's return (docs/reliability.md).
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// After this long without a frame the relay is pinged, and after as long again it is taken for gone. strfry pings
/// every 55 s.
const SILENCE_MAX: Duration = Duration::from_secs(30);
