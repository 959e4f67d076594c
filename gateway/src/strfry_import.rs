//! `strfry import`: the way into the relay for events that it refuses from any client, whatever our plugin answers
//! (strfry 1.1.0, `cmd_import.cpp` and `WriterPipeline.h`; pinned by `tests/tests/strfry_contract.rs`).
//!
//! It asks no plugin and checks neither times nor NIP-70, but it verifies events, and keeps newer versions and
//! deletions. One child for each event, one at a time: such events are rare, and each child takes LMDB's write lock.
//! That lock is robust: after a child that was killed the next one recovers it.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use nostr::event::Event;
use nostr::key::PublicKey;
use parking_lot::Mutex;
use tokio::process::Command;
use tokio::time::Instant;

use crate::command_error::CommandError;
use crate::fairness::slots::Slots;
use crate::process;
use crate::process::ChildLimits;
use crate::process::ChildOutput;
use crate::process::ChildProcess;

/// A strfry binary and the configuration of the relay's database.
#[derive(Debug)]
pub(crate) struct StrfryImport {
    program: PathBuf,
    config: PathBuf,
    deadline: Duration,
    /// One, in use while a child runs.
    slots: Slots<PublicKey>,
    /// Until when none is started, because one has hung.
    rests_until: Mutex<Option<Instant>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StrfryPaths {
    pub(crate) program: PathBuf,
    pub(crate) config: PathBuf,
}

/// A version of strfry: its first two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StrfryVersion(u32, u32);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Imported {
    /// It is stored, or was.
    Stored,
    Replaced,
    Deleted,
}

/// Why an event was not imported. The texts are read by the operator and the pusher.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImportError {
    /// Other imports run.
    #[error("strfry import is busy")]
    Busy,
    /// One has hung a moment ago.
    #[error("strfry import has just hung")]
    Rests,
    #[error("strfry import cannot be run")]
    Run(#[from] io::Error),
    #[error("strfry import {0}")]
    Failed(String),
}

impl StrfryImport {
    /// Takes a strfry, after asking for its version.
    pub(crate) async fn open(paths: StrfryPaths) -> Result<Self, CommandError> {
        let program = paths.program;
        let mut version = process::command(&program);
        version.arg("--version");
        let shown = program.display();
        let answer = run(version, b"", IMPORT_DEADLINE)
            .await
            .map_err(CommandError::because(format!("cannot run {shown}")))?;
        let printed = answer.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        let Some(found) = printed.and_then(|text| text.lines().next().map(str::to_owned)) else {
            return Err(CommandError::new(format!(
                "{shown} is not strfry: it does not answer --version"
            )));
        };
        match found.strip_prefix("strfry ").and_then(StrfryVersion::parse) {
            Some(version) if version < StrfryVersion::MINIMUM => {
                return Err(CommandError::new(format!(
                    "{shown} is {found}; 1.1.0 or newer is needed"
                )));
            }
            Some(_) => {}
            // Built without its git tags: each import shows whether its output can be understood.
            None => tracing::warn!(
                found,
                "cannot determine the version of strfry; 1.1.0 or newer is needed"
            ),
        }
        Ok(Self {
            program,
            config: paths.config,
            deadline: IMPORT_DEADLINE,
            slots: Slots::new(1),
            rests_until: Mutex::new(None),
        })
    }

    /// Imports an event when its author has a slot, and returns what strfry reports, which is still to be confirmed
    /// by the relay.
    pub(crate) async fn import(&self, event: &Event) -> Result<Imported, ImportError> {
        let deadline = self.deadline;
        let slot = tokio::time::timeout(deadline, self.slots.acquire(event.pubkey)).await;
        let _slot = slot.map_err(|_| ImportError::Busy)?;
        if self.rests_until.lock().is_some_and(|until| until > Instant::now()) {
            return Err(ImportError::Rests);
        }
        let line = format!("{}\n", event.as_json());
        match run(self.command(), line.as_bytes(), deadline).await? {
            Some(output) if output.status.success() => read_import(&output.stderr.text()),
            Some(output) => {
                let words = last_words(&output.stderr.text());
                Err(ImportError::Failed(format!("failed ({}): {words}", output.status)))
            }
            None => {
                *self.rests_until.lock() = Some(Instant::now() + REST);
                Err(ImportError::Failed(format!(
                    "was killed after {} s",
                    deadline.as_secs()
                )))
            }
        }
    }

