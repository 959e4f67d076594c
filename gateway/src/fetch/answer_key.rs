//! Which requests of fetches have the same answer. Pure.
//!
//! A request without what the client has is answered with what its wants reach. An object id names all of that, so the
//! answer depends on the request alone, but for the tags that git adds where the client takes them. Whether it may be
//! given is another question: each want has to be a ref now.

use std::path::Path;
use std::sync::Arc;

use bitcoin_hashes::HashEngine;
use bitcoin_hashes::sha256;
use shared::git::Oid;

use crate::fetch::advertised::Advertised;
use wire::pkt_line::PktLine;
use wire::protocol::GitProtocol;
use wire::protocol::ProtocolVersion;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct AnswerKey {
    /// Whose answer it is.
    pub(super) repository: Arc<Path>,
    /// Of all that the answer depends on.
    pub(super) digest: sha256::Hash,
    /// The tags of the repository, if the answer has some of them.
    pub(super) tags: Option<sha256::Hash>,
}

pub(super) struct AnswerKeyParser<'a> {
    advertised: &'a Advertised,
    engine: sha256::HashEngine,
    section: RequestSection,
    takes_tags: bool,
    wants_any: bool,
    /// Everything so far is known to be the same for every client.
    is_known: bool,
}

/// Where in a request the next line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RequestSection {
    /// Version 2, before the delimiter: what the client can do.
    Capabilities,
    /// The other versions: the first line, which has the agent after what it wants.
    FirstWant,
    Arguments,
}

impl<'a> AnswerKeyParser<'a> {
    pub(super) fn new(path: &Path, advertised: &'a Advertised, protocol: Option<&GitProtocol>) -> Self {
        let version = protocol.map_or(ProtocolVersion::V0, GitProtocol::version);
        let mut parser = Self {
            advertised,
            engine: sha256::HashEngine::new(),
            section: match version {
                ProtocolVersion::V2 => RequestSection::Capabilities,
                ProtocolVersion::V0 | ProtocolVersion::V1 => RequestSection::FirstWant,
            },
            takes_tags: false,
            wants_any: false,
            is_known: true,
        };
        parser.add(path.as_os_str().as_encoded_bytes());
        parser.add(protocol.map_or("", GitProtocol::as_str).as_bytes());
        parser
    }

    /// Takes the next line of it, or a packet between lines.
    pub(super) fn take(&mut self, frame: &PktLine<'_>) {
        self.is_known = self.is_known && self.frame(frame).is_some();
    }

