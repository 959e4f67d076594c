//! Measures what each decision takes with every limit filled by one attacker (`scripts/decision-time`).
//!
//! `decision-time [<announcements>...]`: as many announcements of one identifier, states and PRs each.

use std::error::Error;
use std::io::Write;

use tests::load::decision_time::Attack;
use tests::load::decision_time::DecisionTimes;

fn main() -> Result<(), Box<dyn Error>> {
    let counts: Result<Vec<usize>, _> = std::env::args().skip(1).map(|count| count.parse()).collect();
    let counts = Some(counts?).filter(|counts| !counts.is_empty());
    for count in counts.unwrap_or_else(|| vec![0, 300, 2000]) {
        for attack in Attack::ALL {
            let times = DecisionTimes::measure(attack, count);
            writeln!(std::io::stdout(), "{count} announcements, {attack}")?;
            for (decision, took) in times.decisions {
                writeln!(std::io::stdout(), "  {:>9.3} ms  {decision}", took.as_secs_f64() * 1e3)?;
            }
        }
    }
    Ok(())
}
