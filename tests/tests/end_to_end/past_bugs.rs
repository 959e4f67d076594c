//! What other GRASP servers got wrong once (facts/grasp 4.5), where only the whole server shows it. The others are
//! tested at the rule or the file that they are about; `docs/grasp-01.md` lists all of them.

use nostr::key::Keys;
use serde_json::Value;
use serde_json::json;
use tests::clients::nostr::NostrClient;
use tests::clients::nostr::now;
use tests::clients::nostr::sign;
use tests::clients::nostr::tag;
use tests::faults::slow_line::SlowLine;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::repository::Repository;
use tests::harness::wait::eventually;
use tests::harness::world::World;
use tests::load::noise::noise;

use super::Served;
use super::held;
use super::in_both_worlds;

in_both_worlds!(
    a_forged_event_is_not_in_the_genuine_ones_way,
    what_is_refused_is_not_repeated_in_the_logs,
    an_abandoned_commit_goes_after_a_restart_too,
    a_shallow_clone_is_told_why_it_cannot_push,
    a_state_does_not_expire_while_its_push_is_uploaded,
    refs_can_be_asked_for_by_head,
    a_replaced_held_announcement_stays_held,
    the_page_names_a_clone_url_that_git_can_read,
    a_malformed_reconciliation_leaves_the_server_alone,
    a_tag_that_is_not_declared_is_refused_by_name_and_can_be_deleted,
);

/// An event with the id of another one was taken into a cache, and the genuine one counted as a duplicate of it
/// (ngit-grasp before 3.0.9).
async fn a_forged_event_is_not_in_the_genuine_ones_way(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let repository = Repository::new("r");
    let git = world.git("work").await;
    let (commit, other) = (git.commit("one").await, git.commit("two").await);
    let announcement = world.announcement(&repository, now(), &[]);
    let state = repository.state(now(), &[("refs/heads/main", &commit)]);
    for (genuine, name, forgery) in [
        (
            &announcement,
            "tags",
            json!(world.announcement(&repository, 1, &[tag(&["name", "mine"])]).tags),
        ),
        (
            &state,
            "tags",
            json!(repository.state(1, &[("refs/heads/main", &other)]).tags),
        ),
        (&state, "sig", json!("0".repeat(128))),
    ] {
        let mut forged = serde_json::to_value(genuine).unwrap();
        forged[name] = forgery;

        nostr.say(json!(["EVENT", forged])).await;

        let answer = nostr.hear().await;
        assert_eq!(answer[2], false, "{answer}");
    }
    assert_eq!(nostr.send(&announcement).await, held());
    assert_eq!(nostr.send(&state).await, held());
    git.push(&world.url(&repository), &[&format!("{other}:refs/heads/main")])
        .await
        .expect_refused();
    git.push(&world.url(&repository), &[&format!("{commit}:refs/heads/main")])
        .await
        .expect_ok();
    assert!(nostr.serves(&announcement).await && nostr.serves(&state).await);
}

/// Events that were refused stood in the log whole, so that anybody could fill the disk (ngit-grasp before 3.0.5).
async fn what_is_refused_is_not_repeated_in_the_logs(kind: Kind) {
    let options = Options {
        other_kinds: "refuse",
        ..Options::default()
    };
    let world = World::start(kind, options).await;
    let mut nostr = world.nostr().await;
    let marker = "repeat-after-me-".repeat(50);
    let stranger = Keys::generate();
    let unhosted = Repository::new("unhosted");
    let events = [
        sign(&stranger, 1621, now(), &[tag(&["t", &marker])]),
        sign(&stranger, 30617, now(), &[tag(&["d", "r"]), tag(&["name", &marker])]),
        unhosted.state(now(), &[(&format!("refs/heads/{marker}"), &"a".repeat(40))]),
        sign(&stranger, 1618, now(), &[tag(&["subject", &marker])]),
    ];

    for event in &events {
        let answer = nostr.send(event).await;
        assert!(!answer.taken && !answer.message.contains(&marker), "{answer:?}");
    }

    for log in ["gateway.log", "plugin.log", "strfry.log"] {
        let text = std::fs::read_to_string(world.folder().join(log)).unwrap_or_default();
        assert!(!text.contains("repeat-after-me-"), "{log}: {text}");
    }
}

