//! The body of a push: its pack is spooled, and meanwhile the deadlines of the events that wait for it are extended.
//! Receiving ends with the client; the check of a received pack does not.

use std::collections::BTreeSet;
use std::future::Future;
use std::io::Cursor;
use std::path::Path;
use std::time::Duration;

use nostr::event::EventId;
use shared::live::Live;
use shared::purgatory::PlaceholderLimit;
use shared::purgatory::PlaceholderOutcome;
use shared::purgatory::Purgatory;
use shared::rules::PushDecision;
use shared::rules::SourceTag;
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
use crate::push::list_memory::GAVE_WAY;
use crate::push::outcome::PushOutcome;
use crate::push::request::PushRequest;
use crate::repositories::Repositories;
use crate::repositories::disk_use::Incoming;
use crate::repositories::disk_use::NoRoom;
use crate::repositories::error::RepositoryError;
use crate::repositories::pack::IngestError;
use crate::repositories::pack::IngestLimits;
use crate::repositories::received::Received;
use crate::repositories::spool::Spool;

pub(crate) struct Receiver {
    /// Where quarantines are opened, and how much one push may bring.
    pub(crate) repositories: Repositories,
    pub(crate) purgatory: Purgatory,
    /// The memory of command lists.
    pub(crate) lists: Shares,
    /// Pushes, from their decision until they have their repository's lock, with the bytes of their packs.
    pub(crate) incoming: Shares,
    pub(crate) received_bytes: Meter<1>,
    pub(crate) times: Live<ReceiveTimes>,
    /// What the check of a pack needs.
    pub(crate) checks: Slots,
}

/// How long a push may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReceiveTimes {
    pub(crate) least_rate: LeastRate,
    /// For how long a pack that is here waits for its check.
    pub(crate) check_wait: Duration,
}

/// A push of which every byte is here and nothing is checked.
pub(super) struct Arrived {
    /// `None`: every command deletes.
    pack: Option<Spool>,
    claim: Claim,
}

