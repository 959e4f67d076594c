//! What users of git's clients bring along, that this server has no part in or spells in another way (docs/clients.md).

use tests::clients::git::GitClient;
use tests::clients::http::request;
use tests::clients::nostr::now;
use tests::clients::nostr::tag;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::repository::Repository;
use tests::harness::wait::eventually;
use tests::harness::world::World;

use crate::fixture::Served;
use crate::fixture::field;
use crate::fixture::held;
use crate::fixture::in_both_worlds;
use crate::fixture::redis;

in_both_worlds!(
    git_and_browsers_are_led_to_the_one_spelling,
    git_lfs_is_told_in_its_own_terms,
    push_options_are_ignored_and_the_pusher_told,
    an_old_history_is_taken_and_a_dangerous_object_named,
    a_private_repository_is_refused_before_anybody_can_read_it,
    a_state_that_no_push_can_fulfil_is_refused_or_named,
);

/// A repository could be cloned by one spelling of its URL only.
async fn git_and_browsers_are_led_to_the_one_spelling(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "my repo").await;
    let (origin, npub) = (format!("http://{}", world.authority()), served.repository.npub());
    let upper = npub.to_uppercase();
    let one = format!("/{npub}/my%20repo.git");
    for path in [
        format!("/{npub}/my%20repo"),
        format!("/{npub}/my%20repo.git/"),
        format!("//{npub}/my%20repo.git"),
        format!("/{upper}/my%20repo/"),
    ] {
        let (status, page) = world.get(&path, "").await;
        assert_eq!(status, 308, "{path}");
        assert!(
            page.to_lowercase()
                .contains(&format!("\r\nlocation: {}\r\n", one.to_lowercase())),
            "{page}"
        );
        // What isomorphic-git makes of a URL that ends in a slash.
        let refs = format!("{path}//info/refs?service=git-upload-pack");
        let (status, answer) = world.get(&refs, "").await;
        assert_eq!(status, 308, "{refs}");
        assert!(
            answer.contains(&format!("location: {one}/info/refs?service=git-upload-pack\r\n")),
            "{answer}"
        );
        assert!(answer.contains("access-control-allow-origin: *\r\n"), "{answer}");
    }
    let (status, _) = world.request(&format!("POST /{npub}/my%20repo HTTP/1.1\r\n")).await;
    assert_eq!(status, 405);
    // isomorphic-git posts to the URL that it was given.
    for service in ["git-upload-pack", "git-receive-pack"] {
        let head = format!(
            "POST /{npub}/my%20repo.git//{service} HTTP/1.1\r\ncontent-type: application/x-{service}-request\r\n\
             content-length: 4\r\n"
        );
        assert_eq!(
            request(&world.authority(), &head, b"0000").await.status,
            200,
            "{service}"
        );
    }

    let mut latest = served.commit.clone();
    for (i, spelling) in [format!("{npub}/my%20repo"), format!("{upper}/my%20repo.git/")]
        .into_iter()
        .enumerate()
    {
        let url = format!("{origin}/{spelling}");
        let directory = world.folder().join(format!("clone-{i}"));
        let clone = GitClient::clone_from(&url, &directory).await.unwrap();
        assert_eq!(clone.rev_parse("HEAD").await, latest, "{url}");
        latest = clone.commit(&format!("from {i}")).await;
        let state = served
            .repository
            .state(now() - 50 + i as u64, &[("refs/heads/main", &latest)]);
        assert_eq!(nostr.send(&state).await, held());
        clone.push(&url, &["main"]).await.expect_ok();
        assert_eq!(served.refs().await, [("refs/heads/main".to_owned(), latest.clone())]);
    }
}

