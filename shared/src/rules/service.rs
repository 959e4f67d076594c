//! Which server this is, and whether an announcement names it.

use std::fmt;
use std::str::FromStr;

use nostr::event::Event;
use url::Url;

use crate::nip01;
use crate::nip34;
use crate::nip34::Announcement;

/// The name under which clients reach this server: what `clone` and `relays` tags must name.
///
/// Compared as host and port after parsing, never as a substring: `git.example.com.attacker.net` is another server,
/// and so is `attacker.net/git.example.com` (docs/facts/grasp.md 1.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    host: String,
    /// `None`: the default port of a URL's scheme.
    port: Option<u16>,
}

/// Why a text does not name a server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a domain of the form host or host:port, without scheme and path")]
pub struct ServiceError;

impl Service {
    /// Whether the announcement names this server both in `clone` and in `relays` (GRASP-01).
    pub fn is_named_by(&self, announcement: &Announcement) -> bool {
        let mut clones = announcement.clone_urls.iter().filter_map(|url| Url::parse(url).ok());
        let mut relays = announcement.relay_urls.iter().filter_map(|url| Url::parse(url).ok());
        clones.any(|url| matches!(url.scheme(), "http" | "https") && self.is_origin_of(&url))
            && relays.any(|url| matches!(url.scheme(), "ws" | "wss") && self.is_origin_of(&url) && url.path() == "/")
    }

    /// Whether a request to vanish (NIP-62) is meant for this server.
    pub fn is_asked_to_forget(&self, request: &Event) -> bool {
        request.kind.as_u16() == nip34::VANISH
            && nip01::tag_values(request, "relay").any(|relay| {
                let ours = |url: Url| matches!(url.scheme(), "ws" | "wss") && self.is_origin_of(&url);
                relay == "ALL_RELAYS" || Url::parse(relay).is_ok_and(ours)
            })
    }

    fn is_origin_of(&self, url: &Url) -> bool {
        // `Url::port` is `None` for the scheme's default port, however it was written.
        let is_tls = matches!(url.scheme(), "https" | "wss");
        let default = if is_tls { 443 } else { 80 };
        let port = self.port.unwrap_or(default);
        url.host_str().is_some_and(|host| host.eq_ignore_ascii_case(&self.host))
            && url.port_or_known_default().unwrap_or(default) == port
    }

    /// Returns the origin for pages and messages: `https://` without a port, `http://` with one.
    ///
    /// A service behind a reverse proxy is named without a port and has TLS there; one with a port is reached as it
    /// is, which is how the embedded mode runs.
    pub fn http_origin(&self) -> String {
        format!("{}://{self}", if self.port.is_none() { "https" } else { "http" })
    }

    /// Returns the relay URL that belongs to [`Service::http_origin`].
    pub fn relay_url(&self) -> String {
        format!("{}://{self}", if self.port.is_none() { "wss" } else { "ws" })
    }
}

impl FromStr for Service {
    type Err = ServiceError;

    fn from_str(text: &str) -> Result<Self, ServiceError> {
        // Parsing it inside a URL takes care of IPv6 brackets, upper case and stray paths alike.
        let url = Url::parse(&format!("grasp://{text}")).map_err(|_| ServiceError)?;
        let bare = url.path().is_empty() && url.query().is_none() && url.fragment().is_none();
        let anonymous = url.username().is_empty() && url.password().is_none();
        match url.host_str() {
            Some(host) if bare && anonymous && !host.is_empty() && !text.ends_with(':') => Ok(Self {
                host: host.to_ascii_lowercase(),
                port: url.port(),
            }),
            Some(_) | None => Err(ServiceError),
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => f.write_str(&self.host),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::facts::tests::announcement;

    fn names(domain: &str, clone: &str, relay: &str) -> bool {
        let mut announcement = announcement(1, "r", 1);
        announcement.clone_urls = vec![clone.to_owned()];
        announcement.relay_urls = vec![relay.to_owned()];
        domain.parse::<Service>().unwrap().is_named_by(&announcement)
    }

    #[test]
    fn hosts_and_ports_are_compared_as_parsed() {
        for (domain, clone, relay, named) in [
            ("svc", "https://svc/npub1/r.git", "wss://svc", true),
            ("svc", "http://svc:80/npub1/r.git", "ws://svc/", true),
            ("SVC", "https://Svc/npub1/r.git", "wss://sVC", true),
            ("svc:7334", "http://svc:7334/n/r.git", "ws://svc:7334", true),
            ("[::1]:7334", "http://[::1]:7334/n/r.git", "ws://[::1]:7334", true),
            ("svc", "https://svc:8443/n/r.git", "wss://svc", false),
            ("svc:7334", "http://svc/n/r.git", "ws://svc:7334", false),
            ("svc", "https://svc.attacker.example/n/r.git", "wss://svc", false),
            ("svc", "https://evil/svc/", "wss://svc", false),
            ("svc", "https://svc@evil/n/r.git", "wss://svc", false),
            ("svc", "https://svc/n/r.git", "wss://svc/other", false),
            ("svc", "https://svc/n/r.git", "wss://other", false),
            ("svc", "ssh://svc/n/r.git", "wss://svc", false),
            ("svc", "svc", "svc", false),
        ] {
            assert_eq!(names(domain, clone, relay), named, "{domain} {clone} {relay}");
        }
    }

    #[test]
    fn what_is_no_domain_is_refused() {
        for text in [
            "",
            "http://svc",
            "svc/path",
            "svc:",
            "svc:99999",
            "a b",
            "u@svc",
            "svc?x",
        ] {
            assert_eq!(text.parse::<Service>(), Err(ServiceError), "{text}");
        }
    }
}
