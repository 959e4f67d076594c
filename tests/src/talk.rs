//! A conversation with a relay that says what went wrong, for clients of a world in which everything may die.
//! `nostr_client.rs` is the same for tests that end with it.

use std::time::Duration;

use futures_util::SinkExt;
use futures_util::StreamExt;
use nostr::event::Event;
use serde_json::Value;
use serde_json::json;
use tokio::net::TcpStream;
use tokio_tungstenite::MaybeTlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::Message;

use crate::nostr_client::Ok as Answer;

/// A connection to a relay.
pub struct Talk {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// For one message of the relay.
    patience: Duration,
}

/// Why a relay's answer is none.
#[derive(Debug, thiserror::Error)]
pub enum TalkError {
    /// The connection failed.
    #[error("the connection failed")]
    Connection(#[from] Box<tungstenite::Error>),
    /// It ended.
    #[error("the connection ended")]
    Ended,
    /// Nothing came in time.
    #[error("no answer in time")]
    Timeout,
    /// Something else than what was asked for came.
    #[error("the relay says {0}")]
    Said(String),
}

impl Talk {
    /// Connects, and waits for each answer so long at the most.
    ///
    /// # Errors
    /// See [`TalkError`].
    pub async fn connect(url: &str, patience: Duration) -> Result<Self, TalkError> {
        let connected = tokio::time::timeout(patience, tokio_tungstenite::connect_async(url)).await;
        let (socket, _) = connected.map_err(|_| TalkError::Timeout)?.map_err(Box::new)?;
        Ok(Self { socket, patience })
    }

    /// Talks over a WebSocket that is open.
    pub fn over(socket: WebSocketStream<MaybeTlsStream<TcpStream>>, patience: Duration) -> Self {
        Self { socket, patience }
    }

    /// Sends a message.
    ///
    /// # Errors
    /// See [`TalkError`].
    pub async fn say(&mut self, message: Value) -> Result<(), TalkError> {
        let sent = tokio::time::timeout(self.patience, self.socket.send(Message::text(message.to_string())));
        Ok(sent.await.map_err(|_| TalkError::Timeout)?.map_err(Box::new)?)
    }

    /// Returns the next message, however long it takes.
    ///
    /// # Errors
    /// See [`TalkError`].
    pub async fn listen(&mut self) -> Result<Value, TalkError> {
        loop {
            let heard = self.socket.next().await.ok_or(TalkError::Ended)?.map_err(Box::new)?;
            if let Message::Text(text) = heard {
                return serde_json::from_str(&text).map_err(|_| TalkError::Said(text.to_string()));
            }
        }
    }

    /// Returns the next message.
    ///
    /// # Errors
    /// See [`TalkError`].
    pub async fn hear(&mut self) -> Result<Value, TalkError> {
        let heard = tokio::time::timeout(self.patience, self.listen()).await;
        heard.map_err(|_| TalkError::Timeout)?
    }

    /// Waits until the connection ends.
    ///
    /// # Errors
    /// [`TalkError::Timeout`].
    pub async fn ended(&mut self) -> Result<(), TalkError> {
        let ended = async { while let Some(Ok(_)) = self.socket.next().await {} };
        let ended = tokio::time::timeout(self.patience, ended).await;
        ended.map_err(|_| TalkError::Timeout)
    }

    /// Sends an event and returns the answer.
    ///
    /// # Errors
    /// See [`TalkError`].
    pub async fn send(&mut self, event: &Event) -> Result<Answer, TalkError> {
        self.say(json!(["EVENT", event])).await?;
        loop {
            let message = self.hear().await?;
            if message[0] == "OK" && message[1] == event.id.to_hex() {
                return Ok(Answer {
                    taken: message[2] == true,
                    message: message[3].as_str().unwrap_or_default().to_owned(),
                });
            }
        }
    }

    /// Returns the stored events that match.
    ///
    /// # Errors
    /// See [`TalkError`].
    pub async fn query(&mut self, filter: &Value) -> Result<Vec<Event>, TalkError> {
        self.say(json!(["REQ", "query", filter])).await?;
        let mut events = Vec::new();
        loop {
            let message = self.hear().await?;
            match message[0].as_str() {
                Some("EVENT") if message[1] == "query" => events.extend(event_of(&message)),
                Some("EOSE") if message[1] == "query" => break,
                Some("CLOSED" | "NOTICE") => return Err(TalkError::Said(message.to_string())),
                _ => {}
            }
        }
        self.say(json!(["CLOSE", "query"])).await?;
        Ok(events)
    }

    /// Subscribes to what is stored from now on.
    ///
    /// # Errors
    /// See [`TalkError`].
    pub async fn subscribe(&mut self, filter: &Value) -> Result<(), TalkError> {
        self.say(json!(["REQ", "live", filter])).await?;
        while self.hear().await?[0] != "EOSE" {}
        Ok(())
    }

    /// Waits for the next event of the subscription, however long it takes.
    ///
    /// # Errors
    /// See [`TalkError`].
    pub async fn next_live(&mut self) -> Result<Event, TalkError> {
        loop {
            let message = self.listen().await?;
            let is_live = message[0] == "EVENT" && message[1] == "live";
            if let Some(event) = event_of(&message).filter(|_| is_live) {
                return Ok(event);
            }
        }
    }
}

fn event_of(message: &Value) -> Option<Event> {
    serde_json::from_value(message[2].clone()).ok()
}
