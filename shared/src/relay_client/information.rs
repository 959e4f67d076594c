//! The relay's information document (NIP-11) and the two limits in it that we keep to.
//!
//! A hand-written request: the answer of a relay on loopback needs no more. HTTP/1.0 rules chunked answers out;
//! strfry serves the document only where `Accept` is exactly the type (`RelayWebsocket.cpp`, `onHttpRequest`).

use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;

use super::RelayError;
use super::address::Address;

/// What a relay says of its own limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// Most events it returns for a filter, whatever `limit` says.
    pub(super) page_size: usize,
    /// Longest message it reads. `None`: it does not say.
    pub(super) message_bytes_max: Option<usize>,
}

impl Limits {
    /// Reads the limits from an information document.
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

/// Fetches the document.
pub(super) async fn fetch(address: &Address) -> Result<Value, RelayError> {
    let mut stream = address.connect().await.map_err(RelayError::Connect)?;
    let request = format!(
        "GET {} HTTP/1.0\r\nHost: {}\r\nAccept: application/nostr+json\r\nConnection: close\r\n\r\n",
        address.target,
        address.authority()
    );
    stream
        .write_all(request.as_bytes())
        .await
        .map_err(|_| RelayError::Disconnected)?;

    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let read = stream.read(&mut chunk).await.map_err(|_| RelayError::Disconnected)?;
        answer.extend_from_slice(chunk.get(..read).unwrap_or_default());
        if answer.len() > ANSWER_BYTES_MAX {
            return Err(RelayError::Information {
                reason: "it is too long",
            });
        }
        // strfry keeps the connection open whatever it is asked for: the length has to end the answer.
        if let Some(body) = body(&answer, read == 0)? {
            return serde_json::from_slice(body).map_err(|_| RelayError::Information {
                reason: "it is not JSON",
            });
        }
        if read == 0 {
            return Err(RelayError::Disconnected);
        }
    }
}

/// Returns the body of an answer, or `None` while there is more to come.
fn body(answer: &[u8], at_end: bool) -> Result<Option<&[u8]>, RelayError> {
    let Some(head_length) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let (head, rest) = answer.split_at(head_length);
    let head = str::from_utf8(head).map_err(|_| RelayError::Information {
        reason: "the answer is not HTTP",
    })?;
    let body = rest.get(4..).unwrap_or_default();
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1));
    if status != Some("200") {
        return Err(RelayError::Information {
            reason: "the status is not 200",
        });
    }
    let length = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse::<usize>().ok());
    Ok(match length {
        Some(length) => body.get(..length),
        None => at_end.then_some(body),
    })
}

/// What a relay that does not say is taken to return (strfry's default `relay.maxFilterLimit`).
const PAGE_SIZE_DEFAULT: usize = 500;
/// Most events we ask for at once, however many the relay would return.
const PAGE_SIZE_MAX: usize = 5000;
/// Longest answer that is read.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn body_ends_at_its_length_or_with_the_connection() {
        let with_length = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        let without_length = b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n{}";

        assert_eq!(body(with_length, false).unwrap(), Some(&b"{}"[..]));
        assert_eq!(body(&with_length[..with_length.len() - 1], false).unwrap(), None);
        assert_eq!(body(&with_length[..20], false).unwrap(), None);
        assert_eq!(body(without_length, false).unwrap(), None);
        assert_eq!(body(without_length, true).unwrap(), Some(&b"{}"[..]));
        assert!(body(b"HTTP/1.1 404 Not Found\r\n\r\n", true).is_err());
        assert!(body(b"\xff\r\n\r\n", true).is_err());
    }

    #[test]
    fn limits_are_the_relays_own_or_the_defaults() {
        let limits = |document| {
            let limits = Limits::of(&document);
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
