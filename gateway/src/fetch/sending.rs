//! Sending the answer to a fetch: from memory if it is short, and otherwise from a spool, so that nobody waits for a
//! slow reader.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::fairness::shares::Claim;
use crate::fairness::shares::Shares;
use crate::fetch::conversation::UploadPackLimits;
use crate::fetch::conversation::cut_off;
use crate::fetch::conversation::deliver;
use crate::fetch::conversation::sent_by;
use crate::fetch::error::UploadPackError;
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

/// How a fetch is answered.
pub(crate) enum FetchAnswer {
    /// With this, and no git.
    Whole(Bytes),
    /// By git, or with a long list of refs.
    Streamed {
        /// The answer.
        chunks: UploadPackAnswer,
        /// How many bytes it has, where that is known before.
        len: Option<usize>,
    },
}

#[cfg(test)]
impl FetchAnswer {
    /// Returns it as it is sent.
    pub(crate) fn into_stream(self) -> UploadPackAnswer {
        match self {
            Self::Whole(bytes) => Box::pin(futures_util::stream::iter([Ok(bytes)])),
            Self::Streamed { chunks, .. } => chunks,
        }
    }
}

/// Writes an answer that lists refs into a spool at once, whatever its reader takes: then neither the answer nor the
/// refs stay in memory. Where there is no room on disk it waits for the reader, and for a slow one in one of the places
/// of `paused`.
pub(super) fn spool_refs(answer: RefAnswer, spool: Arc<FetchSpool>, (paused, reader): (Shares, IpAddr)) {
    let filling = Filling(spool);
    tokio::spawn(async move {
        let spool = &filling.0;
        let spooled = async {
            for piece in answer {
                while !spool.offer(&piece).await {
                    if timeout(PAUSE_AFTER, spool.taken()).await.is_err() {
                        add_when_read((&paused, reader), (spool, &piece), async {}).await?;
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
    (reader, len): (SpoolReader, Option<usize>),
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
        Some(Err(_)) => Err(UploadPackError::Failed(cut_off())),
        Some(Ok(_)) | None => Ok(FetchAnswer::Streamed { chunks, len }),
    }
}

/// The rest of what the reader has not taken is in the spool.
const CHUNKS_AHEAD: usize = 1;
