//! The ARGV of the scripts, in the order that the header of each names.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::IpAddr;

use nostr::event::Event;
use nostr::event::EventId;
use nostr::key::PublicKey;

use super::keys::ANNOUNCEMENTS_BYTES_MAX;
use super::keys::LISTED_MAX;
use super::source_group::address_source;
use super::source_group::source_group;
use crate::git::Oid;
use crate::nip01::Deletion;
use crate::nip34;
use crate::nip34::Coordinate;
use crate::nip34::Roles;
use crate::purgatory::hold::Behind;
use crate::purgatory::hold::Expiry;
use crate::purgatory::hold::Hold;
use crate::purgatory::hold::Room;
use crate::purgatory::inventory::InventoryIndex;
use crate::purgatory::limits::Limits;
use crate::purgatory::refusal::NotedRefusal;
use crate::purgatory::release::Release;
use crate::purgatory::release::Settlement;
use crate::purgatory::unreconciled::PullRequestOutcome;
use crate::purgatory::unreconciled::UnreconciledPullRequests;

/// The arguments of a call, to which more are added.
pub(super) struct Argv {
    pub(super) args: Vec<String>,
    /// Whether replicas must have what the call writes.
    pub(super) is_replicated: bool,
    limits: Limits,
}

impl Argv {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            args: Vec::new(),
            is_replicated: false,
            limits,
        }
    }

    /// Makes the call return only when as many replicas as the operator requires have what it wrote.
    pub(super) fn replicated(mut self) -> Self {
        self.is_replicated = true;
        self
    }

    pub(super) fn arg(mut self, arg: impl ToString) -> Self {
        self.args.push(arg.to_string());
        self
    }

    pub(super) fn args(mut self, args: impl IntoIterator<Item: ToString>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.to_string()));
        self
    }

    /// Adds the name of an index.
    pub(super) fn index(self, index: InventoryIndex) -> Self {
        self.arg(match index {
            InventoryIndex::Waiting => "waiting",
            InventoryIndex::Releasing => "releasing",
        })
    }

    /// Adds seconds or a count, which are used as given up to 2^32 (136 years), so that no sum overflows.
    pub(super) fn bounded(self, number: impl TryInto<u64>) -> Self {
        let max = u32::MAX.into();
        self.arg(number.try_into().map_or(max, |number| number.min(max)))
    }

    /// The event to hold, with the first of those that it extends.
    pub(super) fn hold(self, hold: &Hold, extend: &[EventId]) -> Self {
        let limits = self.limits;
        let counts_as_new = hold.is_new_repository && hold.room == Room::WithinLimits;
        let new_repositories_max = counts_as_new.then_some(limits.new_repositories_per_day_max);
        let limits = match hold.room {
            Room::WithinLimits => [
                limits.event_bytes_max,
                limits.entries_per_author_max,
                limits.bytes_per_author_max,
                limits.entries_per_source_max,
                limits.bytes_per_source_max,
                limits.entries_per_repository_max,
                limits.entries_max,
                limits.bytes_max,
                limits.entries_per_share_max,
                ANNOUNCEMENTS_BYTES_MAX.max(limits.event_bytes_max.saturating_mul(2)),
            ],
            // Exact in Redis too.
            Room::Always => [1 << 53; 10],
        };
        self.event(&hold.event, &hold.coordinates)
            .arg(&hold.source)
            .bounded(hold.hold_secs)
            .arg(source_group(&hold.source))
            .arg(json(extend))
            .args(limits)
            .arg(json(listed_by(&hold.event)))
            .arg(new_repositories_max.map(|max| max.to_string()).unwrap_or_default())
            .behind(hold.behind.as_ref())
    }

    fn behind(self, behind: Option<&Behind>) -> Self {
        match behind {
            None => self,
            Some(behind) => self
                .arg(json(&behind.refers_to))
                .arg(&behind.last_lease)
                .arg(u8::from(behind.may_be_early)),
        }
    }

    pub(super) fn releases(self, releases: &[Release]) -> Self {
        releases.iter().fold(self, |argv, release| {
            argv.event(&release.event, &release.coordinates)
                .arg(json(&release.after))
        })
    }

    pub(super) fn settlement(self, settlement: &Settlement) -> Self {
        match settlement {
            Settlement::Served => self.arg("served"),
            Settlement::Dropped => self.arg("dropped"),
            Settlement::GiveBack => self.arg("give-back"),
            Settlement::Retry { after_secs, error } => self.arg("retry").bounded(*after_secs).arg(error),
            Settlement::Stuck { after_secs, error } => self.arg("stuck").bounded(*after_secs).arg(error),
        }
    }

    pub(super) fn expiry(self, expiry: Expiry) -> Self {
        match expiry {
            Expiry::Gone => self.arg("gone"),
            Expiry::Sleep { secs } => self.arg("sleep").bounded(secs),
        }
    }

    pub(super) fn deletion(self, deletion: &Deletion) -> Self {
        let addresses = deletion.addresses.iter();
        let addresses = addresses.map(|(kind, identifier)| vec![kind.to_string(), identifier.to_string()]);
        self.arg(deletion.author)
            .arg(deletion.created_at)
            .arg(json(&deletion.event_ids))
            .arg(serde_json::Value::from_iter(addresses))
    }

    pub(super) fn notes(self, notes: &[(&EventId, &String)]) -> Self {
        let add = |argv: Self, (event_id, text): &(&EventId, &String)| argv.arg(event_id).arg(text);
        notes.iter().fold(self, add)
    }

    /// The result for each reconciled PR. One without a result has nothing staged.
    pub(super) fn reconciled(
        self,
        unreconciled: &UnreconciledPullRequests,
        found: &BTreeMap<EventId, PullRequestOutcome>,
    ) -> Self {
        unreconciled
            .members
            .iter()
            .fold(self.arg(&unreconciled.last_change), |argv, pull_request| {
                let argv = argv.arg(&pull_request.member).arg(&pull_request.score);
                match found.get(&pull_request.event_id) {
                    None => argv.arg("drop"),
                    Some(PullRequestOutcome::Staged) => argv.arg("keep"),
                    Some(PullRequestOutcome::Again) => argv.arg("again"),
                    Some(PullRequestOutcome::Later { secs }) => argv.bounded(*secs),
                }
            })
    }

    /// Adds a refusal, each text only as far as a person reads it.
    pub(super) fn refusal(self, refusal: &NotedRefusal) -> Self {
        let texts = [
            &refusal.request,
            &refusal.what,
            &refusal.source,
            &refusal.author,
            &refusal.repositories,
            &refusal.reason,
        ];
        self.json(texts.map(|text| &text[..text.floor_char_boundary(REFUSAL_TEXT_BYTES_MAX)]))
    }

    pub(super) fn json(self, texts: impl IntoIterator<Item: ToString>) -> Self {
        self.arg(json(texts))
    }

    /// The three arguments that describe a placeholder: event id, coordinate, commit oid.
    pub(super) fn placeholder(self, event_id: &EventId, coordinate: &Coordinate, commit_oid: Oid) -> Self {
        self.arg(event_id).arg(coordinate).arg(commit_oid)
    }

    /// Where placeholders come from, and how many there may be: in all, of a repository, and from there.
    pub(super) fn placeholders_max(self, pusher: Option<IpAddr>) -> Self {
        let limits = self.limits;
        self.arg(pusher.map(address_source).unwrap_or_default())
            .arg(limits.placeholders_max)
            .arg(limits.placeholders_per_repository_max)
            .arg(limits.placeholders_per_source_max)
    }

    /// The six arguments that describe an event: id, JSON, kind, author, created_at, coordinates.
    fn event(self, event: &Event, coordinates: &BTreeSet<Coordinate>) -> Self {
        self.arg(event.id)
            .arg(event.as_json())
            .arg(event.kind.as_u16())
            .arg(event.pubkey)
            .arg(event.created_at.as_secs())
            .arg(json(coordinates))
    }
}

/// Longest text of a refusal.
const REFUSAL_TEXT_BYTES_MAX: usize = 400;

/// Returns whom an announcement lists as maintainers.
pub(super) fn listed_by(event: &Event) -> Vec<PublicKey> {
    let is_announcement = event.kind.as_u16() == nip34::ANNOUNCEMENT;
    let listed = is_announcement.then(|| Roles::of(event).listed);
    listed.into_iter().flatten().take(LISTED_MAX).collect()
}

/// Writes texts as the JSON array that the scripts read.
fn json(texts: impl IntoIterator<Item: ToString>) -> serde_json::Value {
    texts.into_iter().map(|text| text.to_string()).collect()
}
