//! `strfry import`: the way into the relay for events that it refuses from any client, whatever our plugin says
//! (strfry 1.1.0, `cmd_import.cpp` and `WriterPipeline.h`; pinned by `tests/tests/strfry_contract.rs`).
//!
//! It asks no plugin and does not look at times and NIP-70, but verifies, and keeps to newer versions and deletions.
//! One child for each event, one at a time: such events are rare, and each child takes LMDB's write lock.

mod child;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use nostr::event::Event;
use nostr::types::Timestamp;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// A strfry binary and the configuration of the relay's database.
#[derive(Debug)]
pub(crate) struct Importer {
    program: PathBuf,
    config: PathBuf,
    deadline: Duration,
    /// Whose turn it is; until when nobody has one, because a child hung.
    turn: Mutex<Option<Instant>>,
}

/// Where strfry is, as the operator says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StrfryPaths {
    /// The binary.
    pub(crate) program: PathBuf,
    /// Its configuration.
    pub(crate) config: PathBuf,
}

/// What strfry says has become of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Imported {
    /// It is stored, or was.
    Stored,
    /// There is a newer version of it.
    Replaced,
    /// Its author asked to delete it.
    Deleted,
}

/// Why an event was not imported. The texts are read by the operator and the pusher.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImportError {
    /// Others are at it, or one has hung a moment ago.
    #[error("strfry import is busy or has just hung")]
    Busy,
    /// It cannot be run.
    #[error("strfry import cannot be run")]
    Run(#[from] io::Error),
    /// It did not end in time and was killed.
    #[error("strfry import was killed after {} s", deadline.as_secs())]
    Deadline {
        /// The time it had.
        deadline: Duration,
    },
    /// It ended with another status than 0.
    #[error("strfry import failed ({status}): {message}")]
    Failed {
        /// How it ended.
        status: ExitStatus,
        /// Its last words.
        message: String,
    },
    /// It refused the event.
    #[error("strfry import refused it: {message}")]
    Refused {
        /// Why.
        message: String,
    },
    /// It did not say what became of the event.
    #[error("strfry import did not say what became of it; it must be 1.1.0 or newer")]
    Unclear,
}

/// Why a strfry is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StrfryError {
    /// It cannot be run.
    #[error("cannot run {}", program.display())]
    Run {
        /// The binary.
        program: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// It says no version, or not in time.
    #[error("{} is no strfry: it does not answer to --version", program.display())]
    Silent {
        /// The binary.
        program: PathBuf,
    },
    /// It does not say what becomes of what it imports.
    #[error("{} is {found}; 1.1.0 or newer is needed", program.display())]
    TooOld {
        /// The binary.
        program: PathBuf,
        /// What it said.
        found: String,
    },
}

impl Importer {
    /// Takes a strfry, after asking for its version.
    ///
    /// # Errors
    /// See [`StrfryError`].
    pub(crate) async fn open(paths: StrfryPaths) -> Result<Self, StrfryError> {
        let program = paths.program;
        let ended = child::run(&program, &["--version".into()], b"", IMPORT_DEADLINE).await;
        let ended = ended.map_err(|source| StrfryError::Run {
            program: program.clone(),
            source,
        })?;
        let Some(found) = ended.and_then(|ended| ended.stdout.lines().next().map(str::to_owned)) else {
            return Err(StrfryError::Silent { program });
        };
        match version_of(&found) {
            Some(version) if version < VERSION_MIN => return Err(StrfryError::TooOld { program, found }),
            Some(_) => {}
            // Built without its tags: each import says by itself whether it can be understood.
            None => tracing::warn!(found, "cannot tell the version of strfry; 1.1.0 or newer is needed"),
        }
        Ok(Self {
            program,
            config: paths.config,
            deadline: IMPORT_DEADLINE,
            turn: Mutex::new(None),
        })
    }

