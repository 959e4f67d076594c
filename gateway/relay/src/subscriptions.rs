//! An open subscription of a connection: each stored event reaches it exactly once, by request or live.

use std::collections::HashSet;

use nostr::event::Event;
use nostr::event::EventId;
use nostr::filter::Filter;
use nostr::filter::MatchEventOptions;

#[derive(Debug)]
pub(super) struct Served {
    pub(super) event: Event,
    /// The event as it is sent.
    pub(super) json: String,
    /// The batch it was stored in.
    pub(super) batch: u64,
}

#[derive(Debug)]
pub(super) struct OpenSubscription {
    pub(super) filters: Vec<Filter>,
    /// Events that were sent as stored and may still arrive live.
    pub(super) sent: HashSet<EventId>,
    /// The last batch that was begun when the stored events had been read: later ones were not among them.
    pub(super) last_batch: u64,
}

impl OpenSubscription {
    /// Whether to send an event that arrives live.
    pub(super) fn takes(&mut self, served: &Served) -> bool {
        if served.batch > self.last_batch {
            self.sent = HashSet::new();
        }
        let matches = |filter: &Filter| filter.match_event(&served.event, MatchEventOptions::new());
        self.filters.iter().any(matches) && !self.sent.contains(&served.event.id)
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
        let open = |kind, sent: &[EventId]| OpenSubscription {
            filters: vec![Filter::new().kind(kind)],
            sent: sent.iter().copied().collect(),
            last_batch: 7,
        };
        let mut stored = open(Kind::TextNote, &[event.id]);
        let mut not_yet = open(Kind::TextNote, &[]);
        let mut other = open(Kind::Reaction, &[]);

        let mut all = [&mut stored, &mut not_yet, &mut other];
        assert_eq!(all.each_mut().map(|one| one.takes(&served(7))), [false, true, false]);
        assert!(stored.takes(&served(8)));
    }
}
