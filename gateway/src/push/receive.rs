//! The body of a push: its pack goes into a quarantine of its own, and what waits for it is held on to meanwhile.

use std::io;
use std::io::Cursor;
use std::time::Duration;

use shared::rules::PushDecision;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::time::Instant;
use tokio::time::MissedTickBehavior;
use tokio_util::io::ReaderStream;

use crate::push::Push;
use crate::repositories::ingest::IngestError;
use crate::repositories::layout::LayoutError;
use crate::repositories::quarantine::Quarantine;

/// A pack that was taken, in its quarantine; `None`: the push had none, since it only deletes.
pub(crate) type Upload = Option<Quarantine>;

/// Why a pack was not taken. The text is for the pusher.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadError {
    #[error(transparent)]
    Ingest(#[from] IngestError),
    #[error("the push cannot be stored here")]
    Quarantine(#[source] LayoutError),
    #[error("too many pushes at the same time, push again later")]
    Busy,
    #[error("bytes follow a push that only deletes")]
    TrailingBytes,
}

impl From<LayoutError> for UploadError {
    /// A disk without room is called so wherever it shows.
    fn from(error: LayoutError) -> Self {
        let no_room = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        match no_room.contains(&error.source.kind()) {
            true => Self::Ingest(IngestError::DiskFull),
            false => Self::Quarantine(error),
        }
    }
}

impl Push {
    /// Takes the pack.
    pub(crate) async fn upload(
        &self,
        decision: &PushDecision,
        pack_start: Vec<u8>,
        body: &mut (impl AsyncRead + Send + Unpin),
    ) -> Result<Upload, UploadError> {
        self.hold_on(decision).await;
        if !self.list.expects_pack() {
            let ended = pack_start.is_empty() && body.read_u8().await.is_err();
            return if ended {
                Ok(None)
            } else {
                Err(UploadError::TrailingBytes)
            };
        }
        let mut pack = ReaderStream::with_capacity(Cursor::new(pack_start).chain(body), CHUNK_BYTES);
        let site = &self.site;
        let every = Duration::from_secs((site.settings.hold_secs / 6).max(1));
        let mut extensions = tokio::time::interval_at(Instant::now() + every, every);
        extensions.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let ingest = async {
            let permit = tokio::time::timeout(site.settings.upload_wait, site.uploads.acquire()).await;
            let _permit = permit.map_err(|_| UploadError::Busy)?;
            let mut quarantine = site.storage.quarantine(&self.coordinate).await?;
            quarantine.ingest(&mut pack, site.storage.limits()).await?;
            Ok(Some(quarantine))
        };
        tokio::pin!(ingest);
        loop {
            tokio::select! {
                taken = &mut ingest => return taken,
                _ = extensions.tick() => self.hold_on(decision).await,
            }
        }
    }

    /// Moves the deadlines of what this push fulfils: a large upload does not lose its events on the way.
    async fn hold_on(&self, decision: &PushDecision) {
        if decision.extend.is_empty() {
            return;
        }
        let site = &self.site;
        if let Err(error) = site
            .loader
            .purgatory
            .extend(&decision.extend, site.settings.hold_secs)
            .await
        {
            // The push goes on: whether it still has its events is decided at its end.
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot extend what a push waits for"
            );
        }
    }
}

/// Handed to git at once.
const CHUNK_BYTES: usize = 64 * 1024;
