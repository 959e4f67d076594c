//! The packs of repositories are maintained by the gateway and by its operator, and no reader is harmed.

use std::time::Duration;

use tests::clients::nostr::now;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::process::program;
use tests::harness::process::shell;
use tests::harness::wait::eventually;
use tests::harness::wait::within;
use tests::harness::world::World;
use tests::load::steady_reading::maintain_all;
use tests::load::steady_reading::read_while_refs_change;

use crate::fixture::Served;
use crate::fixture::in_both_worlds;

in_both_worlds!(
    readers_see_every_push_whole_while_refs_change_and_packs_are_maintained,
    a_large_push_is_indexed_without_anybody_asking,
    commits_that_no_ref_and_no_held_state_names_go,
);

/// Maintenance has the lowest priority, and beside the other tests only what they leave of the processors.
const MAINTAINED_WITHIN: Duration = Duration::from_secs(180);

/// `scripts/bench --only steady` is the longer form.
async fn readers_see_every_push_whole_while_refs_change_and_packs_are_maintained(kind: Kind) {
    let options = Options {
        gateway: &["--maintenance-packs-max=2"],
        ..Options::default()
    };
    let world = World::start(kind, options).await;

    let seen = read_while_refs_change(&world, 2_000).await;

    assert_eq!(
        (seen.with_missing_refs, seen.halves, seen.failed_clones),
        (0, 0, 0),
        "{seen:?}"
    );
    assert!(seen.listings > 10 && seen.clones > 3 && seen.maintained > 1, "{seen:?}");
}

async fn a_large_push_is_indexed_without_anybody_asking(kind: Kind) {
    let mut world = World::start(kind, Options::default()).await;
    let served = Served::new(&world, &mut world.nostr().await, "r").await;
    // Nothing packs it.
    let content: Vec<u8> = (0..500_000_u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    std::fs::write(world.folder().join("large"), &content).unwrap();
    let work = world.folder().join(format!("work-{}", served.repository.npub()));
    std::fs::copy(world.folder().join("large"), work.join("large")).unwrap();
    served.git.run(&["add", "large"]).await.expect_ok();
    let commit = served.git.commit("large one").await;
    let state = served.repository.state(now(), &[("refs/heads/main", &commit)]);
    assert!(world.nostr().await.send(&state).await.taken);

    served.git.push(&served.url, &["main"]).await.expect_ok();

    let packs = world
        .repositories()
        .join(served.repository.owner.public_key().to_hex())
        .join("r.git/objects/pack");
    let is_indexed = || {
        let names = std::fs::read_dir(&packs)
            .unwrap()
            .map(|entry| entry.unwrap().file_name());
        let names: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
        names
            .iter()
            .any(|name| name.starts_with("multi-pack-index-") && name.ends_with(".bitmap"))
    };
    within(MAINTAINED_WITHIN, "it has bitmaps", async || is_indexed()).await;
    assert!(world.clone(&served.repository, "clone").await.is_some());
    // After a crash too.
    world.kill_gateway().await;
    world.start_gateway().await;
    assert!(world.clone(&served.repository, "another").await.is_some());
}

async fn commits_that_no_ref_and_no_held_state_names_go(kind: Kind) {
    let options = Options {
        gateway: &["--unreachable-keep-secs=0"],
        ..Options::default()
    };
    let world = World::start(kind, options).await;
    let mut nostr = world.nostr().await;
    let (mut repositories, mut seconds) = (Vec::new(), Vec::new());
    for name in ["wanted", "forgotten"] {
        let served = Served::new(&world, &mut nostr, name).await;
        let second = served.git.commit("two").await;
        let state = served.repository.state(now() - 50, &[("refs/heads/main", &second)]);
        assert!(nostr.send(&state).await.taken);
        served.git.push(&served.url, &["main"]).await.expect_ok();
        repositories.push(served);
        seconds.push(second);
    }
    let [wanted, forgotten] = [&repositories[0], &repositories[1]];
    let third = wanted.git.commit("three").await;
    let declared = [("refs/heads/main", &*seconds[0]), ("refs/heads/other", &third)];
    assert!(nostr.send(&wanted.repository.state(now() - 30, &declared)).await.taken);
    let has = async |served: &Served, oid: &str| {
        let owner = served.repository.owner.public_key().to_hex();
        let path = world.repositories().join(owner);
        let path = path.join(format!("{}.git", served.repository.identifier));
        let said = shell(
            &format!("git -C {} cat-file -e {oid} && echo yes || echo no", path.display()),
            "",
        )
        .await;
        said.trim() == "yes"
    };

    // One after the other is maintained.
    for served in [wanted, forgotten] {
        let back = served
            .repository
            .state(now() - 40, &[("refs/heads/main", &served.commit)]);
        assert!(nostr.send(&back).await.taken);
        let expected = [("refs/heads/main".to_owned(), served.commit.clone())];
        eventually("the branch is set back", async || served.refs().await == expected).await;
    }

    let is_gone = async || !has(forgotten, &seconds[1]).await;
    within(MAINTAINED_WITHIN, "what nobody wants is gone", is_gone).await;
    assert!(has(wanted, &seconds[0]).await);
    assert!(world.clone(&forgotten.repository, "clone").await.is_some());
    // It need not be pushed again.
    let other = format!("{third}:refs/heads/other");
    wanted.git.push(&wanted.url, &[&other]).await.expect_ok();
    eventually("both branches are there", async || wanted.refs().await.len() == 2).await;
    assert!(world.clone(&wanted.repository, "another").await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_has_repositories_maintained_and_hears_of_each() {
    let world = World::start(Kind::Embedded, Options::default()).await;
    let served = Served::new(&world, &mut world.nostr().await, "r").await;
    let name = format!("{}/r", served.repository.npub());

    let first = maintain_all(&world).await;
    let second = maintain_all(&world).await;

    assert!(
        first.contains(&format!("1/1 {name}: 0 packs combined, 1 indexed")),
        "{first}"
    );
    assert!(second.contains(&format!("1/1 {name}: nothing to do")), "{second}");
    assert!(!first.contains('\r'), "no bar where nobody sees it");
    let gateway = program("grasp-gateway").display().to_string();
    let data = world.folder().join("data").display().to_string();
    for (arguments, text) in [
        (format!("{name} --data-dir={data}"), "nothing to do"),
        (format!("{name}x --data-dir={data}"), "the repository does not exist"),
        (
            format!("{name} --data-dir={data}x"),
            "give the gateway's directory with --data-dir",
        ),
        (format!("--data-dir={data}"), "NPUB/IDENTIFIER"),
    ] {
        let said = shell(&format!("{gateway} repo maintain {arguments} 2>&1 || true"), "").await;
        assert!(said.contains(text), "{arguments}: {said}");
    }
    assert!(!std::path::Path::new(&format!("{data}x")).exists());
    assert!(world.clone(&served.repository, "clone").await.is_some());
}
