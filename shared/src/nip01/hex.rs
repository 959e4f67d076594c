//! Ids and keys in their one spelling: lower-case hex digits (NIP-01).

use nostr::key::PublicKey;

/// Whether a text is this number of lower-case hex digits.
pub fn is_lower_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Parses a public key of 64 lower-case hex digits.
pub fn parse_pubkey(text: &str) -> Option<PublicKey> {
    PublicKey::from_hex(text).ok().filter(|_| is_lower_hex(text, 64))
}
