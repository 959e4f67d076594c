//! Attacks a server beside an honest user (`scripts/siege`).
//!
//! `siege [--world embedded|strfry|both] [--only NAME]... [--secs N] [--list]`; ends with 1 if a bound is broken. An
//! attack during which an operation took too long, and that broke nothing else, is done once more in a new world: a
//! machine is slow now and then by itself. Both lines are printed, and the second one counts.

use std::io::Write;
use std::process::ExitCode;

use progress::CommandProgress;
use tests::harness::options::Kind;
use tests::siege::Attack;
use tests::siege::Line;
use tests::siege::Siege;
use tests::siege::all;

struct Arguments {
    worlds: Vec<Kind>,
    attacks: Vec<Attack>,
    secs: u64,
    lists: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Some(arguments) = arguments(std::env::args().skip(1)) else {
        say("usage: siege [--world embedded|strfry|both] [--only NAME]... [--secs N] [--list]");
        return ExitCode::FAILURE;
    };
    if arguments.lists {
        for attack in arguments.attacks {
            say(&format!(
                "{:30} {}\n{:30} costs {}",
                attack.name, attack.does, "", attack.costs
            ));
        }
        return ExitCode::SUCCESS;
    }
    let siege = Siege {
        secs: arguments.secs,
        // About as many as during the attack: of few, p95 is merely the longest.
        rounds_before: (2 * arguments.secs).clamp(3, 20) as usize,
        rounds_after: 3,
    };
    say(&Line::heading());
    let progress = CommandProgress::new((arguments.worlds.len() * arguments.attacks.len()) as u64, false);
    let mut broken = Vec::new();
    let mut lines = 0;
    for kind in arguments.worlds {
        for attack in &arguments.attacks {
            progress.begin(&format!("{kind:?} {}", attack.name));
            let mut line = siege.lay(kind, attack).await;
            if let Some(slow) = line.as_ref().filter(|line| line.is_slow_only()) {
                progress.line(&told(slow, "once more, it was SLOW")).ok();
                line = siege.lay(kind, attack).await;
            }
            progress.end_step();
            let Some(line) = line else {
                continue;
            };
            lines += 1;
            // Whoever reads no more need not stop the siege.
            progress.line(&told(&line, "BROKEN")).ok();
            let bounds = line.broken().into_iter().chain(line.slow());
            broken.extend(bounds.map(|bound| format!("{kind:?} {}: {bound}", attack.name)));
        }
    }
    drop(progress);
    say(&format!("\n{lines} attacks, {} bounds broken", broken.len()));
    for bound in &broken {
        say(bound);
    }
    match broken.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Returns the lines of an attack: the table's, the answers, and each bound that it broke.
fn told(line: &Line, verdict: &str) -> String {
    let bounds = line.broken().into_iter().chain(line.slow());
    let bounds: String = bounds.map(|bound| format!("\n         {verdict}: {bound}")).collect();
    format!("{line}\n         answers: {}{bounds}", line.answers())
}

fn arguments(mut arguments: impl Iterator<Item = String>) -> Option<Arguments> {
    let mut read = Arguments {
        worlds: vec![Kind::Embedded, Kind::Strfry],
        attacks: all(),
        secs: 10,
        lists: false,
    };
    let mut only = Vec::new();
    while let Some(name) = arguments.next() {
        match name.as_str() {
            "--list" => read.lists = true,
            "--secs" => read.secs = arguments.next()?.parse().ok()?,
            "--only" => only.push(arguments.next()?),
            "--world" => {
                read.worlds = match arguments.next()?.as_str() {
                    "embedded" => vec![Kind::Embedded],
                    "strfry" => vec![Kind::Strfry],
                    "both" => vec![Kind::Embedded, Kind::Strfry],
                    _ => return None,
                }
            }
            _ => return None,
        }
    }
    if !only.is_empty() {
        read.attacks
            .retain(|attack| only.iter().any(|name| name == attack.name));
    }
    // A name that is none is a mistake, and no siege that holds.
    (read.attacks.len() >= only.len()).then_some(read)
}

fn say(line: &str) {
    // Whoever reads no more need not stop the siege.
    writeln!(std::io::stdout(), "{line}").ok();
}
