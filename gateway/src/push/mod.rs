//! A push, from the first byte of its commands to the last flush.
//!
//! Commands → facts → decide → receive → (in a task) check → commit → publish → answer. The pack is received in the
//! handler and ends with the client; from its last byte on a task finishes, even if the client disconnects.

mod answer;
pub(crate) mod audit;
pub(crate) mod commit;
mod error;
pub(crate) mod list_memory;
pub(crate) mod outcome;
mod progress;
pub(crate) mod publication;
pub(crate) mod receive;
mod refusal;
mod request;

use std::net::IpAddr;
use std::sync::Arc;

use shared::load_facts::FactsScope;
use shared::nip34::Coordinate;
use shared::rules::PushDecision;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use tracing::Instrument;
use tracing::Span;
use warp::http::StatusCode;
use warp::reply::Response;

use crate::fetch::askers::Askers;
use crate::fetch::finding::Found;
use crate::fetch::load_slots::LoadSize;
use crate::fetch::reader::Reader;
use crate::http::body::Body;
use crate::logged::logged;
use crate::push::answer::PushResult;
use crate::push::audit::Audit;
use crate::push::audit::PushLog;
use crate::push::commit::Committed;
use crate::push::commit::commit;
use crate::push::error::PushError;
use crate::push::outcome::PushOutcome;
use crate::push::progress::Stage;
use crate::push::publication::PushPublisher;
use crate::push::receive::Arrived;
use crate::push::receive::Receiver;
use crate::push::refusal::failed;
use crate::push::refusal::pack_refused;
use crate::push::refusal::refuse_unread;
use crate::push::refusal::uncommitted;
use crate::push::request::PushRequest;
use crate::reconcile::Reconciler;
use crate::repositories::LockQueue;

pub(crate) struct Pusher {
    pub(crate) receiver: Receiver,
    pub(crate) reconciler: Arc<Reconciler>,
    pub(crate) publisher: PushPublisher,
    pub(crate) reader: Arc<Reader>,
    /// What continues without its client; waited for when the server stops.
    pub(crate) tasks: TaskTracker,
    pub(crate) log: Arc<PushLog>,
}

/// Answers a POST of `git-receive-pack` of a client at `address`.
pub(crate) async fn receive_pack(pusher: Arc<Pusher>, coordinate: Coordinate, address: IpAddr, body: Body) -> Response {
    let audit = Audit::new(&coordinate, address, Arc::clone(&pusher.log));
    let span = audit.span();
    answer_push(pusher, audit, coordinate, body).instrument(span).await
}

async fn answer_push(pusher: Arc<Pusher>, audit: Audit, coordinate: Coordinate, mut body: Body) -> Response {
    let lists = &pusher.receiver.lists;
    let (request, pack_start) = match PushRequest::read(coordinate, audit.address(), lists, &mut body).await {
        Ok(read) => read,
        Err(error) => return refuse_unread(&audit, error, lists, &mut body).await,
    };
    if request.list.commands.is_empty() {
        return answer::probe();
    }
    let capabilities = request.list.capabilities.clone();
    let decision = match pusher.decide(&request).await {
        Ok(Some(decision)) => decision,
        Ok(None) => return audit.refuse_http(StatusCode::NOT_FOUND, "no such repository on this server"),
        Err(error) => {
            tracing::warn!(repo.coordinate = %request.coordinate, error = logged(&error), "cannot decide about a push");
            let result = audit.end(failed(&request, error.to_pusher(), PushOutcome::Unavailable));
            return request.answer(result).after(&mut body).await;
        }
    };
    if !decision.acts() {
        let result = audit.end(PushResult::of(decision));
        return request.answer(result).after(&mut body).await;
    }
    let extension = pusher.extend(&decision);
    let received = async {
        pusher.receiver.check_room(&request, &decision).await?;
        pusher.receiver.receive(&request, pack_start, &mut body).await
    };
    match pusher.receiver.extending(&decision.extend, received).await {
        Ok(arrived) => {
            let tasks = pusher.tasks.clone();
            let received_bytes = arrived.pack_bytes();
            let (progress, stages) = watch::channel(Stage::Checking { received_bytes });
            let work = async move {
                let finished = pusher.finish(&request, decision, arrived, extension, &progress).await;
                request.answer(audit.end(finished))
            };
            answer::in_task(&tasks, &capabilities, stages, work.instrument(Span::current()))
        }
        Err(error) => {
            drop(decision);
            let result = audit.end(pack_refused(&request, &error));
            request.answer(result).after(&mut body).await
        }
    }
}

