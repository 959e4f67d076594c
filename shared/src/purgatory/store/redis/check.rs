//! Whether the server can be trusted with held events: its version, and the settings of `strfry-config/redis.conf`.

use std::collections::BTreeMap;

use redis::InfoDict;
use redis::RedisResult;
use redis::aio::MultiplexedConnection;
use redis::cmd;

use super::connection::touch;
use crate::purgatory::store::error::PurgatoryError;

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
    version: String,
    /// Those of [`SETTINGS`] that it lets us read: managed servers forbid `CONFIG`.
    settings: BTreeMap<String, String>,
}

/// Asks the server.
pub(super) async fn ask(mut connection: MultiplexedConnection) -> RedisResult<ServerReport> {
    // Whether it takes writes; a full one does not, and can be used for the rest.
    match touch(&mut connection).await {
        Err(error) if error.code() != Some("OOM") => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let info: InfoDict = cmd("INFO").arg("server").query_async(&mut connection).await?;
    let settings = cmd("CONFIG")
        .arg("GET")
        .arg(&SETTINGS.map(|(name, ..)| name))
        .query_async(&mut connection)
        .await;
    Ok(ServerReport {
        version: info.get("redis_version").unwrap_or("of unknown version".to_owned()),
        settings: settings.unwrap_or_default(),
    })
}

impl ServerReport {
    /// Returns a warning for every setting that is off, or cannot be read.
    pub(super) fn check(self) -> Result<Vec<String>, PurgatoryError> {
        if !is_new_enough(&self.version) {
            return Err(PurgatoryError::TooOld { version: self.version });
        }
        let warnings = SETTINGS
            .iter()
            .filter_map(|(name, wanted, risk)| match self.settings.get(*name) {
                Some(found) if found == wanted => None,
                Some(found) => Some(format!("redis has {name} {found}, not {wanted}: {risk}")),
                None => Some(format!(
                    "redis does not report its {name}; make sure that it is {wanted}: otherwise {risk}"
                )),
            });
        Ok(warnings.collect())
    }
}

fn is_new_enough(version: &str) -> bool {
    let major = |version: &str| version.split('.').next()?.parse::<u32>().ok();
    major(version) >= major(PurgatoryError::VERSION_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server<const N: usize>(version: &str, settings: [(&str, &str); N]) -> ServerReport {
        ServerReport {
            version: version.to_owned(),
            settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        }
    }

    #[test]
    fn versions_without_script_flags_are_refused() {
        for (version, expected) in [("7.0.0", true), ("7.4.1", true), ("10.0", true)] {
            assert_eq!(is_new_enough(version), expected, "{version}");
        }
        for version in ["6.2.14", "5.0", "of unknown version"] {
            let refused = server(version, []).check();
            assert!(matches!(&refused, Err(PurgatoryError::TooOld { version: found }) if found == version));
        }
    }

    #[test]
    fn every_setting_that_is_off_or_hidden_gets_its_warning() {
        let hidden = server("7.0.0", []);
        assert_eq!(hidden.check().unwrap().len(), SETTINGS.len());

        let off = server("7.0.0", SETTINGS.map(|(name, ..)| (name, "off")));
        let warnings = off.check().unwrap();
        for ((name, wanted, _), warning) in SETTINGS.iter().zip(&warnings) {
            assert!(warning.contains(&format!("{name} off, not {wanted}")), "{warning}");
        }
        assert_eq!(warnings.len(), SETTINGS.len());
    }
}
