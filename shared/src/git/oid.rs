//! SHA-1 object ids in their one spelling, 40 lower-case hex digits, and the kinds of objects.

use std::fmt;
use std::str::FromStr;

use crate::nip01::is_lower_hex;

/// The name of a git object (SHA-1, 20 bytes), never the null id.
///
/// "No object", which the wire writes as forty zeros, is `None` here: see [`Oid::parse_optional`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Oid([u8; Self::LEN]);

/// Kind of a git object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectKind {
    /// A commit: the only kind a branch may name.
    Commit,
    /// A tree.
    Tree,
    /// A blob.
    Blob,
    /// An annotated tag.
    Tag,
}

/// Why a text is not an object id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OidError {
    /// It is not 40 lower-case hex digits.
    #[error("an object id has 40 digits, only 0-9 and a-f")]
    Digits,
    /// All digits are zero, which on the wire means "no object".
    #[error("the null object id names no object")]
    Null,
}

impl Oid {
    /// Length in bytes.
    pub const LEN: usize = 20;

    /// Makes an id from its bytes; `None` for the null id.
    pub fn from_bytes(bytes: [u8; Self::LEN]) -> Option<Self> {
        (bytes != [0; Self::LEN]).then_some(Self(bytes))
    }

    /// Parses 40 lower-case hex digits, with the null id as `None`: the form of a command list
    /// (git `gitprotocol-pack(5)`, "Reference Update Request").
    ///
    /// # Errors
    /// It is another text: upper-case digits are refused so that an id has one spelling.
    pub fn parse_optional(text: &str) -> Result<Option<Self>, OidError> {
        if !is_lower_hex(text, 2 * Self::LEN) {
            return Err(OidError::Digits);
        }
        let mut bytes = [0; Self::LEN];
        for (place, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * place..][..2], 16).map_err(|_| OidError::Digits)?;
        }
        Ok(Self::from_bytes(bytes))
    }

    /// Returns the 20 bytes.
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// Returns the first eight hex digits, for pages and messages.
    pub fn short(&self) -> String {
        self.to_string()[..8].to_owned()
    }
}

impl FromStr for Oid {
    type Err = OidError;

    fn from_str(text: &str) -> Result<Self, OidError> {
        Self::parse_optional(text)?.ok_or(OidError::Null)
    }
}

impl fmt::Display for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Oid({self})")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn other_spellings_are_refused() {
        for (text, error) in [
            ("", OidError::Digits),
            ("abc123", OidError::Digits),
            ("DEADBEEFDEADBEEFDEADBEEFDEADBEEFDEADBEEF", OidError::Digits),
            ("+eadbeefdeadbeefdeadbeefdeadbeefdeadbeef", OidError::Digits),
            ("0000000000000000000000000000000000000000", OidError::Null),
        ] {
            assert_eq!(text.parse::<Oid>(), Err(error), "{text}");
        }
    }

    #[test]
    fn the_null_id_is_none_on_the_wire() {
        assert_eq!(Oid::parse_optional(&"0".repeat(40)), Ok(None));
    }

    proptest! {
        #[test]
        fn text_round_trips(bytes in any::<[u8; 20]>()) {
            let oid = Oid::from_bytes(bytes);
            prop_assume!(oid.is_some());
            prop_assert_eq!(oid.unwrap().to_string().parse(), Ok(oid.unwrap()));
        }
    }
}