    /// Returns the name of the answer, at the end of the request; `None`: it is for this client only.
    pub(super) fn key(mut self, repository: &Path) -> Option<AnswerKey> {
        if !self.is_known || !self.wants_any {
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

    /// Adds one frame; `None`: it is unknown, or not common to all clients.
    fn frame(&mut self, frame: &PktLine<'_>) -> Option<()> {
        match (frame, self.section) {
            (PktLine::Data(line), section) => return self.line(line, section),
            (PktLine::Delimiter, RequestSection::Capabilities) => self.section = RequestSection::Arguments,
            (PktLine::Flush, RequestSection::Arguments) => {}
            (PktLine::Flush | PktLine::Delimiter | PktLine::ResponseEnd, _) => return None,
        }
        // No line is empty.
        self.add(b"");
        Some(())
    }

    /// Adds all bytes of a line that git reads, but for the client's name where git takes one.
    fn line(&mut self, line: &[u8], section: RequestSection) -> Option<()> {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        // For git other white space ends a word, too, and a NUL the line.
        let is_plain = text.iter().all(|byte| *byte == b' ' || byte.is_ascii_graphic());
        let text = std::str::from_utf8(text).ok().filter(|_| is_plain)?;
        match section {
            RequestSection::Capabilities if text.starts_with(AGENT) => return Some(()),
            RequestSection::Capabilities if ["command=fetch", "object-format=sha1"].contains(&text) => {}
            RequestSection::FirstWant => {
                self.section = RequestSection::Arguments;
                return self.first_want(text);
            }
            RequestSection::Arguments => self.argument(text)?,
            RequestSection::Capabilities => return None,
        }
        self.add(line);
        Some(())
    }

    fn first_want(&mut self, line: &str) -> Option<()> {
        let mut words = line.strip_prefix("want ")?.split(' ');
        let oid = words.next()?;
        self.want(oid)?;
        let words: Vec<_> = words.filter(|word| !word.starts_with(AGENT)).collect();
        self.takes_tags = words.contains(&"include-tag");
        self.add(format!("{oid} {}", words.join(" ")).as_bytes());
        words.iter().all(|word| CAPABILITIES.contains(word)).then_some(())
    }

    fn argument(&mut self, line: &str) -> Option<()> {
        if let Some(oid) = line.strip_prefix("want ") {
            return self.want(oid);
        }
        self.takes_tags |= line == "include-tag";
        let is_known = ARGUMENTS.contains(&line) || VALUED.iter().any(|start| line.starts_with(start));
        is_known.then_some(())
    }

    fn want(&mut self, oid: &str) -> Option<()> {
        let oid = oid.parse::<Oid>().ok()?;
        self.wants_any = true;
        self.advertised.is_tip(&oid).then_some(())
    }

    fn add(&mut self, bytes: &[u8]) {
        self.engine.input(&(bytes.len() as u64).to_be_bytes());
        self.engine.input(bytes);
    }
}

/// The name of the client makes no difference.
const AGENT: &str = "agent=";

/// What clients of versions 0 and 1 can do (`gitprotocol-capabilities(5)`) that makes no answer one for them only.
const CAPABILITIES: [&str; 16] = [
    "object-format=sha1",
    "thin-pack",
    "no-progress",
    "include-tag",
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

/// Lines that name no ref and nothing that the client has: `deepen-not` and `want-ref` do, and `have` and `shallow`
/// (`gitprotocol-v2(5)`).
const ARGUMENTS: [&str; 6] = [
    "done",
    "thin-pack",
    "no-progress",
    "include-tag",
    "ofs-delta",
    "deepen-relative",
];

/// The same, with a value behind them.
const VALUED: [&str; 3] = ["deepen ", "deepen-since ", "filter "];

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

    fn key_of(advertised: &Advertised, lines: &[&str]) -> Option<AnswerKey> {
        key_by(2, advertised, lines)
    }

    fn key_by(version: u8, advertised: &Advertised, lines: &[&str]) -> Option<AnswerKey> {
        let path = Path::new("/r.git");
        let protocol = GitProtocol::parse(&format!("version={version}"));
        let mut parser = AnswerKeyParser::new(path, advertised, protocol.as_ref());
        for line in lines {
            parser.take(&match *line {
                "0000" => PktLine::Flush,
                "0001" => PktLine::Delimiter,
                line => PktLine::Data(line.as_bytes()),
            });
        }
        parser.key(path)
    }

    #[test]
    fn who_asks_makes_no_difference_where_git_takes_a_name_and_what_is_asked_does() {
        let refs = advertised(&[("refs/heads/main", MAIN), ("refs/tags/one", TAG)]);
        let (main, tag) = (format!("want {MAIN}\n"), format!("want {TAG}\n"));
        let first = ["command=fetch", "agent=git/2.47", "0001", &main, "done\n", "0000"];
        let same = ["command=fetch", "agent=x y\n", "0001", &main, "done\n", "0000"];
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
        assert_eq!(
            key_of(&refs, &["command=fetch", "session-id=7", "0001", &main, "0000"]),
            None
        );
        assert_eq!(key_of(&refs, &["command=fetch", "0001", &main, "0001", "0000"]), None);
    }

    #[test]
    fn older_versions_name_the_client_behind_the_first_want_only() {
        let refs = advertised(&[("refs/heads/main", MAIN), ("refs/tags/one", TAG)]);
        let first = |words: &str| key_by(1, &refs, &[&format!("want {MAIN}{words}\n"), "0000", "done\n"]);
        let plain = first(" multi_ack_detailed side-band-64k thin-pack");
        assert!(plain.is_some() && first("").is_some());
        assert_eq!(
            plain,
            first(" agent=git/2 multi_ack_detailed side-band-64k agent=x thin-pack")
        );
        assert_ne!(plain, first(" multi_ack_detailed thin-pack side-band-64k"));
        for words in [
            " multi_ack_detailed\x0cside-band-64k thin-pack",
            " multi_ack_detailed\tside-band-64k thin-pack",
            " multi_ack_detailed\0side-band-64k thin-pack",
            " multi_ack_detailed side-band-64k\nthin-pack",
            "  thin-pack",
            " thin-pack ",
            " session-id=7",
            " agent=x\x0bside-band-64k",
        ] {
            assert_eq!(first(words), None, "{words:?}");
        }
        let word = key_by(1, &refs, &[&format!("want {MAIN} thin-pack"), "0000"]);
        let line = key_by(1, &refs, &[&format!("want {MAIN}"), "thin-pack", "0000"]);
        assert!(word.is_some() && word != line);
        let second = format!("want {TAG} thin-pack");
        assert_eq!(key_by(1, &refs, &[&format!("want {MAIN}"), &second, "0000"]), None);
    }

    #[test]
    fn what_depends_on_the_client_or_on_a_ref_is_not_for_others() {
        let refs = advertised(&[("refs/heads/main", MAIN)]);
        let want = format!("want {MAIN}");
        assert!(key_of(&refs, &["command=fetch", "0001", &want, "0000"]).is_some());
        for line in [
            "have 1111111111111111111111111111111111111111",
            "shallow 1111111111111111111111111111111111111111",
            "deepen-not refs/heads/main",
            "want-ref refs/heads/main",
            "want 3333333333333333333333333333333333333333",
            "want x",
            "server-option=x",
            "agent=x",
            "session-id=x",
            "want 1111111111111111111111111111111111111111 thin-pack",
        ] {
            let lines = ["command=fetch", "0001", &want, line, "0000"];
            assert_eq!(key_of(&refs, &lines), None, "{line}");
        }
        assert_eq!(key_of(&refs, &["command=fetch", "0001", "done", "0000"]), None);
    }

    #[test]
    fn tags_count_where_the_client_takes_them() {
        let one = advertised(&[("refs/heads/main", MAIN), ("refs/tags/one", TAG)]);
        let two = advertised(&[("refs/heads/main", MAIN), ("refs/tags/two", TAG)]);
        let want = format!("want {MAIN} include-tag agent=x");
        assert_ne!(key_by(0, &one, &[&want, "0000"]), key_by(0, &two, &[&want, "0000"]));
        let want = format!("want {MAIN}");
        assert_eq!(key_by(0, &one, &[&want, "0000"]), key_by(0, &two, &[&want, "0000"]));
        assert_eq!(key_by(0, &one, &[&want, "0000"]).unwrap().tags, None);
    }

    #[test]
    fn a_ref_that_went_away_is_no_tip() {
        let want = format!("want {GONE}");
        let before = advertised(&[("refs/heads/main", MAIN), ("refs/heads/gone", GONE)]);
        let after = advertised(&[("refs/heads/main", MAIN)]);
        assert!(key_by(0, &before, &[&want, "0000"]).is_some());
        assert_eq!(key_by(0, &after, &[&want, "0000"]), None);
    }
}