/// The ref of a PR whose event never came stayed for ever if the server was restarted before its time was over
/// (ngit-grasp before 3.0.6).
async fn an_abandoned_commit_goes_after_a_restart_too(kind: Kind) {
    let options = Options {
        hold_secs: 3,
        ..Options::default()
    };
    let mut world = World::start(kind, options).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let event = served
        .repository
        .pull_request(&Keys::generate(), &served.git.commit("offer").await);
    let staged = world
        .folder()
        .join("data/staging/r")
        .join(served.repository.owner.public_key().to_hex())
        .join(event.id.to_hex());
    served
        .git
        .push(&served.url, &[&format!("main:refs/nostr/{}", event.id)])
        .await
        .expect_ok();
    assert!(staged.is_dir(), "{}", staged.display());

    world.kill_gateway().await;
    world.start_gateway().await;

    eventually("the staged objects are gone", async || !staged.exists()).await;
    assert_eq!(
        served.refs().await,
        [("refs/heads/main".to_owned(), served.commit.clone())]
    );
}

/// A server that ended between taking a PR's commit and noting it waited for another push of it (ngit-grasp before
/// 3.0.6). What waits in memory ends with the process, so this is for the world with Redis.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_came_before_a_crash_is_found_by_its_event() {
    let mut world = World::start(Kind::Strfry, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let offered = served.git.commit("offer").await;
    let event = served.repository.pull_request(&Keys::generate(), &offered);
    let name = format!("refs/nostr/{}", event.id);
    served
        .git
        .push(&served.url, &[&format!("main:{name}")])
        .await
        .expect_ok();

    world.kill_gateway().await;
    let mut direct = NostrClient::connect(&world.relay_url()).await;
    assert_eq!(direct.send(&event).await, held());
    world.start_gateway().await;

    eventually("the event is served", async || direct.serves(&event).await).await;
    let refs = served.git.ls_remote(&served.url).await;
    assert!(refs.contains(&(name, offered)), "{refs:?}");
}

/// A history without its beginning was taken as whole, and nobody could clone it (ngit-grasp before 3.0.0).
async fn a_shallow_clone_is_told_why_it_cannot_push(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let tip = served.git.commit("two").await;
    let state = served.repository.state(now() - 50, &[("refs/heads/main", &tip)]);
    assert_eq!(nostr.send(&state).await, held());
    served.git.push(&served.url, &["main"]).await.expect_ok();
    let shallow = world.git("shallow").await;
    shallow
        .run(&["fetch", "--quiet", "--depth=1", &served.url, "main"])
        .await
        .expect_ok();
    shallow
        .run(&["reset", "--quiet", "--hard", "FETCH_HEAD"])
        .await
        .expect_ok();
    let third = shallow.commit("three").await;
    let empty = Repository::new("r");
    assert_eq!(nostr.send(&world.announcement(&empty, now(), &[])).await, held());
    let declared = empty.state(now(), &[("refs/heads/main", &third)]);
    assert_eq!(nostr.send(&declared).await, held());

    let said = shallow.push(&world.url(&empty), &["main"]).await.expect_refused();

    assert!(said.contains("--unshallow"), "{said}");
    assert!(!nostr.serves(&declared).await);
    shallow
        .run(&["fetch", "--quiet", "--unshallow", &served.url, "main"])
        .await
        .expect_ok();
    shallow.push(&world.url(&empty), &["main"]).await.expect_ok();
    assert!(nostr.serves(&declared).await);
}

/// What waited for its data expired while the data was on its way (ngit-grasp before 2.1.2).
async fn a_state_does_not_expire_while_its_push_is_uploaded(kind: Kind) {
    let options = Options {
        hold_secs: 2,
        ..Options::default()
    };
    let world = World::start(kind, options).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    std::fs::write(
        world.folder().join(format!("work-{}/file", served.repository.npub())),
        noise(1, 400 << 10),
    )
    .unwrap();
    let second = served.git.commit("two").await;
    let waiting = served.repository.state(now(), &[("refs/heads/main", &second)]);
    let idle = Repository::new("idle");
    assert_eq!(nostr.send(&waiting).await, held());
    assert_eq!(nostr.send(&world.announcement(&idle, now(), &[])).await, held());
    let line = SlowLine::before(world.authority()).await;
    let url = line.url(&served.url);

    let push = served.git.push(&url, &["main"]);
    let others = async {
        // Held later and with nobody at it: by then the time of the first is over too.
        let page = format!("/{}/idle.git", idle.npub());
        eventually("the other one has expired", async || {
            world.get(&page, "").await.0 == 404
        })
        .await;
        line.open();
    };
    let (said, ()) = tokio::join!(push, others);

    said.expect_ok();
    assert!(nostr.serves(&waiting).await);
}

