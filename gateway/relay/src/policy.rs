//! The policy that the writer asks about every valid new event. Its answers are those of strfry's plugin protocol.

use std::fmt;
use std::future::Future;
use std::net::IpAddr;

use nostr::event::Event;
use shared::write_policy::Answer;
use shared::write_policy::WritePolicy;

/// Decides about events, one at a time, in the order they came. Every write waits for the answer.
pub trait EventPolicy: Send + 'static {
    /// Judges an event that is valid, of good signature and not stored. It may have been asked about before.
    ///
    /// Events accepted just before may not be stored yet: a batch is judged whole and then stored whole.
    fn judge(&mut self, event: &Event, source: &EventSource) -> impl Future<Output = Answer> + Send;
}

impl EventPolicy for WritePolicy {
    async fn judge(&mut self, event: &Event, source: &EventSource) -> Answer {
        self.answer(event, &source.to_string()).await
    }
}

/// Where an event comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventSource {
    /// The client's address: as a proxy on this host reports it, else the peer's.
    pub address: IpAddr,
}

/// The kind of an address, named as strfry names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKind {
    /// IPv4.
    Ip4,
    /// IPv6.
    Ip6,
}

impl EventSource {
    /// Returns the kind of the address.
    pub fn kind(&self) -> SourceKind {
        match self.address {
            IpAddr::V4(_) => SourceKind::Ip4,
            IpAddr::V6(_) => SourceKind::Ip6,
        }
    }
}

impl fmt::Display for EventSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind().as_str(), self.address)
    }
}

impl SourceKind {
    /// Returns the word in strfry's plugin protocol (`events.h`, `eventSourceTypeToStr`).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ip4 => "IP4",
            Self::Ip6 => "IP6",
        }
    }
}
