//! What both programs take as options about their Redis, besides its URL.

use std::ops::RangeInclusive;
use std::time::Duration;

use clap::Args;

use crate::options::checker::Checker;
use crate::purgatory::RedisPlace;
use crate::purgatory::RedisSettings;

/// What was typed about Redis.
#[derive(Debug, Clone, Args)]
pub struct RedisOptions {
    /// What --redis-url names: single, the server itself; sentinel, sentinels that name the master; cluster, nodes of
    /// a cluster. All but one by commas.
    #[arg(
        long,
        env = "GRASP_REDIS_MODE",
        value_name = "single|sentinel|cluster",
        default_value = "single"
    )]
    redis_mode: String,
    /// What the sentinels call the master.
    #[arg(
        long,
        env = "GRASP_REDIS_MASTER_NAME",
        value_name = "NAME",
        default_value = "mymaster"
    )]
    redis_master_name: String,
    /// A Redis whose answers take longer than so many milliseconds, several in a row, counts as away until it is
    /// faster: git events and pushes are refused meanwhile, and everything else goes on.
    #[arg(long, env = "GRASP_REDIS_SLOW_MS", value_name = "N", default_value = "50")]
    redis_slow_ms: String,
    /// How many replicas of Redis must have an event before its author is promised that it is held (WAIT); 0: none.
    #[arg(long, env = "GRASP_REDIS_REPLICAS", value_name = "N", default_value = "0")]
    redis_replicas: String,
    /// For how long they are waited for, in milliseconds: then the event is refused, to be sent again.
    #[arg(long, env = "GRASP_REDIS_WAIT_MS", value_name = "N", default_value = "200")]
    redis_wait_ms: String,
}

impl RedisOptions {
    /// Checks the options and the URL; `None` after complaining. How long one step may take grows with what is called
    /// slow, within `step`.
    pub fn check(&self, checker: &mut Checker, url: &str, step: RangeInclusive<Duration>) -> Option<RedisSettings> {
        let place = self.check_place(checker, url);
        let slow_ms = checker.number("--redis-slow-ms", &self.redis_slow_ms, 1..=SLOW_MS_MAX, "milliseconds");
        let replicas = checker.number("--redis-replicas", &self.redis_replicas, 0..=REPLICAS_MAX, "replicas");
        let wait_ms = checker.number("--redis-wait-ms", &self.redis_wait_ms, 1..=WAIT_MS_MAX, "milliseconds");
        let slow = Duration::from_millis(slow_ms?);
        Some(RedisSettings {
            place: place?,
            slow,
            call_timeout: (slow * STEP_FACTOR).clamp(*step.start(), *step.end()),
            replicas: replicas?,
            replicas_wait: Duration::from_millis(wait_ms?),
        })
    }

    fn check_place(&self, checker: &mut Checker, url: &str) -> Option<RedisPlace> {
        let given = url.split(',');
        let urls: Option<Vec<String>> = given
            .map(|url| checker.url("--redis-url", url, &["redis"], "redis://127.0.0.1:6379"))
            .collect();
        match (self.redis_mode.as_str(), urls?) {
            ("single", urls) => match <[String; 1]>::try_from(urls) {
                Ok([url]) => Some(RedisPlace::Single(url)),
                Err(_) => {
                    checker.complain("--redis-url names several servers: say with --redis-mode what they are");
                    None
                }
            },
            ("sentinel", urls) => Some(RedisPlace::Sentinel {
                urls,
                master_name: self.redis_master_name.clone(),
            }),
            ("cluster", urls) => Some(RedisPlace::Cluster(urls)),
            (mode, _) => {
                checker.complain(format!(
                    "--redis-mode is {mode:?}: it must be single, sentinel or cluster"
                ));
                None
            }
        }
    }
}

/// Longest answer that can be called fast.
const SLOW_MS_MAX: u64 = 10_000;

/// More replicas than anybody keeps.
const REPLICAS_MAX: u64 = 16;

/// Longest wait for them: the plugin answers within a second, whatever happens.
const WAIT_MS_MAX: u64 = 500;

/// A step that takes so many times as long as a slow one has failed.
const STEP_FACTOR: u32 = 6;

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        redis: RedisOptions,
    }

    const STEP: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(10);

    fn check(url: &str, arguments: &[&str]) -> Result<Option<RedisSettings>, crate::options::checker::Complaints> {
        let arguments = ["test"].iter().chain(arguments);
        let mut checker = Checker::default();
        let options = Cli::try_parse_from(arguments).unwrap().redis;
        let settings = options.check(&mut checker, url, STEP);
        checker.finish().map(|()| settings)
    }

    #[test]
    fn the_defaults_are_those_of_the_purgatory() {
        let settings = check("redis://h", &[]).unwrap().unwrap();

        assert_eq!(settings, RedisSettings::at("redis://h"));
    }

    #[test]
    fn a_step_may_take_longer_where_answers_may_and_not_for_ever() {
        for (slow_ms, step_ms) in [("1", 1_000), ("200", 1_200), ("10000", 10_000)] {
            let settings = check("redis://h", &["--redis-slow-ms", slow_ms]).unwrap().unwrap();

            assert_eq!(settings.call_timeout, Duration::from_millis(step_ms), "{slow_ms}");
        }
    }

    #[test]
    fn several_servers_are_sentinels_or_nodes() {
        const TWO: &str = "redis://a:1,redis://b:2";
        let urls = || TWO.split(',').map(str::to_owned).collect::<Vec<_>>();
        let place = |arguments: &[&str]| check(TWO, arguments).map(|settings| settings.unwrap().place);

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
            assert_eq!(check(TWO, wrong).unwrap_err().0.len(), 1);
        }
        assert!(check("redis://a:1,", &["--redis-mode=cluster"]).is_err());
    }

    #[test]
    fn what_is_wrong_is_complained_about_without_the_password() {
        let wrong = ["--redis-slow-ms=0", "--redis-replicas=-1", "--redis-wait-ms=501"];
        let complaints = check("http://user:hunter2@h", &wrong).unwrap_err();

        assert_eq!(complaints.0.len(), 4, "{complaints}");
        assert!(!complaints.to_string().contains("hunter2"), "{complaints}");
    }
}
