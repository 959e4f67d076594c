//! The only writer: takes the submitted events as a batch, asks the policy about each event, stores the accepted ones,
//! then answers, then notifies the subscribers (strfry `RelayWriter.cpp`).

use std::net::IpAddr;
use std::sync::Arc;

use nostr::event::Event;
use nostr_database::RejectedReason;
use nostr_database::SaveEventStatus;
use nostr_database::error::Error as DatabaseError;
use serde_json::json;
use shared::write_policy::Answer;
use tokio::sync::broadcast;
use tokio::sync::mpsc;
use tokio::sync::watch;

use crate::event_store::EventStore;
use crate::event_store::json_of;
use crate::outbound::Outbound;
use crate::policy::EventPolicy;
use crate::subscriptions::Served;

/// An event that is valid and was not stored when it came.
#[derive(Debug)]
pub(super) struct Submission {
    /// The event.
    pub(super) event: Event,
    /// How long its message was.
    pub(super) bytes: usize,
    /// The address it came from.
    pub(super) client: IpAddr,
    /// The queue for the answer.
    pub(super) outbound: Outbound,
}

/// How many batches the writer has begun to store, and how many it has stored and sent to the subscribers.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Batches {
    pub(super) begun: u64,
    pub(super) stored: u64,
}

/// Submitted events.
pub(super) struct Submitted {
    /// By this host: a push waits for it.
    pub(super) own: mpsc::Receiver<Submission>,
    pub(super) others: mpsc::Receiver<Submission>,
}

impl Submitted {
    /// Waits for the next batch: events that this host submits are in it before all others, however many wait. An empty
    /// one is the end.
    async fn batch(&mut self) -> Vec<Submission> {
        let first = tokio::select! {
            biased;
            Some(own) = self.own.recv() => Some(own),
            Some(other) = self.others.recv() => Some(other),
            else => None,
        };
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let mut next = first;
        while let Some(submission) = next {
            bytes += submission.bytes;
            batch.push(submission);
            next = match batch.len() < BATCH_MAX && bytes < BATCH_BYTES_MAX {
                true => self.own.try_recv().or_else(|_| self.others.try_recv()).ok(),
                false => None,
            };
        }
        batch
    }
}

/// Writes until every sender of submissions is dropped.
pub(super) async fn run(
    mut policy: impl EventPolicy,
    store: Arc<EventStore>,
    mut submitted: Submitted,
    served: broadcast::Sender<Arc<Served>>,
    progress: watch::Sender<Batches>,
) {
    let mut batch = 0;
    loop {
        let submissions = submitted.batch().await;
        if submissions.is_empty() {
            return;
        }
        batch += 1;
        let (outbounds, events) = judge(&mut policy, submissions).await;
        progress.send_modify(|batches| batches.begun = batch);
        let results = save(&store, &events).await;
        for ((outbound, event), result) in outbounds.iter().zip(&events).zip(&results) {
            let (accepted, message) = result_message(event, result);
            outbound.send_at_once(ok(&event.id.to_hex(), accepted, message));
        }
        for (event, result) in events.into_iter().zip(results) {
            if matches!(result, Ok(SaveEventStatus::Success)) {
                let json = json_of(&event);
                // An error only means that no client is connected.
                drop(served.send(Arc::new(Served { event, json, batch })));
            }
        }
        progress.send_modify(|batches| batches.stored = batch);
    }
}

/// Asks the policy about a batch, in order of arrival. Answers the refused events, and returns the accepted ones in the
/// order in which they are stored, which is that of their timestamps, so that of two versions in a batch each is stored
/// once.
async fn judge(policy: &mut impl EventPolicy, submissions: Vec<Submission>) -> (Vec<Outbound>, Vec<Event>) {
    let mut accepted = Vec::new();
    for submission in submissions {
        let answer = policy.judge(&submission.event, submission.client).await;
        let id = submission.event.id.to_hex();
        match answer {
            Answer::Accept => accepted.push((submission.outbound, submission.event)),
            Answer::Refuse(message) => submission.outbound.send_at_once(ok(&id, false, &message)),
            Answer::Hold(message) => submission.outbound.send_at_once(ok(&id, true, &message)),
        }
    }
    accepted.sort_by_key(|(_, event)| (event.created_at, event.id));
    accepted.into_iter().unzip()
}

/// Saves a batch; ephemeral events (NIP-01) count as stored and are not.
async fn save(store: &EventStore, events: &[Event]) -> Vec<Result<SaveEventStatus, DatabaseError>> {
    let lasting: Vec<Event> = events
        .iter()
        .filter(|event| !event.kind.is_ephemeral())
        .cloned()
        .collect();
    let mut results = store.save(&lasting).await.into_iter();
    events
        .iter()
        .map(|event| match event.kind.is_ephemeral() {
            true => Ok(SaveEventStatus::Success),
            false => results.next().unwrap_or(Ok(SaveEventStatus::Success)),
        })
        .collect()
}

/// Returns the answer in strfry's words.
fn result_message(event: &Event, result: &Result<SaveEventStatus, DatabaseError>) -> (bool, &'static str) {
    match result {
        Ok(SaveEventStatus::Success) => (true, ""),
        Ok(SaveEventStatus::Rejected(RejectedReason::Duplicate)) => (true, DUPLICATE),
        Ok(SaveEventStatus::Rejected(RejectedReason::Replaced)) => (false, "replaced: have newer event"),
        Ok(SaveEventStatus::Rejected(RejectedReason::Deleted)) => (false, "deleted: user requested deletion"),
        other => {
            tracing::error!(event.id = %event.id, ?other, "cannot store an event");
            (false, "error: the relay cannot store the event")
        }
    }
}

/// Returns the message that answers an event.
pub(super) fn ok(event_id: &str, accepted: bool, message: &str) -> String {
    json!(["OK", event_id, accepted, message]).to_string()
}

/// The answer to an event that is stored already.
pub(super) const DUPLICATE: &str = "duplicate: have this event";
/// Most events that are judged and stored together.
const BATCH_MAX: usize = 64;
/// Most bytes of a batch: later events wait for it.
const BATCH_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use nostr::event::EventBuilder;
    use nostr::event::FinalizeEvent;
    use nostr::event::Kind;
    use nostr::key::Keys;

    use super::*;
    use crate::outbound::BYTES_MAX;

    fn submission(kind: u16, bytes: usize) -> Submission {
        Submission {
            event: EventBuilder::new(Kind::from_u16(kind), "")
                .finalize(&Keys::generate())
                .unwrap(),
            bytes,
            client: Ipv4Addr::LOCALHOST.into(),
            outbound: Outbound::new(BYTES_MAX).0,
        }
    }

    /// A push waited for its events behind those of a stranger, 64 of 262 KB in a batch.
    #[tokio::test]
    async fn what_this_host_submits_comes_before_all_others() {
        let ((to_own, own), (to_others, others)) = (mpsc::channel(9), mpsc::channel(99));
        let mut submitted = Submitted { own, others };
        for _ in 0..9 {
            to_others.send(submission(62, 262_144)).await.unwrap();
        }
        to_own.send(submission(30617, 500)).await.unwrap();
        to_own.send(submission(30618, 500)).await.unwrap();
        let mut batches = Vec::new();
        drop((to_own, to_others));
        loop {
            let batch = submitted.batch().await;
            if batch.is_empty() {
                break;
            }
            let kinds: Vec<u16> = batch.iter().map(|submission| submission.event.kind.as_u16()).collect();
            batches.push(kinds);
        }

        assert_eq!(batches, [vec![30617, 30618, 62, 62, 62, 62], vec![62; 4], vec![62]]);
    }
}
