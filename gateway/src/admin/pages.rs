//! What the admin address answers: whether the server is ready, and its numbers in Prometheus' text format
//! (its "Exposition formats"). Pure.

use std::fmt::Write;

use crate::admin::health::PartAnswer;
use crate::admin::health::Vitals;
use crate::push::audit::PushCounts;

/// Whether everything answers, and what each part has said, a line each.
pub(super) fn readiness(vitals: &Vitals) -> (bool, String) {
    let lines = [
        ("redis", line(&vitals.redis)),
        ("relay", line(&vitals.relay)),
        ("disk", line(&vitals.disk)),
    ];
    let is_ready = vitals.redis.answer.is_ok() && vitals.relay.answer.is_ok() && vitals.disk.answer.is_ok();
    let mut text = String::from(if is_ready { "ready\n" } else { "not ready\n" });
    for (part, line) in lines {
        text.extend([part, ": ", &line, "\n"]);
    }
    (is_ready, text)
}

fn line<T>(found: &PartAnswer<T>) -> String {
    match &found.answer {
        Ok(_) => format!("ok ({} ms)", found.took.as_millis()),
        // One line each, whatever the part has answered.
        Err(ailment) => ailment.to_string().replace(char::is_control, " "),
    }
}

/// Writes the metrics. The values of their labels are those that stand here.
pub(super) fn metrics(vitals: &Vitals, pushes: PushCounts) -> String {
    let mut page = MetricsPage::default();
    page.family("grasp_build_info", "gauge", "The version that runs.");
    page.value("grasp_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    let parts = [
        ("redis", vitals.redis.answer.is_ok(), vitals.redis.took),
        ("relay", vitals.relay.answer.is_ok(), vitals.relay.took),
        ("disk", vitals.disk.answer.is_ok(), vitals.disk.took),
    ];
    page.family(
        "grasp_part_up",
        "gauge",
        "Whether a part that the server needs answers.",
    );
    for (part, is_up, _) in parts {
        page.value("grasp_part_up", &[("part", part)], u8::from(is_up));
    }
    page.family("grasp_part_answer_seconds", "gauge", "How long its answer took.");
    for (part, _, took) in parts {
        page.value("grasp_part_answer_seconds", &[("part", part)], took.as_secs_f64());
    }
    if let Ok(counts) = &vitals.redis.answer {
        page.family("grasp_purgatory_events", "gauge", "Events in the purgatory.");
        page.value("grasp_purgatory_events", &[("status", "waiting")], counts.waiting);
        page.value("grasp_purgatory_events", &[("status", "releasing")], counts.releasing);
        for (name, help, value) in [
            (
                "grasp_purgatory_waiting_bytes",
                "Bytes of events that wait.",
                counts.waiting_bytes,
            ),
            (
                "grasp_purgatory_early_commits",
                "PR commits that were pushed before their events.",
                counts.placeholders,
            ),
            (
                "grasp_purgatory_dirty_repositories",
                "Repositories that a gateway has to reconcile.",
                counts.dirty,
            ),
        ] {
            page.family(name, "gauge", help);
            page.value(name, &[], value);
        }
    }
    if let Ok(room) = &vitals.disk.answer {
        page.family(
            "grasp_disk_free_bytes",
            "gauge",
            "Free bytes where the repositories are.",
        );
        page.value("grasp_disk_free_bytes", &[], room.bytes_free);
    }
    page.family(
        "grasp_pushes_total",
        "counter",
        "Pushes that were answered, by what became of them.",
    );
    for (outcome, count) in [("taken", pushes.taken), ("refused", pushes.refused)] {
        page.value("grasp_pushes_total", &[("outcome", outcome)], count);
    }
    page.text
}

#[derive(Default)]
struct MetricsPage {
    text: String,
}

impl MetricsPage {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.text
            .push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn value(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let labels: Vec<String> = labels.iter().map(|(label, text)| format!("{label}={text:?}")).collect();
        let labels = match labels.is_empty() {
            true => String::new(),
            false => format!("{{{}}}", labels.join(",")),
        };
        writeln!(self.text, "{name}{labels} {value}").expect("a string takes any text");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use shared::purgatory::InventoryCounts;

    use super::*;
    use crate::admin::health::Ailment;
    use crate::admin::health::DiskRoom;

    fn found<T>(answer: Result<T, Ailment>) -> PartAnswer<T> {
        PartAnswer {
            answer,
            took: Duration::from_millis(2),
        }
    }

    fn well() -> Vitals {
        Vitals {
            redis: found(Ok(InventoryCounts {
                waiting: 3,
                ..InventoryCounts::default()
            })),
            relay: found(Ok(())),
            disk: found(Ok(DiskRoom { bytes_free: 5 })),
        }
    }

    #[test]
    fn the_server_is_ready_when_every_part_is() {
        assert_eq!(
            readiness(&well()),
            (
                true,
                "ready\nredis: ok (2 ms)\nrelay: ok (2 ms)\ndisk: ok (2 ms)\n".to_owned()
            )
        );
        let without_relay = Vitals {
            relay: found(Err(Ailment::Failed("no answer\nready".to_owned()))),
            ..well()
        };
        let (is_ready, text) = readiness(&without_relay);
        assert!(
            !is_ready && text.starts_with("not ready\n") && text.contains("relay: no answer ready\n"),
            "{text}"
        );
    }

    #[test]
    fn what_is_not_known_is_no_number() {
        let pushes = PushCounts { taken: 7, refused: 1 };
        let page = metrics(&well(), pushes);
        for line in [
            "grasp_part_up{part=\"redis\"} 1",
            "grasp_part_answer_seconds{part=\"relay\"} 0.002",
            "grasp_purgatory_events{status=\"waiting\"} 3",
            "grasp_disk_free_bytes 5",
            "grasp_pushes_total{outcome=\"taken\"} 7",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} in {page}");
        }
        let blind = Vitals {
            redis: found(Err(Ailment::Silent)),
            ..well()
        };
        let page = metrics(&blind, pushes);
        assert!(
            page.contains("grasp_part_up{part=\"redis\"} 0") && !page.contains("grasp_purgatory"),
            "{page}"
        );
    }
}
