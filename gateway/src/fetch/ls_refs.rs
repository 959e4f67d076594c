//! The `ls-refs` command of protocol version 2, answered natively (git `gitprotocol-v2(5)`, `ls-refs.c`). Pure.

use bytes::Buf;
use bytes::BytesMut;
use shared::git::Oid;
use shared::git::RefName;

use crate::fetch::error::UploadPackError;
use crate::fetch::ref_answer::RefFormat;
use crate::repositories::refs::Head;
use crate::repositories::refs::RefSnapshot;
use wire::pkt_line::PktLine;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LsRefs {
    peel: bool,
    symrefs: bool,
    unborn: bool,
    /// Sorted, none the beginning of another; `None`: every ref.
    prefixes: Option<Vec<Box<str>>>,
}

/// Returns whether `line`, the first of a request, begins an `ls-refs`.
pub(crate) fn is_ls_refs(line: &[u8]) -> bool {
    line.strip_suffix(b"\n").unwrap_or(line) == COMMAND
}

#[derive(Debug, Default)]
pub(crate) struct LsRefsParser {
    request: LsRefs,
    prefixes: Prefixes,
    in_arguments: bool,
}

impl LsRefsParser {
    /// Takes whole packets from the front of `bytes`; `None` if the last is not there yet.
    pub(crate) fn take(&mut self, bytes: &mut BytesMut) -> Result<Option<LsRefs>, UploadPackError> {
        while let Some((frame, len)) = PktLine::decode(bytes)? {
            match frame {
                PktLine::Flush => {
                    self.request.prefixes = std::mem::take(&mut self.prefixes).shortest();
                    return Ok(Some(std::mem::take(&mut self.request)));
                }
                PktLine::Delimiter if !self.in_arguments => self.in_arguments = true,
                PktLine::Delimiter | PktLine::ResponseEnd => return Err(UNEXPECTED_PACKET),
                PktLine::Data(line) => self.line(line)?,
            }
            bytes.advance(len);
        }
        Ok(None)
    }

    fn line(&mut self, line: &[u8]) -> Result<(), UploadPackError> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = std::str::from_utf8(line).map_err(|_| UNEXPECTED_LINE)?;
        match line {
            line if !self.in_arguments => check_capability(line)?,
            "peel" => self.request.peel = true,
            "symrefs" => self.request.symrefs = true,
            "unborn" => self.request.unborn = true,
            line => {
                let prefix = line.strip_prefix("ref-prefix ").ok_or(UNEXPECTED_LINE)?;
                self.prefixes.add(prefix);
            }
        }
        Ok(())
    }
}

impl RefFormat for LsRefs {
    fn begin(&mut self, refs: &RefSnapshot, out: &mut BytesMut) {
        if !self.wants("HEAD") {
            return;
        }
        let symref_target = match &refs.head {
            Head::Symbolic(name) if self.symrefs => format!(" symref-target:{name}"),
            Head::Symbolic(_) | Head::Detached(_) => String::new(),
        };
        match refs.head_oid() {
            Some(oid) => PktLine::encode_text(format_args!("{oid} HEAD{symref_target}\n"), out),
            None if self.unborn && self.symrefs => {
                PktLine::encode_text(format_args!("unborn HEAD{symref_target}\n"), out);
            }
            None => {}
        }
    }

    fn add(&mut self, refs: &RefSnapshot, name: &RefName, oid: Oid, out: &mut BytesMut) {
        if !self.wants(name.as_str()) {
            return;
        }
        match refs.peeled.get(name) {
            Some(peeled) if self.peel => PktLine::encode_text(format_args!("{oid} {name} peeled:{peeled}\n"), out),
            Some(_) | None => PktLine::encode_text(format_args!("{oid} {name}\n"), out),
        }
    }

    fn end(&mut self, out: &mut BytesMut) {
        PktLine::Flush.encode(out);
    }
}

impl LsRefs {
    /// Whether git asks so for a clone, for all branches or for all refs. These are a few requests that most clients
    /// make.
    pub(super) fn is_usual(&self) -> bool {
        let prefixes = self.prefixes.iter().flatten().map(|prefix| &**prefix);
        let is_usual = |usual: &&[&str]| prefixes.clone().eq(usual.iter().copied());
        self.peel && self.symrefs && (self.prefixes.is_none() || USUAL_PREFIXES.iter().any(is_usual))
    }

    /// Returns the same without what makes no difference to these refs.
    pub(super) fn about(mut self, refs: &RefSnapshot) -> Self {
        self.unborn &= refs.head_oid().is_none();
        self
    }

    /// The usual ones, as the git of today asks.
    #[cfg(test)]
    pub(super) fn usual() -> [Self; 3] {
        let [clone, fetch] = USUAL_PREFIXES.map(|prefixes| Self {
            prefixes: Some(prefixes.iter().map(|prefix| Box::from(*prefix)).collect()),
            ..Self::all()
        });
        [clone, fetch, Self::all()]
    }

