//! The queue of messages to one client: bounded in messages and in bytes.

use std::sync::Arc;
use std::time::Duration;

use futures_util::Sink;
use futures_util::SinkExt;
use tokio::sync::Notify;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Bytes;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::Data;
use tokio_tungstenite::tungstenite::protocol::frame::coding::OpCode;

use crate::message_bytes::ConnectionBytes;
use crate::message_bytes::HeldBytes;

/// The end where messages go in.
#[derive(Debug, Clone)]
pub(super) struct Outbound {
    queue: mpsc::Sender<Queued>,
    budget: Arc<Semaphore>,
    bytes_max: u32,
    /// In which all messages of all connections count.
    unsent: ConnectionBytes,
    overrun: Arc<Notify>,
}

/// A message, and the right to the bytes that it takes.
type Queued = (Utf8Bytes, OwnedSemaphorePermit, HeldBytes);

/// The end where messages come out.
pub(super) type Queue = mpsc::Receiver<Queued>;

/// The client is gone, or too slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone;

impl Outbound {
    /// Returns both ends; so many bytes may wait between them. A single longer message waits alone.
    pub(super) fn new(bytes_max: u32, unsent: ConnectionBytes) -> (Self, Queue) {
        let (queue, queued) = mpsc::channel(MESSAGES_MAX);
        let outbound = Self {
            queue,
            budget: Arc::new(Semaphore::new(bytes_max as usize)),
            bytes_max,
            unsent,
            overrun: Arc::new(Notify::new()),
        };
        (outbound, queued)
    }

    /// Sends a requested message, waiting while the client is slow, or while clients together have not taken much.
    pub(super) async fn send(&self, text: String) -> Result<(), Gone> {
        let budget = Arc::clone(&self.budget);
        let bytes = budget.acquire_many_owned(self.cost(&text)).await.map_err(|_| Gone)?;
        let held = self.unsent.hold_in_turn(text.len()).await;
        self.queue.send((text.into(), bytes, held)).await.map_err(|_| Gone)
    }

    /// Sends a live message without waiting. A client that is too slow for it is dropped.
    pub(super) fn send_at_once(&self, text: String) {
        let budget = Arc::clone(&self.budget);
        let bytes = budget.try_acquire_many_owned(self.cost(&text));
        let queued = bytes.is_ok_and(|bytes| {
            let held = self.unsent.hold(text.len());
            self.queue.try_send((text.into(), bytes, held)).is_ok()
        });
        if !queued {
            self.overrun.notify_one();
        }
    }

    fn cost(&self, text: &str) -> u32 {
        u32::try_from(text.len()).map_or(self.bytes_max, |bytes| bytes.min(self.bytes_max))
    }

    /// Waits until the client has turned out too slow.
    pub(super) async fn overrun(&self) {
        self.overrun.notified().await;
    }
}

/// Writes the queue until the client is gone, and pings however much there is to write: a client that only listens is
/// heard by its answers alone.
pub(super) async fn write(mut sink: impl Sink<Message> + Unpin, mut queue: Queue) {
    let mut pings = tokio::time::interval_at(Instant::now() + PING_EVERY, PING_EVERY);
    loop {
        let sent = tokio::select! {
            queued = queue.recv() => match queued {
                Some((text, _bytes, _held)) => tokio::time::timeout(WRITE_MAX, send(&mut sink, text)).await,
                None => return,
            },
            _ = pings.tick() => tokio::time::timeout(WRITE_MAX, sink.send(Message::Ping(Default::default()))).await,
        };
        if !matches!(sent, Ok(Ok(()))) {
            return;
        }
    }
}

/// Sends a message, a long one in several frames: the buffer that the longest frame needed stays with the connection.
async fn send<S: Sink<Message> + Unpin>(sink: &mut S, text: Utf8Bytes) -> Result<(), S::Error> {
    if text.len() <= FRAME_BYTES_MAX {
        return sink.send(Message::Text(text)).await;
    }
    let mut rest = Bytes::from(text);
    let mut data = Data::Text;
    while !rest.is_empty() {
        let payload = rest.split_to(rest.len().min(FRAME_BYTES_MAX));
        let frame = Frame::message(payload, OpCode::Data(data), rest.is_empty());
        sink.send(Message::Frame(frame)).await?;
        data = Data::Continue;
    }
    Ok(())
}

