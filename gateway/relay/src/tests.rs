//! The built-in relay as its clients see it. What it has in common with strfry is tested in
//! `tests/tests/strfry_contract.rs`, with both.

use std::collections::BTreeSet;
use std::future::Future;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use futures_util::SinkExt;
use futures_util::StreamExt;
use hyper::header::HeaderValue;
use nostr::event::Event;
use nostr::event::EventBuilder;
use nostr::event::EventId;
use nostr::event::FinalizeEvent;
use nostr::event::Kind;
use nostr::filter::Filter;
use nostr::key::Keys;
use serde_json::Value;
use serde_json::json;
use shared::relay_client::PublishOutcome;
use shared::relay_client::RelayClient;
use shared::relay_client::Signal;
use shared::write_policy::Answer;
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::limits::RelayLimits;
use crate::policy::EventPolicy;
use crate::server::RelayServer;

/// Says what the content of an event asks it to say.
pub(crate) struct AsAsked;

impl EventPolicy for AsAsked {
    async fn judge(&mut self, event: &Event, _: IpAddr) -> Answer {
        match event.content.split_once(' ') {
            Some(("refuse", text)) => Answer::Refuse(text.to_owned()),
            Some(("hold", text)) => Answer::Hold(text.to_owned().into()),
            _ => Answer::Accept,
        }
    }
}

async fn start(directory: &Path) -> RelayServer {
    let limits = RelayLimits {
        limit_max: 100,
        results_max: 15,
        count_max: 18,
        subscriptions_max: 2,
        ..RelayLimits::default()
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    RelayServer::start(listener, directory, AsAsked, limits).await.unwrap()
}

async fn started() -> (RelayServer, RelayClient, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let relay = start(directory.path()).await;
    let client = client(&relay);
    (relay, client, directory)
}

pub(crate) fn client(relay: &RelayServer) -> RelayClient {
    RelayClient::new(
        format!("ws://{}", relay.local_addr()).parse().unwrap(),
        Duration::from_secs(20),
    )
}

pub(crate) fn note(content: &str) -> Event {
    EventBuilder::new(Kind::TextNote, content)
        .finalize(&Keys::generate())
        .unwrap()
}

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future)
        .await
        .expect("in time")
}

/// A client that says exactly what it is told to.
pub(crate) struct Raw(pub(crate) WebSocketStream<TcpStream>);

impl Raw {
    pub(crate) async fn connect(relay: &RelayServer) -> Self {
        Self::connect_as(relay, None).await
    }

    /// Connects as a client that the gateway names.
    pub(crate) async fn connect_as(relay: &RelayServer, address: Option<&'static str>) -> Self {
        let stream = TcpStream::connect(relay.local_addr()).await.unwrap();
        let url = format!("ws://{}/any/path", relay.local_addr());
        let mut request = url.into_client_request().unwrap();
        if let Some(address) = address {
            let address = HeaderValue::from_static(address);
            request.headers_mut().insert("x-real-ip", address);
        }
        let (socket, _) = client_async(request, stream).await.unwrap();
        Self(socket)
    }

    pub(crate) async fn say(&mut self, text: impl ToString) {
        self.0.send(Message::text(text.to_string())).await.unwrap();
    }

    /// Returns the next message, or null at the end of the connection.
    pub(crate) async fn hear(&mut self) -> Value {
        loop {
            match within(self.0.next()).await {
                Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).unwrap(),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Value::Null,
            }
        }
    }
}

