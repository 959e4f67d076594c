//! The only writer: asks the policy about the submitted events, stores the accepted ones as a batch, then answers, then
//! notifies the subscribers (strfry `RelayWriter.cpp`).

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use nostr::event::Event;
use nostr_database::RejectedReason;
use nostr_database::SaveEventStatus;
use nostr_database::error::Error as DatabaseError;
use serde_json::json;
use shared::write_policy::Answer;
use tokio::sync::mpsc;
use tokio::sync::watch;

use crate::event_store::EventStore;
use crate::outbound::Outbound;
use crate::policy::EventPolicy;
use crate::room::StoreRoom;
use crate::served_events::ServedEvents;
use crate::shares::ParsedRoom;
use crate::subscriptions::Served;

/// An event that is valid and was not stored when it came.
#[derive(Debug)]
pub(super) struct Submission {
    pub(super) event: Event,
    /// How long its message was.
    pub(super) bytes: usize,
    /// Its room in memory until it is judged; `None`: it is this host's own.
    pub(super) _room: Option<ParsedRoom>,
    pub(super) client: IpAddr,
    pub(super) outbound: Outbound,
    pub(super) is_own: bool,
}

/// How many batches the writer has begun to store, and how many it has stored and sent to the subscribers.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Batches {
    pub(super) begun: u64,
    pub(super) stored: u64,
}

pub(super) struct Submitted {
    /// By this host: a push waits for it.
    pub(super) own: mpsc::Receiver<Submission>,
    pub(super) others: mpsc::Receiver<Submission>,
    /// Others of one batch, not judged yet.
    pub(super) taken: VecDeque<Submission>,
    pub(super) room: StoreRoom,
}

#[derive(Default)]
struct Batch {
    /// How many were judged, and their bytes.
    judged: usize,
    bytes: usize,
    /// Whether this host has submitted one of them: then nobody else's are waited for.
    is_own: bool,
    /// They are stored in this order: those that were ordered after others are behind them.
    accepted: Vec<Accepted>,
}

struct Accepted {
    event: Event,
    /// Whose share it was charged to.
    payer: Option<IpAddr>,
    outbound: Outbound,
}

impl Submitted {
    /// Waits for the first event of a batch; `None` is the end. Those that this host submits come before all others,
    /// however many wait.
    async fn first(&mut self) -> Option<Submission> {
        if !self.taken.is_empty() {
            return self.own.try_recv().ok().or_else(|| self.taken.pop_front());
        }
        let first = tokio::select! {
            biased;
            Some(own) = self.own.recv() => own,
            Some(other) = self.others.recv() => other,
            else => return None,
        };
        let mut bytes = first.bytes;
        while !first.is_own
            && bytes < BATCH_BYTES_MAX
            && self.taken.len() + 1 < BATCH_MAX
            && let Ok(other) = self.others.try_recv()
        {
            bytes += other.bytes;
            self.taken.push_back(other);
        }
        Some(first)
    }

    /// Returns the next event of a batch: this host's that have come by now, and then no others.
    fn next(&mut self, batch: &Batch) -> Option<Submission> {
        if batch.judged == BATCH_MAX || batch.bytes >= BATCH_BYTES_MAX {
            return None;
        }
        match (self.own.try_recv(), batch.is_own) {
            (Ok(own), _) => Some(own),
            (Err(_), true) => None,
            (Err(_), false) => self.taken.pop_front(),
        }
    }

    /// Judges the next events, in order of arrival; `None` is the end. The refused ones are answered.
    async fn batch(&mut self, policy: &mut impl EventPolicy) -> Option<Batch> {
        let (mut batch, mut next) = (Batch::default(), self.first().await);
        next.as_ref()?;
        while let Some(submission) = next {
            batch.judged += 1;
            batch.bytes += submission.bytes;
            batch.is_own |= submission.is_own;
            let Submission {
                event,
                client,
                outbound,
                is_own,
                ..
            } = submission;
            let id = event.id.to_hex();
            let payer = (!is_own).then_some(client);
            let answer = match self.room.check(&event, payer) {
                Ok(()) => policy.judge(&event, client).await,
                Err(no_room) => Answer::Refuse(no_room.to_string()),
            };
            match answer {
                Answer::Accept => match self.room.take(&event, payer) {
                    Ok(()) => batch.accepted.push(Accepted { event, payer, outbound }),
                    Err(no_room) => outbound.send_at_once(ok(&id, false, &no_room.to_string())),
                },
                Answer::Refuse(message) => outbound.send_at_once(ok(&id, false, &message)),
                Answer::Hold(message) => {
                    // This host submits it later, as its own.
                    self.room.charge(&event, payer);
                    outbound.send_at_once(ok(&id, true, &message));
                }
            }
            next = self.next(&batch);
        }
        Some(batch)
    }
}

