//! One connection to the relay: a task that reads, one that writes, and the requests between them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::SinkExt;
use futures_util::StreamExt;
use futures_util::stream;
use futures_util::stream::SplitSink;
use futures_util::stream::SplitStream;
use nostr::event::Event;
use nostr::filter::Filter;
use nostr::message::ClientMessage;
use nostr::message::SubscriptionId;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio_tungstenite::tungstenite::Message;

use super::address::RelaySocket;
use super::address::RelayUrl;
use super::error::RelayError;
use super::information;
use super::information::StatedLimits;
use super::outcome::PublishOutcome;
use super::page::Page;
use super::pending::Pending;

/// A connection. It ends when it is dropped, when the relay ends it, or when the relay has fallen silent.
#[derive(Debug)]
pub(super) struct RelayConnection {
    limits: StatedLimits,
    timeout: Duration,
    pending: Arc<Mutex<Pending>>,
    outbound: mpsc::Sender<String>,
    task: AbortHandle,
}

impl RelayConnection {
    /// Connects, and reads the relay's limits.
    pub(super) async fn open(url: &RelayUrl, timeout: Duration) -> Result<Self, RelayError> {
        let limits = StatedLimits::of(&information::fetch(url).await?);
        let (sink, stream) = url.open().await?.split();
        let (outbound, messages) = mpsc::channel(MESSAGES_MAX);
        let pending = Arc::new(Mutex::new(Pending::default()));
        let task = tokio::spawn(run(sink, stream, messages, Arc::clone(&pending)));
        Ok(Self {
            limits,
            timeout,
            pending,
            outbound,
            task: task.abort_handle(),
        })
    }

    /// Returns how many events the relay returns for a filter at most, as it stated when the connection was made.
    pub(super) fn page_size(&self) -> usize {
        self.limits.page_size
    }

    pub(super) fn is_closed(&self) -> bool {
        self.pending.lock().closed
    }

    /// Requests stored events that match one of `filters`, at most `page_size` each, of so many bytes of memory at
    /// most, and of no more than any page may have.
    pub(super) async fn page_within(
        &self,
        bytes_max: usize,
        filters: &[Filter],
        page_size: usize,
    ) -> Result<Page, RelayError> {
        let bytes_max = bytes_max.min(PAGE_BYTES_MAX);
        let page = self.page_cut(bytes_max, filters, page_size).await?;
        match page.is_cut {
            true => Err(RelayError::TooLarge { bytes_max }),
            false => Ok(page),
        }
    }

    /// Requests the same; an answer with more bytes ends there, and is not an error.
    pub(super) async fn page_cut(
        &self,
        bytes_max: usize,
        filters: &[Filter],
        page_size: usize,
    ) -> Result<Page, RelayError> {
        let events_max = page_size.saturating_mul(filters.len());
        let bytes_max = bytes_max.min(PAGE_BYTES_MAX);
        let (subscription, page) = self.pending.lock().open_query(events_max, bytes_max)?;
        let open = OpenQuery {
            connection: self,
            subscription: SubscriptionId::new(subscription),
        };
        let request = ClientMessage::req(open.subscription.clone(), filters);
        self.exchange(to_json(&request), page).await?
    }

    pub(super) async fn publish(&self, event: &Event) -> Result<PublishOutcome, RelayError> {
        let outcome = self.pending.lock().expect_answer(event.id)?;
        let message = ClientMessage::Event(std::borrow::Cow::Borrowed(event));
        self.exchange(to_json(&message), outcome).await
    }

    /// Sends a message and waits for what answers it.
    async fn exchange<T>(&self, message: String, answer: oneshot::Receiver<T>) -> Result<T, RelayError> {
        if let Some(bytes_max) = self.limits.message_bytes_max
            && message.len() > bytes_max
        {
            return Err(RelayError::MessageTooLong {
                bytes: message.len(),
                bytes_max,
            });
        }
        let frames_before = self.pending.lock().frames_taken;
        let answered = tokio::time::timeout(self.timeout, async {
            self.outbound
                .send(message)
                .await
                .map_err(|_| RelayError::Disconnected)?;
            answer.await.map_err(|_| RelayError::Disconnected)
        });
        match answered.await {
            Ok(answer) => answer,
            Err(_) => {
                // Nothing was received: the peer may have gone without notice, and TCP would take minutes to detect it.
                if self.pending.lock().frames_taken == frames_before {
                    self.end();
                }
                Err(RelayError::Timeout)
            }
        }
    }

    fn end(&self) {
        self.pending.lock().close();
        self.task.abort();
    }
}

impl Drop for RelayConnection {
    fn drop(&mut self) {
        self.end();
    }
}

/// An open subscription at the relay. Dropped, it is closed there, however the query ended.
struct OpenQuery<'c> {
    connection: &'c RelayConnection,
    subscription: SubscriptionId,
}

impl Drop for OpenQuery<'_> {
    fn drop(&mut self) {
        self.connection.pending.lock().forget_query(self.subscription.as_str());
        let close = ClientMessage::close(self.subscription.clone());
        // A full channel is a relay that does not read. Its subscriptions would add up to its limit.
        if self.connection.outbound.try_send(to_json(&close)).is_err() {
            self.connection.end();
        }
    }
}

/// Reads and writes, independently of each other (a relay that waits for us to read reads nothing itself), until
/// one of them ends.
async fn run(
    sink: SplitSink<RelaySocket, Message>,
    stream: SplitStream<RelaySocket>,
    messages: mpsc::Receiver<String>,
    pending: Arc<Mutex<Pending>>,
) {
    tokio::select! {
        () = read(stream, &pending) => {}
        () = write(sink, messages) => {}
    }
    pending.lock().close();
}

async fn read(mut stream: SplitStream<RelaySocket>, pending: &Mutex<Pending>) {
    while let Some(frame) = stream.next().await {
        match frame {
            Ok(frame) => pending.lock().take_frame(&frame),
            Err(error) => {
                tracing::debug!(%error, "the connection to the relay is lost");
                return;
            }
        }
    }
}

async fn write(mut sink: SplitSink<RelaySocket, Message>, mut messages: mpsc::Receiver<String>) {
    let mut batch = Vec::new();
    while messages.recv_many(&mut batch, MESSAGES_MAX).await > 0 {
        // Requests that belong together are written together.
        let mut frames = stream::iter(batch.drain(..).map(|message| Ok(Message::text(message))));
        if let Err(error) = sink.send_all(&mut frames).await {
            tracing::debug!(%error, "the connection to the relay is lost");
            return;
        }
    }
}

pub(super) fn to_json(message: &ClientMessage<'_>) -> String {
    serde_json::to_string(message).expect("a message has only string keys and no failing serializer")
}

/// Most memory of one answer: strangers decide how large events are, and of how many tags. An event of the largest size
/// that strfry takes by default, with as many elements of tags as are accepted, takes 1.25 MB: 26 of these fit, and
/// so the announcements and states of 12 authors.
const PAGE_BYTES_MAX: usize = 32 << 20;

/// Most messages that wait to be written: each open query may have its request and its end there.
const MESSAGES_MAX: usize = 2 * (QUERIES_MAX + PUBLISHES_MAX);

/// Most queries at a time. strfry allows 200 subscriptions for one connection, 1.0.4 only 20.
pub(super) const QUERIES_MAX: usize = 16;

/// Most events that wait for an answer at a time.
pub(super) const PUBLISHES_MAX: usize = 32;
