//! The body of a push: its pack is spooled, and meanwhile the deadlines of the events that wait for it are extended.
//! Receiving ends with the client; the check of a received pack does not.

use std::collections::BTreeSet;
use std::future::Future;
use std::io::Cursor;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use nostr::event::EventId;
use shared::nip34::Coordinate;
use shared::purgatory::PlaceholderLimit;
use shared::purgatory::PlaceholderOutcome;
use shared::purgatory::Purgatory;
use shared::rules::PushDecision;
use tokio::io::AsyncReadExt;
use tokio::time::Instant;
use tokio::time::MissedTickBehavior;
use tokio::time::timeout;

use crate::fairness::least_rate::LeastRate;
use crate::fairness::least_rate::TooSlow;
use crate::fairness::shares::AllInUse;
use crate::fairness::shares::Claim;
use crate::fairness::shares::Shares;
use crate::fairness::slots::Slots;
use crate::http::body::Body;
use crate::http::body::BodyError;
use crate::http::body::BodyLimits;
use crate::http::body::BodyReader;
use crate::logged::logged;
use crate::meter::Meter;
use crate::push::outcome::PushOutcome;
use crate::push::request::PushRequest;
use crate::repositories::Repositories;
use crate::repositories::disk_use::Incoming;
use crate::repositories::disk_use::NoRoom;
use crate::repositories::error::RepositoryError;
use crate::repositories::pack::IngestError;
use crate::repositories::received::Received;
use crate::repositories::spool::Spool;

pub(crate) struct Receiver {
    /// Where quarantines are opened, and how much one push may bring.
    pub(crate) repositories: Repositories,
    pub(crate) purgatory: Purgatory,
    /// Received packs that are not yet checked, by address.
    pub(crate) incoming: Shares,
    pub(crate) received_bytes: Meter<1>,
    pub(crate) least_rate: LeastRate,
    /// What the check of a pack needs.
    pub(crate) checks: Slots,
    /// For how long a pack that is here waits for its check.
    pub(crate) check_wait: Duration,
    /// For how long a push extends its events, in seconds.
    pub(crate) hold_secs: u64,
}

/// A pack of which every byte is here and nothing is checked.
pub(super) struct Pack {
    spool: Spool,
    claim: Claim,
    pusher: IpAddr,
}

impl Pack {
    pub(super) fn bytes(&self) -> u64 {
        self.spool.bytes()
    }
}

