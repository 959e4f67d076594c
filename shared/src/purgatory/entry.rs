//! What the purgatory holds, as values. No store, no clock.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;

use nostr::event::Event;
use nostr::event::EventId;
use nostr::key::PublicKey;

use crate::git::Oid;
use crate::nip34::Coordinate;
use crate::nip34::Identifier;

/// Where an event stands on its way through the purgatory (docs/ARCHITECTURE.md, "The life of an event").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EntryStatus {
    /// Waits for its git data until the deadline.
    Held,
    /// An announcement whose deadline passed: not hosted, but an authorised state still wakes it.
    Asleep,
    /// Complete, on its way into the relay. Never expires.
    Releasing,
    /// Complete, but the relay refused it for good. Never expires, retried rarely, counts as releasing.
    Stuck,
}

impl EntryStatus {
    /// Returns the word that stands in the store and in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Asleep => "asleep",
            Self::Releasing => "releasing",
            Self::Stuck => "stuck",
        }
    }

    /// Reads what [`EntryStatus::as_str`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Held, Self::Asleep, Self::Releasing, Self::Stuck]
            .into_iter()
            .find(|status| status.as_str() == text)
    }

    /// Tells whether the event is complete and on its way into the relay, so that it counts as served for every
    /// decision about git data.
    pub fn counts_as_served(self) -> bool {
        match self {
            Self::Releasing | Self::Stuck => true,
            Self::Held | Self::Asleep => false,
        }
    }
}

impl fmt::Display for EntryStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One event in the purgatory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The event, whole and verified.
    pub event: Event,
    /// The identifiers it is indexed by: its own `d` tag, or for a PR those of the repositories it is offered to.
    pub identifiers: BTreeSet<Identifier>,
    /// Where it stands.
    pub status: EntryStatus,
    /// Where it came from, as the relay said it (`IP4 203.0.113.7`); empty if it did not say.
    pub source: String,
    /// When it was first held, unix seconds by the store's clock.
    pub held_since: u64,
    /// When it expires unless it is complete by then, unix seconds. Means nothing while it is leaving.
    pub deadline: u64,
    /// What it waits for, written by the gateway at its last look; empty before the first.
    pub waiting_for: String,
    /// What the relay answered to the last attempt to publish it; empty if there was none.
    pub release_error: String,
    /// The events that must have left before it is published; empty unless it is leaving.
    pub after: BTreeSet<EventId>,
}

/// A PR commit that was pushed before its event. Its objects are staged, and neither fetched nor listed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Placeholder {
    /// The id of the event that is awaited, from the ref `refs/nostr/<event-id>`.
    pub event_id: EventId,
    /// The repository it was pushed to.
    pub coordinate: Coordinate,
    /// The commit that was pushed.
    pub commit_oid: Oid,
    /// When it ends unless the event is there by then, unix seconds.
    pub deadline: u64,
}

/// The number of the change that made an identifier dirty: never used twice, so that a look clears no other change
/// than the one it has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DirtyNumber(pub u64);

/// The purgatory's facts about some identifiers, read in one step.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reading {
    /// The store's time of the reading, unix seconds: the `now` of every decision made on it.
    pub now: u64,
    /// Which of the identifiers are dirty, and since which change.
    pub dirty: BTreeMap<Identifier, DirtyNumber>,
    /// Every entry indexed by one of the identifiers, each once, by event id.
    pub entries: Vec<Entry>,
    /// Every placeholder in a repository with one of the identifiers, sorted.
    pub placeholders: Vec<Placeholder>,
}

/// What to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// The event, verified.
    pub event: Event,
    /// What it is indexed by, see [`Entry::identifiers`]. Not empty.
    pub identifiers: BTreeSet<Identifier>,
    /// Where it came from, see [`Entry::source`].
    pub source: String,
    /// For how long, in seconds from the store's now.
    pub hold_secs: u64,
    /// The announcements (held or asleep) and states to hold as long as this event, from now: sleeping ones wake.
    pub extend: BTreeSet<EventId>,
}

/// What became of a [`Hold`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldOutcome {
    /// The event is held; its identifiers are dirty.
    Held,
    /// The event was in the purgatory already, with this status, and is left with its deadline; its identifiers are
    /// dirty. One found [`EntryStatus::Asleep`] woke: it is held, with a fresh deadline.
    AlreadyHeld(EntryStatus),
    /// Its author asked lately to delete it (see [`Deletion`]). Nothing changed.
    Deleted,
    /// The purgatory has a newer announcement of the same coordinate, held or asleep. Nothing changed.
    Replaced,
    /// The purgatory is at one of its limits. Nothing changed.
    Full(Limit),
}

/// What became of a placeholder that was to be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlaceholderOutcome {
    /// It is recorded, in place of an earlier one for the same event and repository.
    Recorded,
    /// There are [`Limits::placeholders_max`] placeholders. Nothing changed.
    Full,
}

/// A bound of the purgatory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Bytes of one event.
    EventBytes,
    /// Entries held by one author.
    EntriesPerAuthor,
    /// Bytes of the events held by one author.
    BytesPerAuthor,
    /// Entries held from one source.
    EntriesPerSource,
    /// Bytes of the events held from one source.
    BytesPerSource,
    /// Entries held with one identifier.
    EntriesPerIdentifier,
    /// Entries held in all.
    Entries,
    /// Bytes of the events held in all.
    Bytes,
}

