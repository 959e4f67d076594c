//! A nostr client that says what it is told to and hears what it is told, and events of git repositories.

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
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

/// A connection to a relay.
pub struct NostrClient(WebSocketStream<MaybeTlsStream<TcpStream>>);

/// The answer to an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ok {
    /// Whether it was taken.
    pub taken: bool,
    /// What was said about it.
    pub message: String,
}

impl NostrClient {
    /// Connects.
    ///
    /// # Panics
    /// The relay cannot be reached.
    pub async fn connect(url: &str) -> Self {
        Self(tokio_tungstenite::connect_async(url).await.unwrap().0)
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
        Self(tokio_tungstenite::client_async(request, stream).await.unwrap().0)
    }

    /// Sends a message.
    ///
    /// # Panics
    /// The connection is gone.
    pub async fn say(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    /// Returns the next message.
    ///
    /// # Panics
    /// There is none within thirty seconds.
    pub async fn hear(&mut self) -> Value {
        let next = async {
            loop {
                if let Message::Text(text) = self.0.next().await.unwrap().unwrap() {
                    return serde_json::from_str(&text).unwrap();
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(30), next)
            .await
            .expect("the relay says nothing")
    }

    /// Sends an event and returns the answer.
    ///
    /// # Panics
    /// There is none.
    pub async fn send(&mut self, event: &Event) -> Ok {
        self.say(json!(["EVENT", event])).await;
        loop {
            let message = self.hear().await;
            if message[0] == "OK" && message[1] == event.id.to_hex() {
                let text = message[3].as_str().unwrap_or_default().to_owned();
                return Ok {
                    taken: message[2] == true,
                    message: text,
                };
            }
        }
    }

    /// Returns the stored events that match.
    ///
    /// # Panics
    /// The relay does not answer completely.
    pub async fn query(&mut self, filter: Value) -> Vec<Event> {
        self.say(json!(["REQ", "query", filter])).await;
        let mut events = Vec::new();
        loop {
            let message = self.hear().await;
            match message[0].as_str() {
                Some("EVENT") if message[1] == "query" => {
                    events.push(serde_json::from_value(message[2].clone()).unwrap());
                }
                Some("EOSE") if message[1] == "query" => break,
                Some("CLOSED" | "NOTICE") => panic!("{message}"),
                _ => {}
            }
        }
        self.say(json!(["CLOSE", "query"])).await;
        events
    }

    /// Tells whether the relay serves an event.
    pub async fn serves(&mut self, event: &Event) -> bool {
        !self.query(json!({"ids": [event.id.to_hex()]})).await.is_empty()
    }

    /// Subscribes to what is stored from now on.
    pub async fn subscribe(&mut self, filter: Value) {
        self.say(json!(["REQ", "live", filter])).await;
        while self.hear().await[0] != "EOSE" {}
    }

    /// Returns the id of the next event of the subscription.
    pub async fn next_live(&mut self) -> EventId {
        loop {
            let message = self.hear().await;
            if message[0] == "EVENT" && message[1] == "live" {
                return serde_json::from_value(message[2]["id"].clone()).unwrap();
            }
        }
    }
}

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
