//! The purgatory in Redis: each operation is one call of one script. What is kept where: `keys.rs`, `docs/redis.md`.

mod breaker;
mod call;
mod check;
mod decode;
mod finder;
mod keys;
mod link;
mod listen;
mod scripts;
mod settings;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use nostr::event::EventId;
use nostr::key::PublicKey;
use redis::cmd;

use self::call::call;
use self::call::json_ids;
use self::call::unreadable;
use self::link::Link;
use self::scripts::OPERATIONS;
pub use self::settings::RedisPlace;
pub use self::settings::RedisSettings;
use super::Deletion;
use super::DirtyNumber;
use super::Epoch;
use super::Expiry;
use super::Hold;
use super::HoldOutcome;
use super::Lease;
use super::Leased;
use super::Limits;
use super::MarkedReleasing;
use super::Notifications;
use super::PlaceholderOutcome;
use super::PurgatoryError;
use super::Reading;
use super::Release;
use super::Settlement;
use super::bounds::LOOKED_AT_MAX;
use super::source_group::source_group;
use crate::git::Oid;
use crate::nip34::Coordinate;
use crate::nip34::Identifier;

/// The purgatory in one Redis.
#[derive(Clone)]
pub(super) struct RedisStore {
    link: Link,
    limits: Arc<Limits>,
}

impl RedisStore {
    pub(super) async fn connect(settings: &RedisSettings, limits: Limits) -> Result<Self, PurgatoryError> {
        let link = Link::new(settings).map_err(|source| PurgatoryError::Url { source })?;
        let store = Self {
            link,
            limits: Arc::new(limits),
        };
        if let Err(error) = store.load_scripts().await {
            // Every operation tries again by itself.
            tracing::debug!(%error, "purgatory scripts not loaded ahead");
        }
        Ok(store)
    }

    /// Loads the scripts ahead, so that no event waits for it. Redis asks for those it does not have.
    async fn load_scripts(&self) -> redis::RedisResult<()> {
        let mut load = redis::pipe();
        for operation in OPERATIONS.all() {
            load.cmd("SCRIPT").arg("LOAD").arg(&operation.source);
        }
        self.link
            .run(async |mut connection| load.exec_async(&mut connection).await)
            .await
    }

    pub(super) async fn check_server(&self) -> Result<Vec<String>, PurgatoryError> {
        let server = self.link.run(check::ask).await;
        server
            .map_err(|source| PurgatoryError::of("check the server", source))?
            .check()
    }

    pub(super) async fn read(&self, identifiers: &BTreeSet<Identifier>) -> Result<Reading, PurgatoryError> {
        let operation = &OPERATIONS.read;
        let raw = call(operation).identifiers(identifiers).ask(self).await?;
        decode::reading(raw).map_err(|what| unreadable(operation, what))
    }

    pub(super) async fn hold(&self, hold: &Hold) -> Result<HoldOutcome, PurgatoryError> {
        let operation = &OPERATIONS.hold;
        let limits = &self.limits;
        let outcome: String = call(operation)
            .event(&hold.event, &hold.identifiers)
            .text(&hold.source)
            .secs(hold.hold_secs)
            .text(&source_group(&hold.source))
            .text(&json_ids(&hold.extend))
            .number(limits.event_bytes_max)
            .number(limits.entries_per_author_max)
            .number(limits.bytes_per_author_max)
            .number(limits.entries_per_source_max)
            .number(limits.bytes_per_source_max)
            .number(limits.entries_per_identifier_max)
            .number(limits.entries_max)
            .number(limits.bytes_max)
            .ask_replicated(self)
            .await?;
        decode::hold_outcome(&outcome).map_err(|what| unreadable(operation, what))
    }

    pub(super) async fn mark_dirty(&self, identifiers: &BTreeSet<Identifier>) -> Result<(), PurgatoryError> {
        let operation = &OPERATIONS.mark_dirty;
        let _marked: u64 = call(operation).identifiers(identifiers).ask(self).await?;
        Ok(())
    }

