//! Looks at whatever is dirty or overdue and publishes whatever is due, until it is stopped.
//!
//! Wake-ups only make it fast: everything it does follows from what stands in the purgatory, so a lost message costs
//! a tick, and a crash nothing.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use nostr::event::Event;
use nostr::event::EventId;
use nostr::event::Kind;
use nostr::filter::Filter;
use nostr::types::Timestamp;
use shared::nip34;
use shared::nip34::Coordinate;
use shared::nip34::Identifier;
use shared::purgatory::Epoch;
use shared::purgatory::PurgatoryError;
use shared::relay_client::RelayError;
use shared::relay_client::Signal;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::reconcile::recovery::Loss;
use crate::reconcile::recovery::loss;
use crate::repositories::StorageError;
use crate::site::Site;

/// Works until `stop` is done, and ends what it has begun.
pub(crate) async fn run(site: Arc<Site>, stop: impl Future<Output = ()>) {
    let mut worker = Worker::new(Arc::clone(&site));
    tokio::select! {
        () = stop => {}
        () = follow_relay(Arc::clone(&site)) => {}
        () = recheck_everything(site) => {}
        () = worker.run() => {}
    }
    // A look that is cut off between two refs is finished by the next one, but need not be.
    while worker.looks.join_next().await.is_some() {}
    while worker.publishing.join_next().await.is_some() {}
}

/// How a look ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// There is no more to do about the identifier.
    Well,
    /// The relay or Redis does not answer: as soon as it does, so does the next look.
    NeighbourAway,
    /// Something of the identifier's own is in the way.
    Badly,
}

struct Worker {
    site: Arc<Site>,
    looks: JoinSet<(Identifier, Ended)>,
    running: BTreeSet<Identifier>,
    /// Identifiers whose look failed, and when to try again.
    resting: BTreeMap<Identifier, Instant>,
    /// How often in a row the look at an identifier has failed.
    failures: BTreeMap<Identifier, u32>,
    publishing: JoinSet<()>,
    /// The epoch of the purgatory, as far as this gateway knows.
    epoch: Option<String>,
    /// Makes up for what was lost with an epoch; the name of the next one, if that was done.
    recovery: JoinSet<Option<String>>,
}

impl Worker {
    fn new(site: Arc<Site>) -> Self {
        Self {
            site,
            looks: JoinSet::new(),
            running: BTreeSet::new(),
            resting: BTreeMap::new(),
            failures: BTreeMap::new(),
            publishing: JoinSet::new(),
            epoch: None,
            recovery: JoinSet::new(),
        }
    }

