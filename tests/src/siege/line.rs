//! What came of one attack, as a line of the table.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::harness::options::Kind;
use crate::siege::attack::Attack;
use crate::siege::bounds::Growth;
use crate::siege::times::Operation;
use crate::siege::times::Times;

/// What came of one attack.
#[derive(Debug, Clone)]
pub struct Line {
    /// The attack.
    pub attack: Attack,
    /// Where.
    pub kind: Kind,
    pub(super) before: Times,
    pub(super) during: Times,
    pub(super) after: Times,
    pub(super) growth: Growth,
    /// How the attacker was answered, the most frequent answer first.
    pub(super) answers: Vec<(String, u64)>,
    pub(super) has_failed: bool,
}

impl Line {
    /// What stands above the lines. Times are p95 in milliseconds, before, during and after.
    pub fn heading() -> String {
        let operations = Operation::ALL.map(|operation| format!("{:>17}", operation.name()));
        format!(
            "{:8} {:30}{}  {:>7} {:>7} {:>6} {:>8} {:>9} {:>6}",
            "world",
            "attack",
            operations.concat(),
            "gateway",
            "plugin",
            "Redis",
            "slowest",
            "disk/kept",
            "fds"
        )
    }

    /// Returns the bounds that were broken, but for times: what failed, and what the server took too much of.
    pub fn broken(&self) -> Vec<String> {
        let mut broken = self.growth.broken.clone();
        if self.has_failed {
            broken.push("the attack itself did nothing, or failed".to_owned());
        }
        for (when, times) in [
            ("before", &self.before),
            ("during", &self.during),
            ("after", &self.after),
        ] {
            let mut reasons: BTreeMap<_, usize> = BTreeMap::new();
            for failure in &times.failures {
                *reasons.entry(failure).or_default() += 1;
            }
            for ((operation, reason), count) in reasons {
                broken.push(format!("{} failed {count} times {when} it: {reason}", operation.name()));
            }
        }
        broken
    }

    /// Returns which operations took longer than they may: twice the time before, and 100 ms.
    pub fn slow(&self) -> Vec<String> {
        let slow = Operation::ALL.into_iter().filter_map(|operation| {
            let before = self.before.p95(operation)?;
            let during = self.during.p95(operation)?;
            let max = 2 * before + Duration::from_millis(100);
            (during > max).then(|| {
                let [during, max] = [during, max].map(|time| time.as_millis());
                format!("{} took {during} ms, {max} ms at most", operation.name())
            })
        });
        slow.collect()
    }

    /// Whether operations took longer than they may, and no other bound was broken.
    pub fn is_slow_only(&self) -> bool {
        self.broken().is_empty() && !self.slow().is_empty()
    }

    /// Says how the attacker was answered.
    pub fn answers(&self) -> String {
        let answers = self
            .answers
            .iter()
            .take(4)
            .map(|(answer, count)| format!("{count} x {answer:?}"));
        answers.collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let world = match self.kind {
            Kind::Embedded => "embedded",
            Kind::Strfry => "strfry",
        };
        write!(f, "{world:8} {:30}", self.attack.name)?;
        for operation in Operation::ALL {
            let [before, during, after] = [&self.before, &self.during, &self.after].map(|times| {
                let p95 = times.p95(operation);
                p95.map_or("-".to_owned(), |time| time.as_millis().to_string())
            });
            write!(f, "{:>17}", format!("{before}>{during}>{after}"))?;
        }
        let Growth {
            gateway_kib,
            plugin_kib,
            redis_kib,
            redis_micros,
            disk_kib,
            disk_kept_kib,
            descriptors,
            ..
        } = &self.growth;
        let [gateway, plugin, redis, disk, kept] =
            [gateway_kib, plugin_kib, redis_kib, disk_kib, disk_kept_kib].map(|kib| kib >> 10);
        let slowest = format!("{}.{} ms", redis_micros / 1000, redis_micros / 100 % 10);
        let verdict = match (self.broken().is_empty(), self.slow().is_empty()) {
            (true, true) => "ok",
            (true, false) => "SLOW",
            (false, _) => "BROKEN",
        };
        let disk = format!("{disk}/{kept}");
        write!(
            f,
            "  {gateway:>7} {plugin:>7} {redis:>6} {slowest:>8} {disk:>9} {descriptors:>6} {verdict}"
        )
    }
}
