//! Whether the server can be trusted with held events: its version, the settings of `strfry-config/redis.conf`, the
//! rights of our user, and the speed of its writes.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::LazyLock;
use std::time::Duration;

use redis::InfoDict;
use redis::RedisResult;
use redis::Script;
use redis::aio::MultiplexedConnection;
use redis::cmd;
use tokio::time::Instant;

use super::connection::is_failure;
use super::connection::touch;
use crate::purgatory::store::error::PurgatoryError;
use crate::purgatory::store::keys;

/// Tries what the scripts do.
static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("probe.lua")));

/// The required value of each setting, and the risk.
const SETTINGS: [(&str, &str, &str); 4] = [
    ("appendonly", "yes", "held events are lost when redis restarts"),
    (
        "appendfsync",
        "always",
        "events that were promised to be held can be lost when the host fails",
    ),
    (
        "no-appendfsync-on-rewrite",
        "no",
        "events that were promised to be held can be lost when the host fails while redis rewrites its file",
    ),
    (
        "maxmemory-policy",
        "noeviction",
        "redis drops held events when it is full",
    ),
];

/// A problem of a server, and its correction.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerFault {
    /// The problem, and the risk.
    pub finding: String,
    /// What to do, where possible a command.
    pub mend: String,
}

impl fmt::Display for ServerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; to fix it: {}", self.finding, self.mend)
    }
}

/// What the server reports about itself, and lets us do.
pub(super) struct ServerReport {
    /// `None`: it does not tell.
    version: Option<String>,
    /// Those of [`SETTINGS`] that it lets us read: managed servers forbid `CONFIG`.
    settings: BTreeMap<String, String>,
    /// The commands that fail, each with what the server answered.
    failing: Vec<(String, String)>,
    /// How long it takes to have a write on its disk.
    write: Duration,
    /// Whether it is at its `maxmemory`.
    is_full: bool,
}

/// Asks the server.
pub(super) async fn ask(mut connection: MultiplexedConnection) -> RedisResult<ServerReport> {
    let (mut writes, mut is_full) = (Vec::new(), false);
    for _ in 0..WRITES {
        let start = Instant::now();
        // One that does not take writes, as it is full or for want of a right, can be asked for the rest.
        match touch(&mut connection).await {
            Err(error) if is_failure(&error) => return Err(error),
            answer => {
                is_full |= answer.is_err_and(|error| error.code() == Some("OOM"));
                writes.push(start.elapsed());
            }
        }
    }
    let info: RedisResult<InfoDict> = cmd("INFO").arg("server").query_async(&mut connection).await;
    let settings = cmd("CONFIG")
        .arg("GET")
        .arg(&SETTINGS.map(|(name, ..)| name))
        .query_async(&mut connection)
        .await;
    let mut call = SCRIPT.prepare_invoke();
    call.key(keys::PROBE).arg(keys::WAKE);
    let failing: RedisResult<_> = call.invoke_async(&mut connection).await;
    Ok(ServerReport {
        version: info.ok().and_then(|info| info.get("redis_version")),
        settings: settings.unwrap_or_default(),
        failing: failing.unwrap_or_else(|error| vec![("EVALSHA".to_owned(), error.to_string())]),
        write: writes.into_iter().min().unwrap_or_default(),
        is_full,
    })
}

impl ServerReport {
    /// Returns every setting that is off or cannot be read, the commands that fail, and a disk whose writes take longer
    /// than `slow`.
    pub(super) fn check(self, slow: Duration) -> Result<Vec<ServerFault>, PurgatoryError> {
        if let Some(version) = self.version.filter(|version| !is_new_enough(version)) {
            return Err(PurgatoryError::TooOld { version });
        }
        let settings = SETTINGS
            .iter()
            .filter_map(|(name, wanted, risk)| match self.settings.get(*name) {
                Some(found) if found == wanted => None,
                Some(found) => Some(ServerFault {
                    finding: format!("redis has {name} {found}, not {wanted}: {risk}"),
                    mend: format!("redis-cli CONFIG SET {name} {wanted} && redis-cli CONFIG REWRITE"),
                }),
                None => Some(ServerFault {
                    finding: format!("redis does not report its {name}: if it is not {wanted}, {risk}"),
                    mend: format!("make sure that it is, or {RIGHTS}"),
                }),
            });
        let late = (self.write > slow).then(|| ServerFault {
            finding: format!(
                "a write to redis takes longer than --redis-slow-ms ({} ms): git events and pushes will be \
                 refused again and again",
                slow.as_millis()
            ),
            mend: "put its append-only file on a faster disk, or raise the limit".to_owned(),
        });
        let full = self.is_full.then(|| ServerFault {
            finding: "redis is full (OOM, maxmemory): git events are refused".to_owned(),
            mend: "raise maxmemory in /etc/redis/grasp.conf, and for now: redis-cli CONFIG SET maxmemory 2gb"
                .to_owned(),
        });
        let faults = settings.chain(refused(&self.failing)).chain(late).chain(full);
        Ok(faults.collect())
    }
}

