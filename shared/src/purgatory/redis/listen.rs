//! Listens on the channel `{purgatory}:wake`, over a connection of its own, for as long as somebody wants to hear.

use std::time::Duration;

use futures_util::StreamExt;
use redis::RedisResult;
use redis::aio::PubSub;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio::time::timeout;

use super::keys;
use super::link::Link;
use super::link::TIMEOUT;
use super::link::timed_out;

/// How long to wait before another attempt to connect.
const PAUSE: Duration = Duration::from_millis(500);
/// How often to ask whether the connection still lives: one that is cut silently looks like one without news.
const PING_EVERY: Duration = Duration::from_secs(15);

/// Starts to listen. Ends by itself when every receiver is dropped.
pub(super) fn listen(link: Link) -> watch::Receiver<u64> {
    let (wakings, receiver) = watch::channel(0);
    tokio::spawn(async move {
        tokio::select! {
            () = wakings.closed() => {}
            () = wake_for_ever(&link, &wakings) => {}
        }
    });
    receiver
}

async fn wake_for_ever(link: &Link, wakings: &watch::Sender<u64>) {
    loop {
        let result = wake_until_lost(link, wakings).await;
        if let Err(error) = result {
            tracing::debug!(%error, "purgatory wake-ups interrupted");
        }
        sleep(PAUSE).await;
    }
}

async fn wake_until_lost(link: &Link, wakings: &watch::Sender<u64>) -> RedisResult<()> {
    let mut channel = match timeout(TIMEOUT, subscribe(link)).await {
        Ok(channel) => channel?,
        Err(_) => return Err(timed_out()),
    };
    // What was published while nobody listened is lost, so the subscription itself is news.
    wakings.send_modify(wake);
    loop {
        match timeout(PING_EVERY, next_message(&mut channel)).await {
            Ok(Some(())) => wakings.send_modify(wake),
            Ok(None) => return Ok(()),
            Err(_) => {
                let pong = timeout(TIMEOUT, channel.ping::<redis::Value>()).await;
                pong.map_err(|_| timed_out())??;
            }
        }
    }
}

async fn subscribe(link: &Link) -> RedisResult<PubSub> {
    let mut channel = link.find().await?.get_async_pubsub().await?;
    channel.subscribe(keys::WAKE).await?;
    Ok(channel)
}

async fn next_message(channel: &mut PubSub) -> Option<()> {
    channel.on_message().next().await.map(|_| ())
}

fn wake(count: &mut u64) {
    *count = count.wrapping_add(1);
}
