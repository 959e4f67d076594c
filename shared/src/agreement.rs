//! Whether the gateway and the plugin that share one Redis run with the same settings, and whether that Redis can be
//! trusted: each reports its settings there, and logs a problem once, whenever it begins.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use serde_json::json;
use tokio::time::MissedTickBehavior;
use tokio::time::interval;

use crate::load_facts::FactLoader;
use crate::purgatory::Purgatory;
use crate::purgatory::PurgatoryError;

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// grasp-gateway.
    Gateway,
    /// grasp-plugin.
    Plugin,
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gateway => "gateway",
            Self::Plugin => "plugin",
        })
    }
}

/// The settings of a program, as they are in Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportedSettings(BTreeMap<String, String>);

impl ReportedSettings {
    /// Returns what a program runs with that decides by these.
    pub fn of(loader: &FactLoader) -> Self {
        let settings = [
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("domain", loader.service.to_string()),
            ("hold-secs", loader.purgatory.hold_secs().to_string()),
            ("maintainer-mode", format!("{:?}", loader.mode).to_lowercase()),
            ("lists", loader.access.digest()),
        ];
        Self(settings.map(|(name, value)| (name.to_owned(), value)).into())
    }

    /// Returns the settings that gateways and plugins have reported last; `None`: none has reported for a while.
    ///
    /// # Errors
    /// Redis does not answer.
    pub async fn read(purgatory: &Purgatory) -> Result<[Option<Self>; 2], PurgatoryError> {
        let (gateway, plugin) = purgatory.report_settings("", "", 0).await?;
        Ok([Self::parse(&gateway), Self::parse(&plugin)])
    }

    /// Returns the value of a setting.
    pub fn value(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    fn parse(text: &str) -> Option<Self> {
        let settings: serde_json::Map<_, _> = serde_json::from_str(text).ok()?;
        let texts = settings
            .into_iter()
            .map(|(name, value)| Some((name, value.as_str()?.to_owned())));
        texts.collect::<Option<_>>().map(Self)
    }
}

/// Returns the differences between `own` and `other`, each with its correction.
pub fn differences(own: &ReportedSettings, other: &ReportedSettings, of_other: Program) -> Vec<String> {
    let named = |(name, mend): &(&str, &str)| {
        let (here, there) = (own.value(name), other.value(name));
        (here != there)
            .then(|| format!("the {of_other} runs with {name} {there}, but this program with {here}: {mend}"))
    };
    MENDS.iter().filter_map(named).collect()
}

/// Reports a problem that is found repeatedly only once.
#[derive(Debug, Default)]
struct Sightings(BTreeMap<String, usize>);

impl Sightings {
    /// Returns problems that have now been found `enough` times in a row, and earlier ones that are not found any more.
    fn note(&mut self, found: BTreeSet<String>, enough: usize) -> (Vec<String>, Vec<String>) {
        let before = std::mem::take(&mut self.0);
        let count = |text: String| {
            let count = before.get(&text).map_or(1, |count| enough.min(count + 1));
            (text, count)
        };
        self.0 = found.into_iter().map(count).collect();
        let is_new = |(text, count): &(&String, &usize)| **count == enough && before.get(*text) != Some(*count);
        let new = self.0.iter().filter(is_new).map(|(text, _)| text.clone()).collect();
        let was_named = before
            .into_iter()
            .filter(|(text, count)| *count == enough && !self.0.contains_key(text));
        (new, was_named.map(|(text, _)| text).collect())
    }
}

/// Reports the settings of `program`, and logs problems, for as long as it runs.
pub async fn keep_agreement(program: Program, loader: FactLoader) {
    let mut ticks = interval(REPORT_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut of_redis, mut of_others) = (Sightings::default(), Sightings::default());
    for round in 0_usize.. {
        ticks.tick().await;
        let own = ReportedSettings::of(&loader);
        let text = json!(own.0).to_string();
        let reported = loader
            .purgatory
            .report_settings(&program.to_string(), &text, REPORT_VALID_SECS)
            .await;
        if round.is_multiple_of(REDIS_ROUNDS)
            && let Some(found) = redis_faults(&loader.purgatory).await
        {
            log(of_redis.note(found, 1));
        }
        // A Redis that does not answer is named where it is used.
        let Ok(reported) = reported else {
            continue;
        };
        let others = [(reported.0, Program::Gateway), (reported.1, Program::Plugin)];
        let found = others
            .iter()
            .filter_map(|(text, of)| Some(differences(&own, &ReportedSettings::parse(text)?, *of)));
        log(of_others.note(found.flatten().collect(), ENOUGH));
    }
}

/// Returns the problems of Redis; `None`: it does not answer, which is logged where it is used.
async fn redis_faults(purgatory: &Purgatory) -> Option<BTreeSet<String>> {
    match purgatory.check_server().await {
        Ok(faults) => Some(faults.iter().map(ToString::to_string).collect()),
        Err(PurgatoryError::Unavailable { .. }) => None,
        Err(error) => {
            let cause = error.source().map_or_else(String::new, |cause| format!(": {cause}"));
            Some([format!("{error}{cause}")].into())
        }
    }
}

fn log((new, gone): (Vec<String>, Vec<String>)) {
    for text in new {
        tracing::warn!("{text}");
    }
    for text in gone {
        tracing::info!("resolved: {text}");
    }
}

/// Settings that both programs must share, and how to correct a difference.
const MENDS: [(&str, &str); 5] = [
    (
        "version",
        "install the same version of both, and restart strfry and the gateway",
    ),
    ("domain", SAME),
    (
        "hold-secs",
        "give both the same in /etc/grasp/config.toml, which applies by itself (a variable, or an option in \
         relay.writePolicy.plugin of strfry.conf, overrides it: change that, and restart the program)",
    ),
    ("maintainer-mode", SAME),
    (
        "lists",
        "let both users read the files, which apply by themselves; or give both the same repos-allow, repos-deny and \
         authors-deny, in /etc/grasp/config.toml (a variable, or an option in relay.writePolicy.plugin of strfry.conf, \
         overrides it), and restart strfry and the gateway",
    ),
];

const SAME: &str = "give both the same, in /etc/grasp/config.toml (a variable, or an option in \
                    relay.writePolicy.plugin of strfry.conf, overrides it), and restart strfry and the gateway";

/// Between two reports of a program's settings.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// How long a report is valid: two rounds and a bit.
const REPORT_VALID_SECS: u64 = 12;

/// Rounds in which a problem must be found before it is logged: longer than the report of a stopped program is valid,
/// so that a restart of both with other settings is not logged.
const ENOUGH: usize = 4;

/// Rounds between two checks of Redis' settings.
const REDIS_ROUNDS: usize = 4;

#[cfg(test)]
mod tests {
    use clap::Args;
    use clap::Command;

