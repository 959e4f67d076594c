//! The head of a push: its commands and capabilities, up to where the pack begins (git `gitprotocol-pack(5)`,
//! "Reference Update Request and Packfile Transfer"; what git itself accepts beyond that: docs/facts/git-http.md 3.1).
//!
//! None of its bytes reach git, so that git cannot read the request differently. Incremental and bounded; no I/O.

use std::collections::HashMap;

use bytes::Buf;
use bytes::Bytes;
use bytes::BytesMut;
use shared::git::CommandDefect;
use shared::git::Oid;
use shared::git::PushCommand;
use shared::git::RefName;
use shared::git::RefUpdate;

use crate::pkt_line::PktLine;
use crate::pkt_line::PktLineError;

/// A push request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandList {
    /// The commands in their order; none in a probe, which asks for nothing.
    pub commands: Vec<PushCommand>,
    /// The forms of an answer that the pusher's git can read.
    pub capabilities: PushCapabilities,
    /// How many push options the push has, which this server ignores.
    pub push_options: usize,
    /// Whether the pusher's clone is shallow. Where its history ends is irrelevant: the pushed objects must be complete
    /// together with those of the repository, as in any other push.
    pub is_shallow: bool,
    /// Whether a pack follows: git sends one unless every command is a deletion.
    pub expects_pack: bool,
}

/// The capabilities of a push that change how it is answered (git `gitprotocol-capabilities(5)`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PushCapabilities {
    /// `report-status`, or `report-status-v2`: the same without hooks that redirect refs.
    pub report_status: bool,
    /// `side-band-64k`
    pub side_band_64k: bool,
    /// `quiet`: no progress is shown.
    pub quiet: bool,
    /// `atomic`: all or nothing.
    pub atomic: bool,
    /// `push-options`: they follow the commands.
    pub push_options: bool,
}

/// The limits of a command list.
#[derive(Debug, Clone, Copy)]
pub struct CommandListLimits {
    /// Most commands.
    pub commands_max: usize,
    /// Most bytes.
    pub bytes_max: usize,
    /// Most commands for refs of PRs; others are refused one by one.
    pub pull_requests_max: usize,
}

impl Default for CommandListLimits {
    fn default() -> Self {
        Self {
            // A state in an event of at most 512 KiB declares 9,000 refs at most, in 58 bytes each; a push may set as
            // many, and delete those of the previous state.
            commands_max: 20_000,
            // Their names together are no longer than two such states, plus 88 bytes per command.
            bytes_max: 4 * 1024 * 1024,
            // Most PR commits in one push. Their events are read before anything is decided: each id may name one of
            // the longest that the relay has.
            pull_requests_max: 32,
        }
    }
}

/// Why the whole list is refused. The text is for the pusher.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandListError {
    /// Not pkt-lines.
    #[error("malformed push request: {0}")]
    PktLine(#[from] PktLineError),
    /// Not what git sends: git itself could read another list in it.
    #[error("malformed push request: {0}")]
    Malformed(&'static str),
    /// Text that is not UTF-8.
    #[error("ref names must be UTF-8")]
    Encoding,
    /// A signed push: git splits its lines differently.
    #[error("signed pushes (push-cert) are not supported: push with --no-signed")]
    PushCert,
    /// A hash other than SHA-1.
    #[error("the object format {format} is not supported: this server has sha1")]
    ObjectFormat {
        /// The requested one.
        format: String,
    },
    /// More commands than the limit.
    #[error("a push has at most {max} commands: push in parts")]
    TooMany {
        /// The limit.
        max: usize,
    },
    /// More push options than the limit.
    #[error("a push has at most {PUSH_OPTIONS_MAX} push options (-o)")]
    TooManyOptions,
    /// More bytes than the limit.
    #[error("the command list of a push has at most {max} bytes: push in parts")]
    TooLong {
        /// The limit.
        max: usize,
    },
}

/// Reads a command list from chunks of a request body.
#[derive(Debug)]
pub struct CommandListParser {
    limits: CommandListLimits,
    buffer: BytesMut,
    bytes_read: usize,
    section: Section,
    list: CommandList,
}

/// The section of the next line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Section {
    Commands,
    PushOptions,
}

