//! The relay as clients reach it: an event is sent, and its answer awaited.

use std::time::Duration;

use futures_util::SinkExt;
use futures_util::StreamExt;
use nostr::event::Event;
use serde_json::Value;
use serde_json::json;
use tokio::time::Instant;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Error as WebSocketError;
use tokio_tungstenite::tungstenite::Message;
use url::Url;

use crate::outside::Connection;
use crate::outside::WAIT_MAX;

/// A WebSocket of the relay, through TLS or not.
pub(crate) struct OutsideRelay(WebSocketStream<Box<dyn Connection>>);

impl OutsideRelay {
    /// Opens a WebSocket on a connection to the server at `origin`.
    pub(crate) async fn open(origin: &Url, connection: Box<dyn Connection>) -> Result<Self, WebSocketError> {
        let url = origin.as_str().replacen("http", "ws", 1);
        let (socket, _) = client_async(url, connection).await?;
        Ok(Self(socket))
    }

    /// Sends an event, and returns whether the relay has accepted it, and its words; `None`: it does not answer.
    pub(crate) async fn publish(&mut self, event: &Event) -> Result<Option<(bool, String)>, WebSocketError> {
        let text = json!(["EVENT", event]).to_string();
        self.0.send(Message::text(text)).await?;
        while let Some(message) = self.0.next().await {
            let text = message?.into_text().unwrap_or_default();
            let answer: Value = serde_json::from_str(&text).unwrap_or_default();
            if answer[0] == "OK" && answer[1] == event.id.to_hex() {
                let message = answer[3].as_str().unwrap_or_default().to_owned();
                return Ok(Some((answer[2] == true, message)));
            }
        }
        Ok(None)
    }

    /// Sends nothing but answers to pings for so long; returns after how long the connection has ended, if it has.
    pub(crate) async fn end_in_silence(&mut self, silence: Duration) -> Option<Duration> {
        let begun = Instant::now();
        let ended = async { while let Some(Ok(_)) = self.0.next().await {} };
        timeout(silence, ended).await.is_ok().then(|| begun.elapsed())
    }

    /// Whether the relay answers a query, for an event that nobody has.
    pub(crate) async fn answers(&mut self) -> bool {
        let query = json!(["REQ", "grasp", {"ids": ["0".repeat(64)], "limit": 1}]).to_string();
        let answered = async {
            if self.0.send(Message::text(query)).await.is_err() {
                return false;
            }
            while let Some(Ok(message)) = self.0.next().await {
                let answer: Value = serde_json::from_str(&message.into_text().unwrap_or_default()).unwrap_or_default();
                if answer[0] == "EOSE" {
                    return true;
                }
            }
            false
        };
        timeout(WAIT_MAX, answered).await.unwrap_or(false)
    }
}
