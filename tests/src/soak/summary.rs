//! What came of a soak, as tables and, where a promise was broken, with the story of the event.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use nostr::event::EventId;

use super::disk_faults::DiskFaultKind;
use super::fate::Fate;
use super::kills::StepKind;
use super::kills::Tally;
use super::ledger::Ledger;
use super::ledger::Promise;
use super::ledger::Violation;

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// What the schedule followed from.
    pub seed: u64,
    /// How long it took.
    pub took: Duration,
    /// Promises that were broken.
    pub violations: Vec<Violation>,
    /// What became of the events that were answered OK.
    pub fates: BTreeMap<Fate, u64>,
    /// Pushes answered ok, and others.
    pub pushes: (u64, u64),
    /// Repositories cloned at the end.
    pub cloned: usize,
    /// Kills by target and kind of step.
    pub(super) tally: Tally,
    /// How many faults of disks there were, by kind.
    pub faults: BTreeMap<DiskFaultKind, u64>,
    /// Whether nobody could mount a file system to be full or read-only.
    pub without_small_disk: bool,
    /// The kills as they were drawn, with the unix second in which each was waited for; the faults of disks likewise.
    pub(super) schedule: Vec<String>,
    /// What is known about each event of a broken promise.
    stories: Vec<String>,
    /// Where the rest lies.
    kept: Option<PathBuf>,
}

impl Summary {
    /// Nothing yet.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            ..Self::default()
        }
    }

    /// Takes over what is in the books, with what the programs have `logged` about the events concerned.
    pub(super) fn take(&mut self, ledger: &Ledger, logged: impl Fn(&EventId) -> Vec<String>) {
        let books = ledger.books();
        self.pushes = (books.pushes_ok, books.pushes_failed);
        self.violations.clone_from(&books.violations);
        for violation in &self.violations {
            let mut story = vec![format!("{:?}: {}", violation.promise, violation.text)];
            if let Some(sent) = violation.event_id.and_then(|id| books.events.get(&id)) {
                let event = &sent.event;
                let (kind, at) = (event.kind.as_u16(), event.created_at.as_secs());
                story.push(format!(
                    "  event {} of kind {kind}, dated {at}, in {}",
                    event.id, sent.project.path
                ));
                story.extend(sent.history.iter().map(|line| format!("  {line}")));
                story.extend(logged(&event.id).iter().map(|line| format!("  {line}")));
            }
            self.stories.push(story.join("\n"));
        }
    }

    /// Writes all of it to what is kept of the server on disk.
    pub(super) fn keep(&mut self, directory: &Path) {
        self.kept = Some(directory.to_owned());
        let text = format!("{self}\n{}\n", self.schedule.join("\n"));
        if let Err(error) = std::fs::write(directory.join("soak.log"), text) {
            self.stories.push(format!("cannot write soak.log: {error}"));
        }
    }

    /// Tells whether every promise was kept.
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }

    /// Returns how many targets were killed, and at how many kinds of steps.
    pub fn covered(&self) -> (usize, usize) {
        let targets: BTreeSet<_> = self.tally.keys().map(|(target, _)| target).collect();
        let kinds: BTreeSet<_> = self.tally.keys().map(|(_, kind)| kind).collect();
        (targets.len(), kinds.len())
    }

    /// Returns how many events were answered OK.
    pub fn answered_ok(&self) -> u64 {
        self.fates.values().sum()
    }

    /// Says how it stands.
    pub(super) fn line(&self, took: Duration) -> String {
        let kills: u64 = self.tally.values().sum();
        format!(
            "{} s: {kills} kills, events answered OK {:?}",
            took.as_secs(),
            self.fates
        )
    }

    fn killed(&self, is_counted: impl Fn(&str, StepKind) -> bool) -> u64 {
        let counted = self.tally.iter().filter(|((name, kind), _)| is_counted(name, *kind));
        counted.map(|(_, count)| count).sum()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for story in &self.stories {
            writeln!(formatter, "{story}")?;
        }
        if let Some(kept) = &self.kept {
            writeln!(formatter, "logs, Redis and repositories are kept in {}", kept.display())?;
        }
        writeln!(formatter, "seed {}, {} s\n", self.seed, self.took.as_secs())?;
        write_row(
            formatter,
            "kills",
            StepKind::ALL.map(|(_, name)| name.to_owned()),
            "all",
        )?;
        for target in ["plugin", "gateway", "Redis", "relay", "git"] {
            let of = |kind: StepKind| self.killed(|name, other| name == target && other == kind);
            let all = self.killed(|name, _| name == target);
            write_row(
                formatter,
                target,
                StepKind::ALL.map(|(kind, _)| of(kind).to_string()),
                &all.to_string(),
            )?;
        }
        let of = |kind: StepKind| self.killed(|_, other| other == kind).to_string();
        let all = self.killed(|_, _| true).to_string();
        write_row(formatter, "all", StepKind::ALL.map(|(kind, _)| of(kind)), &all)?;
        let faults = DiskFaultKind::ALL.map(|(kind, name)| {
            let count = self.faults.get(&kind).copied().unwrap_or_default();
            format!("{name} {count}")
        });
        writeln!(formatter, "\nfaults of disks: {}", faults.join(", "))?;
        if self.without_small_disk {
            writeln!(
                formatter,
                "(nobody may mount anything here: no disk was full or read-only)"
            )?;
        }
        let fate = |fate| self.fates.get(&fate).copied().unwrap_or_default();
        writeln!(
            formatter,
            "events answered OK {}: served {}, held {}, expired {}, superseded {}, deleted {}",
            self.answered_ok(),
            fate(Fate::Served),
            fate(Fate::Held),
            fate(Fate::Expired),
            fate(Fate::Superseded),
            fate(Fate::Deleted),
        )?;
        let (ok, failed) = self.pushes;
        writeln!(
            formatter,
            "pushes: ok {ok}, refused or cut {failed}; repositories cloned at the end: {}",
            self.cloned
        )?;
        let broken = Promise::ALL.map(|(promise, name)| {
            let count = self.violations.iter().filter(|violation| violation.promise == promise);
            format!("{name} {}", count.count())
        });
        write!(formatter, "{}", broken.join(", "))
    }
}

fn write_row(formatter: &mut fmt::Formatter<'_>, name: &str, cells: [String; 4], last: &str) -> fmt::Result {
    let [script, event, git, any] = cells;
    writeln!(formatter, "{name:8} {script:>9} {event:>9} {git:>9} {any:>9} {last:>5}")
}
