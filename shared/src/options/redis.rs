//! What both programs take as options about their Redis.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use clap::ValueEnum;
use url::Url;

use crate::options::config_errors::ConfigErrors;
use crate::options::redis_password::RedisPassword;
use crate::options::redis_password::SOCKET;
use crate::options::redis_password::VARIABLE;
use crate::options::redis_password::has_password;
use crate::options::values::Expected;
use crate::options::values::HumanDuration;
use crate::options::values::milliseconds;
use crate::options::values::number;
use crate::purgatory::RedisPlace;
use crate::purgatory::RedisSettings;
use crate::purgatory::RedisTls;

/// The value of `--redis-url`: one URL or several by commas, each perhaps with a password.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrls(Vec<String>);

impl RedisUrls {
    fn has_password(&self) -> bool {
        let has_password = |url: &String| Url::parse(url).is_ok_and(|url| has_password(&url));
        self.0.iter().any(has_password)
    }
}

impl FromStr for RedisUrls {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        let urls = split(text);
        match urls.iter().all(|url| is_redis(url)) {
            true => Ok(Self(urls.into_iter().map(str::to_owned).collect())),
            false => Err(Expected(
                "a URL such as redis://127.0.0.1:6379, rediss:// for TLS, or unix:///run/redis/redis.sock, or several of the first form, separated by commas; a password with special characters belongs in --redis-password-file"
                    .to_owned(),
            )),
        }
    }
}

/// A comma ends a URL only where the next one begins: a password may have one too.
fn split(text: &str) -> Vec<&str> {
    let begins = |place: usize| {
        ["redis://", "rediss://"]
            .iter()
            .any(|scheme| text[place + 1..].starts_with(scheme))
    };
    let commas = text.match_indices(',').map(|(place, _)| place);
    let ends = commas.filter(|place| begins(*place));
    let mut urls = Vec::new();
    let mut begin = 0;
    for end in ends {
        urls.push(&text[begin..end]);
        begin = end + 1;
    }
    urls.push(&text[begin..]);
    urls
}

fn is_redis(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| {
        let is_one_host = url
            .host_str()
            .is_some_and(|host| !host.is_empty() && !host.contains(','));
        match url.scheme() {
            "redis" | TLS => is_one_host,
            SOCKET => url.host_str().is_none() && url.path().len() > 1,
            _ => false,
        }
    })
}

/// Where `--redis-url` is when it is on no command line.
const URL_VARIABLE: &str = "GRASP_REDIS_URL";

/// The scheme of a URL of Redis behind TLS.
const TLS: &str = "rediss";

/// The content of a file of certificates or keys, which is never shown.
#[derive(Clone, PartialEq, Eq)]
struct PemFile(Vec<u8>);

impl FromStr for PemFile {
    type Err = Expected;

    /// Reads the file of this name.
    fn from_str(path: &str) -> Result<Self, Expected> {
        let bytes = std::fs::read(path);
        let bytes = bytes.map_err(|error| Expected(format!("a PEM file that can be read ({error})")))?;
        match bytes.windows(PEM_BEGIN.len()).any(|window| window == PEM_BEGIN) {
            true => Ok(Self(bytes)),
            false => Err(Expected("a file with a `-----BEGIN` line (PEM)".to_owned())),
        }
    }
}

impl fmt::Debug for PemFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PemFile")
    }
}

const PEM_BEGIN: &[u8] = b"-----BEGIN ";

/// The kind of servers in the URLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum RedisMode {
    /// The server itself.
    #[default]
    Single,
    /// Sentinels that name the master.
    Sentinel,
    /// Nodes of a cluster.
    Cluster,
}

