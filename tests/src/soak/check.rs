//! Reads what is held and served, and compares it with the ledger: every event that was answered OK, and the git data
//! of every event that is served. `refs.rs` compares repositories.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use nostr::event::Event;
use nostr::event::EventId;
use redis::aio::MultiplexedConnection;
use serde_json::Value;
use serde_json::json;
use shared::nip34;

use super::declared::declared;
use super::disk::Disk;
use super::disk_faults::Means;
use super::fate::Fate;
use super::fate::Rules;
use super::fate::Whereabouts;
use super::ledger::Ledger;
use super::ledger::Promise;
use super::ledger::Sent;
use super::options::PATIENCE;
use super::server::Places;
use crate::clients::git::GitClient;
use crate::clients::nostr::NoAnswer;
use crate::clients::nostr::NostrClient;
use crate::clients::nostr::now;
use crate::harness::redis_connection::connect;

/// Whoever compares.
pub(super) struct Checker {
    pub(super) places: Places,
    pub(super) ledger: Arc<Ledger>,
    pub(super) git: GitClient,
    pub(super) disk: Disk,
    hold_secs: u64,
}

/// Why something cannot be compared now.
#[derive(Debug, thiserror::Error)]
pub(super) enum CheckError {
    /// Redis does not answer.
    #[error("Redis does not answer")]
    Redis(#[from] redis::RedisError),
    /// The relay does not answer.
    #[error("the relay does not answer")]
    Relay(#[from] NoAnswer),
}

impl Checker {
    /// A checker of these places.
    pub(super) async fn new(places: Places, means: Means, ledger: Arc<Ledger>, hold_secs: u64) -> Self {
        let git = GitClient::init(&places.folder.join("check")).await;
        Self {
            disk: Disk::new(means, git.clone()),
            places,
            ledger,
            hold_secs,
            git,
        }
    }

    /// Searches for what was answered OK and has not come to its end yet. Anybody may work meanwhile.
    ///
    /// # Errors
    /// See [`CheckError`].
    pub(super) async fn find_open(&self) -> Result<(), CheckError> {
        self.find_lost(|sent| !sent.is_closed).await.map(drop)
    }

    /// Compares every event, while nobody works. Returns what became of the events that were answered OK.
    ///
    /// # Errors
    /// See [`CheckError`].
    pub(super) async fn compare_events(&self) -> Result<BTreeMap<Fate, u64>, CheckError> {
        let found = self.find_lost(|_| true).await?;
        let mut fates = BTreeMap::new();
        for (sent, fate, is_complete) in &found {
            if sent.answered_ok {
                *fates.entry(*fate).or_default() += 1;
            }
            let id = Some(sent.event.id);
            if *fate == Fate::Held && *is_complete {
                let text = "complete and all the same held".to_owned();
                self.ledger.broken(Promise::NothingStuck, id, text);
            }
            if *fate == Fate::Served && sent.deletion_ok {
                let text = "its deletion was answered OK, and it is served".to_owned();
                self.ledger.broken(Promise::NothingUndeleted, id, text);
            }
            if *fate == Fate::Served {
                self.check_served(&sent.event).await;
            }
        }
        Ok(fates)
    }

    /// Says what became of some events, and whether each is complete. What seems lost is searched for twice more: a
    /// newer event that took its place may not have been known to be sent or served when the first search began, and an
    /// event that is lost stays so.
    async fn find_lost(&self, which: impl Fn(&Sent) -> bool) -> Result<Vec<(Sent, Fate, bool)>, CheckError> {
        let mut found = Vec::new();
        for _ in 0..SEARCHES {
            // Those that were answered before the search: what is answered during it may be held behind it.
            let ids = self.ledger.ids(&which);
            let answered: HashSet<EventId> = self.ledger.ids(|sent| sent.answered_ok).into_iter().collect();
            let places = self.whereabouts(&ids).await?;
            for id in &places.served {
                self.note_served(id);
            }
            found = self.fates(&ids, &places);
            let is_lost = |sent: &Sent, fate: Fate| fate == Fate::Lost && answered.contains(&sent.event.id);
            found.retain(|(sent, fate, _)| *fate != Fate::Lost || is_lost(sent, *fate));
            if !found.iter().any(|(_, fate, _)| *fate == Fate::Lost) {
                return Ok(found);
            }
        }
        for (sent, fate, _) in &found {
            if *fate == Fate::Lost {
                let text = format!("answered OK, and at {} neither held nor served", now());
                self.ledger.broken(Promise::NothingLost, Some(sent.event.id), text);
            }
        }
        Ok(found)
    }

    fn note_served(&self, id: &EventId) {
        let is_new = self.ledger.find(id).is_some_and(|sent| sent.served_at.is_none());
        if is_new {
            self.ledger.note(id, "seen served", |sent| sent.served_at = Some(now()));
        }
    }

    fn fates(&self, ids: &[EventId], places: &Whereabouts) -> Vec<(Sent, Fate, bool)> {
        let mut books = self.ledger.books();
        let mut found = Vec::new();
        for sent in ids.iter().filter_map(|id| books.events.get(id)) {
            let rules = Rules {
                events: &books.events,
                hold_secs: self.hold_secs,
            };
            found.push((sent.clone(), rules.fate(sent, places), rules.is_complete(sent)));
        }
        for (sent, fate, _) in &found {
            if let Some(sent) = books.events.get_mut(&sent.event.id).filter(|sent| sent.answered_ok) {
                sent.is_closed = matches!(fate, Fate::Served | Fate::Superseded | Fate::Deleted | Fate::Expired);
            }
        }
        found
    }

    /// Reads where events are: Redis first and the relay second, as events move.
    async fn whereabouts(&self, ids: &[EventId]) -> Result<Whereabouts, CheckError> {
        let mut redis = self.redis().await?;
        let mut places = Whereabouts::default();
        for some in ids.chunks(CHUNK) {
            let mut pipe = redis::pipe();
            for id in some {
                pipe.hget(format!("{{purgatory}}:entry:{}", id.to_hex()), "status");
            }
            let statuses: Vec<Option<String>> = pipe.query_async(&mut redis).await?;
            let held = some.iter().zip(statuses);
            places.held.extend(held.filter_map(|(id, status)| Some((*id, status?))));
        }
        let (now, _): (u64, u64) = redis::cmd("TIME").query_async(&mut redis).await?;
        places.now = now;
        let absent = ids.iter().filter(|id| !places.held.contains_key(id));
        let absent: Vec<String> = absent.map(EventId::to_hex).collect();
        for some in absent.chunks(CHUNK) {
            let served = self.query(json!({"ids": some})).await?;
            places.served.extend(served.into_iter().map(|event| event.id));
        }
        Ok(places)
    }

    /// Waits until nothing is left to do.
    pub(super) async fn wait_until_quiet(&self) {
        let deadline = Instant::now() + QUIET_MAX;
        let mut left = String::new();
        while Instant::now() < deadline {
            left = match self.left_to_do().await {
                Ok(left) => left,
                Err(error) => error.to_string(),
            };
            if left.is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let text = format!("work is left after {QUIET_MAX:?}: {left}");
        self.ledger.broken(Promise::NothingStuck, None, text);
    }

    async fn left_to_do(&self) -> Result<String, CheckError> {
        let mut redis = self.redis().await?;
        let mut left = String::new();
        for key in ["dirty", "dirty_pull_requests", "releasing"] {
            let mut command = redis::cmd("ZRANGE");
            command.arg(format!("{{purgatory}}:{key}")).arg(0).arg(-1);
            let members: Vec<String> = command.query_async(&mut redis).await?;
            if !members.is_empty() {
                left.push_str(&format!("{key}: {members:?} "));
            }
        }
        Ok(left)
    }

    /// Checks that the git data of an event that is served is here.
    pub(super) async fn check_served(&self, event: &Event) {
        let Some(sent) = self.ledger.find(&event.id) else {
            return;
        };
        let missing = match event.kind.as_u16() {
            nip34::ANNOUNCEMENT => self.disk.without_refs(&sent.project).await,
            _ => {
                let declared = declared(event);
                let oids: Vec<&str> = declared.values().map(String::as_str).collect();
                self.disk.missing(&sent.project, &oids).await
            }
        };
        // Refs of a project go with the announcement, which its owner may have deleted while we searched.
        let is_deleted = || self.ledger.find(&event.id).is_some_and(|sent| sent.deletion_sent);
        if let Some(missing) = missing.filter(|_| event.kind.as_u16() != nip34::ANNOUNCEMENT || !is_deleted()) {
            self.ledger.broken(Promise::NothingEarly, Some(event.id), missing);
        }
    }

    /// Watches what is served and checks each event at once, until it is dropped.
    pub(super) async fn watch(&self) {
        let kinds = [nip34::ANNOUNCEMENT, nip34::STATE, nip34::PULL_REQUEST];
        loop {
            let followed: Result<(), NoAnswer> = async {
                let mut relay = NostrClient::try_connect(&self.places.relay_url, PATIENCE).await?;
                relay.try_subscribe(&json!({"kinds": kinds, "limit": 1})).await?;
                loop {
                    let event = relay.try_next_live().await?;
                    self.note_served(&event.id);
                    self.check_served(&event).await;
                }
            }
            .await;
            drop(followed);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(super) async fn query(&self, filter: Value) -> Result<Vec<Event>, CheckError> {
        let mut relay = NostrClient::try_connect(&self.places.relay_url, PATIENCE).await?;
        Ok(relay.try_query(&filter).await?)
    }

    pub(super) async fn redis(&self) -> Result<MultiplexedConnection, CheckError> {
        Ok(connect(&self.places.redis_url).await?)
    }
}

/// Ids in one question.
const CHUNK: usize = 100;
/// How often an event is searched for before it is lost.
const SEARCHES: usize = 3;
/// For how long a server may be busy after the last kill.
pub(super) const QUIET_MAX: Duration = Duration::from_secs(60);