    pub(super) async fn dirty(&self, count_max: usize) -> Result<Vec<(Identifier, DirtyNumber)>, PurgatoryError> {
        const NAME: &str = "list dirty identifiers";
        let mut range = cmd("ZRANGE");
        range.arg(keys::DIRTY).arg("-inf").arg("+inf");
        range.arg("BYSCORE").arg("LIMIT").arg(0).arg(count_max);
        range.arg("WITHSCORES");
        let scores: Vec<(String, f64)> = self
            .link
            .run(async |mut connection| range.query_async(&mut connection).await)
            .await
            .map_err(|source| PurgatoryError::of(NAME, source))?;
        // Exact: dirty numbers stay below 2^53.
        let numbers = scores.into_iter().map(|(name, score)| (name, score as u64));
        decode::dirty_numbers(numbers.collect()).map_err(|what| PurgatoryError::Protocol { operation: NAME, what })
    }

    pub(super) async fn dirty_number(&self, identifier: &Identifier) -> Result<Option<DirtyNumber>, PurgatoryError> {
        let mut score = cmd("ZSCORE");
        score.arg(keys::DIRTY).arg(identifier.as_str());
        let number: Option<f64> = self
            .link
            .run(async |mut connection| score.query_async(&mut connection).await)
            .await
            .map_err(|source| PurgatoryError::of("read a dirty number", source))?;
        // Exact: dirty numbers stay below 2^53.
        Ok(number.map(|number| DirtyNumber(number as u64)))
    }

    pub(super) async fn clear_dirty(&self, identifier: &Identifier, seen: DirtyNumber) -> Result<bool, PurgatoryError> {
        let operation = &OPERATIONS.clear_dirty;
        let call = call(operation).text(identifier.as_str()).number(seen.0);
        call.ask(self).await
    }

    pub(super) async fn mark_overdue(&self, count_max: usize, recheck_secs: u64) -> Result<usize, PurgatoryError> {
        let operation = &OPERATIONS.mark_overdue;
        let call = call(operation).count(count_max).secs(recheck_secs);
        call.ask(self).await
    }

    pub(super) async fn mark_releasing(
        &self,
        releases: &[Release],
        lease_secs: u64,
    ) -> Result<MarkedReleasing, PurgatoryError> {
        let operation = &OPERATIONS.mark_releasing;
        let mut call = call(operation).secs(lease_secs);
        for release in releases {
            call = call
                .event(&release.event, &release.identifiers)
                .text(&json_ids(&release.after));
        }
        let (leased, waiting): (Vec<(usize, u64)>, Vec<usize>) = call.ask(self).await?;
        let release_at = |place: usize| {
            let release = place.checked_sub(1).and_then(|place| releases.get(place));
            release.ok_or_else(|| unreadable(operation, format!("release {place}")))
        };
        let leased = leased.into_iter().map(|(place, lease)| {
            let Release { event, after, .. } = release_at(place)?.clone();
            let lease = Lease(lease);
            Ok(Leased { event, lease, after })
        });
        let waiting = waiting.into_iter().map(|place| Ok(release_at(place)?.event.id));
        Ok(MarkedReleasing {
            leased: leased.collect::<Result<_, PurgatoryError>>()?,
            waiting: waiting.collect::<Result<_, PurgatoryError>>()?,
        })
    }

    pub(super) async fn take_due(&self, count_max: usize, lease_secs: u64) -> Result<Vec<Leased>, PurgatoryError> {
        let operation = &OPERATIONS.take_due;
        let call = call(operation).count(count_max).secs(lease_secs);
        let leased: Vec<(String, u64, String)> = call.count(LOOKED_AT_MAX).ask(self).await?;
        // One malformed entry must not stop the others.
        let leased = leased
            .into_iter()
            .filter_map(|(json, lease, after)| match decode::leased(&json, lease, &after) {
                Ok(leased) => Some(leased),
                Err(what) => {
                    tracing::error!(lease, what, "releasing entry in redis is unreadable");
                    None
                }
            });
        Ok(leased.collect())
    }

    pub(super) async fn settle(
        &self,
        event_id: &EventId,
        lease: Lease,
        settlement: &Settlement,
    ) -> Result<bool, PurgatoryError> {
        let operation = &OPERATIONS.settle;
        let call = call(operation).text(&event_id.to_hex()).number(lease.0);
        let call = match settlement {
            Settlement::Served => call.text("served"),
            Settlement::Dropped => call.text("dropped"),
            Settlement::GiveBack => call.text("give-back"),
            Settlement::Retry { after_secs, error } => call.text("retry").secs(*after_secs).text(error),
            Settlement::Stuck { after_secs, error } => call.text("stuck").secs(*after_secs).text(error),
        };
        call.ask(self).await
    }

