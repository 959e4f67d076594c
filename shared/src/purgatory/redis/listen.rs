//! Listens on the channel `{purgatory}:wake`, over a connection of its own, for as long as a receiver lives.

use std::time::Duration;

use futures_util::StreamExt;
use redis::RedisResult;
use redis::aio::PubSub;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio::time::timeout;

use super::connection::LISTEN_TIMEOUT;
use super::connection::RedisConnection;
use super::within::within;
use crate::purgatory::keys;

/// How long to wait before another attempt to connect.
const PAUSE: Duration = Duration::from_millis(500);
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
        let result = notify_until_lost(connection, changes).await;
        if let Err(error) = result {
            tracing::debug!(%error, "purgatory notifications interrupted");
        }
        sleep(PAUSE).await;
    }
}

async fn notify_until_lost(connection: &RedisConnection, changes: &watch::Sender<u64>) -> RedisResult<()> {
    let mut channel = within(LISTEN_TIMEOUT, subscribe(connection)).await?;
    // What was published while nobody listened is lost, so the subscription itself notifies.
    changes.send_modify(notify);
    loop {
        match timeout(PING_EVERY, next_message(&mut channel)).await {
            Ok(Some(())) => changes.send_modify(notify),
            Ok(None) => return Ok(()),
            Err(_) => {
                within(LISTEN_TIMEOUT, channel.ping::<redis::Value>()).await?;
            }
        }
    }
}

async fn subscribe(connection: &RedisConnection) -> RedisResult<PubSub> {
    let mut channel = connection.find().await?.get_async_pubsub().await?;
    channel.subscribe(keys::WAKE).await?;
    Ok(channel)
}

async fn next_message(channel: &mut PubSub) -> Option<()> {
    channel.on_message().next().await.map(|_| ())
}

fn notify(count: &mut u64) {
    *count = count.wrapping_add(1);
}
