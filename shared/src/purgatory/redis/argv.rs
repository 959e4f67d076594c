//! The ARGV of the scripts, in the order that the header of each names.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use nostr::event::Event;
use nostr::event::EventId;
use redis::ScriptInvocation;

use super::keys;
use crate::git::Oid;
use crate::nip01::Deletion;
use crate::nip34::Coordinate;
use crate::nip34::Identifier;
use crate::purgatory::bounds::SPAN_SECS_MAX;
use crate::purgatory::hold::Expiry;
use crate::purgatory::hold::Hold;
use crate::purgatory::hold::Room;
use crate::purgatory::limits::Limits;
use crate::purgatory::release::Release;
use crate::purgatory::release::Settlement;
use crate::purgatory::source_group::source_group;

/// The call of a script, to which arguments are added.
pub(in crate::purgatory) struct Argv {
    pub(super) invocation: ScriptInvocation<'static>,
    /// Whether replicas must have what it writes.
    pub(super) is_replicated: bool,
    limits: Arc<Limits>,
}

impl Argv {
    /// Begins a call, with the KEYS that every script declares.
    pub(super) fn new(mut invocation: ScriptInvocation<'static>, limits: Arc<Limits>) -> Self {
        invocation.key(&keys::KEYS[..]);
        Self {
            invocation,
            is_replicated: false,
            limits,
        }
    }

    /// Lets the call return when as many replicas as the operator wants have what it wrote.
    pub(in crate::purgatory) fn replicated(mut self) -> Self {
        self.is_replicated = true;
        self
    }

    pub(in crate::purgatory) fn text(mut self, text: &str) -> Self {
        self.invocation.arg(text);
        self
    }

    pub(in crate::purgatory) fn number(mut self, number: u64) -> Self {
        self.invocation.arg(number);
        self
    }

    pub(in crate::purgatory) fn count(self, count: usize) -> Self {
        // A count that Redis cannot read as a signed number would be an error there.
        self.number(u64::try_from(count).map_or(SPAN_SECS_MAX, |count| count.min(SPAN_SECS_MAX)))
    }

    pub(in crate::purgatory) fn secs(self, secs: u64) -> Self {
        self.number(secs.min(SPAN_SECS_MAX))
    }

    pub(in crate::purgatory) fn event_id(self, event_id: &EventId) -> Self {
        self.text(&event_id.to_hex())
    }

    pub(in crate::purgatory) fn event_ids(self, event_ids: &BTreeSet<EventId>) -> Self {
        event_ids.iter().fold(self, Self::event_id)
    }

    pub(in crate::purgatory) fn identifiers(self, identifiers: &BTreeSet<Identifier>) -> Self {
        identifiers.iter().fold(self, |argv, name| argv.text(name.as_str()))
    }

    pub(in crate::purgatory) fn hold(self, hold: &Hold) -> Self {
        let limits = match hold.room {
            Room::WithinLimits => *self.limits,
            Room::Always => Limits::NONE,
        };
        self.event(&hold.event, &hold.identifiers)
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
    }

    pub(in crate::purgatory) fn releases(self, releases: &[Release]) -> Self {
        releases.iter().fold(self, |argv, release| {
            argv.event(&release.event, &release.identifiers)
                .text(&json_ids(&release.after))
        })
    }

    pub(in crate::purgatory) fn settlement(self, settlement: &Settlement) -> Self {
        match settlement {
            Settlement::Served => self.text("served"),
            Settlement::Dropped => self.text("dropped"),
            Settlement::GiveBack => self.text("give-back"),
            Settlement::Retry { after_secs, error } => self.text("retry").secs(*after_secs).text(error),
            Settlement::Stuck { after_secs, error } => self.text("stuck").secs(*after_secs).text(error),
        }
    }

    pub(in crate::purgatory) fn expiry(self, expiry: Expiry) -> Self {
        match expiry {
            Expiry::Gone => self.text("gone"),
            Expiry::Sleep { secs } => self.text("sleep").secs(secs),
        }
    }

    pub(in crate::purgatory) fn deletion(self, deletion: &Deletion) -> Self {
        let addresses = deletion.addresses.iter();
        let addresses = addresses.map(|(kind, identifier)| vec![kind.to_string(), identifier.to_string()]);
        self.text(&deletion.author.to_hex())
            .number(deletion.created_at)
            .text(&json_ids(&deletion.event_ids))
            .text(&json(addresses))
    }

    pub(in crate::purgatory) fn notes(self, notes: &BTreeMap<EventId, String>) -> Self {
        let add = |argv: Self, (event_id, text): (&EventId, &String)| argv.event_id(event_id).text(text);
        notes.iter().fold(self, add)
    }

    /// The four arguments that describe a placeholder: event id, owner, identifier, commit oid.
    pub(in crate::purgatory) fn placeholder(
        self,
        event_id: &EventId,
        coordinate: &Coordinate,
        commit_oid: Oid,
    ) -> Self {
        self.event_id(event_id)
            .text(&coordinate.owner.to_hex())
            .text(coordinate.identifier.as_str())
            .text(&commit_oid.to_string())
    }

    pub(in crate::purgatory) fn placeholders_max(self) -> Self {
        let placeholders_max = self.limits.placeholders_max;
        self.number(placeholders_max)
    }

    /// The six arguments that describe an event: id, JSON, kind, author, created_at, identifiers.
    fn event(self, event: &Event, identifiers: &BTreeSet<Identifier>) -> Self {
        self.event_id(&event.id)
            .text(&event.as_json())
            .number(event.kind.as_u16().into())
            .text(&event.pubkey.to_hex())
            .number(event.created_at.as_secs())
            .text(&json(identifiers.iter().map(Identifier::as_str)))
    }
}

/// Writes event ids as the JSON array that the scripts read.
fn json_ids(event_ids: &BTreeSet<EventId>) -> String {
    json(event_ids.iter().map(EventId::to_hex))
}

fn json<T: Into<serde_json::Value>>(values: impl Iterator<Item = T>) -> String {
    serde_json::Value::from_iter(values).to_string()
}
