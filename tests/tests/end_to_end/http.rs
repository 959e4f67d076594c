//! What browsers, curl and relays see over HTTP.

use serde_json::Value;
use tests::nostr_client::now;
use tests::nostr_client::tag;
use tests::world::Kind;
use tests::world::Options;
use tests::world::Repository;
use tests::world::World;

use super::held;
use super::in_both_worlds;

in_both_worlds!(
    every_answer_may_be_read_by_any_origin,
    the_relay_information_document_names_grasp_01,
    pages_escape_what_comes_from_outside,
    paths_out_of_the_data_directory_name_nothing,
    a_browsers_websocket_is_passed_on,
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
