//! The open requests of one connection, and what each message of the relay means to them. No I/O.

use std::collections::HashMap;

use nostr::event::EventId;
use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::Message;

use super::error::RelayError;
use super::message::RelayMessage;
use super::outcome::PublishOutcome;
use super::page::Page;

#[derive(Debug, Default)]
pub(super) struct Pending {
    queries: HashMap<String, PendingQuery>,
    publishes: HashMap<EventId, Vec<oneshot::Sender<PublishOutcome>>>,
    queries_made: u64,
    /// How many frames have come in: if it stands still, the relay may be gone.
    pub(super) frames_taken: u64,
    /// Whether the connection has ended.
    pub(super) closed: bool,
}

#[derive(Debug)]
struct PendingQuery {
    page: Page,
    bytes: usize,
    events_max: usize,
    bytes_max: usize,
    reply: oneshot::Sender<Result<Page, RelayError>>,
}

/// The subscription id of a query, and where its page will arrive.
type OpenedQuery = (String, oneshot::Receiver<Result<Page, RelayError>>);

impl Pending {
    /// Opens a query, whose page ends at the latest with the event that has one byte too many. Returns its subscription
    /// id and where its page will arrive.
    pub(super) fn open_query(&mut self, events_max: usize, bytes_max: usize) -> Result<OpenedQuery, RelayError> {
        if self.closed {
            return Err(RelayError::Disconnected);
        }
        self.queries_made += 1;
        let subscription = format!("q{}", self.queries_made);
        let (reply, page) = oneshot::channel();
        let query = PendingQuery {
            page: Page::default(),
            bytes: 0,
            events_max,
            bytes_max,
            reply,
        };
        self.queries.insert(subscription.clone(), query);
        Ok((subscription, page))
    }

    /// Waits for the answer to an event.
    pub(super) fn expect_answer(&mut self, event_id: EventId) -> Result<oneshot::Receiver<PublishOutcome>, RelayError> {
        if self.closed {
            return Err(RelayError::Disconnected);
        }
        // Callers that no longer wait are forgotten here: one that was never answered would stay.
        self.publishes.retain(|_, replies| {
            replies.retain(|reply| !reply.is_closed());
            !replies.is_empty()
        });
        let (reply, outcome) = oneshot::channel();
        self.publishes.entry(event_id).or_default().push(reply);
        Ok(outcome)
    }

    pub(super) fn forget_query(&mut self, subscription: &str) {
        self.queries.remove(subscription);
    }

