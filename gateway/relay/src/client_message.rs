//! Messages of clients (NIP-01, NIP-45), parsed as strictly as strfry does (`RelayIngester.cpp`, `filters.h`).

use std::collections::BTreeSet;

use nostr::event::Event;
use nostr::filter::Filter;
use nostr::types::Timestamp;
use serde_json::Value;

use crate::limits::RelayLimits;
use crate::limits::SUBSCRIPTION_ID_BYTES_MAX;
use crate::request_size::RequestSize;
use crate::shares::TooManyFilters;
use crate::validate::InvalidEvent;
use crate::validate::id_for_answer;
use crate::validate::validate;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum ClientMessage {
    /// An event, or the reason why it cannot be stored.
    Event {
        /// How the answer names it.
        id: String,
        event: Result<Event, InvalidEvent>,
    },
    /// A request for a subscription.
    Req(FilterRequest),
    /// A request for the number of events that match.
    Count(FilterRequest),
    /// The end of a subscription.
    Close { subscription: String },
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct FilterRequest {
    pub(super) subscription: String,
    pub(super) filters: Vec<Filter>,
    /// What it takes in memory.
    pub(super) bytes: usize,
}

#[derive(Debug)]
pub(super) struct MalformedMessage {
    /// The subscription that it asks for, which ends; `None`: it is about none.
    pub(super) subscription: Option<String>,
    /// The text that the client reads.
    pub(super) reason: String,
}

#[derive(Debug, thiserror::Error)]
#[error("bad req: {0}")]
struct MalformedFilter(String);

impl ClientMessage {
    /// Parses a message, unless it is a request that would take more memory than the open subscriptions of a
    /// connection may.
    pub(super) fn parse(text: &str, limits: &RelayLimits) -> Result<Self, MalformedMessage> {
        let mut bytes = 0;
        if let Some(size) = RequestSize::of(text) {
            if size.bytes > limits.open_bytes_max as usize {
                let too_many = TooManyFilters::BytesOfConnection(limits.open_bytes_max);
                return Err(MalformedMessage {
                    subscription: size.subscription.filter(|id| is_subscription_id(id)),
                    reason: too_many.to_string(),
                });
            }
            bytes = size.bytes;
        }
        let Ok(Value::Array(elements)) = serde_json::from_str(text) else {
            return malformed("message is not an array");
        };
        let mut elements = elements.into_iter();
        let Some(Value::String(verb)) = elements.next() else {
            return malformed("first element not a command like REQ");
        };
        if verb == "EVENT" {
            return match elements.next() {
                Some(value) => Ok(Self::Event {
                    id: id_for_answer(&value),
                    event: validate(value, Timestamp::now(), limits),
                }),
                None => malformed("too few array elements"),
            };
        }
        if !matches!(verb.as_str(), "REQ" | "COUNT" | "CLOSE") {
            return malformed("unknown cmd");
        }
        let subscription = match elements.next() {
            Some(Value::String(id)) if is_subscription_id(&id) => id,
            _ => {
                return malformed(&format!(
                    "subscription id is not a string of 1 to {SUBSCRIPTION_ID_BYTES_MAX} bytes"
                ));
            }
        };
        if verb == "CLOSE" {
            return Ok(Self::Close { subscription });
        }
        match filters(elements.collect(), limits) {
            Ok(filters) => {
                let request = FilterRequest {
                    subscription,
                    filters,
                    bytes,
                };
                Ok(if verb == "REQ" {
                    Self::Req(request)
                } else {
                    Self::Count(request)
                })
            }
            Err(filter) => Err(MalformedMessage {
                subscription: Some(subscription),
                reason: filter.to_string(),
            }),
        }
    }
}

fn is_subscription_id(id: &str) -> bool {
    (1..=SUBSCRIPTION_ID_BYTES_MAX).contains(&id.len())
}

fn malformed(reason: &str) -> Result<ClientMessage, MalformedMessage> {
    Err(MalformedMessage {
        subscription: None,
        reason: format!("bad msg: {reason}"),
    })
}

/// Reads filters. One that cannot match anything, having an empty list, is left out: `nostr` and `nostr-lmdb` take
/// an empty list for no condition.
fn filters(values: Vec<Value>, limits: &RelayLimits) -> Result<Vec<Filter>, MalformedFilter> {
    if values.is_empty() {
        return bad("no filter");
    }
    let (count, max) = (values.len(), limits.filters_max);
    if count > max {
        return bad(format!("{count} filters, at most {max}"));
    }
    let filters = values.into_iter().filter_map(|value| filter(value).transpose());
    filters.collect()
}

fn filter(value: Value) -> Result<Option<Filter>, MalformedFilter> {
    let Some(fields) = value.as_object() else {
        return bad("provided filter is not an object");
    };
    let mut tag_names = BTreeSet::new();
    let mut never_matches = false;
    for (name, value) in fields {
        let list = match name.as_bytes() {
            b"since" | b"until" | b"limit" if value.is_u64() => continue,
            b"since" | b"until" | b"limit" => return bad(format!("error parsing {name}")),
            b"ids" | b"authors" | b"kinds" => value.as_array(),
            [b'#', tag_name] if tag_name.is_ascii_alphabetic() => {
                tag_names.insert(tag_name);
                value.as_array()
            }
            _ => return bad(format!("unrecognised filter item: {name}")),
        };
        let Some(list) = list else {
            return bad(format!("{name} not an array"));
        };
        never_matches |= list.is_empty();
        let hex = matches!(name.as_str(), "ids" | "authors" | "#e" | "#p");
        if hex && !list.iter().all(|item| item.as_str().is_some_and(is_hex_64)) {
            return bad(format!("{name} not all of 64 hex digits"));
        }
    }
    if tag_names.len() > TAG_NAMES_MAX {
        return bad("too many tags in filter");
    }
    let filter = serde_json::from_value(value).map_err(|error| MalformedFilter(error.to_string()))?;
    Ok((!never_matches).then_some(filter))
}

fn bad<T>(reason: impl Into<String>) -> Result<T, MalformedFilter> {
    Err(MalformedFilter(reason.into()))
}

fn is_hex_64(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Most tag names in one filter (strfry `filters.h`).
const TAG_NAMES_MAX: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<ClientMessage, MalformedMessage> {
        let limits = RelayLimits {
            filters_max: 2,
            ..RelayLimits::default()
        };
        ClientMessage::parse(text, &limits)
    }

    #[test]
    fn malformed_message_is_told_by_a_notice() {
        let long_id = format!(r#"["REQ","{}",{{}}]"#, "x".repeat(65));
        for text in [
            "",
            "x",
            "{}",
            "[]",
            "[1]",
            r#"["EVENT"]"#,
            r#"["WHAT","x"]"#,
            r#"["AUTH",{}]"#,
            r#"["REQ"]"#,
            r#"["REQ",1,{}]"#,
            r#"["REQ","",{}]"#,
            &long_id,
            r#"["CLOSE"]"#,
        ] {
            let malformed = parsed(text).unwrap_err();

            assert_eq!(malformed.subscription, None, "{text}: {malformed:?}");
            assert!(malformed.reason.starts_with("bad msg: "), "{malformed:?}");
        }
    }

    #[test]
    fn request_with_a_bad_filter_is_closed() {
        for filters in [
            "",
            ",1",
            ",{},{},{}",
            r#",{"search":"x"}"#,
            r##",{"#dd":["x"]}"##,
            r##",{"#":["x"]}"##,
            r##",{"#é":["x"]}"##,
            r#",{"limit":-1}"#,
            r#",{"since":"1"}"#,
            r#",{"kinds":1}"#,
            r#",{"kinds":["1"]}"#,
            r#",{"ids":["12"]}"#,
            r#",{"authors":["npub1"]}"#,
            r##",{"#e":["x"]}"##,
            r##",{"#d":[1]}"##,
            r##",{"#a":["x"],"#b":["x"],"#c":["x"],"#d":["x"]}"##,
        ] {
            for verb in ["REQ", "COUNT"] {
                let malformed = parsed(&format!(r#"["{verb}","s"{filters}]"#)).unwrap_err();

                assert_eq!(malformed.subscription.as_deref(), Some("s"), "{filters}: {malformed:?}");
                assert!(malformed.reason.starts_with("bad req: "), "{malformed:?}");
            }
        }
    }

    #[test]
    fn filter_with_an_empty_list_matches_nothing() {
        for filter in [
            r#"{"ids":[]}"#,
            r#"{"authors":[]}"#,
            r#"{"kinds":[]}"#,
            r##"{"#d":[]}"##,
        ] {
            let message = parsed(&format!(r#"["REQ","s",{filter},{{"kinds":[1]}}]"#)).unwrap();

            let ClientMessage::Req(FilterRequest { filters, .. }) = message else {
                panic!("{message:?}");
            };
            assert_eq!(filters, [Filter::new().kind(nostr::event::Kind::TextNote)]);
        }
    }
}