    /// One that hardly anybody makes.
    #[cfg(test)]
    pub(super) fn of_prefix(prefix: &str) -> Self {
        Self {
            prefixes: Some(vec![prefix.into()]),
            ..Self::all()
        }
    }

    /// As `git ls-remote` asks.
    #[cfg(test)]
    pub(super) fn all() -> Self {
        Self {
            peel: true,
            symrefs: true,
            unborn: true,
            prefixes: None,
        }
    }

    pub(super) fn prefix_bytes(&self) -> usize {
        let prefixes = self.prefixes.iter().flatten();
        prefixes.map(|prefix| prefix.len() + size_of::<Box<str>>()).sum()
    }

    fn wants(&self, name: &str) -> bool {
        let Some(prefixes) = &self.prefixes else {
            return true;
        };
        // What lies between a beginning of `name` and `name` has that beginning too, and was left out.
        let after = prefixes.partition_point(|prefix| &**prefix <= name);
        after > 0 && name.starts_with(&*prefixes[after - 1])
    }
}

fn check_capability(line: &str) -> Result<(), UploadPackError> {
    let key = line.split_once('=').map_or(line, |(key, _)| key);
    match key {
        "agent" | "server-option" | "session-id" => Ok(()),
        _ if line.as_bytes() == COMMAND || line == "object-format=sha1" => Ok(()),
        _ => Err(UNEXPECTED_LINE),
    }
}

/// The prefixes of a request. They are a hint, which a server may ignore (`gitprotocol-v2(5)`): of too many none is
/// kept, and every ref is shown, as git itself does.
#[derive(Debug, Default)]
struct Prefixes {
    is_asked: bool,
    kept: Vec<Box<str>>,
    /// The size of all prefixes, even beyond the limit.
    bytes: usize,
}

impl Prefixes {
    fn add(&mut self, prefix: &str) {
        self.is_asked = true;
        // A longer one begins no ref name.
        if prefix.len() > RefName::BYTES_MAX || self.bytes > PREFIXES_BYTES_MAX {
            return;
        }
        self.bytes += prefix.len() + size_of::<Box<str>>();
        match self.bytes > PREFIXES_BYTES_MAX {
            true => self.kept = Vec::new(),
            false => self.kept.push(prefix.into()),
        }
    }

    /// Sorts prefixes and leaves out those that begin with another, so that one search finds what fits. `None`: all
    /// fit.
    fn shortest(mut self) -> Option<Vec<Box<str>>> {
        if !self.is_asked || self.bytes > PREFIXES_BYTES_MAX {
            return None;
        }
        self.kept.sort();
        self.kept.dedup_by(|next, kept| next.starts_with(&**kept));
        Some(self.kept)
    }
}

/// A packet of another kind, or two sections too many.
pub(crate) const UNEXPECTED_PACKET: UploadPackError =
    UploadPackError::Malformed("unexpected packet in an ls-refs request");