    fn command(&self) -> Command {
        let mut config = OsString::from("--config=");
        config.push(&self.config);
        let mut command = process::command(&self.program);
        // Commits at once and reports refused events; both are off by default.
        command
            .arg(config)
            .args(["import", "--show-rejected", "--debounce-millis=0", "--write-batch=1"]);
        command
    }
}

/// Runs strfry to its end; after `deadline` it is killed: `None`.
async fn run(command: Command, input: &[u8], deadline: Duration) -> io::Result<Option<ChildOutput>> {
    let child = ChildProcess::spawn(command, "strfry".to_owned(), Stdio::piped(), ChildLimits::DATABASE)?;
    child.output(input, STDOUT_BYTES_MAX, deadline).await
}

/// Reads what `strfry import` wrote about the one event that it was given.
fn read_import(stderr: &str) -> Result<Imported, ImportError> {
    let mut counts = [0_u64; 4];
    for report in stderr.lines().map(without_prefix) {
        if report.starts_with("Rejected event") {
            // 1.1 prints the start of the event before it, later versions its id.
            let reason = report.rsplit_once(" reason: ").or_else(|| report.split_once(": "));
            let reason = reason.map_or("no reason given", |(_, reason)| reason);
            return Err(ImportError::Failed(format!("refused it: {reason}")));
        }
        if report.starts_with("Unable to parse JSON") {
            return Err(ImportError::Failed("refused it: it cannot be read".to_owned()));
        }
        if let Some(counted) = report.strip_prefix("Writer: added: ").and_then(counts_of) {
            counts.iter_mut().zip(counted).for_each(|(sum, count)| *sum += count);
        }
    }
    match counts {
        [1, 0, 0, 0] | [0, 1, 0, 0] => Ok(Imported::Stored),
        [0, 0, 1, 0] => Ok(Imported::Replaced),
        [0, 0, 0, 1] => Ok(Imported::Deleted),
        _ => Err(ImportError::Failed(UNCLEAR.to_owned())),
    }
}

/// Reads `1 dups: 0 replaced: 0 deleted: 0`.
fn counts_of(text: &str) -> Option<[u64; 4]> {
    let words: Vec<&str> = text.split_whitespace().collect();
    match words.as_slice() {
        [added, "dups:", dups, "replaced:", replaced, "deleted:", deleted] => Some([
            added.parse().ok()?,
            dups.parse().ok()?,
            replaced.parse().ok()?,
            deleted.parse().ok()?,
        ]),
        _ => None,
    }
}

/// Returns a log line without time, thread and level.
fn without_prefix(line: &str) -> &str {
    line.split_once("| ").map_or(line, |(_, text)| text).trim()
}

/// Returns the last line with a text, without paths of this machine.
fn last_words(stderr: &str) -> String {
    let mut lines = stderr.lines().rev().map(without_prefix);
    let last = lines.find(|line| !line.is_empty() && *line != "atexit");
    let words = last.unwrap_or("no message").split(' ');
    let shown = words.map(|word| if word.starts_with('/') { "..." } else { word });
    let shown = shown.collect::<Vec<_>>().join(" ");
    shown
        .chars()
        .filter(|c| !c.is_control())
        .take(WORDS_CHARS_MAX)
        .collect()
}

impl StrfryVersion {
    /// The first version whose import reports the outcome of each event.
    pub(crate) const MINIMUM: Self = Self(1, 1);

    /// Reads `1.1.0`, with or without what `git describe` appends; `None`: it was built without its git tags.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split(['.', '-']);
        let mut next = || numbers.next()?.parse().ok();
        Some(Self(next()?, next()?))
    }
}

const UNCLEAR: &str = "did not report whether it stored the event; strfry 1.1.0 or newer is needed";

/// For the wait until others have ended, and for one import: with both and the relay's answers an event is settled
/// within its lease, or, where everything is slow, taken again. An import itself takes tens of milliseconds, or as long
/// as others write.
const IMPORT_DEADLINE: Duration = Duration::from_secs(5);

/// Without another import after a child that hung, so that no event waits for the next one that hangs.
pub(crate) const REST: Duration = Duration::from_secs(10);