/// Everything about Redis but its URL, whose default is not the same in both programs.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Redis")]
pub struct RedisOptions {
    /// What --redis-url names: single, the server itself; sentinel, sentinels that know the master; cluster, nodes of a
    /// cluster. The last two take several URLs, separated by commas.
    #[arg(long, value_name = "MODE", value_enum, default_value_t, hide_possible_values = true)]
    redis_mode: RedisMode,
    /// The name of the master at the sentinels.
    #[arg(long, value_name = "NAME", default_value = "mymaster")]
    redis_master_name: String,
    /// File with the password of Redis, in one line, of any characters. It applies to every server of --redis-url,
    /// which must then contain none. Without the option, the variable GRASP_REDIS_PASSWORD has the same effect.
    #[arg(long, value_name = "FILE")]
    redis_password_file: Option<RedisPassword>,
    #[arg(skip = RedisPassword::of_environment())]
    password_of_environment: Option<RedisPassword>,
    /// File with the CA certificates (PEM) for the certificate of Redis, for rediss:// [default: those that the system
    /// trusts].
    #[arg(long, value_name = "FILE")]
    redis_ca_file: Option<PemFile>,
    /// File with the client certificate (PEM), for a Redis that requires one.
    #[arg(long, value_name = "FILE")]
    redis_cert_file: Option<PemFile>,
    /// File with its key (PEM).
    #[arg(long, value_name = "FILE")]
    redis_key_file: Option<PemFile>,
    /// How long an answer of Redis may take. After several slower answers in a row, Redis counts as unavailable until
    /// it is faster: git events and pushes are refused meanwhile, and everything else continues.
    #[arg(long = "redis-slow-ms", value_name = "MS", value_parser = milliseconds(1..=SLOW_MS_MAX),
          default_value_t = HumanDuration::new(RedisSettings::SLOW))]
    redis_slow: HumanDuration,
    /// How many replicas of Redis must have an event, or a PR commit's placeholder, before its author gets the answer
    /// that it is held (WAIT); 0: none.
    #[arg(long, value_name = "N", value_parser = number(0..=REPLICAS_MAX), default_value_t = 0)]
    redis_replicas: u64,
    /// How long to wait for the replicas. After that the answer is `OK false "error: ..."`, and the author must send
    /// the event again.
    #[arg(long = "redis-wait-ms", value_name = "MS", value_parser = milliseconds(1..=WAIT_MS_MAX),
          default_value_t = HumanDuration::new(RedisSettings::REPLICAS_WAIT))]
    redis_wait: HumanDuration,
}

impl RedisOptions {
    /// Adds the errors of mode and URLs together.
    pub fn check(&self, urls: &RedisUrls, errors: &mut ConfigErrors) {
        if self.redis_mode == RedisMode::Single && urls.0.len() > 1 && !errors.has_invalid("redis-mode") {
            errors.push("--redis-url names several servers: set --redis-mode to what they are");
        }
        let is_socket = |url: &String| Url::parse(url).is_ok_and(|url| url.scheme() == SOCKET);
        if self.redis_mode != RedisMode::Single && urls.0.iter().any(is_socket) {
            errors.push(
                "--redis-url names a Unix socket: sentinels and nodes of a cluster name each other by host and port",
            );
        }
        if self.redis_cert_file.is_some() != self.redis_key_file.is_some() {
            errors.push("--redis-cert-file and --redis-key-file belong together: give both, or none");
        }
        let is_tls = |url: &String| Url::parse(url).is_ok_and(|url| url.scheme() == TLS);
        if urls.0.iter().any(is_tls) && !urls.0.iter().all(is_tls) {
            errors.push(
                "--redis-url names some servers by TLS and others without: either all begin with rediss://, or none",
            );
        }
        if (self.redis_ca_file.is_some() || self.redis_cert_file.is_some()) && !urls.0.iter().any(is_tls) {
            errors.push("--redis-ca-file and --redis-cert-file are for TLS: --redis-url begins with rediss:// then");
        }
        if self.password().is_some() && urls.has_password() {
            errors.push(format!(
                "--redis-url has a password, and --redis-password-file or {VARIABLE} gives one too: leave it out there"
            ));
        }
    }

    /// Returns the settings of the purgatory. The time limit of a call grows with the threshold for slow answers,
    /// within `call`.
    pub fn settings(&self, urls: &RedisUrls, call: RangeInclusive<Duration>) -> RedisSettings {
        let slow = *self.redis_slow;
        RedisSettings {
            place: self.place(urls),
            // The file may have none, and nobody else reads the variable.
            shows_password: urls.has_password() && std::env::var_os(URL_VARIABLE).is_none(),
            tls: self.tls(),
            slow,
            call_timeout: (slow * CALL_FACTOR).clamp(*call.start(), *call.end()),
            replicas: self.redis_replicas,
            replicas_wait: *self.redis_wait,
        }
    }

