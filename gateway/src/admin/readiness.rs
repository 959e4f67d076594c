//! Whether the server is ready, as text. Pure.

use crate::admin::health::HealthReport;
use crate::admin::health::PartAnswer;

/// Whether everything answers, and what each part has said, a line each.
pub(super) fn readiness(health: &HealthReport) -> (bool, String) {
    let lines = [
        (
            "redis",
            match health.has_redis {
                true => line(&health.redis),
                false => "not used: held events are in memory, and are lost when the process ends".to_owned(),
            },
        ),
        ("relay", line(&health.relay)),
        ("disk", line(&health.disk)),
    ];
    let is_ready = health.redis.answer.is_ok() && health.relay.answer.is_ok() && health.disk.answer.is_ok();
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
        Err(fault) => fault.to_string().replace(char::is_control, " "),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use shared::purgatory::InventoryCounts;

    use super::*;
    use crate::admin::health::DiskRoom;
    use crate::admin::health::HealthFault;

    pub(in crate::admin) fn found<T>(answer: Result<T, HealthFault>) -> PartAnswer<T> {
        PartAnswer {
            answer,
            took: Duration::from_millis(2),
        }
    }

    fn well() -> HealthReport {
        HealthReport {
            redis: found(Ok(InventoryCounts {
                waiting: 3,
                ..InventoryCounts::default()
            })),
            has_redis: true,
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
        let in_memory = HealthReport {
            has_redis: false,
            ..well()
        };
        let (is_ready, text) = readiness(&in_memory);
        assert!(
            is_ready && text.contains("redis: not used: held events are in memory"),
            "{text}"
        );
        let without_relay = HealthReport {
            relay: found(Err(HealthFault::Failed("no answer\nready".to_owned()))),
            ..well()
        };
        let (is_ready, text) = readiness(&without_relay);
        assert!(
            !is_ready && text.starts_with("not ready\n") && text.contains("relay: no answer ready\n"),
            "{text}"
        );
    }
}
