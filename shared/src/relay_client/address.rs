//! Where a relay is: a `ws` URL.

use std::io;
use std::str::FromStr;

use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use url::Position;
use url::Url;

use super::error::RelayError;

/// A relay's URL without TLS: it is on this host or on the operator's own network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RelayAddress(Url);

/// Why a text is no relay URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RelayUrlError {
    /// It is no URL at all.
    #[error("{text} is not a URL")]
    Syntax {
        /// What was given.
        text: String,
        /// What is wrong with it.
        #[source]
        source: url::ParseError,
    },
    /// It is not a WebSocket URL without TLS.
    #[error("{text} is not a ws:// URL")]
    Scheme {
        /// What was given.
        text: String,
    },
}

impl FromStr for RelayAddress {
    type Err = RelayUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut url = Url::parse(text).map_err(|source| RelayUrlError::Syntax {
            text: text.to_owned(),
            source,
        })?;
        if url.scheme() != "ws" {
            return Err(RelayUrlError::Scheme { text: text.to_owned() });
        }
        url.set_fragment(None);
        Ok(Self(url))
    }
}

impl RelayAddress {
    /// Returns `HOST:PORT`, to connect to and for the `Host` of a request.
    pub(super) fn authority(&self) -> String {
        let host = self.0.host_str().expect("no ws URL is parsed without a host");
        format!("{host}:{}", self.0.port_or_known_default().unwrap_or(80))
    }

    /// Returns path and query.
    pub(super) fn target(&self) -> &str {
        &self.0[Position::BeforePath..]
    }

    /// Connects without waiting for more to send: each message is awaited.
    pub(super) async fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(self.authority()).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Connects and shakes hands.
    pub(super) async fn open(&self) -> Result<WebSocketStream<TcpStream>, RelayError> {
        let stream = self.connect().await.map_err(RelayError::Connect)?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        let (socket, _) = client_async_with_config(self.0.as_str(), stream, Some(config))
            .await
            .map_err(|error| RelayError::Handshake(Box::new(error)))?;
        Ok(socket)
    }
}

/// Longest message that is read from a relay.
const MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_has_host_port_and_target() {
        for (text, authority, target) in [
            ("ws://127.0.0.1:7777", "127.0.0.1:7777", "/"),
            ("ws://relay.example", "relay.example:80", "/"),
            ("ws://relay.example:81/a/b?c=d#e", "relay.example:81", "/a/b?c=d"),
            ("ws://[::1]:7777/", "[::1]:7777", "/"),
        ] {
            let address: RelayAddress = text.parse().unwrap();

            assert_eq!(address.authority(), authority, "{text}");
            assert_eq!(address.target(), target, "{text}");
        }
    }

    #[test]
    fn address_without_ws_is_refused() {
        for text in [
            "",
            "127.0.0.1:7777",
            "wss://relay.example",
            "http://relay.example",
            "ws://",
        ] {
            assert!(text.parse::<RelayAddress>().is_err(), "{text}");
        }
    }
}
