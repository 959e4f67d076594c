//! The commands of docs/how-to.md, as they stand there, with the addresses and paths of a test.

use tests::clients::nostr::now;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::process::program;
use tests::harness::process::shell;
use tests::harness::redis::RedisSetup;
use tests::harness::wait::eventually;
use tests::harness::world::World;

use crate::fixture::Served;

const DOCUMENT: &str = include_str!("../../../../docs/how-to.md");

/// Returns the commands under each heading, but for those that say why they are not run.
fn recipes() -> Vec<(&'static str, String)> {
    let mut recipes = Vec::new();
    for section in DOCUMENT.split("\n## ").skip(1) {
        let heading = section.lines().next().unwrap();
        let blocks = section.match_indices("```sh\n").filter_map(|(start, fence)| {
            let is_run = !section[..start].trim_end().ends_with("-->");
            let block = section[start + fence.len()..].split("```").next().unwrap();
            is_run.then_some(block)
        });
        recipes.push((heading, blocks.collect::<String>()));
    }
    recipes
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_how_tos_does_what_it_says() {
    let options = Options {
        gateway: &["--admin-bind=127.0.0.1:0"],
        redis: RedisSetup::Alone,
        with_deny_list: true,
        ..Options::default()
    };
    let world = World::start(Kind::Strfry, options).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let undeclared = served.git.commit("two").await;
    let said = served.git.push(&served.url, &["main"]).await.expect_refused();
    let number = said.split_once("request ").unwrap().1.split_once(':').unwrap().0;
    let state = served.repository.state(now(), &[("refs/heads/main", &undeclared)]);
    assert!(nostr.send(&state).await.taken);
    let data = world.repositories().parent().unwrap().to_owned();
    eventually("disk use is written", async || data.join("disk-use").exists()).await;
    let (admin, npub) = (world.admin_authority().await, served.repository.npub());
    let programs = program("grasp-gateway").parent().unwrap().to_owned();
    let redis = world.redis_port().unwrap();
    let run = async |recipe: &str| {
        let recipe = recipe
            // The test has made what is there as its own user.
            .replace("runuser -u grasp -- ", "")
            .replace("127.0.0.1:7335", &admin)
            .replace("/var/lib/grasp", data.to_str().unwrap())
            .replace("/etc/grasp", world.folder().to_str().unwrap())
            .replace("<number>", number)
            .replace("<event-id>", &state.id.to_hex())
            .replace("<npub>", &npub)
            .replace("<identifier>", "r");
        let head = format!(
            "set -e; export PATH='{}':$PATH GRASP_REDIS_URL=redis://127.0.0.1:{redis} GRASP_DATA_DIR='{}' GRASP_DOMAIN={}; \
             export GRASP_RELAY_URL=ws://127.0.0.1:{}; unset AUDIT_BIN\n",
            programs.display(),
            data.display(),
            world.authority(),
            world.relay_port()
        );
        shell(&(head + &recipe), "").await
    };

    let recipes = recipes();
    let mut outputs = Vec::new();
    for (heading, recipe) in &recipes {
        outputs.push((*heading, run(recipe).await));
    }

    let output = |start: &str| {
        &outputs
            .iter()
            .find(|(heading, _)| heading.starts_with(start))
            .unwrap()
            .1
    };
    assert!(output("See whether").starts_with("ready"));
    assert!(output("Explain").contains("refs/heads/main"));
    let found = output("Find out");
    assert!(found.contains("still waits") && found.contains("dropped"), "{found}");
    assert!(output("See who").contains(&format!("{npub}/r\n")));
    let checked = output("Check the");
    assert!(
        checked.contains("r: ok") && checked.contains("its announcement is served"),
        "{checked}"
    );
    let page = format!("/{npub}/r.git");
    eventually("it is taken down", async || world.get(&page, "").await.0 == 404).await;
    let denied = std::fs::read_to_string(world.folder().join("authors-deny")).unwrap();
    assert!(denied.contains(&npub), "{denied}");
    assert!(recipes.iter().filter(|(_, recipe)| recipe.is_empty()).count() < 3);
}