impl CommandListParser {
    /// Makes a parser that has read nothing.
    pub fn new(limits: CommandListLimits) -> Self {
        Self {
            limits,
            buffer: BytesMut::new(),
            bytes_read: 0,
            section: Section::Commands,
            list: CommandList::default(),
        }
    }

    /// Returns the capabilities read so far: they decide the form of a refusal.
    pub fn capabilities(&self) -> &PushCapabilities {
        &self.list.capabilities
    }

    /// Returns how many bytes of the list are here.
    pub fn bytes(&self) -> usize {
        self.bytes_read + self.buffer.len()
    }

    /// Takes the next chunk; returns the list once it is complete, with the input behind it: the start of the pack.
    /// The parser is spent then, and after an error.
    ///
    /// # Errors
    /// [`CommandListError`] if this server refuses the list, as soon as that is certain.
    pub fn push(&mut self, chunk: &[u8]) -> Result<Option<(CommandList, Bytes)>, CommandListError> {
        self.buffer.extend_from_slice(chunk);
        while let Some((frame, len)) = PktLine::decode(&self.buffer)? {
            self.bytes_read += len;
            if self.bytes_read > self.limits.bytes_max {
                return Err(self.too_long());
            }
            match (frame, self.section) {
                (PktLine::Flush, Section::Commands) if self.list.capabilities.push_options => {
                    self.section = Section::PushOptions;
                    self.buffer.advance(len);
                }
                (PktLine::Flush, Section::Commands | Section::PushOptions) => {
                    self.buffer.advance(len);
                    return Ok(Some(self.finish()));
                }
                // Of protocol version 2, which pushes do not have.
                (PktLine::Delimiter | PktLine::ResponseEnd, _) => {
                    return Err(CommandListError::Malformed("a delimiter packet"));
                }
                (PktLine::Data(line), Section::Commands) => {
                    let max = self.limits.commands_max;
                    read_line(line, &mut self.list, max)?;
                    self.buffer.advance(len);
                }
                (PktLine::Data(_), Section::PushOptions) => {
                    self.list.push_options += 1;
                    if self.list.push_options > PUSH_OPTIONS_MAX {
                        return Err(CommandListError::TooManyOptions);
                    }
                    self.buffer.advance(len);
                }
            }
        }
        if self.bytes_read + self.buffer.len() > self.limits.bytes_max {
            return Err(self.too_long());
        }
        Ok(None)
    }

    fn finish(&mut self) -> (CommandList, Bytes) {
        let mut list = std::mem::take(&mut self.list);
        mark_conflicts(&mut list.commands);
        mark_pull_requests(&mut list.commands, self.limits.pull_requests_max);
        (list, std::mem::take(&mut self.buffer).freeze())
    }

    fn too_long(&self) -> CommandListError {
        CommandListError::TooLong {
            max: self.limits.bytes_max,
        }
    }
}

/// Reads a line of the commands.
fn read_line(line: &[u8], list: &mut CommandList, commands_max: usize) -> Result<(), CommandListError> {
    if let Some(oid) = line.strip_prefix(b"shallow ") {
        let oid = std::str::from_utf8(oid.trim_ascii_end()).unwrap_or_default();
        let names_one = oid.parse::<Oid>().is_ok();
        list.is_shallow = true;
        return names_one
            .then_some(())
            .ok_or(CommandListError::Malformed("a shallow line without an object id"));
    }
    if list.commands.len() == commands_max {
        return Err(CommandListError::TooMany { max: commands_max });
    }
    if line.starts_with(b"push-cert") {
        return Err(CommandListError::PushCert);
    }
    let line = std::str::from_utf8(line).map_err(|_| CommandListError::Encoding)?;
    let line = line.strip_suffix('\n').unwrap_or(line);
    let (command, capabilities) = match line.split_once('\0') {
        None => (line, None),
        Some((command, words)) if list.commands.is_empty() && !words.contains('\0') => {
            (command, Some(parse_capabilities(words)?))
        }
        // git would read capabilities there.
        Some(_) => return Err(CommandListError::Malformed("a NUL in a line that is not the first")),
    };
    let mut parts = command.splitn(3, ' ');
    let (Some(old), Some(new), Some(name)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(NOT_A_COMMAND);
    };
    // A word of another length is not an id: then the request is not a list of commands.
    if old.len() != OID_DIGITS || new.len() != OID_DIGITS || name.is_empty() {
        return Err(NOT_A_COMMAND);
    }
    list.expects_pack |= new.bytes().any(|digit| digit != b'0');
    list.commands.push(PushCommand {
        name: name.to_owned(),
        update: parse_update(old, new, name),
    });
    if let Some(capabilities) = capabilities {
        list.capabilities = capabilities;
    }
    Ok(())
}