    use super::*;
    use crate::options::held_limits::Limits;

    fn reported(domain: &str, version: &str) -> ReportedSettings {
        let rows = [("domain", domain), ("version", version), ("lists", "0")];
        ReportedSettings(rows.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
    }

    #[test]
    fn each_difference_is_named_with_its_mend() {
        let found = differences(
            &reported("a.example", "1"),
            &reported("b.example", "2"),
            Program::Plugin,
        );

        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("the plugin runs with version 2, but this program with 1: install"));
        assert!(
            found[1].contains("domain b.example, but this program with a.example") && found[1].contains("config.toml")
        );
        assert!(differences(&reported("a", "1"), &reported("a", "1"), Program::Plugin).is_empty());
    }

    /// The mend of hold-secs restarted both programs, which apply it by themselves.
    #[test]
    fn what_changes_with_the_file_needs_no_restart() {
        let live = Limits::augment_args(Command::new(""));
        for (name, mend) in MENDS {
            let is_live = live.get_arguments().any(|option| option.get_long() == Some(name));

            assert_eq!(mend.contains("applies by itself"), is_live, "{name}");
            assert_eq!(mend.ends_with("restart strfry and the gateway"), !is_live, "{name}");
        }
    }

    #[test]
    fn what_lasts_is_named_once_and_so_is_its_end() {
        let mut sightings = Sightings::default();
        let set = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        let rows: [(&[&str], &[&str], &[&str]); 7] = [
            (&["a"], &[], &[]),
            (&["a", "b"], &["a"], &[]),
            (&["a"], &[], &[]),
            (&["a", "b"], &[], &[]),
            (&["b"], &["b"], &["a"]),
            (&[], &[], &["b"]),
            (&[], &[], &[]),
        ];
        for (found, new, gone) in rows {
            assert_eq!(sightings.note(set(found), 2), (set_of(new), set_of(gone)), "{found:?}");
        }
    }

    fn set_of(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }
}
