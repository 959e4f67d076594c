//! The end of a push: under the identifier's lock it is decided anew, its objects move in, and a look at the
//! identifier aligns, marks and releases (design 2, rules 5 to 8).

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use nostr::event::EventId;
use shared::git::Namespace;
use shared::git::ObjectKind;
use shared::git::Oid;
use shared::git::RefName;
use shared::git::RefUpdate;
use shared::nip34::Identifier;
use shared::purgatory::Leased;
use shared::purgatory::PlaceholderOutcome;
use shared::purgatory::PurgatoryError;
use shared::rules::Atomicity;
use shared::rules::PushDecision;
use shared::rules::RefVerdict;
use shared::rules::Staged;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio::time::MissedTickBehavior;
use warp::reply::Response;

use crate::http::body;
use crate::http::body::Body;
use crate::http::reply;
use crate::push::DRAIN;
use crate::push::Push;
use crate::push::PushError;
use crate::push::answer::RESULT_TYPE;
use crate::push::end_of_body::WatchedBody;
use crate::push::for_now;
use crate::push::receive::Upload;
use crate::push::receive::UploadError;
use crate::push::results;
use crate::reconcile::ReconcileError;
use crate::reconcile::publish::Published;
use crate::repositories::StorageError;
use crate::repositories::locks::Locked;
use crate::repositories::quarantine::Quarantine;
use wire::report::Report;
use wire::report::ReportWriter;

