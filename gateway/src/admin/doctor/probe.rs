//! The probe: announcements and a state by a new key, of repositories that are never pushed. They are held, and removed
//! at the end.

use nostr::event::Event;
use nostr::event::EventBuilder;
use nostr::event::FinalizeEvent;
use nostr::event::Kind;
use nostr::event::Tag;
use nostr::key::Keys;
use nostr::types::Timestamp;
use shared::nip34;
use shared::nip34::Coordinate;
use shared::purgatory::Purgatory;
use shared::rules::Service;
use wire::path::repository_path;

/// An announcement for a test, and its outcome.
pub(super) struct Probe {
    keys: Keys,
    /// For the relay itself.
    pub(super) announcement: Event,
    /// The repository that it announces.
    pub(super) repository: Coordinate,
    /// For the relay as clients reach it.
    pub(super) from_outside: Event,
    /// As large and as old as a state may be that was pushed to long ago.
    pub(super) large_state: Event,
    /// The outcome of the first one.
    pub(super) answer: ProbeAnswer,
}

/// The outcome of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ProbeAnswer {
    /// The purgatory that this command reads has it.
    HeldHere,
    /// It is said to be held, and is not in our purgatory.
    HeldElsewhere,
    /// It is said to be held, and our purgatory cannot be read.
    Unread(String),
    /// The relay has stored it: no plugin was asked.
    Stored,
    /// It was refused, or nobody answered.
    Refused(String),
}

impl Probe {
    /// Makes the announcements; `None`: they cannot be signed.
    pub(super) fn new(service: &Service) -> Option<Self> {
        let keys = Keys::generate();
        let (announcement, repository) = announce(&keys, service, "grasp-doctor-probe")?;
        let (from_outside, _) = announce(&keys, service, "grasp-doctor-probe-from-outside")?;
        Some(Self {
            large_state: large_state(&keys, &repository)?,
            announcement,
            repository,
            from_outside,
            keys,
            answer: ProbeAnswer::Refused("it was not sent".to_owned()),
        })
    }

    /// Returns the event that asks the relay to delete what it has stored.
    pub(super) fn deletion(&self) -> Option<Event> {
        let tag = Tag::custom("e", [self.announcement.id.to_hex()]);
        let deletion = EventBuilder::new(Kind::from_u16(DELETION), "").tags([tag]);
        deletion.finalize(&self.keys).ok()
    }

    /// Returns an event for an import: it deletes the large state, which nobody needs then, and ends itself a minute
    /// later (NIP-40).
    pub(super) fn short_lived(&self) -> Option<Event> {
        let ends = (Timestamp::now().as_secs() + SHORT_LIFE_SECS).to_string();
        let tags = [
            Tag::custom("e", [self.large_state.id.to_hex()]),
            Tag::custom("expiration", [ends]),
        ];
        let event = EventBuilder::new(Kind::from_u16(DELETION), "").tags(tags);
        event.finalize(&self.keys).ok()
    }

    /// Drops its held events.
    pub(super) async fn take_back(&self, purgatory: &Purgatory) {
        for event_id in [self.large_state.id, self.announcement.id, self.from_outside.id] {
            if let Err(error) = purgatory.drop_entry(&event_id).await {
                tracing::warn!(%error, %event_id, "the probe may still be held; it expires by itself");
            }
        }
    }
}

fn announce(keys: &Keys, service: &Service, identifier: &str) -> Option<(Event, Coordinate)> {
    let repository = Coordinate {
        owner: keys.public_key(),
        identifier: identifier.parse().ok()?,
    };
    let clone = format!("{}{}", service.http_origin(), repository_path(&repository));
    let tags = [
        ("d", identifier.to_owned()),
        ("clone", clone),
        ("relays", service.relay_url()),
    ];
    let tags = tags.map(|(name, value)| Tag::custom(name, [value]));
    let event = EventBuilder::new(Kind::from_u16(nip34::ANNOUNCEMENT), "").tags(tags);
    Some((event.finalize(keys).ok()?, repository))
}

fn large_state(keys: &Keys, repository: &Coordinate) -> Option<Event> {
    let branch = |number: usize| Tag::custom(format!("refs/heads/{number}"), [format!("{number:040x}")]);
    let tags = std::iter::once(Tag::identifier(repository.identifier.as_str())).chain((1..=LARGE_REFS).map(branch));
    let written = Timestamp::from_secs(Timestamp::now().as_secs().saturating_sub(OLD_SECS));
    let state = EventBuilder::new(Kind::from_u16(nip34::STATE), "").tags(tags);
    state.custom_created_at(written).finalize(keys).ok()
}

/// More tags, and with them more bytes, than strfry takes by default (2,000 and 64 KiB), and fewer than
/// `strfry-config/strfry.conf` allows.
const LARGE_REFS: usize = 3_500;

/// Ten years: more than strfry takes by default.
const OLD_SECS: u64 = 10 * 365 * 86_400;

const SHORT_LIFE_SECS: u64 = 60;

/// A deletion request (NIP-09).
const DELETION: u16 = 5;
