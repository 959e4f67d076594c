//! Requests of authors to delete: some events (NIP-09), or all of them (NIP-62).

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use nostr::event::Event;
use nostr::event::EventId;
use nostr::key::PublicKey;

use super::address::Address;
use super::tags::memory_bytes;
use super::tags::tag_values;
use crate::nip34::ANNOUNCEMENT;
use crate::nip34::DELETION;
use crate::nip34::Defect;
use crate::nip34::Identifier;
use crate::nip34::STATE;
use crate::nip34::VANISH;

/// The targets of an author's deletion request (NIP-09), as far as the purgatory can hold them.
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

    /// Reads a deletion request. `None`: the event is not one, or names nothing that the purgatory could hold.
    pub fn requested_by(request: &Event) -> Option<Self> {
        if request.kind.as_u16() != DELETION {
            return None;
        }
        let event_ids = tag_values(request, "e").filter_map(|id| EventId::from_hex(id).ok());
        let addresses = tag_values(request, "a").filter_map(|text| {
            let address = Address::of_any_case(text)?;
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

/// Checks how long a request to delete (NIP-09) or to vanish (NIP-62) is: decisions about the events of its author read
/// it.
///
/// # Errors
/// It is too long.
pub fn check_request(request: &Event) -> Result<(), Defect> {
    let (does, bytes_max) = match request.kind.as_u16() {
        VANISH => ("vanish", VANISH_BYTES_MAX),
        _ => ("delete", DELETION_BYTES_MAX),
    };
    let bytes = memory_bytes(request);
    if bytes > bytes_max {
        return Err(format!("a request to {does} takes {bytes} bytes of memory, more than {bytes_max}").into());
    }
    Ok(())
}

/// Most memory of a request to delete: it may name a thousand events, each with a relay and
/// an author.
const DELETION_BYTES_MAX: usize = 448 << 10;

/// Most memory of a request to vanish, of which a decision reads several: it may name more than a hundred relays. Tags
/// of few characters take many times their text.
const VANISH_BYTES_MAX: usize = 32 << 10;

/// What authors asked to delete (NIP-09), and which of them asked to vanish (NIP-62), to look up events in: each
/// request is read once, however many events there are.
#[derive(Debug, Clone, Default)]
pub struct DeletionRequests {
    event_ids: BTreeSet<(PublicKey, EventId)>,
    /// The newest request for each address.
    addresses: BTreeMap<Address, u64>,
    /// The newest request of each author.
    vanished: BTreeMap<PublicKey, u64>,
}

impl DeletionRequests {
    /// Notes a deletion request; any other event is ignored.
    pub fn note(&mut self, request: &Event) {
        if request.kind.as_u16() != DELETION {
            return;
        }
        let event_ids = tag_values(request, "e").filter_map(|id| EventId::from_hex(id).ok());
        self.event_ids
            .extend(event_ids.map(|event_id| (request.pubkey, event_id)));
        for address in tag_values(request, "a").filter_map(Address::of_any_case) {
            if address.author == request.pubkey {
                let newest = self.addresses.entry(address).or_default();
                *newest = request.created_at.as_secs().max(*newest);
            }
        }
    }

    /// Notes a request to vanish that is meant for this server.
    pub fn note_vanished(&mut self, request: &Event) {
        let newest = self.vanished.entry(request.pubkey).or_default();
        *newest = request.created_at.as_secs().max(*newest);
    }

    /// Whether a request of its author, to delete it or to vanish, covers an event: by its id, or by its address or its
    /// author if it is no newer than the request.
    pub fn cover(&self, event: &Event) -> bool {
        let by_address = || {
            let address = Address::of(event).filter(|_| event.kind.is_addressable());
            let requested = address.and_then(|address| self.addresses.get(&address));
            requested.is_some_and(|requested| event.created_at.as_secs() <= *requested)
        };
        self.have_vanished(event) || self.event_ids.contains(&(event.pubkey, event.id)) || by_address()
    }

    /// Whether the author of an event asked later to vanish.
    pub fn have_vanished(&self, event: &Event) -> bool {
        let requested = self.vanished.get(&event.pubkey);
        requested.is_some_and(|requested| event.created_at.as_secs() <= *requested)
    }
}