const MESSAGES_MAX: usize = 1024;
/// Most bytes that wait: four of the largest events.
pub(super) const BYTES_MAX: u32 = 1024 * 1024;
/// The same for the gateway's own connection, which must not end because of what strangers publish together: a whole
/// batch.
pub(super) const OWN_BYTES_MAX: u32 = 16 * 1024 * 1024;
/// Longest frame.
const FRAME_BYTES_MAX: usize = 16 * 1024;
/// How often a silent client is pinged (strfry `relay.autoPingSeconds`).
const PING_EVERY: Duration = Duration::from_secs(55);
/// How long a client may take to take one message.
const WRITE_MAX: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::message_bytes::MessageBytes;

    /// 256 connections of one address left 1 MiB each unread.
    #[tokio::test]
    async fn what_one_address_leaves_unread_has_a_bound_together() {
        let all = MessageBytes::new(1000, 10_000);
        let connect = |last: u8| {
            let unsent = all.of(Some([203, 0, 113, last].into()));
            (Outbound::new(BYTES_MAX, unsent.clone()), unsent)
        };
        let ((first, _first_queue), first_bytes) = connect(1);
        let ((second, mut second_queue), second_bytes) = connect(1);
        let ((other, _other_queue), other_bytes) = connect(2);

        first.send("x".repeat(600)).await.unwrap();
        other.send_at_once("x".repeat(600));
        second.send_at_once("x".repeat(400));
        drop(second_queue.recv().await);
        second.send_at_once("x".repeat(400));
        for bytes in [&first_bytes, &second_bytes, &other_bytes] {
            assert_eq!(bytes.ended().now_or_never(), None);
        }
        second.send_at_once("x".to_owned());

        assert!(first_bytes.ended().now_or_never().is_some());
        assert_eq!(second_bytes.ended().now_or_never(), None);
        assert_eq!(other_bytes.ended().now_or_never(), None);
    }

    /// Sixteen connections that read slowly, 1 MiB of a requested answer each, and one of them ended.
    #[tokio::test]
    async fn requested_messages_wait_for_room_and_end_nobody() {
        let all = MessageBytes::new(1000, 10_000);
        let mut connections: Vec<_> = (0..5)
            .map(|_| {
                let unsent = all.of(Some([203, 0, 113, 7].into()));
                (Outbound::new(BYTES_MAX, unsent.clone()), unsent)
            })
            .collect();
        let mut waiting = Vec::new();
        for ((outbound, _), _) in &connections {
            let outbound = outbound.clone();
            waiting.push(tokio::spawn(async move {
                for _ in 0..20 {
                    outbound.send("x".repeat(100)).await.unwrap();
                }
            }));
        }
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        assert!(waiting.iter().all(|sends| !sends.is_finished()));

        // Each gets on as its own client takes what is there.
        for ((_, queue), _) in &mut connections {
            for _ in 0..20 {
                let taken = tokio::time::timeout(Duration::from_secs(20), queue.recv()).await;
                assert!(taken.unwrap().is_some());
            }
        }
        for sends in waiting {
            sends.await.unwrap();
        }
        for (_, unsent) in &connections {
            assert_eq!(unsent.ended().now_or_never(), None);
        }
    }

    /// What there was to write put the pings off, and after 150 s the client had not been heard.
    #[tokio::test(start_paused = true)]
    async fn who_only_listens_is_pinged_however_much_there_is_to_write() {
        let unsent = MessageBytes::new(1000, 1000).of(None);
        let (outbound, queue) = Outbound::new(BYTES_MAX, unsent);
        let mut written: Vec<Message> = Vec::new();

        let events = async move {
            for _ in 0..30 {
                tokio::time::sleep(Duration::from_secs(10)).await;
                outbound.send_at_once("an event".to_owned());
            }
        };
        tokio::join!(write(&mut written, queue), events);

        let pings = written.iter().filter(|message| message.is_ping()).count();
        assert_eq!((pings, written.len()), (5, 35));
    }

    /// The buffer for the longest frame was kept by each connection.
    #[tokio::test]
    async fn a_long_message_is_sent_in_frames() {
        for bytes in [0, 10, FRAME_BYTES_MAX, FRAME_BYTES_MAX + 1, 3 * FRAME_BYTES_MAX] {
            let text = "é".repeat(bytes / 2) + if bytes % 2 == 1 { "x" } else { "" };
            let mut sent: Vec<Message> = Vec::new();
            send(&mut sent, text.clone().into()).await.unwrap();

            let last = sent.len() - 1;
            for (number, message) in sent.iter().enumerate() {
                assert!(message.len() <= FRAME_BYTES_MAX + 14, "{bytes}");
                if let Message::Frame(frame) = message {
                    assert_eq!(frame.header().is_final, number == last);
                    let data = if number == 0 { Data::Text } else { Data::Continue };
                    assert_eq!(frame.header().opcode, OpCode::Data(data));
                }
            }
            let payloads = sent.into_iter().map(|message| {
                if let Message::Frame(frame) = message {
                    frame.into_payload()
                } else {
                    message.into_data()
                }
            });
            assert_eq!(payloads.collect::<Vec<Bytes>>().concat(), text.into_bytes());
        }
    }
}