    /// Imports an event and returns what strfry says about it, which is still to be confirmed by the relay.
    ///
    /// # Errors
    /// See [`ImportError`].
    pub(crate) async fn import(&self, event: &Event) -> Result<Imported, ImportError> {
        let turn = tokio::time::timeout(self.deadline, self.turn.lock()).await;
        let mut resting = turn.map_err(|_| ImportError::Busy)?;
        if resting.is_some_and(|until| until > Instant::now()) {
            return Err(ImportError::Busy);
        }
        let line = format!("{}\n", event.as_json());
        let ended = child::run(&self.program, &self.arguments(), line.as_bytes(), self.deadline).await?;
        match ended {
            Some(ended) if ended.status.success() => read_import(&ended.stderr),
            Some(ended) => Err(ImportError::Failed {
                status: ended.status,
                message: last_words(&ended.stderr),
            }),
            None => {
                *resting = Some(Instant::now() + REST);
                Err(ImportError::Deadline {
                    deadline: self.deadline,
                })
            }
        }
    }

    fn arguments(&self) -> Vec<OsString> {
        let mut config = OsString::from("--config=");
        config.push(&self.config);
        let mut arguments = vec![config];
        // Commits at once and says what is refused; both are off by default.
        let import = ["import", "--show-rejected", "--debounce-millis=0", "--write-batch=1"];
        arguments.extend(import.map(OsString::from));
        arguments
    }
}

/// What is to be done about an event that the relay refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// It may go in by `strfry import`: what the relay has against it is its age or NIP-70, which only a client can
    /// be asked to mind.
    Import,
    /// It has expired meanwhile: nobody is to have it.
    Drop,
    /// None: it is stuck.
    None,
}

/// Decides what is to be done about an event that the relay refuses for good, at `now`.
///
/// Only strfry's own texts lead to an import, and only for events that they can be meant for: what another plugin or
/// a limit has against an event stands.
pub(crate) fn decide_remedy(event: &Event, refusal: &str, now: Timestamp) -> Remedy {
    let is_in_the_way = match refusal {
        "blocked: event marked as protected" | "auth-required: event marked as protected" => event.is_protected(),
        "invalid: created_at too early" => event.created_at < now,
        "invalid: created_at too late" => event.created_at > now,
        _ => false,
    };
    match is_in_the_way {
        true if event.is_expired_at(now) => Remedy::Drop,
        true => Remedy::Import,
        false => Remedy::None,
    }
}