    async fn run(&mut self) {
        let mut notifications = self.site.loader.purgatory.notifications();
        loop {
            let pause = match self.step().await {
                Ok(()) => TICK,
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the purgatory does not answer"
                    );
                    RETRY_PAUSE
                }
            };
            tokio::select! {
                () = notifications.next() => {}
                () = tokio::time::sleep(pause) => {}
                Some(done) = self.looks.join_next() => self.note(done),
                Some(_) = self.publishing.join_next() => {}
            }
        }
    }

    async fn step(&mut self) -> Result<(), PurgatoryError> {
        while let Some(done) = self.looks.try_join_next() {
            self.note(done);
        }
        self.follow_epoch().await?;
        let purgatory = self.site.loader.purgatory.clone();
        purgatory.mark_overdue(BATCH, OVERDUE_RECHECK_SECS).await?;
        let now = Instant::now();
        self.resting.retain(|_, until| *until > now);
        for (identifier, _) in purgatory.dirty(BATCH).await? {
            let busy = self.running.contains(&identifier) || self.resting.contains_key(&identifier);
            if !busy && self.looks.len() < LOOKS_MAX {
                self.start_look(identifier);
            }
        }
        if self.publishing.is_empty() {
            let due = purgatory.take_due(BATCH, self.site.settings.lease_secs).await?;
            for leased in &due {
                self.site.in_flight.remember_event(&leased.event);
            }
            if !due.is_empty() {
                let site = Arc::clone(&self.site);
                self.publishing.spawn(async move { site.publish(due).await });
            }
        }
        Ok(())
    }

    /// Notices when the purgatory is not the one it was, or not whole.
    async fn follow_epoch(&mut self) -> Result<(), PurgatoryError> {
        while let Some(recovered) = self.recovery.try_join_next() {
            self.epoch = recovered.ok().flatten().or(self.epoch.take());
        }
        if !self.recovery.is_empty() {
            return Ok(());
        }
        let found = self.site.loader.purgatory.epoch().await?;
        match loss(self.epoch.as_deref(), &found) {
            Loss::Nothing => self.epoch = Some(found.name),
            loss @ (Loss::OnlyOwnReleases | Loss::LastWrites | Loss::Everything) => {
                let was_known = self.epoch.is_some();
                let site = Arc::clone(&self.site);
                self.recovery
                    .spawn(async move { recover(&site, loss, &found, was_known).await });
            }
        }
        Ok(())
    }

    fn start_look(&mut self, identifier: Identifier) {
        self.running.insert(identifier.clone());
        let site = Arc::clone(&self.site);
        self.looks.spawn(async move {
            // In a task of its own, so that even a panic comes back with its identifier.
            let look = tokio::spawn(look_and_publish(site, identifier.clone()));
            let ended = look.await.unwrap_or_else(|error| {
                tracing::error!(repo.identifier = %identifier, %error, "a look ended abnormally");
                Ended::Badly
            });
            (identifier, ended)
        });
    }

    fn note(&mut self, done: Result<(Identifier, Ended), tokio::task::JoinError>) {
        let Ok((identifier, ended)) = done else { return };
        self.running.remove(&identifier);
        let pause = match ended {
            Ended::Well => {
                self.failures.remove(&identifier);
                return;
            }
            // Everything recovers within 2 s of a neighbour's return (design 3): this pause does not grow.
            Ended::NeighbourAway => RETRY_PAUSE,
            Ended::Badly => {
                let failures = self.failures.entry(identifier.clone()).or_default();
                *failures = (*failures + 1).min(FAILURES_COUNTED);
                RETRY_PAUSE * 2_u32.pow(*failures - 1)
            }
        };
        self.resting.insert(identifier, Instant::now() + pause);
    }
}

/// Returns the name of the epoch that begins after what was lost is made up for; `None`: it is not.
async fn recover(site: &Site, loss: Loss, found: &Epoch, was_known: bool) -> Option<String> {
    match loss {
        // An empty Redis is what a new server begins with.
        Loss::Everything if was_known => {
            tracing::error!("Redis has lost everything that was held: its authors have to send it again");
        }
        Loss::Nothing | Loss::OnlyOwnReleases | Loss::LastWrites | Loss::Everything => {
            tracing::info!(?loss, "another epoch of the purgatory");
        }
    }
    match site.recover(loss, found).await {
        Ok(epoch) => {
            tracing::info!(epoch, "whatever could be is written again");
            Some(epoch)
        }
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot make up for what Redis has lost, will try again"
            );
            tokio::time::sleep(RETRY_PAUSE).await;
            None
        }
    }
}

async fn look_and_publish(site: Arc<Site>, identifier: Identifier) -> Ended {
    let identifiers = BTreeSet::from([identifier.clone()]);
    let ended = match site.look(identifiers.clone()).await {
        Ok(look) if look.broken.is_empty() => {
            site.publish(look.leased).await;
            return Ended::Well;
        }
        Ok(look) => {
            site.publish(look.leased).await;
            Ended::Badly
        }
        Err(error) => {
            let logged = &error as &dyn std::error::Error;
            if error.is_of_a_neighbour() {
                tracing::warn!(repo.identifier = %identifier, error = logged, "cannot decide, will look again");
                Ended::NeighbourAway
            } else {
                tracing::error!(repo.identifier = %identifier, error = logged, "cannot decide, will look again");
                Ended::Badly
            }
        }
    };
    // To the end of the queue: what cannot be decided now must not stand before what can.
    if let Err(error) = site.loader.purgatory.mark_dirty(&identifiers).await {
        tracing::warn!(error = &error as &dyn std::error::Error, "cannot mark an identifier");
    }
    ended
}

