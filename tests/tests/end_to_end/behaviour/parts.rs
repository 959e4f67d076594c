//! What a state declares comes in several pushes (docs/ARCHITECTURE.md rule 5).

use nostr::event::Event;
use tests::clients::git::GitClient;
use tests::clients::git::Said;
use tests::clients::http;
use tests::clients::nostr::NostrClient;
use tests::clients::nostr::now;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::repository::Repository;
use tests::harness::wait::eventually;
use tests::harness::world::World;

use crate::fixture::Served;
use crate::fixture::held;
use crate::fixture::in_both_worlds;

in_both_worlds!(
    three_branches_and_a_tag_come_one_at_a_time,
    the_tag_comes_first,
    parts_come_at_the_same_time,
    a_served_repository_moves_when_the_last_branch_is_here,
    a_part_with_an_undeclared_ref_is_refused_whole,
    parts_of_a_state_that_a_newer_one_overtakes_go,
    a_newer_state_needs_all_of_its_own_parts,
    parts_expire_with_their_state,
    a_repository_larger_than_a_push_may_be_comes_in_three,
    the_same_part_again_takes_no_more_room,
    pull_requests_do_not_build_on_parts,
    parts_count_as_their_owners,
);

/// A repository whose announcement and one state are held.
struct Declared {
    repository: Repository,
    git: GitClient,
    url: String,
    nostr: NostrClient,
    state: Event,
    /// By name, oldest first.
    refs: Vec<(&'static str, String)>,
}

/// Three branches, each a commit further, and an annotated tag.
const NAMES: [&str; 4] = ["refs/heads/one", "refs/heads/two", "refs/heads/main", "refs/tags/v1"];

impl Declared {
    async fn new(world: &World) -> Self {
        let (repository, git) = (Repository::new("r"), world.git("work").await);
        let mut refs = Vec::new();
        for name in &NAMES[..3] {
            let commit = git.commit(&name.replace('/', "-")).await;
            let branch = name.trim_start_matches("refs/heads/");
            if branch != "main" {
                git.run(&["branch", branch]).await.expect_ok();
            }
            refs.push((*name, commit));
        }
        git.run(&["tag", "--annotate", "--message", "first", "v1"])
            .await
            .expect_ok();
        refs.push((NAMES[3], git.rev_parse("v1").await));
        let mut nostr = world.nostr().await;
        let announcement = world.announcement(&repository, now() - 100, &[]);
        let state = declare(&repository, now() - 90, &refs);
        assert_eq!(nostr.send(&announcement).await, held());
        assert_eq!(nostr.send(&state).await, held());
        let url = world.url(&repository);
        Self {
            repository,
            git,
            url,
            nostr,
            state,
            refs,
        }
    }

    async fn push(&self, names: &[&str]) -> Said {
        let refspecs: Vec<String> = names.iter().map(|name| format!("{name}:{name}")).collect();
        let refspecs: Vec<&str> = refspecs.iter().map(String::as_str).collect();
        self.git.push(&self.url, &refspecs).await
    }

    /// Nobody sees anything of it, and no object of it can be fetched.
    async fn is_unseen(&self, world: &World) {
        assert!(self.git.ls_remote(&self.url).await.is_empty());
        let other = world.git("other").await;
        for (name, oid) in &self.refs {
            other.run(&["fetch", &self.url, oid]).await.expect_refused();
            other.run(&["fetch", &self.url, name]).await.expect_refused();
        }
    }

    /// Everything is served.
    async fn is_served(&mut self, world: &World) {
        assert!(self.nostr.serves(&self.state).await);
        let clone = world.clone(&self.repository, "clone").await.unwrap();
        clone
            .run(&["fsck", "--strict", "--connectivity-only"])
            .await
            .expect_ok();
        let seen = clone.ls_remote(&self.url).await;
        for (name, oid) in &self.refs {
            assert!(seen.contains(&((*name).to_owned(), oid.clone())), "{name}: {seen:?}");
        }
        assert_eq!(kept(world), 0, "nothing is left aside");
    }
}

fn declare(repository: &Repository, at: u64, refs: &[(&str, String)]) -> Event {
    let refs: Vec<(&str, &str)> = refs.iter().map(|(name, oid)| (*name, oid.as_str())).collect();
    repository.state(at, &refs)
}

/// How many states there are of which parts are kept aside.
fn kept(world: &World) -> usize {
    let list = |path: &std::path::Path| -> Vec<std::path::PathBuf> {
        let entries = std::fs::read_dir(path).into_iter().flatten();
        entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_dir())
            .collect()
    };
    let owners = list(&world.folder().join("data/parts"));
    let repositories = owners.iter().flat_map(|owner| list(owner));
    repositories.flat_map(|repository| list(&repository)).count()
}

