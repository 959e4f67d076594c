//! The relay's information document (NIP-11) and the two limits in it that we keep to.

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::Empty;
use http_body_util::LengthLimitError;
use http_body_util::Limited;
use hyper::Request;
use hyper::StatusCode;
use hyper::client::conn::http1;
use hyper::header;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use super::address::RelayUrl;
use super::error::RelayError;
use super::own_mark::SENDER_HEADER;
use super::own_mark::own_mark;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StatedLimits {
    /// Most events that it returns for a filter, whatever `limit` is.
    pub(super) page_size: usize,
    /// Longest message it reads. `None`: not stated.
    pub(super) message_bytes_max: Option<usize>,
}

impl StatedLimits {
    pub(super) fn of(document: &Value) -> Self {
        let limit = |name| {
            document
                .pointer("/limitation")?
                .get(name)?
                .as_u64()
                .filter(|limit| *limit > 0)
                .and_then(|limit| usize::try_from(limit).ok())
        };
        Self {
            page_size: limit("max_limit").map_or(PAGE_SIZE_DEFAULT, |size| size.min(PAGE_SIZE_MAX)),
            message_bytes_max: limit("max_message_length"),
        }
    }
}

/// Fetches the document. The caller bounds the time.
pub(super) async fn fetch(url: &RelayUrl) -> Result<Value, RelayError> {
    let stream = TcpStream::connect(url.authority()).await;
    let stream = stream.map_err(|error| RelayError::Connect(Box::new(error.into())))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let request = Request::get(url.target())
        .header(header::HOST, url.authority())
        // strfry answers with the document only if this is all of `Accept` (`RelayWebsocket.cpp`, `onHttpRequest`).
        .header(header::ACCEPT, "application/nostr+json")
        .header(SENDER_HEADER, own_mark())
        .body(Empty::<Bytes>::new())
        .map_err(|_| RelayError::Information("its URL is no target of a request"))?;
    let answer = async move {
        let response = sender.send_request(request).await.map_err(failed)?;
        if response.status() != StatusCode::OK {
            return Err(RelayError::Information("the status is not 200"));
        }
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| match error.is::<LengthLimitError>() {
            true => RelayError::Information("it is too long"),
            false => RelayError::Disconnected,
        })?;
        serde_json::from_slice(&body.to_bytes()).map_err(|_| RelayError::Information("it is not JSON"))
    };
    // The connection ends with its only request; how is of no interest once there is an answer.
    tokio::join!(answer, connection).0
}

fn failed(error: hyper::Error) -> RelayError {
    match error.is_parse() {
        true => RelayError::Information("the answer is not HTTP"),
        false => RelayError::Disconnected,
    }
}

/// Assumed of a relay that does not state it (strfry's default `relay.maxFilterLimit`).
const PAGE_SIZE_DEFAULT: usize = 500;
/// Most events we ask for at once, however many the relay would return.
const PAGE_SIZE_MAX: usize = 5000;
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn limits_are_the_relays_own_or_the_defaults() {
        let limits = |document| {
            let limits = StatedLimits::of(&document);
            (limits.page_size, limits.message_bytes_max)
        };

        assert_eq!(limits(json!({})), (500, None));
        assert_eq!(limits(json!({"limitation": {"max_limit": 0}})), (500, None));
        assert_eq!(limits(json!({"limitation": {"max_limit": "7"}})), (500, None));
        assert_eq!(
            limits(json!({"limitation": {"max_limit": 7, "max_message_length": 9}})),
            (7, Some(9))
        );
        assert_eq!(limits(json!({"limitation": {"max_limit": u64::MAX}})), (5000, None));
    }
}
