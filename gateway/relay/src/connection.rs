//! One client: reads its messages, answers them, and sends it new stored events.

use std::collections::HashMap;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use futures_util::StreamExt;
use nostr::event::Event;
use nostr_database::error::Error as DatabaseError;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::client_message::ClientMessage;
use crate::client_message::MalformedMessage;
use crate::event_store::EventStore;
use crate::incoming::IncomingMessages;
use crate::large_messages::LargeMessages;
use crate::large_messages::ReadMessage;
use crate::limits::RelayLimits;
use crate::message_bytes::MessageBytes;
use crate::outbound;
use crate::outbound::BYTES_MAX;
use crate::outbound::Gone;
use crate::outbound::OWN_BYTES_MAX;
use crate::outbound::Outbound;
use crate::request_size::parsed_bytes;
use crate::served_events::NoEvent;
use crate::served_events::ServedEvents;
use crate::served_events::ServedReceiver;
use crate::shares::AddressShares;
use crate::shares::ConnectionShare;
use crate::shares::ParsedRoom;
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
    pub(super) served: ServedEvents,
    /// How far the writer is.
    pub(super) batches: watch::Receiver<Batches>,
    pub(super) large_messages: LargeMessages,
    /// What each address may have looked up at the same time, and open.
    pub(super) shares: AddressShares,
    /// Messages of clients that are arriving, or wait to be read or judged.
    pub(super) unread: MessageBytes,
    /// Messages for clients that they have not taken.
    pub(super) unsent: MessageBytes,
    pub(super) stop: watch::Receiver<bool>,
}

