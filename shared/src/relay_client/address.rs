//! Where a relay is: a `ws` URL.

use std::str::FromStr;

use tokio::net::TcpStream;
use tokio_tungstenite::MaybeTlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::connect_async_with_config;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use url::Position;
use url::Url;

use super::error::RelayError;
use super::own_mark::SENDER_HEADER;
use super::own_mark::own_mark;

/// A relay's URL without TLS (`ws://host:port/path`): it is on this host or on the operator's own network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayUrl(Url);

/// Why a text is no relay URL, for an operator. Does not repeat it, since it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it must be a URL such as ws://127.0.0.1:7777; TLS (wss) is not supported")]
pub struct RelayUrlError;

impl FromStr for RelayUrl {
    type Err = RelayUrlError;

    fn from_str(text: &str) -> Result<Self, RelayUrlError> {
        let mut url = Url::parse(text).map_err(|_| RelayUrlError)?;
        url.set_fragment(None);
        (url.scheme() == "ws").then_some(Self(url)).ok_or(RelayUrlError)
    }
}

impl RelayUrl {
    /// Returns the URL without a fragment.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Returns `HOST:PORT`, to connect to and for the `Host` of a request.
    pub fn authority(&self) -> String {
        let host = self.0.host_str().expect("no ws URL is parsed without a host");
        format!("{host}:{}", self.0.port_or_known_default().unwrap_or(80))
    }

    pub(super) fn target(&self) -> &str {
        &self.0[Position::BeforePath..]
    }

    /// Connects, without waiting for more to send (each message is awaited), and shakes hands.
    pub(super) async fn open(&self) -> Result<RelaySocket, RelayError> {
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        let request = self.as_str().into_client_request().map(|mut request| {
            let mark = HeaderValue::from_static(own_mark());
            request.headers_mut().insert(SENDER_HEADER, mark);
            request
        });
        let request = request.map_err(|error| RelayError::Connect(Box::new(error)))?;
        let opened = connect_async_with_config(request, Some(config), true).await;
        opened
            .map(|(socket, _)| socket)
            .map_err(|error| RelayError::Connect(Box::new(error)))
    }
}

pub(super) type RelaySocket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Longest message that is read from a relay.
const MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_has_host_port_and_target() {
        for (text, authority, target) in [
            ("ws://127.0.0.1:7777", "127.0.0.1:7777", "/"),
            ("ws://relay.example", "relay.example:80", "/"),
            ("ws://relay.example:81/a/b?c=d#e", "relay.example:81", "/a/b?c=d"),
            ("ws://[::1]:7777/", "[::1]:7777", "/"),
        ] {
            let url: RelayUrl = text.parse().unwrap();

            assert_eq!(url.authority(), authority, "{text}");
            assert_eq!(url.target(), target, "{text}");
        }
    }

    #[test]
    fn url_without_ws_is_refused() {
        for text in [
            "",
            "127.0.0.1:7777",
            "wss://relay.example",
            "http://relay.example",
            "ws://",
            "ws:",
            "x",
        ] {
            assert!(text.parse::<RelayUrl>().is_err(), "{text}");
        }
    }
}
