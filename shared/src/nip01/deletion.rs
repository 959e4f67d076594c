//! Requests of authors to delete: some events (NIP-09), or all of them (NIP-62).

use std::collections::BTreeSet;

use nostr::event::Event;
use nostr::event::EventId;
use nostr::key::PublicKey;

use super::address::Address;
use super::tags::tag_values;
use crate::nip34::ANNOUNCEMENT;
use crate::nip34::DELETION;
use crate::nip34::Identifier;
use crate::nip34::STATE;

/// What an author asked to delete (NIP-09), as far as the purgatory can hold it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletion {
    /// Whose events are deleted; those of others are untouched.
    pub author: PublicKey,
    /// When the request was made, unix seconds: of an address only versions up to this time go.
    pub created_at: u64,
    /// Ids of events.
    pub event_ids: BTreeSet<EventId>,
    /// Announcements and states, by kind and `d` tag.
    pub addresses: BTreeSet<(u16, Identifier)>,
}

impl Deletion {
    /// Most targets of each form that the purgatory looks for. The relay rules out the rest once it has the request.
    pub const TARGETS_MAX: usize = 100;

    /// Reads a deletion request. `None`: the event is none, or names nothing that the purgatory could hold.
    pub fn requested_by(request: &Event) -> Option<Self> {
        if request.kind.as_u16() != DELETION {
            return None;
        }
        let event_ids = tag_values(request, "e").filter_map(|id| EventId::from_hex(id).ok());
        let addresses = tag_values(request, "a").filter_map(|text| {
            let address: Address = text.parse().ok()?;
            let identifier = address.d.parse().ok()?;
            let is_held_here = matches!(address.kind, ANNOUNCEMENT | STATE);
            (address.author == request.pubkey && is_held_here).then_some((address.kind, identifier))
        });
        let deletion = Self {
            author: request.pubkey,
            created_at: request.created_at.as_secs(),
            event_ids: event_ids.take(Self::TARGETS_MAX).collect(),
            addresses: addresses.take(Self::TARGETS_MAX).collect(),
        };
        let names_something = !deletion.event_ids.is_empty() || !deletion.addresses.is_empty();
        names_something.then_some(deletion)
    }
}

/// Whether `request` is a deletion request (NIP-09) by the author of `event` that covers it: by its id, or by
/// its address if it is no newer than the request.
pub fn is_deleted_by(event: &Event, request: &Event) -> bool {
    if request.kind.as_u16() != DELETION || request.pubkey != event.pubkey {
        return false;
    }
    let event_id = event.id.to_hex();
    let by_address = || {
        let address =
            Address::of(event).filter(|_| event.kind.is_addressable() && event.created_at <= request.created_at);
        address.is_some_and(|address| tag_values(request, "a").any(|text| text.parse() == Ok(address.clone())))
    };
    tag_values(request, "e").any(|id| id == event_id) || by_address()
}