/// Why a pack was not taken. The text is for the pusher.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReceiveError {
    #[error(transparent)]
    Ingest(#[from] IngestError),
    #[error("the push was not received: {0}")]
    Body(#[from] BodyError),
    #[error("the push was not received: {0}")]
    TooSlow(#[from] TooSlow),
    #[error("too many pushes at the same time, push again later")]
    Busy,
    #[error("too many pushes at the same time, and your address has most of them: push again later")]
    AllInUse,
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    #[error(transparent)]
    NoPlaceholder(#[from] PlaceholderLimit),
    #[error("the pack lacks objects that the push needs: {message}")]
    Incomplete { message: String },
    #[error("the server cannot process the pack right now, push again later")]
    Unsorted(#[source] RepositoryError),
    #[error("the push only deletes refs, but data follows its commands")]
    TrailingBytes,
    /// Nothing builds on the parts of another state than its own.
    #[error("the push builds on a part of a state that is not complete yet ({message}): push again when it is")]
    BuildsOnParts { message: String },
    /// Of the history of a shallow clone, the part that it does not have is not here either.
    #[error(
        "this clone is shallow, and the server does not have the rest of its history either ({message}): run git fetch \
         --unshallow, then push again"
    )]
    Shallow { message: String },
}

impl ReceiveError {
    pub(super) fn outcome(&self) -> PushOutcome {
        let is_limit = matches!(
            self,
            Self::Busy | Self::AllInUse | Self::NoRoom(_) | Self::NoPlaceholder(_) | Self::TooSlow(_)
        );
        match self.is_ours() {
            _ if is_limit => PushOutcome::Limit,
            true => PushOutcome::Unavailable,
            false => PushOutcome::Pack,
        }
    }

    /// Whether the server is the reason, and not the push.
    pub(super) fn is_ours(&self) -> bool {
        match self {
            Self::Ingest(error) => error.is_ours(),
            Self::NoRoom(error) => matches!(error, NoRoom::Disk | NoRoom::Unread(_)),
            Self::Unsorted(_) => true,
            Self::Incomplete { .. }
            | Self::Body(_)
            | Self::TooSlow(_)
            | Self::Busy
            | Self::AllInUse
            | Self::NoPlaceholder(_)
            | Self::TrailingBytes
            | Self::BuildsOnParts { .. }
            | Self::Shallow { .. } => false,
        }
    }
}

impl From<RepositoryError> for ReceiveError {
    fn from(error: RepositoryError) -> Self {
        match error {
            RepositoryError::Ingest(error) => Self::Ingest(error),
            RepositoryError::File(error) => Self::Ingest(error.into()),
            RepositoryError::Incomplete { message } => Self::Incomplete { message },
            error @ (RepositoryError::Read(_)
            | RepositoryError::Git(_)
            | RepositoryError::Busy { .. }
            | RepositoryError::NoRepository
            | RepositoryError::Stale { .. }
            | RepositoryError::Locked { .. }
            | RepositoryError::Refused { .. }
            | RepositoryError::NotStaged { .. }
            | RepositoryError::Unsorted { .. }
            | RepositoryError::NotLocked { .. }) => Self::Unsorted(error),
        }
    }
}

impl From<AllInUse> for ReceiveError {
    fn from(AllInUse: AllInUse) -> Self {
        Self::AllInUse
    }
}

impl Receiver {
    /// Receives the rest of a push: the pack, or nothing where every command deletes. Returns when its last byte is
    /// here. Until then it holds bytes of its address's share, and nothing that others wait for.
    pub(super) async fn receive(
        &self,
        request: &PushRequest,
        pack_start: Vec<u8>,
        body: &mut Body,
    ) -> Result<Option<Pack>, ReceiveError> {
        if !request.list.expects_pack() {
            let ended = pack_start.is_empty() && self.least_rate.begin().wait(body.read_u8()).await?.is_err();
            return if ended {
                Ok(None)
            } else {
                Err(ReceiveError::TrailingBytes)
            };
        }
        let claim = self.incoming.enter(request.pusher)?;
        let spool = tokio::select! {
            spooled = self.spool(&claim, pack_start, body) => spooled?,
            () = claim.ended() => return Err(ReceiveError::AllInUse),
        };
        Ok(Some(Pack {
            spool,
            claim,
            pusher: request.pusher,
        }))
    }

    async fn spool(&self, claim: &Claim, pack_start: Vec<u8>, body: &mut Body) -> Result<Spool, ReceiveError> {
        let mut spool = self.repositories.spool();
        let limits = self.repositories.limits();
        let limits = BodyLimits {
            // The spool bounds them, and reports it in the words of a push.
            bytes_max: u64::MAX,
            stall_max: limits.stall_max,
            duration_max: limits.duration_max,
        };
        let mut pack = BodyReader::new(Cursor::new(pack_start).chain(body), limits);
        let mut patience = self.least_rate.begin();
        while let Some(bytes) = patience.wait(pack.next()).await?? {
            patience.moved(bytes.len());
            claim.grow(bytes.len() as u64)?;
            self.received_bytes.add(0, bytes.len() as u64);
            spool.push(&bytes).await?;
        }
        Ok(spool)
    }

    /// Makes sure that there is room for what a push brings, before it brings it.
    pub(super) async fn check_room(&self, request: &PushRequest, decision: &PushDecision) -> Result<(), ReceiveError> {
        if !request.list.expects_pack() {
            return Ok(());
        }
        let incoming = incoming(&request.coordinate, decision, None);
        self.repositories.disk_use().check(incoming).await?;
        if decision.before_event.is_empty() {
            return Ok(());
        }
        let fit = self
            .purgatory
            .placeholders_fit(&request.coordinate, &decision.before_event, request.pusher);
        match fit.await {
            Ok(PlaceholderOutcome::Full(limit)) => Err(limit.into()),
            // If Redis does not answer now, it may when they are recorded.
            Ok(PlaceholderOutcome::Recorded) | Err(_) => Ok(()),
        }
    }

    /// Checks a pack that was received, when there is a slot for it, and returns its objects, sorted for what
    /// `decision` allows as yet.
    pub(super) async fn check(
        &self,
        request: &PushRequest,
        pack: Option<Pack>,
        decision: &PushDecision,
    ) -> Result<Option<Received>, ReceiveError> {
        let Some(pack) = pack else { return Ok(None) };
        let slot = tokio::select! {
            slot = timeout(self.check_wait, self.checks.acquire(pack.pusher)) => slot.map_err(|_| ReceiveError::Busy)?,
            () = pack.claim.ended() => return Err(ReceiveError::AllInUse),
        };
        pack.claim.keep()?;
        let limits = self.repositories.limits();
        let kept = self.repositories.kept(&request.coordinate, decision.parts_of()).await?;
        let ingested = self
            .repositories
            .ingest(&request.coordinate, pack.spool, kept.as_ref())
            .await;
        let quarantine = match ingested {
            Err(IngestError::MissingObject { message }) if request.list.is_shallow => {
                return Err(ReceiveError::Shallow { message });
            }
            Err(IngestError::MissingObject { message }) if self.repositories.keeps_parts(&request.coordinate).await => {
                return Err(ReceiveError::BuildsOnParts { message });
            }
            ingested => ingested?,
        };
        let object_dir = quarantine.object_dir().to_owned();
        let incoming = incoming(&request.coordinate, decision, Some(&object_dir));
        // Beside each other: a small push waits for nothing else here.
        let room = async { Ok(self.repositories.disk_use().check(incoming).await?) };
        let of_pull_requests = decision.to_stage(&request.coordinate).into_iter();
        let of_pull_requests = of_pull_requests.map(|staged| staged.commit_oid).collect();
        let tips = (decision.allowed_tips(), of_pull_requests);
        let sorted = Received::sort(quarantine, kept, decision.tips(), tips, limits);
        let sorted = async { Ok::<_, ReceiveError>(sorted.await?) };
        let ((), received) = tokio::try_join!(room, sorted)?;
        drop(slot);
        Ok(Some(received))
    }

    /// Does some work, and extends the deadlines of these events until it is done: a large push does not lose its
    /// events on the way.
    pub(super) async fn extending<T>(&self, event_ids: &BTreeSet<EventId>, work: impl Future<Output = T>) -> T {
        let every = Duration::from_secs((self.hold_secs / 6).max(1));
        let mut extensions = tokio::time::interval_at(Instant::now() + every, every);
        extensions.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                _ = extensions.tick() => self.extend(event_ids).await,
            }
        }
    }

    pub(super) async fn extend(&self, event_ids: &BTreeSet<EventId>) {
        if event_ids.is_empty() {
            return;
        }
        if let Err(error) = self.purgatory.extend(event_ids, self.hold_secs).await {
            // The push continues: whether it still has its events is decided at its end.
            tracing::warn!(error = logged(&error), "cannot extend the deadlines of a push's events");
        }
    }
}

