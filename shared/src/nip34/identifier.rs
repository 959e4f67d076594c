//! The `d` tag of a repository: an arbitrary string, within what every part of this server can carry.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use nostr::event::Event;
use percent_encoding::AsciiSet;
use percent_encoding::NON_ALPHANUMERIC;
use percent_encoding::utf8_percent_encode;

use crate::nip01::first_value;

/// The identifier of a repository (its `d` tag): any text, spaces, emoji and `:` included.
///
/// Not a file name and not a URL segment: encode it with [`Identifier::encoded`] before it meets either.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identifier(Arc<str>);

/// Why a text is not the identifier of a repository that can be hosted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdentifierError {
    /// There is no `d` tag, or it is empty.
    #[error("the identifier (d tag) is empty")]
    Empty,
    /// strfry does not index a longer `d` and would take it for an empty one (strfry `events.cpp`).
    #[error("the identifier (d tag) has {len} bytes, more than {}", Identifier::BYTES_MAX)]
    TooLong {
        /// The length found, in bytes.
        len: usize,
    },
    /// The identifier is `.` or `..`.
    #[error("the identifier (d tag) is a dot name")]
    DotName,
    /// A character that no URL path of a repository can carry safely.
    #[error("the identifier (d tag) contains a slash, a backslash or a control character")]
    Character,
}

impl Identifier {
    /// Reads the first `d` tag of an event.
    ///
    /// # Errors
    /// There is none, or it is no identifier.
    pub fn of(event: &Event) -> Result<Self, IdentifierError> {
        first_value(event, "d").parse()
    }

    /// Longest identifier, in bytes (strfry indexes `d` up to this length).
    pub const BYTES_MAX: usize = 255;

    /// Returns the identifier as it stands in the `d` tag.
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
    type Err = IdentifierError;

    fn from_str(text: &str) -> Result<Self, IdentifierError> {
        match text {
            "" => Err(IdentifierError::Empty),
            "." | ".." => Err(IdentifierError::DotName),
            _ if text.len() > Self::BYTES_MAX => Err(IdentifierError::TooLong { len: text.len() }),
            _ if text.chars().any(|c| c == '/' || c == '\\' || c.is_control()) => Err(IdentifierError::Character),
            _ => Ok(Self(text.into())),
        }
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identifier({:?})", self.0)
    }
}

/// All ASCII but the unreserved characters (RFC 3986, section 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_leave_a_directory_is_refused() {
        for (text, error) in [
            ("", IdentifierError::Empty),
            (".", IdentifierError::DotName),
            ("..", IdentifierError::DotName),
            ("a/b", IdentifierError::Character),
            ("a\\b", IdentifierError::Character),
            ("a\0b", IdentifierError::Character),
            ("a\nb", IdentifierError::Character),
        ] {
            assert_eq!(text.parse::<Identifier>(), Err(error), "{text:?}");
        }
        assert!("x".repeat(255).parse::<Identifier>().is_ok());
        assert_eq!(
            "x".repeat(256).parse::<Identifier>(),
            Err(IdentifierError::TooLong { len: 256 })
        );
    }

    #[test]
    fn everything_outside_the_unreserved_set_is_encoded() {
        let identifier: Identifier = "my repo:1%🦀.git".parse().unwrap();

        assert_eq!(identifier.encoded(), "my%20repo%3A1%25%F0%9F%A6%80.git");
    }
}
