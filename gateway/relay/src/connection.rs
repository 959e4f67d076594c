//! One client: reads its messages, answers them, and follows what the writer stores.

use std::collections::HashMap;
use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use futures_util::StreamExt;
use futures_util::future::try_join_all;
use nostr::filter::Filter;
use nostr::types::Timestamp;
use nostr_database::error::Error as DatabaseError;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::sync::broadcast;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::Message;

use crate::client_message::ClientMessage;
use crate::client_message::MalformedMessage;
use crate::event_store::EventStore;
use crate::limits::RelayLimits;
use crate::outbound;
use crate::outbound::Gone;
use crate::outbound::Outbound;
use crate::subscriptions::OpenSubscription;
use crate::subscriptions::Served;
use crate::validate::id_for_answer;
use crate::validate::validate;
use crate::writer::DUPLICATE;
use crate::writer::Submission;
use crate::writer::ok;

/// What all connections of the relay share.
pub(super) struct Relay {
    pub(super) limits: RelayLimits,
    pub(super) store: Arc<EventStore>,
    /// To the writer. It ends when the last connection has dropped this.
    pub(super) submissions: mpsc::Sender<Submission>,
    /// From the writer: what it has stored.
    pub(super) served: broadcast::Sender<Arc<Served>>,
    /// How many batches the writer has begun to store.
    pub(super) batches: watch::Receiver<u64>,
    pub(super) stop: watch::Receiver<bool>,
}

/// Serves a client until it or the relay ends.
pub(super) async fn serve<S>(socket: WebSocketStream<S>, address: IpAddr, relay: Arc<Relay>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (sink, stream) = socket.split();
    let (outbound, queue) = Outbound::new();
    let mut stop = relay.stop.clone();
    let client = Client {
        served: relay.served.subscribe(),
        relay,
        address,
        outbound: outbound.clone(),
        subscriptions: HashMap::new(),
    };
    tokio::select! {
        _ = client.follow(stream) => {}
        () = outbound::write(sink, queue) => {}
        () = outbound.overrun() => tracing::info!(client.address = %address, "a client was too slow"),
        // An error means that the relay itself was dropped.
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

struct Client {
    relay: Arc<Relay>,
    address: IpAddr,
    outbound: Outbound,
    served: broadcast::Receiver<Arc<Served>>,
    /// By their ids.
    subscriptions: HashMap<String, OpenSubscription>,
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
                        Some(Ok(Message::Text(text))) => self.take(text.as_str()).await?,
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
                () = tokio::time::sleep_until(heard + SILENCE_MAX) => return Err(Gone),
            }
        }
    }

    async fn take(&mut self, text: &str) -> Result<(), Gone> {
        match ClientMessage::parse(text, &self.relay.limits) {
            Ok(ClientMessage::Event(event)) => self.take_event(event).await,
            Ok(ClientMessage::Req { subscription, filters }) => self.subscribe(subscription, filters).await,
            Ok(ClientMessage::Count { subscription, filters }) => self.count(&subscription, filters).await,
            Ok(ClientMessage::Close { subscription }) => {
                self.subscriptions.remove(&subscription);
                Ok(())
            }
            Err(MalformedMessage { subscription, reason }) => match subscription {
                Some(subscription) => self.close(&subscription, &format!("error: {reason}")).await,
                None => self.send(json!(["NOTICE", format!("ERROR: {reason}")])).await,
            },
        }
    }

    /// Validates an event and submits it to the writer, which answers.
    async fn take_event(&self, value: Value) -> Result<(), Gone> {
        let id = id_for_answer(&value);
        let event = match validate(value, Timestamp::now(), &self.relay.limits) {
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
            client: self.address,
            outbound: self.outbound.clone(),
        };
        self.relay.submissions.send(submission).await.map_err(|_| Gone)
    }

    /// Sends what is stored, then opens the subscription. What is stored in the meantime waits in `served`.
    async fn subscribe(&mut self, subscription: String, filters: Vec<Filter>) -> Result<(), Gone> {
        // A request replaces the subscription of the same id, whatever becomes of it.
        self.subscriptions.remove(&subscription);
        let subscriptions_max = self.relay.limits.subscriptions_max;
        if self.subscriptions.len() >= subscriptions_max {
            let reason = format!("error: too many subscriptions, at most {subscriptions_max}");
            return self.close(&subscription, &reason).await;
        }
        let mut sent = HashSet::new();
        let limit_max = self.relay.limits.limit_max;
        for some in filters.chunks(QUERIES_AT_ONCE) {
            let mut queries = Vec::with_capacity(some.len());
            for filter in some {
                let limit = filter.limit.map_or(limit_max, |limit| limit.min(limit_max));
                queries.push(self.relay.store.query(filter, limit));
            }
            let stored = match try_join_all(queries).await {
                Ok(stored) => stored,
                Err(error) => {
                    self.log(&error);
                    return self.close(&subscription, UNREADABLE).await;
                }
            };
            for event in stored.into_iter().flatten() {
                if sent.insert(event.id) {
                    self.send(json!(["EVENT", subscription, event])).await?;
                }
            }
        }
        let last_batch = *self.relay.batches.borrow();
        self.send(json!(["EOSE", subscription])).await?;
        let open = OpenSubscription {
            filters,
            sent,
            last_batch,
        };
        self.subscriptions.insert(subscription, open);
        Ok(())
    }

    async fn count(&self, subscription: &str, filters: Vec<Filter>) -> Result<(), Gone> {
        match self.relay.store.count(filters, COUNT_MAX).await {
            Ok(count) => self.send(json!(["COUNT", subscription, { "count": count }])).await,
            Err(error) => {
                self.log(&error);
                self.close(subscription, UNREADABLE).await
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

/// What a client hears when the database fails.
const UNREADABLE: &str = "error: the relay cannot read its database";
/// Filters of one request that are looked up at the same time.
const QUERIES_AT_ONCE: usize = 4;
/// Most events that are counted (strfry `relay.maxFilterLimitCount`).
const COUNT_MAX: usize = 1_000_000;
/// After so long without a frame, an answer to a ping for one, a client is gone.
const SILENCE_MAX: Duration = Duration::from_secs(150);