    /// Ends the connection: each waiting caller gets an error.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.queries.clear();
        self.publishes.clear();
    }

    /// Takes a frame of the relay. Of a query that has its answer, or that nobody waits for any more, events may still
    /// come, of any size: they are not read.
    pub(super) fn take_frame(&mut self, frame: &Message) {
        match RelayMessage::subscription_of(frame) {
            Some(subscription) if !self.queries.contains_key(subscription) => self.frames_taken += 1,
            _ => self.take(RelayMessage::of(frame)),
        }
    }

    /// Takes a message of the relay. One without a request is dropped: answers may come late.
    fn take(&mut self, message: RelayMessage) {
        self.frames_taken += 1;
        match message {
            RelayMessage::Event {
                subscription,
                event,
                created_at,
                bytes,
            } => {
                let Some(query) = self.queries.get_mut(&subscription) else {
                    return;
                };
                query.page.received += 1;
                query.bytes += bytes;
                query.page.oldest = [query.page.oldest, created_at].into_iter().flatten().min();
                match event {
                    Some(event) => query.page.events.push(*event),
                    None => tracing::warn!("the relay sent an event that is not valid; skipped"),
                }
                let events_max = query.events_max;
                query.page.is_cut = query.bytes > query.bytes_max;
                if query.page.received > events_max {
                    self.answer(&subscription, |_| Err(RelayError::Overrun { events_max }));
                } else if query.page.is_cut {
                    self.answer(&subscription, Ok);
                }
            }
            RelayMessage::EndOfStored { subscription } => self.answer(&subscription, Ok),
            RelayMessage::Closed { subscription, message } => {
                self.answer(&subscription, |_| Err(RelayError::Closed(message)));
            }
            RelayMessage::Ok {
                event_id,
                accepted,
                message,
            } => {
                for reply in self.publishes.remove(&event_id).unwrap_or_default() {
                    // A caller that no longer waits has had `Busy`.
                    drop(reply.send(PublishOutcome::of(accepted, &message)));
                }
            }
            // strfry before 1.1.0 refuses a query like this. It does not name the query, so none is trusted.
            RelayMessage::Notice { message } => {
                tracing::warn!(notice = %message, "the relay sent a notice");
                for (_, query) in self.queries.drain() {
                    drop(query.reply.send(Err(RelayError::Notice(message.clone()))));
                }
            }
            RelayMessage::Other => {}
        }
    }

    fn answer(&mut self, subscription: &str, answer: impl FnOnce(Page) -> Result<Page, RelayError>) {
        if let Some(query) = self.queries.remove(subscription) {
            // A caller that no longer waits has had an error.
            drop(query.reply.send(answer(query.page)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES_MAX: usize = 1000;

    fn event_of(subscription: &str, created_at: u64) -> RelayMessage {
        RelayMessage::Event {
            subscription: subscription.to_owned(),
            event: None,
            created_at: Some(created_at),
            bytes: 100,
        }
    }

    #[test]
    fn an_answer_of_too_many_bytes_is_what_has_come_of_it() {
        let mut pending = Pending::default();
        let (subscription, mut page) = pending.open_query(300, BYTES_MAX).unwrap();

        for secs in 0..=BYTES_MAX as u64 / 100 {
            assert!(page.try_recv().is_err(), "{secs}");
            pending.take(event_of(&subscription, secs));
        }

        let page = page.try_recv().unwrap().unwrap();
        assert_eq!((page.received, page.is_cut), (11, true));
    }

    /// A relay goes on with what it has begun to send, of whatever size.
    #[test]
    fn events_of_an_answered_query_are_not_read() {
        let mut pending = Pending::default();
        let (subscription, mut page) = pending.open_query(300, BYTES_MAX).unwrap();
        let end = Message::text(format!(r#"["EOSE","{subscription}"]"#));

        pending.take_frame(&end);
        let late = Message::text(format!(r#"["EVENT","{subscription}",{{}}]"#));
        assert_eq!(RelayMessage::subscription_of(&late), Some(subscription.as_str()));
        pending.take_frame(&late);

        assert_eq!(page.try_recv().unwrap().unwrap().received, 0);
        assert_eq!(pending.frames_taken, 2);
        assert_eq!(RelayMessage::subscription_of(&end), None);
        assert_eq!(RelayMessage::subscription_of(&Message::text("[\"EVENT\", 7]")), None);
    }

    #[test]
    fn page_counts_what_is_not_valid() {
        let mut pending = Pending::default();
        let (subscription, mut page) = pending.open_query(2, BYTES_MAX).unwrap();

        pending.take(event_of(&subscription, 9));
        pending.take(event_of(&subscription, 8));
        pending.take(event_of("other", 1));
        pending.take(RelayMessage::EndOfStored { subscription });

        let page = page.try_recv().unwrap().unwrap();
        assert_eq!((page.received, page.events.len(), page.oldest), (2, 0, Some(8)));
    }

    #[test]
    fn page_that_is_not_ended_by_the_relay_is_an_error() {
        type LastMessage = fn(String) -> RelayMessage;
        let endings: [(LastMessage, &str); 3] = [
            (|subscription| event_of(&subscription, 1), "Overrun"),
            (
                |subscription| RelayMessage::Closed {
                    subscription,
                    message: String::new(),
                },
                "Closed",
            ),
            (|_| RelayMessage::Notice { message: String::new() }, "Notice"),
        ];
        for (ending, error) in endings {
            let mut pending = Pending::default();
            let (subscription, mut page) = pending.open_query(1, BYTES_MAX).unwrap();

            pending.take(event_of(&subscription, 1));
            pending.take(ending(subscription));

            let answer = page.try_recv().unwrap().unwrap_err();
            assert!(format!("{answer:?}").starts_with(error), "{answer:?}");
        }
    }

    #[test]
    fn end_of_the_connection_ends_all_waiting() {
        let id = EventId::from_byte_array([7; 32]);
        let mut pending = Pending::default();
        let (_, mut page) = pending.open_query(1, BYTES_MAX).unwrap();
        let mut outcome = pending.expect_answer(id).unwrap();

        pending.close();

        assert!(page.try_recv().is_err());
        assert!(outcome.try_recv().is_err());
        assert!(pending.open_query(1, BYTES_MAX).is_err());
        assert!(pending.expect_answer(id).is_err());
    }

    #[test]
    fn one_answer_is_for_all_who_published_the_event() {
        let id = EventId::from_byte_array([7; 32]);
        let mut pending = Pending::default();
        let mut outcomes = [pending.expect_answer(id).unwrap(), pending.expect_answer(id).unwrap()];

        pending.take(RelayMessage::Ok {
            event_id: id,
            accepted: true,
            message: String::new(),
        });

        for outcome in &mut outcomes {
            assert_eq!(outcome.try_recv().unwrap(), PublishOutcome::Stored);
        }
    }
}
