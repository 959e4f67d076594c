//! Measures what it costs that strangers use the same identifier (`scripts/namesakes`).
//!
//! `namesakes [<strangers> [<repositories>]]`, embedded and beside a relay with Redis.

use std::error::Error;
use std::io::Write;

use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::world::World;
use tests::load::measure::median;
use tests::load::namesakes::NamesakeTimes;

/// All strangers come from one address here.
const OPTIONS: Options = Options {
    held: &["--new-repositories-per-source-and-day-max=1000000"],
    ..Options::DEFAULT
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let strangers = args.next().map_or(Ok(2000), |count| count.parse())?;
    let repositories = args.next().map_or(Ok(40), |count| count.parse())?;
    for (name, kind) in [("embedded", Kind::Embedded), ("beside strfry", Kind::Strfry)] {
        let world = World::start(kind, OPTIONS).await;
        let times = NamesakeTimes::measure(&world, strangers, repositories).await;
        for (what, [alone, crowded]) in [("an event", &times.events), ("a push", &times.pushes)] {
            let (alone, crowded) = (median(alone), median(crowded));
            writeln!(
                std::io::stdout(),
                "{name}: {what}, p50: {:.2} ms with a name of its own, {:.2} ms with one that {strangers} strangers \
                 use; {:.2} times",
                alone.as_secs_f64() * 1e3,
                crowded.as_secs_f64() * 1e3,
                crowded.as_secs_f64() / alone.as_secs_f64(),
            )?;
        }
    }
    Ok(())
}
