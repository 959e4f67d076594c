//! Sending the answer to a fetch: from memory if it is short, and otherwise from a spool, so that nobody waits for a
//! slow reader.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::StreamExt;
use futures_util::TryStreamExt;
use futures_util::stream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::fairness::shares::Claim;
use crate::fairness::shares::Shares;
use crate::fetch::error::UploadPackError;
use crate::fetch::limits::UploadPackLimits;
use crate::fetch::ref_answer::RefAnswer;
use crate::fetch::slot::PAUSE_AFTER;
use crate::fetch::slot::add_when_read;
use crate::fetch::spool::FetchSpool;
use crate::fetch::spool::SpoolEnd;
use crate::fetch::spool::SpoolReader;

/// An answer that is being written. Dropped before it is whole, the rest does not come.
pub(super) struct Filling(pub(super) Arc<FetchSpool>);

impl Drop for Filling {
    fn drop(&mut self) {
        self.0.end(SpoolEnd::CutOff);
    }
}

/// The answer to a fetch. An error in it means that the rest is missing: it must then be cut off, not ended. Dropping
/// it ends what writes it.
pub(crate) type UploadPackAnswer = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send + Sync>>;

pub(crate) enum FetchAnswer {
    /// With this, and no git.
    Whole(Bytes),
    /// By git, or with a long list of refs.
    Streamed {
        chunks: UploadPackAnswer,
        /// How many bytes it has, where that is known before.
        len: Option<usize>,
    },
}

/// Why a client does not get all of an answer.
#[derive(Debug, thiserror::Error)]
enum DeliveryError {
    #[error("its room was needed for another address")]
    GaveWay,
    #[error(transparent)]
    Failed(#[from] io::Error),
}

#[cfg(test)]
impl FetchAnswer {
    pub(crate) fn into_stream(self) -> UploadPackAnswer {
        match self {
            Self::Whole(bytes) => Box::pin(stream::iter([Ok(bytes)])),
            Self::Streamed { chunks, .. } => chunks,
        }
    }
}

/// Writes an answer that lists refs into a spool at once, whatever its reader takes: then neither the answer nor the
/// refs stay in memory. Where there is no room on disk it waits for the reader, and for a slow one as one of those that
/// are `paused`.
pub(super) fn spool_refs(answer: RefAnswer, spool: Arc<FetchSpool>, paused: Shares, reader: IpAddr) {
    let filling = Filling(spool);
    tokio::spawn(async move {
        let spool = &filling.0;
        let spooled = async {
            for piece in answer {
                while !spool.offer(&piece).await {
                    if timeout(PAUSE_AFTER, spool.taken()).await.is_err() {
                        add_when_read(&paused, reader, spool, &piece, async {}).await?;
                        break;
                    }
                }
            }
            spool.end(SpoolEnd::Whole);
            Ok::<_, io::Error>(())
        };
        tokio::select! {
            spooled = spooled => if let Err(error) = spooled {
                tracing::warn!(%error, "an answer that lists refs was cut off");
            },
            () = spool.abandoned() => {}
        }
    });
}

/// Sends an answer that is being spooled, of `len` bytes if that is known.
///
/// # Errors
/// [`UploadPackError`] until the first byte of the answer.
pub(super) async fn send(
    reader: SpoolReader,
    len: Option<usize>,
    claim: Arc<Claim>,
    limits: UploadPackLimits,
) -> Result<FetchAnswer, UploadPackError> {
    let (sender, chunks) = mpsc::channel(CHUNKS_AHEAD);
    // A task of its own: it must notice a client that is gone or asleep even while nobody polls the answer.
    let run = tokio::spawn(async move {
        let ended = deliver(reader, &claim, sender, limits).await;
        ended.inspect_err(|error| tracing::warn!(%error, "a fetch was cut off"))
    });
    let mut chunks = Box::pin(sent_by(run, chunks).peekable());
    // Until the first bytes, a failure can still be reported with a status.
    match chunks.as_mut().peek().await {
        Some(Err(DeliveryError::GaveWay)) => Err(UploadPackError::GaveWay),
        Some(Err(DeliveryError::Failed(_))) => Err(UploadPackError::Failed(cut_off())),
        Some(Ok(_)) | None => {
            let chunks = Box::pin(chunks.map_err(|_| cut_off()));
            Ok(FetchAnswer::Streamed { chunks, len })
        }
    }
}

/// Returns what `run` sends, and an error behind it if `run` fails.
fn sent_by(
    run: JoinHandle<Result<(), DeliveryError>>,
    chunks: mpsc::Receiver<Bytes>,
) -> impl Stream<Item = Result<Bytes, DeliveryError>> + Send + Sync {
    stream::unfold((chunks, Some(run)), |(mut chunks, run)| async move {
        match chunks.recv().await {
            Some(chunk) => Some((Ok(chunk), (chunks, run))),
            None => match run?.await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some((Err(error), (chunks, None))),
                Err(_) => Some((Err(cut_off().into()), (chunks, None))),
            },
        }
    })
}

