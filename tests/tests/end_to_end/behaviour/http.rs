//! What browsers, curl and relays see over HTTP.

use async_compression::tokio::write::GzipEncoder;
use serde_json::Value;
use tests::clients::http::request;
use tests::clients::nostr::NostrClient;
use tests::clients::nostr::now;
use tests::clients::nostr::tag;
use tests::clients::slow::EMPTY_PACK;
use tests::clients::slow::pull_request;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::redis_connection::connect;
use tests::harness::repository::Repository;
use tests::harness::world::World;
use tokio::io::AsyncWriteExt;

use crate::fixture::Served;
use crate::fixture::held;
use crate::fixture::in_both_worlds;

in_both_worlds!(
    every_answer_may_be_read_by_any_origin,
    the_relay_information_document_names_grasp_01,
    pages_escape_what_comes_from_outside,
    paths_out_of_the_data_directory_name_nothing,
    a_browsers_websocket_is_passed_on,
    only_a_get_without_a_body_becomes_a_websocket,
    a_request_of_another_shape_is_answered,
    head_answers_as_get_does_without_a_body,
    a_compressed_fetch_is_answered,
    a_compressed_push_is_taken_unless_it_is_large,
    git_is_told_in_text_what_is_not_here,
    pages_are_found_by_encoded_identifiers,
    a_client_behind_no_trusted_proxy_claims_nothing,
    refs_can_be_asked_for_by_head,
    the_page_names_a_clone_url_that_git_can_read,
);

async fn every_answer_may_be_read_by_any_origin(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    for (method, path, status) in [
        ("GET", "/", 200),
        ("GET", "/nothing", 404),
        ("HEAD", "/", 200),
        ("POST", "/", 405),
        ("OPTIONS", "/", 204),
        ("OPTIONS", "/npub1test/x.git/info/refs", 204),
        ("OPTIONS", "/npub1test/x.git/git-upload-pack", 204),
        ("GET", "/npub1test/x.git/info/refs?service=git-upload-pack", 404),
    ] {
        let (answered, answer) = world.request(&format!("{method} {path} HTTP/1.1\r\n")).await;

        assert_eq!(answered, status, "{method} {path}");
        for header in [
            "access-control-allow-origin: *\r\n",
            "access-control-allow-methods: GET, POST\r\n",
            "access-control-allow-headers: Content-Type, Authorization, Git-Protocol\r\n",
        ] {
            assert!(answer.contains(header), "{method} {path}: {answer}");
        }
    }
}

async fn the_relay_information_document_names_grasp_01(kind: Kind) {
    let world = World::start(kind, Options::default()).await;

    let (status, answer) = world.get("/", "accept: application/nostr+json, */*\r\n").await;

    assert_eq!(status, 200);
    assert!(answer.contains("content-type: application/nostr+json\r\n"), "{answer}");
    let document: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(document["supported_grasps"], serde_json::json!(["GRASP-01"]));
    assert!(!document["repo_acceptance_criteria"].as_str().unwrap().is_empty());
    assert!(
        document["supported_nips"].is_array(),
        "the relay's own fields are there: {document}"
    );
}

async fn pages_escape_what_comes_from_outside(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let repository = Repository::new("r");
    let markup = [
        tag(&["name", "<script>alert(1)</script>"]),
        tag(&["description", "\"'><img src=x>"]),
    ];
    assert_eq!(
        nostr.send(&world.announcement(&repository, now(), &markup)).await,
        held()
    );

    let (status, page) = world.get(&format!("/{}/r.git", repository.npub()), "").await;

    assert_eq!(status, 200);
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "{page}");
    assert!(!page.contains("<script") && !page.contains("<img"), "{page}");
    assert!(page.contains("not served yet"), "{page}");
    let (status, page) = world.get("/%3Cscript%3E", "").await;
    assert_eq!(status, 404);
    assert!(!page.contains("<script"), "{page}");
}

async fn paths_out_of_the_data_directory_name_nothing(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let npub = Repository::new("r").npub();
    for path in [
        format!("/{npub}/%2E%2E.git/info/refs?service=git-upload-pack"),
        format!("/{npub}/..%2F..%2Fetc.git/info/refs?service=git-upload-pack"),
        format!("/{npub}/a%5Cb.git/info/refs?service=git-upload-pack"),
        format!("/{npub}/a%00.git"),
        "/../../etc/passwd".to_owned(),
        format!("/{npub}/r.git/../../../etc/passwd"),
    ] {
        assert_eq!(world.get(&path, "").await.0, 404, "{path}");
    }
}

