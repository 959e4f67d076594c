//! A short form of `scripts/siege`: some of the cheapest attacks, and nobody else notices.

use tests::harness::options::Kind;
use tests::siege::Siege;
use tests::siege::all;

/// No times: how long something takes depends on what else this machine does.
const SHORT: Siege = Siege {
    secs: 2,
    rounds_before: 1,
    rounds_after: 1,
};

const CHEAPEST: [&str; 6] = [
    "prs-from-many-keys",
    "chain-of-maintainers",
    "half-open",
    "slow-pushes",
    "strange-requests",
    "deep-json",
];

#[tokio::test(flavor = "multi_thread")]
async fn the_cheapest_attacks_cost_others_nothing() {
    for name in CHEAPEST {
        let attack = all().into_iter().find(|attack| attack.name == name).expect(name);

        let line = SHORT.lay(Kind::Embedded, &attack).await.expect("it can be done");

        assert!(
            line.broken().is_empty(),
            "{line}\n{}\n{:?}",
            line.answers(),
            line.broken()
        );
    }
}
