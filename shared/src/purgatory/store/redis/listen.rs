//! Listens on the channel `{purgatory}:wake`, over a connection of its own, for as long as a receiver lives.

use std::time::Duration;

use futures_util::StreamExt;
use redis::RedisResult;
use redis::aio::PubSub;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio::time::timeout;

use super::connection::RedisConnection;
use super::within::within;
use crate::purgatory::store::keys;

/// How long to wait before another attempt to connect.
const PAUSE: Duration = Duration::from_millis(500);
/// How long it may take to connect, and to have a ping answered.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(1);
/// How often to check that the connection still lives: one that is cut silently looks like one without messages.
const PING_EVERY: Duration = Duration::from_secs(15);

/// Starts to listen. Ends by itself when every receiver is dropped.
pub(super) fn listen(connection: RedisConnection) -> watch::Receiver<u64> {
    let (changes, receiver) = watch::channel(0);
    tokio::spawn(async move {
        tokio::select! {
            () = changes.closed() => {}
            () = notify_for_ever(&connection, &changes) => {}
        }
    });
    receiver
}

async fn notify_for_ever(connection: &RedisConnection, changes: &watch::Sender<u64>) {
    loop {
        if let Err(error) = notify_until_lost(connection, changes).await {
            tracing::debug!(%error, "purgatory notifications interrupted");
        }
        sleep(PAUSE).await;
    }
}

async fn notify_until_lost(connection: &RedisConnection, changes: &watch::Sender<u64>) -> RedisResult<()> {
    let notify = || changes.send_modify(|count| *count = count.wrapping_add(1));
    let mut channel = within(LISTEN_TIMEOUT, subscribe(connection)).await?;
    // Messages that were published while there was no subscription are lost, so the subscription itself notifies.
    notify();
    loop {
        let message = timeout(PING_EVERY, channel.on_message().next()).await;
        match message {
            Ok(Some(_)) => notify(),
            Ok(None) => return Ok(()),
            Err(_) => within(LISTEN_TIMEOUT, channel.ping()).await?,
        }
    }
}

async fn subscribe(connection: &RedisConnection) -> RedisResult<PubSub> {
    let mut channel = connection.find().await?.get_async_pubsub().await?;
    channel.subscribe(keys::WAKE).await?;
    Ok(channel)
}