    fn tls(&self) -> RedisTls {
        let bytes = |file: &Option<PemFile>| file.as_ref().map(|file| file.0.clone());
        RedisTls {
            authorities: bytes(&self.redis_ca_file),
            own: bytes(&self.redis_cert_file).zip(bytes(&self.redis_key_file)),
        }
    }

    fn password(&self) -> Option<&RedisPassword> {
        self.redis_password_file
            .as_ref()
            .or(self.password_of_environment.as_ref())
    }

    fn place(&self, urls: &RedisUrls) -> RedisPlace {
        let urls = urls.0.iter().map(|url| match self.password() {
            Some(password) => password.put_into(url),
            None => url.clone(),
        });
        let urls: Vec<String> = urls.collect();
        match self.redis_mode {
            // `check` has seen to it that there is only one.
            RedisMode::Single => RedisPlace::Single(urls.into_iter().next().unwrap_or_default()),
            RedisMode::Sentinel => RedisPlace::Sentinel {
                urls,
                master_name: self.redis_master_name.clone(),
            },
            RedisMode::Cluster => RedisPlace::Cluster(urls),
        }
    }
}

/// Longest answer that can be called fast.
const SLOW_MS_MAX: u64 = 10_000;

/// More replicas than any real installation has.
const REPLICAS_MAX: u64 = 16;

/// Longest wait for replicas: the plugin answers within a second in any case.
const WAIT_MS_MAX: u64 = 500;