async fn three_branches_and_a_tag_come_one_at_a_time(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut declared = Declared::new(&world).await;
    for (number, name) in NAMES.iter().enumerate() {
        let said = declared.push(&[name]).await;

        assert!(said.ok, "{}", said.stderr);
        let missing = &NAMES[number + 1..];
        for name in missing {
            assert!(said.stderr.contains(name), "{}", said.stderr);
        }
        if !missing.is_empty() {
            assert!(said.stderr.contains("still missing"), "{}", said.stderr);
            declared.is_unseen(&world).await;
            assert!(!declared.nostr.serves(&declared.state).await);
        }
    }
    declared.is_served(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_is_counted_as_kept_and_the_last_one_as_taken() {
    let options = Options {
        gateway: &["--admin-bind=127.0.0.1:0"],
        ..Options::default()
    };
    let world = World::start(Kind::Embedded, options).await;
    let declared = Declared::new(&world).await;
    for name in NAMES {
        declared.push(&[name]).await.expect_ok();
    }
    let admin = world.admin_authority().await;
    let page = http::request(&admin, "GET /metrics HTTP/1.1\r\n", b"").await.text();

    for line in [
        "{outcome=\"kept\"} 3\n",
        "{outcome=\"taken\"} 1\n",
        "{outcome=\"refused\"} 0\n",
    ] {
        assert!(page.contains(&format!("grasp_pushes_total{line}")), "{line} in {page}");
    }
    assert_eq!(world.gateway_log().matches("is_kept_aside=true").count(), 3);
    let ready = http::request(&admin, "GET /readyz HTTP/1.1\r\n", b"").await.text();
    assert!(ready.contains("redis: not used: held events are in memory"), "{ready}");
}

/// `git push origin main`, where a tag is declared too.
async fn the_tag_comes_first(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut declared = Declared::new(&world).await;

    let said = declared.push(&["refs/tags/v1"]).await;
    assert!(
        said.ok && !said.stderr.contains("still missing: refs/tags"),
        "{}",
        said.stderr
    );
    // What the tag has brought needs no push.
    declared.is_served(&world).await;
}

async fn parts_come_at_the_same_time(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut declared = Declared::new(&world).await;
    declared.push(&["refs/heads/one"]).await.expect_ok();

    let rest = NAMES[1..].iter().map(|name| [*name]);
    let pushes: Vec<[&str; 1]> = rest.collect();
    let pushes = pushes.iter().map(|names| declared.push(names));
    for said in futures_util::future::join_all(pushes).await {
        said.expect_ok();
    }

    declared.is_served(&world).await;
}

async fn a_served_repository_moves_when_the_last_branch_is_here(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let git = &served.git;
    git.run(&["checkout", "--quiet", "-b", "next"]).await.expect_ok();
    let next = git.commit("next").await;
    git.run(&["checkout", "--quiet", "-b", "other", &served.commit])
        .await
        .expect_ok();
    let other = git.commit("other").await;
    let before = served.refs().await;
    let refs = [("refs/heads/main", next.as_str()), ("refs/heads/other", &other)];
    let state = served.repository.state(now() - 10, &refs);
    assert_eq!(nostr.send(&state).await, held());

    git.push(&served.url, &["next:main"]).await.expect_ok();
    assert_eq!(served.refs().await, before, "all at once, and not before");
    git.push(&served.url, &["other"]).await.expect_ok();

    assert!(nostr.serves(&state).await);
    let after = [
        ("refs/heads/main".to_owned(), next),
        ("refs/heads/other".to_owned(), other),
    ];
    assert_eq!(served.refs().await, after);
    assert_eq!(kept(&world), 0);
}

async fn a_part_with_an_undeclared_ref_is_refused_whole(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let declared = Declared::new(&world).await;

    let said = declared
        .git
        .push(&declared.url, &["one", "two:undeclared"])
        .await
        .expect_refused();
    let wrong = declared
        .git
        .push(&declared.url, &["one", "main:two"])
        .await
        .expect_refused();

    assert!(
        said.contains("another branch or tag of this push was refused") || said.contains("does not declare"),
        "{said}"
    );
    assert_eq!(said.matches("[remote rejected]").count(), 2, "{said}");
    assert_eq!(wrong.matches("[remote rejected]").count(), 2, "{wrong}");
    assert_eq!(kept(&world), 0);
}

async fn parts_of_a_state_that_a_newer_one_overtakes_go(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut declared = Declared::new(&world).await;
    declared.push(&["refs/heads/two"]).await.expect_ok();
    assert_eq!(kept(&world), 1);
    let newer = declare(&declared.repository, now() - 10, &declared.refs[..1]);
    assert_eq!(declared.nostr.send(&newer).await, held());

    declared.push(&["refs/heads/one"]).await.expect_ok();

    assert!(declared.nostr.serves(&newer).await);
    eventually("its parts are gone", async || kept(&world) == 0).await;
    let other = world.git("other").await;
    let (_, two) = &declared.refs[1];
    other.run(&["fetch", &declared.url, two]).await.expect_refused();
}

async fn a_newer_state_needs_all_of_its_own_parts(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut declared = Declared::new(&world).await;
    declared.push(&["refs/heads/two"]).await.expect_ok();
    let more = declared.git.commit("more").await;
    declared.refs[2].1 = more;
    let newer = declare(&declared.repository, now() - 10, &declared.refs);
    assert_eq!(declared.nostr.send(&newer).await, held());

    declared.push(&["refs/tags/v1"]).await.expect_ok();
    declared.is_unseen(&world).await;
    declared.push(&["refs/heads/main"]).await.expect_ok();

    declared.state = newer;
    eventually("all parts are gone", async || kept(&world) == 0).await;
    declared.is_served(&world).await;
}

async fn parts_expire_with_their_state(kind: Kind) {
    let options = Options {
        hold_secs: 3,
        ..Options::default()
    };
    let world = World::start(kind, options).await;
    let declared = Declared::new(&world).await;

    declared.push(&["refs/heads/one"]).await.expect_ok();
    assert_eq!(kept(&world), 1);

    eventually("the parts are gone", async || kept(&world) == 0).await;
    assert!(
        world
            .gateway_log()
            .contains(&format!("expired event.id={}", declared.state.id))
    );
    let all_parts = world.folder().join("data/parts");
    eventually("no trace is left", async || {
        std::fs::read_dir(&all_parts).unwrap().count() == 0
    })
    .await;
}

/// Bytes that cannot be compressed.
fn noise(seed: u32) -> Vec<u8> {
    let number = |n: u32| n.wrapping_add(seed).wrapping_mul(2_654_435_761).rotate_left(11) ^ n.wrapping_mul(seed | 1);
    (0..100_000_u32).flat_map(|n| number(n).to_be_bytes()).collect()
}

/// Three commits of 400 kB each, and a state that declares them as branches.
async fn three_large(world: &World) -> Declared {
    let mut declared = Declared::new(world).await;
    for (number, name) in (1..).zip(["one", "two", "main"]) {
        let commit = declared.git.commit_file("large", &noise(number * 7919)).await;
        declared
            .git
            .run(&["branch", "--force", &format!("large-{name}")])
            .await
            .expect_ok();
        declared.refs[number as usize - 1].1 = commit;
    }
    declared.refs.truncate(3);
    let state = declare(&declared.repository, now() - 50, &declared.refs);
    assert_eq!(declared.nostr.send(&state).await, held());
    declared.state = state;
    declared
}

async fn a_repository_larger_than_a_push_may_be_comes_in_three(kind: Kind) {
    let options = Options {
        gateway: &["--pack-bytes-max=600KiB"],
        ..Options::default()
    };
    let world = World::start(kind, options).await;
    let mut declared = three_large(&world).await;
    let all = ["large-one:one", "large-two:two", "large-main:main"];
    let refused = declared.git.push(&declared.url, &all).await.expect_refused();
    assert!(refused.contains("push in parts"), "{refused}");

    for refspec in all {
        declared.git.push(&declared.url, &[refspec]).await.expect_ok();
    }

    declared.is_served(&world).await;
}

async fn the_same_part_again_takes_no_more_room(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let declared = three_large(&world).await;
    let bytes = || {
        let mut dirs = vec![world.folder().join("data/parts")];
        let mut bytes = 0;
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).unwrap().flatten() {
                match entry.metadata().unwrap() {
                    found if found.is_dir() => dirs.push(entry.path()),
                    found => bytes += found.len(),
                }
            }
        }
        bytes
    };
    declared.git.push(&declared.url, &["large-one:one"]).await.expect_ok();
    let once = bytes();

    declared.git.push(&declared.url, &["large-one:one"]).await.expect_ok();
    // A client that does not know what is here sends everything again.
    let blind = world.git("blind").await;
    let work = world.folder().join("work");
    blind
        .run(&["fetch", "--quiet", work.to_str().unwrap(), "large-two"])
        .await
        .expect_ok();
    let pack = fetched_pack(&blind).await;
    push_pack(&world, &declared, &declared.refs[1], &pack).await;

    assert!(bytes() < 2 * once + once / 2, "{once} became {}", bytes());
}

