//! The `Git-Protocol` header, which names the version of git's protocol that a client speaks (git `http-protocol(5)`).

/// A `Git-Protocol` header that is safe to pass on to git.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitProtocol(String);

/// A version of git's protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProtocolVersion {
    /// The original one.
    V0,
    /// The original one, preceded by its number.
    V1,
    /// Commands instead of one conversation.
    V2,
}

impl GitProtocol {
    /// Parses a header value; `None` if it is not safe to pass on: then git speaks version 0.
    pub fn parse(header: &str) -> Option<Self> {
        let harmless = |b: u8| b.is_ascii_alphanumeric() || b"=:._-".contains(&b);
        let fits = (1..=HEADER_BYTES_MAX).contains(&header.len());
        (fits && header.bytes().all(harmless)).then(|| Self(header.to_owned()))
    }

    /// Returns the highest version that the client speaks and this server too (git `protocol.c`).
    pub fn version(&self) -> ProtocolVersion {
        let versions = self.0.split(':').map(|word| match word {
            "version=2" => ProtocolVersion::V2,
            "version=1" => ProtocolVersion::V1,
            _ => ProtocolVersion::V0,
        });
        versions.max().unwrap_or(ProtocolVersion::V0)
    }

    /// Returns the value as sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Room for several versions.
const HEADER_BYTES_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_known_version_counts() {
        for (header, version) in [
            ("version=2", Some(ProtocolVersion::V2)),
            ("version=1:version=2", Some(ProtocolVersion::V2)),
            ("version=1:x=y", Some(ProtocolVersion::V1)),
            ("version=3", Some(ProtocolVersion::V0)),
            ("Version=2", Some(ProtocolVersion::V0)),
            ("", None),
            ("version=2\nX: y", None),
            ("version=2 ", None),
            (&"v".repeat(129), None),
        ] {
            assert_eq!(GitProtocol::parse(header).map(|p| p.version()), version, "{header:?}");
        }
    }
}
