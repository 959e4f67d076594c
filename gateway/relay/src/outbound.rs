//! The queue of messages to one client: bounded in messages and in bytes.

use std::sync::Arc;
use std::time::Duration;

use futures_util::Sink;
use futures_util::SinkExt;
use tokio::sync::Notify;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

/// The end where messages go in.
#[derive(Debug, Clone)]
pub(super) struct Outbound {
    queue: mpsc::Sender<Queued>,
    budget: Arc<Semaphore>,
    bytes_max: u32,
    overrun: Arc<Notify>,
}

/// A message, and the right to the bytes that it takes.
type Queued = (Message, OwnedSemaphorePermit);

/// The end where messages come out.
pub(super) type Queue = mpsc::Receiver<Queued>;

/// The client is gone, or too slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone;

impl Outbound {
    /// Returns both ends; so many bytes may wait between them. A single longer message waits alone.
    pub(super) fn new(bytes_max: u32) -> (Self, Queue) {
        let (queue, queued) = mpsc::channel(MESSAGES_MAX);
        let outbound = Self {
            queue,
            budget: Arc::new(Semaphore::new(bytes_max as usize)),
            bytes_max,
            overrun: Arc::new(Notify::new()),
        };
        (outbound, queued)
    }

    /// Sends a requested message, waiting while the client is slow.
    pub(super) async fn send(&self, text: String) -> Result<(), Gone> {
        let budget = Arc::clone(&self.budget);
        let bytes = budget.acquire_many_owned(self.cost(&text)).await.map_err(|_| Gone)?;
        self.queue.send((Message::text(text), bytes)).await.map_err(|_| Gone)
    }

    /// Sends a live message without waiting. A client that is too slow for it is dropped.
    pub(super) fn send_at_once(&self, text: String) {
        let budget = Arc::clone(&self.budget);
        let bytes = budget.try_acquire_many_owned(self.cost(&text));
        if !bytes.is_ok_and(|bytes| self.queue.try_send((Message::text(text), bytes)).is_ok()) {
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

/// Writes the queue, with pings in between, until the client is gone.
pub(super) async fn write(mut sink: impl Sink<Message> + Unpin, mut queue: Queue) {
    loop {
        let sent = match tokio::time::timeout(PING_EVERY, queue.recv()).await {
            Ok(Some((message, _bytes))) => tokio::time::timeout(WRITE_MAX, sink.send(message)).await,
            Ok(None) => return,
            Err(_) => tokio::time::timeout(WRITE_MAX, sink.send(Message::Ping(Default::default()))).await,
        };
        if !matches!(sent, Ok(Ok(()))) {
            return;
        }
    }
}

const MESSAGES_MAX: usize = 1024;
/// Most bytes that wait: four of the largest events.
pub(super) const BYTES_MAX: u32 = 1024 * 1024;
/// The same for the gateway's own connection, which must not end because of what strangers publish together: a whole
/// batch.
pub(super) const OWN_BYTES_MAX: u32 = 16 * 1024 * 1024;
/// How often a silent client is pinged (strfry `relay.autoPingSeconds`).
const PING_EVERY: Duration = Duration::from_secs(55);
/// How long a client may take to take one message.
const WRITE_MAX: Duration = Duration::from_secs(30);