/// Marks dirty whatever the relay commits that could matter, and after each reconnection what it may have committed
/// meanwhile.
async fn follow_relay(site: Arc<Site>) {
    let kinds = [nip34::ANNOUNCEMENT, nip34::STATE, nip34::DELETION, nip34::VANISH].map(Kind::from_u16);
    let mut subscription = site.loader.relay.subscribe(vec![Filter::new().kinds(kinds)]);
    let mut caught_up_until = Timestamp::now();
    loop {
        let changed = match subscription.next().await {
            Signal::Connected => {
                let connected = Timestamp::now();
                // An event may be dated earlier than it is committed.
                let since = Timestamp::from_secs(caught_up_until.as_secs().saturating_sub(CATCH_UP_SECS));
                let missed = read_again_and_again(&site, &Filter::new().kinds(kinds).since(since)).await;
                caught_up_until = connected;
                missed.iter().flat_map(|event| concerned(&site, event)).collect()
            }
            Signal::Event(event) => concerned(&site, &event),
        };
        mark(&site, &changed).await;
    }
}

async fn read_again_and_again(site: &Site, filter: &Filter) -> Vec<Event> {
    loop {
        match site.loader.relay.query(vec![filter.clone()]).await {
            Ok(events) => return events,
            Err(error) => {
                log_not_caught_up(&error);
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }
}

fn log_not_caught_up(error: &RelayError) {
    tracing::warn!(
        error = error as &dyn std::error::Error,
        "cannot catch up with the relay, will try again"
    );
}

/// Returns the identifiers that an event concerns.
fn concerned(site: &Site, event: &Event) -> BTreeSet<Identifier> {
    if event.kind.as_u16() == nip34::VANISH {
        let own = site.seen.iter().filter(|seen| seen.author == event.pubkey);
        return own.map(|seen| seen.identifier.clone()).collect();
    }
    let own = event.tags.identifier().and_then(|d| d.parse().ok());
    let deleted = event.tags.iter().filter_map(|tag| match tag.as_slice() {
        [name, address, ..] if name == "a" => address.splitn(3, ':').nth(2)?.parse().ok(),
        [name, id, ..] if name == "e" => Some(site.seen.get(&EventId::from_hex(id).ok()?)?.identifier.clone()),
        _ => None,
    });
    own.into_iter().chain(deleted).collect()
}

/// Marks every identifier that is on disk dirty at the start and once a day: for what is silent (an expired entry of
/// the relay, a restored backup) or was committed with an early date.
async fn recheck_everything(site: Arc<Site>) {
    loop {
        match site.storage.identifiers().await {
            Ok(identifiers) => mark(&site, &identifiers).await,
            Err(error) => log_unlisted(&error),
        }
        wait_for_epoch(&site).await;
        match site.storage.on_disk().await {
            Ok(repositories) => retire_all(&site, &repositories).await,
            Err(error) => log_unlisted(&error),
        }
        tokio::time::sleep(RECHECK_INTERVAL).await;
    }
}

/// Waits until what Redis may have lost is made up for: nobody is unhosted because it was forgotten.
async fn wait_for_epoch(site: &Site) {
    while !site
        .loader
        .purgatory
        .epoch()
        .await
        .is_ok_and(|epoch| !epoch.is_unknown())
    {
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

async fn retire_all(site: &Site, repositories: &[Coordinate]) {
    for coordinate in repositories {
        if let Err(error) = site.retire(coordinate).await {
            // It is looked at again tomorrow; until then it is kept.
            let error = &error as &dyn std::error::Error;
            tracing::warn!(repo.coordinate = %coordinate, error, "cannot tell whether a repository is still announced");
        }
    }
}

fn log_unlisted(error: &StorageError) {
    tracing::warn!(error = error as &dyn std::error::Error, "cannot list the repositories");
}

async fn mark(site: &Site, identifiers: &BTreeSet<Identifier>) {
    if identifiers.is_empty() {
        return;
    }
    while let Err(error) = site.loader.purgatory.mark_dirty(identifiers).await {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "cannot mark identifiers, will try again"
        );
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// The longest time between two steps without a wake-up.
const TICK: Duration = Duration::from_millis(500);

/// After a failure.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// After so many failures in a row the pause grows no more: 64 s.
const FAILURES_COUNTED: u32 = 7;

/// Identifiers and entries taken in one step.
const BATCH: usize = 64;

/// Looks at the same time.
const LOOKS_MAX: usize = 8;

/// Between two attempts to decide about an overdue entry.
const OVERDUE_RECHECK_SECS: u64 = 10;

/// How far before the last sign of the relay it is read again after a reconnection.
const CATCH_UP_SECS: u64 = 48 * 3600;

/// Between two looks at everything.
const RECHECK_INTERVAL: Duration = Duration::from_secs(24 * 3600);