/// Returns a pack with everything that was fetched.
async fn fetched_pack(git: &GitClient) -> Vec<u8> {
    git.run(&["bundle", "create", "all", "FETCH_HEAD"]).await.expect_ok();
    let top = git.run(&["rev-parse", "--show-toplevel"]).await.expect_ok();
    let bundle = std::fs::read(std::path::Path::new(top.trim()).join("all")).unwrap();
    let at = bundle.windows(4).position(|bytes| bytes == b"PACK").unwrap();
    bundle[at..].to_vec()
}

async fn push_pack(world: &World, declared: &Declared, (name, oid): &(&str, String), pack: &[u8]) {
    let command = format!("{} {oid} {name}\0 report-status", "0".repeat(40));
    let mut body = format!("{:04x}{command}0000", command.len() + 4).into_bytes();
    body.extend_from_slice(pack);
    let path = format!("/{}/r.git/git-receive-pack", declared.repository.npub());
    let (status, answer) = post(world, &path, &body).await;
    assert!(
        status == 200 && answer.contains(&format!("ok {name}")),
        "{status} {answer}"
    );
}

async fn post(world: &World, path: &str, body: &[u8]) -> (u16, String) {
    use tokio::io::AsyncReadExt;
    use tokio::io::AsyncWriteExt;
    let mut stream = tokio::net::TcpStream::connect(world.authority()).await.unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/x-git-receive-pack-request\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        world.authority(),
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer)
}

async fn pull_requests_do_not_build_on_parts(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let declared = Declared::new(&world).await;
    declared.push(&["refs/heads/two"]).await.expect_ok();
    let commit = declared.git.commit("offered").await;
    let stranger = nostr::key::Keys::generate();
    let request = declared.repository.pull_request(&stranger, &commit);

    // It knows what is aside, and leaves it out.
    let refspec = format!("{commit}:refs/nostr/{}", request.id);
    let refused = declared.git.push(&declared.url, &[&refspec]).await.expect_refused();

    assert!(refused.contains("is not complete yet"), "{refused}");
}

async fn parts_count_as_their_owners(kind: Kind) {
    let options = Options {
        gateway: &["--disk-per-owner-max=600KiB"],
        ..Options::default()
    };
    let world = World::start(kind, options).await;
    let declared = three_large(&world).await;
    declared.git.push(&declared.url, &["large-one:one"]).await.expect_ok();

    let refused = declared
        .git
        .push(&declared.url, &["large-two:two"])
        .await
        .expect_refused();

    assert!(refused.contains("the repositories of this owner use"), "{refused}");
}
