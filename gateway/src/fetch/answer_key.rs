//! Which requests of fetches have the same answer. Pure.
//!
//! A request without what the client has is answered with what its wants reach. An object id names all of that, so the
//! answer depends on the request alone, but for the tags that git adds where the client takes them. Whether it may be
//! given is another question: each want has to be a ref now.

use std::path::Path;
use std::sync::Arc;

use bitcoin_hashes::HashEngine;
use bitcoin_hashes::sha256;
use bytes::Buf;
use bytes::BytesMut;
use shared::git::Oid;

use crate::fetch::advertised::Advertised;
use wire::pkt_line::PktLine;
use wire::protocol::GitProtocol;

/// Names the answer to a request of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct AnswerKey {
    /// Whose answer it is.
    pub(super) repository: Arc<Path>,
    /// Of all that the answer depends on.
    pub(super) digest: sha256::Hash,
    /// The tags of the repository, if the answer has some of them.
    pub(super) tags: Option<sha256::Hash>,
}

/// Reads a request piece by piece.
pub(super) struct AnswerKeyParser<'a> {
    advertised: &'a Advertised,
    engine: sha256::HashEngine,
    rest: BytesMut,
    takes_tags: bool,
    wants_any: bool,
    /// Everything so far is known to be the same for every client.
    is_known: bool,
}

impl<'a> AnswerKeyParser<'a> {
    /// Begins a request of this protocol to the repository at `path` with these refs.
    pub(super) fn new(path: &Path, advertised: &'a Advertised, protocol: Option<&GitProtocol>) -> Self {
        let mut parser = Self {
            advertised,
            engine: sha256::HashEngine::new(),
            rest: BytesMut::new(),
            takes_tags: false,
            wants_any: false,
            is_known: true,
        };
        parser.add(path.as_os_str().as_encoded_bytes());
        parser.add(protocol.map_or("", GitProtocol::as_str).as_bytes());
        parser
    }

    /// Takes the next bytes of it.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        if !self.is_known {
            return;
        }
        let mut rest = std::mem::take(&mut self.rest);
        rest.extend_from_slice(bytes);
        while self.is_known {
            let (frame, len) = match PktLine::decode(&rest) {
                Ok(Some(found)) => found,
                Ok(None) => {
                    self.rest = rest;
                    return;
                }
                Err(_) => {
                    self.is_known = false;
                    return;
                }
            };
            match frame {
                PktLine::Data(line) => {
                    self.is_known = self.line(line.strip_suffix(b"\n").unwrap_or(line)).is_some();
                }
                // No line of a request has these bytes.
                PktLine::Flush | PktLine::Delimiter | PktLine::ResponseEnd => self.add(&rest[..len]),
            }
            rest.advance(len);
        }
    }

    /// Returns the name of the answer, at the end of the request; `None`: it is for this client only.
    pub(super) fn key(mut self, repository: &Path) -> Option<AnswerKey> {
        if !self.is_known || !self.wants_any || !self.rest.is_empty() {
            return None;
        }
        let tags = self.takes_tags.then(|| self.advertised.tags());
        if let Some(tags) = &tags {
            self.add(&tags.to_byte_array());
        }
        Some(AnswerKey {
            repository: repository.into(),
            digest: self.engine.finalize(),
            tags,
        })
    }

    /// Adds one line; `None`: it says something that not every client would, or that is not known.
    fn line(&mut self, line: &[u8]) -> Option<()> {
        let line = std::str::from_utf8(line).ok()?;
        let Some(want) = line.strip_prefix("want ") else {
            return self.word(line);
        };
        let (oid, capabilities) = want.split_once(' ').unwrap_or((want, ""));
        let oid = oid.parse::<Oid>().ok().filter(|oid| self.advertised.is_tip(oid))?;
        self.wants_any = true;
        self.add(oid.as_bytes());
        capabilities
            .split_ascii_whitespace()
            .try_for_each(|word| self.word(word))
    }

    fn word(&mut self, word: &str) -> Option<()> {
        match word {
            // Who asks makes no difference.
            _ if ["agent=", "session-id="].iter().any(|own| word.starts_with(own)) => return Some(()),
            "include-tag" => self.takes_tags = true,
            _ if WORDS.contains(&word) || ARGUMENTS.iter().any(|start| word.starts_with(start)) => {}
            _ => return None,
        }
        self.add(word.as_bytes());
        Some(())
    }

    fn add(&mut self, bytes: &[u8]) {
        self.engine.input(&(bytes.len() as u64).to_be_bytes());
        self.engine.input(bytes);
    }
}

/// Of requests that name no ref and nothing that the client has: `deepen-not` and `want-ref` do, and `have` and
/// `shallow` (`gitprotocol-v2(5)`, `gitprotocol-capabilities(5)`).
const WORDS: [&str; 17] = [
    "command=fetch",
    "object-format=sha1",
    "done",
    "thin-pack",
    "no-progress",
    "ofs-delta",
    "deepen-relative",
    "multi_ack",
    "multi_ack_detailed",
    "no-done",
    "side-band",
    "side-band-64k",
    "shallow",
    "deepen-since",
    "deepen-not",
    "filter",
    "allow-reachable-sha1-in-want",
];

