//! The password of Redis from a file or from the environment: neither shows in a list of processes, and it may have any
//! characters.

use std::fmt;
use std::fmt::Write;
use std::str::FromStr;

use url::Url;

use crate::options::values::Expected;

/// A password that is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct RedisPassword(String);

impl RedisPassword {
    /// Returns the password of the environment; `None`: there is none.
    pub(super) fn of_environment() -> Option<Self> {
        let password = std::env::var(VARIABLE).ok()?;
        (!password.is_empty()).then_some(Self(password))
    }

    /// Returns a URL of Redis with this password.
    pub(super) fn put_into(&self, url: &str) -> String {
        let mut with = Url::parse(url).expect("URLs of Redis were checked when they were read");
        if with.scheme() == SOCKET {
            with.query_pairs_mut().append_pair(SOCKET_PASSWORD, &self.0);
            return with.into();
        }
        let mut quoted = String::with_capacity(3 * self.0.len());
        for byte in self.0.bytes() {
            // A URL leaves a percent sign as it is, so that all else is written with one here.
            let written = match byte.is_ascii_alphanumeric() {
                true => write!(quoted, "{}", char::from(byte)),
                false => write!(quoted, "%{byte:02X}"),
            };
            written.expect("a string takes any text");
        }
        with.set_password(Some(&quoted))
            .expect("other URLs of Redis have a host");
        with.into()
    }
}

/// Whether a URL of Redis has a password.
pub(super) fn has_password(url: &Url) -> bool {
    url.password().is_some() || (url.scheme() == SOCKET && url.query_pairs().any(|(name, _)| name == SOCKET_PASSWORD))
}

impl FromStr for RedisPassword {
    type Err = Expected;

    /// Reads the file of this name.
    fn from_str(path: &str) -> Result<Self, Expected> {
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|error| Expected(format!("a file with a password that can be read ({error})")))?;
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let line = line.strip_suffix('\r').unwrap_or(line);
        match line.is_empty() || line.contains('\n') {
            true => Err(Expected("a file with a password in its only line".to_owned())),
            false => Ok(Self(line.to_owned())),
        }
    }
}

impl fmt::Debug for RedisPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RedisPassword")
    }
}

/// The scheme of a URL that names a Unix socket. It has no place for a user and a password but its query.
pub(super) const SOCKET: &str = "unix";

/// The password's name in the client library.
const SOCKET_PASSWORD: &str = "pass";

/// There is no option of this name: it would be on a command line.
pub(super) const VARIABLE: &str = "GRASP_REDIS_PASSWORD";

#[cfg(test)]
mod tests {
    use redis::IntoConnectionInfo;

    use super::*;

    #[test]
    fn a_password_may_have_any_characters() {
        let ascii: String = (1..=127_u8).map(char::from).filter(|char| *char != '\n').collect();
        for password in [
            "hunter2",
            "a,redis://b:1",
            "p@ss:w/ord?#%41 \"'",
            "päss\u{1f511}",
            &ascii,
        ] {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("password");
            for end in ["", "\n", "\r\n"] {
                std::fs::write(&file, format!("{password}{end}")).unwrap();
                let read: RedisPassword = file.to_str().unwrap().parse().unwrap();

                for (url, user) in [
                    ("redis://h:1/2", None),
                    ("redis://somebody@[::1]", Some("somebody")),
                    ("unix:///run/redis.sock", None),
                    ("unix:///run/r%20s?user=somebody", Some("somebody")),
                ] {
                    let address = read.put_into(url).into_connection_info().unwrap();
                    let settings = address.redis_settings();
                    assert_eq!(
                        (settings.password(), settings.username()),
                        (Some(password), user),
                        "{url}"
                    );
                }
                assert_eq!(format!("{read:?}"), "RedisPassword");
            }
        }
    }

    #[test]
    fn a_password_of_a_url_is_found_wherever_it_stands() {
        for (url, expected) in [
            ("redis://user:secret@h", true),
            ("redis://user@h", false),
            ("unix:///run/redis.sock?pass=secret", true),
            ("unix:///run/redis.sock?user=me", false),
        ] {
            assert_eq!(has_password(&Url::parse(url).unwrap()), expected, "{url}");
        }
    }

    #[test]
    fn a_file_without_one_line_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        for content in ["", "\n", "one\ntwo\n"] {
            std::fs::write(&file, content).unwrap();
            assert!(file.to_str().unwrap().parse::<RedisPassword>().is_err(), "{content:?}");
        }
        let missing = folder.path().join("missing");
        let error = missing.to_str().unwrap().parse::<RedisPassword>().unwrap_err();
        assert!(error.to_string().contains("No such file"), "{error}");
    }
}
