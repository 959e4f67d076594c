//! The answer to the pusher's git, in its own format: always 200, with results per ref and `remote:` lines
//! (docs/facts/git-http.md 3.2).

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::Stream;
use futures_util::stream;
use shared::rules::Commanded;
use shared::rules::PushDecision;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use warp::reply::Response;
use wire::command_list::PushCapabilities;
use wire::report::Report;
use wire::report::ReportWriter;

use crate::http::body::Body;
use crate::http::body::BodyLimits;
use crate::http::reply;
use crate::push::list_memory::GAVE_WAY;
use crate::push::list_memory::ListMemory;
use crate::push::outcome::PushOutcome;
use crate::push::progress::Stage;

pub(super) struct PushResult {
    /// Sentences for the pusher (`remote:` lines).
    pub(super) notes: Vec<String>,
    pub(super) report: Report,
    /// Why not, if any command is refused.
    pub(super) refusal: PushOutcome,
}

impl PushResult {
    /// Every command with its verdict, after a pack that was taken or not needed.
    pub(super) fn of(decision: PushDecision) -> Self {
        let report = Report {
            unpack_error: None,
            commands: decision.commands,
        };
        Self {
            notes: decision.notes,
            report,
            refusal: PushOutcome::Rules,
        }
    }

    /// A push that ends because another address needs its room.
    pub(super) fn gave_way() -> Self {
        Self::failed(Vec::new(), GAVE_WAY.to_owned(), PushOutcome::Limit)
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

    fn bytes(&self, writer: ReportWriter) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.notes.iter().flat_map(|note| writer.remote_text(note)).collect();
        bytes.extend_from_slice(&writer.finish(&self.report));
        bytes
    }
}

/// An answer as it is sent, and its memory; nothing else is left of its push.
#[must_use = "it is for the client"]
pub(super) struct PushAnswer {
    bytes: Vec<u8>,
    memory: ListMemory,
    writer: ReportWriter,
}

impl PushAnswer {
    pub(super) fn new(capabilities: &PushCapabilities, mut memory: ListMemory, result: PushResult) -> Self {
        let writer = ReportWriter::new(capabilities);
        let mut bytes = result.bytes(writer);
        if memory.ended().now_or_never().is_some() {
            bytes = PushResult::gave_way().bytes(writer);
        }
        memory.shrink_to(bytes.len());
        Self { bytes, memory, writer }
    }

    /// Answers once the client has sent everything: before, it does not read.
    pub(super) async fn after(mut self, body: &mut Body) -> Response {
        let gives_way = tokio::select! {
            () = body.drain(DRAIN) => false,
            () = self.memory.ended() => true,
        };
        if gives_way {
            self.bytes = PushResult::gave_way().bytes(self.writer);
            self.memory.shrink_to(self.bytes.len());
            body.drain(DRAIN).await;
        }
        if self.bytes.len() <= PIECE_BYTES {
            return reply::git(RESULT_TYPE, self.bytes.into());
        }
        let len = self.bytes.len();
        let (sender, receiver) = mpsc::channel(ANSWER_PIECES_MAX);
        tokio::spawn(async move { self.send(&sender).await });
        reply::git_stream(RESULT_TYPE, pieces(receiver), Some(len))
    }

    /// Sends it to a client that reads, as long as its memory is not another address's. A client that has disconnected
    /// gets nothing.
    async fn send(self, client: &mpsc::Sender<Bytes>) {
        let sending = async {
            for piece in self.bytes.chunks(PIECE_BYTES) {
                // Each by itself: a part of the whole would keep the whole in memory.
                if client.send(Bytes::copy_from_slice(piece)).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = sending => {}
            () = self.memory.ended() => {}
        }
    }
}

fn pieces(mut receiver: mpsc::Receiver<Bytes>) -> impl Stream<Item = Result<Bytes, Infallible>> {
    stream::poll_fn(move |context| receiver.poll_recv(context).map(|piece| piece.map(Ok)))
}

/// Answers git's question before a large push: nothing at all (docs/facts/git-http.md 3.3).
pub(super) fn probe() -> Response {
    reply::git(RESULT_TYPE, Bytes::new())
}

/// Answers with the result of some work, which is done in a task: it finishes whether the client is still connected or
/// not. Meanwhile a waiting client gets progress messages.
pub(super) fn in_task(
    tasks: &TaskTracker,
    capabilities: &PushCapabilities,
    stages: watch::Receiver<Stage>,
    work: impl Future<Output = PushAnswer> + Send + 'static,
) -> Response {
    let writer = ReportWriter::new(capabilities);
    let (sender, receiver) = mpsc::channel(ANSWER_PIECES_MAX);
    tasks.spawn(async move {
        let answer = with_progress(work, stages, writer, &sender, Pace::DEFAULT).await;
        answer.send(&sender).await;
    });
    reply::git_stream(RESULT_TYPE, pieces(receiver), None)
}

/// When a client gets messages about a push.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// Most pushes are done before, and show nothing.
    first: Duration,
    /// Between two signs of life: below the 15 s after which clients give up (docs/facts/grasp.md 0.5).
    again: Duration,
}