/// HEAD was answered 405, so that clients which look before they fetch saw no repository (ngit-grasp before 1.1.0).
async fn refs_can_be_asked_for_by_head(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let page = format!("/{}/r.git", served.repository.npub());
    for path in [
        page.clone(),
        format!("{page}/info/refs?service=git-upload-pack"),
        format!("{page}/info/refs?service=git-receive-pack"),
    ] {
        let (got, with_body) = world.get(&path, "").await;
        let (status, answer) = world.request(&format!("HEAD {path} HTTP/1.1\r\n")).await;

        assert_eq!((got, status), (200, 200), "{path}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, "", "{path}");
        let content_type = |text: &str| {
            let line = text.lines().find(|line| line.starts_with("content-type: "));
            line.map(str::to_owned)
        };
        assert!(content_type(head).is_some(), "{head}");
        assert_eq!(content_type(head), content_type(&with_body), "{path}");
    }
}

/// The second announcement of a repository that had no data yet was served at once (ngit-grasp before 1.0.2).
async fn a_replaced_held_announcement_stays_held(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let repository = Repository::new("r");
    let git = world.git("work").await;
    let commit = git.commit("one").await;
    let first = world.announcement(&repository, now() - 10, &[]);
    let second = world.announcement(&repository, now(), &[tag(&["name", "second"])]);

    assert_eq!(nostr.send(&first).await, held());
    assert_eq!(nostr.send(&second).await, held());
    let state = repository.state(now(), &[("refs/heads/main", &commit)]);
    assert_eq!(nostr.send(&state).await, held());
    assert_eq!(nostr.query(json!({"kinds": [30617, 30618]})).await, []);
    git.push(&world.url(&repository), &["main"]).await.expect_ok();

    assert!(nostr.serves(&second).await && !nostr.serves(&first).await);
}

/// The page of a repository named a clone URL with spaces in it, which git reads as two (ngit-grasp before 1.0.2).
async fn the_page_names_a_clone_url_that_git_can_read(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "my repo 🦀").await;
    let path = served
        .url
        .strip_prefix(&format!("http://{}", world.authority()))
        .unwrap();

    let (status, page) = world.get(path, "").await;

    assert_eq!(status, 200);
    let named = page.split_once("git clone ").unwrap().1;
    let named = named.split_once('<').unwrap().0;
    assert!(named.ends_with("/my%20repo%20%F0%9F%A6%80.git"), "{named}");
    let refs = served.git.ls_remote(named).await;
    assert!(refs.contains(&("refs/heads/main".to_owned(), served.commit.clone())));
}

/// A list of ids that claimed a huge length in a request for reconciliation (NIP-77) took all memory (ngit-grasp before
/// 3.0.8).
async fn a_malformed_reconciliation_leaves_the_server_alone(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    for message in ["61000002ffffffff7f", "", "6100000281ffffffffffffffff7f", "zz"] {
        nostr.say(json!(["NEG-OPEN", "x", {"kinds": [1]}, message])).await;

        let answer = nostr.hear().await;
        let complained = ["NOTICE", "NEG-ERR", "CLOSED"].map(Value::from).contains(&answer[0]);
        assert!(complained, "{message}: {answer}");
    }
    assert_eq!(nostr.query(json!({"kinds": [30617]})).await, []);
}

/// A push brought a tag along that the state does not declare (ngit-grasp before 3.0.8).
async fn a_tag_that_is_not_declared_is_refused_by_name_and_can_be_deleted(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let git = &served.git;
    let before = served.refs().await;
    git.run(&["tag", "v1"]).await.expect_ok();

    let said = git.push(&served.url, &["v1"]).await.expect_refused();
    assert!(
        said.contains("refs/tags/v1") && said.contains("[remote rejected]"),
        "{said}"
    );
    assert_eq!(served.refs().await, before);
    let with_tag = [
        ("refs/heads/main", served.commit.as_str()),
        ("refs/tags/v1", &served.commit),
    ];
    let with_tag = served.repository.state(now() - 50, &with_tag);
    assert_eq!(nostr.send(&with_tag).await, held());
    eventually("its objects are here", async || nostr.serves(&with_tag).await).await;

    let without = served.repository.state(now(), &[("refs/heads/main", &served.commit)]);
    assert_eq!(nostr.send(&without).await, held());
    // Whichever of the two comes first: the state that needs no push, or the push.
    git.push(&served.url, &[":refs/tags/v1"]).await;
    eventually("the tag is gone", async || served.refs().await == before).await;
    eventually("the state is served", async || nostr.serves(&without).await).await;
}
