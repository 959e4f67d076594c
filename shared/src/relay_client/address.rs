//! Where a relay is: a `ws` URL, taken apart once.

use std::io;
use std::str::FromStr;

use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use url::Host;
use url::Url;

use super::MESSAGE_BYTES_MAX;
use super::RelayError;

/// A relay's URL without TLS: it is on this host or on the operator's own network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    host: String,
    port: u16,
    /// Path and query.
    pub(super) target: String,
    url: String,
}

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
    /// It names no host.
    #[error("{text} names no host")]
    Host {
        /// What was given.
        text: String,
    },
}

impl FromStr for Address {
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
        let host = match url.host() {
            Some(Host::Domain(name)) => name.to_owned(),
            Some(Host::Ipv4(ip)) => ip.to_string(),
            Some(Host::Ipv6(ip)) => ip.to_string(),
            None => {
                return Err(RelayUrlError::Host { text: text.to_owned() });
            }
        };
        Ok(Self {
            host,
            port: url.port_or_known_default().unwrap_or(80),
            target: match url.query() {
                Some(query) => format!("{}?{query}", url.path()),
                None => url.path().to_owned(),
            },
            url: url.into(),
        })
    }
}

impl Address {
    /// Returns what an HTTP request names in `Host`.
    pub(super) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Connects without waiting for more to send: every message is awaited by somebody.
    pub(super) async fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Connects and shakes hands.
    pub(super) async fn open(&self) -> Result<WebSocketStream<TcpStream>, RelayError> {
        let stream = self.connect().await.map_err(RelayError::Connect)?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        let (socket, _) = client_async_with_config(self.url.as_str(), stream, Some(config))
            .await
            .map_err(|error| RelayError::Handshake(Box::new(error)))?;
        Ok(socket)
    }
}

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
            let address: Address = text.parse().unwrap();

            assert_eq!(address.authority(), authority, "{text}");
            assert_eq!(address.target, target, "{text}");
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
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }
}
