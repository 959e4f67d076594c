//! What a push waits for at its end: that its events are served. Those that it publishes itself it awaits; it polls
//! only for those that others publish, or that the relay has not taken at once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use nostr::event::EventId;
use shared::live::Live;
use shared::purgatory::Leased;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::logged::logged;
use crate::reconcile::Reconciler;
use crate::reconcile::publish::Publication;

pub(crate) struct PushPublisher {
    pub(crate) reconciler: Arc<Reconciler>,
    /// For how long a push waits until its events are served.
    pub(crate) release_wait: Live<Duration>,
    /// Where publications run, which outlive a push that waits no longer.
    pub(crate) tasks: TaskTracker,
    pub(crate) stopping: CancellationToken,
}

impl PushPublisher {
    /// Publishes and settles the events of a push, and waits until they are served, but not longer than a push waits.
    /// Returns what the pusher reads about it, if they are not.
    pub(super) async fn publish(&self, leased: Vec<Leased>, others: &BTreeSet<EventId>) -> Option<String> {
        if leased.is_empty() && others.is_empty() {
            return None;
        }
        let deadline = Instant::now() + self.release_wait.get();
        let reconciler = Arc::clone(&self.reconciler);
        // In a task of its own: it finishes, however long the push waits.
        let own = self
            .tasks
            .spawn(async move { reconciler.publisher.publish(leased).await });
        let published = async {
            let Ok(left_behind) = own.await else {
                // It ended abnormally; the events are published by the next one that takes them, when their lease has
                // run out.
                return Ok(Publication::Pending);
            };
            let awaited: BTreeSet<EventId> = others.union(&left_behind).copied().collect();
            if awaited.is_empty() {
                return Ok(Publication::Done);
            }
            let publisher = &self.reconciler.publisher;
            publisher.published_by_others(&awaited, deadline).await
        };
        let published = tokio::select! {
            published = published => published,
            () = tokio::time::sleep_until(deadline) => Ok(Publication::Pending),
            // The answer is worth more than the end of the wait: the server may be cut off soon.
            () = self.stopped_for(RELEASE_WAIT_AT_THE_END) => {
                return Some("stored; this server is stopping, the events will be served when it is back".to_owned());
            }
        };
        match published {
            Ok(Publication::Done) => None,
            Ok(Publication::Pending) => Some(
                "stored; the relay does not answer right now, the events will be served when it is back".to_owned(),
            ),
            Ok(Publication::Stuck { event_id, reason }) => Some(format!(
                "stored, but the relay refuses to serve event {event_id}: {reason}"
            )),
            Err(error) => {
                tracing::warn!(error = logged(&error), "cannot determine whether events are served");
                Some(
                    "stored; the purgatory (Redis) does not answer right now, the events will be served when it is back"
                        .to_owned(),
                )
            }
        }
    }

    async fn stopped_for(&self, time: Duration) {
        self.stopping.cancelled().await;
        tokio::time::sleep(time).await;
    }
}

/// For events to be served once the server is stopping.
const RELEASE_WAIT_AT_THE_END: Duration = Duration::from_secs(5);
