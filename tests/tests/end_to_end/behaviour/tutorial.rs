//! docs/tutorial.md, followed with ngit itself.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::process::shell;
use tests::harness::world::World;

const TUTORIAL: &str = include_str!("../../../../docs/tutorial.md");

/// What stands before the commands that are run here.
const MARK: &str = "<!-- run by tests/tests/end_to_end/behaviour/tutorial.rs -->\n```sh\n";

/// With the programs of ngit in the folder `NGIT_BIN`; it takes minutes to compile, so that no script installs it.
#[tokio::test(flavor = "multi_thread")]
async fn the_tutorial_ends_in_a_merged_pull_request() {
    let Some(programs) = std::env::var_os("NGIT_BIN").map(PathBuf::from) else {
        return;
    };
    let world = World::start(Kind::Embedded, Options::default()).await;
    let home = world.folder().join("home");
    fs::create_dir(&home).unwrap();
    fs::write(
        home.join(".gitconfig"),
        "[user]\nname = nobody\nemail = nobody@localhost\n",
    )
    .unwrap();
    fs::write(home.join("folder"), home.display().to_string()).unwrap();
    let environment = environment(&home, &programs, &world.authority());
    let mut said = String::new();

    for after in TUTORIAL.split(MARK).skip(1) {
        let commands = after.split("```").next().unwrap();
        let commands = commands
            .replace("127.0.0.1:7334", &world.authority())
            .replace("<id>", "$(ngit pr list | grep -om1 '^[0-9a-f]\\{64\\}')");
        // Each goes on in the folder in which the one before has ended.
        said = shell(&format!("{environment}{commands}pwd >$HOME/folder\n"), "").await;
    }

    assert!(said.contains("Greet everybody"), "{said}");
    let merged = fs::read_to_string(home.join("hello/README.md")).unwrap();
    assert_eq!(merged, "Hello, nostr.\nServed by events.\nHello, everybody.\n");
    assert!(home.join("reader/README.md").exists());
}

/// Nothing is told to relays or asked of servers of the public internet.
fn environment(home: &Path, programs: &Path, authority: &str) -> String {
    let home = home.display();
    let relays = ["RELAY_DEFAULT", "RELAY_SIGNER_FALLBACK", "RELAY_BLASTER"]
        .map(|set| format!("export NGIT_{set}_SET=ws://{authority}\n"))
        .concat();
    format!(
        "set -e; cd \"$(cat '{home}/folder')\"\nexport HOME='{home}' PATH='{}':$PATH GIT_TERMINAL_PROMPT=0\n\
         export XDG_CONFIG_HOME=$HOME/c XDG_DATA_HOME=$HOME/d XDG_STATE_HOME=$HOME/s XDG_CACHE_HOME=$HOME/k\n\
         {relays}export NGIT_GRASP_DEFAULT_SET=http://{authority}\n",
        programs.display()
    )
}
