//! The first five minutes of README.md: its scripts, a push and a clone.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

use tests::harness::process::Process;
use tests::harness::process::free_port;
use tests::harness::process::program;
use tests::harness::process::shell;
use tests::harness::wait::eventually;
use tests::harness::wait::is_listened_at;

const README: &str = include_str!("../../../../README.md");

#[tokio::test(flavor = "multi_thread")]
async fn the_first_lines_of_the_readme_end_in_a_clone() {
    let folder = tempfile::tempdir().unwrap();
    let scripts = copy_scripts(folder.path());
    // Named from the folder of whoever calls, which is another one.
    let start = format!(
        "cd '{}' && exec '{}/quickstart' ./grasp-gateway",
        program("grasp-gateway").parent().unwrap().display(),
        scripts.display()
    );
    follow_the_readme(folder.path(), start).await;
}

/// Where a compiler was there that is no package of Debian's, gcc was asked for all the same.
#[tokio::test(flavor = "multi_thread")]
async fn only_what_a_build_lacks_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let scripts = copy_scripts(folder.path());
    let (programs, asked) = (folder.path().join("programs"), folder.path().join("asked"));
    fs::create_dir(&programs).unwrap();
    let place = |file: PathBuf, script: &str| {
        fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(0o700)).unwrap();
    };
    place(scripts.join("install-packages"), "echo \"$@\" >asked; exit 1");
    let built = program("grasp-gateway");
    let build = format!(
        "mkdir -p target/release && ln -sf '{}' target/release/grasp-gateway",
        built.display()
    );
    place(programs.join("cargo"), &build);
    let quickstart = format!(
        "env PATH='{}':\"$PATH\" '{}/quickstart'",
        programs.display(),
        scripts.display()
    );

    follow_the_readme(folder.path(), format!("exec {quickstart}")).await;

    assert!(!asked.exists(), "{:?}", fs::read_to_string(&asked));
    place(programs.join("cc"), "exit 1");
    shell(&format!("{quickstart} || true"), "").await;
    assert_eq!(fs::read_to_string(asked).unwrap(), "gcc libc6-dev\n");
}

/// Copies the scripts of the README into `folder`, since they put the program into `target` beside them; returns where
/// they are.
fn copy_scripts(folder: &Path) -> PathBuf {
    let scripts = folder.join("scripts");
    fs::create_dir(&scripts).unwrap();
    for name in ["quickstart", "first-repository", "install-packages"] {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts").join(name);
        fs::copy(script, scripts.join(name)).unwrap();
    }
    scripts
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
