//! The siege: each known attack by one unprivileged client, beside an honest user whose operations are timed before,
//! during and after it, and what the server took for it beside its bounds.
//!
//! `scripts/siege` runs it; `tests/tests/siege.rs` runs a short form. docs/strangers.md says what it shows.

mod attack;
mod attacker;
mod attacks;
mod bounds;
mod honest;
mod line;
mod own_repository;
mod times;
mod websocket;

use std::time::Duration;

pub use attack::Attack;
use attacker::ADDRESS;
use attacker::Attacker;
use attacker::Effort;
use attacker::Victim;
pub use attacks::all;
use bounds::Watched;
use honest::HonestUser;
pub use line::Line;
use wire::path::repository_path;

use crate::harness::options::Kind;
use crate::harness::world::World;
use crate::siege::attack::Route;

/// How long each part takes.
#[derive(Debug, Clone, Copy)]
pub struct Siege {
    /// For how long each attack goes on.
    pub secs: u64,
    /// How often the honest user does everything before an attack.
    pub rounds_before: usize,
    /// And after it.
    pub rounds_after: usize,
}

impl Siege {
    /// Does one attack in a world of its own; `None`: it cannot be done there.
    ///
    /// # Panics
    /// The world does not start, or the honest user is refused before the attack.
    pub async fn lay(self, kind: Kind, attack: &Attack) -> Option<Line> {
        if !attack.worlds.contains(&kind) {
            return None;
        }
        let mut world = World::start(kind, attack.options()).await;
        let mut honest = HonestUser::new(&world).await;
        let attacker = attacker(&world, &honest, attack.route);
        let effort = attacker.effort.clone();
        // Before the preparations: what they leave behind is a part of the attack.
        let before = honest.rounds(self.rounds_before).await;
        let watch = Watched::new(&mut world).await.watch().await;
        // One whose author cannot even prepare it is a line of the table too.
        let prepared = tokio::spawn((attack.prepare)(attacker)).await;
        honest.come_back().await;
        let mut assault = tokio::spawn(async move { prepared.unwrap().await });
        let over = tokio::time::sleep(Duration::from_secs(self.secs));
        let (during, ()) = honest.rounds_until(ROUNDS_DURING_MIN, over).await;
        assault.abort();
        let failed = (&mut assault).await.is_err_and(|error| error.is_panic());
        let growth = watch.end(&effort).await;
        let after = honest.rounds(self.rounds_after).await;
        Some(Line {
            attack: *attack,
            kind,
            before,
            during,
            after,
            growth,
            answers: effort.answers(),
            has_failed: failed || effort.spent().0 == 0,
        })
    }
}

/// Somebody with a folder of his own, who knows of the honest user what everybody knows.
fn attacker(world: &World, honest: &HonestUser, route: Route) -> Attacker {
    let folder = world.folder().join("attacker");
    std::fs::create_dir_all(&folder).unwrap();
    let coordinate = honest.repository.coordinate();
    Attacker {
        server: world.authority().parse().unwrap(),
        address: ADDRESS,
        fields: match route {
            Route::Direct => "",
            Route::TrustedProxy => "x-forwarded-for: 203.0.113.5\r\n",
        },
        victim: Victim {
            path: repository_path(&coordinate),
            coordinate,
            tip: honest.tip.clone(),
        },
        folder,
        effort: Effort::default(),
    }
}

/// How often he does everything during an attack, however long that takes.
const ROUNDS_DURING_MIN: usize = 3;
