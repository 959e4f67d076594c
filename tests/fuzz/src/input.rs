//! Events made from bytes. Nobody signs them: ids and signatures are checked before any of the code that is tried here.

use std::sync::LazyLock;

use nostr::event::Event;
use nostr::event::EventId;
use nostr::event::Kind;
use nostr::event::Signature;
use nostr::event::Tag;
use nostr::key::Keys;
use nostr::key::PublicKey;
use nostr::key::SecretKey;
use nostr::types::Timestamp;

static AUTHORS: LazyLock<[PublicKey; AUTHORS_LEN]> = LazyLock::new(|| {
    [1, 2, 3, 4].map(|n| {
        let secret = SecretKey::from_slice(&[n; 32]).expect("below the order of the curve");
        Keys::new(secret).public_key()
    })
});

/// How many authors there are.
pub(crate) const AUTHORS_LEN: usize = 4;

/// Returns the n-th author, counted round and round.
pub(crate) fn author(n: usize) -> PublicKey {
    AUTHORS[n % AUTHORS_LEN]
}

/// Returns an event with an id of its own for each `number`.
pub(crate) fn event(number: u8, author: PublicKey, created_at: u64, kind: u16, tags: &[Vec<String>]) -> Event {
    let tags = tags
        .iter()
        .filter_map(|tag| Tag::parse(tag.iter().map(String::as_str)).ok());
    Event::new(
        EventId::from_slice(&[number; EventId::LEN]).expect("32 bytes"),
        author,
        Timestamp::from_secs(created_at),
        Kind::from_u16(kind),
        tags,
        "",
        Signature::from_slice(&[0; 64]).expect("64 bytes"),
    )
}