    pub(super) async fn extend(&self, event_ids: &BTreeSet<EventId>, hold_secs: u64) -> Result<usize, PurgatoryError> {
        let call = call(&OPERATIONS.extend).secs(hold_secs);
        call.event_ids(event_ids).ask(self).await
    }

    pub(super) async fn expire(&self, event_id: &EventId, expiry: Expiry) -> Result<bool, PurgatoryError> {
        let call = call(&OPERATIONS.expire).text(&event_id.to_hex());
        let call = match expiry {
            Expiry::Gone => call.text("gone"),
            Expiry::Sleep { secs } => call.text("sleep").secs(secs),
        };
        call.ask(self).await
    }

    pub(super) async fn end(&self, event_ids: &BTreeSet<EventId>) -> Result<usize, PurgatoryError> {
        call(&OPERATIONS.end).event_ids(event_ids).ask(self).await
    }

    pub(super) async fn delete(&self, deletion: &Deletion) -> Result<usize, PurgatoryError> {
        let addresses: Vec<_> = deletion
            .addresses
            .iter()
            .map(|(kind, identifier)| serde_json::json!([kind.to_string(), identifier.as_str()]))
            .collect();
        call(&OPERATIONS.delete)
            .text(&deletion.author.to_hex())
            .number(deletion.created_at)
            .text(&json_ids(&deletion.event_ids))
            .text(&serde_json::Value::from(addresses).to_string())
            .ask(self)
            .await
    }

    pub(super) async fn vanish(&self, author: &PublicKey, created_at: u64) -> Result<usize, PurgatoryError> {
        call(&OPERATIONS.vanish)
            .text(&author.to_hex())
            .number(created_at)
            .ask(self)
            .await
    }

    pub(super) async fn note_waiting(&self, notes: &BTreeMap<EventId, String>) -> Result<(), PurgatoryError> {
        let mut call = call(&OPERATIONS.note_waiting);
        for (event_id, text) in notes {
            call = call.text(&event_id.to_hex()).text(text);
        }
        let _noted: u64 = call.ask(self).await?;
        Ok(())
    }

    pub(super) async fn put_placeholder(
        &self,
        event_id: &EventId,
        coordinate: &Coordinate,
        commit_oid: Oid,
        hold_secs: u64,
    ) -> Result<PlaceholderOutcome, PurgatoryError> {
        let is_recorded: bool = call(&OPERATIONS.put_placeholder)
            .placeholder(event_id, coordinate, commit_oid)
            .secs(hold_secs)
            .number(self.limits.placeholders_max)
            .ask_replicated(self)
            .await?;
        Ok(if is_recorded {
            PlaceholderOutcome::Recorded
        } else {
            PlaceholderOutcome::Full
        })
    }

    pub(super) async fn drop_placeholder(
        &self,
        event_id: &EventId,
        coordinate: &Coordinate,
        commit_oid: Oid,
    ) -> Result<bool, PurgatoryError> {
        call(&OPERATIONS.drop_placeholder)
            .placeholder(event_id, coordinate, commit_oid)
            .ask(self)
            .await
    }

    pub(super) async fn epoch(&self) -> Result<Epoch, PurgatoryError> {
        let (name, server): (String, String) = call(&OPERATIONS.epoch).ask(self).await?;
        Ok(Epoch { name, server })
    }

    pub(super) async fn begin_epoch(&self, found: &Epoch) -> Result<String, PurgatoryError> {
        call(&OPERATIONS.begin_epoch).text(&found.name).ask(self).await
    }

    pub(super) async fn mark_held(&self) -> Result<(), PurgatoryError> {
        let mut cursor = MARK_HELD_FROM.to_owned();
        loop {
            cursor = call(&OPERATIONS.mark_held).text(&cursor).ask(self).await?;
            if cursor == MARK_HELD_FROM {
                return Ok(());
            }
        }
    }

    pub(super) fn notifications(&self) -> Notifications {
        Notifications::new(listen::listen(self.link.clone()))
    }
}

/// Where marking everything that is held begins and ends.
const MARK_HELD_FROM: &str = "0";
