//! The client against a relay that misbehaves on demand; with real ones: `tests/tests/strfry_contract.rs`.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use futures_util::SinkExt;
use futures_util::StreamExt;
use nostr::event::EventBuilder;
use nostr::event::FinalizeEvent;
use nostr::event::Kind;
use nostr::key::Keys;
use nostr::types::Timestamp;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite;

use super::*;

/// What the relay does about a message.
pub(crate) enum Reply {
    Say(Value),
    HangUp,
}

/// Starts a relay that answers each message as `reply` decides, which is given the number of earlier connections.
pub(crate) async fn relay(
    max_limit: usize,
    reply: impl Fn(usize, &Value) -> Vec<Reply> + Send + Sync + 'static,
) -> RelayClient {
    relay_waited_for(Duration::from_millis(500), max_limit, reply).await
}

/// The same, for which its client waits so long.
pub(crate) async fn relay_waited_for(
    timeout: Duration,
    max_limit: usize,
    reply: impl Fn(usize, &Value) -> Vec<Reply> + Send + Sync + 'static,
) -> RelayClient {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let (reply, connections) = (Arc::new(reply), Arc::new(AtomicUsize::new(0)));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, max_limit, Arc::clone(&reply), Arc::clone(&connections)));
        }
    });
    RelayClient::new(url.parse().unwrap(), timeout)
}

async fn serve<R>(mut stream: TcpStream, max_limit: usize, reply: Arc<R>, connections: Arc<AtomicUsize>)
where
    R: Fn(usize, &Value) -> Vec<Reply> + Send + Sync + 'static,
{
    let mut head = [0; 2048];
    let length = stream.peek(&mut head).await.unwrap();
    if !String::from_utf8_lossy(&head[..length]).contains("Upgrade") {
        let document = document(max_limit).to_string();
        stream.read_exact(&mut head[..length]).await.unwrap();
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{document}",
            document.len()
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
        return;
    }
    let connections_before = connections.fetch_add(1, Ordering::SeqCst);
    let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
    while let Some(Ok(message)) = socket.next().await {
        let Ok(text) = message.to_text() else {
            continue;
        };
        let Ok(message) = serde_json::from_str(text) else {
            continue;
        };
        for reply in reply(connections_before, &message) {
            match reply {
                Reply::Say(value) => socket
                    .send(tungstenite::Message::text(value.to_string()))
                    .await
                    .unwrap(),
                Reply::HangUp => return,
            }
        }
    }
}

/// The relay's information document.
fn document(max_limit: usize) -> Value {
    json!({"limitation": {"max_limit": max_limit, "max_message_length": MESSAGE_BYTES_MAX_STATED}})
}

/// Longest message that the relay announces.
const MESSAGE_BYTES_MAX_STATED: usize = 100_000;

/// Answers a request as a relay with these events does, newest first, at most `max_limit` for each filter.
pub(crate) fn stored(events: &[Event], max_limit: usize, message: &Value) -> Vec<Reply> {
    let Some(("REQ", subscription)) = message[0].as_str().zip(message.get(1)) else {
        return Vec::new();
    };
    let mut replies = Vec::new();
    for filter in message.as_array().unwrap().iter().skip(2) {
        let until = filter["until"].as_u64().unwrap_or(u64::MAX);
        let limit = (filter["limit"].as_u64().unwrap() as usize).min(max_limit);
        let matching = events.iter().filter(|event| event.created_at.as_secs() <= until);
        replies.extend(
            matching
                .take(limit)
                .map(|event| Reply::Say(json!(["EVENT", subscription, event]))),
        );
    }
    replies.push(Reply::Say(json!(["EOSE", subscription])));
    replies
}

