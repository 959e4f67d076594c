//! The address of a replaceable or addressable event, `kind:pubkey:d`.

use std::fmt;
use std::str::FromStr;

use nostr::event::Event;
use nostr::key::PublicKey;

use super::hex::parse_pubkey;
use super::tags::first_value;

/// The address of a replaceable or addressable event, `kind:pubkey:d` (NIP-01). Two are the same only if their whole
/// `d` is, colons and all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The kind.
    pub kind: u16,
    /// Whose event it is.
    pub author: PublicKey,
    /// The `d` tag; empty for kinds that have none.
    pub d: String,
}

/// Why a text is no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an address of the form kind:pubkey in lower-case hex:d")]
pub struct AddressError;

impl Address {
    /// Returns the address of an event, if its kind has one.
    pub fn of(event: &Event) -> Option<Self> {
        let d = match event.kind {
            kind if kind.is_addressable() => first_value(event, "d"),
            kind if kind.is_replaceable() => "",
            _ => return None,
        };
        Some(Self {
            kind: event.kind.as_u16(),
            author: event.pubkey,
            d: d.to_owned(),
        })
    }

    /// Returns how deletion requests that strfry takes may write it: with the key in lower case, and in upper case.
    pub fn spellings(&self) -> [String; 2] {
        let key = self.author.to_hex();
        [&key, &key.to_uppercase()].map(|key| format!("{}:{key}:{}", self.kind, self.d))
    }

    /// Reads an address whose key may be written in upper case, as strfry reads those that a deletion request names.
    pub fn of_any_case(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, ':');
        let (kind, author, d) = (parts.next()?, parts.next()?, parts.next().unwrap_or_default());
        format!("{kind}:{}:{d}", author.to_ascii_lowercase()).parse().ok()
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        // The `d` may itself contain colons; where a kind has none, its colon is often left out.
        let mut parts = text.splitn(3, ':');
        let kind_text = parts.next().unwrap_or_default();
        let kind = kind_text
            .parse()
            .ok()
            .filter(|kind: &u16| kind.to_string() == kind_text);
        Ok(Self {
            kind: kind.ok_or(AddressError)?,
            author: parts.next().and_then(parse_pubkey).ok_or(AddressError)?,
            d: parts.next().unwrap_or_default().to_owned(),
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.kind, self.author.to_hex(), self.d)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_d_with_colons_stays_whole() {
        let text = format!("30023:{}:a:b:c", "11".repeat(32));

        let address: Address = text.parse().unwrap();

        assert_eq!((address.kind, address.d.as_str()), (30023, "a:b:c"));
        assert_eq!(address.to_string(), text);
    }

    #[test]
    fn the_last_colon_may_be_left_out_where_there_is_no_d() {
        let with = format!("10002:{}:", "11".repeat(32));

        let without: Address = with.trim_end_matches(':').parse().unwrap();

        assert_eq!(without.to_string(), with);
        assert_eq!(Ok(without), with.parse());
    }

    #[test]
    fn both_spellings_of_a_deletion_are_the_address() {
        let address: Address = format!("30617:{}:A:b", "ab".repeat(32)).parse().unwrap();

        let [lower, upper] = address.spellings();

        assert_eq!((lower, upper.contains("ABAB")), (address.to_string(), true));
        assert!(upper.ends_with(":A:b"));
        assert_eq!(Address::of_any_case(&upper), Some(address));
    }

    #[test]
    fn other_spellings_are_refused() {
        let key = "ab".repeat(32);
        for text in [
            format!("+30617:{key}:x"),
            format!("030617:{key}:x"),
            format!("70000:{key}:x"),
            format!("30617:{}:x", key.to_uppercase()),
            format!("30617:{}:x", &key[1..]),
            "30617".to_owned(),
            String::new(),
        ] {
            assert_eq!(text.parse::<Address>(), Err(AddressError), "{text}");
        }
    }
}