impl Arrived {
    pub(super) fn pack_bytes(&self) -> u64 {
        self.pack.as_ref().map_or(0, Spool::bytes)
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
    #[error("{GAVE_WAY}")]
    AllInUse,
    /// Of a few bytes it would write as many as of a large push.
    #[error(
        "a compressed push has at most {max_bytes} bytes: send it as it is (JGit compresses what fits into its \
         http.postBuffer)"
    )]
    Compressed { max_bytes: u64 },
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
            | Self::Compressed { .. }
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
            | RepositoryError::Unfinished { .. }
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
    ) -> Result<Arrived, ReceiveError> {
        let claim = self.incoming.enter(request.pusher)?;
        let rest = async {
            if request.list.expects_pack {
                return self.spool(&claim, pack_start, body).await.map(Some);
            }
            let mut patience = self.times.get().least_rate.begin();
            match pack_start.is_empty() && patience.wait(body.read_u8()).await?.is_err() {
                true => Ok(None),
                false => Err(ReceiveError::TrailingBytes),
            }
        };
        let pack = tokio::select! {
            pack = rest => pack?,
            () = request.gives_way(&claim) => return Err(ReceiveError::AllInUse),
        };
        Ok(Arrived { pack, claim })
    }

    async fn spool(&self, claim: &Claim, pack_start: Vec<u8>, body: &mut Body) -> Result<Spool, ReceiveError> {
        let mut spool = self.repositories.spool();
        let limits = self.repositories.limits();
        let limits = BodyLimits {
            // The spool bounds what comes as it is, and reports it in the words of a push.
            bytes_max: if body.is_compressed() {
                COMPRESSED_BYTES_MAX
            } else {
                u64::MAX
            },
            stall_max: limits.stall_max,
            duration_max: limits.duration_max,
        };
        let mut pack = BodyReader::new(Cursor::new(pack_start).chain(body), limits);
        let mut patience = self.times.get().least_rate.begin();
        let compressed = |error| match error {
            BodyError::TooLong { bytes_max } => ReceiveError::Compressed { max_bytes: bytes_max },
            error @ (BodyError::Stalled { .. } | BodyError::Deadline { .. } | BodyError::Broken(_)) => error.into(),
        };
        while let Some(bytes) = patience.wait(pack.next()).await?.map_err(compressed)? {
            patience.moved(bytes.len());
            claim.grow(bytes.len() as u64)?;
            self.received_bytes.add(0, bytes.len() as u64);
            spool.push(&bytes).await?;
        }
        Ok(spool)
    }

    /// Makes sure that there is room for what a push brings, before it brings it.
    pub(super) async fn check_room(&self, request: &PushRequest, decision: &PushDecision) -> Result<(), ReceiveError> {
        if !request.list.expects_pack {
            return Ok(());
        }
        let incoming = incoming(request, decision, None);
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
    /// `decision` allows as yet, with the claim of the push.
    pub(super) async fn check(
        &self,
        request: &PushRequest,
        Arrived { pack, claim }: Arrived,
        decision: &PushDecision,
    ) -> Result<(Option<Received>, Claim), ReceiveError> {
        let Some(pack) = pack else { return Ok((None, claim)) };
        let slot = timeout(self.times.get().check_wait, self.checks.acquire(request.pusher));
        let slot = tokio::select! {
            slot = slot => slot.map_err(|_| ReceiveError::Busy)?,
            () = request.gives_way(&claim) => return Err(ReceiveError::AllInUse),
        };
        claim.protect()?;
        request.memory.protect()?;
        let limits = IngestLimits {
            niceness: slot.niceness(),
            ..self.repositories.limits()
        };
        let of_pack = limits.of_pack(pack.bytes());
        // It stands twice until it is checked.
        if !self
            .repositories
            .disk_use()
            .has_room(pack.bytes())
            .await
            .map_err(NoRoom::from)?
        {
            return Err(NoRoom::Disk.into());
        }
        let kept = self.repositories.kept(&request.coordinate, decision.parts_of()).await?;
        // What is kept may be much, and is sorted with it.
        let limits = if kept.is_some() { limits } else { of_pack };
        let ingested = self
            .repositories
            .ingest(&request.coordinate, pack, kept.as_ref(), &limits);
        let quarantine = match ingested.await {
            Err(IngestError::MissingObject { message }) if request.list.is_shallow => {
                return Err(ReceiveError::Shallow { message });
            }
            Err(IngestError::MissingObject { message })
                if self
                    .repositories
                    .keeps_parts(&request.coordinate)
                    .await
                    .map_err(IngestError::from)? =>
            {
                return Err(ReceiveError::BuildsOnParts { message });
            }
            ingested => ingested?,
        };
        let object_dir = quarantine.object_dir().to_owned();
        let incoming = incoming(request, decision, Some(&object_dir));
        // Beside each other: a small push waits for nothing else here.
        let room = async { Ok(self.repositories.disk_use().check(incoming).await?) };
        let of_pull_requests = decision.to_stage(&request.coordinate).into_iter();
        let of_pull_requests = of_pull_requests.map(|staged| staged.commit_oid).collect();
        let tips = (decision.allowed_tips(), of_pull_requests);
        let sorted = Received::sort(quarantine, kept, decision.tips(), tips, &limits);
        let sorted = async { Ok::<_, ReceiveError>(sorted.await?) };
        let ((), received) = tokio::try_join!(room, sorted)?;
        drop(slot);
        claim.unprotect();
        request.memory.unprotect();
        Ok((Some(received), claim))
    }

    /// Does some work, and extends the deadlines of these events until it is done: a large push does not lose its
    /// events on the way.
    pub(super) async fn extending<T>(&self, event_ids: &BTreeSet<EventId>, work: impl Future<Output = T>) -> T {
        let every = Duration::from_secs((self.purgatory.hold_secs() / 6).max(1));
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
        if let Err(error) = self.purgatory.extend(event_ids, self.purgatory.hold_secs()).await {
            // The push continues: whether it still has its events is decided at its end.
            tracing::warn!(error = logged(&error), "cannot extend the deadlines of a push's events");
        }
    }
}

/// Returns where the objects of a push go, by the decision so far.
fn incoming<'c>(request: &'c PushRequest, decision: &PushDecision, object_dir: Option<&'c Path>) -> Incoming<'c> {
    let coordinate = &request.coordinate;
    let is_strangers = decision.is_staged_by_stranger;
    let is_maintainers_pull_request = !is_strangers && !decision.to_stage(coordinate).is_empty();
    Incoming {
        coordinate,
        object_dir,
        moves_in: is_maintainers_pull_request || !decision.allowed_tips().is_empty(),
        staged_by: is_strangers.then(|| SourceTag::of_address(request.pusher)),
    }
}