#[tokio::test]
async fn few_that_a_query_asks_for_beside_are_all_only_if_they_are_few() {
    let [note, other] = [1, 2].map(|time| events([time]).remove(0));
    for (stored_deletions, bytes, is_whole) in [
        (0, 1, true),
        (2, 1, true),
        (9, 1, false),
        (10, 1, false),
        (2, 1_200_000, false),
    ] {
        let keys = Keys::generate();
        let deletion = |number: u64| {
            let deletion = EventBuilder::new(Kind::EventDeletion, number.to_string().repeat(bytes));
            deletion.finalize(&keys).unwrap()
        };
        let deletions: Vec<Event> = (0..stored_deletions).map(deletion).collect();
        let asked = Arc::new(AtomicUsize::new(0));
        let (requests, notes, stored_here) = (Arc::clone(&asked), [note.clone(), other.clone()], deletions.clone());
        let client = relay(500, move |_, message| {
            let Some(("REQ", subscription)) = message[0].as_str().zip(message.get(1)) else {
                return Vec::new();
            };
            requests.fetch_add(1, Ordering::SeqCst);
            let events = notes.iter().chain(&stored_here);
            let replies = events.map(|event| Reply::Say(json!(["EVENT", subscription, event])));
            replies.chain([Reply::Say(json!(["EOSE", subscription]))]).collect()
        })
        .await;
        let notes = Filter::new().kind(Kind::TextNote);
        let few = Filter::new().kind(Kind::EventDeletion).author(keys.public_key());

        let query = || within(client.query_with(vec![notes.clone()], few.clone(), 10));
        let found = [query().await.unwrap(), query().await.unwrap()].map(|found| found.map(|found| found.len()));
        // Whose are many or large is not asked for them again.
        assert_eq!(found, [is_whole.then_some(2 + deletions.len()); 2]);
        assert_eq!(asked.load(Ordering::SeqCst), if is_whole { 2 } else { 1 });
    }
}

/// Returns events made at these times.
fn events(times: impl IntoIterator<Item = u64>) -> Vec<Event> {
    let keys = Keys::generate();
    times
        .into_iter()
        .enumerate()
        .map(|(number, time)| {
            EventBuilder::new(Kind::TextNote, number.to_string())
                .custom_created_at(Timestamp::from_secs(time))
                .finalize(&keys)
                .unwrap()
        })
        .collect()
}

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .expect("in time")
}

#[tokio::test]
async fn query_goes_on_until_a_page_is_short() {
    // Pages of three; one boundary within a second, one full page at the very end.
    for count in 0..=9 {
        let events = events((0..count).map(|number| 100 - number / 2));
        let expected = events.clone();
        let client = relay(3, move |_, message| stored(&events, 3, message)).await;

        for filters in [vec![Filter::new()], vec![Filter::new(), Filter::new()]] {
            let mut answer = within(client.query(filters)).await.unwrap();

            answer.sort();
            let mut expected = expected.clone();
            expected.sort();
            assert_eq!(answer, expected, "{count}");
        }
    }
}

#[tokio::test]
async fn query_of_nothing_is_empty() {
    let client = relay(3, |_, _| Vec::new()).await;

    assert_eq!(within(client.query(Vec::new())).await.unwrap(), Vec::new());
}

#[tokio::test]
async fn few_that_match_are_all_and_as_many_as_the_limit_are_not() {
    for (count, are_all) in [(0, true), (17, true), (18, false), (20, false), (30, false)] {
        let events = events(0..count);
        let expected = are_all.then(|| events.clone());
        let client = relay(100, move |_, message| stored(&events, 100, message)).await;

        let answer = within(client.fewer_than(1 << 20, 20, vec![Filter::new().limit(20)]))
            .await
            .unwrap();

        assert_eq!(answer, expected, "{count}");
    }
}

#[tokio::test]
async fn query_that_cannot_get_past_a_second_is_an_error() {
    let events = events([7; 4]);
    let client = relay(3, move |_, message| stored(&events, 3, message)).await;

    let error = within(client.query(vec![Filter::new()])).await.unwrap_err();

    assert!(matches!(error, RelayError::Stalled { created_at: 7, .. }), "{error}");
}

#[tokio::test]
async fn invalid_event_is_skipped() {
    let valid = events([7]);
    let expected = valid.clone();
    let client = relay(3, move |_, message| {
        let mut replies = stored(&valid, 3, message);
        if message[0] == "REQ" {
            let event = json!({"created_at": 8, "tags": [["t", 5]]});
            replies.insert(0, Reply::Say(json!(["EVENT", message[1], event])));
        }
        replies
    })
    .await;

    assert_eq!(within(client.query(vec![Filter::new()])).await.unwrap(), expected);
}