/// git-lfs got a page in HTML, of which it could say nothing.
async fn git_lfs_is_told_in_its_own_terms(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let repository = Repository::new("r");
    let lfs = format!("/{}/r.git/info/lfs", repository.npub());
    let batch = br#"{"operation":"upload","objects":[{"oid":"00","size":1}]}"#;
    for (method, path, body) in [
        ("POST", format!("{lfs}/objects/batch"), &batch[..]),
        (
            "POST",
            format!("/{}/r/info/lfs/objects/batch", repository.npub()),
            batch,
        ),
        ("POST", format!("{lfs}/locks/verify"), b"{}"),
        ("GET", format!("{lfs}/locks?limit=1"), b""),
    ] {
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\naccept: application/vnd.git-lfs+json\r\ncontent-length: {length}\r\n\
             content-type: application/vnd.git-lfs+json\r\n"
        );

        let answer = request(&world.authority(), &head, body).await;

        assert_eq!(answer.status, 501, "{path}");
        assert!(
            answer
                .head()
                .contains("\r\ncontent-type: application/vnd.git-lfs+json\r\n"),
            "{}",
            answer.head()
        );
        let told: serde_json::Value = serde_json::from_slice(answer.body()).unwrap();
        let message = told["message"].as_str().unwrap();
        assert!(
            message.contains("no Git LFS") && message.contains("git lfs migrate export"),
            "{message}"
        );
    }
}

/// git aborts a push with options where they are not offered, and some have them in their configuration.
async fn push_options_are_ignored_and_the_pusher_told(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let commit = served.git.commit("two").await;
    let state = served.repository.state(now() - 50, &[("refs/heads/main", &commit)]);
    assert_eq!(nostr.send(&state).await, held());
    let (git, url) = (&served.git, &served.url);
    git.run(&["config", "push.pushOption", "ci.skip"]).await.expect_ok();

    let said = git.push(url, &["main"]).await;

    let told = "remote: push options (-o) have no effect on this server";
    assert!(said.ok && said.stderr.contains(told), "{}", said.stderr);
    assert!(nostr.serves(&state).await);
    // What only deletes brings options and no pack.
    let deletion = ["push", "-o", "a", "-o", "b c", url, ":refs/heads/none"];
    let said = git.run(&deletion).await;
    assert!(said.ok && said.stderr.contains(told), "{}", said.stderr);
    let many: Vec<String> = (0..1001).map(|i| format!("--push-option={i}")).collect();
    let mut arguments = vec!["push", url, "main:other"];
    arguments.extend(many.iter().map(String::as_str));
    let said = git.run(&arguments).await.expect_refused();
    assert!(said.contains("at most 1000 push options"), "{said}");
}

/// Of a project moved here with the history of a converter, the first push was refused.
async fn an_old_history_is_taken_and_a_dangerous_object_named(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let (git, url) = (&served.git, &served.url);
    let write = async |object: &str, text: String| {
        let file = world.folder().join("object");
        std::fs::write(&file, text).unwrap();
        let file = file.to_str().unwrap();
        let oid = git.run(&["hash-object", "-t", object, "--literally", "-w", file]).await;
        oid.expect_ok().trim().to_owned()
    };
    let tree = git.rev_parse("HEAD^{tree}").await;
    let mut tip = served.commit.clone();
    for by in [
        "A<a@x> 1 +0000",
        "<a@x> 01000000000 +0000",
        "A 1 +0000",
        "A <a <b> 1 +0000",
        "A> <a@x> 1 +0000",
        "A <a@x> 99999999999999999999 +0000",
        "A <a@x> then +051800",
    ] {
        let commit = format!("tree {tree}\nparent {tip}\nauthor {by}\ncommitter {by}\n\nold\n");
        tip = write("commit", commit).await;
    }
    let tag = format!("object {tip}\ntype commit\ntag v1\ntagger A<a@x> 01 +0000\n\nold\n");
    let tag = write("tag", tag).await;
    git.run(&["update-ref", "refs/tags/v1", &tag]).await.expect_ok();
    git.run(&["reset", "-q", "--hard", &tip]).await.expect_ok();
    let newest = git.commit("new").await;
    let refs = [("refs/heads/main", &*newest), ("refs/tags/v1", &*tag)];
    let state = served.repository.state(now() - 50, &refs);
    assert_eq!(nostr.send(&state).await, held());

    git.push(url, &["main", "v1"]).await.expect_ok();

    assert!(nostr.serves(&state).await);
    let clone = world.clone(&served.repository, "clone").await.unwrap();
    assert_eq!(clone.rev_parse("v1").await, tag);
    assert_eq!(
        clone.run(&["rev-list", "--count", "HEAD"]).await.expect_ok().trim(),
        "9"
    );

    let blob = git.rev_parse("HEAD:new").await;
    std::fs::write(world.folder().join("entries"), format!("100644 blob {blob}\t.git\n")).unwrap();
    let entries = world.folder().join("entries");
    let script = format!("alias.tree=!git mktree < '{}'", entries.display());
    let tree = git.run(&["-c", &script, "tree"]).await.expect_ok();
    let (tree, parent) = (tree.trim(), newest.as_str());
    let commit = git
        .run(&["commit-tree", tree, "-p", parent, "-m", "x"])
        .await
        .expect_ok();
    let commit = commit.trim();
    let state = served
        .repository
        .state(now() - 40, &[("refs/heads/main", commit), ("refs/tags/v1", &tag)]);
    assert_eq!(nostr.send(&state).await, held());
    let said = git.push(url, &[&format!("{commit}:main")]).await.expect_refused();
    assert!(said.contains(&format!("object {tree}: hasDotgit")), "{said}");
}