/// Of a pack that comes compressed; JGit compresses pushes of at most 1 MiB, unless it is told otherwise.
const COMPRESSED_BYTES_MAX: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::IpAddr;
    use std::net::Ipv4Addr;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::task::Context;
    use std::task::Poll;

    use shared::git::PushCommand;
    use shared::git::RefUpdate;
    use shared::purgatory::Limits;
    use shared::purgatory::Reading;
    use shared::rules::Access;
    use shared::rules::Atomicity;
    use shared::rules::Covered;
    use shared::rules::Facts;
    use shared::rules::MaintainerMode;
    use shared::rules::PushTarget;
    use shared::rules::decide_push;
    use tokio::io::AsyncRead;
    use tokio::io::ReadBuf;
    use wire::command_list::CommandList;

    use super::*;
    use crate::fairness::shares::ShareLimits;
    use crate::push::list_memory::ListMemory;
    use crate::push::list_memory::of_all_lists;
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
                expects_pack: true,
                ..CommandList::default()
            },
            memory: ListMemory::new(&of_all_lists(), IpAddr::V4(Ipv4Addr::LOCALHOST)),
        }
    }

    fn receiver(world: &World, limits: IngestLimits, times: ReceiveTimes, checks: Slots) -> Receiver {
        Receiver {
            repositories: Repositories::new(world.store.clone(), limits),
            purgatory: Purgatory::in_memory(Limits::DEFAULT, Arc::new(|| 1)),
            lists: of_all_lists(),
            incoming: Shares::new(ShareLimits {
                claims_max: 1,
                bytes_max: 1 << 20,
            }),
            times: Live::new(times),
            received_bytes: Meter::default(),
            checks,
        }
    }

    #[tokio::test]
    async fn a_pusher_that_stalls_or_breaks_off_holds_nothing() {
        let world = World::new().await;
        let brief = Duration::from_millis(50);
        let receive = async |limits: IngestLimits, least_rate, then| {
            let times = ReceiveTimes {
                least_rate,
                check_wait: brief,
            };
            let receiver = receiver(&world, limits, times, Slots::new(1));
            let mut body = Body::plain(CutOff {
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

    /// What one address has checked at the same time shares the processor, and others wait no longer.
    #[tokio::test]
    async fn further_packs_of_one_address_are_checked_more_nicely() {
        let world = World::whose_git_can_be_killed().await;
        let pusher = world.repository("pusher");
        let [one, _] = world.two_commits(&pusher).await;
        let to_stdout = ["pack-objects", "--revs", "--stdout", "--quiet"];
        let pack = world.git(&pusher, &to_stdout, format!("{one}\n").as_bytes()).await;
        let times = ReceiveTimes {
            least_rate: LeastRate::DEFAULT,
            check_wait: Duration::from_secs(20),
        };
        let limits = IngestLimits {
            duration_max: Duration::from_secs(20),
            ..IngestLimits::default()
        };
        let receiver = receiver(&world, limits, times, Slots::new(8));
        let request = request();
        let mut others = Vec::new();
        for _ in 0..3 {
            others.push(receiver.checks.acquire(request.pusher).await);
        }
        world.fail_git("index-pack", "until test $(nice) -ge 15; do sleep 0.01; done");

        let mut body = Body::plain(Cursor::new(Vec::new()));
        let arrived = receiver.receive(&request, pack, &mut body).await.unwrap();
        let checked = receiver.check(&request, arrived, &nothing_is_allowed(&request)).await;

        assert!(checked.is_ok(), "{:?}", checked.err());
    }

    fn nothing_is_allowed(request: &PushRequest) -> PushDecision {
        let (service, access) = ("svc".parse().unwrap(), Arc::new(Access::default()));
        let (mode, covered, reading) = (MaintainerMode::default(), Covered::default(), Reading::default());
        let facts = Facts::assemble(service, mode, access, covered, reading, Vec::new());
        let target = PushTarget {
            coordinate: &request.coordinate,
            refs: &BTreeMap::new(),
        };
        decide_push(&facts, target, &request.list.commands, Atomicity::PerRef)
    }
}