async fn a_browsers_websocket_is_passed_on(kind: Kind) {
    let world = World::start(kind, Options::default()).await;

    // Firefox names `keep-alive` beside `Upgrade`.
    let (status, answer) = world
        .upgrade("GET / HTTP/1.1\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n")
        .await;

    assert_eq!(status, 101, "{answer}");
    assert!(
        answer
            .to_lowercase()
            .contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="),
        "{answer}"
    );
}

async fn only_a_get_without_a_body_becomes_a_websocket(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (method, more, expected) in [
        ("POST", "content-length: 0\r\n", 405),
        ("HEAD", "", 405),
        ("GET", "content-length: 3\r\n", 400),
        ("GET", "transfer-encoding: chunked\r\n", 400),
        ("GET", "content-length: 0\r\n", 101),
    ] {
        let head = format!("{method} / HTTP/1.1\r\n{upgrade}{more}");

        let (status, answer) = world.upgrade(&head).await;

        assert_eq!(status, expected, "{method} {more}: {answer}");
    }
}

/// `CONNECT` ended the task of its connection by a panic.
async fn a_request_of_another_shape_is_answered(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let authority = world.authority();
    let long = format!("x-long: {}\r\n", "a".repeat(100_000));
    let many = "x: y\r\n".repeat(1_000);
    for (line, headers, expected) in [
        (format!("CONNECT {authority}"), "", 405),
        ("CONNECT x:80".to_owned(), "content-length: 5\r\n", 405),
        (format!("GET http://{authority}/"), "", 200),
        (format!("GET http://{authority}"), "", 200),
        (format!("GET http://{authority}/nothing?q"), "", 404),
        ("OPTIONS *".to_owned(), "", 204),
        ("GET *".to_owned(), "", 400),
        ("GET x:80".to_owned(), "", 400),
        ("GET ?q".to_owned(), "", 400),
        ("BREW /".to_owned(), "", 405),
        ("GET /".to_owned(), &long, 431),
        ("GET /".to_owned(), &many, 431),
    ] {
        let (status, answer) = world.request(&format!("{line} HTTP/1.1\r\n{headers}")).await;

        assert_eq!(status, expected, "{line}: {answer}");
    }
}

async fn head_answers_as_get_does_without_a_body(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let served = Served::new(&world, &mut world.nostr().await, "r").await;
    let page = format!("/{}/r.git", served.repository.npub());
    for (path, content_type) in [
        (
            format!("{page}/info/refs?service=git-upload-pack"),
            "application/x-git-upload-pack-advertisement",
        ),
        (
            format!("{page}/info/refs?service=git-receive-pack"),
            "application/x-git-receive-pack-advertisement",
        ),
        (page, "text/html; charset=utf-8"),
        ("/".to_owned(), "text/html; charset=utf-8"),
    ] {
        let got = request(&world.authority(), &format!("GET {path} HTTP/1.1\r\n"), b"").await;
        let head = request(&world.authority(), &format!("HEAD {path} HTTP/1.1\r\n"), b"").await;

        assert_eq!((got.status, head.status), (200, 200), "{path}");
        for answer in [&got, &head] {
            let headers = answer.head();
            assert!(
                headers.contains(&format!("content-type: {content_type}\r\n")),
                "{path}: {headers}"
            );
        }
        assert!(!got.body().is_empty() && head.body().is_empty(), "{path}");
    }
}

async fn a_compressed_fetch_is_answered(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let served = Served::new(&world, &mut world.nostr().await, "r").await;
    let want = format!("want {}\n", served.commit);
    let lines = ["command=fetch", "0001", &want, "done\n", "0000"].map(|line| match line {
        "0000" | "0001" => line.to_owned(),
        line => format!("{:04x}{line}", line.len() + 4),
    });
    let body = gzip(lines.concat().as_bytes()).await;
    for (encoding, status) in [("gzip", 200), ("x-gzip", 200), ("br", 415)] {
        let head = format!(
            "POST /{}/r.git/git-upload-pack HTTP/1.1\r\ncontent-type: application/x-git-upload-pack-request\r\n\
             git-protocol: version=2\r\ncontent-encoding: {encoding}\r\ncontent-length: {}\r\n",
            served.repository.npub(),
            body.len()
        );

        let answer = request(&world.authority(), &head, &body).await;

        assert_eq!(answer.status, status, "{encoding}");
        let has_pack = answer.body().windows(4).any(|window| window == b"PACK");
        assert_eq!(has_pack, status == 200, "{encoding}");
    }
}

