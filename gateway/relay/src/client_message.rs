//! What a client says (NIP-01, NIP-45), parsed as strictly as strfry does (`RelayIngester.cpp`, `filters.h`).

use std::collections::BTreeSet;

use nostr::filter::Filter;
use serde_json::Value;

use crate::RelayLimits;

/// A message of a client.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum ClientMessage {
    /// An event, not looked at yet.
    Event(Value),
    /// A subscription.
    Req { subscription: String, filters: Vec<Filter> },
    /// A question how many events there are.
    Count { subscription: String, filters: Vec<Filter> },
    /// The end of a subscription.
    Close { subscription: String },
}

/// Why a message cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Complaint {
    /// Told by `NOTICE`.
    Notice(String),
    /// Told by `CLOSED`, the subscription being known.
    Closed { subscription: String, reason: String },
}

impl ClientMessage {
    /// Reads a message.
    pub(super) fn parse(text: &str, limits: &RelayLimits) -> Result<Self, Complaint> {
        let Ok(Value::Array(elements)) = serde_json::from_str(text) else {
            return Err(notice("bad msg: message is not an array"));
        };
        let mut elements = elements.into_iter();
        let Some(Value::String(verb)) = elements.next() else {
            return Err(notice("bad msg: first element not a command like REQ"));
        };
        if verb == "EVENT" {
            let event = elements
                .next()
                .ok_or_else(|| notice("bad msg: too few array elements"))?;
            return Ok(Self::Event(event));
        }
        if !matches!(verb.as_str(), "REQ" | "COUNT" | "CLOSE") {
            return Err(notice("bad msg: unknown cmd"));
        }
        let subscription = match elements.next() {
            Some(Value::String(id)) if (1..=SUBSCRIPTION_ID_BYTES_MAX).contains(&id.len()) => id,
            _ => {
                return Err(notice(&format!(
                    "bad msg: subscription id is not a string of 1 to {SUBSCRIPTION_ID_BYTES_MAX} bytes"
                )));
            }
        };
        if verb == "CLOSE" {
            return Ok(Self::Close { subscription });
        }
        match filters(elements.collect(), limits) {
            Ok(filters) if verb == "REQ" => Ok(Self::Req { subscription, filters }),
            Ok(filters) => Ok(Self::Count { subscription, filters }),
            Err(reason) => Err(Complaint::Closed {
                subscription,
                reason: format!("error: bad req: {reason}"),
            }),
        }
    }
}

fn notice(text: &str) -> Complaint {
    Complaint::Notice(format!("ERROR: {text}"))
}

/// Reads filters. One that cannot match anything, having an empty list, is left out: `nostr` and `nostr-lmdb` take
/// an empty list for no condition.
fn filters(values: Vec<Value>, limits: &RelayLimits) -> Result<Vec<Filter>, String> {
    if values.is_empty() {
        return Err("no filter".to_owned());
    }
    if values.len() > limits.filters_max {
        return Err(format!("{} filters, at most {}", values.len(), limits.filters_max));
    }
    let mut filters = Vec::new();
    for value in values {
        if let Some(filter) = filter(value)? {
            filters.push(filter);
        }
    }
    Ok(filters)
}

fn filter(value: Value) -> Result<Option<Filter>, String> {
    let fields = value.as_object().ok_or("provided filter is not an object")?;
    let mut tag_names = BTreeSet::new();
    let mut never_matches = false;
    for (name, value) in fields {
        let list = match name.as_bytes() {
            b"since" | b"until" | b"limit" => {
                value.as_u64().ok_or_else(|| format!("error parsing {name}"))?;
                continue;
            }
            b"ids" | b"authors" | b"kinds" => value.as_array(),
            [b'#', tag_name] if tag_name.is_ascii_alphabetic() => {
                tag_names.insert(tag_name);
                value.as_array()
            }
            _ => return Err(format!("unrecognised filter item: {name}")),
        };
        let list = list.ok_or_else(|| format!("{name} not an array"))?;
        never_matches |= list.is_empty();
        let hex = matches!(name.as_str(), "ids" | "authors" | "#e" | "#p");
        if hex && !list.iter().all(|item| item.as_str().is_some_and(is_hex_64)) {
            return Err(format!("{name} not all of 64 hex digits"));
        }
    }
    if tag_names.len() > TAG_NAMES_MAX {
        return Err("too many tags in filter".to_owned());
    }
    let filter = serde_json::from_value(value).map_err(|error| error.to_string())?;
    Ok((!never_matches).then_some(filter))
}

fn is_hex_64(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Longest subscription id (NIP-01).
const SUBSCRIPTION_ID_BYTES_MAX: usize = 64;
/// Most tag names in one filter (strfry `filters.h`).
const TAG_NAMES_MAX: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<ClientMessage, Complaint> {
        let limits = RelayLimits {
            filters_max: 2,
            ..RelayLimits::default()
        };
        ClientMessage::parse(text, &limits)
    }

    #[test]
    fn message_that_is_none_is_complained_about() {
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
            assert!(matches!(parsed(text), Err(Complaint::Notice(_))), "{text}");
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
                let complaint = parsed(&format!(r#"["{verb}","s"{filters}]"#)).unwrap_err();

                let Complaint::Closed { subscription, reason } = complaint else {
                    panic!("{filters} is told by {complaint:?}");
                };
                assert_eq!(subscription, "s");
                assert!(reason.starts_with("error: bad req: "), "{reason}");
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

            let ClientMessage::Req { filters, .. } = message else {
                panic!("{message:?}");
            };
            assert_eq!(filters, [Filter::new().kind(nostr::event::Kind::TextNote)]);
        }
    }
}
