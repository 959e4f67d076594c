//! A nostr client, and events of git repositories. Its methods end the test where the relay fails; those with `try_`
//! return what went wrong, for clients of a world in which everything may die.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::SinkExt;
use futures_util::StreamExt;
use nostr::event::Event;
use nostr::event::EventBuilder;
use nostr::event::EventId;
use nostr::event::FinalizeEvent;
use nostr::event::Kind;
use nostr::event::Tag;
use nostr::key::Keys;
use nostr::types::Timestamp;
use serde_json::Value;
use serde_json::json;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;
use tokio_tungstenite::MaybeTlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

/// A connection to a relay.
pub struct NostrClient {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// For one message of the relay.
    patience: Duration,
}

/// The answer to an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OkMessage {
    /// Whether it was taken.
    pub taken: bool,
    /// What was said about it.
    pub message: String,
}

/// Why the relay gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
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
    #[error("the relay answered {0}")]
    Unexpected(String),
}

impl NostrClient {
    /// Connects.
    ///
    /// # Panics
    /// The relay cannot be reached.
    pub async fn connect(url: &str) -> Self {
        Self::try_connect(url, PATIENCE).await.unwrap()
    }

    /// Connects from another address of this host, with headers of its own choice.
    ///
    /// # Panics
    /// The relay cannot be reached.
    pub async fn connect_from(address: IpAddr, authority: &str, headers: &[(&'static str, &str)]) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(address, 0)).unwrap();
        let stream = socket.connect(authority.parse().unwrap()).await.unwrap();
        let mut request = format!("ws://{authority}").into_client_request().unwrap();
        for &(name, value) in headers {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let stream = MaybeTlsStream::Plain(stream);
        let (socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
        Self {
            socket,
            patience: PATIENCE,
        }
    }

    /// Sends a message.
    ///
    /// # Panics
    /// The connection is gone.
    pub async fn say(&mut self, message: Value) {
        self.try_say(message).await.unwrap();
    }

    /// Returns the next message.
    ///
    /// # Panics
    /// There is none within thirty seconds.
    pub async fn hear(&mut self) -> Value {
        self.try_hear().await.unwrap()
    }

    /// Waits until the connection ends.
    ///
    /// # Panics
    /// It does not within thirty seconds.
    pub async fn ended(&mut self) {
        let ended = async { while let Some(Ok(_)) = self.socket.next().await {} };
        tokio::time::timeout(self.patience, ended).await.expect("an end");
    }

    /// Sends an event and returns the answer.
    ///
    /// # Panics
    /// There is none.
    pub async fn send(&mut self, event: &Event) -> OkMessage {
        self.try_send(event).await.unwrap()
    }

    /// Returns the stored events that match.
    ///
    /// # Panics
    /// The relay does not answer completely.
    pub async fn query(&mut self, filter: Value) -> Vec<Event> {
        self.try_query(&filter).await.unwrap()
    }

    /// Tells whether the relay serves an event.
    pub async fn serves(&mut self, event: &Event) -> bool {
        !self.query(json!({"ids": [event.id.to_hex()]})).await.is_empty()
    }

    /// Subscribes to what is stored from now on.
    ///
    /// # Panics
    /// The relay does not answer.
    pub async fn subscribe(&mut self, filter: Value) {
        self.try_subscribe(&filter).await.unwrap();
    }

    /// Returns the id of the next event of the subscription.
    ///
    /// # Panics
    /// There is none within thirty seconds.
    pub async fn next_live(&mut self) -> EventId {
        let next = tokio::time::timeout(PATIENCE, self.try_next_live()).await;
        next.expect("the relay says nothing").unwrap().id
    }

    /// Connects, and waits for each answer so long at the most.
    ///
    /// # Errors
    /// See [`NoAnswer`].
    pub async fn try_connect(url: &str, patience: Duration) -> Result<Self, NoAnswer> {
        let connected = tokio::time::timeout(patience, tokio_tungstenite::connect_async(url)).await;
        let (socket, _) = connected.map_err(|_| NoAnswer::Timeout)?.map_err(Box::new)?;
        Ok(Self { socket, patience })
    }

    /// Sends a message.
    ///
    /// # Errors
    /// See [`NoAnswer`].
    async fn try_say(&mut self, message: Value) -> Result<(), NoAnswer> {
        let sent = tokio::time::timeout(self.patience, self.socket.send(Message::text(message.to_string())));
        Ok(sent.await.map_err(|_| NoAnswer::Timeout)?.map_err(Box::new)?)
    }

    /// Returns the next message, however long it takes.
    ///
    /// # Errors
    /// See [`NoAnswer`].
    async fn listen(&mut self) -> Result<Value, NoAnswer> {
        loop {
            let heard = self.socket.next().await.ok_or(NoAnswer::Ended)?.map_err(Box::new)?;
            if let Message::Text(text) = heard {
                return serde_json::from_str(&text).map_err(|_| NoAnswer::Unexpected(text.to_string()));
            }
        }
    }

    /// Returns the next message.
    ///
    /// # Errors
    /// See [`NoAnswer`].
    async fn try_hear(&mut self) -> Result<Value, NoAnswer> {
        let heard = tokio::time::timeout(self.patience, self.listen()).await;
        heard.map_err(|_| NoAnswer::Timeout)?
    }

    /// Sends an event and returns the answer.
    ///
    /// # Errors
    /// See [`NoAnswer`].
    pub async fn try_send(&mut self, event: &Event) -> Result<OkMessage, NoAnswer> {
        self.try_say(json!(["EVENT", event])).await?;
        loop {
            let message = self.try_hear().await?;
            if message[0] == "OK" && message[1] == event.id.to_hex() {
                return Ok(OkMessage {
                    taken: message[2] == true,
                    message: message[3].as_str().unwrap_or_default().to_owned(),
                });
            }
        }
    }

    /// Returns the stored events that match.
    ///
    /// # Errors
    /// See [`NoAnswer`].
    pub async fn try_query(&mut self, filter: &Value) -> Result<Vec<Event>, NoAnswer> {
        self.try_say(json!(["REQ", "query", filter])).await?;
        let mut events = Vec::new();
        loop {
            let message = self.try_hear().await?;
            match message[0].as_str() {
                Some("EVENT") if message[1] == "query" => events.extend(event_of(&message)),
                Some("EOSE") if message[1] == "query" => break,
                Some("CLOSED" | "NOTICE") => return Err(NoAnswer::Unexpected(message.to_string())),
                _ => {}
            }
        }
        self.try_say(json!(["CLOSE", "query"])).await?;
        Ok(events)
    }

    /// Subscribes to what is stored from now on.
    ///
    /// # Errors
    /// See [`NoAnswer`].
    pub async fn try_subscribe(&mut self, filter: &Value) -> Result<(), NoAnswer> {
        self.try_say(json!(["REQ", "live", filter])).await?;
        while self.try_hear().await?[0] != "EOSE" {}
        Ok(())
    }

    /// Waits for the next event of the subscription, however long it takes.
    ///
    /// # Errors
    /// See [`NoAnswer`].
    pub async fn try_next_live(&mut self) -> Result<Event, NoAnswer> {
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

/// For one message of the relay.
const PATIENCE: Duration = Duration::from_secs(30);

/// Signs an event.
///
/// # Panics
/// A tag is empty.
pub fn sign(keys: &Keys, kind: u16, created_at: u64, tags: &[Vec<String>]) -> Event {
    EventBuilder::new(Kind::from_u16(kind), "")
        .tags(tags.iter().map(|tag| Tag::parse(tag).unwrap()))
        .custom_created_at(Timestamp::from_secs(created_at))
        .finalize(keys)
        .unwrap()
}

/// Returns the time, unix seconds.
pub fn now() -> u64 {
    Timestamp::now().as_secs()
}

/// Makes a tag of texts.
pub fn tag(values: &[&str]) -> Vec<String> {
    values.iter().map(|&value| value.to_owned()).collect()
}