#[tokio::test]
async fn query_that_the_relay_does_not_finish_is_an_error() {
    type LastReplies = fn(&Value) -> Vec<Reply>;
    let endings: [(LastReplies, &str); 4] = [
        (
            |message| vec![Reply::Say(json!(["CLOSED", message[1], "no"]))],
            "Closed",
        ),
        (|_| vec![Reply::Say(json!(["NOTICE", "no"]))], "Notice"),
        (|_| vec![Reply::HangUp], "Disconnected"),
        (|_| Vec::new(), "Timeout"),
    ];
    for (ending, expected) in endings {
        let events = events([9, 8]);
        let client = relay(3, move |_, message| {
            let mut replies = stored(&events, 3, message);
            if !replies.is_empty() {
                replies.pop();
                replies.extend(ending(message));
            }
            replies
        })
        .await;

        let error = within(client.query(vec![Filter::new()])).await.unwrap_err();

        assert!(
            format!("{error:?}").starts_with(expected),
            "{error:?} is not {expected}"
        );
    }
}

#[tokio::test]
async fn lost_connection_is_made_again_without_an_error() {
    let events = events([7]);
    let expected = events.clone();
    let requests = AtomicUsize::new(0);
    let client = relay(3, move |_, message| {
        // The second request finds the connection gone.
        if message[0] == "REQ" && requests.fetch_add(1, Ordering::SeqCst) == 1 {
            return vec![Reply::HangUp];
        }
        stored(&events, 3, message)
    })
    .await;

    for _ in 0..3 {
        assert_eq!(within(client.query(vec![Filter::new()])).await.unwrap(), expected);
    }
}

#[tokio::test]
async fn silent_connection_is_given_up() {
    let events = events([7]);
    let expected = events.clone();
    let client = relay(3, move |connections_before, message| match connections_before {
        0 => Vec::new(),
        _ => stored(&events, 3, message),
    })
    .await;

    assert!(within(client.query(vec![Filter::new()])).await.is_err());
    assert_eq!(within(client.query(vec![Filter::new()])).await.unwrap(), expected);
}

#[tokio::test]
async fn queries_at_the_same_time_do_not_mix() {
    let events = events(0..20);
    let by_time = events.clone();
    let client = relay(50, move |_, message| {
        let since = message[2]["since"].as_u64();
        let matching: Vec<_> = by_time
            .iter()
            .filter(|event| Some(event.created_at.as_secs()) == since)
            .cloned()
            .collect();
        stored(&matching, 50, message)
    })
    .await;

    let queries = events.iter().map(|event| {
        let client = client.clone();
        async move { client.query(vec![Filter::new().since(event.created_at)]).await.unwrap() }
    });
    let answers = within(futures_util::future::join_all(queries)).await;

    assert_eq!(answers.concat(), events);
}

#[tokio::test]
async fn publish_says_what_the_relay_answered() {
    let client = relay(3, |_, message| match message[0].as_str() {
        Some("EVENT") => vec![Reply::Say(json!(["OK", message[1]["id"], true, "purgatory: wait"]))],
        _ => Vec::new(),
    })
    .await;

    let outcome = within(client.publish(&events([7])[0])).await;

    assert_eq!(outcome, PublishOutcome::Held("purgatory: wait".to_owned()));
}

#[tokio::test]
async fn publish_without_an_answer_is_worth_another_attempt() {
    for reply in [|| Vec::new(), || vec![Reply::HangUp]] {
        let client = relay(3, move |_, _| reply()).await;

        let outcome = within(client.publish(&events([7])[0])).await;

        assert!(matches!(outcome, PublishOutcome::Busy(_)), "{outcome:?}");
    }
    let nobody = RelayClient::new("ws://127.0.0.1:1".parse().unwrap(), Duration::from_secs(1));
    let outcome = within(nobody.publish(&events([7])[0])).await;
    assert!(matches!(outcome, PublishOutcome::Busy(_)), "{outcome:?}");
}