/// Writes until every sender of submissions is dropped.
pub(super) async fn run(
    mut policy: impl EventPolicy,
    store: Arc<EventStore>,
    mut submitted: Submitted,
    served: ServedEvents,
    progress: watch::Sender<Batches>,
) {
    let mut batch = 0;
    while let Some(judged) = submitted.batch(&mut policy).await {
        batch += 1;
        progress.send_modify(|batches| batches.begun = batch);
        let results = save(&store, &judged.accepted).await;
        submitted.room.saved();
        for (Accepted { event, payer, outbound }, result) in judged.accepted.iter().zip(&results) {
            // What is refused for its author's other events was looked for among them.
            let is_charged = matches!(
                result,
                Ok(SaveEventStatus::Success | SaveEventStatus::Rejected(RejectedReason::Other))
            );
            if !is_charged {
                submitted.room.give_back(event, *payer);
            }
            let (accepted, message) = result_message(event, result);
            outbound.send_at_once(ok(&event.id.to_hex(), accepted, message));
        }
        for (Accepted { event, .. }, result) in judged.accepted.into_iter().zip(results) {
            if matches!(result, Ok(SaveEventStatus::Success)) {
                served.send(Served::new(event, batch));
            }
        }
        progress.send_modify(|batches| batches.stored = batch);
    }
}

/// Saves a batch; ephemeral events (NIP-01) count as stored and are not, and others without a result as not stored.
async fn save(store: &EventStore, accepted: &[Accepted]) -> Vec<Result<SaveEventStatus, DatabaseError>> {
    let events = accepted.iter().map(|accepted| &accepted.event);
    let lasting = events.clone().filter(|event| !event.kind.is_ephemeral()).cloned();
    let mut results = store.save(&lasting.collect::<Vec<Event>>()).await.into_iter();
    events
        .map(|event| match event.kind.is_ephemeral() {
            true => Ok(SaveEventStatus::Success),
            false => results
                .next()
                .unwrap_or_else(|| Err(DatabaseError::other("the database returned no result"))),
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
        Ok(SaveEventStatus::Rejected(RejectedReason::Other)) => {
            (false, "restricted: too many of your events have its d tag already")
        }
        other => {
            tracing::error!(event.id = %event.id, ?other, "cannot store an event");
            (false, "error: the relay cannot store the event")
        }
    }
}

pub(super) fn ok(event_id: &str, accepted: bool, message: &str) -> String {
    json!(["OK", event_id, accepted, message]).to_string()
}

/// The answer to an event that is stored already.
pub(super) const DUPLICATE: &str = "duplicate: have this event";
const BATCH_MAX: usize = 64;
/// Most bytes of a batch: later events wait for it.
const BATCH_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::path::Path;

    use nostr::event::EventBuilder;
    use nostr::event::FinalizeEvent;
    use nostr::event::Kind;
    use nostr::key::Keys;

    use super::*;
    use crate::limits::RelayLimits;
    use crate::message_bytes::MessageBytes;
    use crate::outbound::BYTES_MAX;

    fn submission(kind: u16, bytes: usize) -> Submission {
        let all = MessageBytes::new(0, 0);
        Submission {
            event: EventBuilder::new(Kind::from_u16(kind), "")
                .finalize(&Keys::generate())
                .unwrap(),
            bytes,
            _room: None,
            client: Ipv4Addr::LOCALHOST.into(),
            outbound: Outbound::new(BYTES_MAX, all.of(None)).0,
            is_own: kind != 62,
        }
    }

    /// Accepts everything; this host submits an announcement and a state while so many are judged.
    struct Busy {
        judged: usize,
        submits_at: usize,
        to_own: Option<mpsc::Sender<Submission>>,
    }

    impl EventPolicy for Busy {
        async fn judge(&mut self, _: &Event, _: IpAddr) -> Answer {
            self.judged += 1;
            if self.judged == self.submits_at {
                submit(self.to_own.take().unwrap()).await;
            }
            Answer::Accept
        }
    }

    async fn submit(to_own: mpsc::Sender<Submission>) {
        to_own.send(submission(30617, 500)).await.unwrap();
        to_own.send(submission(30618, 500)).await.unwrap();
    }

    /// Returns the kinds in each batch where this host submits while that one of nine strangers' events is judged; 0:
    /// before all.
    async fn batches(submits_at: usize) -> Vec<Vec<u16>> {
        let ((to_own, own), (to_others, others)) = (mpsc::channel(9), mpsc::channel(9));
        let mut submitted = Submitted {
            own,
            others,
            taken: VecDeque::new(),
            room: StoreRoom::new(Path::new("there-is-none"), &RelayLimits::default()),
        };
        for _ in 0..9 {
            to_others.send(submission(62, 262_144)).await.unwrap();
        }
        drop(to_others);
        let mut policy = Busy {
            judged: 0,
            submits_at,
            to_own: None,
        };
        match submits_at {
            0 => submit(to_own).await,
            _ => policy.to_own = Some(to_own),
        }
        let mut batches = Vec::new();
        while let Some(batch) = submitted.batch(&mut policy).await {
            let accepted = batch.accepted.iter();
            batches.push(accepted.map(|accepted| accepted.event.kind.as_u16()).collect());
        }
        batches
    }

    /// A push waited for its events behind those of a stranger, 64 of 262 KB in a batch.
    #[tokio::test]
    async fn what_this_host_submits_comes_before_all_others_and_waits_for_none_of_them() {
        assert_eq!(
            batches(0).await,
            [vec![30617, 30618], vec![62; 4], vec![62; 4], vec![62]]
        );
        // Where it comes while strangers' are judged, it is stored with those.
        assert_eq!(
            batches(2).await,
            [vec![62, 62, 30617, 30618], vec![62; 2], vec![62; 4], vec![62]]
        );
    }
}