impl Pusher {
    /// Follows the answer to a client that has asked for the refs to push: the client is packing now, and the push is
    /// prepared; a request that was refused is logged.
    pub(crate) fn advertised(&self, coordinate: &Coordinate, address: IpAddr, answer: &Response) {
        let status = answer.status();
        if status.is_success() {
            let (repositories, coordinate) = (self.receiver.repositories.clone(), coordinate.clone());
            tokio::spawn(async move { repositories.expect_push(&coordinate).await });
        } else if status.is_client_error() || status.is_server_error() {
            let audit = Audit::new(coordinate, address, Arc::clone(&self.log));
            audit.span().in_scope(|| audit.log_unadvertised(answer));
        }
    }

    /// Decides about a push with the facts before its pack; `None`: this server does not host the repository.
    async fn decide(&self, request: &PushRequest) -> Result<Option<PushDecision>, PushError> {
        match self.decide_on_recent_facts(request).await? {
            Some(decision) => Ok(Some(decision)),
            None => self.decide_on_fresh_facts(request).await,
        }
    }

    /// Decides on facts that a reader has loaded a moment ago, such as those for the advertisement that git asked for;
    /// `None`: these do not allow the whole push, but newer ones may. An allowed push is decided again under the lock,
    /// so old facts can at most let a client send its pack in vain.
    async fn decide_on_recent_facts(&self, request: &PushRequest) -> Result<Option<PushDecision>, PushError> {
        // What a PR's ref may become depends on its event, which readers do not need.
        if !request.pull_request_ids().is_empty() {
            return Ok(None);
        }
        let finding = self.reader.recent(&request.coordinate);
        let Some(facts) = finding.as_ref().and_then(|finding| finding.facts.as_ref()) else {
            return Ok(None);
        };
        let decision = request.decide_early(facts, &self.reconciler.repositories).await?;
        Ok(decision.filter(|decision| decision.acts() && decision.refused() == 0))
    }

    /// Loads the facts now, and decides; `None`: this server does not host the repository.
    async fn decide_on_fresh_facts(&self, request: &PushRequest) -> Result<Option<PushDecision>, PushError> {
        // Anybody may name PRs: they are read only for a repository that is here.
        if !request.pull_request_ids().is_empty() {
            let finding = self.reader.find(&request.coordinate, request.pusher).await;
            if matches!(finding.found, Found::NotHosted) {
                return Ok(None);
            }
        }
        let scope = FactsScope {
            coordinates: [request.coordinate.clone()].into(),
            pull_request_ids: request.pull_request_ids(),
            ..FactsScope::default()
        };
        let (askers, mut size) = (Askers::new(request.pusher), LoadSize::default());
        let facts = self.reader.load_facts(&scope, &askers, &mut size).await?;
        request.decide_early(&facts, &self.reconciler.repositories).await
    }

    /// Extends the deadlines of what a push waits for, beside it.
    fn extend(self: &Arc<Self>, decision: &PushDecision) -> JoinHandle<()> {
        let (pusher, event_ids) = (Arc::clone(self), decision.extend.clone());
        tokio::spawn(async move { pusher.receiver.extend(&event_ids).await })
    }

    /// Finishes a push of which every byte is here, when its events are extended.
    async fn finish(
        self: Arc<Self>,
        request: &PushRequest,
        decision: PushDecision,
        arrived: Arrived,
        extension: JoinHandle<()>,
        progress: &watch::Sender<Stage>,
    ) -> PushResult {
        let checked = self.receiver.check(request, arrived, &decision);
        let (received, _) = tokio::join!(self.receiver.extending(&decision.extend, checked), extension);
        let received = match received {
            Ok(received) => received,
            Err(error) => return pack_refused(request, &error),
        };
        progress.send_replace(Stage::Storing);
        let queue = match decision.brings_signed() {
            true => LockQueue::Owners,
            false => LockQueue::Strangers,
        };
        match commit(&self.reconciler, request, received, queue).await {
            Ok(Committed { mut decision, leased }) => {
                let events = leased.len() + decision.awaited.len();
                progress.send_replace(Stage::Publishing { events });
                let note = self.publisher.publish(leased, &decision.awaited).await;
                // Not for strangers, and not while the relay does not answer.
                if queue == LockQueue::Owners && note.is_none() {
                    self.reader.load_ahead(&request.coordinate, request.pusher);
                }
                decision.notes.extend(note);
                PushResult::of(decision)
            }
            Err(error) => uncommitted(request, &error),
        }
    }
}
