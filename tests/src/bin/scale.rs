//! Measures a server with very much on disk and very much held (`scripts/scale`).
//!
//! `scale [--repositories <n>] [--announced <n>] [--held <n>] [--pushes <n>] [--watch-secs <n>]`; 0 leaves a part out.

use std::error::Error;
use std::io::Write;
use std::time::Duration;

use tests::load::scale::held::HeldCosts;
use tests::load::scale::start::Start;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (mut repositories, mut announced, mut held, mut pushes) = (100_000, usize::MAX, 1_000_000, 30);
    let mut watch = Duration::from_secs(60);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let number: usize = arguments.next().ok_or("a number is missing")?.parse()?;
        match &*name {
            "--repositories" => repositories = number,
            "--announced" => announced = number,
            "--held" => held = number,
            "--pushes" => pushes = number,
            "--watch-secs" => watch = Duration::from_secs(number as u64),
            _ => return Err(format!("unknown option {name}").into()),
        }
    }
    let mut output = std::io::stdout();
    if repositories > 0 {
        let announced = announced.min(repositories);
        writeln!(output, "{repositories} repositories, {announced} of them announced")?;
        for start in Start::measure(repositories, announced, pushes, watch).await {
            writeln!(output, "{start}")?;
        }
    }
    if held > 0 {
        write!(output, "{}", HeldCosts::measure(held, pushes).await)?;
    }
    Ok(())
}
