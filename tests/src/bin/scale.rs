//! Measures a server with very much on disk and very much held (`scripts/scale`).
//!
//! `scale [--repositories <n>] [--held <n>] [--pushes <n>] [--watch-secs <n>]`; 0 leaves a part out.

use std::error::Error;
use std::io::Write;
use std::time::Duration;

use tests::load::scale::held::HeldCosts;
use tests::load::scale::start::Start;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (mut repositories, mut held, mut pushes, mut watch_secs) = (100_000, 1_000_000, 30, 60);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let number: usize = arguments.next().ok_or("a number is missing")?.parse()?;
        match &*name {
            "--repositories" => repositories = number,
            "--held" => held = number,
            "--pushes" => pushes = number,
            "--watch-secs" => watch_secs = number as u64,
            _ => return Err(format!("unknown option {name}").into()),
        }
    }
    let mut output = std::io::stdout();
    if repositories > 0 {
        writeln!(output, "{repositories} repositories")?;
        for start in Start::measure(repositories, pushes, Duration::from_secs(watch_secs)).await {
            writeln!(output, "{start}")?;
        }
    }
    if held > 0 {
        write!(output, "{}", HeldCosts::measure(held, pushes).await)?;
    }
    Ok(())
}
