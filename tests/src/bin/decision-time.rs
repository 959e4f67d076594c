//! Measures what each decision takes with every limit filled by one attacker (`scripts/decision-time`).
//!
//! `decision-time [<announcements>...]`: as many announcements of one identifier, states and PRs each.

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use tests::load::decision_time::Attack;
use tests::load::decision_time::DECISION_MAX;
use tests::load::decision_time::Newer;
use tests::load::decision_time::measure;

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let counts: Result<Vec<usize>, _> = std::env::args().skip(1).map(|count| count.parse()).collect();
    let counts = Some(counts?).filter(|counts| !counts.is_empty());
    let mut is_within = true;
    for count in counts.unwrap_or_else(|| vec![0, 300, 2000]) {
        let each = Attack::ALL
            .into_iter()
            .flat_map(|attack| Newer::ALL.map(|newer| (attack, newer)));
        for (attack, newer) in each {
            writeln!(std::io::stdout(), "{count} announcements, {attack}; {newer}")?;
            for time in measure(attack, newer, count).await {
                let is_long = time.decision > DECISION_MAX;
                is_within &= !is_long;
                writeln!(
                    std::io::stdout(),
                    "  {:>8.3} ms to decide, {:>8.2} ms to load  {}{}",
                    time.decision.as_secs_f64() * 1e3,
                    time.load.as_secs_f64() * 1e3,
                    time.what,
                    if is_long { "  TOO LONG" } else { "" },
                )?;
            }
        }
    }
    Ok(if is_within {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
