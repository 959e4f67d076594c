//! One client: reads its messages, answers them, and sends it new stored events.

use std::collections::HashMap;
use std::collections::HashSet;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use futures_util::StreamExt;
use futures_util::future;
use nostr::event::Event;
use nostr::event::EventId;
use nostr::filter::Filter;
use nostr_database::error::Error as DatabaseError;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::sync::broadcast;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::client_message::ClientMessage;
use crate::client_message::FilterRequest;
use crate::client_message::MalformedMessage;
use crate::event_store::EventStore;
use crate::event_store::PAGE_EVENTS;
use crate::large_messages::LargeMessages;
use crate::large_messages::ReadMessage;
use crate::limits::RelayLimits;
use crate::outbound;
use crate::outbound::BYTES_MAX;
use crate::outbound::Gone;
use crate::outbound::OWN_BYTES_MAX;
use crate::outbound::Outbound;
use crate::shares::AddressShares;
use crate::shares::ConnectionShare;
use crate::shares::Occupied;
use crate::shares::TooManyFilters;
use crate::subscriptions::OpenSubscription;
use crate::subscriptions::Served;
use crate::validate::InvalidEvent;
use crate::writer::Batches;
use crate::writer::DUPLICATE;
use crate::writer::Submission;
use crate::writer::ok;

/// What all connections of the relay share.
pub(super) struct Relay {
    pub(super) limits: RelayLimits,
    pub(super) store: Arc<EventStore>,
    /// To the writer. It ends when the last connection has dropped these.
    pub(super) submissions: mpsc::Sender<Submission>,
    /// To the writer, before all others: of this host itself.
    pub(super) own_submissions: mpsc::Sender<Submission>,
    /// Stored events, from the writer.
    pub(super) served: broadcast::Sender<Arc<Served>>,
    /// How far the writer is.
    pub(super) batches: watch::Receiver<Batches>,
    pub(super) large_messages: LargeMessages,
    /// What each address may have looked up at the same time, and open.
    pub(super) shares: AddressShares,
    pub(super) stop: watch::Receiver<bool>,
}