/// Each git event held the relay's only writer up for as long as one question may take.
#[tokio::test]
async fn a_relay_that_hangs_is_waited_for_once_by_the_impatient_and_asked_again_when_it_answers() {
    let (hangs, asked) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
    let (is_hanging, count) = (Arc::clone(&hangs), Arc::clone(&asked));
    let patient = relay(3, move |_, message| {
        count.fetch_add(usize::from(message[2]["kinds"] == json!([1618])), Ordering::SeqCst);
        match is_hanging.load(Ordering::SeqCst) {
            true => Vec::new(),
            false => stored(&[], 3, message),
        }
    })
    .await;
    let client = RelayClient::impatient(patient.inner.url.clone(), Duration::from_millis(500));
    let ask = async || client.query(vec![Filter::new().kind(Kind::from_u16(1618))]).await;

    for _ in 0..100 {
        assert!(matches!(within(ask()).await, Err(RelayError::Timeout)));
    }

    assert_eq!(asked.load(Ordering::SeqCst), 1);
    hangs.store(false, Ordering::SeqCst);
    within(async {
        while ask().await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn subscription_says_when_it_stands_and_comes_back() {
    let live = events([9]);
    let expected = Signal::Event(Box::new(live[0].clone()));
    let client = relay(3, move |connections_before, message| {
        assert_eq!(message[2]["limit"], 0);
        vec![
            Reply::Say(json!(["EOSE", message[1]])),
            Reply::Say(json!(["EVENT", message[1], live[0]])),
            match connections_before {
                0 => Reply::HangUp,
                1 => Reply::Say(json!(["CLOSED", message[1], "error: no"])),
                _ => Reply::Say(json!(["NOTICE", "hello"])),
            },
        ]
    })
    .await;
    let mut subscription = client.subscribe(vec![Filter::new()]);

    for _ in 0..3 {
        assert_eq!(within(subscription.next()).await, Signal::Connected);
        assert_eq!(within(subscription.next()).await, expected);
    }
}

#[tokio::test]
async fn information_is_the_relays_document() {
    let client = relay(3, |_, _| Vec::new()).await;

    let document = within(client.information()).await.unwrap();

    assert_eq!(document, self::document(3));
}

/// Starts a relay that answers any HTTP request with these bytes, and then keeps the connection or ends it.
async fn http_relay(answer: Vec<u8>, keeps_open: bool) -> RelayClient {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
        }
        // A client that has read enough ends the connection.
        drop(stream.write_all(&answer).await);
        while keeps_open && stream.read_buf(&mut request).await.is_ok_and(|len| len > 0) {}
    });
    RelayClient::new(url.parse().unwrap(), Duration::from_millis(500))
}

#[tokio::test]
async fn information_is_a_whole_answer_with_status_200_or_an_error() {
    let answer = |head: &str, body: &str| format!("HTTP/1.1 {head}\r\n\r\n{body}").into_bytes();
    let long = format!("\"{}\"", "x".repeat(1024 * 1024));
    let rows = [
        (answer("200 OK\r\nContent-Length: 2", "{}"), true, "Ok("),
        (answer("200 OK\r\nA: b", "{}"), false, "Ok("),
        (
            answer("200 OK\r\nTransfer-Encoding: chunked", "2\r\n{}\r\n0\r\n\r\n"),
            true,
            "Ok(",
        ),
        (answer("200 OK\r\nContent-Length: 3", "{}"), true, "Err(Timeout"),
        (answer("200 OK\r\nContent-Length: 3", "{}"), false, "Err(Disconnected"),
        (answer("200 OK\r\nA: b", "{}"), true, "Err(Timeout"),
        (answer("200 OK\r\nContent-Length: 1", "{"), true, "Err(Information"),
        (answer("200 OK\r\nA: b", &long), false, "Err(Information"),
        (
            answer("404 Not Found\r\nContent-Length: 2", "{}"),
            true,
            "Err(Information",
        ),
        (b"\xff\r\n\r\n".to_vec(), true, "Err(Information"),
        (Vec::new(), false, "Err(Disconnected"),
        (Vec::new(), true, "Err(Timeout"),
    ];
    for (answer, keeps_open, expected) in rows {
        let shown = String::from_utf8_lossy(&answer[..answer.len().min(80)]).into_owned();
        let client = http_relay(answer, keeps_open).await;

        let information = format!("{:?}", within(client.information()).await);

        assert!(information.starts_with(expected), "{shown:?}: {information}");
    }
}

#[tokio::test]
async fn message_over_the_relays_limit_is_not_sent() {
    let client = relay(3, |_, message| panic!("{message}")).await;
    let long = EventBuilder::new(Kind::TextNote, "x".repeat(MESSAGE_BYTES_MAX_STATED))
        .finalize(&Keys::generate())
        .unwrap();

    let outcome = within(client.publish(&long)).await;
    assert!(matches!(outcome, PublishOutcome::Refused(_)), "{outcome:?}");

    let ids = (0..2000_u32).map(|number| {
        let mut id = [0; 32];
        id[..4].copy_from_slice(&number.to_be_bytes());
        nostr::event::EventId::from_byte_array(id)
    });
    let error = within(client.query(vec![Filter::new().ids(ids)])).await.unwrap_err();
    assert!(matches!(error, RelayError::MessageTooLong { .. }), "{error}");
}
