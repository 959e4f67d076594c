//! What an operator mistypes is named, with what was meant, and what is typed in another form is understood.

use nostr::nips::nip19::ToBech32;
use tests::clients::http;
use tests::clients::nostr::now;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::process::Process;
use tests::harness::process::free_port;
use tests::harness::process::program;
use tests::harness::process::shell;
use tests::harness::repository::Repository;
use tests::harness::wait::eventually;
use tests::harness::world::World;
use tokio::net::TcpListener;
use tokio::net::TcpStream;

use crate::fixture::Served;
use crate::fixture::in_both_worlds;

in_both_worlds!(
    a_line_of_a_list_that_matches_nobody_known_is_named_once,
    an_author_is_denied_by_any_form_of_the_key,
    a_hang_up_reads_the_lists_again_and_ends_nothing
);

async fn an_author_is_denied_by_any_form_of_the_key(kind: Kind) {
    let world = denying(kind).await;
    for form in ["hex", "HEX", "npub", "NPUB", "nostr"] {
        let mut nostr = world.nostr().await;
        let repository = Repository::new(form);
        let key = repository.owner.public_key();
        let npub = key.to_bech32().unwrap();
        let line = match form {
            "hex" => key.to_hex(),
            "HEX" => key.to_hex().to_uppercase(),
            "npub" => npub,
            "NPUB" => npub.to_uppercase(),
            _ => format!("nostr:{npub}"),
        };
        std::fs::write(world.denied_authors(), format!("{line}\n")).unwrap();

        eventually("the author's announcements are refused", async || {
            let answer = nostr.send(&world.announcement(&repository, now(), &[])).await;
            !answer.taken && answer.message.starts_with("blocked: ")
        })
        .await;
    }
    let log_with_error = async || world.gateway_log().contains("lists not reloaded");
    std::fs::write(world.denied_authors(), "an-identifier\n").unwrap();
    let asked = Repository::new("asked");
    eventually("what is no key is named", async || {
        world.get(&format!("/{}/asked.git", asked.npub()), "").await;
        log_with_error().await
    })
    .await;
    assert!(world.gateway_log().contains("an-identifier"));
}

/// Who was banned by a key with a mistake in it went on, and nothing told the operator.
async fn a_line_of_a_list_that_matches_nobody_known_is_named_once(kind: Kind) {
    let world = denying(kind).await;
    let mut nostr = world.nostr().await;
    let [pushed, held] = [
        Served::new(&world, &mut nostr, "r").await.repository,
        Repository::new("held"),
    ];
    assert!(nostr.send(&world.announcement(&held, now(), &[])).await.taken);
    let nobody = Repository::new("nobody").npub();
    let [pushed, held] = [pushed.npub(), held.npub()];
    let named = |number: usize| format!("{}:{number} npub1", world.denied_authors().display());

    std::fs::write(world.denied_authors(), format!("{pushed}\n{held}\n{nobody}\n")).unwrap();

    eventually("it is named with file and number", async || {
        world.gateway_log().contains(&named(3))
    })
    .await;
    shell(&format!("kill -s HUP {}", world.gateway_id()), "").await;
    std::fs::write(world.denied_authors(), format!("{nobody}\n{nobody}\n{pushed}\n")).unwrap();
    eventually("so is one of the next content", async || {
        world.gateway_log().contains(&named(1))
    })
    .await;
    let log = world.gateway_log();
    let count = |number| log.matches(&named(number)).count();
    assert_eq!([count(1), count(2), count(3)], [1, 1, 1], "{log}");
}

async fn denying(kind: Kind) -> World {
    let options = Options {
        with_deny_list: true,
        ..Options::default()
    };
    World::start(kind, options).await
}

/// `kill -HUP`, as one does with nginx, ended the gateway at once.
async fn a_hang_up_reads_the_lists_again_and_ends_nothing(kind: Kind) {
    let world = denying(kind).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;

    shell(&format!("kill -s HUP {}", world.gateway_id()), "").await;

    let logged = async || {
        world
            .gateway_log()
            .contains("the operator's lists were reloaded changed=false")
    };
    eventually("it has read them", logged).await;
    assert_eq!(
        world.get(&format!("/{}/r.git", served.repository.npub()), "").await.0,
        200
    );
    assert!(nostr.serves(&served.state).await, "its WebSockets stay");
}

/// Starts a gateway that must not start; returns what it says.
async fn refused(variables: &str, arguments: &str) -> String {
    let program = program("grasp-gateway");
    let command = format!(
        "{variables} {} serve {arguments} 2>&1; echo \"exit $?\"",
        program.display()
    );
    let output = shell(&command, "").await;
    assert!(output.trim_end().ends_with("exit 1"), "{output}");
    output
}

#[tokio::test(flavor = "multi_thread")]
async fn misspelt_variables_and_levels_are_named_with_what_was_meant() {
    for (variables, expected) in [
        (
            "GRASP_RELAYURL=ws://127.0.0.1:7777",
            "GRASP_RELAYURL is not a variable of this program: did you mean GRASP_RELAY_URL?",
        ),
        (
            "GRASP_LOG=debgu",
            "GRASP_LOG has \"debgu\": it must be error, warn, info",
        ),
        (
            "GRASP_DATADIR=/nowhere GRASP_HOLD_SECS=x",
            "did you mean GRASP_DATA_DIR?",
        ),
    ] {
        let text = refused(variables, "").await;
        assert!(text.contains(expected), "{text}");
    }
}

/// It looped into itself, until it had no descriptors left.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_the_gateway_itself_is_refused() {
    let port = free_port();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    for (bind, relay) in [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "localhost"),
        ("0.0.0.0", "127.0.0.1"),
    ] {
        let text = refused(
            "",
            &format!(
                "--bind {bind}:{port} --domain git.example.com --relay-url ws://{relay}:{port} \
                 --redis-url redis://127.0.0.1:1 --data-dir {}",
                data.display()
            ),
        )
        .await;
        assert!(
            text.contains("names this gateway itself") && text.contains("ws://127.0.0.1:7777"),
            "{text}"
        );
    }
}

/// Through a reverse proxy it looped all the same, with 260 lines of the log a second and none that told why.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_leads_back_to_the_gateway_by_a_proxy_is_named_and_not_asked_in_a_loop() {
    let authority = format!("127.0.0.1:{}", free_port());
    let folder = tempfile::tempdir().unwrap();
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let arguments = [
        "serve".to_owned(),
        format!("--bind={authority}"),
        "--domain=git.example.com".to_owned(),
        format!("--relay-url=ws://{}", proxy.local_addr().unwrap()),
        "--redis-url=redis://127.0.0.1:1".to_owned(),
        format!("--data-dir={}", folder.path().join("data").display()),
    ];
    let behind = authority.clone();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = proxy.accept().await {
            let Ok(mut gateway) = TcpStream::connect(&behind).await else {
                continue;
            };
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut gateway).await });
        }
    });
    let gateway = Process::start(&program("grasp-gateway"), &arguments, &folder.path().join("log"));

    eventually("it is named with its mend", async || {
        let log = gateway.output();
        log.contains("relay-url leads back to this gateway") && log.contains("ws://127.0.0.1:7777")
    })
    .await;

    let document = "GET / HTTP/1.1\r\naccept: application/nostr+json\r\n";
    let answer = http::request(&authority, document, b"").await;
    assert_eq!(answer.status, 200, "its own fields are there at once");
    assert!(
        answer.text().contains("supported_grasps"),
        "by which the doctor knows it"
    );
    let log = gateway.output();
    assert_eq!(log.matches("relay-url leads back").count(), 1, "{log}");
}
