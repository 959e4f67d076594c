//! What an operator finds out about repositories, and does about them, by `grasp-gateway repo`.

use serde_json::Value;
use shared::nip34;
use tests::clients::nostr::now;
use tests::clients::nostr::sign;
use tests::clients::nostr::tag;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::process::program;
use tests::harness::process::shell;
use tests::harness::wait::eventually;
use tests::harness::world::World;

use crate::fixture::Served;
use crate::fixture::in_both_worlds;

in_both_worlds!(what_is_well_is_found_well);

async fn what_is_well_is_found_well(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "my repo").await;
    let npub = served.repository.npub();
    let name = format!("{npub}/my repo");

    let (code, text) = world.repo(&["check", "--all"]).await;
    assert_eq!(
        (code, text.as_str()),
        (0, format!("1/1 {name}: ok\n1 checked, 0 wrong\n").as_str())
    );
    let (code, text) = world.repo(&["show", &name]).await;
    for part in [
        &name,
        "its announcement is served",
        &npub,
        "1 as declared, 0 not",
        "nothing waits",
    ] {
        assert!(code == 0 && text.contains(part), "{part} in {text}");
    }
    let (_, json) = world.repo(&["show", "--json", &name]).await;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&json["state"], &json["status"]),
        (&served.state.id.to_hex().into(), &"served".into())
    );
    let unknown = world.repo(&["check", &format!("{npub}/other")]).await;
    assert!(
        unknown.0 == 1 && unknown.1.contains("no announcement that names this server"),
        "{unknown:?}"
    );

    for (by, first) in [("size", name.as_str()), ("name", &name), ("owner", &npub)] {
        let command = format!(
            "{} repo list --by={by} --owner={npub} --data-dir='{}'",
            program("grasp-gateway").display(),
            world.folder().join("data").display()
        );
        let listed = shell(&command, "").await;
        let rows: Vec<&str> = listed.lines().collect();
        assert!(rows[1].ends_with(first) && rows[2].ends_with("in all"), "{listed}");
        let json: Value = serde_json::from_str(&shell(&(command + " --json"), "").await).unwrap();
        assert!(
            json[0]["name"] == *first && json[0]["bytes"].as_u64() > Some(100),
            "{json}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_is_named_and_a_gateway_mends_what_it_can() {
    let mut world = World::start(Kind::Strfry, Options::default()).await;
    let mut nostr = world.nostr().await;
    let moved = Served::new(&world, &mut nostr, "moved").await;
    let lost = Served::new(&world, &mut nostr, "lost").await;
    let orphan = Served::new(&world, &mut nostr, "orphan").await;
    let deletion = [tag(&["a", &orphan.repository.coordinate().to_string()])];
    let deletion = sign(&orphan.repository.owner, nip34::DELETION, now(), &deletion);
    assert!(nostr.send(&deletion).await.taken);
    world.kill_gateway().await;
    let folder = |served: &Served| {
        let owner = served.repository.owner.public_key().to_hex();
        let identifier = &served.repository.identifier;
        world.repositories().join(owner).join(format!("{identifier}.git"))
    };
    let surplus = format!(
        "git --git-dir='{}' branch surplus {}",
        folder(&moved).display(),
        moved.commit
    );
    shell(&surplus, "").await;
    shell(&format!("rm '{}'/objects/pack/pack-*", folder(&lost).display()), "").await;

    let (code, text) = world.repo(&["check", "--all"]).await;

    assert!(code == 1 && text.ends_with("3 checked, 3 wrong\n"), "{text}");
    for part in [
        &format!(
            "refs/heads/surplus is at {}, and state {}",
            moved.commit, moved.state.id
        ),
        "does not declare it",
        &lost.commit,
        "orphan: WRONG\n    no announcement that names this server",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let json = world.repo(&["check", "--all", "--json", "--refs-only"]).await.1;
    let faulty = json.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    assert_eq!(
        faulty.filter(|found| found["faults"][0].is_string()).count(),
        2,
        "{json}"
    );

    let name = format!("{}/moved", moved.repository.npub());
    let (code, text) = world.repo(&["repair", "--wait-secs=1", &name]).await;
    assert!(code == 1 && text.contains("no gateway has reconciled it"), "{text}");
    let (code, text) = world.repo(&["repair", "--all", "--refs-only", "--wait-secs=1"]).await;
    let unreconciled = text.matches("no gateway has reconciled it").count();
    assert!(code == 1 && unreconciled == 3, "{text}");
    world.start_gateway().await;
    eventually("it is mended", async || world.repo(&["repair", &name]).await.0 == 0).await;
    let (code, text) = world.repo(&["check", &name]).await;
    assert!(code == 0 && text.contains("moved: ok"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_away_is_named_and_not_taken_for_a_fault() {
    let mut world = World::start(Kind::Strfry, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    world.stop_relay().await;

    let (code, text) = world.repo(&["check", "--all"]).await;

    assert!(code == 1 && text.contains("cannot read the facts about"), "{text}");
    assert!(!text.contains("WRONG") && text.contains("relay"), "{text}");
    assert!(!served.commit.is_empty());
}