/// JGit compresses pushes (docs/facts/git-http.md 3.3).
async fn a_compressed_push_is_taken_unless_it_is_large(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let served = Served::new(&world, &mut world.nostr().await, "r").await;
    let small = [&pull_request(&served.commit), EMPTY_PACK].concat();
    let large = [&small[..], &vec![0; 17 << 20]].concat();
    // Its second line is no command.
    let malformed = [&small[..small.len() - EMPTY_PACK.len() - 4], b"0009large", &large].concat();
    for (name, body, expected) in [
        ("small", small, "unpack ok"),
        (
            "large",
            large,
            "a compressed push has at most 16777216 bytes: send it as it is",
        ),
        ("malformed", malformed, "malformed push request"),
    ] {
        let body = gzip(&body).await;
        let head = format!(
            "POST /{}/r.git/git-receive-pack HTTP/1.1\r\ncontent-type: application/x-git-receive-pack-request\r\n\
             content-encoding: gzip\r\ncontent-length: {}\r\n",
            served.repository.npub(),
            body.len()
        );

        let answer = request(&world.authority(), &head, &body).await;

        assert_eq!(answer.status, 200, "{name}");
        assert!(answer.text().contains(expected), "{name}: {}", answer.text());
    }
}

async fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzipEncoder::new(Vec::new());
    encoder.write_all(bytes).await.unwrap();
    encoder.shutdown().await.unwrap();
    encoder.into_inner()
}

async fn git_is_told_in_text_what_is_not_here(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let served = Served::new(&world, &mut world.nostr().await, "r").await;
    let (here, nowhere) = (served.repository.npub(), Repository::new("r").npub());
    for (npub, query, status, told) in [
        (&here, "?service=git-upload-archive", 403, "unsupported service"),
        (&here, "", 403, "unsupported service"),
        (&nowhere, "?service=git-upload-pack", 404, "no such repository"),
        (&nowhere, "?service=git-receive-pack", 404, "no such repository"),
    ] {
        let head = format!("GET /{npub}/r.git/info/refs{query} HTTP/1.1\r\n");

        let answer = request(&world.authority(), &head, b"").await;

        assert_eq!(answer.status, status, "{query}");
        assert!(answer.head().contains("content-type: text/plain"), "{}", answer.head());
        let text = String::from_utf8_lossy(answer.body()).into_owned();
        assert!(text.contains(told), "{query}: {text}");
    }
    let said = served.git.push(&world.url(&Repository::new("r")), &["main"]).await;
    let said = said.expect_refused();
    assert!(
        said.contains("remote: there is no such repository on this server"),
        "{said}"
    );
}

async fn pages_are_found_by_encoded_identifiers(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    for (identifier, encoded) in [
        ("my repo", "my%20repo"),
        ("🦀", "%F0%9F%A6%80"),
        ("a.git", "a.git"),
        ("50%", "50%25"),
        ("%2F", "%252F"),
        ("a:b+c?d#e", "a%3Ab%2Bc%3Fd%23e"),
    ] {
        let repository = Repository::new(identifier);
        assert_eq!(nostr.send(&world.announcement(&repository, now(), &[])).await, held());
        let path = format!("/{}/{encoded}.git", repository.npub());

        let (status, page) = world.get(&path, "").await;

        assert_eq!(status, 200, "{identifier}");
        assert!(
            page.contains(&format!("git clone http://{}{path}<", world.authority())),
            "{identifier}: {page}"
        );
    }
}

async fn a_client_behind_no_trusted_proxy_claims_nothing(kind: Kind) {
    let options = Options {
        trusted_proxies: "10.0.0.0/8",
        ..Options::default()
    };
    let world = World::start(kind, options).await;
    let claims = [("x-forwarded-for", "198.51.100.9"), ("x-real-ip", "198.51.100.9")];
    let own = std::net::Ipv4Addr::new(127, 0, 0, 3).into();
    let mut nostr = NostrClient::connect_from(own, &world.authority(), &claims).await;
    let announcement = world.announcement(&Repository::new("r"), now(), &[]);

    assert_eq!(nostr.send(&announcement).await, held());

    if let Some(redis_port) = world.redis_port() {
        let mut redis = connect(&format!("redis://127.0.0.1:{redis_port}")).await.unwrap();
        let mut source = redis::cmd("HGET");
        source.arg(format!("{{purgatory}}:entry:{}", announcement.id.to_hex()));
        let source: String = source.arg("source").query_async(&mut redis).await.unwrap();
        assert_eq!(source, "IP4 127.0.0.3");
    }
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
