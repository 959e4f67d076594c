//! Measures what git and its readers get here beside what the machine could give (`scripts/bench`).
//!
//! `bench [--short] [--large] [--growth] [--only PART[,PART]] [--json FILE]`; ends with 1 if something could not be
//! measured.

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use comfy_table::Table;
use comfy_table::presets;
use progress::CommandProgress;
use serde_json::json;
use tests::load::bench::Measured;
use tests::load::bench::machine::Machine;
use tests::load::bench::row::Line;
use tests::load::bench::row::Part;
use tests::load::bench::rows::measurements;
use tests::load::bench::run;
use tests::load::bench::sizes::Sizes;

struct Arguments {
    sizes: Sizes,
    parts: Vec<Part>,
    json: Option<String>,
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let Arguments { sizes, parts, json } = arguments(std::env::args().skip(1))?;
    let machine = Machine::this().await;
    let mut measurements = measurements(&sizes);
    measurements.retain(|measurement| parts.contains(&measurement.part));

    let count = measurements
        .iter()
        .map(|measurement| measurement.rows.len())
        .sum::<usize>();
    let progress = CommandProgress::new(count as u64, false);
    let lines = run(&measurements, |measured| show(&progress, measured)).await;
    drop(progress);

    if let Some(path) = json {
        let lines: Vec<_> = lines.iter().map(Line::to_json).collect();
        let text = format!("{:#}\n", json!({"machine": machine.to_json(), "lines": lines}));
        std::fs::write(&path, text).map_err(|error| format!("cannot write {path}: {error}"))?;
    }
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(Line::HEADING);
    table.add_rows(lines.iter().map(Line::cells));
    writeln!(std::io::stdout(), "{machine}\n\n{table}")?;
    let failed = lines.iter().any(|line| line.figure.is_none());
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn arguments(mut arguments: impl Iterator<Item = String>) -> Result<Arguments, Box<dyn Error>> {
    let (mut sizes, mut json, mut only) = (Sizes::FULL, None, Vec::new());
    let mut parts = Part::ALL.to_vec();
    parts.retain(|part| part.is_usual());
    while let Some(name) = arguments.next() {
        match &*name {
            "--short" => sizes = Sizes::SHORT,
            "--large" => parts.push(Part::Large),
            "--growth" => parts.push(Part::Growth),
            "--json" => json = Some(arguments.next().ok_or(USAGE)?),
            "--only" => {
                for name in arguments.next().ok_or(USAGE)?.split(',') {
                    let part = Part::ALL.into_iter().find(|part| part.name() == name);
                    only.push(part.ok_or_else(|| format!("there is no part {name}\n{USAGE}"))?);
                }
            }
            _ => return Err(USAGE.into()),
        }
    }
    Ok(Arguments {
        sizes,
        parts: if only.is_empty() { parts } else { only },
        json,
    })
}

/// Shows each line when it is done, and what is measured now.
fn show(progress: &CommandProgress, measured: &Measured<'_>) {
    let Measured {
        done,
        count,
        ended,
        now,
    } = measured;
    progress.set(*done as u64);
    if let Some(line) = ended {
        progress.note(&format!("{done}/{count} {}", line.sentence()));
    }
    if let Some(now) = now {
        progress.begin(now);
    }
}

const USAGE: &str = "usage: bench [--short] [--large] [--growth] [--only PART[,PART]] [--json FILE]\n\
                     parts: read, push, clone, memory, steady, large, growth";
