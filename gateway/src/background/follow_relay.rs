//! Marks dirty whatever the relay commits that could matter, and after each reconnection what it may have committed
//! meanwhile.

use std::collections::BTreeSet;

use nostr::event::Event;
use nostr::event::EventId;
use nostr::event::Kind;
use nostr::filter::Filter;
use nostr::key::PublicKey;
use nostr::types::Timestamp;
use shared::nip01::Address;
use shared::nip34;
use shared::nip34::Coordinate;
use shared::relay_client::Signal;

use crate::background::recheck::RETRY_PAUSE;
use crate::background::recheck::mark_dirty;
use crate::reconcile::Reconciler;

/// Follows the relay for ever.
pub(super) async fn follow_relay(reconciler: &Reconciler) {
    let kinds = [nip34::ANNOUNCEMENT, nip34::STATE, nip34::DELETION, nip34::VANISH].map(Kind::from_u16);
    let relay = &reconciler.loader.relay;
    let mut subscription = relay.subscribe(vec![Filter::new().kinds(kinds)]);
    let mut caught_up_until = Timestamp::now();
    loop {
        let changed = match subscription.next().await {
            Signal::Connected => {
                let connected = Timestamp::now();
                // An event may be dated earlier than it is committed.
                let since = Timestamp::from_secs(caught_up_until.as_secs().saturating_sub(CATCH_UP_SECS));
                let missed = read_until_answered(reconciler, &Filter::new().kinds(kinds).since(since)).await;
                caught_up_until = connected;
                missed.iter().flat_map(|event| concerned(reconciler, event)).collect()
            }
            Signal::Event(event) => {
                caught_up_until = Timestamp::now();
                concerned(reconciler, &event)
            }
        };
        mark_dirty(reconciler, &changed).await;
    }
}

async fn read_until_answered(reconciler: &Reconciler, filter: &Filter) -> Vec<Event> {
    loop {
        match reconciler.loader.relay.query(vec![filter.clone()]).await {
            Ok(events) => return events,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot catch up with the relay, will try again"
                );
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }
}

/// Returns the coordinates that an event concerns: none if this gateway has published it, since it counted as served
/// before.
fn concerned(reconciler: &Reconciler, event: &Event) -> BTreeSet<Coordinate> {
    if reconciler.publisher.is_own(&event.id) {
        return BTreeSet::new();
    }
    let known_events = &reconciler.known_events;
    if event.kind.as_u16() == nip34::VANISH {
        return known_events.coordinates_by(&event.pubkey);
    }
    let at = |owner: PublicKey, d: &str| {
        let identifier = d.parse().ok()?;
        Some(Coordinate { owner, identifier })
    };
    let own = event.tags.identifier().and_then(|d| at(event.pubkey, &d));
    let deleted = event.tags.iter().filter_map(|tag| match tag.as_slice() {
        [name, address, ..] if name == "a" => at(event.pubkey, &address.parse::<Address>().ok()?.d),
        [name, id, ..] if name == "e" => known_events.coordinate_of(&EventId::from_hex(id).ok()?),
        _ => None,
    });
    own.into_iter().chain(deleted).collect()
}

/// How far before its last event or connection the relay is read again after a reconnection.
const CATCH_UP_SECS: u64 = 48 * 3600;
