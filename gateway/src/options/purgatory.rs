//! The options of `grasp-gateway purgatory`.

use std::fmt;
use std::str::FromStr;

use clap::Args;
use clap::Subcommand;
use clap::builder::PossibleValuesParser;
use clap::builder::TypedValueParser;
use nostr::event::EventId;
use nostr::key::PublicKey;
use shared::nip34::Coordinate;
use shared::options::values::Expected;
use shared::options::values::HumanDuration;
use shared::options::values::number;
use shared::options::values::seconds;
use shared::options::values::secs;
use shared::purgatory::EntryStatus;
use shared::rules::key_of;

use crate::options::reach::ReachOptions;

/// What to do.
#[derive(Args)]
pub(crate) struct PurgatoryOptions {
    #[command(subcommand)]
    pub(crate) action: PurgatoryAction,
}

#[derive(Subcommand)]
pub(crate) enum PurgatoryAction {
    /// Lists the waiting events, the oldest first.
    List(ListOptions),
    /// Shows one event, and what it waits for: which object of which ref, whose state, which maintainer.
    Show(EventOptions),
    /// Counts the waiting events by kind and status, and shows the age of the oldest.
    Stats(ReachOptions),
    /// Removes one event, as if its author had never sent it, and has its repository reconciled.
    Drop(EventOptions),
    /// Has a running gateway reconcile an event's repositories now, and reports what is still missing. An event that
    /// the relay has refused is sent to it again.
    Release(ReleaseOptions),
    /// Lists recent refusals of events and pushes: source, author and reason. The server remembers the last 3,000
    /// logged refusals for a day.
    Refusals(RefusalsOptions),
    /// Shows the waiting events and new refusals until it is stopped: a list on a terminal, otherwise a line for each
    /// change.
    Watch(ReachOptions),
}

#[derive(Args)]
pub(crate) struct ListOptions {
    /// Only events of this repository.
    #[arg(long, value_name = "NPUB/IDENTIFIER")]
    pub(crate) repository: Option<NamedRepository>,
    /// Only events of this author.
    #[arg(long, value_name = "NPUB", value_parser = author)]
    pub(crate) author: Option<PublicKey>,
    /// Only events with this status.
    #[arg(long, value_name = "STATUS", value_parser = status())]
    pub(crate) status: Option<EntryStatus>,
    /// Maximum number of events to list.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = number(1..=100_000_usize))]
    pub(crate) count: usize,
    #[command(flatten)]
    pub(crate) reach: ReachOptions,
}

#[derive(Args)]
pub(crate) struct EventOptions {
    /// The event's id: hex, note or nevent, or the beginning of its hex, which `list` shows.
    #[arg(value_name = "EVENT")]
    pub(crate) event: NamedEvent,
    #[command(flatten)]
    pub(crate) reach: ReachOptions,
}

#[derive(Args)]
pub(crate) struct ReleaseOptions {
    /// The event's id, as for `show`.
    #[arg(value_name = "EVENT")]
    pub(crate) event: NamedEvent,
    /// How long to wait until a gateway has reconciled its repositories.
    #[arg(long = "wait-secs", value_name = "SECS", value_parser = seconds(1..=600), default_value_t = secs(10))]
    pub(crate) wait: HumanDuration,
    #[command(flatten)]
    pub(crate) reach: ReachOptions,
}

#[derive(Args)]
pub(crate) struct RefusalsOptions {
    /// Only the refusal with this number, which the pusher reads, or of the event with this id, or the beginning of
    /// either. It is an error if there is none.
    #[arg(long, value_name = "ID")]
    pub(crate) request: Option<String>,
    /// Maximum number of refusals to list, the latest first.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = number(1..=3_000_usize))]
    pub(crate) count: usize,
    #[command(flatten)]
    pub(crate) reach: ReachOptions,
}

/// An event by its id, or by the beginning of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NamedEvent {
    Whole(EventId),
    Beginning(String),
}

/// A repository as people name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedRepository(pub(crate) Coordinate);

impl PurgatoryOptions {
    /// Returns where the purgatory is.
    pub(crate) fn reach(&self) -> &ReachOptions {
        match &self.action {
            PurgatoryAction::List(options) => &options.reach,
            PurgatoryAction::Show(options) | PurgatoryAction::Drop(options) => &options.reach,
            PurgatoryAction::Stats(reach) | PurgatoryAction::Watch(reach) => reach,
            PurgatoryAction::Release(options) => &options.reach,
            PurgatoryAction::Refusals(options) => &options.reach,
        }
    }
}

impl FromStr for NamedEvent {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        let text = text.to_ascii_lowercase();
        if let Ok(event_id) = EventId::parse(&text) {
            return Ok(Self::Whole(event_id));
        }
        let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match is_hex && (BEGINNING_MIN..64).contains(&text.len()) {
            true => Ok(Self::Beginning(text)),
            false => Err(Expected::new(format!(
                "the id of an event (hex, note or nevent), or at least {BEGINNING_MIN} digits of its beginning"
            ))),
        }
    }
}

impl FromStr for NamedRepository {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        if let Ok(coordinate) = text.parse() {
            return Ok(Self(coordinate));
        }
        let named = text.split_once('/').and_then(|(key, identifier)| {
            Some(Coordinate {
                owner: key_of(key)?,
                identifier: identifier.parse().ok()?,
            })
        });
        let expected = "a repository as npub/identifier or 30617:hex:identifier";
        named.map(Self).ok_or_else(|| Expected::new(expected.to_owned()))
    }
}

impl fmt::Display for NamedEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(event_id) => f.write_str(&event_id.to_hex()),
            Self::Beginning(text) => write!(f, "{text}…"),
        }
    }
}

fn status() -> impl TypedValueParser<Value = EntryStatus> {
    let names = PossibleValuesParser::new(EntryStatus::ALL.map(EntryStatus::name));
    names.try_map(|name| EntryStatus::named(&name).ok_or_else(|| Expected::new("a status".to_owned())))
}

/// Reads a key as people write it.
pub(super) fn author(text: &str) -> Result<PublicKey, Expected> {
    key_of(text).ok_or_else(|| Expected::new("a public key: npub, nprofile or hex".to_owned()))
}

/// Fewer digits than these name too many.
const BEGINNING_MIN: usize = 6;
