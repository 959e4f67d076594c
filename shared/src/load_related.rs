//! Asks the relay whether it serves what an event without git data belongs to.

use nostr::event::Event;
use nostr::event::Kind;
use nostr::filter::Filter;
use nostr::filter::SingleLetterTag;

use crate::load_facts::FactLoader;
use crate::load_facts::FactsError;
use crate::nip01::Address;
use crate::request_filters::FILTER_VALUE_BYTES_MAX;
use crate::rules::References;

impl FactLoader {
    /// Whether the relay serves an event that `event` refers to, or one that refers to it.
    pub async fn is_related(&self, event: &Event, references: &References) -> Result<bool, FactsError> {
        Ok(self.relay.any(related(event, references)).await?)
    }
}

/// Returns filters for every event that `event` refers to, or that refers to it.
fn related(event: &Event, references: &References) -> Vec<Filter> {
    let mut filters = Vec::new();
    if !references.ids.is_empty() {
        filters.push(Filter::new().ids(references.ids.iter().copied()));
    }
    filters.extend(references.addresses.iter().map(|address| {
        let filter = Filter::new().kind(Kind::from_u16(address.kind)).author(address.author);
        // Kinds that are merely replaceable have no `d`, and an address with one names no event.
        if address.d.is_empty() {
            filter
        } else {
            filter.identifier(&address.d)
        }
    }));
    let own_id = references.id.to_hex();
    let own_address = references.address.as_ref().map(Address::to_string).unwrap_or_default();
    for (tag, own) in [
        (SingleLetterTag::LOWERCASE_E, &own_id),
        (SingleLetterTag::UPPERCASE_E, &own_id),
        (SingleLetterTag::LOWERCASE_Q, &own_id),
        (SingleLetterTag::LOWERCASE_A, &own_address),
        (SingleLetterTag::UPPERCASE_A, &own_address),
        (SingleLetterTag::LOWERCASE_Q, &own_address),
    ] {
        if (1..=FILTER_VALUE_BYTES_MAX).contains(&own.len()) {
            filters.push(Filter::new().custom_tag(tag, own));
        }
    }
    // Participants in a served thread may publish their profile and relay list.
    if matches!(event.kind, Kind::Metadata | Kind::RelayList) {
        filters.push(Filter::new().author(event.pubkey));
    }
    filters
}