async fn get(relay: &RelayServer, accept: &str) -> String {
    let mut stream = TcpStream::connect(relay.local_addr()).await.unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

#[tokio::test]
async fn stored_events_are_there_after_a_restart_in_the_same_process() {
    let (relay, client, directory) = started().await;
    let event = note("x");
    assert_eq!(within(client.publish(&event)).await, PublishOutcome::Stored);

    within(relay.stop()).await;
    assert!(client.query(vec![Filter::new()]).await.is_err());
    let relay = start(directory.path()).await;

    let found = within(self::client(&relay).query(vec![Filter::new()])).await.unwrap();
    assert_eq!(found, [event]);
}

#[tokio::test]
async fn stop_ends_clients_that_do_nothing() {
    let (relay, _, _directory) = started().await;
    let mut idle = Raw::connect(&relay).await;
    let _unspoken = TcpStream::connect(relay.local_addr()).await.unwrap();

    within(relay.stop()).await;

    assert_eq!(idle.hear().await, Value::Null);
}

#[tokio::test]
async fn http_gets_the_information_document_or_a_text() {
    let (relay, client, _directory) = started().await;

    let document = within(client.information()).await.unwrap();
    assert_eq!(document["limitation"]["max_limit"], 100);
    assert_eq!(document["limitation"]["max_subscriptions"], 2);
    assert_eq!(document["limitation"]["max_subid_length"], 64);
    assert_eq!(document["limitation"]["max_event_tags"], 5_000);
    assert_eq!(document["limitation"]["restricted_writes"], true);
    assert!(
        get(&relay, "text/html, application/nostr+json")
            .await
            .contains(r#""max_limit":100"#)
    );
    assert!(get(&relay, "text/html").await.contains("This is a nostr relay"));
}

#[tokio::test]
async fn malformed_message_is_complained_about_and_the_connection_stays() {
    let (relay, _, _directory) = started().await;
    let mut raw = Raw::connect(&relay).await;

    for text in ["x", "[]", r#"["WHAT"]"#, r#"["REQ",5,{}]"#] {
        raw.say(text).await;
        assert_eq!(raw.hear().await[0], "NOTICE", "{text}");
    }
    raw.say(r#"["EVENT",{"id":"5"}]"#).await;
    let answer = raw.hear().await;
    assert_eq!(
        (&answer[0], &answer[1], &answer[2]),
        (&json!("OK"), &json!("5"), &json!(false))
    );
    raw.say(r#"["REQ","s",{"search":"x"}]"#).await;
    assert_eq!(raw.hear().await[0], "CLOSED");
    raw.say(r#"["REQ","s",{}]"#).await;
    assert_eq!(raw.hear().await, json!(["EOSE", "s"]));
}

#[tokio::test]
async fn message_over_the_limit_ends_the_connection() {
    let (relay, _, _directory) = started().await;
    let mut raw = Raw::connect(&relay).await;

    raw.0.send(Message::text("x".repeat(393_217))).await.ok();

    assert_eq!(raw.hear().await, Value::Null);
}

#[tokio::test]
async fn subscription_beyond_the_limit_is_closed() {
    let (relay, _, _directory) = started().await;
    let mut raw = Raw::connect(&relay).await;

    for (subscription, answer) in [("a", "EOSE"), ("b", "EOSE"), ("c", "CLOSED"), ("b", "EOSE")] {
        raw.say(json!(["REQ", subscription, {}])).await;
        assert_eq!(raw.hear().await[0], answer, "{subscription}");
    }
    raw.say(json!(["CLOSE", "a"])).await;
    raw.say(json!(["REQ", "c", {}])).await;
    assert_eq!(raw.hear().await[0], "EOSE");
}

/// A filter that takes 80 bytes for each of its values.
fn values(count: usize) -> Value {
    json!({"limit": 0, "#t": (0..count).map(|n| format!("{n:013}")).collect::<Vec<_>>()})
}

pub(crate) fn request(verb: &str, subscription: &str, filters: Vec<Value>) -> String {
    let mut request = vec![json!(verb), json!(subscription)];
    request.extend(filters);
    Value::from(request).to_string()
}

/// Returns what the answer to a request begins with, and its text if it is the end of a subscription.
pub(crate) async fn ask(raw: &mut Raw, request: String) -> (String, Option<String>) {
    raw.say(request).await;
    let answer = raw.hear().await;
    let text = answer[2].as_str().map(str::to_owned);
    (answer[0].as_str().unwrap().to_owned(), text)
}

/// Short values took twelve times what was sent, and each stored event was compared with any number of filters.
#[tokio::test]
async fn what_the_open_subscriptions_of_strangers_take_has_a_bound() {
    let directory = tempfile::tempdir().unwrap();
    let limits = RelayLimits {
        open_bytes_max: 30_000,
        open_bytes_per_address_max: 50_000,
        open_filters_per_address_max: 40,
        ..RelayLimits::default()
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let relay = RelayServer::start(listener, directory.path(), AsAsked, limits)
        .await
        .unwrap();
    let mut one = Raw::connect_as(&relay, Some("203.0.113.7")).await;
    let mut same = Raw::connect_as(&relay, Some("203.0.113.7")).await;
    let mut other = Raw::connect_as(&relay, Some("203.0.113.8")).await;
    let mut own = Raw::connect(&relay).await;
    let many = |end: &str| Some(format!("error: too many filters: {end}"));
    let of_connection = || {
        (
            "CLOSED".to_owned(),
            many("the subscriptions of a connection may take 30000 bytes"),
        )
    };
    let of_address = || {
        let end = "the subscriptions of all connections of your address may take 50000 bytes";
        ("CLOSED".to_owned(), many(end))
    };
    let eose = || ("EOSE".to_owned(), None);

    assert_eq!(ask(&mut one, request("REQ", "a", vec![values(300)])).await, eose());
    for verb in ["REQ", "COUNT"] {
        assert_eq!(
            ask(&mut one, request(verb, "b", vec![values(100)])).await,
            of_connection()
        );
        // Too large by itself, so that it is not parsed: no list may hold this.
        let mut unparsed = values(1_000);
        unparsed["#t"][999] = json!(null);
        assert_eq!(ask(&mut one, request(verb, "b", vec![unparsed])).await, of_connection());
    }
    assert_eq!(
        ask(&mut same, request("REQ", "a", vec![values(350)])).await,
        of_address()
    );
    assert_eq!(ask(&mut other, request("REQ", "a", vec![values(350)])).await, eose());
    assert_eq!(ask(&mut own, request("REQ", "a", vec![values(1_000)])).await, eose());
    // What replaces a subscription or ends it gives back what it took, and so does one that is refused.
    assert_eq!(ask(&mut one, request("REQ", "a", vec![values(301)])).await, eose());
    assert_eq!(
        ask(&mut one, request("REQ", "a", vec![values(1_000)])).await,
        of_connection()
    );
    assert_eq!(ask(&mut same, request("REQ", "a", vec![values(350)])).await, eose());
    same.say(json!(["CLOSE", "a"])).await;
    drop(one);

    assert_eq!(
        ask(&mut same, request("REQ", "a", vec![json!({"limit": 0}); 40])).await,
        eose()
    );
    let filters = many("all connections of your address may have 40 open");
    assert_eq!(
        ask(&mut same, request("REQ", "b", vec![json!({})])).await,
        ("CLOSED".to_owned(), filters)
    );
}

/// A client follows 2,000 keys, and has some threads open.
#[tokio::test]
async fn an_honest_client_has_room() {
    let directory = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let limits = RelayLimits::default();
    let relay = RelayServer::start(listener, directory.path(), AsAsked, limits)
        .await
        .unwrap();
    let mut raw = Raw::connect_as(&relay, Some("203.0.113.7")).await;
    let keys = |count: usize| (0..count).map(|n| format!("{n:064x}")).collect::<Vec<_>>();

    let follows = (0..4).map(|_| json!({"kinds": [1, 6], "authors": keys(2_000), "limit": 0}));
    let threads = (0..60).map(|_| json!({"#e": keys(100), "limit": 0}));
    for (number, filter) in follows.chain(threads).enumerate() {
        raw.say(json!(["REQ", number.to_string(), filter])).await;
        assert_eq!(raw.hear().await[0], "EOSE", "{number}");
    }
}

#[tokio::test]
async fn count_is_answered() {
    let (relay, client, _directory) = started().await;
    let mut raw = Raw::connect(&relay).await;
    assert_eq!(within(client.publish(&note("x"))).await, PublishOutcome::Stored);

    raw.say(json!(["COUNT", "s", {"kinds": [1]}])).await;

    assert_eq!(raw.hear().await, json!(["COUNT", "s", {"count": 1}]));
}

/// Many filters and counts over everything took 5.8 GB.
#[tokio::test]
async fn what_one_request_of_a_stranger_finds_is_bounded() {
    let (relay, client, _directory) = started().await;
    for number in 0..20 {
        assert_eq!(
            within(client.publish(&note(&number.to_string()))).await,
            PublishOutcome::Stored
        );
    }
    let mut stranger = Raw::connect_as(&relay, Some("203.0.113.7")).await;
    let mut own = Raw::connect(&relay).await;
    let request = json!(["REQ", "s", {"limit": 10}, {"kinds": [1]}, {"kinds": [1], "since": 1}]);

    for (raw, events, end) in [(&mut stranger, 20, "CLOSED"), (&mut own, 20, "EOSE")] {
        raw.say(&request).await;
        for _ in 0..events {
            assert_eq!(raw.hear().await[0], "EVENT");
        }
        assert_eq!(raw.hear().await[0], end);
    }

    stranger.say(json!(["REQ", "s", {"limit": 10}, {"limit": 12}])).await;
    let mut heard = Vec::new();
    while heard.last() != Some(&json!("EOSE")) {
        heard.push(stranger.hear().await[0].clone());
    }
    assert_eq!(heard.len(), 13, "the limit of each filter counts: {heard:?}");
    stranger.say(json!(["COUNT", "c", {}, {"kinds": [1]}])).await;
    let count = json!({"count": 18, "approximate": true});
    assert_eq!(stranger.hear().await, json!(["COUNT", "c", count]));
}

/// While one client had its results sent as fast as it liked, others of its address could have the relay read as much
/// as they liked.
#[tokio::test]
async fn requests_of_one_address_wait_for_each_other_and_hold_up_nobody_else() {
    let (relay, client, _directory) = started().await;
    // Together 14 MB: more than the queue and the buffers of a socket take (a client that reads nothing lets the system
    // make its own no larger), so that no request of such a client comes to its end.
    let content = "x".repeat(240_000);
    for _ in 0..60 {
        assert_eq!(within(client.publish(&note(&content))).await, PublishOutcome::Stored);
    }
    let request = json!(["REQ", "s", {"kinds": [1]}]);
    let mut deaf = Vec::new();
    for _ in 0..4 {
        let mut raw = Raw::connect_as(&relay, Some("203.0.113.7")).await;
        raw.say(&request).await;
        deaf.push(raw);
    }
    // They have begun once the first event is here.
    for raw in &mut deaf {
        assert_eq!(raw.hear().await[0], "EVENT");
    }

    let mut other = Raw::connect_as(&relay, Some("203.0.113.8")).await;
    other.say(json!(["REQ", "s", {"limit": 1}])).await;
    assert_eq!(other.hear().await[0], "EVENT");
    let mut same = Raw::connect_as(&relay, Some("203.0.113.7")).await;
    same.say(json!(["REQ", "s", {"limit": 1}])).await;
    let waits = tokio::time::timeout(Duration::from_millis(200), same.0.next());
    assert!(waits.await.is_err());
    deaf.clear();
    assert_eq!(same.hear().await[0], "EVENT");
}

#[tokio::test]
async fn ephemeral_event_is_delivered_and_not_stored() {
    let (_relay, client, _directory) = started().await;
    let event = EventBuilder::new(Kind::from(20_001), "")
        .finalize(&Keys::generate())
        .unwrap();
    let mut subscription = client.subscribe(vec![Filter::new()]);
    assert_eq!(within(subscription.next()).await, Signal::Connected);

    assert_eq!(within(client.publish(&event)).await, PublishOutcome::Stored);

    assert_eq!(within(subscription.next()).await, Signal::Event(Box::new(event)));
    assert_eq!(within(client.query(vec![Filter::new()])).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriber_hears_of_every_event_once_whenever_it_comes() {
    let (relay, client, _directory) = started().await;
    let events: Vec<Event> = (0..80).map(|number| note(&number.to_string())).collect();
    let expected: BTreeSet<EventId> = events.iter().map(|event| event.id).collect();
    let publishing = tokio::spawn(async move {
        for events in events.chunks(4) {
            for outcome in futures_util::future::join_all(events.iter().map(|event| client.publish(event))).await {
                assert_eq!(outcome, PublishOutcome::Stored);
            }
        }
    });

    let mut subscribers = Vec::new();
    for _ in 0..10 {
        let mut raw = Raw::connect(&relay).await;
        raw.say(json!(["REQ", "s", {}])).await;
        // The next one comes when this one is served, so that they are spread over the publishing.
        let first = raw.hear().await;
        subscribers.push((raw, first));
    }

    within(publishing).await.unwrap();
    for (mut raw, first) in subscribers {
        let mut heard = Vec::new();
        let mut message = first;
        while heard.len() < expected.len() {
            if message[0] == "EVENT" {
                heard.push(EventId::from_hex(message[2]["id"].as_str().unwrap()).unwrap());
            }
            if heard.len() < expected.len() {
                message = raw.hear().await;
            }
        }
        // Anything twice would be in the place of another.
        assert_eq!(heard.into_iter().collect::<BTreeSet<_>>(), expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_that_does_not_read_is_dropped_and_holds_nobody_up() {
    let (relay, client, _directory) = started().await;
    let mut deaf = Raw::connect(&relay).await;
    deaf.say(json!(["REQ", "s", {"limit": 0}])).await;
    assert_eq!(deaf.hear().await[0], "EOSE");

    // More than its queue and the sockets' buffers take.
    let content = "x".repeat(200_000);
    for _ in 0..20 {
        let publishes = (0..8).map(|_| async { client.publish(&note(&content)).await });
        for outcome in within(futures_util::future::join_all(publishes)).await {
            assert_eq!(outcome, PublishOutcome::Stored);
        }
    }

    let mut heard = 0;
    while deaf.hear().await != Value::Null {
        heard += 1;
    }
    assert!(heard < 160, "{heard}");
}
