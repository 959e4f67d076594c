//! SHA-1 object ids in their one spelling: 40 lower-case hex digits.

use std::fmt;
use std::str::FromStr;

/// The name of a git object (SHA-1, 20 bytes), never the null id.
///
/// "No object", which the wire writes as forty zeros, is `None` here: see [`Oid::parse_optional`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Oid([u8; Self::LEN]);

/// Why a text is not an object id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OidError {
    /// The text has another length than 40.
    #[error("an object id has 40 hex digits, not {len}")]
    Length {
        /// The length found, in bytes.
        len: usize,
    },
    /// A character is no lower-case hex digit.
    #[error("an object id has only the digits 0-9 and a-f")]
    Digit,
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
    /// [`OidError::Length`] and [`OidError::Digit`]; upper-case digits are refused so that an id has one spelling.
    pub fn parse_optional(text: &str) -> Result<Option<Self>, OidError> {
        let digits = text.as_bytes();
        if digits.len() != 2 * Self::LEN {
            return Err(OidError::Length { len: digits.len() });
        }
        let mut bytes = [0; Self::LEN];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = hex_digit(pair[0])? << 4 | hex_digit(pair[1])?;
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

fn hex_digit(digit: u8) -> Result<u8, OidError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(OidError::Digit),
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
            ("", OidError::Length { len: 0 }),
            ("abc123", OidError::Length { len: 6 }),
            ("DEADBEEFDEADBEEFDEADBEEFDEADBEEFDEADBEEF", OidError::Digit),
            ("+eadbeefdeadbeefdeadbeefdeadbeefdeadbeef", OidError::Digit),
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