/// Reads what `strfry import` wrote about the one event that it was given.
fn read_import(stderr: &str) -> Result<Imported, ImportError> {
    let mut counts = [0_u64; 4];
    for said in stderr.lines().map(without_prefix) {
        if said.starts_with("Rejected event") {
            // 1.1 says the start of the event before it, later ones its id.
            let reason = said.rsplit_once(" reason: ").or_else(|| said.split_once(": "));
            return Err(ImportError::Refused {
                message: reason.map_or("no reason given", |(_, reason)| reason).to_owned(),
            });
        }
        if said.starts_with("Unable to parse JSON") {
            return Err(ImportError::Refused {
                message: "it cannot be read".to_owned(),
            });
        }
        if let Some(counted) = said.strip_prefix("Writer: added: ").and_then(counts_of) {
            counts.iter_mut().zip(counted).for_each(|(sum, count)| *sum += count);
        }
    }
    match counts {
        [1, 0, 0, 0] | [0, 1, 0, 0] => Ok(Imported::Stored),
        [0, 0, 1, 0] => Ok(Imported::Replaced),
        [0, 0, 0, 1] => Ok(Imported::Deleted),
        _ => Err(ImportError::Unclear),
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
    line.split_once("| ").map_or(line, |(_, said)| said).trim()
}

/// Returns the last line that says anything, without paths of this machine.
fn last_words(stderr: &str) -> String {
    let mut lines = stderr.lines().rev().map(without_prefix);
    let said = lines.find(|said| !said.is_empty() && *said != "atexit");
    let words = said.unwrap_or("no message").split(' ');
    let shown = words.map(|word| if word.starts_with('/') { "..." } else { word });
    let shown = shown.collect::<Vec<_>>().join(" ");
    shown
        .chars()
        .filter(|c| !c.is_control())
        .take(WORDS_CHARS_MAX)
        .collect()
}

/// Reads `strfry 1.1.0`, with or without what git says behind it.
fn version_of(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.strip_prefix("strfry ")?.split(['.', '-']);
    let mut next = || numbers.next()?.parse().ok();
    Some((next()?, next()?))
}

/// The first version whose import says what became of each event.
const VERSION_MIN: (u32, u32) = (1, 1);

/// For a turn, and for one import: with both and the relay's answers an event is settled within its lease, or, where
/// everything is slow, taken again. An import itself takes tens of milliseconds, or as long as others write.
const IMPORT_DEADLINE: Duration = Duration::from_secs(5);

/// After a child that hung: nobody else waits for another one.
pub(crate) const REST: Duration = Duration::from_secs(10);

const WORDS_CHARS_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use nostr::event::EventBuilder;
    use nostr::event::FinalizeEvent;
    use nostr::event::Kind;
    use nostr::event::Tag;
    use nostr::key::Keys;

    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn event(created_at: u64, tags: &[&[&str]]) -> Event {
        EventBuilder::new(Kind::from_u16(30618), "")
            .tags(tags.iter().map(|tag| Tag::parse(tag.iter().copied()).unwrap()))
            .custom_created_at(Timestamp::from_secs(created_at))
            .finalize(&Keys::generate())
            .unwrap()
    }

    #[test]
    fn only_age_and_nip_70_lead_to_an_import() {
        const PROTECTED: &[&[&str]] = &[&["d", "r"], &["-"]];
        const PLAIN: &[&[&str]] = &[&["d", "r"]];
        const EXPIRED: &[&[&str]] = &[&["d", "r"], &["-"], &["expiration", "1600000000"]];
        let rows = [
            ("blocked: event marked as protected", PROTECTED, NOW, Remedy::Import),
            (
                "auth-required: event marked as protected",
                PROTECTED,
                NOW,
                Remedy::Import,
            ),
            ("blocked: event marked as protected", PLAIN, NOW, Remedy::None),
            ("blocked: event marked as protected", EXPIRED, NOW, Remedy::Drop),
            ("invalid: created_at too early", PLAIN, NOW - 1, Remedy::Import),
            ("invalid: created_at too early", PLAIN, NOW + 1, Remedy::None),
            ("invalid: created_at too early", EXPIRED, NOW - 1, Remedy::Drop),
            ("invalid: created_at too late", PLAIN, NOW + 1, Remedy::Import),
            ("invalid: created_at too late", PLAIN, NOW - 1, Remedy::None),
            (
                "restricted: must be published by the author",
                PROTECTED,
                NOW,
                Remedy::None,
            ),
            ("invalid: event too large: 300000", PLAIN, NOW, Remedy::None),
            ("invalid: bad signature", PROTECTED, NOW, Remedy::None),
            ("blocked: spam", PROTECTED, NOW, Remedy::None),
            ("", PROTECTED, NOW, Remedy::None),
        ];

        for (refusal, tags, created_at, remedy) in rows {
            let event = event(created_at, tags);

            let decided = decide_remedy(&event, refusal, Timestamp::from_secs(NOW));

            assert_eq!(decided, remedy, "{refusal} {tags:?} {created_at}");
        }
    }

    #[test]
    fn versions_are_read_as_git_describes_them() {
        for (text, version) in [
            ("strfry 1.1.0", Some((1, 1))),
            ("strfry 1.0.4-12-gabcdef0", Some((1, 0))),
            ("strfry 2.10", Some((2, 10))),
            ("strfry v512-abcdef0", None),
            ("strfry no-git-commits", None),
            ("", None),
        ] {
            assert_eq!(version_of(text), version, "{text}");
        }
    }

    /// A strfry that does what a script says.
    async fn importer(folder: &Path, import: &str) -> Importer {
        let program = folder.join("strfry");
        let script = format!("#!/bin/sh\n[ \"$1\" = --version ] && echo 'strfry 1.1.0' && exit 0\n{import}\n");
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let importer = open(program, folder.join("strfry.conf")).await.unwrap();
        Importer {
            deadline: Duration::from_secs(20),
            ..importer
        }
    }

    /// Opens it, when no child that another test is just starting has the script open any more.
    async fn open(program: PathBuf, config: PathBuf) -> Result<Importer, StrfryError> {
        let paths = StrfryPaths { program, config };
        loop {
            match Importer::open(paths.clone()).await {
                Err(StrfryError::Run { source, .. }) if source.kind() == io::ErrorKind::ExecutableFileBusy => {
                    tokio::task::yield_now().await;
                }
                opened => return opened,
            }
        }
    }

    const LOG: &str = "2026-01-01 00:00:00.046 (   0.003s) [Writer          ]INFO| ";

    #[tokio::test]
    async fn what_strfry_says_is_read_as_what_became_of_the_event() {
        let rows = [
            ("Writer: added: 1 dups: 0 replaced: 0 deleted: 0", "Ok(Stored)"),
            ("Writer: added: 0 dups: 1 replaced: 0 deleted: 0", "Ok(Stored)"),
            ("Writer: added: 0 dups: 0 replaced: 1 deleted: 0", "Ok(Replaced)"),
            ("Writer: added: 0 dups: 0 replaced: 0 deleted: 1", "Ok(Deleted)"),
            ("Writer: added: 0 dups: 0 replaced: 0 deleted: 0", "Err(Unclear)"),
            ("Writer: added: all", "Err(Unclear)"),
            ("", "Err(Unclear)"),
            (
                "Unable to parse JSON on line 1",
                "Err(Refused { message: \"it cannot be read\" })",
            ),
            (
                "Rejected event: {\"content\":\"| Writer: added: 1 dups: 0 replaced: 0 deleted: 0\" reason: bad signature",
                "Err(Refused { message: \"bad signature\" })",
            ),
            (
                "Rejected event 00ff: event too large: 300000",
                "Err(Refused { message: \"event too large: 300000\" })",
            ),
        ];
        for (said, expected) in rows {
            let folder = tempfile::tempdir().unwrap();
            let last = format!("{LOG}Writer: added: 0 dups: 0 replaced: 0 deleted: 0");
            let script = format!("cat > \"$0.line\"\ncat >&2 <<'END'\n{LOG}{said}\n{last}\nEND");
            let importer = importer(folder.path(), &script).await;
            let event = event(NOW, &[&["d", "r"]]);

            let imported = importer.import(&event).await;

            assert_eq!(format!("{imported:?}"), expected, "{said}");
            let line = fs::read_to_string(folder.path().join("strfry.line")).unwrap();
            assert_eq!(line, format!("{}\n", event.as_json()));
        }
    }

    #[tokio::test]
    async fn a_strfry_that_fails_says_why_and_no_path() {
        let folder = tempfile::tempdir().unwrap();
        let script = "echo 'strfry error: cannot open /srv/db : Permission denied' >&2\nexit 1";
        let importer = importer(folder.path(), script).await;

        let error = importer.import(&event(NOW, &[&["d", "r"]])).await.unwrap_err();

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
        let mut importer = importer(folder.path(), script).await;
        importer.deadline = Duration::from_secs(2);
        let event = event(NOW, &[&["d", "r"]]);

        let first = importer.import(&event).await.unwrap_err();
        let second = importer.import(&event).await.unwrap_err();

        assert!(matches!(first, ImportError::Deadline { .. }), "{first}");
        assert!(matches!(second, ImportError::Busy), "{second}");
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
            ("exit 0", "is no strfry"),
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
}
