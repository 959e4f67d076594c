//! Measures how long a small `git push` takes beside one to `file://` (`scripts/push-time`).
//!
//! `push-time [<repositories>]`: one push into each, embedded and beside a relay with Redis.

use std::error::Error;
use std::io::Write;

use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::world::World;
use tests::load::push_time::PushTimes;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let repositories = std::env::args().nth(1).map_or(Ok(30), |count| count.parse())?;
    for (name, kind) in [("embedded", Kind::Embedded), ("beside strfry", Kind::Strfry)] {
        let world = World::start(kind, Options::default()).await;
        let times = PushTimes::measure(&world, repositories).await;
        let (into_world, into_file) = times.medians();
        writeln!(
            std::io::stdout(),
            "{name}: {repositories} small pushes into fresh repositories, p50 {:.1} ms; file:// {:.1} ms; {:.2} times",
            into_world.as_secs_f64() * 1e3,
            into_file.as_secs_f64() * 1e3,
            into_world.as_secs_f64() / into_file.as_secs_f64(),
        )?;
    }
    Ok(())
}
