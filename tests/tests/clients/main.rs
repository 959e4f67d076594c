//! Git clients of others than git: isomorphic-git in a browser on a page of another origin, as web clients have it, and
//! dulwich. Each clones, pushes one ref after the other, fetches, and is refused and shows why.

#![expect(clippy::unwrap_used, reason = "what cannot be had ends the test")]

use std::net::Ipv4Addr;
use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use tests::clients::browser::Browser;
use tests::clients::browser::View;
use tests::clients::nostr::now;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::repository::Repository;
use tests::harness::wait::eventually;
use tests::harness::world::World;
use warp::Filter;

const MAIN: &str = "refs/heads/main";
const TOPIC: &str = "refs/heads/topic";
const TAG: &str = "refs/tags/v1";
/// What whoever pushes something else than is declared reads.
const REASON: &str = "no state event declares the result of this push";

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_on_another_origin_pushes_branch_by_branch_and_reads_them() {
    let world = World::start(Kind::Embedded, Options::default()).await;
    let mut nostr = world.nostr().await;
    let repository = Repository::new("from-a-browser");
    let url = json!(world.url(&repository));
    let mut browser = page().await;
    browser.call("begin('/work')").await;
    let first = text(&browser.call("commit('/work', 'one')").await);
    browser
        .call("git.branch({fs, dir: '/work', ref: 'topic'}).then(() => git.tag({fs, dir: '/work', ref: 'v1'}))")
        .await;
    let second = text(&browser.call("commit('/work', 'two')").await);
    let announcement = world.announcement(&repository, now() - 10, &[]);
    let state = repository.state(now() - 10, &[(MAIN, &second), (TOPIC, &first), (TAG, &first)]);
    for event in [&announcement, &state] {
        assert!(nostr.send(event).await.taken);
    }

    for name in ["topic", "main", "v1"] {
        let pushed = browser.call(&format!("push('/work', {url}, '{name}')")).await;
        assert_eq!(pushed["ok"], true, "{name}: {pushed}");
    }

    assert!(nostr.serves(&state).await);
    let cloned = browser.call(&format!("clone('/clone', {url})")).await;
    assert_eq!(cloned, second);
    assert_eq!(browser.call("read('/clone', 'HEAD')").await, "two");
    let shallow = format!("clone('/shallow', {url}, {{singleBranch: true, depth: 1, ref: 'topic'}})");
    assert_eq!(browser.call(&shallow).await, first);

    let third = text(&browser.call("commit('/work', 'three')").await);
    let refused = browser.call(&format!("push('/work', {url}, 'main')")).await;
    assert_eq!(refused["ok"], false, "{refused}");
    let reason = refused.to_string();
    assert!(reason.contains(REASON), "{reason}");

    let newer = repository.state(now(), &[(MAIN, &third), (TOPIC, &first), (TAG, &first)]);
    assert!(nostr.send(&newer).await.taken);
    let pushed = browser.call(&format!("push('/work', {url}, 'main')")).await;
    assert_eq!(pushed["ok"], true, "{pushed}");
    assert_eq!(browser.call(&format!("fetch_again('/clone', {url})")).await, third);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_reads_a_repository_without_its_files() {
    let world = World::start(Kind::Embedded, Options::default()).await;
    let mut nostr = world.nostr().await;
    let repository = Repository::new("r");
    let git = world.git("work").await;
    let commit = git.commit("one").await;
    for event in [
        world.announcement(&repository, now() - 10, &[]),
        repository.state(now() - 10, &[(MAIN, &commit)]),
    ] {
        assert!(nostr.send(&event).await.taken);
    }
    let url = world.url(&repository);
    git.push(&url, &["main"]).await.expect_ok();
    let mut browser = page().await;

    for (filter, objects) in [("blob:none", 2), ("tree:0", 1), ("blob:limit=100k", 3)] {
        let call = format!("fetch_filtered({}, '{commit}', '{filter}')", json!(url));
        let expected = json!({"status": 200, "objects": objects});
        assert_eq!(browser.call(&call).await, expected, "{filter}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dulwich_pushes_and_reads() {
    let world = World::start(Kind::Embedded, Options::default()).await;
    let mut nostr = world.nostr().await;
    let repository = Repository::new("from dulwich");
    let url = world.url(&repository);
    let folder = tempfile::tempdir().unwrap();
    let (work, clone) = (folder.path().join("work"), folder.path().join("clone"));
    dulwich(&["begin"], &work, &url).await.unwrap();
    let first = dulwich(&["commit"], &work, &url).await.unwrap();
    for event in [
        world.announcement(&repository, now() - 10, &[]),
        repository.state(now() - 10, &[(MAIN, &first)]),
    ] {
        assert!(nostr.send(&event).await.taken);
    }

    dulwich(&["push", MAIN], &work, &url).await.unwrap();
    assert_eq!(dulwich(&["clone"], &clone, &url).await.unwrap(), first);

    let second = dulwich(&["commit"], &work, &url).await.unwrap();
    // It says so, and ends as if it had worked.
    let refusal = dulwich(&["push", MAIN], &work, &url).await.unwrap();
    assert!(refusal.contains(REASON) && refusal.contains("failed"), "{refusal}");
    assert_eq!(dulwich(&["fetch"], &clone, &url).await.unwrap(), first);

    assert!(nostr.send(&repository.state(now(), &[(MAIN, &second)])).await.taken);
    dulwich(&["push", MAIN], &work, &url).await.unwrap();
    assert_eq!(dulwich(&["fetch"], &clone, &url).await.unwrap(), second);
}

/// Opens the page with isomorphic-git, from a server of its own.
async fn page() -> Browser {
    let scripts = std::env::var_os("ISOMORPHIC_GIT").expect("ISOMORPHIC_GIT names its folder: scripts/install-clients");
    let page = warp::path::end().map(|| warp::reply::html(include_str!("page.html")));
    let files = page.or(warp::fs::dir(PathBuf::from(scripts)));
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(warp::serve(files).incoming(listener).run());
    let mut browser = Browser::start().await;
    let view = View {
        width: 800,
        scheme: "light",
    };
    browser.open(&format!("http://{address}/"), view).await;
    eventually("the scripts are there", async || {
        browser.read("typeof fs").await == "object"
    })
    .await;
    browser
}

/// Runs one command of `with_dulwich.py`, and returns what it printed; `Err` if it was refused.
#[expect(clippy::disallowed_methods, reason = "dulwich is no git")]
async fn dulwich(arguments: &[&str], folder: &Path, url: &str) -> Result<String, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/with_dulwich.py");
    let output = tokio::process::Command::new("/usr/bin/python3")
        .arg(script)
        .arg(arguments[0])
        .arg(folder)
        .arg(url)
        .args(&arguments[1..])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(60), output).await;
    let output = output.expect("it does not end").unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    match output.status.success() {
        true => Ok(printed),
        false => Err(printed),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}
