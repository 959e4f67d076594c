//! The open subscriptions of one connection: what is stored reaches each exactly once, by request or live.

use std::collections::HashMap;
use std::collections::HashSet;

use nostr::event::Event;
use nostr::event::EventId;
use nostr::filter::Filter;
use nostr::filter::MatchEventOptions;

/// An event that the relay serves from now on.
#[derive(Debug)]
pub(super) struct Served {
    /// The event.
    pub(super) event: Event,
    /// The event as it is sent.
    pub(super) json: String,
    /// The batch it was stored in.
    pub(super) batch: u64,
}

/// Subscriptions by their ids.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    open: HashMap<String, OpenSubscription>,
}

#[derive(Debug)]
struct OpenSubscription {
    filters: Vec<Filter>,
    /// What was sent as stored and may yet come live.
    sent: HashSet<EventId>,
    /// The last batch that was begun when the stored events had been read: later ones were not among them.
    last_batch: u64,
}

impl Subscriptions {
    /// Tells whether there is room for a subscription, which may be one of the same id anew.
    pub(super) fn has_room_for(&self, id: &str, subscriptions_max: usize) -> bool {
        self.open.contains_key(id) || self.open.len() < subscriptions_max
    }

    /// Opens a subscription that has been sent the stored events `sent`, read when `last_batch` had been begun.
    pub(super) fn open(&mut self, id: String, filters: Vec<Filter>, sent: HashSet<EventId>, last_batch: u64) {
        let subscription = OpenSubscription {
            filters,
            sent,
            last_batch,
        };
        self.open.insert(id, subscription);
    }

    /// Ends a subscription, if there is one.
    pub(super) fn close(&mut self, id: &str) {
        self.open.remove(id);
    }

    /// Tells whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Returns the ids of the subscriptions that are to be sent the event.
    pub(super) fn take(&mut self, served: &Served) -> Vec<&str> {
        let mut ids = Vec::new();
        for (id, subscription) in &mut self.open {
            if served.batch > subscription.last_batch {
                subscription.sent = HashSet::new();
            }
            let matches = subscription
                .filters
                .iter()
                .any(|filter| filter.match_event(&served.event, MatchEventOptions::new()));
            if matches && !subscription.sent.contains(&served.event.id) {
                ids.push(id.as_str());
            }
        }
        ids
    }
}

#[cfg(test)]
mod tests {
    use nostr::event::EventBuilder;
    use nostr::event::FinalizeEvent;
    use nostr::event::Kind;
    use nostr::key::Keys;

    use super::*;

    #[test]
    fn event_is_sent_once_whichever_way_it_comes() {
        let event = EventBuilder::new(Kind::TextNote, "")
            .finalize(&Keys::generate())
            .unwrap();
        let served = |batch| Served {
            event: event.clone(),
            json: String::new(),
            batch,
        };
        let mut subscriptions = Subscriptions::default();
        let filter = || vec![Filter::new().kind(Kind::TextNote)];
        subscriptions.open("stored".to_owned(), filter(), HashSet::from([event.id]), 7);
        subscriptions.open("not yet".to_owned(), filter(), HashSet::new(), 7);
        subscriptions.open(
            "other".to_owned(),
            vec![Filter::new().kind(Kind::Reaction)],
            HashSet::new(),
            7,
        );

        assert_eq!(subscriptions.take(&served(7)), ["not yet"]);

        subscriptions.close("not yet");
        assert_eq!(subscriptions.take(&served(8)), ["stored"]);
        assert!(!subscriptions.is_empty());
    }
}
