//! Explores every configuration, or those whose name contains the argument: prints a table of them, and the way to each
//! state that breaks an invariant.

use std::io;
use std::io::Write;
use std::process::ExitCode;

use protocol_model::configurations;

fn main() -> io::Result<ExitCode> {
    let mut out = io::stdout().lock();
    let mut code = ExitCode::SUCCESS;
    writeln!(
        out,
        "| configuration | states | longest way | seconds |\n| --- | ---: | ---: | ---: |"
    )?;
    let wanted = std::env::args().nth(1).unwrap_or_default();
    for configuration in configurations() {
        if !configuration.name.contains(&wanted) {
            continue;
        }
        let found = configuration.explore();
        let seconds = found.took.as_secs_f32();
        writeln!(
            out,
            "| {} | {} | {} | {seconds:.1} |",
            configuration.name, found.states, found.depth
        )?;
        for way in &found.broken {
            code = ExitCode::FAILURE;
            writeln!(out, "\nbroken: {}\n  {}\n", way.invariant, way.steps.join("\n  "))?;
        }
    }
    Ok(code)
}
