//! A nostr client that says what it is told to and hears what it is told, and events of git repositories.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::time::Duration;

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
use tokio_tungstenite::MaybeTlsStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::talk::Talk;

/// A connection to a relay.
pub struct NostrClient(Talk);

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
        Self(Talk::connect(url, PATIENCE).await.unwrap())
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
        Self(Talk::over(socket, PATIENCE))
    }

    /// Sends a message.
    ///
    /// # Panics
    /// The connection is gone.
    pub async fn say(&mut self, message: Value) {
        self.0.say(message).await.unwrap();
    }

    /// Returns the next message.
    ///
    /// # Panics
    /// There is none within thirty seconds.
    pub async fn hear(&mut self) -> Value {
        self.0.hear().await.unwrap()
    }

    /// Waits until the connection ends.
    ///
    /// # Panics
    /// It does not within thirty seconds.
    pub async fn ended(&mut self) {
        self.0.ended().await.unwrap();
    }

    /// Sends an event and returns the answer.
    ///
    /// # Panics
    /// There is none.
    pub async fn send(&mut self, event: &Event) -> Ok {
        self.0.send(event).await.unwrap()
    }

    /// Returns the stored events that match.
    ///
    /// # Panics
    /// The relay does not answer completely.
    pub async fn query(&mut self, filter: Value) -> Vec<Event> {
        self.0.query(&filter).await.unwrap()
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
        self.0.subscribe(&filter).await.unwrap();
    }

    /// Returns the id of the next event of the subscription.
    ///
    /// # Panics
    /// There is none within thirty seconds.
    pub async fn next_live(&mut self) -> EventId {
        let next = tokio::time::timeout(PATIENCE, self.0.next_live()).await;
        next.expect("the relay says nothing").unwrap().id
    }
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