fn cut_off() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "git upload-pack was cut off")
}

/// Sends an answer to a client, until it is all sent, or the client is gone or too slow.
async fn deliver(
    answer: SpoolReader,
    claim: &Claim,
    client: mpsc::Sender<Bytes>,
    limits: UploadPackLimits,
) -> Result<(), DeliveryError> {
    tokio::select! {
        biased;
        // Whatever else goes wrong with its spool then.
        () = claim.ended() => Err(DeliveryError::GaveWay),
        ended = timeout(limits.duration_max, send_all(answer, &client, limits)) => {
            Ok(ended.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?)
        }
        () = client.closed() => Ok(()),
    }
}

async fn send_all(mut answer: SpoolReader, client: &mpsc::Sender<Bytes>, limits: UploadPackLimits) -> io::Result<()> {
    let mut patience = limits.least_rate.begin();
    while let Some(bytes) = answer.next().await? {
        let len = bytes.len();
        let taken = patience.wait(timeout(limits.stall_max, client.send(bytes))).await;
        match taken.map_err(io::Error::other)? {
            Ok(Ok(())) => patience.moved(len),
            Ok(Err(_)) => return Err(io::ErrorKind::BrokenPipe.into()),
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        }
    }
    Ok(())
}

/// The rest of what the reader has not taken is in the spool.
const CHUNKS_AHEAD: usize = 1;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use warp::http::StatusCode;

    use super::*;
    use crate::fetch::advertised::Advertised;
    use crate::fetch::advertised::Offer;
    use crate::fetch::ls_refs::LsRefs;
    use crate::fetch::testing::READER;
    use crate::fetch::testing::body;
    use crate::fetch::testing::fetch_of;
    use crate::fetch::testing::large;
    use crate::fetch::testing::lines;
    use crate::fetch::testing::none;
    use crate::fetch::testing::readable;
    use crate::fetch::testing::server;
    use crate::fetch::testing::v2;
    use crate::fetch::testing::whole;
    use crate::fetch::upload_pack::refusal;
    use crate::http::reply;
    use crate::repositories::testing::World;
    use crate::repositories::testing::imported_refs;
    use wire::path::GitService;
    use wire::protocol::ProtocolVersion;

    /// Advertisements of version 1 and unusual lists of refs were in memory for as long as their readers took nothing:
    /// 7 MB for each connection, where there are 100,000 refs.
    #[tokio::test]
    async fn what_nobody_reads_of_long_lists_is_on_disk_and_the_refs_are_not_kept_for_it() {
        let world = World::new().await;
        let server = server(&world, UploadPackLimits::DEFAULT);
        let refs = Arc::new(imported_refs(20_000));
        let advertised = Advertised::new(Arc::clone(&refs));
        let usual = lines(&["command=ls-refs", "0001", "peel", "symrefs", "unborn", "0000"]);
        let unusual = lines(&["command=ls-refs", "0001", "symrefs", "unborn", "0000"]);
        let mut answers = Vec::new();
        for request in [usual, unusual] {
            let (path, protocol) = (world.store.layout().empty_repository(), v2());
            let answer = server
                .fetch(readable(&path, &advertised), READER, protocol, body(&request))
                .await;
            answers.push((answer.unwrap(), RefAnswer::whole(&refs, LsRefs::all())));
        }
        for service in [GitService::UploadPack, GitService::ReceivePack] {
            for version in [ProtocolVersion::V0, ProtocolVersion::V1] {
                let (answer, expected) = match advertised.info_refs(service, version) {
                    Offer::Kept(body) => (RefAnswer::from(body.bytes.clone()), body.bytes),
                    Offer::Made(answer) => {
                        let Offer::Made(same) = advertised.info_refs(service, version) else {
                            panic!()
                        };
                        (answer, same.collect::<Vec<_>>().concat().into())
                    }
                };
                answers.push((server.send_refs(READER, answer).await.unwrap(), expected));
            }
        }
        let long: u64 = answers.iter().map(|(_, expected)| expected.len() as u64).sum();
        drop(advertised);

        let written = timeout(Duration::from_secs(30), async {
            while Arc::strong_count(&refs) > 1 {
                tokio::task::yield_now().await;
            }
        });

        assert!(written.await.is_ok(), "the refs are kept for those who read nothing");
        let (claims, on_disk) = server.receiver.fetches.in_use();
        assert_eq!(claims, answers.len());
        assert!(on_disk > long / 2, "{on_disk} of {long} bytes");
        for (answer, expected) in answers {
            assert!(matches!(answer, FetchAnswer::Streamed { .. }));
            assert!(whole(answer).await.unwrap() == expected);
        }
        assert_eq!(server.receiver.fetches.in_use(), (0, 0));
    }

    #[tokio::test]
    async fn long_lists_for_which_there_is_no_room_on_disk_come_as_they_are_read() {
        let world = World::new().await;
        let no_disk = UploadPackLimits {
            spool_bytes_max: 0,
            ..UploadPackLimits::DEFAULT
        };
        let server = server(&world, no_disk);
        let refs = Arc::new(imported_refs(20_000));
        let list = || RefAnswer::begin(&refs, LsRefs::all());
        let slow = server.send_refs(READER, list()).await.unwrap();

        let quick = server.send_refs(READER, list()).await.unwrap();

        let expected = RefAnswer::whole(&refs, LsRefs::all());
        assert!(whole(quick).await.unwrap() == expected);
        assert!(whole(slow).await.unwrap() == expected);
        assert_eq!(
            (server.receiver.fetches.in_use(), server.paused.in_use()),
            ((0, 0), (0, 0))
        );
    }

    /// The address with most fetches was told that this server has failed, if git had not begun yet.
    #[tokio::test]
    async fn a_fetch_that_gives_way_before_its_first_byte_is_told_why() {
        let world = World::whose_git_can_be_killed().await;
        let (repository, commit) = large(&world).await;
        world.fail_git("upload-pack", "exec sleep 600");
        let few = UploadPackLimits {
            transfers_max: 2,
            ..UploadPackLimits::DEFAULT
        };
        let server = server(&world, few);
        let refs = none();
        let request = fetch_of(commit);
        let fetch = || server.fetch(readable(repository.path(), &refs), READER, v2(), body(&request));
        let other = IpAddr::from([192, 0, 2, 1]);
        let another_comes = async {
            while server.load().used < 2 {
                tokio::task::yield_now().await;
            }
            server.receiver.enter(other)
        };

        let first_to_end = async {
            tokio::select! {
                ended = fetch() => ended,
                ended = fetch() => ended,
            }
        };
        let both = async { tokio::join!(first_to_end, another_comes) };
        let (gave_way, entered) = timeout(Duration::from_secs(30), both).await.unwrap();

        assert!(entered.is_ok());
        assert!(matches!(gave_way, Err(UploadPackError::GaveWay)));
        let answer = refusal(&gave_way.err().unwrap());
        assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
        assert!(reply::is_busy(&answer));
    }

    #[tokio::test]
    async fn a_client_that_sleeps_is_cut_off_and_can_tell() {
        let world = World::new().await;
        let (repository, commit) = large(&world).await;
        let brief = UploadPackLimits {
            stall_max: Duration::from_millis(100),
            ..UploadPackLimits::DEFAULT
        };
        let server = server(&world, brief);
        let answer = server
            .fetch(
                readable(repository.path(), &none()),
                READER,
                v2(),
                body(&fetch_of(commit)),
            )
            .await;
        let answer = answer.unwrap();

        let freed = timeout(Duration::from_secs(10), async {
            while server.receiver.fetches.in_use() != (0, 0) {
                tokio::task::yield_now().await;
            }
        });
        assert!(freed.await.is_ok());
        let read = whole(answer).await;

        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
