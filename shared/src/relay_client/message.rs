//! Messages of a relay (NIP-01), parsed. Unused ones are [`RelayMessage::Other`].

use nostr::event::Event;
use nostr::event::EventId;
use serde_json::Value;
use tokio_tungstenite::tungstenite::Message;

use crate::nip01::memory_bytes;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RelayMessage {
    /// An event of a subscription.
    Event {
        subscription: String,
        /// `None`: it is no valid event.
        event: Option<Box<Event>>,
        /// When it was made, also where the rest is not valid.
        created_at: Option<u64>,
        /// How long the message is, or how much memory its event takes if that is more.
        bytes: usize,
    },
    EndOfStored {
        subscription: String,
    },
    /// A subscription was ended by the relay.
    Closed {
        subscription: String,
        message: String,
    },
    /// The answer to an event.
    Ok {
        event_id: EventId,
        accepted: bool,
        message: String,
    },
    /// A text for a person.
    Notice {
        message: String,
    },
    Other,
}

impl RelayMessage {
    /// Reads a frame; one without a text, such as a ping, is [`RelayMessage::Other`].
    pub(super) fn of(frame: &Message) -> Self {
        let Message::Text(text) = frame else { return Self::Other };
        Self::parse(text).unwrap_or(Self::Other)
    }

    /// Returns the subscription that a frame brings an event of, without reading the event; `None`: it brings none, or
    /// is not written as relays write it.
    pub(super) fn subscription_of(frame: &Message) -> Option<&str> {
        let Message::Text(text) = frame else { return None };
        let (subscription, _) = text.strip_prefix(r#"["EVENT",""#)?.split_once('"')?;
        Some(subscription)
    }

    fn parse(text: &str) -> Option<Self> {
        // A state may declare thousands of refs: no tree of values is made of it first.
        if let Ok(("EVENT", subscription, event)) = serde_json::from_str::<(&str, String, Box<Event>)>(text) {
            return Some(Self::Event {
                subscription,
                created_at: Some(event.created_at.as_secs()),
                bytes: memory_bytes(&event).max(text.len()),
                event: Some(event),
            });
        }
        let mut elements = serde_json::from_str::<Vec<Value>>(text).ok()?.into_iter();
        let verb = elements.next()?;
        Some(match verb.as_str()? {
            "EVENT" => {
                let subscription = string(elements.next()?)?;
                let event = elements.next()?;
                let created_at = event.get("created_at").and_then(Value::as_u64);
                Self::Event {
                    subscription,
                    created_at,
                    event: serde_json::from_value(event).ok().map(Box::new),
                    bytes: text.len(),
                }
            }
            "EOSE" => Self::EndOfStored {
                subscription: string(elements.next()?)?,
            },
            "CLOSED" => Self::Closed {
                subscription: string(elements.next()?)?,
                message: elements.next().and_then(string).unwrap_or_default(),
            },
            "OK" => Self::Ok {
                event_id: EventId::from_hex(elements.next()?.as_str()?).ok()?,
                accepted: elements.next()?.as_bool()?,
                message: elements.next().and_then(string).unwrap_or_default(),
            },
            "NOTICE" => Self::Notice {
                message: string(elements.next()?)?,
            },
            _ => return None,
        })
    }
}

fn string(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_that_is_not_valid_still_has_its_time() {
        let text = r#"["EVENT","s",{"created_at":7,"tags":[["t",5]]}]"#;

        let message = RelayMessage::of(&Message::text(text));

        assert_eq!(
            message,
            RelayMessage::Event {
                subscription: "s".to_owned(),
                event: None,
                created_at: Some(7),
                bytes: text.len(),
            }
        );
    }

    #[test]
    fn what_is_no_message_is_other() {
        for text in [
            "",
            "{}",
            "[]",
            "[1]",
            r#"["EOSE"]"#,
            r#"["OK","x",true,""]"#,
            r#"["AUTH","x"]"#,
        ] {
            assert_eq!(RelayMessage::of(&Message::text(text)), RelayMessage::Other, "{text}");
        }
    }

    #[test]
    fn answer_without_text_has_an_empty_one() {
        let id = "00".repeat(32);

        assert_eq!(
            RelayMessage::of(&Message::text(format!(r#"["OK","{id}",true]"#))),
            RelayMessage::Ok {
                event_id: EventId::from_hex(&id).unwrap(),
                accepted: true,
                message: String::new(),
            }
        );
    }
}