/// A call that takes this many times as long as a slow one has failed.
const CALL_FACTOR: u32 = 6;

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::options::read_options::ProgramOptions;
    use crate::options::read_options::read_options;

    #[derive(Parser)]
    struct RedisOnly {
        #[arg(long, hide_env_values = true)]
        redis_url: RedisUrls,
        #[command(flatten)]
        redis: RedisOptions,
    }

    impl ProgramOptions for RedisOnly {
        fn check(&self, errors: &mut ConfigErrors) {
            self.redis.check(&self.redis_url, errors);
        }
    }

    const CALL: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(10);

    fn settings(url: &str, arguments: &[&str]) -> Result<RedisSettings, ConfigErrors> {
        let arguments = ["test", "--redis-url", url]
            .into_iter()
            .chain(arguments.iter().copied());
        let options: RedisOnly = read_options(&arguments.map(Into::into).collect::<Vec<_>>())?;
        Ok(options.redis.settings(&options.redis_url, CALL))
    }

    #[test]
    fn the_defaults_are_those_of_the_purgatory() {
        assert_eq!(settings("redis://h", &[]).unwrap(), RedisSettings::at("redis://h"));
    }

    #[test]
    fn a_call_may_take_longer_where_answers_may_and_not_for_ever() {
        for (slow_ms, call_ms) in [("1", 1_000), ("200", 1_200), ("200ms", 1_200), ("10000", 10_000)] {
            let settings = settings("redis://h", &["--redis-slow-ms", slow_ms]).unwrap();

            assert_eq!(settings.call_timeout, Duration::from_millis(call_ms), "{slow_ms}");
        }
    }

    #[test]
    fn several_servers_are_sentinels_or_nodes() {
        const TWO: &str = "redis://a:1,redis://b:2";
        let urls = || TWO.split(',').map(str::to_owned).collect::<Vec<_>>();
        let place = |arguments: &[&str]| settings(TWO, arguments).map(|settings| settings.place);

        let sentinel = place(&["--redis-mode=sentinel", "--redis-master-name=grasp"]);
        assert!(
            sentinel.unwrap()
                == RedisPlace::Sentinel {
                    urls: urls(),
                    master_name: "grasp".to_owned()
                }
        );
        assert!(place(&["--redis-mode=cluster"]).unwrap() == RedisPlace::Cluster(urls()));
        for wrong in [&[][..], &["--redis-mode=many"]] {
            assert_eq!(settings(TWO, wrong).unwrap_err().lines.len(), 1);
        }
        assert!(settings("redis://a:1,", &["--redis-mode=cluster"]).is_err());
    }

    #[test]
    fn a_unix_socket_is_one_server_by_its_path() {
        let socket = "unix:///run/redis/redis.sock?user=grasp";
        assert!(settings(socket, &[]).unwrap().place == RedisPlace::Single(socket.to_owned()));
        for (url, mode) in [
            (socket, &["--redis-mode=cluster"][..]),
            (socket, &["--redis-mode=sentinel"]),
            ("unix://host/run/redis.sock", &[]),
            ("unix://", &[]),
            ("unix:///", &[]),
        ] {
            assert_eq!(settings(url, mode).unwrap_err().lines.len(), 1, "{url}");
        }
    }

    #[test]
    fn certificates_are_files_for_a_redis_behind_tls() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let (pem, text) = (file("pem", "-----BEGIN CERTIFICATE-----"), file("text", "hello"));
        let option = |name: &str, path: &str| format!("--redis-{name}-file={path}");
        let [ca, cert, key] = ["ca", "cert", "key"].map(|name| option(name, &pem));
        let with = |url: &str, options: &[&String]| {
            let options: Vec<&str> = options.iter().map(|option| option.as_str()).collect();
            settings(url, &options)
        };

        let bytes = std::fs::read(&pem).unwrap();
        let tls = with("rediss://h", &[&ca, &cert, &key]).unwrap().tls;
        assert!(tls.authorities.as_ref() == Some(&bytes) && tls.own == Some((bytes.clone(), bytes)));
        assert!(with("rediss://a:1,rediss://b:2", &[&"--redis-mode=cluster".to_owned(), &ca]).is_ok());
        for (url, wrong) in [
            ("rediss://h", vec![&cert]),
            ("rediss://h", vec![&key]),
            ("redis://h", vec![&ca]),
            ("rediss://h", vec![&option("ca", &text)]),
            ("rediss://h", vec![&option("ca", "/nowhere")]),
        ] {
            assert_eq!(with(url, &wrong).unwrap_err().lines.len(), 1, "{url} {wrong:?}");
        }
    }

    /// A comma in a password was read as several servers.
    #[test]
    fn a_comma_separates_servers_and_not_a_password() {
        const CLUSTER: &[&str] = &["--redis-mode=cluster"];
        let place = |url: &str, mode| settings(url, mode).map(|settings| settings.place);

        let one = "redis://user:a,b,c@h:1/0";
        assert!(place(one, &[]).unwrap() == RedisPlace::Single(one.to_owned()));
        let two = format!("{one},redis://:,@[::1]:2");
        let both = [one, "redis://:,@[::1]:2"].map(str::to_owned).into();
        assert!(place(&two, CLUSTER).unwrap() == RedisPlace::Cluster(both));
        for wrong in [
            "redis://a,b",
            "redis://a:1,b:2",
            "redis://a:1,rediss://b:2",
            "redis://a:1,,redis://b:2",
            "redis://",
            "",
        ] {
            assert!(place(wrong, CLUSTER).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_password_from_a_file_is_that_of_every_server() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "a,b@c/d\n").unwrap();
        let option = format!("--redis-password-file={}", file.display());
        let place = |url: &str, mode: &str| settings(url, &[&option, mode]).map(|settings| settings.place);

        let with = ["redis://:a%2Cb%40c%2Fd@h:1", "redis://me:a%2Cb%40c%2Fd@i:2/3"].map(str::to_owned);
        let urls = "redis://h:1,redis://me@i:2/3";
        assert!(place("redis://h:1", "--redis-mode=single").unwrap() == RedisPlace::Single(with[0].clone()));
        assert!(place(urls, "--redis-mode=cluster").unwrap() == RedisPlace::Cluster(with.to_vec()));
        let sentinel = RedisPlace::Sentinel {
            urls: with.to_vec(),
            master_name: "mymaster".to_owned(),
        };
        assert!(place(urls, "--redis-mode=sentinel").unwrap() == sentinel);

        let twice = settings("redis://:hunter2@h", &[&option]).unwrap_err().to_string();
        assert!(
            twice.contains("has a password") && !twice.contains("hunter2"),
            "{twice}"
        );
        let missing = settings("redis://h", &["--redis-password-file=/nowhere"])
            .unwrap_err()
            .to_string();
        assert!(missing.contains("/nowhere"), "{missing}");
    }

    #[test]
    fn what_is_wrong_is_named_without_the_password() {
        let wrong = ["--redis-slow-ms=0", "--redis-replicas=-1", "--redis-wait-ms=501"];
        let errors = settings("http://user:hunter2@h", &wrong).unwrap_err();

        assert_eq!(errors.lines.len(), 4, "{errors}");
        assert!(!errors.to_string().contains("hunter2"), "{errors}");
    }
}