/// Returns where the objects of a push go, by the decision so far.
fn incoming<'c>(coordinate: &'c Coordinate, decision: &PushDecision, object_dir: Option<&'c Path>) -> Incoming<'c> {
    Incoming {
        coordinate,
        object_dir,
        moves_in: !decision.allowed_tips().is_empty(),
        is_staged_by_stranger: decision.is_staged_by_stranger,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::task::Context;
    use std::task::Poll;

    use shared::git::PushCommand;
    use shared::git::RefUpdate;
    use shared::purgatory::Limits;
    use tokio::io::AsyncRead;
    use tokio::io::ReadBuf;
    use wire::command_list::CommandList;

    use super::*;
    use crate::fairness::shares::ShareLimits;
    use crate::repositories::pack::IngestLimits;
    use crate::repositories::testing::World;
    use crate::repositories::testing::coordinate;

    /// The start of a pack, and then nothing, or a connection that is gone.
    struct CutOff {
        start: &'static [u8],
        then: Option<std::io::ErrorKind>,
    }

    impl AsyncRead for CutOff {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<std::io::Result<()>> {
            let start = std::mem::take(&mut self.start);
            if !start.is_empty() {
                buffer.put_slice(start);
                return Poll::Ready(Ok(()));
            }
            self.then.map_or(Poll::Pending, |kind| Poll::Ready(Err(kind.into())))
        }
    }

    fn request() -> PushRequest {
        let update = RefUpdate {
            name: "refs/heads/main".parse().unwrap(),
            old: None,
            new: Some("1".repeat(40).parse().unwrap()),
        };
        PushRequest {
            coordinate: coordinate("server"),
            pusher: IpAddr::V4(Ipv4Addr::LOCALHOST),
            list: CommandList {
                commands: vec![PushCommand {
                    name: update.name.to_string(),
                    update: Ok(update),
                }],
                ..CommandList::default()
            },
        }
    }

    #[tokio::test]
    async fn a_pusher_that_stalls_or_breaks_off_holds_nothing() {
        let world = World::new().await;
        let brief = Duration::from_millis(50);
        let receive = async |limits: IngestLimits, least_rate, then| {
            let receiver = Receiver {
                repositories: Repositories::new(world.store.clone(), limits),
                purgatory: Purgatory::in_memory(Limits::DEFAULT, Arc::new(|| 1)),
                incoming: Shares::new(ShareLimits {
                    claims_max: 1,
                    bytes_max: 1 << 20,
                }),
                least_rate,
                received_bytes: Meter::default(),
                checks: Slots::new(1),
                check_wait: brief,
                hold_secs: 60,
            };
            let mut body: Body = Box::pin(CutOff {
                start: b"PACK\0\0\0\x02\0\0\0\x01",
                then,
            });
            let received = receiver.receive(&request(), Vec::new(), &mut body).await;
            assert_eq!((receiver.incoming.in_use(), receiver.checks.in_use()), ((0, 0), 0));
            received.map(drop).unwrap_err()
        };
        let stalling = IngestLimits {
            stall_max: brief,
            ..IngestLimits::default()
        };
        let late = IngestLimits {
            duration_max: brief,
            ..IngestLimits::default()
        };

        let demanding = LeastRate {
            grace: brief,
            ..LeastRate::DEFAULT
        };

        let stalled = receive(stalling, LeastRate::DEFAULT, None).await;
        let late = receive(late, LeastRate::DEFAULT, None).await;
        let slow = receive(IngestLimits::default(), demanding, None).await;
        let gone = Some(std::io::ErrorKind::ConnectionReset);
        let broken = receive(IngestLimits::default(), LeastRate::DEFAULT, gone).await;

        assert!(
            matches!(stalled, ReceiveError::Body(BodyError::Stalled { .. })),
            "{stalled:?}"
        );
        assert!(
            matches!(late, ReceiveError::Body(BodyError::Deadline { .. })),
            "{late:?}"
        );
        assert!(matches!(slow, ReceiveError::TooSlow(_)), "{slow:?}");
        assert!(matches!(broken, ReceiveError::Body(BodyError::Broken(_))), "{broken:?}");
        assert_eq!(world.quarantine_entries(), 0);
    }
}
