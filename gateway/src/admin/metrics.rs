//! The server's numbers in Prometheus' text format (its "Exposition formats"). No label has a value that a client can
//! choose. Pure.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fmt::Write;
use std::time::Duration;

use shared::decision_counts::DecisionCount;

use crate::admin::health::HealthReport;
use crate::admin::health::PartAnswer;
use crate::admin::survey::Survey;
use crate::fairness::slots::SlotLoad;
use crate::fetch::answers::ANSWER_SOURCES;
use crate::fetch::answers::AnswerLoad;
use crate::fetch::outcome::FETCH_OUTCOMES;
use crate::meter::Durations;
use crate::push::outcome::PUSH_OUTCOMES;
use crate::reconcile::publish::RELEASE_OUTCOMES;

/// The figures that are written.
pub(super) struct Figures<'a> {
    pub(super) health: &'a HealthReport,
    /// `None`: the purgatory could not be read.
    pub(super) survey: Option<&'a Survey>,
    /// In the order of [`PUSH_OUTCOMES`].
    pub(super) pushes: [u64; PUSH_OUTCOMES.len()],
    /// In the order of [`RELEASE_OUTCOMES`].
    pub(super) releases: [u64; RELEASE_OUTCOMES.len()],
    /// How long those took that served an event.
    pub(super) release_durations: &'a Durations,
    /// In the order of [`FETCH_OUTCOMES`].
    pub(super) fetches: [u64; FETCH_OUTCOMES.len()],
    /// How many clones were answered from where.
    pub(super) answers: AnswerLoad,
    /// Bytes of packs that came, and of fetches that were sent.
    pub(super) bytes: [u64; 2],
    /// How often readers have asked, and how often that was loaded.
    pub(super) reads: (u64, u64),
    /// How often limits were reached, by the options that set them.
    pub(super) limit_hits: [(&'static str, u64); 4],
    /// The kinds of slots, and their use.
    pub(super) slots: [(&'static str, SlotLoad); 2],
    /// How many short git commands run.
    pub(super) git_commands: usize,
}

/// Writes the metrics.
pub(super) fn metrics(figures: &Figures<'_>) -> String {
    let mut page = MetricsPage::default();
    page.family("grasp_build_info", "gauge", "The running version.");
    page.value("grasp_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    page.parts(figures.health);
    if let Some(survey) = figures.survey {
        page.purgatory(survey);
    }
    page.git(figures);
    page.releases(figures);
    page.slots(figures);
    page.limits(figures);
    page.text
}

#[derive(Default)]
struct MetricsPage {
    text: String,
}

impl MetricsPage {
    fn parts(&mut self, health: &HealthReport) {
        let parts = [
            ("redis", answered(&health.redis)),
            ("relay", answered(&health.relay)),
            ("disk", answered(&health.disk)),
        ];
        let help = "Whether a service that the server needs answers.";
        let up = parts.map(|(part, (is_up, _))| (part, u8::from(is_up)));
        self.by("grasp_part_up", "gauge", help, "part", up);
        let took = parts.map(|(part, (_, took))| (part, took.as_secs_f64()));
        self.by(
            "grasp_part_answer_seconds",
            "gauge",
            "Duration of its answer.",
            "part",
            took,
        );
        if let Ok(counts) = &health.redis.answer {
            let waits = [("waiting", counts.waiting), ("releasing", counts.releasing)];
            self.by(
                "grasp_purgatory_events",
                "gauge",
                "Events in the purgatory.",
                "status",
                waits,
            );
            self.one(
                "grasp_purgatory_waiting_bytes",
                "Bytes of waiting events.",
                counts.waiting_bytes,
            );
            let help = "PR commits that were pushed before their events.";
            self.one("grasp_purgatory_early_commits", help, counts.placeholders);
            let help = "Repositories that a gateway must reconcile.";
            self.one("grasp_purgatory_dirty_repositories", help, counts.dirty);
        }
        if let Ok(room) = &health.disk.answer {
            self.one(
                "grasp_disk_free_bytes",
                "Free bytes where the repositories are.",
                room.bytes_free,
            );
        }
    }

    fn purgatory(&mut self, survey: &Survey) {
        let mut counts = BTreeMap::<_, u64>::new();
        let mut oldest = BTreeMap::<_, u64>::new();
        for row in &survey.rows {
            *counts.entry((row.kind, row.status_name())).or_default() += 1;
            let age = row
                .held_since
                .map_or(0, |since| survey.counts.now.saturating_sub(since));
            let most = oldest.entry(row.status_name()).or_default();
            *most = age.max(*most);
        }
        let name = "grasp_purgatory_read_events";
        self.family(
            name,
            "gauge",
            "Events in the purgatory by kind, of those that were read.",
        );
        for ((kind, status), count) in counts {
            self.value(name, &[("kind", kind), ("status", status)], count);
        }
        self.one(
            "grasp_purgatory_unread_events",
            "Events that were not read.",
            survey.unread(),
        );
        let help = "Age of the oldest event that was read.";
        self.by("grasp_purgatory_oldest_seconds", "gauge", help, "status", oldest);
        let name = "grasp_purgatory_unreleased_seconds";
        let help = "For how long the longest release has lasted.";
        let longest = survey.unreleased_secs.iter().map(|(status, secs)| (*status, secs));
        self.by(name, "gauge", help, "status", longest);
        let name = "grasp_events_total";
        self.family(name, "counter", "Events that all plugins and gateways have decided.");
        for DecisionCount { kind, decision, count } in &survey.decisions {
            self.value(name, &[("kind", kind), ("decision", decision)], count);
        }
    }

    fn git(&mut self, figures: &Figures<'_>) {
        let [taken, kept, refused @ ..] = figures.pushes;
        let outcomes = [("taken", taken), ("kept", kept), ("refused", refused.iter().sum())];
        let help = "Answered pushes, by outcome.";
        self.by("grasp_pushes_total", "counter", help, "outcome", outcomes);
        let reasons = PUSH_OUTCOMES.into_iter().zip(figures.pushes).skip(2);
        self.by(
            "grasp_pushes_refused_total",
            "counter",
            "Refused pushes, by reason.",
            "reason",
            reasons,
        );
        let fetches = FETCH_OUTCOMES.into_iter().zip(figures.fetches);
        let help = "Fetch requests, by outcome.";
        self.by("grasp_fetches_total", "counter", help, "outcome", fetches);
        let sources = ANSWER_SOURCES.into_iter().zip(figures.answers.sources);
        let help = "Clones, by source of the answer: git or a kept answer.";
        self.by("grasp_clones_total", "counter", help, "from", sources);
        let help = "Bytes on disk of kept answers to clones.";
        self.one("grasp_fetch_cache_bytes", help, figures.answers.bytes);
        let bytes = ["received", "sent"].into_iter().zip(figures.bytes);
        let help = "Bytes of packs that were pushed, and of answers to fetches.";
        self.by("grasp_git_bytes_total", "counter", help, "direction", bytes);
        let (asked, loaded) = figures.reads;
        let reads = [("memory", asked.saturating_sub(loaded)), ("loaded", loaded)];
        let help = "Lookups of repositories by readers, by source.";
        self.by("grasp_reads_total", "counter", help, "from", reads);
    }

    fn releases(&mut self, figures: &Figures<'_>) {
        let releases = RELEASE_OUTCOMES.into_iter().zip(figures.releases);
        let help = "Attempts to publish a complete event, by outcome.";
        self.by("grasp_releases_total", "counter", help, "outcome", releases);
        let name = "grasp_release_seconds";
        self.family(name, "histogram", "How long the relay took to serve a complete event.");
        let (within, count, secs) = figures.release_durations.read();
        for (bound, count) in within {
            self.value("grasp_release_seconds_bucket", &[("le", &bound.to_string())], count);
        }
        self.value("grasp_release_seconds_bucket", &[("le", "+Inf")], count);
        self.value("grasp_release_seconds_sum", &[], secs);
        self.value("grasp_release_seconds_count", &[], count);
    }

    fn slots(&mut self, figures: &Figures<'_>) {
        let count = figures.slots.map(|(work, load)| (work, load.max));
        self.by("grasp_slots", "gauge", "Git slots, by kind of work.", "work", count);
        let addresses = figures.slots.map(|(work, load)| (work, load.payers));
        let help = "Addresses that have a slot.";
        self.by("grasp_slots_addresses", "gauge", help, "work", addresses);
        for (name, help, read) in SLOT_FAMILIES {
            self.family(name, "gauge", help);
            for (work, load) in figures.slots {
                let (all, busiest) = read(load);
                for (payer, count) in [("busiest", busiest), ("others", all.saturating_sub(busiest))] {
                    self.value(name, &[("work", work), ("payer", payer)], count);
                }
            }
        }
        let slots = figures.slots.map(|(work, load)| (work, load.used));
        let processes = slots.into_iter().chain([("command", figures.git_commands)]);
        let help = "Running git processes, by kind of work.";
        self.by("grasp_git_processes", "gauge", help, "work", processes);
    }

    fn limits(&mut self, figures: &Figures<'_>) {
        let help = "How often a limit was reached, by its option.";
        self.by("grasp_limits_hit_total", "counter", help, "limit", figures.limit_hits);
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.text
            .push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn value(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<String> = labels.iter().map(|(label, text)| format!("{label}={text:?}")).collect();
        let labels = match labels.is_empty() {
            true => String::new(),
            false => format!("{{{}}}", labels.join(",")),
        };
        writeln!(self.text, "{name}{labels} {value}").expect("a string takes any text");
    }

    /// Writes a gauge without labels.
    fn one(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        self.value(name, &[], value);
    }

    /// Writes a family with one label.
    fn by(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'static str, impl Display)>,
    ) {
        self.family(name, kind, help);
        for (text, value) in values {
            self.value(name, &[(label, text)], value);
        }
    }
}

fn answered<T>(found: &PartAnswer<T>) -> (bool, Duration) {
    (found.answer.is_ok(), found.took)
}

/// What it counts of all payers, and of the one that has most slots.
type SlotFamily = (&'static str, &'static str, fn(SlotLoad) -> (usize, usize));

const SLOT_FAMILIES: [SlotFamily; 2] = [
    ("grasp_slots_used", "Slots in use.", |load| {
        (load.used, load.busiest_used)
    }),
    ("grasp_slots_waiting", "Requests that wait for a slot.", |load| {
        (load.waiting, load.busiest_waiting)
    }),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use shared::purgatory::EntryStatus;
    use shared::purgatory::InventoryCounts;

    use super::*;
    use crate::admin::health::DiskRoom;
    use crate::admin::health::HealthFault;
    use crate::admin::readiness::tests::found;
    use crate::admin::rows::tests::row;

    fn page(redis: Result<InventoryCounts, HealthFault>, survey: Option<&Survey>) -> String {
        let health = HealthReport {
            redis: found(redis),
            has_redis: true,
            relay: found(Ok(())),
            disk: found(Ok(DiskRoom { bytes_free: 5 })),
        };
        let load = SlotLoad {
            max: 4,
            used: 3,
            waiting: 2,
            busiest_used: 3,
            busiest_waiting: 1,
            payers: 1,
        };
        metrics(&Figures {
            health: &health,
            survey,
            pushes: [7, 4, 1, 0, 2, 0, 0, 0],
            releases: [5, 0, 0, 0, 1],
            release_durations: &Durations::default(),
            fetches: [9, 0, 0, 0, 0],
            answers: AnswerLoad {
                sources: [3, 2],
                bytes: 30,
            },
            bytes: [10, 20],
            reads: (12, 4),
            limit_hits: [("websockets-max", 8), ("a", 0), ("b", 0), ("c", 0)],
            slots: [("check", load), ("fetch", load)],
            git_commands: 6,
        })
    }

    #[test]
    fn what_is_not_known_is_no_number() {
        let counts = InventoryCounts {
            now: 70,
            waiting: 3,
            ..InventoryCounts::default()
        };
        let survey = Survey {
            counts,
            rows: vec![row('a', 10, EntryStatus::Held), row('b', 20, EntryStatus::Held)],
            unreleased_secs: BTreeMap::from([(EntryStatus::Releasing.name(), 7)]),
            ..Survey::default()
        };
        let text = page(Ok(counts), Some(&survey));
        for line in [
            "grasp_part_up{part=\"redis\"} 1",
            "grasp_part_answer_seconds{part=\"relay\"} 0.002",
            "grasp_purgatory_events{status=\"waiting\"} 3",
            "grasp_purgatory_read_events{kind=\"state\",status=\"held\"} 2",
            "grasp_purgatory_unread_events 1",
            "grasp_purgatory_oldest_seconds{status=\"held\"} 60",
            "grasp_purgatory_unreleased_seconds{status=\"releasing\"} 7",
            "grasp_disk_free_bytes 5",
            "grasp_pushes_total{outcome=\"taken\"} 7",
            "grasp_pushes_total{outcome=\"kept\"} 4",
            "grasp_pushes_total{outcome=\"refused\"} 3",
            "grasp_pushes_refused_total{reason=\"limit\"} 2",
            "grasp_reads_total{from=\"memory\"} 8",
            "grasp_git_bytes_total{direction=\"sent\"} 20",
            "grasp_clones_total{from=\"kept\"} 2",
            "grasp_fetch_cache_bytes 30",
            "grasp_releases_total{outcome=\"stuck\"} 1",
            "grasp_release_seconds_bucket{le=\"+Inf\"} 0",
            "grasp_slots{work=\"check\"} 4",
            "grasp_slots_used{work=\"fetch\",payer=\"others\"} 0",
            "grasp_slots_waiting{work=\"fetch\",payer=\"busiest\"} 1",
            "grasp_slots_waiting{work=\"fetch\",payer=\"others\"} 1",
            "grasp_limits_hit_total{limit=\"websockets-max\"} 8",
            "grasp_git_processes{work=\"command\"} 6",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
        let blind = page(Err(HealthFault::Silent), None);
        assert!(
            blind.contains("grasp_part_up{part=\"redis\"} 0") && !blind.contains("grasp_purgatory"),
            "{blind}"
        );
    }

    /// A name that is renamed here would be an alert that never fires.
    #[test]
    fn what_an_alert_selects_is_written() {
        let statuses = [
            EntryStatus::Held,
            EntryStatus::Asleep,
            EntryStatus::Releasing,
            EntryStatus::Stuck,
        ];
        let survey = Survey {
            rows: statuses.map(|status| row('a', 10, status)).to_vec(),
            unreleased_secs: statuses
                .into_iter()
                .filter(|status| status.counts_as_served())
                .map(|status| (status.name(), 1))
                .collect(),
            ..Survey::default()
        };
        let text = page(Ok(InventoryCounts::default()), Some(&survey));
        let rules = include_str!("../../../strfry-config/prometheus-alerts.yml");
        let mut labels = BTreeSet::new();
        for (before, matchers) in rules.lines().filter(|line| line.contains("expr:")).flat_map(selectors) {
            let name = before.rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_').next();
            let name = name.unwrap_or_default();
            for matcher in matchers.split(',').filter(|matcher| !matcher.starts_with("job=")) {
                let (label, values) = matcher.split_once('=').unwrap();
                let values = values.trim_start_matches('~').trim_matches('"');
                for value in values.split('|') {
                    let (start, written) = (format!("{name}{{"), format!("{label}=\"{value}\""));
                    let is_written = |line: &str| line.starts_with(&start) && line.contains(&written);
                    assert!(text.lines().any(is_written), "{name} with {written} in {text}");
                }
                labels.insert(label);
            }
        }
        assert_eq!(labels, BTreeSet::from(["outcome", "payer", "reason", "status"]));
    }

    /// Returns what stands before each pair of braces of an expression, and in it.
    fn selectors(expression: &str) -> Vec<(&str, &str)> {
        let braces = expression.match_indices('{');
        let selector = |(open, _): (usize, &str)| {
            let (before, behind) = (&expression[..open], &expression[open + 1..]);
            (before, behind.split_once('}').unwrap().0)
        };
        braces.map(selector).collect()
    }
}
