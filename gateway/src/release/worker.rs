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
use shared::purgatory::PurgatoryError;
use shared::relay::Signal;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::site::Site;

/// Works until `stop` is done, and ends what it has begun.
pub async fn run(site: Arc<Site>, stop: impl Future<Output = ()>) {
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

struct Worker {
    site: Arc<Site>,
    looks: JoinSet<(Identifier, bool)>,
    running: BTreeSet<Identifier>,
    /// Identifiers whose look failed, and when to try again.
    resting: BTreeMap<Identifier, Instant>,
    publishing: JoinSet<()>,
}

impl Worker {
    fn new(site: Arc<Site>) -> Self {
        Self {
            site,
            looks: JoinSet::new(),
            running: BTreeSet::new(),
            resting: BTreeMap::new(),
            publishing: JoinSet::new(),
        }
    }

    async fn run(&mut self) {
        let mut wake_ups = self.site.lookup.purgatory.wake_ups();
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
                () = wake_ups.next() => {}
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
        let purgatory = self.site.lookup.purgatory.clone();
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
            if !due.is_empty() {
                let site = Arc::clone(&self.site);
                self.publishing.spawn(async move { site.publish(due).await });
            }
        }
        Ok(())
    }

    fn start_look(&mut self, identifier: Identifier) {
        self.running.insert(identifier.clone());
        let site = Arc::clone(&self.site);
        self.looks.spawn(async move {
            match site.look(BTreeSet::from([identifier.clone()])).await {
                Ok(leased) => {
                    site.publish(leased).await;
                    (identifier, true)
                }
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(repo.identifier = %identifier, error, "cannot decide, will look again");
                    (identifier, false)
                }
            }
        });
    }

    fn note(&mut self, done: Result<(Identifier, bool), tokio::task::JoinError>) {
        match done {
            Ok((identifier, ok)) => {
                self.running.remove(&identifier);
                if !ok {
                    self.resting.insert(identifier, Instant::now() + RETRY_PAUSE);
                }
            }
            Err(error) => {
                tracing::error!(%error, "a look ended abnormally");
                self.running.clear();
            }
        }
    }
}

/// Marks dirty whatever the relay commits that could matter, and after each reconnection what it may have committed
/// meanwhile.
async fn follow_relay(site: Arc<Site>) {
    let kinds = [nip34::ANNOUNCEMENT, nip34::STATE, nip34::DELETION, nip34::VANISH].map(Kind::from_u16);
    let mut subscription = site.lookup.relay.subscribe(vec![Filter::new().kinds(kinds)]);
    let mut seen_until = Timestamp::now();
    loop {
        let changed = match subscription.next().await {
            Signal::Connected => {
                // An event may be dated earlier than it is committed.
                let since = Timestamp::from_secs(seen_until.as_secs().saturating_sub(CATCH_UP_SECS));
                match site
                    .lookup
                    .relay
                    .query(vec![Filter::new().kinds(kinds).since(since)])
                    .await
                {
                    Ok(events) => events.iter().flat_map(|event| concerned(&site, event)).collect(),
                    Err(error) => {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "cannot catch up with the relay"
                        );
                        BTreeSet::new()
                    }
                }
            }
            Signal::Event(event) => concerned(&site, &event),
        };
        seen_until = Timestamp::now();
        mark(&site, &changed).await;
    }
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

/// Marks every hosted identifier dirty at the start and once a day: for what is silent (an expired entry of the
/// relay, a restored backup) or was committed with an early date.
async fn recheck_everything(site: Arc<Site>) {
    loop {
        match site.storage.hosted().await {
            Ok(hosted) => {
                let identifiers: BTreeSet<Identifier> = hosted
                    .into_iter()
                    .map(|Coordinate { identifier, .. }| identifier)
                    .collect();
                mark(&site, &identifiers).await;
            }
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "cannot list the repositories"),
        }
        tokio::time::sleep(RECHECK_INTERVAL).await;
    }
}

async fn mark(site: &Site, identifiers: &BTreeSet<Identifier>) {
    if identifiers.is_empty() {
        return;
    }
    while let Err(error) = site.lookup.purgatory.mark_dirty(identifiers).await {
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