/// Names the commands that fail, all at once: for want of one right it may be most of them.
fn refused(failing: &[(String, String)]) -> Option<ServerFault> {
    let (_, answer) = failing.first()?;
    let commands: BTreeSet<&str> = failing.iter().map(|(command, _)| command.as_str()).collect();
    let commands = Vec::from_iter(commands).join(", ");
    Some(ServerFault {
        finding: format!(
            "redis does not run {commands} for the purgatory ({answer}): git events and pushes will be refused"
        ),
        mend: format!("{RIGHTS}; or take a Redis {} or newer", PurgatoryError::VERSION_MIN),
    })
}

/// Names a password that is on a command line.
pub(super) fn shown_password() -> ServerFault {
    ServerFault {
        finding: "redis-url has a password: others read command lines, strfry.conf and strfry's log".to_owned(),
        mend: "leave it out there, and put it into a file that redis-password-file names".to_owned(),
    }
}

/// What our user needs: the row in docs/redis.md.
const RIGHTS: &str = "give the user the rights in docs/redis.md: redis-cli ACL SETUSER <user> '~{purgatory}:*' \
                      '&{purgatory}:wake' +@all -@dangerous +info '+config|get'";

/// How many writes are timed: the fastest counts, since one may be late for a reason that passes.
const WRITES: usize = 3;

fn is_new_enough(version: &str) -> bool {
    let major = |version: &str| version.split('.').next()?.parse::<u32>().ok();
    major(version) >= major(PurgatoryError::VERSION_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server<const N: usize>(version: Option<&str>, settings: [(&str, &str); N]) -> ServerReport {
        ServerReport {
            version: version.map(str::to_owned),
            settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            failing: Vec::new(),
            write: SLOW,
            is_full: false,
        }
    }

    const SLOW: Duration = Duration::from_millis(50);

    const GOOD: [(&str, &str); SETTINGS.len()] = {
        let [a, b, c, d] = SETTINGS;
        [(a.0, a.1), (b.0, b.1), (c.0, c.1), (d.0, d.1)]
    };

    #[test]
    fn versions_without_script_flags_are_refused() {
        for (version, expected) in [("7.0.0", true), ("7.4.1", true), ("10.0", true)] {
            assert_eq!(is_new_enough(version), expected, "{version}");
        }
        for version in ["6.2.14", "5.0", "of unknown version"] {
            let refused = server(Some(version), []).check(SLOW);
            assert!(matches!(&refused, Err(PurgatoryError::TooOld { version: found }) if found == version));
        }
        assert!(server(None, GOOD).check(SLOW).unwrap().is_empty());
    }

    #[test]
    fn every_setting_that_is_off_or_hidden_gets_its_warning() {
        let hidden = server(Some("7.0.0"), []);
        assert_eq!(hidden.check(SLOW).unwrap().len(), SETTINGS.len());

        let off = server(Some("7.0.0"), SETTINGS.map(|(name, ..)| (name, "off")));
        let warnings = off.check(SLOW).unwrap();
        for ((name, wanted, _), warning) in SETTINGS.iter().zip(&warnings) {
            assert!(
                warning.finding.contains(&format!("{name} off, not {wanted}")),
                "{warning}"
            );
            assert!(
                warning.mend.contains(&format!("CONFIG SET {name} {wanted}")),
                "{warning}"
            );
        }
        assert_eq!(warnings.len(), SETTINGS.len());
    }

    #[test]
    fn a_disk_slower_than_the_limit_is_named() {
        let late = ServerReport {
            write: Duration::from_millis(60),
            ..server(Some("7.0.0"), GOOD)
        };

        let warnings = late.check(SLOW).unwrap();

        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].finding.contains("(50 ms)"), "{}", warnings[0]);
    }

    /// One that only the probe does not try is refused when the first event comes.
    #[test]
    fn the_probe_tries_every_command_of_the_scripts() {
        let probe = include_str!("probe.lua");
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/purgatory/store/scripts");
        let mut found = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            for call in text.split("redis.call('").skip(1) {
                let command = call.split('\'').next().unwrap();
                assert!(probe.contains(&format!("try('{command}'")), "{command}");
                found += 1;
            }
        }
        assert!(found > 100, "{found}");
    }
}
