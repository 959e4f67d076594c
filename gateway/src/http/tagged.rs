//! The body of an answer with its entity tag (RFC 9110, 8.8.3), which a client that already has it sends.

use bitcoin_hashes::sha256;
use bytes::Bytes;
use warp::http::HeaderMap;
use warp::http::HeaderValue;
use warp::http::header;

#[derive(Debug, Clone)]
pub(crate) struct TaggedBody {
    pub(crate) bytes: Bytes,
    /// Its tag, the same on every server.
    pub(crate) tag: HeaderValue,
}

impl TaggedBody {
    /// Names a body by its content.
    pub(crate) fn new(bytes: Bytes) -> Self {
        let hash = sha256::Hash::hash(&bytes).to_string();
        let tag = format!("\"{}\"", &hash[..TAG_DIGITS]);
        Self {
            bytes,
            tag: HeaderValue::try_from(tag).expect("quoted hex digits are a header value"),
        }
    }

    /// Whether the client that sent `headers` has this body (RFC 9110, 13.1.2).
    pub(crate) fn is_known_by(&self, headers: &HeaderMap) -> bool {
        let values = headers.get_all(header::IF_NONE_MATCH).into_iter();
        let mut tags = values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','));
        // A proxy that compresses makes it a weak one.
        tags.any(|tag| tag.trim().trim_start_matches("W/").as_bytes() == self.tag.as_bytes())
    }
}

/// Enough to distinguish the versions of one page.
const TAG_DIGITS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_names_the_tag_has_the_body() {
        let body = TaggedBody::new(Bytes::from_static(b"one"));
        let tag = body.tag.to_str().unwrap().to_owned();
        let other = TaggedBody::new(Bytes::from_static(b"two")).tag;
        let other = other.to_str().unwrap();
        for (sent, is_known) in [
            (vec![], false),
            (vec![tag.clone()], true),
            (vec![format!("W/{tag}")], true),
            (vec![format!("{other}, {tag}")], true),
            (vec![other.to_owned(), tag.clone()], true),
            (vec![other.to_owned()], false),
            (vec![tag.trim_matches('"').to_owned()], false),
        ] {
            let mut headers = HeaderMap::new();
            for value in &sent {
                headers.append(header::IF_NONE_MATCH, HeaderValue::from_str(value).unwrap());
            }
            assert_eq!(body.is_known_by(&headers), is_known, "{sent:?}");
        }
    }
}