/// The bounds of the purgatory. Bytes are those of the events as JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of one event.
    pub event_bytes_max: u64,
    /// Most entries of one author, leaving ones not counted.
    pub entries_per_author_max: u64,
    /// Most bytes of one author's entries, leaving ones not counted.
    pub bytes_per_author_max: u64,
    /// Most entries from one source, leaving ones not counted: an IPv4 address, a /64 of IPv6, or another relay.
    pub entries_per_source_max: u64,
    /// Most bytes of the entries from one source, leaving ones not counted.
    pub bytes_per_source_max: u64,
    /// Most entries with one identifier, in any status: every decision about it reads them all.
    pub entries_per_identifier_max: u64,
    /// Most entries in all, leaving ones not counted.
    pub entries_max: u64,
    /// Most bytes of the entries in all, leaving ones not counted.
    pub bytes_max: u64,
    /// Most placeholders in all.
    pub placeholders_max: u64,
}

impl Default for Limits {
    /// Room for a busy public server, some hundreds of megabytes of Redis at worst.
    fn default() -> Self {
        Self {
            event_bytes_max: 512 << 10,
            entries_per_author_max: 1_000,
            bytes_per_author_max: 16 << 20,
            entries_per_source_max: 10_000,
            bytes_per_source_max: 64 << 20,
            entries_per_identifier_max: 2_000,
            entries_max: 100_000,
            bytes_max: 256 << 20,
            placeholders_max: 10_000,
        }
    }
}

/// An event that is complete and goes into the relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// The event, whole: marking writes it anew, in case the store lost it since it was read.
    pub event: Event,
    /// What it is indexed by, see [`Entry::identifiers`].
    pub identifiers: BTreeSet<Identifier>,
    /// The announcements that are published before this event: each must have left the purgatory, or go with it.
    pub after: BTreeSet<EventId>,
}

/// The right to publish one entry and to settle it, for a limited time: whoever takes the entry next gets another
/// number, and a settlement with an old one does nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lease(pub u64);

/// An entry that is this caller's to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a lease that is not settled only runs out, and the event is published late"]
pub struct Leased {
    /// The event to publish.
    pub event: Event,
    /// The right to settle it.
    pub lease: Lease,
    /// What it is ordered after, see [`Release::after`]: each has left, or is leased to the caller too.
    pub after: BTreeSet<EventId>,
}

/// What became of events that were to be marked as releasing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use = "a lease that is not settled only runs out, and the event is published late"]
pub struct MarkedReleasing {
    /// Those that are the caller's to publish, in the order given.
    pub leased: Vec<Leased>,
    /// Those that are marked, and become due as soon as what they are ordered after, which somebody else is releasing,
    /// has left.
    pub waiting: BTreeSet<EventId>,
}

/// The time between two losses, possible ones too, of what the store has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch {
    /// Its name; empty: the store knows of none, so it has lost everything, or is new.
    pub name: String,
    /// The server that answers: another one after a restart or a failover.
    pub server: String,
}

impl Epoch {
    /// Tells whether the store has lost everything.
    pub fn is_unknown(&self) -> bool {
        self.name.is_empty()
    }

    /// Tells whether another server began it, which may have known more than this one.
    pub fn is_of_another_server(&self) -> bool {
        let begun_on = self.name.split(':').next();
        begun_on != Some(&self.server)
    }
}

/// How an attempt to publish ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// The relay has the event: the entry goes. Nothing has to be decided anew, since it counted as served already.
    Served,
    /// The relay will never take it, because a newer one, a deletion or its expiration rules it out: the entry goes,
    /// and repositories may have to be aligned with another state.
    Dropped,
    /// There was no attempt: the entry is due at once, for whoever takes it next.
    GiveBack,
    /// The relay did not say: try again.
    Retry {
        /// In how many seconds.
        after_secs: u64,
        /// What the relay answered.
        error: String,
    },
    /// The relay refused the event for good: it is stuck, and tried rarely.
    Stuck {
        /// In how many seconds it is tried again.
        after_secs: u64,
        /// What the relay answered.
        error: String,
    },
}

/// What an expired entry becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// It goes.
    Gone,
    /// It sleeps (an announcement).
    Sleep {
        /// For how long, in seconds.
        secs: u64,
    },
}

/// What an author asked to delete (NIP-09), from the purgatory's point of view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletion {
    /// Whose events go; nobody else's are touched.
    pub author: PublicKey,
    /// When the request was made, unix seconds: of a coordinate only versions up to this time go.
    pub created_at: u64,
    /// Ids of events.
    pub event_ids: BTreeSet<EventId>,
    /// Addressable events, by kind and `d` tag.
    pub addresses: BTreeSet<(u16, Identifier)>,
}

impl Deletion {
    /// Most targets of each form that the purgatory looks for. What comes behind them is ruled out once the relay has
    /// the request.
    pub const TARGETS_MAX: usize = 100;

    /// Reads a deletion request (kind 5). `None`: it names nothing that the purgatory could hold.
    pub fn requested_by(request: &Event) -> Option<Self> {
        let values = |name: &'static str| {
            let tags = request.tags.iter().map(nostr::event::Tag::as_slice);
            tags.filter(move |tag| tag.first().is_some_and(|head| head == name))
                .filter_map(|tag| tag.get(1))
        };
        let author = request.pubkey.to_hex();
        let addresses = values("a").filter_map(|address| {
            let mut parts = address.splitn(3, ':');
            let kind = parts.next()?.parse().ok()?;
            let own = parts.next()? == author;
            let identifier = parts.next()?.parse().ok()?;
            own.then_some((kind, identifier))
        });
        let deletion = Self {
            author: request.pubkey,
            created_at: request.created_at.as_secs(),
            event_ids: values("e")
                .filter_map(|id| EventId::from_hex(id).ok())
                .take(Self::TARGETS_MAX)
                .collect(),
            addresses: addresses.take(Self::TARGETS_MAX).collect(),
        };
        let names_something = !deletion.event_ids.is_empty() || !deletion.addresses.is_empty();
        names_something.then_some(deletion)
    }
}