/// Serves a client until it or the relay ends. One without an address is this host's own.
pub(super) async fn serve<S>(stream: S, address: Option<IpAddr>, relay: Arc<Relay>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let unread = relay.unread.of(address);
    let incoming = IncomingMessages::new(unread.clone());
    let (sink, stream) = web_socket(incoming.counts(stream), relay.limits).await.split();
    let unsent = relay.unsent.of(address);
    let (outbound, queue) = match address {
        Some(_) => Outbound::new(BYTES_MAX, unsent.clone()),
        None => Outbound::new(OWN_BYTES_MAX, unsent.clone()),
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
        incoming,
        subscriptions: HashMap::new(),
        keeps_sent: false,
    };
    tokio::select! {
        _ = client.follow(stream) => {}
        () = outbound::write(sink, queue) => {}
        () = outbound.overrun() => tracing::info!(client.address = ?address, "a client was too slow"),
        () = unread.ended() => tracing::debug!(client.address = ?address, "a client's messages took too much memory"),
        () = unsent.ended() => tracing::debug!(client.address = ?address, "a client left too much unread"),
        // An error means that the relay itself was dropped.
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

async fn web_socket<S>(stream: S, limits: RelayLimits) -> WebSocketStream<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .max_message_size(Some(limits.message_bytes_max))
        .max_frame_size(Some(limits.message_bytes_max));
    WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await
}

pub(super) struct Client {
    pub(super) relay: Arc<Relay>,
    address: IpAddr,
    /// Not the gateway.
    pub(super) is_foreign: bool,
    pub(super) share: ConnectionShare,
    pub(super) outbound: Outbound,
    incoming: IncomingMessages,
    served: ServedReceiver,
    pub(super) batches: watch::Receiver<Batches>,
    /// By their ids.
    pub(super) subscriptions: HashMap<String, OpenSubscription>,
    /// Whether one of them may still have events that were sent.
    pub(super) keeps_sent: bool,
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
                    match frame {
                        Some(Ok(Message::Text(text))) => self.take(text).await?,
                        Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(Gone),
                        // Answered underneath.
                        Some(Ok(Message::Ping(payload) | Message::Pong(payload))) => {
                            self.incoming.read_control(payload.len());
                        }
                        // No NIP-01.
                        Some(Ok(Message::Binary(_) | Message::Frame(_))) => self.incoming.read_message(),
                    }
                    // Nothing is heard while an answer waits for its client.
                    heard = Instant::now();
                }
                served = self.served.recv() => match served {
                    Ok(served) => self.deliver(&served),
                    Err(NoEvent::Missed) if self.subscriptions.is_empty() => {}
                    // It would miss events and could not know.
                    Err(NoEvent::Missed | NoEvent::Ended) => return Err(Gone),
                },
                changed = self.batches.changed(), if self.keeps_sent => changed.map_err(|_| Gone)?,
                () = tokio::time::sleep_until(heard + SILENCE_MAX) => return Err(Gone),
            }
            // Pings may come within a message that never ends.
            if self.incoming.since().is_some_and(|since| since.elapsed() > SILENCE_MAX) {
                return Err(Gone);
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
        let (message, room) = self.read(text).await?;
        self.incoming.read_message();
        // Others wait for clients.
        let room = room.filter(|_| matches!(message, Ok(ClientMessage::Event { .. })));
        match message {
            Ok(ClientMessage::Event { id, event }) => self.take_event(&id, event, bytes, room).await,
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

    /// Reads a message, once there is room for what it takes then.
    async fn read(&self, text: Utf8Bytes) -> Result<(ReadMessage, Option<ParsedRoom>), Gone> {
        let is_short = text.len() <= READ_HERE_MAX;
        let mut limits = self.relay.limits;
        if !self.is_foreign {
            limits.open_bytes_max = u32::MAX;
            let read = move || ClientMessage::parse(text.as_str(), &limits);
            // A push waits for it.
            return match is_short {
                true => Ok((read(), None)),
                false => Ok((spawn_blocking(read).await.map_err(|_| Gone)?, None)),
            };
        }
        // Not the other way round: who has room waits for nothing that a client can delay.
        let _permit = if is_short { None } else { Some(self.permit().await?) };
        let room = self
            .share
            .room_for_parsed(parsed_bytes(text.as_str()))
            .await
            .ok_or(Gone)?;
        let read = match is_short {
            true => ClientMessage::parse(text.as_str(), &limits),
            false => self.relay.large_messages.read(text).await?,
        };
        Ok((read, Some(room)))
    }

    /// Submits an event to the writer, which answers, unless it is invalid or stored.
    async fn take_event(
        &self,
        id: &str,
        event: Result<Event, InvalidEvent>,
        bytes: usize,
        room: Option<ParsedRoom>,
    ) -> Result<(), Gone> {
        let answer = match event {
            Err(invalid) => ok(id, false, &invalid.to_string()),
            Ok(event) => match self.relay.store.has(&event.id).await {
                Ok(false) => return self.submit(event, bytes, room).await,
                Ok(true) => ok(id, true, DUPLICATE),
                Err(error) => {
                    self.log(&error);
                    ok(id, false, UNREADABLE)
                }
            },
        };
        drop(room);
        self.outbound.send(answer).await
    }

    async fn submit(&self, event: Event, bytes: usize, room: Option<ParsedRoom>) -> Result<(), Gone> {
        let submission = Submission {
            event,
            bytes,
            _room: room,
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

    fn deliver(&mut self, served: &Served) {
        for (id, subscription) in &mut self.subscriptions {
            if subscription.takes(served) {
                let id = Value::from(id.as_str());
                self.outbound.send_at_once(format!(r#"["EVENT",{id},{}]"#, served.json));
            }
        }
    }

    pub(super) async fn close(&self, subscription: &str, reason: &str) -> Result<(), Gone> {
        self.send(json!(["CLOSED", subscription, reason])).await
    }

    pub(super) async fn send(&self, message: Value) -> Result<(), Gone> {
        self.outbound.send(message.to_string()).await
    }

    pub(super) fn log(&self, error: &DatabaseError) {
        tracing::error!(%error, "cannot read the relay's database");
    }
}

/// Longest message that is read on the spot.
const READ_HERE_MAX: usize = 16 * 1024;
/// What a client gets when the database fails.
pub(super) const UNREADABLE: &str = "error: the relay cannot read its database";
/// Kept for each WebSocket from its first moment, also of one that is idle: most messages are shorter. The library's
/// 128 KiB were 164 MiB for 900 idle connections.
const READ_BUFFER_BYTES: usize = 4 * 1024;
/// After this long without a frame, such as an answer to a ping, a client counts as gone; so does one whose message has
/// not ended by then.
const SILENCE_MAX: Duration = Duration::from_secs(150);
