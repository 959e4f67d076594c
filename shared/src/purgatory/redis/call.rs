//! Puts together the call of a script, in the order of its ARGV, and makes it.

use std::collections::BTreeSet;

use nostr::event::Event;
use nostr::event::EventId;
use redis::FromRedisValue;
use redis::ScriptInvocation;

use super::super::PurgatoryError;
use super::super::bounds::SPAN_SECS_MAX;
use super::RedisStore;
use super::keys;
use super::scripts::Operation;
use crate::git::Oid;
use crate::nip34::Coordinate;
use crate::nip34::Identifier;

/// A call that is being put together.
pub(super) struct Call {
    operation: &'static Operation,
    invocation: ScriptInvocation<'static>,
}

/// Begins a call, with the KEYS that every script declares.
pub(super) fn call(operation: &'static Operation) -> Call {
    let mut invocation = operation.script.prepare_invoke();
    invocation.key(&keys::KEYS[..]);
    Call { operation, invocation }
}

impl Call {
    pub(super) fn text(mut self, text: &str) -> Self {
        self.invocation.arg(text);
        self
    }

    pub(super) fn number(mut self, number: u64) -> Self {
        self.invocation.arg(number);
        self
    }

    pub(super) fn count(self, count: usize) -> Self {
        // A count that Redis cannot read as a signed number would be an error there.
        self.number(u64::try_from(count).map_or(SPAN_SECS_MAX, |count| count.min(SPAN_SECS_MAX)))
    }

    pub(super) fn secs(self, secs: u64) -> Self {
        self.number(secs.min(SPAN_SECS_MAX))
    }

    pub(super) fn identifiers(mut self, identifiers: &BTreeSet<Identifier>) -> Self {
        for identifier in identifiers {
            self.invocation.arg(identifier.as_str());
        }
        self
    }

    pub(super) fn event_ids(mut self, event_ids: &BTreeSet<EventId>) -> Self {
        for event_id in event_ids {
            self.invocation.arg(event_id.to_hex());
        }
        self
    }

    /// The six arguments that describe an event: id, JSON, kind, author, created_at, identifiers.
    pub(super) fn event(mut self, event: &Event, identifiers: &BTreeSet<Identifier>) -> Self {
        self.invocation
            .arg(event.id.to_hex())
            .arg(event.as_json())
            .arg(event.kind.as_u16())
            .arg(event.pubkey.to_hex())
            .arg(event.created_at.as_secs())
            .arg(json(identifiers.iter().map(Identifier::as_str)));
        self
    }

    /// The four arguments that describe a placeholder: event id, owner, identifier, commit oid.
    pub(super) fn placeholder(mut self, event_id: &EventId, coordinate: &Coordinate, commit_oid: Oid) -> Self {
        self.invocation
            .arg(event_id.to_hex())
            .arg(coordinate.owner.to_hex())
            .arg(coordinate.identifier.as_str())
            .arg(commit_oid.to_string());
        self
    }

    /// Makes the call.
    pub(super) async fn ask<T: FromRedisValue>(self, store: &RedisStore) -> Result<T, PurgatoryError> {
        let invocation = &self.invocation;
        store
            .link
            .run(async |mut connection| invocation.invoke_async(&mut connection).await)
            .await
            .map_err(|source| PurgatoryError::of(self.operation.name, source))
    }
}

impl Call {
    /// Makes the call, and returns when as many replicas have what it wrote as the operator wants.
    pub(super) async fn ask_replicated<T: FromRedisValue>(self, store: &RedisStore) -> Result<T, PurgatoryError> {
        let wanted = store.link.replicas();
        if wanted == 0 {
            return self.ask(store).await;
        }
        let name = self.operation.name;
        let invocation = &self.invocation;
        let asked = store.link.run(async |mut connection| {
            let answer = invocation.invoke_async(&mut connection).await?;
            Ok((answer, connection))
        });
        let (answer, connection) = asked.await.map_err(|source| PurgatoryError::of(name, source))?;
        // On the same connection: what another one wrote, WAIT does not wait for.
        let confirmed = store.link.replicate(connection).await;
        match confirmed.map_err(|source| PurgatoryError::of(name, source))? {
            confirmed if confirmed < wanted => Err(PurgatoryError::Unconfirmed {
                operation: name,
                confirmed,
                wanted,
            }),
            _ => Ok(answer),
        }
    }
}

/// Writes event ids as the JSON array that the scripts read.
pub(super) fn json_ids(event_ids: &BTreeSet<EventId>) -> String {
    json(event_ids.iter().map(EventId::to_hex))
}

fn json<T: Into<serde_json::Value>>(values: impl Iterator<Item = T>) -> String {
    serde_json::Value::from_iter(values).to_string()
}

/// The error of an answer that does not fit.
pub(super) fn unreadable(operation: &Operation, what: String) -> PurgatoryError {
    PurgatoryError::Protocol {
        operation: operation.name,
        what,
    }
}