/// Serves a client until it or the relay ends. One without an address is this host's own.
pub(super) async fn serve<S>(socket: WebSocketStream<S>, address: Option<IpAddr>, relay: Arc<Relay>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (sink, stream) = socket.split();
    let (outbound, queue) = match address {
        Some(_) => Outbound::new(BYTES_MAX),
        None => Outbound::new(OWN_BYTES_MAX),
    };
    let mut stop = relay.stop.clone();
    let client = Client {
        served: relay.served.subscribe(),
        batches: relay.batches.clone(),
        share: relay.shares.of(address),
        is_foreign: address.is_some(),
        relay,
        address: address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        outbound: outbound.clone(),
        subscriptions: HashMap::new(),
        keeps_sent: false,
    };
    tokio::select! {
        _ = client.follow(stream) => {}
        () = outbound::write(sink, queue) => {}
        () = outbound.overrun() => tracing::info!(client.address = ?address, "a client was too slow"),
        // An error means that the relay itself was dropped.
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

struct Client {
    relay: Arc<Relay>,
    address: IpAddr,
    /// Not the gateway.
    is_foreign: bool,
    share: ConnectionShare,
    outbound: Outbound,
    served: broadcast::Receiver<Arc<Served>>,
    batches: watch::Receiver<Batches>,
    /// By their ids.
    subscriptions: HashMap<String, OpenSubscription>,
    /// Whether one of them may still have events that were sent.
    keeps_sent: bool,
}

impl Client {
    async fn follow<S>(mut self, mut stream: S) -> Result<(), Gone>
    where
        S: Stream<Item = Result<Message, tungstenite::Error>> + Unpin,
    {
        let mut heard = Instant::now();
        loop {
            tokio::select! {
                frame = stream.next() => {
                    heard = Instant::now();
                    match frame {
                        Some(Ok(Message::Text(text))) => self.take(text).await?,
                        Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(Gone),
                        // Binary frames are no NIP-01; pings are answered underneath.
                        Some(Ok(_)) => {}
                    }
                }
                served = self.served.recv() => match served {
                    Ok(served) => self.deliver(&served),
                    Err(broadcast::error::RecvError::Lagged(_)) if self.subscriptions.is_empty() => {}
                    // It would miss events and could not know.
                    Err(broadcast::error::RecvError::Lagged(_) | broadcast::error::RecvError::Closed) => {
                        return Err(Gone);
                    }
                },
                changed = self.batches.changed(), if self.keeps_sent => changed.map_err(|_| Gone)?,
                () = tokio::time::sleep_until(heard + SILENCE_MAX) => return Err(Gone),
            }
            self.forget_sent();
        }
    }

    /// Forgets which events were sent once they can come live no more. A client may have had thousands sent for each
    /// subscription, and a relay on which little is stored would keep them.
    fn forget_sent(&mut self) {
        if !self.keeps_sent {
            return;
        }
        let stored = self.batches.borrow_and_update().stored;
        // The writer sends the events of a batch before it counts as stored.
        if self.served.is_empty() {
            self.keeps_sent = false;
            for subscription in self.subscriptions.values_mut() {
                subscription.forget_sent(stored);
                self.keeps_sent |= !subscription.sent.is_empty();
            }
        }
    }

    async fn take(&mut self, text: Utf8Bytes) -> Result<(), Gone> {
        let bytes = text.len();
        match self.read(text).await? {
            Ok(ClientMessage::Event { id, event }) => self.take_event(id, event, bytes).await,
            Ok(ClientMessage::Req(request)) => self.subscribe(request).await,
            Ok(ClientMessage::Count(request)) => self.count(request).await,
            Ok(ClientMessage::Close { subscription }) => {
                self.subscriptions.remove(&subscription);
                Ok(())
            }
            Err(MalformedMessage { subscription, reason }) => match subscription {
                Some(subscription) => {
                    self.subscriptions.remove(&subscription);
                    self.close(&subscription, &format!("error: {reason}")).await
                }
                None => self.send(json!(["NOTICE", format!("ERROR: {reason}")])).await,
            },
        }
    }

    async fn read(&self, text: Utf8Bytes) -> Result<ReadMessage, Gone> {
        let mut limits = self.relay.limits;
        if !self.is_foreign {
            limits.open_bytes_max = u32::MAX;
        }
        if text.len() <= READ_HERE_MAX {
            return Ok(ClientMessage::parse(text.as_str(), &limits));
        }
        if !self.is_foreign {
            // A push waits for it.
            let read = spawn_blocking(move || ClientMessage::parse(text.as_str(), &limits));
            return read.await.map_err(|_| Gone);
        }
        let _share = self.share.of_address.requests.acquire().await.map_err(|_| Gone)?;
        self.relay.large_messages.read(text).await
    }

    /// Submits an event to the writer, which answers.
    async fn take_event(&self, id: String, event: Result<Event, InvalidEvent>, bytes: usize) -> Result<(), Gone> {
        let event = match event {
            Ok(event) => event,
            Err(invalid) => return self.outbound.send(ok(&id, false, &invalid.to_string())).await,
        };
        match self.relay.store.has(&event.id).await {
            Ok(false) => {}
            Ok(true) => return self.outbound.send(ok(&id, true, DUPLICATE)).await,
            Err(error) => {
                self.log(&error);
                return self.outbound.send(ok(&id, false, UNREADABLE)).await;
            }
        }
        let submission = Submission {
            event,
            bytes,
            client: self.address,
            outbound: self.outbound.clone(),
            is_own: !self.is_foreign,
        };
        let submissions = match self.is_foreign {
            true => &self.relay.submissions,
            false => &self.relay.own_submissions,
        };
        submissions.send(submission).await.map_err(|_| Gone)
    }

    /// Sends stored events, then opens the subscription. Events that are stored in the meantime wait in `served`.
    async fn subscribe(&mut self, request: FilterRequest) -> Result<(), Gone> {
        let FilterRequest {
            subscription,
            filters,
            bytes,
        } = request;
        // A request replaces the subscription of the same id, even if it fails.
        self.subscriptions.remove(&subscription);
        let subscriptions_max = self.relay.limits.subscriptions_max;
        if self.subscriptions.len() >= subscriptions_max {
            let reason = format!("error: too many subscriptions, at most {subscriptions_max}");
            return self.close(&subscription, &reason).await;
        }
        let occupied = match self.occupy(bytes, filters.len()) {
            Ok(occupied) => occupied,
            Err(too_many) => return self.close(&subscription, &format!("error: {too_many}")).await,
        };
        // Further requests of this address wait, and delay no other address.
        let _share = self.share.of_address.requests.acquire().await.map_err(|_| Gone)?;
        let mut sent = HashSet::new();
        // Each waits for a thread: those of this host wait together. Others have one at a time for each share.
        for some in filters.chunks(if self.is_foreign { 1 } else { LOOKUPS_AT_ONCE }) {
            for looked_up in future::join_all(some.iter().map(|filter| self.look_up(filter))).await {
                match self.send_stored(&subscription, looked_up, &mut sent).await? {
                    Ok(()) if self.is_foreign && sent.len() > self.relay.limits.results_max => {
                        let max = self.relay.limits.results_max;
                        let reason = format!("error: more than {max} events match: use fewer filters or lower limits");
                        return self.close(&subscription, &reason).await;
                    }
                    Ok(()) => {}
                    Err(error) => {
                        self.log(&error);
                        return self.close(&subscription, UNREADABLE).await;
                    }
                }
            }
        }
        let last_batch = self.relay.batches.borrow().begun;
        self.send(json!(["EOSE", subscription])).await?;
        let open = OpenSubscription {
            filters,
            sent,
            last_batch,
            _occupied: occupied,
        };
        self.subscriptions.insert(subscription, open);
        self.keeps_sent = true;
        Ok(())
    }

    /// Takes the right to open a subscription; of this host itself none is needed.
    fn occupy(&self, bytes: usize, filters: usize) -> Result<Option<Occupied>, TooManyFilters> {
        self.is_foreign.then(|| self.share.occupy(bytes, filters)).transpose()
    }

    async fn look_up<'f>(&self, filter: &'f Filter) -> LookedUp<'f> {
        let limit_max = self.relay.limits.limit_max;
        let limit = filter.limit.map_or(limit_max, |limit| limit.min(limit_max));
        let ids = self.relay.store.newest(filter, limit).await;
        LookedUp { filter, limit, ids }
    }

    /// Sends the stored events that match a filter, in pages: at most one page waits for a slow client.
    async fn send_stored(
        &self,
        subscription: &str,
        looked_up: LookedUp<'_>,
        sent: &mut HashSet<EventId>,
    ) -> Result<Result<(), DatabaseError>, Gone> {
        let LookedUp { filter, limit, mut ids } = looked_up;
        let subscription = Value::from(subscription);
        loop {
            let mut unsent = match ids {
                Ok(ids) => ids,
                Err(error) => return Ok(Err(error)),
            };
            let was_full = unsent.len() == limit;
            unsent.retain(|id| !sent.contains(id));
            let mut is_short = false;
            for asked in unsent.chunks(PAGE_EVENTS) {
                let page = match self.relay.store.page(asked).await {
                    Ok(page) => page,
                    Err(error) => return Ok(Err(error)),
                };
                is_short |= page.len() < asked.len();
                for (id, json) in page {
                    sent.insert(id);
                    let message = format!(r#"["EVENT",{subscription},{json}]"#);
                    self.outbound.send(message).await?;
                }
            }
            // Events may have been deleted meanwhile, with older ones in their place: only a short answer means that
            // there are no more.
            if !(was_full && is_short) {
                return Ok(Ok(()));
            }
            ids = self.relay.store.newest(filter, limit).await;
        }
    }

    async fn count(&self, request: FilterRequest) -> Result<(), Gone> {
        let FilterRequest {
            subscription,
            filters,
            bytes,
        } = request;
        // It may wait as long as others of its address read slowly.
        let _occupied = match self.occupy(bytes, filters.len()) {
            Ok(occupied) => occupied,
            Err(too_many) => return self.close(&subscription, &format!("error: {too_many}")).await,
        };
        let _share = self.share.of_address.requests.acquire().await.map_err(|_| Gone)?;
        let count_max = self.relay.limits.count_max;
        match self.relay.store.count(filters, count_max).await {
            // NIP-45
            Ok(count) if count == count_max => {
                let count = json!({ "count": count, "approximate": true });
                self.send(json!(["COUNT", subscription, count])).await
            }
            Ok(count) => self.send(json!(["COUNT", subscription, { "count": count }])).await,
            Err(error) => {
                self.log(&error);
                self.close(&subscription, UNREADABLE).await
            }
        }
    }

    fn deliver(&mut self, served: &Served) {
        for (id, subscription) in &mut self.subscriptions {
            if subscription.takes(served) {
                let id = Value::from(id.as_str());
                self.outbound.send_at_once(format!(r#"["EVENT",{id},{}]"#, served.json));
            }
        }
    }

    async fn close(&self, subscription: &str, reason: &str) -> Result<(), Gone> {
        self.send(json!(["CLOSED", subscription, reason])).await
    }

    async fn send(&self, message: Value) -> Result<(), Gone> {
        self.outbound.send(message.to_string()).await
    }

    fn log(&self, error: &DatabaseError) {
        tracing::error!(%error, "cannot read the relay's database");
    }
}

struct LookedUp<'f> {
    filter: &'f Filter,
    limit: usize,
    /// The newest, at most so many.
    ids: Result<Vec<EventId>, DatabaseError>,
}

/// Longest message that is read on the spot.
const READ_HERE_MAX: usize = 16 * 1024;
/// Filters of one request that are looked up at the same time.
const LOOKUPS_AT_ONCE: usize = 8;
/// What a client gets when the database fails.
const UNREADABLE: &str = "error: the relay cannot read its database";
/// After this long without a frame, such as an answer to a ping, a client counts as gone.
const SILENCE_MAX: Duration = Duration::from_secs(150);