/// Why a push that was allowed could not be carried out.
#[derive(Debug, thiserror::Error)]
enum CommitError {
    #[error(transparent)]
    Push(#[from] PushError),
    #[error("cannot lock the identifier")]
    Lock(#[source] std::io::Error),
    #[error("the purgatory does not answer")]
    Purgatory(#[from] PurgatoryError),
    #[error("cannot store what was pushed")]
    Storage(#[from] StorageError),
    #[error("cannot bring the repository to its state")]
    Look(#[from] ReconcileError),
    #[error("too many commits wait for their PR events, push again later")]
    PlaceholdersFull,
    #[error("the repository is no longer hosted here")]
    Gone,
}

impl CommitError {
    /// Says it to the pusher; the causes are for the log.
    fn to_pusher(&self) -> String {
        match self {
            Self::Push(error) => for_now(error).to_owned(),
            Self::Purgatory(_) => "the purgatory (Redis) does not answer, push again later".to_owned(),
            Self::Lock(_) | Self::Storage(_) | Self::Look(_) => {
                "the push could not be stored here, push again later; the operator finds the reason in the log"
                    .to_owned()
            }
            Self::PlaceholdersFull | Self::Gone => self.to_string(),
        }
    }
}

/// Takes the pack and carries the push out, in a task of its own: it ends with a client that hangs up before it has
/// sent everything, and not with one that hangs up later. Returns when the client can read; the answer says what the
/// task says, as it says it.
pub(crate) async fn carry_out(push: Push, decision: PushDecision, pack_start: Vec<u8>, body: Body) -> Response {
    let (sender, mut receiver) = mpsc::channel(ANSWER_CHUNKS_MAX);
    let (mut body, end_of_body) = WatchedBody::new(body);
    let tasks = push.site.tasks.clone();
    let task = tasks.spawn(async move {
        let writer = ReportWriter::new(push.capabilities());
        let work = async {
            let upload = push.upload(&decision, pack_start, &mut body).await;
            if upload.is_err() {
                body::drain(&mut body, DRAIN).await;
            }
            drop(body);
            match upload {
                Ok(upload) => push.commit(upload).await,
                Err(error) => push.upload_failed(&error),
            }
        };
        let told = with_keepalives(work, writer, &sender).await;
        let mut bytes: Vec<u8> = told
            .remarks
            .iter()
            .flat_map(|remark| writer.remote_text(remark))
            .collect();
        bytes.extend_from_slice(&writer.finish(&told.report));
        // A client that has gone hears nothing.
        drop(sender.send(Bytes::from(bytes)).await);
    });
    let guard = AbortOnDrop(Some(task.abort_handle()));
    // Dropped without a value is as good: then nothing of it is wanted any more.
    drop(end_of_body.await);
    guard.disarm();
    let chunks =
        stream::poll_fn(move |context| receiver.poll_recv(context).map(|chunk| chunk.map(Ok::<_, Infallible>)));
    reply::git_stream(RESULT_TYPE, chunks)
}

/// Ends a task with whoever waits for it.
struct AbortOnDrop(Option<AbortHandle>);

impl AbortOnDrop {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// Does the work with a sign of life to the client from time to time. Before the client can read they wait, no more
/// of them than fit.
async fn with_keepalives(work: impl Future<Output = Told>, writer: ReportWriter, client: &mpsc::Sender<Bytes>) -> Told {
    let mut keepalive = tokio::time::interval_at(Instant::now() + KEEPALIVE_INTERVAL, KEEPALIVE_INTERVAL);
    keepalive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tokio::pin!(work);
    loop {
        tokio::select! {
            told = &mut work => return told,
            _ = keepalive.tick() => drop(client.try_send(writer.remote_text(SIGN_OF_LIFE))),
        }
    }
}

/// What is told at the end.
struct Told {
    remarks: Vec<String>,
    report: Report,
}

/// What a push has changed.
struct Committed {
    decision: PushDecision,
    leased: Vec<Leased>,
}

impl Push {
    async fn commit(&self, upload: Upload) -> Told {
        match self.commit_locked(upload).await {
            Ok(Committed { decision, leased }) => {
                let mut awaited = decision.awaited.clone();
                awaited.extend(leased.iter().map(|leased| leased.event.id));
                let site = Arc::clone(&self.site);
                // In a task of its own: a relay that hangs is waited for only so long.
                self.site.tasks.spawn(async move { site.publish(leased).await });
                let remark = self.released(&awaited).await;
                let remarks = decision.remarks.iter().cloned().chain(remark).collect();
                let report = Report {
                    unpack: Ok(()),
                    refs: results(&self.list, &decision),
                };
                Told { remarks, report }
            }
            Err(error) => {
                let logged = &error as &dyn std::error::Error;
                tracing::warn!(repo.coordinate = %self.coordinate, error = logged, "push not carried out");
                self.refused(Ok(()), &error.to_pusher())
            }
        }
    }

    fn upload_failed(&self, error: &UploadError) -> Told {
        let logged = error as &dyn std::error::Error;
        tracing::info!(repo.coordinate = %self.coordinate, error = logged, "pack refused");
        self.refused(Err(error.to_string()), &error.to_string())
    }

    /// Every ref refused for one reason.
    fn refused(&self, unpack: Result<(), String>, reason: &str) -> Told {
        let names = self.list.commands.iter().map(|command| command.name.clone());
        Told {
            remarks: vec![reason.to_owned()],
            report: Report {
                unpack,
                refs: names.map(|name| (name, Err(reason.to_owned()))).collect(),
            },
        }
    }

    async fn commit_locked(&self, upload: Upload) -> Result<Committed, CommitError> {
        let identifiers = BTreeSet::from([self.coordinate.identifier.clone()]);
        let locked = self
            .site
            .locks
            .lock(identifiers.clone())
            .await
            .map_err(CommitError::Lock)?;
        let Some((_, mut decision)) = self.decide().await? else {
            return Err(CommitError::Gone);
        };
        self.refuse_unfit_tips(upload.as_ref(), &mut decision).await?;
        if !self.goes_on(&decision) {
            return Ok(Committed {
                decision,
                leased: Vec::new(),
            });
        }
        // From here on things move: whoever dies leaves the mark, and another look goes on.
        self.site.loader.purgatory.mark_dirty(&identifiers).await?;
        let upload = self.stage(&locked, &decision, upload).await?;
        self.take_in(&locked, &decision, upload).await?;
        let look = self.site.reconcile_locked(&locked).await;
        // What is reported is what is there now, whatever was decided.
        let refs = self.site.storage.refs(&self.coordinate).await?.unwrap_or_default();
        let came_to_its_end = look.as_ref().is_ok_and(|look| !look.broken.contains(&self.coordinate));
        self.confirm(
            &mut decision,
            &refs,
            if came_to_its_end { OVERTAKEN } else { NOT_YET_SET },
        );
        let leased = match look {
            Ok(look) => {
                if look.broken.contains(&self.coordinate) {
                    // Its refs may be set all the same, when git died behind its work.
                    decision.remarks.push(RELEASED_LATER.to_owned());
                }
                decision.awaited.extend(look.later);
                look.leased
            }
            Err(error) => {
                let logged = &error as &dyn std::error::Error;
                tracing::warn!(repo.coordinate = %self.coordinate, error = logged, "cannot release yet, will look again");
                decision.remarks.push(RELEASED_LATER.to_owned());
                Vec::new()
            }
        };
        tracing::info!(repo.coordinate = %self.coordinate, commands = self.list.commands.len(), "push carried out");
        Ok(Committed { decision, leased })
    }

    /// Refuses what was allowed and is not so all the same, for a reason: another state has overtaken it, or it could
    /// not be set.
    fn confirm(&self, decision: &mut PushDecision, refs: &BTreeMap<RefName, Oid>, reason: &str) {
        for (update, verdict) in self.updates().zip(&mut decision.verdicts) {
            if *verdict == RefVerdict::Allow && refs.get(&update.name).copied() != update.new {
                *verdict = RefVerdict::Refuse {
                    reason: reason.to_owned(),
                };
            }
        }
    }

    /// Refuses what names an object that did not come, or of the wrong kind: git's own check, on our quarantine.
    async fn refuse_unfit_tips(
        &self,
        quarantine: Option<&Quarantine>,
        decision: &mut PushDecision,
    ) -> Result<(), CommitError> {
        let updates: Vec<RefUpdate> = self.updates().cloned().collect();
        let tips: Vec<Oid> = updates.iter().filter_map(|update| update.new).collect();
        let kinds = self
            .site
            .storage
            .object_kinds(&self.coordinate, quarantine, &tips)
            .await?;
        for (update, verdict) in updates.iter().zip(&mut decision.verdicts) {
            let acts = matches!(verdict, RefVerdict::Allow | RefVerdict::Stage { .. });
            if let Some(reason) = unfit(update, &kinds).filter(|_| acts) {
                *verdict = RefVerdict::Refuse { reason };
            }
        }
        if decision.is_refused() {
            // Branches and tags fulfil a state together or not at all.
            refuse_together(&updates, decision, self.atomicity());
        }
        Ok(())
    }

    /// Keeps PR commits aside: the record first, then the objects. Returns what is left of the upload.
    async fn stage(&self, locked: &Locked, decision: &PushDecision, upload: Upload) -> Result<Upload, CommitError> {
        let Some(quarantine) = upload else { return Ok(None) };
        let to_stage = self.to_stage(decision);
        let hold_secs = self.site.settings.hold_secs;
        for staged in &to_stage {
            let purgatory = &self.site.loader.purgatory;
            let Staged {
                coordinate,
                event_id,
                commit_oid,
            } = staged;
            match purgatory
                .put_placeholder(event_id, coordinate, *commit_oid, hold_secs)
                .await?
            {
                PlaceholderOutcome::Recorded => {}
                PlaceholderOutcome::Full => return Err(CommitError::PlaceholdersFull),
            }
        }
        // The usual case moves a directory; only a pack with more in it has to be taken apart.
        if let [staged] = to_stage.as_slice()
            && self.allowed_tips(decision).is_empty()
        {
            self.site.storage.stage_whole(locked, staged, quarantine).await?;
            return Ok(None);
        }
        for staged in &to_stage {
            self.site.storage.stage(locked, staged, &quarantine).await?;
        }
        Ok(Some(quarantine))
    }

    fn to_stage(&self, decision: &PushDecision) -> Vec<Staged> {
        let mut to_stage = Vec::new();
        for verdict in &decision.verdicts {
            if let RefVerdict::Stage { event_id, commit_oid } = verdict {
                to_stage.push(Staged {
                    coordinate: self.coordinate.clone(),
                    event_id: *event_id,
                    commit_oid: *commit_oid,
                });
            }
        }
        to_stage
    }

    /// Moves the objects of what is allowed into the repository.
    async fn take_in(&self, locked: &Locked, decision: &PushDecision, upload: Upload) -> Result<(), CommitError> {
        let tips = self.allowed_tips(decision);
        let Some(quarantine) = upload.filter(|_| !tips.is_empty()) else {
            return Ok(());
        };
        let storage = &self.site.storage;
        if decision.stages() {
            // The pack has objects of both; only those that a signed event stands for move in.
            storage
                .copy_from_quarantine(locked, &self.coordinate, &quarantine, &tips)
                .await?;
        } else {
            storage.migrate(locked, &self.coordinate, quarantine).await?;
        }
        Ok(())
    }

    fn allowed_tips(&self, decision: &PushDecision) -> BTreeSet<Oid> {
        let decided = self.updates().zip(&decision.verdicts);
        decided
            .filter(|(_, verdict)| **verdict == RefVerdict::Allow)
            .filter_map(|(update, _)| update.new)
            .collect()
    }

    async fn stopped_for(&self, time: Duration) {
        self.site.ending.stopping.cancelled().await;
        tokio::time::sleep(time).await;
    }

    /// Waits until these events are served. Returns what is to be said about it.
    async fn released(&self, event_ids: &BTreeSet<EventId>) -> Option<String> {
        if event_ids.is_empty() {
            return None;
        }
        let identifiers: BTreeSet<Identifier> = [self.coordinate.identifier.clone()].into();
        let deadline = Instant::now() + self.site.settings.release_wait;
        let published = tokio::select! {
            published = self.site.published(&identifiers, event_ids, deadline) => published,
            // The answer is worth more than the end of the wait: the server may be cut off soon.
            () = self.stopped_for(RELEASE_WAIT_AT_THE_END) => Ok(Published::Pending),
        };
        match published {
            Ok(Published::All) => None,
            Ok(Published::Pending) => {
                Some("stored; the relay does not answer now, its events are served when it is back".to_owned())
            }
            Ok(Published::Stuck { event_id, reason }) => Some(format!(
                "stored, but the relay refuses to serve event {event_id}: {reason}"
            )),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "cannot tell whether events are served");
                Some(
                    "stored; the purgatory (Redis) does not answer now, its events are served when it is back"
                        .to_owned(),
                )
            }
        }
    }
}

/// Says why a command cannot be done with the objects that are here; `None`: it can.
fn unfit(update: &RefUpdate, kinds: &BTreeMap<Oid, ObjectKind>) -> Option<String> {
    let tip = update.new?;
    let Some(kind) = kinds.get(&tip) else {
        return Some(format!("object {} did not come with the push", tip.short()));
    };
    let needs_commit = match update.name.namespace() {
        Namespace::Branch | Namespace::PullRequest(_) => true,
        Namespace::Tag | Namespace::MalformedPullRequest | Namespace::Other => false,
    };
    (needs_commit && *kind != ObjectKind::Commit).then(|| format!("object {} is not a commit", tip.short()))
}

/// Refuses all branches and tags if one of them is refused, and everything if all or nothing is wanted.
fn refuse_together(updates: &[RefUpdate], decision: &mut PushDecision, atomicity: Atomicity) {
    let governed = |update: &RefUpdate| matches!(update.name.namespace(), Namespace::Branch | Namespace::Tag);
    let spoilt = updates
        .iter()
        .zip(&decision.verdicts)
        .any(|(update, verdict)| governed(update) && matches!(verdict, RefVerdict::Refuse { .. }));
    for (update, verdict) in updates.iter().zip(&mut decision.verdicts) {
        let acts = matches!(verdict, RefVerdict::Allow | RefVerdict::Stage { .. });
        if acts && (atomicity == Atomicity::AllOrNothing || spoilt && governed(update)) {
            *verdict = RefVerdict::Refuse {
                reason: "another ref that belongs to it was refused".to_owned(),
            };
        }
    }
}

/// Why a ref is not what the push made it.
const OVERTAKEN: &str = "not set: another state event has overtaken this push; fetch, then push again";

/// The same where the look did not come to its end. The mark stays, so the next look goes on.
const NOT_YET_SET: &str = "not set yet: the repository cannot be changed now; what was pushed is here, and this server \
                           tries again by itself";

/// What a push is told whose look did not come to its end.
const RELEASED_LATER: &str = "stored; the events are released as soon as this server can";

/// Between two signs of life: below the 15 s after which clients give up (facts/grasp 0.5).
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// For events to be served once the server is stopping.
const RELEASE_WAIT_AT_THE_END: Duration = Duration::from_secs(5);

/// What the pusher reads meanwhile.
const SIGN_OF_LIFE: &str = "still at it: the push ends when its events are served";

/// Pieces of an answer that may wait for a slow client.
const ANSWER_CHUNKS_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use wire::command_list::PushCapabilities;

    /// A push whose events took long to be released looked dead to the client and to proxies, which cut it off
    /// (ngit-grasp before 2.0.0).
    #[tokio::test]
    async fn a_push_shows_signs_of_life_while_it_is_finished() {
        let writer = ReportWriter::new(&PushCapabilities {
            side_band_64k: true,
            ..PushCapabilities::default()
        });
        let (sender, mut receiver) = mpsc::channel(ANSWER_CHUNKS_MAX);
        // The work goes on until the client has heard of it twice.
        let work = async {
            let heard = [receiver.recv().await, receiver.recv().await];
            assert_eq!(
                heard,
                [
                    Some(writer.remote_text(SIGN_OF_LIFE)),
                    Some(writer.remote_text(SIGN_OF_LIFE))
                ]
            );
            Told {
                remarks: Vec::new(),
                report: Report {
                    unpack: Ok(()),
                    refs: Vec::new(),
                },
            }
        };

        let told = tokio::time::timeout(4 * KEEPALIVE_INTERVAL, with_keepalives(work, writer, &sender)).await;

        assert_eq!(told.expect("no sign of life").report.unpack, Ok(()));
    }
}
