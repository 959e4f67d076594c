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
use crate::push::outcome::PushOutcome;

/// What became of a push, for its client.
pub(super) struct PushResult {
    /// Sentences for the pusher (`remote:` lines).
    pub(super) notes: Vec<String>,
    /// What became of the pack and of each command.
    pub(super) report: Report,
    /// Why not, if any command is refused.
    pub(super) refusal: PushOutcome,
}

impl PushResult {
    /// Every command with its verdict, after a pack that was taken or not needed.
    pub(super) fn of(commands: Vec<Commanded>, notes: Vec<String>) -> Self {
        let report = Report {
            unpack_error: None,
            commands,
        };
        let refusal = PushOutcome::Rules;
        Self { notes, report, refusal }
    }

    /// A push that failed as a whole.
    pub(super) fn failed(commands: Vec<Commanded>, reason: String, refusal: PushOutcome) -> Self {
        let report = Report {
            unpack_error: Some(reason.clone()),
            commands,
        };
        Self {
            notes: vec![reason],
            report,
            refusal,
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
        let result = with_keepalives(work, writer, &sender, KEEPALIVE_INTERVAL).await;
        // A client that has gone hears nothing.
        drop(sender.send(result.bytes(writer)).await);
    });
    let chunks =
        stream::poll_fn(move |context| receiver.poll_recv(context).map(|chunk| chunk.map(Ok::<_, Infallible>)));
    reply::git_stream(RESULT_TYPE, chunks)
}

/// Does some work, and sends a sign of life every `interval` until it is done.
async fn with_keepalives(
    work: impl Future<Output = PushResult>,
    writer: ReportWriter,
    client: &mpsc::Sender<Bytes>,
    interval: Duration,
) -> PushResult {
    let mut keepalive = tokio::time::interval_at(Instant::now() + interval, interval);
    keepalive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tokio::pin!(work);
    loop {
        tokio::select! {
            result = &mut work => return result,
            _ = keepalive.tick() => drop(client.try_send(writer.remote_text(KEEPALIVE_TEXT))),
        }
    }
}

/// `gitprotocol-http(5)`, "Smart Service git-receive-pack".
const RESULT_TYPE: &str = "application/x-git-receive-pack-result";

/// Between two signs of life: below the 15 s after which clients give up (docs/facts/grasp.md 0.5).
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// What the pusher reads meanwhile.
const KEEPALIVE_TEXT: &str = "waiting for the push to be checked and for the relay to store its events";

/// Pieces of an answer that may wait for a slow client.
const ANSWER_CHUNKS_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    /// A push whose events took long to be released looked dead to the client and to proxies, which cut it off
    /// (ngit-grasp before 2.0.0).
    #[tokio::test]
    async fn a_push_shows_signs_of_life_while_it_is_finished() {
        let writer = ReportWriter::new(&PushCapabilities {
            side_band_64k: true,
            ..PushCapabilities::default()
        });
        let (sender, mut receiver) = mpsc::channel(ANSWER_CHUNKS_MAX);
        // The work continues until the client has heard of it twice.
        let work = async {
            for _ in 0..2 {
                assert_eq!(receiver.recv().await, Some(writer.remote_text(KEEPALIVE_TEXT)));
            }
            PushResult::of(Vec::new(), Vec::new())
        };

        let finished = with_keepalives(work, writer, &sender, Duration::from_millis(5));
        let result = tokio::time::timeout(Duration::from_secs(10), finished).await;

        assert!(result.is_ok(), "no sign of life");
    }
}