impl Pace {
    const DEFAULT: Self = Self {
        first: Duration::from_secs(1),
        again: Duration::from_secs(5),
    };
}

/// Does some work, and sends how far it is: once it has taken long, at each change, and as a sign of life.
async fn with_progress<T>(
    work: impl Future<Output = T>,
    mut stages: watch::Receiver<Stage>,
    writer: ReportWriter,
    client: &mpsc::Sender<Bytes>,
    pace: Pace,
) -> T {
    let (mut next, mut is_slow) = (Instant::now() + pace.first, false);
    tokio::pin!(work);
    loop {
        tokio::select! {
            result = &mut work => return result,
            () = tokio::time::sleep_until(next) => {}
            Ok(()) = stages.changed(), if is_slow => {}
        }
        let stage = *stages.borrow_and_update();
        drop(client.try_send(writer.progress(&stage.to_string())));
        (next, is_slow) = (Instant::now() + pace.again, true);
    }
}

/// `gitprotocol-http(5)`, "Smart Service git-receive-pack".
const RESULT_TYPE: &str = "application/x-git-receive-pack-result";

/// Pieces of an answer that may wait for a slow client, in addition to what its memory counts.
const ANSWER_PIECES_MAX: usize = 4;
const PIECE_BYTES: usize = 16 << 10;

/// Read and forgotten of a push that is refused, before the answer.
const DRAIN: BodyLimits = BodyLimits {
    bytes_max: 1 << 30,
    stall_max: Duration::from_secs(10),
    duration_max: Duration::from_secs(600),
};

#[cfg(test)]
mod tests {
    use super::*;

    fn writer() -> ReportWriter {
        ReportWriter::new(&PushCapabilities {
            side_band_64k: true,
            ..PushCapabilities::default()
        })
    }

    /// A push whose events took long to be released looked dead to the client and to proxies, which cut it off
    /// (ngit-grasp before 2.0.0).
    #[tokio::test]
    async fn a_push_shows_signs_of_life_while_it_is_finished() {
        let writer = writer();
        let (sender, mut receiver) = mpsc::channel(ANSWER_PIECES_MAX);
        let (_progress, stages) = watch::channel(Stage::Storing);
        // The work continues until the client has got two messages.
        let work = async {
            for _ in 0..2 {
                let received = writer.progress("checked, storing it");
                assert_eq!(receiver.recv().await, Some(received));
            }
        };
        let brief = Pace {
            first: Duration::from_millis(5),
            again: Duration::from_millis(5),
        };

        let finished = with_progress(work, stages, writer, &sender, brief);
        let result = tokio::time::timeout(Duration::from_secs(10), finished).await;

        assert!(result.is_ok(), "no sign of life");
    }

    #[tokio::test(start_paused = true)]
    async fn a_push_shows_how_far_it_is_once_it_takes_long() {
        let writer = writer();
        let (sender, mut receiver) = mpsc::channel(10);
        let (progress, stages) = watch::channel(Stage::Checking {
            received_bytes: 4_200_000,
        });
        let work = async {
            tokio::time::sleep(Duration::from_millis(900)).await;
            progress.send_replace(Stage::Storing);
            tokio::time::sleep(Duration::from_millis(400)).await;
            progress.send_replace(Stage::Publishing { events: 2 });
            tokio::time::sleep(Duration::from_secs(6)).await;
        };

        with_progress(work, stages, writer, &sender, Pace::DEFAULT).await;

        drop(sender);
        let mut received = Vec::new();
        while let Some(text) = receiver.recv().await {
            received.push(text);
        }
        let waiting = "stored, waiting for the relay to store 2 events";
        let expected = ["checked, storing it", waiting, waiting].map(|text| writer.progress(text));
        assert_eq!(received, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_push_that_is_soon_done_shows_nothing() {
        let (sender, mut receiver) = mpsc::channel(10);
        let (progress, stages) = watch::channel(Stage::Storing);
        let work = async {
            tokio::time::sleep(Duration::from_millis(950)).await;
            progress.send_replace(Stage::Publishing { events: 1 });
        };

        with_progress(work, stages, writer(), &sender, Pace::DEFAULT).await;

        drop(sender);
        assert_eq!(receiver.recv().await, None);
    }
}