fn parse_update(old: &str, new: &str, name: &str) -> Result<RefUpdate, CommandDefect> {
    // git reads two null ids as an unconditional deletion. Here they mean that the ref is absent and shall stay so: in
    // place if that is true, stale if not.
    Ok(RefUpdate {
        old: Oid::parse_optional(old)?,
        new: Oid::parse_optional(new)?,
        name: name.parse::<RefName>()?,
    })
}

fn parse_capabilities(words: &str) -> Result<PushCapabilities, CommandListError> {
    let mut capabilities = PushCapabilities::default();
    for word in words.split([' ', '\n']) {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        match (name, value) {
            ("report-status" | "report-status-v2", None) => capabilities.report_status = true,
            ("side-band-64k", None) => capabilities.side_band_64k = true,
            ("quiet", None) => capabilities.quiet = true,
            ("atomic", None) => capabilities.atomic = true,
            ("push-options", None) => capabilities.push_options = true,
            ("push-cert", _) => return Err(CommandListError::PushCert),
            ("object-format", Some(format)) if format != "sha1" => {
                let printable = format.chars().filter(|c| !c.is_control()).take(20);
                return Err(CommandListError::ObjectFormat {
                    format: printable.collect(),
                });
            }
            // Unknown capabilities were not advertised; git ignores them too.
            _ => {}
        }
    }
    Ok(capabilities)
}

/// Marks commands for one ref as duplicates, and pairs that create `a` and `a/b`.
fn mark_conflicts(commands: &mut [PushCommand]) {
    let mut seen: HashMap<String, usize> = HashMap::new();
    for command in commands.iter() {
        *seen.entry(command.name.clone()).or_default() += 1;
    }
    for command in commands.iter_mut().filter(|command| seen[&command.name] > 1) {
        if command.update.is_ok() {
            command.update = Err(CommandDefect::Duplicate);
        }
    }
    let mut kept: Vec<(RefName, usize)> = commands
        .iter()
        .enumerate()
        .filter_map(|(i, command)| {
            let update = command.update.as_ref().ok()?;
            update.new.is_some().then(|| (update.name.clone(), i))
        })
        .collect();
    // With `/` sorted before every other byte, the names below a name follow it directly: one pass finds every pair.
    kept.sort_by(|(a, _), (b, _)| directory_order(a).cmp(directory_order(b)));
    let mut directory: Option<(RefName, usize)> = None;
    for (name, i) in kept {
        match &directory {
            Some((above, j)) if above.conflicts_with(&name) => {
                for at in [i, *j] {
                    commands[at].update = Err(CommandDefect::DirectoryConflict);
                }
            }
            Some(_) | None => directory = Some((name, i)),
        }
    }
}

/// Marks commands for refs of PRs beyond the first `max`.
fn mark_pull_requests(commands: &mut [PushCommand], max: usize) {
    let of_pull_requests = commands.iter_mut().filter(|command| {
        let update = command.update.as_ref();
        update.is_ok_and(|update| update.name.pull_request_id().is_some())
    });
    for command in of_pull_requests.skip(max) {
        command.update = Err(CommandDefect::TooManyPullRequests { max });
    }
}

fn directory_order(name: &RefName) -> impl Iterator<Item = u8> {
    let below_all = |byte| if byte == b'/' { 0 } else { byte };
    name.as_str().bytes().map(below_all)
}

const NOT_A_COMMAND: CommandListError = CommandListError::Malformed("a line is not <old> <new> <ref>");
const OID_DIGITS: usize = 2 * Oid::LEN;

