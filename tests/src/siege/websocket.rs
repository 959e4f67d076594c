//! An attacker's WebSocket: events as fast as they are answered, requests, and messages that nobody should send.

use std::time::Duration;

use futures_util::SinkExt;
use futures_util::StreamExt;
use nostr::event::Event;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderName;
use tokio_tungstenite::tungstenite::http::HeaderValue;

use crate::siege::attacker::Attacker;
use crate::siege::attacker::Effort;

/// A connection to the relay.
pub(super) struct Socket {
    stream: WebSocketStream<TcpStream>,
    effort: Effort,
}

impl Socket {
    /// Connects; `None`: he is not let in.
    pub(super) async fn open(attacker: &Attacker) -> Option<Self> {
        Self::open_reading(attacker, None).await
    }

    /// Connects, with so much room for what he does not read.
    ///
    /// # Panics
    /// His header fields are none.
    pub(super) async fn open_reading(attacker: &Attacker, room: Option<u32>) -> Option<Self> {
        let stream = attacker.connect_reading(room).await?;
        let mut request = format!("ws://{}", attacker.server).into_client_request().unwrap();
        for field in attacker.fields.lines() {
            let (name, value) = field.split_once(": ").unwrap();
            let (name, value): (HeaderName, HeaderValue) = (name.parse().unwrap(), value.parse().unwrap());
            request.headers_mut().insert(name, value);
        }
        let opened = tokio::time::timeout(PATIENCE, tokio_tungstenite::client_async(request, stream)).await;
        let Ok(Ok((stream, _))) = opened else {
            attacker.effort.answered("no WebSocket");
            return None;
        };
        Some(Self {
            stream,
            effort: attacker.effort.clone(),
        })
    }

    /// Sends a message; `None`: the connection is gone.
    pub(super) async fn say(&mut self, message: String) -> Option<()> {
        let bytes = message.len();
        let sent = tokio::time::timeout(PATIENCE, self.stream.send(Message::text(message))).await;
        sent.ok()?.ok()?;
        self.effort.sent(bytes);
        Some(())
    }

    /// Returns the next message; `None`: there is none any more.
    pub(super) async fn hear(&mut self) -> Option<Value> {
        tokio::time::timeout(PATIENCE, self.hear_patiently()).await.ok()?
    }

    /// Returns the next message, however long it takes; `None`: there is none any more.
    pub(super) async fn hear_patiently(&mut self) -> Option<Value> {
        loop {
            if let Message::Text(text) = self.stream.next().await?.ok()? {
                return serde_json::from_str(&text).ok();
            }
        }
    }

    /// Sends bytes that need not be whole frames.
    pub(super) async fn write_raw(&mut self, bytes: &[u8]) -> Option<()> {
        let written = tokio::time::timeout(PATIENCE, self.stream.get_mut().write_all(bytes)).await;
        written.ok()?.ok()?;
        self.effort.sent(bytes.len());
        Some(())
    }

    /// Waits until the server ends the connection, and reads nothing.
    pub(super) async fn until_cut_off(&mut self) {
        let mut is_open = true;
        while is_open {
            tokio::time::sleep(Duration::from_secs(1)).await;
            is_open = self.stream.send(Message::Pong(Vec::new().into())).await.is_ok();
        }
    }

    /// Sends events, a few ahead of their answers. `None`: the connection is gone.
    pub(super) async fn send_all(&mut self, events: &[Event]) -> Option<()> {
        let mut unanswered = 0;
        for event in events {
            self.say(json!(["EVENT", event]).to_string()).await?;
            unanswered += 1;
            while unanswered >= AHEAD_MAX {
                self.hear_answer().await?;
                unanswered -= 1;
            }
        }
        for _ in 0..unanswered {
            self.hear_answer().await?;
        }
        Some(())
    }

    async fn hear_answer(&mut self) -> Option<()> {
        loop {
            let message = self.hear().await?;
            if message[0] == "OK" {
                let text = message[3].as_str().unwrap_or_default();
                self.effort.answered(&format!("{} {text}", message[2]));
                return Some(());
            }
        }
    }
}

/// Sends events on one connection and forgets it.
pub(super) async fn send_all(attacker: &Attacker, events: &[Event]) {
    if let Some(mut socket) = Socket::open(attacker).await
        && socket.send_all(events).await.is_none()
    {
        attacker.effort.answered("the connection ended");
    }
}

/// Events that he is ahead of the answers.
const AHEAD_MAX: usize = 32;

/// For each answer.
const PATIENCE: Duration = Duration::from_secs(30);