/// A repository that its owner had marked as private was hosted for everybody.
async fn a_private_repository_is_refused_before_anybody_can_read_it(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    for (identifier, mark) in [("a", ["private", "true"]), ("b", ["public-read", "false"])] {
        let repository = Repository::new(identifier);
        let private = world.announcement(&repository, now(), &[tag(&mark)]);

        let answer = nostr.send(&private).await;

        assert!(
            !answer.taken && answer.message.starts_with("restricted: "),
            "{answer:?}"
        );
        assert!(answer.message.contains("marks this one as private"), "{answer:?}");
        let (status, _) = world.get(&format!("/{}/{identifier}.git", repository.npub()), "").await;
        assert_eq!(status, 404);
    }
    let repository = Repository::new("c");
    let public = [tag(&["private", "false"]), tag(&["public-read", "true"])];
    assert_eq!(
        nostr.send(&world.announcement(&repository, now(), &public)).await,
        held()
    );
}

/// Its author heard OK and then nothing, and its pusher not which ref.
async fn a_state_that_no_push_can_fulfil_is_refused_or_named(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let commit = served.git.commit("two").await;
    let main = ("refs/heads/main", &*commit);
    for (at, declared, told) in [
        (
            90,
            [main, ("refs/heads/new", "")],
            "invalid: refs/heads/new has no valid object id",
        ),
        (
            80,
            [main, ("refs/tags/v1", "latest")],
            "invalid: refs/tags/v1 has no valid object id",
        ),
        (
            70,
            [main, ("refs/heads/a b", &*commit)],
            "invalid: refs/heads/a b is not a valid ref name",
        ),
    ] {
        let answer = nostr.send(&served.repository.state(now() - at, &declared)).await;
        assert!(!answer.taken && answer.message.starts_with(told), "{answer:?}");
    }

    let abbreviated = [main, ("refs/heads/short", "abc123")];
    let state = served.repository.state(now() - 60, &abbreviated);
    assert_eq!(nostr.send(&state).await, held());

    let fault = "refs/heads/short has an abbreviated object id";
    let said = served.git.push(&served.url, &["main"]).await.expect_refused();
    assert!(said.contains(fault), "{said}");
    let path = format!("/{}/r.git", served.repository.npub());
    eventually("the page names it", async || {
        world.get(&path, "").await.1.contains(fault)
    })
    .await;
    if kind == Kind::Strfry {
        let redis = redis(&world).await;
        let id = state.id.to_hex();
        eventually("the entry names it", async || {
            let waits_for = field(&mut redis.clone(), &id, "waiting_for").await;
            waits_for.is_some_and(|text| text.contains(fault))
        })
        .await;
    }
    // A corrected one takes its place.
    let corrected = served.repository.state(now() - 50, &[main]);
    assert_eq!(nostr.send(&corrected).await, held());
    served.git.push(&served.url, &["main"]).await.expect_ok();
    assert!(nostr.serves(&corrected).await);
}
