//! Measures the plugin by itself (`scripts/plugin-rate`).
//!
//! `plugin-rate [--plugin <program>] [--notes <n>] [--published <n>] [--events <n>] [--held <n>]`; 0 leaves a part out.
//! Ends with 1 if an answer is wrong.

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use tests::load::plugin_rate::PluginRate;

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut asked = PluginRate {
        plugin: None,
        notes: 40_000,
        published: 10_000,
        git_events: 2_000,
        held: 0,
        patience: Duration::from_secs(20),
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or("a value is missing")?;
        match &*name {
            "--plugin" => asked.plugin = Some(value.into()),
            "--notes" => asked.notes = value.parse()?,
            "--published" => asked.published = value.parse()?,
            "--events" => asked.git_events = value.parse()?,
            "--held" => asked.held = value.parse()?,
            _ => return Err(format!("unknown option {name}").into()),
        }
    }
    let rates = asked.measure().await;
    let mut output = std::io::stdout().lock();
    for line in &rates.lines {
        writeln!(output, "{}", line.sentence())?;
    }
    for wrong in rates.wrong.iter().take(WRONG_MAX) {
        writeln!(output, "WRONG: {wrong}")?;
    }
    Ok(match rates.wrong.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// Wrong answers that are printed.
const WRONG_MAX: usize = 10;
