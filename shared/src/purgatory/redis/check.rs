//! Whether the server can be trusted with held events: its version, and the settings of `strfry-config/redis.conf`.

use std::collections::BTreeMap;

use redis::RedisResult;
use redis::aio::MultiplexedConnection;
use redis::cmd;

use super::connection::touch;
use crate::purgatory::error::PurgatoryError;

/// What each setting has to be, and what is at stake.
const SETTINGS: [(&str, &str, &str); 3] = [
    ("appendonly", "yes", "held events are lost when redis restarts"),
    (
        "appendfsync",
        "always",
        "events that were promised to be held can be lost when the host fails",
    ),
    (
        "maxmemory-policy",
        "noeviction",
        "redis drops held events when it is full",
    ),
];

/// What the server reports about itself.
pub(super) struct ServerReport {
    /// The text of `INFO server`.
    pub(super) info: String,
    /// The settings, or why they cannot be read (managed servers forbid `CONFIG`).
    pub(super) settings: RedisResult<BTreeMap<String, String>>,
}

/// Asks the server.
pub(super) async fn ask(mut connection: MultiplexedConnection) -> RedisResult<ServerReport> {
    // Whether it takes writes; a full one does not, and can be used for the rest.
    match touch(&mut connection).await {
        Err(error) if error.code() != Some("OOM") => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let info = cmd("INFO").arg("server").query_async(&mut connection).await?;
    let settings = cmd("CONFIG")
        .arg("GET")
        .arg(&SETTINGS.map(|(name, ..)| name))
        .query_async(&mut connection)
        .await;
    Ok(ServerReport { info, settings })
}

impl ServerReport {
    /// Returns a warning for every setting that is off, or cannot be read.
    pub(super) fn check(&self) -> Result<Vec<String>, PurgatoryError> {
        let version = self.version();
        if !is_new_enough(&version) {
            return Err(PurgatoryError::TooOld { version });
        }
        let warnings = SETTINGS.iter().filter_map(|(name, wanted, risk)| {
            let settings = self.settings.as_ref().ok();
            match settings.map(|settings| settings.get(*name)) {
                Some(Some(found)) if found == wanted => None,
                Some(Some(found)) => Some(format!("redis has {name} {found}, not {wanted}: {risk}")),
                Some(None) | None => Some(format!(
                    "redis does not report its {name}; make sure that it is {wanted}: otherwise {risk}"
                )),
            }
        });
        Ok(warnings.collect())
    }

    fn version(&self) -> String {
        self.info
            .lines()
            .find_map(|line| line.strip_prefix("redis_version:"))
            .unwrap_or("of unknown version")
            .trim()
            .to_owned()
    }
}

fn is_new_enough(version: &str) -> bool {
    let major = |version: &str| version.split('.').next()?.parse::<u32>().ok();
    major(version) >= major(PurgatoryError::VERSION_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(version: &str, settings: RedisResult<BTreeMap<String, String>>) -> ServerReport {
        let info = format!("# Server\r\nredis_version:{version}\r\nredis_mode:standalone\r\n");
        ServerReport { info, settings }
    }

    #[test]
    fn versions_without_script_flags_are_refused() {
        for (version, expected) in [("7.0.0", true), ("7.4.1", true), ("10.0", true)] {
            assert_eq!(is_new_enough(version), expected, "{version}");
        }
        for version in ["6.2.14", "5.0", "of unknown version"] {
            let refused = server(version, Ok(BTreeMap::new())).check();
            assert!(matches!(&refused, Err(PurgatoryError::TooOld { version: found }) if found == version));
        }
    }

    #[test]
    fn every_setting_that_is_off_or_hidden_gets_its_warning() {
        let hidden = server("7.0.0", Err((redis::ErrorKind::Client, "no").into()));
        assert_eq!(hidden.check().unwrap().len(), SETTINGS.len());

        let off = SETTINGS.map(|(name, ..)| (name.to_owned(), "off".to_owned()));
        let warnings = server("7.0.0", Ok(off.into())).check().unwrap();
        for ((name, wanted, _), warning) in SETTINGS.iter().zip(&warnings) {
            assert!(warning.contains(&format!("{name} off, not {wanted}")), "{warning}");
        }
        assert_eq!(warnings.len(), SETTINGS.len());
    }
}
