//! Reads the event of a line as far as [`Event`] can hold it. strfry stores more than that: tags with elements that are
//! no strings, nested to any depth, ids and keys in upper case, any number of tags.

use std::str::FromStr;

use nostr::event::Event;
use nostr::event::EventId;
use nostr::event::Kind;
use nostr::event::Signature;
use nostr::event::Tag;
use nostr::key::PublicKey;
use nostr::types::Timestamp;
use shared::nip01::TAG_ELEMENTS_MAX;
use shared::nip01::TAGS_MAX;
use shared::nip01::is_lower_hex;

use crate::json::elements;
use crate::json::members;
use crate::json::number;
use crate::json::text;

/// An event, and how it differs from the line.
#[derive(Debug, PartialEq)]
pub(crate) struct ReadEvent {
    /// The readable part.
    pub(crate) event: Event,
    /// The fault; `None`: nothing is missing.
    pub(crate) fault: Option<EventFault>,
}

/// A fault of an event, in words for its author.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EventFault {
    /// A field that every event has.
    #[error("not an event: its {0} is missing or malformed")]
    Field(&'static str),
    /// Its hex is that of strfry, not of NIP-01.
    #[error("id, pubkey and sig must be written in lower-case hex")]
    UpperCase,
    /// More than [`TAGS_MAX`].
    #[error("too many tags: at most {TAGS_MAX}")]
    TooManyTags,
    /// More than [`TAG_ELEMENTS_MAX`].
    #[error("too many elements of tags: at most {TAG_ELEMENTS_MAX}")]
    TooManyElements,
    /// A number, `null` or the like.
    #[error("an element of a tag is not a string")]
    NoString,
    /// Nothing in it that can be read.
    #[error("a tag is empty or not an array of strings")]
    EmptyTag,
}

/// Reads an event.
///
/// # Errors
/// The field that is missing or malformed.
pub(crate) fn read_event(object: &[u8]) -> Result<ReadEvent, EventFault> {
    let mut fields: [Option<&[u8]>; FIELDS.len()] = [None; FIELDS.len()];
    for (name, value) in members(object) {
        if let Some(place) = FIELDS.iter().position(|field| *field == name) {
            fields[place] = Some(value);
        }
    }
    let [id, pubkey, created_at, kind, tags, content, sig] = fields;
    let mut is_lower = true;
    let mut hex = |value: Option<&[u8]>, digits: usize| {
        let written = value.and_then(text)?;
        is_lower &= is_lower_hex(&written, digits);
        // strfry reads all of these spellings.
        let plain = written.strip_prefix("0x").unwrap_or(&written);
        Some(plain.to_ascii_lowercase())
    };
    let id = hex(id, 64).and_then(|id| EventId::from_hex(&id).ok());
    let pubkey = hex(pubkey, 64).and_then(|pubkey| PublicKey::from_hex(&pubkey).ok());
    let sig = hex(sig, 128).and_then(|sig| Signature::from_str(&sig).ok());
    let kind = kind.and_then(number).and_then(|kind| u16::try_from(kind).ok());
    let tags = tags
        .filter(|tags| tags.starts_with(b"["))
        .ok_or(EventFault::Field("tags"))?;
    let (tags, fault) = read_tags(tags);
    let event = Event::new(
        id.ok_or(EventFault::Field("id"))?,
        pubkey.ok_or(EventFault::Field("pubkey"))?,
        Timestamp::from_secs(created_at.and_then(number).ok_or(EventFault::Field("created_at"))?),
        Kind::from_u16(kind.ok_or(EventFault::Field("kind"))?),
        tags,
        content.and_then(text).ok_or(EventFault::Field("content"))?,
        sig.ok_or(EventFault::Field("sig"))?,
    );
    let fault = if is_lower { fault } else { Some(EventFault::UpperCase) };
    Ok(ReadEvent { event, fault })
}

const FIELDS: [&str; 7] = ["id", "pubkey", "created_at", "kind", "tags", "content", "sig"];

/// Reads tags up to their limits, and each tag up to the first element that is no string.
fn read_tags(array: &[u8]) -> (Vec<Tag>, Option<EventFault>) {
    let (mut tags, mut fault, mut read) = (Vec::new(), None, 0);
    for tag in elements(array) {
        if tags.len() >= TAGS_MAX {
            return (tags, Some(EventFault::TooManyTags));
        }
        let mut values = Vec::new();
        for element in elements(tag) {
            read += 1;
            if read > TAG_ELEMENTS_MAX {
                return (tags, Some(EventFault::TooManyElements));
            }
            match text(element) {
                Some(element) => values.push(element.into_owned()),
                None => {
                    fault = fault.or(Some(EventFault::NoString));
                    break;
                }
            }
        }
        match Tag::parse(values) {
            Ok(tag) => tags.push(tag),
            Err(_) => fault = fault.or(Some(EventFault::EmptyTag)),
        }
    }
    (tags, fault)
}
