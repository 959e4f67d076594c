//! The `d` tag of a repository: an arbitrary string, within what every part of this server can carry.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use nostr::event::Event;
use percent_encoding::AsciiSet;
use percent_encoding::NON_ALPHANUMERIC;
use percent_encoding::utf8_percent_encode;

use crate::nip01::tag_values;

/// The identifier of a repository (its `d` tag): any text, spaces, emoji and `:` included.
///
/// Not a file name and not a URL segment: encode it with [`Identifier::encoded`] before it meets either.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identifier(Arc<str>);

/// A fault of an event of NIP-34 or of a name in it, in words for its author.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Defect(String);

impl From<String> for Defect {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Defect {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl Identifier {
    /// Reads the `d` tag of an event.
    ///
    /// # Errors
    /// It is none of a repository, or there are several. A relay finds an event by each of them, and takes the first
    /// for the name of what it replaces: one author could have thousands of events under one identifier.
    pub fn of(event: &Event) -> Result<Self, Defect> {
        let mut values = tag_values(event, "d");
        let (first, second) = (values.next().unwrap_or_default(), values.next());
        match second {
            None => first.parse(),
            Some(_) => Err("has more than one d tag".into()),
        }
    }

    /// Longest identifier, in bytes. strfry does not index a longer `d` and would take it for an empty one (strfry
    /// `events.cpp`).
    pub const BYTES_MAX: usize = 255;

    /// Returns the identifier as it is in the `d` tag.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the identifier as one segment of a URL path (RFC 3986): unreserved characters as they are, every
    /// other byte as `%XX`. The same text names it in Redis keys. Injective, ASCII, without `/` and `:`.
    pub fn encoded(&self) -> String {
        utf8_percent_encode(&self.0, RESERVED).to_string()
    }
}

impl FromStr for Identifier {
    type Err = Defect;

    fn from_str(text: &str) -> Result<Self, Defect> {
        // What no URL path of a repository can carry safely.
        let is_unsafe = |c: char| c == '/' || c == '\\' || c.is_control();
        let defect = match text.len() {
            0 => "is empty".to_owned(),
            len if len > Self::BYTES_MAX => format!("has {len} bytes, more than {}", Self::BYTES_MAX),
            _ if matches!(text, "." | "..") => "is a dot name".to_owned(),
            _ if text.contains(is_unsafe) => "contains a slash, a backslash or a control character".to_owned(),
            _ => return Ok(Self(text.into())),
        };
        Err(format!("the identifier (d tag) {defect}").into())
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// All ASCII but the unreserved characters (RFC 3986, section 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nip34;
    use crate::rules::tests::event;

    #[test]
    fn an_event_has_one_identifier() {
        let of =
            |tags: &[&[&str]]| Identifier::of(&event(1, nip34::STATE, 5, tags)).map_err(|defect| defect.to_string());

        assert_eq!(of(&[&["d", "r"], &["t", "x"]]).unwrap().as_str(), "r");
        assert_eq!(
            of(&[&["d", "r"], &["d", "r"]]),
            Err("has more than one d tag".to_owned())
        );
        assert!(of(&[]).unwrap_err().ends_with("is empty"));
    }

    #[test]
    fn what_could_leave_a_directory_is_refused() {
        const CHARACTER: &str = "contains a slash, a backslash or a control character";
        let defect_of = |text: &str| text.parse::<Identifier>().map_err(|defect| defect.to_string());
        for (text, defect) in [
            ("", "is empty"),
            (".", "is a dot name"),
            ("..", "is a dot name"),
            ("a/b", CHARACTER),
            ("a\\b", CHARACTER),
            ("a\0b", CHARACTER),
            ("a\nb", CHARACTER),
        ] {
            assert_eq!(
                defect_of(text),
                Err(format!("the identifier (d tag) {defect}")),
                "{text:?}"
            );
        }
        assert!("x".repeat(255).parse::<Identifier>().is_ok());
        assert_eq!(
            defect_of(&"x".repeat(256)),
            Err("the identifier (d tag) has 256 bytes, more than 255".to_owned())
        );
    }

    #[test]
    fn everything_outside_the_unreserved_set_is_encoded() {
        let identifier: Identifier = "my repo:1%🦀.git".parse().unwrap();

        assert_eq!(identifier.encoded(), "my%20repo%3A1%25%F0%9F%A6%80.git");
    }
}
