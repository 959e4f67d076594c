//! Measures what each step of the purgatory costs Redis when one attacker has filled its limits (`scripts/redis-cost`).
//!
//! Ends with 1 if a script took longer than it may.

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use tests::load::redis_cost::RedisCost;

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut output = std::io::stdout().lock();
    let mut is_within = true;
    for cost in RedisCost::measure().await? {
        writeln!(output, "{cost}")?;
        is_within &= cost.is_within();
    }
    Ok(match is_within {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
