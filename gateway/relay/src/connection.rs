//! One client: reads its messages, answers them, and follows what the writer stores.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use futures_util::StreamExt;
use nostr::filter::Filter;
use nostr::types::Timestamp;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::sync::broadcast;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::Message;

use crate::client_message::ClientMessage;
use crate::client_message::MalformedMessage;
use crate::event_store::EventStoreError;
use crate::outbound;
use crate::outbound::Gone;
use crate::outbound::Outbound;
use crate::policy::EventSource;
use crate::relay::Relay;
use crate::subscriptions::Served;
use crate::subscriptions::Subscriptions;
use crate::validate::id_for_answer;
use crate::validate::validate;
use crate::writer::DUPLICATE;
use crate::writer::Submission;
use crate::writer::ok;

/// Serves a client until it or the relay ends.
pub(super) async fn serve<S>(socket: WebSocketStream<S>, source: EventSource, relay: Arc<Relay>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (sink, stream) = socket.split();
    let (outbound, queue) = Outbound::new();
    let mut stop = relay.stop.clone();
    let client = Client {
        served: relay.served.subscribe(),
        relay,
        source,
        outbound: outbound.clone(),
        subscriptions: Subscriptions::default(),
    };
    tokio::select! {
        _ = client.follow(stream) => {}
        () = outbound::write(sink, queue) => {}
        () = outbound.overrun() => tracing::info!(source = %source.address, "a client was too slow"),
        // An error means that the relay itself was dropped.
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

struct Client {
    relay: Arc<Relay>,
    source: EventSource,
    outbound: Outbound,
    served: broadcast::Receiver<Arc<Served>>,
    subscriptions: Subscriptions,
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
                self.subscriptions.close(&subscription);
                Ok(())
            }
            Err(malformed) => match &malformed {
                MalformedMessage::Filter { subscription, .. } => {
                    self.close(subscription, &format!("error: {malformed}")).await
                }
                MalformedMessage::NotAnArray
                | MalformedMessage::NoCommand
                | MalformedMessage::NoEvent
                | MalformedMessage::UnknownCommand
                | MalformedMessage::SubscriptionId => self.send(json!(["NOTICE", format!("ERROR: {malformed}")])).await,
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
            source: self.source,
            outbound: self.outbound.clone(),
        };
        self.relay.submissions.send(submission).await.map_err(|_| Gone)
    }

    /// Sends what is stored, then opens the subscription. What is stored in the meantime waits in `served`.
    async fn subscribe(&mut self, subscription: String, filters: Vec<Filter>) -> Result<(), Gone> {
        // A request replaces the subscription of the same id, whatever becomes of it.
        self.subscriptions.close(&subscription);
        let subscriptions_max = self.relay.limits.subscriptions_max;
        if !self.subscriptions.has_room_for(&subscription, subscriptions_max) {
            let reason = format!("error: too many subscriptions, at most {subscriptions_max}");
            return self.close(&subscription, &reason).await;
        }
        let mut sent = HashSet::new();
        for filter in &filters {
            let limit_max = self.relay.limits.limit_max;
            let limit = filter.limit.map_or(limit_max, |limit| limit.min(limit_max));
            let stored = match self.relay.store.query(filter, limit).await {
                Ok(stored) => stored,
                Err(error) => {
                    self.log(&error);
                    return self.close(&subscription, UNREADABLE).await;
                }
            };
            for event in stored {
                if sent.insert(event.id) {
                    self.send(json!(["EVENT", subscription, event])).await?;
                }
            }
        }
        let last_batch = *self.relay.batches.borrow();
        self.send(json!(["EOSE", subscription])).await?;
        self.subscriptions.open(subscription, filters, sent, last_batch);
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
        for subscription in self.subscriptions.take(served) {
            let subscription = Value::from(subscription);
            self.outbound
                .send_at_once(format!(r#"["EVENT",{subscription},{}]"#, served.json));
        }
    }

    async fn close(&self, subscription: &str, reason: &str) -> Result<(), Gone> {
        self.send(json!(["CLOSED", subscription, reason])).await
    }

    async fn send(&self, message: Value) -> Result<(), Gone> {
        self.outbound.send(message.to_string()).await
    }

    fn log(&self, error: &EventStoreError) {
        tracing::error!(%error, "cannot read the relay's database");
    }
}

/// What a client hears when the database fails.
const UNREADABLE: &str = "error: the relay cannot read its database";
/// Most events that are counted (strfry `relay.maxFilterLimitCount`).
const COUNT_MAX: usize = 1_000_000;
/// After so long without a frame, an answer to a ping for one, a client is gone.
const SILENCE_MAX: Duration = Duration::from_secs(150);
