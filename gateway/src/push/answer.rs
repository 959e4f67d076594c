//! What the pusher's git is told, in its own terms: always 200, with results per ref and `remote:` lines
//! (docs/facts/git-http.md 3.2).

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use shared::rules::Commanded;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio::time::MissedTickBehavior;
use tokio_util::task::TaskTracker;
use warp::reply::Response;
use wire::command_list::PushCapabilities;
use wire::report::Report;
use wire::report::ReportWriter;

use crate::http::reply;

/// What became of a push, for its client.
pub(super) struct PushResult {
    /// Sentences for the pusher (`remote:` lines).
    pub(super) notes: Vec<String>,
    /// What became of the pack and of each command.
    pub(super) report: Report,
}

impl PushResult {
    /// Every command with its verdict, after a pack that was taken or not needed.
    pub(super) fn of(commands: Vec<Commanded>, notes: Vec<String>) -> Self {
        let report = Report {
            unpack_error: None,
            commands,
        };
        Self { notes, report }
    }

    /// A push that failed as a whole.
    pub(super) fn failed(commands: Vec<Commanded>, reason: String) -> Self {
        let report = Report {
            unpack_error: Some(reason.clone()),
            commands,
        };
        Self {
            notes: vec![reason],
            report,
        }
    }

    fn bytes(&self, writer: ReportWriter) -> Bytes {
        let mut bytes: Vec<u8> = self.notes.iter().flat_map(|note| writer.remote_text(note)).collect();
        bytes.extend_from_slice(&writer.finish(&self.report));
        bytes.into()
    }
}

/// Answers with a result that is there.
pub(super) fn whole(capabilities: &PushCapabilities, result: &PushResult) -> Response {
    reply::git(RESULT_TYPE, result.bytes(ReportWriter::new(capabilities)))
}

/// Answers git's question before a large push: nothing at all (docs/facts/git-http.md 3.3).
pub(super) fn probe() -> Response {
    reply::git(RESULT_TYPE, Bytes::new())
}

/// Answers with the result of some work, which is done in a task: whether the client is still there or not, it
/// finishes. Until then the client hears from time to time that it goes on.
pub(super) fn in_task(
    tasks: &TaskTracker,
    capabilities: &PushCapabilities,
    work: impl Future<Output = PushResult> + Send + 'static,
) -> Response {
    let writer = ReportWriter::new(capabilities);
    let (sender, mut receiver) = mpsc::channel(ANSWER_CHUNKS_MAX);
    tasks.spawn(async move {
        let mut keepalive = tokio::time::interval_at(Instant::now() + KEEPALIVE_INTERVAL, KEEPALIVE_INTERVAL);
        keepalive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tokio::pin!(work);
        let result = loop {
            tokio::select! {
                result = &mut work => break result,
                _ = keepalive.tick() => drop(sender.try_send(writer.remote_text(KEEPALIVE_TEXT))),
            }
        };
        // A client that has gone hears nothing.
        drop(sender.send(result.bytes(writer)).await);
    });
    let chunks =
        stream::poll_fn(move |context| receiver.poll_recv(context).map(|chunk| chunk.map(Ok::<_, Infallible>)));
    reply::git_stream(RESULT_TYPE, chunks)
}

/// `gitprotocol-http(5)`, "Smart Service git-receive-pack".
const RESULT_TYPE: &str = "application/x-git-receive-pack-result";

/// Between two signs of life: below the 15 s after which clients give up (docs/facts/grasp.md 0.5).
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// What the pusher reads meanwhile.
const KEEPALIVE_TEXT: &str = "waiting for the push to be checked and for the relay to store its events";

/// Pieces of an answer that may wait for a slow client.
const ANSWER_CHUNKS_MAX: usize = 4;
