//! The first five minutes of README.md: its scripts, a push and a clone.

use std::fs;
use std::path::Path;

use tests::harness::process::Process;
use tests::harness::process::free_port;
use tests::harness::process::program;
use tests::harness::process::shell;
use tests::harness::wait::eventually;
use tests::harness::wait::is_listened_at;

const README: &str = include_str!("../../../../README.md");

#[tokio::test(flavor = "multi_thread")]
async fn the_first_lines_of_the_readme_end_in_a_clone() {
    // Of the scripts there is a copy: they put the program into `target` beside them.
    let folder = tempfile::tempdir().unwrap();
    let scripts = folder.path().join("scripts");
    fs::create_dir(&scripts).unwrap();
    for name in ["quickstart", "first-repository", "install-packages"] {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts").join(name);
        fs::copy(script, scripts.join(name)).unwrap();
    }
    // Named from the folder of whoever calls, which is another one.
    let start = format!(
        "cd '{}' && exec '{}/quickstart' ./grasp-gateway",
        program("grasp-gateway").parent().unwrap().display(),
        scripts.display()
    );
    follow_the_readme(folder.path(), start).await;
}

/// Does what the README says in a folder that has its scripts, with a server that a command starts.
pub(super) async fn follow_the_readme(folder: &Path, start: String) {
    let port = free_port();
    let environment = [("GRASP_BIND", format!("127.0.0.1:{port}"))];
    let arguments = ["-c".to_owned(), start];
    let _server = Process::start_with(Path::new("/bin/sh"), &arguments, &folder.join("log"), &environment);
    eventually("it listens", async || is_listened_at(("127.0.0.1", port)).await).await;
    let commands: Vec<&str> = README
        .lines()
        .filter(|line| {
            ["scripts/first-repository ws:", "git -C grasp-try push", "git clone"]
                .iter()
                .any(|start| line.starts_with(start))
        })
        .collect();
    let commands = commands
        .join("\n")
        .replace("127.0.0.1:7334", &format!("127.0.0.1:{port}"));

    shell(&format!("set -e; cd '{}'\n{commands}", folder.display()), "").await;

    let cloned = fs::read_to_string(folder.join("grasp-try-clone/README")).unwrap();
    assert_eq!(cloned, "Hello, nostr.\n");
    let next = format!(
        "set -e; cd '{}'; echo more >>grasp-try/README
         git -C grasp-try -c user.name=nobody -c user.email=nobody@localhost commit --quiet --all --message More
         ! git -C grasp-try push --quiet origin main
         scripts/first-repository ws://127.0.0.1:{port}
         git -C grasp-try push --quiet origin main && git -C grasp-try-clone pull --quiet",
        folder.display()
    );
    shell(&next, "").await;
    let pulled = fs::read_to_string(folder.join("grasp-try-clone/README")).unwrap();
    assert_eq!(pulled, "Hello, nostr.\nmore\n");
}
