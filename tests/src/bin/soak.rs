//! `soak [--seed N] [--kills N] [--secs N] [--hold-secs N]`: kills everything under load and says what became of what
//! was promised.

use std::io::Write;
use std::process::ExitCode;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use progress::CommandProgress;
use tests::soak::Options;
use tests::soak::run;

#[tokio::main]
async fn main() -> ExitCode {
    let Some(options) = options(std::env::args().skip(1)) else {
        say("usage: soak [--seed N] [--kills N] [--secs N] [--hold-secs N]");
        return ExitCode::FAILURE;
    };
    say(&format!("seed {}", options.seed));
    let summary = run(options, &CommandProgress::new(options.kills, false)).await;
    say(&summary.to_string());
    match summary.is_clean() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn options(mut arguments: impl Iterator<Item = String>) -> Option<Options> {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut options = Options {
        seed: since_epoch.as_secs(),
        kills: 200,
        secs: 600,
        hold_secs: 45,
    };
    while let Some(name) = arguments.next() {
        let number: u64 = arguments.next()?.parse().ok()?;
        match name.as_str() {
            "--seed" => options.seed = number,
            "--kills" => options.kills = number,
            "--secs" => options.secs = number,
            "--hold-secs" => options.hold_secs = number,
            _ => return None,
        }
    }
    Some(options)
}

fn say(line: &str) {
    // Whoever reads no more need not stop the search.
    writeln!(std::io::stdout(), "{line}").ok();
}
