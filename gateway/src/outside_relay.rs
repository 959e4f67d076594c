//! The relay as clients reach it: an event is sent, and its answer awaited.

use futures_util::SinkExt;
use futures_util::StreamExt;
use nostr::event::Event;
use serde_json::Value;
use serde_json::json;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Error as WebSocketError;
use tokio_tungstenite::tungstenite::Message;
use url::Url;

use crate::outside::Connection;

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
}
