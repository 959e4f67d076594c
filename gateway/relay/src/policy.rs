//! The question that is asked about every valid new event, and its answers. The answers are those of strfry's
//! plugin protocol.

use std::fmt;
use std::future::Future;
use std::net::IpAddr;

use nostr::event::Event;

/// Decides about events, one at a time, in the order they came. What it takes, every write waits for.
pub trait WritePolicy: Send + 'static {
    /// Judges an event that is valid, of good signature and not stored. It may have been asked about before.
    ///
    /// Events accepted just before may not be stored yet: a batch is judged whole and then stored whole.
    fn judge(&mut self, event: &Event, source: &Source) -> impl Future<Output = Verdict> + Send;
}

/// What a policy decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Store the event.
    Accept,
    /// Do not store it; the client hears `OK` false with this text.
    Refuse(String),
    /// Do not store it; the client hears `OK` true with this text (strfry's `shadowReject`).
    ShadowRefuse(String),
}

/// Where an event comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// The client's address: the proxy's word for it where the proxy is on this host, else the peer's.
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

impl Source {
    /// Returns the kind of the address.
    pub fn kind(&self) -> SourceKind {
        match self.address {
            IpAddr::V4(_) => SourceKind::Ip4,
            IpAddr::V6(_) => SourceKind::Ip6,
        }
    }
}

impl fmt::Display for Source {
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
