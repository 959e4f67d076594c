//! The policy that the writer asks about every valid new event. Its answers are those of strfry's plugin protocol.

use std::future::Future;
use std::net::IpAddr;

use nostr::event::Event;
use shared::write_policy::Answer;
use shared::write_policy::WritePolicy;

/// Decides about events, one at a time, in the order they came. Every write waits for the answer.
pub trait EventPolicy: Send + 'static {
    /// Judges an event that is valid, of good signature and not stored. It may have been asked about before. The
    /// address of its client is as a proxy on this host reports it, else the peer's.
    ///
    /// Events that were accepted just before may not be stored yet: a whole batch is judged before it is stored.
    fn judge(&mut self, event: &Event, client: IpAddr) -> impl Future<Output = Answer> + Send;
}

impl EventPolicy for WritePolicy {
    async fn judge(&mut self, event: &Event, client: IpAddr) -> Answer {
        self.answer(event, &format!("{} {client}", source_type(client))).await
    }
}

/// Returns the kind of an address in strfry's plugin protocol (`events.h`, `eventSourceTypeToStr`).
pub fn source_type(client: IpAddr) -> &'static str {
    match client {
        IpAddr::V4(_) => "IP4",
        IpAddr::V6(_) => "IP6",
    }
}
