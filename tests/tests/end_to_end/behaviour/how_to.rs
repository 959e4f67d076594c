//! The commands of the documents for operators, as they stand there, with the addresses and paths of a test.

use nostr::event::Event;
use tests::clients::nostr::now;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::process::program;
use tests::harness::process::shell;
use tests::harness::redis::RedisSetup;
use tests::harness::wait::eventually;
use tests::harness::world::World;

use crate::fixture::Served;

/// In this order: the last one takes a repository down.
const DOCUMENTS: [(&str, &str); 6] = [
    (
        "docs/configuration.md",
        include_str!("../../../../docs/configuration.md"),
    ),
    ("README.md", include_str!("../../../../README.md")),
    ("docs/redis.md", include_str!("../../../../docs/redis.md")),
    ("docs/operations.md", include_str!("../../../../docs/operations.md")),
    ("docs/first-hour.md", include_str!("../../../../docs/first-hour.md")),
    ("docs/how-to.md", include_str!("../../../../docs/how-to.md")),
];

/// Returns the commands under each heading, but for those that say by what they are run, or why they are not.
fn recipes(document: &'static str) -> Vec<(&'static str, String)> {
    let mut recipes = Vec::new();
    for section in document.split("\n## ") {
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

/// Returns the commands in the tables of a document.
fn commands_in_tables(document: &str) -> Vec<&str> {
    let rows = document.lines().filter(|line| line.starts_with('|'));
    let quoted = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
    let ours = ["grasp-gateway ", "runuser -u grasp -- grasp-gateway "];
    quoted
        .filter(|text| ours.iter().any(|start| text.starts_with(start)))
        .collect()
}

/// A world in which something is served, something waits and something was refused.
struct Operated {
    world: World,
    served: Served,
    undeclared: Event,
    number: String,
    admin: String,
}

impl Operated {
    async fn new() -> Self {
        let options = Options {
            gateway: &["--admin-bind=127.0.0.1:0"],
            redis: RedisSetup::Alone,
            with_deny_list: true,
            ..Options::default()
        };
        let world = World::start(Kind::Strfry, options).await;
        let mut nostr = world.nostr().await;
        let served = Served::new(&world, &mut nostr, "r").await;
        let (undeclared, number) = served.push_undeclared().await;
        let undeclared = served.repository.state(now(), &[("refs/heads/main", &undeclared)]);
        assert!(nostr.send(&undeclared).await.taken);
        let data = world.repositories().parent().unwrap().to_owned();
        eventually("disk use is written", async || data.join("disk-use").exists()).await;
        let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../strfry-config/grasp.toml");
        std::fs::copy(shipped, world.folder().join("config.toml")).unwrap();
        Self {
            admin: world.admin_authority().await,
            number,
            undeclared,
            served,
            world,
        }
    }

    /// Runs commands of a document.
    async fn run(&self, commands: &str) -> String {
        let world = &self.world;
        let data = world.repositories().parent().unwrap().display().to_string();
        let redis = world.redis_port().unwrap();
        let commands = commands
            // The test has made what is there as its own user.
            .replace("runuser -u grasp -- ", "")
            .replace("redis-cli ", &format!("redis-cli -p {redis} "))
            .replace("127.0.0.1:7335", &self.admin)
            .replace("/var/lib/grasp", &data)
            .replace("/etc/grasp", world.folder().to_str().unwrap())
            .replace("<number>", &self.number)
            .replace("<event-id>", &self.undeclared.id.to_hex())
            .replace("<npub>", &self.served.repository.npub())
            .replace("<hex>", &self.served.repository.owner.public_key().to_hex())
            .replace("<pubkey>", &self.served.repository.owner.public_key().to_hex())
            .replace("<identifier>", "r");
        let head = format!(
            "set -e; export PATH='{}':$PATH GRASP_REDIS_URL=redis://127.0.0.1:{redis} GRASP_DATA_DIR='{data}' \
             GRASP_DOMAIN={}; export GRASP_RELAY_URL=ws://127.0.0.1:{}; unset AUDIT_BIN\n",
            program("grasp-gateway").parent().unwrap().display(),
            world.authority(),
            world.relay_port()
        );
        shell(&(head + &commands), "").await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_documents_does_what_it_says() {
    let operated = Operated::new().await;
    let (world, npub) = (&operated.world, operated.served.repository.npub());
    let mut outputs = Vec::new();
    for (name, document) in DOCUMENTS {
        let recipes = recipes(document);
        assert!(recipes.iter().any(|(_, recipe)| !recipe.is_empty()), "{name}");
        for (heading, recipe) in recipes {
            outputs.push((name, heading, operated.run(&recipe).await));
        }
    }

    let output = |name: &str, start: &str| {
        let found = outputs
            .iter()
            .find(|(document, heading, _)| *document == name && heading.starts_with(start));
        &found.unwrap_or_else(|| panic!("{name}: {start}")).2
    };
    let how_to = |start: &str| output("docs/how-to.md", start);
    assert!(how_to("See whether").starts_with("ready"));
    assert!(how_to("Explain").contains("refs/heads/main"));
    let found = how_to("Find out");
    assert!(found.contains("still waits") && found.contains("dropped"), "{found}");
    assert!(how_to("See who").contains(&format!("{npub}/r\n")));
    let checked = how_to("Check the");
    assert!(
        checked.contains("r: ok") && checked.contains("its announcement is served"),
        "{checked}"
    );
    let changed = how_to("Change a");
    assert!(changed.contains("#hold-secs"), "{changed}");
    let page = format!("/{npub}/r.git");
    eventually("it is taken down", async || world.get(&page, "").await.0 == 404).await;
    let denied = std::fs::read_to_string(world.folder().join("authors-deny")).unwrap();
    assert!(denied.contains(&npub), "{denied}");
    let held = operated.undeclared.id.to_hex();
    for (name, heading) in [
        ("README.md", "Which events"),
        ("docs/redis.md", "Reading it"),
        ("docs/operations.md", "Looking into"),
    ] {
        let text = output(name, heading);
        assert!(text.contains(&held), "{name}: {text}");
    }
    assert!(output("docs/first-hour.md", "Afterwards").contains("1 checked, 0 wrong"));
}

/// Returns the commands of `docs/redis.md` that drop an event.
fn drop_recipe() -> &'static str {
    let (_, document) = DOCUMENTS.iter().find(|(name, _)| *name == "docs/redis.md").unwrap();
    let marked = document.split("<!-- run by tests/tests/end_to_end/behaviour/how_to.rs -->\n```sh\n");
    marked.last().unwrap().split("```").next().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_event_is_dropped_with_redis_cli_as_documented() {
    let operated = Operated::new().await;
    let (world, undeclared) = (&operated.world, &operated.undeclared);
    let listed = async || operated.run("grasp-gateway purgatory list --json").await;
    assert!(listed().await.contains(&undeclared.id.to_hex()));

    let output = operated.run(drop_recipe()).await;

    assert!(output.starts_with("held\n[\"30617:"), "{output}");
    assert!(!listed().await.contains(&undeclared.id.to_hex()));
    let shown = operated
        .run("grasp-gateway purgatory show <event-id> 2>&1 || true")
        .await;
    assert!(!shown.contains("waits for"), "{shown}");
    let dirty = async || operated.run("redis-cli ZCARD '{purgatory}:dirty'").await;
    eventually("its repository is reconciled", async || dirty().await == "0\n").await;
    let mut nostr = world.nostr().await;
    assert!(nostr.serves(&operated.served.state).await, "what is served stays");
    assert!(nostr.send(undeclared).await.taken, "its author may send it again");
    let Served { git, url, .. } = &operated.served;
    git.push(url, &["main"]).await.expect_ok();
    eventually("it is served", async || nostr.serves(undeclared).await).await;
}

/// Whether a command succeeds depends on what is wrong: here, that there is such a command.
#[tokio::test(flavor = "multi_thread")]
async fn every_command_in_the_tables_of_the_first_hour_is_one() {
    let operated = Operated::new().await;
    let (_, document) = DOCUMENTS
        .iter()
        .find(|(name, _)| *name == "docs/first-hour.md")
        .unwrap();
    let commands = commands_in_tables(document);
    assert!(commands.len() > 8, "{commands:?}");

    for command in commands {
        let output = operated.run(&format!("{command} 2>&1 || true")).await;

        assert!(
            !output.contains("unexpected") && !output.contains("unrecognized"),
            "{command}: {output}"
        );
    }
}