/// A line that is neither a known capability nor a known argument.
const UNEXPECTED_LINE: UploadPackError = UploadPackError::Malformed("unexpected line in an ls-refs request");
const COMMAND: &[u8] = b"command=ls-refs";
/// Those of a clone, and those of a fetch by an older git.
const USUAL_PREFIXES: [&[&str]; 2] = [&["HEAD", "refs/heads/", "refs/tags/"], &["refs/heads/", "refs/tags/"]];
/// Kept of one request. A clone names 3 prefixes, a fetch of one branch 6: this is a thousand. git has a limit on their
/// number only (`ls-refs.c`, `TOO_MANY_PREFIXES`), and 19 KB of gzip can be 65,536 long ones.
const PREFIXES_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use proptest::prelude::*;
    use wire::pkt_line::PktLineError;

    use super::*;
    use crate::fetch::ref_answer::RefAnswer;
    use crate::repositories::refs::read_refs;
    use crate::repositories::testing::World;

    fn parse(bytes: &[u8]) -> Result<Option<LsRefs>, String> {
        take(&mut LsRefsParser::default(), &mut bytes.into())
    }

    fn take(parser: &mut LsRefsParser, bytes: &mut BytesMut) -> Result<Option<LsRefs>, String> {
        parser.take(bytes).map_err(|error| error.to_string())
    }

    fn request(arguments: &[&str]) -> Vec<u8> {
        let mut out = BytesMut::new();
        let mut line = |text: &str| PktLine::Data(text.as_bytes()).encode(&mut out);
        line("command=ls-refs\n");
        line("agent=git/2.47.3");
        line("object-format=sha1");
        out.extend_from_slice(b"0001");
        let mut line = |text: &str| PktLine::Data(text.as_bytes()).encode(&mut out);
        for argument in arguments {
            line(argument);
        }
        out.extend_from_slice(b"0000");
        out.to_vec()
    }

    #[tokio::test]
    async fn answers_are_gits_own_byte_for_byte() {
        let every_ref = ["peel\n", "symrefs\n", "unborn\n"];
        let clone = [
            "peel",
            "symrefs",
            "unborn",
            "ref-prefix HEAD",
            "ref-prefix refs/heads/",
            "ref-prefix refs/tags/",
        ];
        for world in World::of_every_git().await {
            let (full, unborn) = (world.repository("full"), world.repository("unborn"));
            world.many_refs(&full).await;
            world.many_refs(&unborn).await;
            world
                .git(&unborn, &["symbolic-ref", "HEAD", "refs/heads/none"], b"")
                .await;
            let empty = world.store.layout().empty_repository();
            let mut compared = 0;
            for path in [full.path(), unborn.path(), &empty] {
                let refs = read_refs(path, None).unwrap().unwrap().snapshot;
                let refs = Arc::new(refs);
                for arguments in [
                    &[][..],
                    &every_ref,
                    &clone,
                    &["peel"],
                    &["symrefs"],
                    &["unborn"],
                    &[
                        "ref-prefix refs/tags/a",
                        "ref-prefix refs/t",
                        "ref-prefix refs/heads/mai",
                        "ref-prefix x",
                    ],
                ] {
                    let request = request(arguments);
                    let git = world.store.git().invoke("upload-pack");
                    let expected = git
                        .env("GIT_PROTOCOL", "version=2")
                        .arg("--stateless-rpc")
                        .arg(path)
                        .output(&request, Duration::from_secs(30))
                        .await
                        .unwrap();

                    let parsed = parse(&request).unwrap().unwrap();

                    assert_eq!(RefAnswer::whole(&refs, parsed), expected, "{arguments:?}");
                    compared += 1;
                }
            }
            assert_eq!(compared, 21);
        }
    }

    #[test]
    fn what_git_would_end_on_is_refused() {
        for (arguments, error) in [(&["bogus"][..], UNEXPECTED_LINE), (&["ref-prefix"], UNEXPECTED_LINE)] {
            assert_eq!(parse(&request(arguments)), Err(error.to_string()));
        }
        for (bytes, error) in [
            (&b"0014command=ls-refs\n00010001"[..], UNEXPECTED_PACKET),
            (b"0014command=ls-refs\n0002", UNEXPECTED_PACKET),
            (b"0009bogus", UNEXPECTED_LINE),
            (b"0018object-format=sha256", UNEXPECTED_LINE),
            (b"", PktLineError::Length.into()),
        ] {
            let bytes = [bytes, b"\n\n\n\n"].concat();
            assert_eq!(parse(&bytes), Err(error.to_string()), "{bytes:?}");
        }
    }

    /// 65,536 long prefixes, 19 KB as gzip, took 16 MiB of memory for each request.
    #[test]
    fn of_too_many_prefixes_none_is_kept_and_every_ref_is_shown() {
        let mut prefixes = Prefixes::default();
        for _ in 0..65_536 {
            prefixes.add(&"refs/heads/".repeat(20));
            assert!(prefixes.kept.len() < 300);
        }
        assert!(prefixes.kept.is_empty());
        assert_eq!(prefixes.shortest(), None);

        let mut longer_than_any_name = Prefixes::default();
        longer_than_any_name.add(&"x".repeat(60_000));
        assert_eq!(longer_than_any_name.shortest(), Some(Vec::new()));
    }

    proptest! {
        #[test]
        fn a_request_is_whole_only_with_its_last_byte(arguments in prop::collection::vec("(peel|symrefs|ref-prefix [a-c/]{0,4})", 0..5)) {
            let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
            let request = request(&arguments);
            let (mut parser, mut bytes) = (LsRefsParser::default(), BytesMut::new());
            for byte in &request[..request.len() - 1] {
                bytes.extend_from_slice(&[*byte]);
                prop_assert_eq!(take(&mut parser, &mut bytes), Ok(None));
            }
            bytes.extend_from_slice(b"0");
            prop_assert_eq!(take(&mut parser, &mut bytes), parse(&request));
            prop_assert!(parse(&request).unwrap().is_some());
        }

        #[test]
        fn a_name_is_wanted_if_it_has_one_of_the_prefixes(
            prefixes in prop::collection::vec("[ab/]{0,4}", 1..8),
            name in "[ab/]{1,6}",
        ) {
            let expected = prefixes.iter().any(|prefix| name.starts_with(prefix.as_str()));
            let mut kept = Prefixes::default();
            prefixes.iter().for_each(|prefix| kept.add(prefix));
            let request = LsRefs { prefixes: kept.shortest(), ..LsRefs::default() };
            prop_assert_eq!(request.wants(&name), expected);
        }
    }
}