/// The same, with a value behind them.
const ARGUMENTS: [&str; 3] = ["deepen ", "deepen-since ", "filter "];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repositories::refs::RefSnapshot;

    const MAIN: &str = "1111111111111111111111111111111111111111";
    const TAG: &str = "2222222222222222222222222222222222222222";
    const GONE: &str = "3333333333333333333333333333333333333333";

    fn advertised(refs: &[(&str, &str)]) -> Advertised {
        let refs = refs
            .iter()
            .map(|(name, oid)| (name.parse().unwrap(), oid.parse::<Oid>().unwrap()));
        Advertised::new(Arc::new(RefSnapshot {
            refs: refs.collect(),
            ..RefSnapshot::empty()
        }))
    }

    fn request(lines: &[&str]) -> Vec<u8> {
        let mut out = BytesMut::new();
        for line in lines {
            match *line {
                "0000" => PktLine::Flush.encode(&mut out),
                "0001" => PktLine::Delimiter.encode(&mut out),
                line => PktLine::Data(line.as_bytes()).encode(&mut out),
            }
        }
        out.to_vec()
    }

    fn key_of(advertised: &Advertised, lines: &[&str]) -> Option<AnswerKey> {
        let path = Path::new("/r.git");
        let mut parser = AnswerKeyParser::new(path, advertised, GitProtocol::parse("version=2").as_ref());
        for piece in request(lines).chunks(7) {
            parser.take(piece);
        }
        parser.key(path)
    }

    #[test]
    fn who_asks_makes_no_difference_and_what_is_asked_does() {
        let refs = advertised(&[("refs/heads/main", MAIN), ("refs/tags/one", TAG)]);
        let (main, tag) = (format!("want {MAIN}\n"), format!("want {TAG}\n"));
        let first = ["command=fetch", "agent=git/2.47", "0001", &main, "done\n", "0000"];
        let same = [
            "command=fetch",
            "agent=x",
            "session-id=7",
            "0001",
            &main,
            "done",
            "0000",
        ];
        assert!(key_of(&refs, &first).is_some());
        assert_eq!(key_of(&refs, &first), key_of(&refs, &same));
        let mut keys: Vec<_> = [
            &first[..],
            &["command=fetch", "0001", &tag, "done", "0000"],
            &["command=fetch", "0001", &main, &tag, "done", "0000"],
            &["command=fetch", "0001", &main, "deepen 1", "done", "0000"],
            &["command=fetch", "0001", &main, "filter blob:none", "done", "0000"],
            &["command=fetch", "0001", &main, "include-tag", "done", "0000"],
            &["command=fetch", "0001", &main, "done", "0000", "done"],
        ]
        .map(|lines| key_of(&refs, lines).unwrap().digest)
        .into();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), 7);
    }

    #[test]
    fn what_depends_on_the_client_or_on_a_ref_is_not_for_others() {
        let refs = advertised(&[("refs/heads/main", MAIN), ("refs/grasp/hidden", GONE)]);
        let want = format!("want {MAIN}");
        assert!(key_of(&refs, &["command=fetch", "0001", &want, "0000"]).is_some());
        for line in [
            "have 1111111111111111111111111111111111111111",
            "shallow 1111111111111111111111111111111111111111",
            "deepen-not refs/heads/main",
            "want-ref refs/heads/main",
            "want 3333333333333333333333333333333333333333",
            "want 4444444444444444444444444444444444444444",
            "want x",
            "server-option=x",
        ] {
            let lines = ["command=fetch", "0001", &want, line, "0000"];
            assert_eq!(key_of(&refs, &lines), None, "{line}");
        }
        assert_eq!(key_of(&refs, &["command=fetch", "0001", "done", "0000"]), None);
        let mut half = AnswerKeyParser::new(Path::new("/r.git"), &refs, None);
        half.take(&request(&[&want])[..20]);
        assert_eq!(half.key(Path::new("/r.git")), None);
    }

    #[test]
    fn tags_count_where_the_client_takes_them() {
        let one = advertised(&[("refs/heads/main", MAIN), ("refs/tags/one", TAG)]);
        let two = advertised(&[("refs/heads/main", MAIN), ("refs/tags/two", TAG)]);
        let want = format!("want {MAIN} include-tag agent=x");
        assert_ne!(key_of(&one, &[&want, "0000"]), key_of(&two, &[&want, "0000"]));
        let want = format!("want {MAIN}");
        assert_eq!(key_of(&one, &[&want, "0000"]), key_of(&two, &[&want, "0000"]));
        assert_eq!(key_of(&one, &[&want, "0000"]).unwrap().tags, None);
    }

    #[test]
    fn a_ref_that_went_away_is_no_tip() {
        let want = format!("want {GONE}");
        let before = advertised(&[("refs/heads/main", MAIN), ("refs/heads/gone", GONE)]);
        assert!(key_of(&before, &[&want, "0000"]).is_some());
        assert_eq!(
            key_of(&advertised(&[("refs/heads/main", MAIN)]), &[&want, "0000"]),
            None
        );
    }
}
