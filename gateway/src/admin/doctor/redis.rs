//! Whether Redis can be used, can be trusted with held events, and is fast; and whether the clocks agree.

use std::time::Duration;
use std::time::Instant;

use nostr::types::Timestamp;

use crate::admin::doctor::checked_server::CheckedServer;
use crate::admin::doctor::observation::Observation;
use crate::command_error::causes;
use crate::redis_mends::mend_of;

pub(super) async fn settings(server: &CheckedServer<'_>) -> Vec<Observation> {
    let Some(loader) = &server.behind else {
        return vec![Observation::well(
            "not used: held events are in memory, and are lost when the process ends",
        )];
    };
    match loader.purgatory.check_server().await {
        Ok(faults) if faults.is_empty() => vec![Observation::well("it answers, and its settings keep held events")],
        Ok(faults) => faults
            .into_iter()
            .map(|fault| Observation::wrong(fault.finding, fault.mend))
            .collect(),
        Err(error) => {
            let text = causes(&error);
            let mend = mend_of(&text);
            vec![Observation::wrong(text, mend)]
        }
    }
}

pub(super) async fn write_time(server: &CheckedServer<'_>) -> Vec<Observation> {
    let (Some(loader), Some(settings)) = (&server.behind, server.options.redis()) else {
        return Vec::new();
    };
    let mut longest = Duration::ZERO;
    for _ in 0..WRITES {
        let start = Instant::now();
        if let Err(error) = loader.purgatory.report_settings("doctor", "{}", 1).await {
            let text = causes(&error);
            let mend = mend_of(&text);
            return vec![Observation::wrong(format!("it does not accept a write: {text}"), mend)];
        }
        longest = longest.max(start.elapsed());
    }
    let text = format!("the slowest of {WRITES} writes took {} ms", longest.as_millis());
    match longest > settings.slow {
        true => vec![Observation::warning(
            format!("{text}, more than redis-slow-ms: git events may be refused"),
            "put Redis' append-only file on a faster disk, or raise redis-slow-ms",
        )],
        false => vec![Observation::well(text)],
    }
}

pub(super) async fn clock(server: &CheckedServer<'_>) -> Vec<Observation> {
    let Some(loader) = &server.behind else {
        return Vec::new();
    };
    match loader.purgatory.counts().await {
        Ok(counts) => vec![judge_clock("Redis' clock", counts.now)],
        // It was named before.
        Err(_) => Vec::new(),
    }
}

/// Compares a clock with ours.
pub(super) fn judge_clock(whose: &str, shows: u64) -> Observation {
    let off = Timestamp::now().as_secs().abs_diff(shows);
    let text = format!("{whose} is {off} s off this host's");
    match off {
        0..=CLOCK_FINE_SECS => Observation::well(text),
        _ => Observation::wrong(
            format!("{text}: events would be refused as too old or too new, or end at the wrong time"),
            "run a time service on every host: timedatectl set-ntp true",
        ),
    }
}

const WRITES: usize = 10;

/// An answer may have taken a while.
const CLOCK_FINE_SECS: u64 = 10;