/// `--version` prints a line; an import prints nothing on stdout.
const STDOUT_BYTES_MAX: usize = 64 * 1024;

const WORDS_CHARS_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use futures_util::FutureExt;
    use futures_util::future::join_all;
    use nostr::event::EventBuilder;
    use nostr::event::FinalizeEvent;
    use nostr::event::Kind;
    use nostr::event::Tag;
    use nostr::key::Keys;
    use nostr::types::Timestamp;

    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn event(created_at: u64, tags: &[&[&str]]) -> Event {
        event_by(&Keys::generate(), created_at, tags)
    }

    fn event_by(author: &Keys, created_at: u64, tags: &[&[&str]]) -> Event {
        EventBuilder::new(Kind::from_u16(30618), "")
            .tags(tags.iter().map(|tag| Tag::parse(tag.iter().copied()).unwrap()))
            .custom_created_at(Timestamp::from_secs(created_at))
            .finalize(author)
            .unwrap()
    }

    #[test]
    fn versions_are_read_as_git_describes_them() {
        for (text, version) in [
            ("1.1.0", Some(StrfryVersion(1, 1))),
            ("1.0.4-12-gabcdef0", Some(StrfryVersion(1, 0))),
            ("2.10", Some(StrfryVersion(2, 10))),
            ("v512-abcdef0", None),
            ("no-git-commits", None),
            ("", None),
        ] {
            assert_eq!(StrfryVersion::parse(text), version, "{text}");
        }
    }

    /// A strfry that runs a script.
    async fn strfry_import(folder: &Path, import: &str) -> StrfryImport {
        let program = folder.join("strfry");
        let script = format!("#!/bin/sh\n[ \"$1\" = --version ] && echo 'strfry 1.1.0' && exit 0\n{import}\n");
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let strfry_import = open(program, folder.join("strfry.conf")).await.unwrap();
        StrfryImport {
            deadline: Duration::from_secs(20),
            ..strfry_import
        }
    }

    fn is_busy(error: &CommandError) -> bool {
        let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<io::Error>());
        cause.is_some_and(|cause| cause.kind() == io::ErrorKind::ExecutableFileBusy)
    }

    /// Opens it, when no child that another test is just starting has the script open any more.
    async fn open(program: PathBuf, config: PathBuf) -> Result<StrfryImport, CommandError> {
        let paths = StrfryPaths { program, config };
        loop {
            match StrfryImport::open(paths.clone()).await {
                Err(error) if is_busy(&error) => {
                    tokio::task::yield_now().await;
                }
                opened => return opened,
            }
        }
    }

    const UNCLEAR_IMPORT: &str =
        "Err(Failed(\"did not report whether it stored the event; strfry 1.1.0 or newer is needed\"))";
    const LOG: &str = "2026-01-01 00:00:00.046 (   0.003s) [Writer          ]INFO| ";

    #[tokio::test]
    async fn what_strfry_says_is_read_as_what_became_of_the_event() {
        let rows = [
            ("Writer: added: 1 dups: 0 replaced: 0 deleted: 0", "Ok(Stored)"),
            ("Writer: added: 0 dups: 1 replaced: 0 deleted: 0", "Ok(Stored)"),
            ("Writer: added: 0 dups: 0 replaced: 1 deleted: 0", "Ok(Replaced)"),
            ("Writer: added: 0 dups: 0 replaced: 0 deleted: 1", "Ok(Deleted)"),
            ("Writer: added: 0 dups: 0 replaced: 0 deleted: 0", UNCLEAR_IMPORT),
            ("Writer: added: all", UNCLEAR_IMPORT),
            ("", UNCLEAR_IMPORT),
            (
                "Unable to parse JSON on line 1",
                "Err(Failed(\"refused it: it cannot be read\"))",
            ),
            (
                "Rejected event: {\"content\":\"| Writer: added: 1 dups: 0 replaced: 0 deleted: 0\" reason: bad signature",
                "Err(Failed(\"refused it: bad signature\"))",
            ),
            (
                "Rejected event 00ff: event too large: 300000",
                "Err(Failed(\"refused it: event too large: 300000\"))",
            ),
        ];
        for (said, expected) in rows {
            let folder = tempfile::tempdir().unwrap();
            let last = format!("{LOG}Writer: added: 0 dups: 0 replaced: 0 deleted: 0");
            let script = format!("cat > \"$0.line\"\ncat >&2 <<'END'\n{LOG}{said}\n{last}\nEND");
            let strfry_import = strfry_import(folder.path(), &script).await;
            let event = event(NOW, &[&["d", "r"]]);

            let imported = strfry_import.import(&event).await;

            assert_eq!(format!("{imported:?}"), expected, "{said}");
            let line = fs::read_to_string(folder.path().join("strfry.line")).unwrap();
            assert_eq!(line, format!("{}\n", event.as_json()));
        }
    }

    #[tokio::test]
    async fn a_strfry_that_fails_says_why_and_no_path() {
        let folder = tempfile::tempdir().unwrap();
        let script = "echo 'strfry error: cannot open /srv/db : Permission denied' >&2\nexit 1";
        let strfry_import = strfry_import(folder.path(), script).await;

        let error = strfry_import.import(&event(NOW, &[&["d", "r"]])).await.unwrap_err();

        let text = error.to_string();
        assert!(
            text.ends_with("strfry error: cannot open ... : Permission denied"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn a_strfry_that_hangs_is_killed_with_all_that_it_started_and_nobody_waits_for_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let script = "echo $$ > \"$0.pid\"\nsleep 600 & echo $! >> \"$0.pid\"\nwait";
        let mut strfry_import = strfry_import(folder.path(), script).await;
        strfry_import.deadline = Duration::from_secs(2);
        let event = event(NOW, &[&["d", "r"]]);

        let first = strfry_import.import(&event).await.unwrap_err();
        let second = strfry_import.import(&event).await.unwrap_err();

        assert!(first.to_string().contains("was killed after 2 s"), "{first}");
        assert!(matches!(second, ImportError::Rests), "{second}");
        let pids = fs::read_to_string(folder.path().join("strfry.pid")).unwrap();
        let pids: Vec<i32> = pids.lines().map(|pid| pid.parse().unwrap()).collect();
        assert_eq!(pids.len(), 2);
        let gone = async {
            for pid in pids {
                while is_alive(pid) {
                    tokio::task::yield_now().await;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), gone)
            .await
            .expect("killed");
    }

    /// Whether a process runs; one that only waits to be waited for does not.
    fn is_alive(pid: i32) -> bool {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z'))
    }

    #[tokio::test]
    async fn what_is_no_strfry_or_too_old_is_refused_at_the_start() {
        for (script, expected) in [
            ("echo 'strfry 1.0.4'", "1.1.0 or newer is needed"),
            ("exit 0", "is not strfry"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let program = folder.path().join("strfry");
            fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
            let config = folder.path().join("strfry.conf");

            let error = open(program, config).await.unwrap_err();

            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[tokio::test]
    async fn who_has_much_to_import_keeps_nobody_waiting() {
        let folder = tempfile::tempdir().unwrap();
        // Each says which one it was, and the first ends when all others wait.
        let script = "cat >> \"$0.lines\"; while [ ! -e \"$0.go\" ]; do sleep 0.01; done\n\
                      echo 'Writer: added: 1 dups: 0 replaced: 0 deleted: 0' >&2";
        let strfry_import = strfry_import(folder.path(), script).await;
        let [stranger, owner] = [Keys::generate(), Keys::generate()];
        let authors = (0..5).map(|_| &stranger).chain([&owner]);
        let event = |(number, author): (u64, &Keys)| event_by(author, NOW + number, &[&["d", "r"]]);
        let events: Vec<Event> = (0..).zip(authors).map(event).collect();
        let mut imports = Box::pin(join_all(events.iter().map(|event| strfry_import.import(event))));
        assert!(imports.as_mut().now_or_never().is_none());

        fs::write(folder.path().join("strfry.go"), "").unwrap();
        let imported = imports.await;

        assert!(
            imported.iter().all(|imported| matches!(imported, Ok(Imported::Stored))),
            "{imported:?}"
        );
        let lines = fs::read_to_string(folder.path().join("strfry.lines")).unwrap();
        let place = lines.lines().position(|line| line == events[5].as_json());
        assert_eq!(place, Some(1), "behind the one that ran");
    }
}