/// Most push options of a push; their bytes count with those of the commands. People have a few in their configuration.
pub const PUSH_OPTIONS_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NULL: &str = "0000000000000000000000000000000000000000";
    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn request(lines: &[String]) -> Vec<u8> {
        let mut bytes = BytesMut::new();
        for line in lines {
            PktLine::Data(line.as_bytes()).encode(&mut bytes);
        }
        PktLine::Flush.encode(&mut bytes);
        bytes.to_vec()
    }

    fn parse(bytes: &[u8]) -> Result<Option<(CommandList, Bytes)>, CommandListError> {
        CommandListParser::new(CommandListLimits::default()).push(bytes)
    }

    fn complete(lines: &[String]) -> CommandList {
        match parse(&request(lines)) {
            Ok(Some((list, _))) => list,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_git_sends_is_understood() {
        let first = format!(
            "{NULL} {A} refs/heads/main\0 report-status-v2 side-band-64k quiet atomic object-format=sha1 agent=git/2.47.3"
        );
        let mut bytes = request(&[first, format!("{A} {NULL} refs/heads/old\n")]);
        bytes.extend(b"PACK...");

        let Ok(Some((list, rest))) = parse(&bytes) else {
            panic!("incomplete")
        };

        let oid = |text: &str| Some(text.parse::<Oid>().unwrap());
        let name = |text: &str| text.parse::<RefName>().unwrap();
        let updates: Vec<_> = list.commands.iter().map(|c| c.update.clone().unwrap()).collect();
        let (created, deleted) = (name("refs/heads/main"), name("refs/heads/old"));
        assert_eq!(
            updates,
            [
                RefUpdate {
                    name: created,
                    old: None,
                    new: oid(A)
                },
                RefUpdate {
                    name: deleted,
                    old: oid(A),
                    new: None
                },
            ]
        );
        assert_eq!(&rest[..], b"PACK...");
        assert!(list.expects_pack);
        let capabilities = list.capabilities;
        assert!(capabilities.report_status && capabilities.side_band_64k);
        assert!(capabilities.atomic && capabilities.quiet);
    }

    #[test]
    fn push_options_are_counted_and_not_looked_at() {
        let command = request(&[format!("{NULL} {A} refs/heads/main\0report-status push-options")]);
        let options = ["ci.skip", "push-cert", "shallow x\0atomic"].map(str::to_owned);
        let whole = [&command, &request(&options)[..], b"PACK"].concat();

        assert_eq!(parse(&command), Ok(None));
        let (list, rest) = parse(&whole).unwrap().unwrap();

        assert_eq!(
            (list.push_options, list.commands.len(), &rest[..]),
            (3, 1, &b"PACK"[..])
        );
        assert!(!list.is_shallow && !list.capabilities.atomic);
        let delimited = [&command[..], b"0001"].concat();
        assert_eq!(
            parse(&delimited),
            Err(CommandListError::Malformed("a delimiter packet"))
        );
        let many = |count| {
            let options = request(&vec!["x".to_owned(); count]);
            parse(&[command.clone(), options].concat()).map(|read| read.unwrap().0.push_options)
        };
        assert_eq!(many(PUSH_OPTIONS_MAX), Ok(PUSH_OPTIONS_MAX));
        assert_eq!(many(PUSH_OPTIONS_MAX + 1), Err(CommandListError::TooManyOptions));
    }

    #[test]
    fn a_shallow_clone_says_so_before_its_commands() {
        let shallow = |oid: &str| format!("shallow {oid}");
        let lines = [
            shallow(A),
            shallow(B) + "\n",
            format!("{A} {B} refs/heads/main\0atomic"),
        ];
        let list = complete(&lines);
        assert!(list.is_shallow && list.capabilities.atomic);
        assert_eq!(list.commands.len(), 1);
    }

    #[test]
    fn a_probe_asks_for_nothing() {
        assert_eq!(parse(b"0000"), Ok(Some((CommandList::default(), Bytes::new()))));
        assert!(!CommandList::default().expects_pack);
    }

    #[test]
    fn deletions_bring_no_pack() {
        let deletion = |name: &str| format!("{A} {NULL} {name}");
        let twice = [deletion("refs/heads/a"), deletion("refs/heads/a")];
        for (lines, expects_pack) in [
            (vec![deletion("refs/heads/a")], false),
            (vec![deletion("refs/heads/a..b")], false),
            (twice.to_vec(), false),
            (
                (1..40).map(|i| deletion(&format!("refs/nostr/{i:064x}"))).collect(),
                false,
            ),
            (vec![deletion("refs/heads/a"), format!("{A} {B} refs/heads/a..b")], true),
        ] {
            assert_eq!(complete(&lines).expects_pack, expects_pack, "{lines:?}");
        }
    }

    #[test]
    fn lists_that_git_would_read_in_another_way_are_refused_whole() {
        let ok = format!("{NULL} {A} refs/heads/a\0");
        let cert = format!("push-cert\0report-status\n{NULL} {A} refs/heads/evil\n");
        for (lines, error) in [
            (vec![cert.clone()], CommandListError::PushCert),
            (vec![ok.clone(), cert], CommandListError::PushCert),
            (
                vec![format!("shallow {}", A.to_uppercase()), ok.clone()],
                CommandListError::Malformed("a shallow line without an object id"),
            ),
            (
                vec![ok.clone(), format!("{NULL} {B} refs/heads/b\0atomic")],
                CommandListError::Malformed("a NUL in a line that is not the first"),
            ),
            (
                vec![format!("{ok}atomic\0quiet")],
                CommandListError::Malformed("a NUL in a line that is not the first"),
            ),
            (vec![format!("{ok}push-cert=x")], CommandListError::PushCert),
            (
                vec![format!("{ok}object-format=sha256")],
                CommandListError::ObjectFormat {
                    format: "sha256".into(),
                },
            ),
            (vec!["hello".to_owned()], NOT_A_COMMAND),
            (vec![format!("{NULL} {A}")], NOT_A_COMMAND),
            (vec![format!("{NULL} {A} ")], NOT_A_COMMAND),
            (vec![format!("{NULL}0 {A} refs/heads/a")], NOT_A_COMMAND),
            (vec![format!("{NULL}  {A} refs/heads/a")], NOT_A_COMMAND),
        ] {
            assert_eq!(parse(&request(&lines)), Err(error), "{lines:?}");
        }
        for (bytes, error) in [
            (&b"0001"[..], CommandListError::Malformed("a delimiter packet")),
            (b"0002", CommandListError::Malformed("a delimiter packet")),
            (b"0004", CommandListError::PktLine(PktLineError::Short { len: 4 })),
            (b"PACK", CommandListError::PktLine(PktLineError::Length)),
            (b"0006\xff\xfe", CommandListError::Encoding),
        ] {
            assert_eq!(parse(bytes), Err(error), "{bytes:?}");
        }
    }

    #[test]
    fn defects_of_one_command_leave_the_others_alone() {
        let upper = A.to_uppercase();
        let list = complete(&[
            format!("{NULL} {A} refs/heads/good"),
            format!("{NULL} {NULL} refs/heads/b7"),
            format!("{NULL} {upper} refs/heads/upper"),
            format!("{NULL} {A} HEAD"),
            format!("{A} {NULL} refs/heads/a b"),
            format!("{NULL} {A} refs/heads/twice"),
            format!("{A} {NULL} refs/heads/twice"),
            format!("{NULL} {A} refs/heads/{}", "x/".repeat(600)),
            // `-` and `.` sort before `/`: a plain order would put these between the two.
            format!("{NULL} {A} refs/heads/d"),
            format!("{NULL} {A} refs/heads/d-e"),
            format!("{NULL} {A} refs/heads/d.e"),
            format!("{NULL} {A} refs/heads/d/e"),
            format!("{NULL} {A} refs/heads/d/e/f"),
            format!("{A} {NULL} refs/heads/m"),
            format!("{NULL} {A} refs/heads/m/n"),
        ]);

        let texts: Vec<_> = list
            .commands
            .iter()
            .map(|command| command.update.as_ref().err().map_or("-".into(), ToString::to_string))
            .collect();

        let twice = "the push has more than one command for this ref";
        let beside = "the push has two refs that cannot both exist";
        assert_eq!(
            texts,
            [
                "-",
                "-",
                "bad object id: an object id has 40 digits, only 0-9 and a-f",
                "funny refname: a ref name has the form refs/<kind>/<name>",
                &texts[4],
                twice,
                twice,
                "funny refname: the ref name has more than 1024 bytes",
                beside,
                "-",
                "-",
                beside,
                beside,
                "-",
                "-",
            ]
        );
        assert!(
            texts[4].starts_with("funny refname: not a valid ref name: "),
            "{}",
            texts[4]
        );
    }

    #[test]
    fn lists_beyond_a_limit_are_refused_before_they_are_whole() {
        let line = format!("{NULL} {A} refs/heads/a");
        let limits = CommandListLimits {
            commands_max: 2,
            bytes_max: 1000,
            ..CommandListLimits::default()
        };
        let parse = |bytes: &[u8]| CommandListParser::new(limits).push(bytes);

        let many = request(&[line.clone(), line.clone(), line.clone()]);
        assert_eq!(parse(&many), Err(CommandListError::TooMany { max: 2 }));
        let long = request(&[format!("{line}{}", "x".repeat(1000))]);
        assert_eq!(parse(&long), Err(CommandListError::TooLong { max: 1000 }));
        assert_eq!(parse(&long[..1001]), Err(CommandListError::TooLong { max: 1000 }));
        assert_eq!(parse(&long[..1000]), Ok(None));
        // What follows the list is the pack and has limits of its own.
        let pack = [request(&[line]), vec![0; 5000]].concat();
        assert!(matches!(parse(&pack), Ok(Some((_, rest))) if rest.len() == 5000));
    }

    #[test]
    fn refs_of_prs_beyond_the_limit_are_refused_one_by_one() {
        let pull_request = |i| format!("{NULL} {A} refs/nostr/{i:064x}");
        let deletion = format!("{A} {NULL} refs/nostr/{:064x}", 99);
        let branch = format!("{NULL} {A} refs/heads/a");
        let lines: Vec<_> = (0..33).map(pull_request).chain([branch, deletion]).collect();

        let commands = complete(&lines).commands;

        let refused: Vec<_> = (0..35).filter(|&i| commands[i].update.is_err()).collect();
        assert_eq!(refused, [32, 34]);
        let text = commands[32].update.as_ref().unwrap_err().to_string();
        assert_eq!(text, "a push has at most 32 refs of PRs, push the others separately");
    }

    fn any_line() -> impl Strategy<Value = String> {
        let oid = prop::sample::select(vec![NULL, A, B, "x"]);
        let name = prop::sample::select(vec!["refs/heads/a", "refs/heads/a/b", "refs/x", "", "push-cert"]);
        let tail = prop::sample::select(vec!["", "\n", "\0", "\0atomic", "\0push-options"]);
        (oid.clone(), oid, name, tail).prop_map(|(old, new, name, tail)| format!("{old} {new} {name}{tail}"))
    }

    proptest! {
        #[test]
        fn no_input_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            drop(parse(&bytes));
        }

        #[test]
        fn the_reading_does_not_depend_on_the_chunks(
            lines in prop::collection::vec(any_line(), 0..6),
            cuts in prop::collection::vec(1usize..60, 0..40),
        ) {
            let mut bytes = request(&lines);
            bytes.extend(b"PACK");
            let whole = parse(&bytes);

            let mut parser = CommandListParser::new(CommandListLimits::default());
            let mut left = &bytes[..];
            let mut result = Ok(None);
            for cut in cuts.into_iter().chain(std::iter::repeat(7)) {
                if left.is_empty() || result != Ok(None) {
                    break;
                }
                let (chunk, rest) = left.split_at(cut.min(left.len()));
                result = parser.push(chunk);
                left = rest;
            }
            if let Ok(Some((list, rest))) = result {
                result = Ok(Some((list, [&rest, left].concat().into())));
            }

            prop_assert_eq!(result, whole);
        }
    }
}
