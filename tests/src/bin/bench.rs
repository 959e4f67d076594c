//! Measures what git and its readers get here beside what the machine could give (`scripts/bench`).
//!
//! `bench [--short] [--large] [--growth] [--only PART[,PART]] [--json FILE]`; ends with 1 if something could not be
//! measured.

use std::error::Error;
use std::io::IsTerminal;
use std::io::Write;
use std::process::ExitCode;

use comfy_table::Table;
use comfy_table::presets;
use serde_json::json;
use tests::load::bench::Progress;
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

    let lines = run(&measurements, show).await;

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

/// Shows each line when it is done, and below them, on a terminal, a bar.
fn show(progress: &Progress<'_>) {
    let Progress {
        done,
        count,
        ended,
        now,
    } = progress;
    let mut text = String::new();
    let is_terminal = std::io::stderr().is_terminal();
    if is_terminal {
        text += "\r\x1b[K";
    }
    if let Some(line) = ended {
        text += &format!("{done}/{count} {}\n", line.sentence());
    }
    if let (true, Some(now)) = (is_terminal, now) {
        let filled = BAR_WIDTH * done / count;
        text += &format!(
            "[{}{}] {done}/{count} {now}",
            "#".repeat(filled),
            "-".repeat(BAR_WIDTH - filled)
        );
    }
    // Whoever sees no progress still gets the table.
    std::io::stderr().write_all(text.as_bytes()).ok();
}

const USAGE: &str = "usage: bench [--short] [--large] [--growth] [--only PART[,PART]] [--json FILE]\n\
                     parts: read, push, clone, memory, steady, large, growth";
const BAR_WIDTH: usize = 30;
