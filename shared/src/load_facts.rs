//! Reads the facts that decisions are made on: the purgatory first, the relay after it, never both at once, because
//! events move from the one into the other (docs/ARCHITECTURE.md rule 9).

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use nostr::event::Event;
use nostr::event::EventId;
use nostr::event::Kind;
use nostr::filter::Filter;
use nostr::filter::SingleLetterTag;
use nostr::key::PublicKey;

use crate::load_outwards as outwards;
use crate::nip01::Address;
use crate::nip34;
use crate::nip34::Coordinate;
use crate::nip34::Identifier;
use crate::options::access_files::AccessFiles;
use crate::purgatory::DirtyNumber;
use crate::purgatory::Purgatory;
use crate::purgatory::PurgatoryError;
use crate::purgatory::Reading;
use crate::relay_client::RelayClient;
use crate::relay_client::RelayError;
use crate::rules::Facts;
use crate::rules::MaintainerMode;
use crate::rules::References;
use crate::rules::Service;

/// Loads facts from the purgatory and the relay.
#[derive(Clone)]
pub struct FactLoader {
    /// The purgatory, read first.
    pub purgatory: Purgatory,
    /// The relay, read second.
    pub relay: RelayClient,
    /// This server.
    pub service: Service,
    /// The rule by which maintainers are resolved.
    pub mode: MaintainerMode,
    /// Whose repositories the operator hosts.
    pub access: AccessFiles,
}

/// What to load facts about.
#[derive(Debug, Clone, Default)]
pub struct FactsScope {
    /// Identifiers whose facts are loaded completely.
    pub identifiers: BTreeSet<Identifier>,
    /// PRs that are loaded even if they are served already.
    pub pull_request_ids: BTreeSet<EventId>,
    /// Whose repositories the facts must be complete about, even if strangers have stored more under the identifiers
    /// than can be read.
    pub owners: BTreeSet<PublicKey>,
    /// How far the facts reach then.
    pub reach: Reach,
    /// An event that arrives: deletions of it are loaded too, although the purgatory does not have it.
    pub arriving: Option<Event>,
}

/// Which repositories the facts are complete about where not everybody's can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reach {
    /// Those of the owners, and those that what is held is about.
    #[default]
    Held,
    /// Those of the owners.
    Owners,
}

/// Why facts could not be loaded. Nothing may be decided then.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// The purgatory did not answer.
    #[error("cannot read the purgatory")]
    Purgatory(#[from] PurgatoryError),
    /// The relay did not answer, or not completely.
    #[error("cannot read the relay")]
    Relay(#[from] RelayError),
}

impl FactLoader {
    /// Loads the facts about `scope`, and the dirty numbers of its identifiers.
    ///
    /// # Errors
    /// See [`FactsError`]; there are no partial facts.
    pub async fn load(&self, scope: &FactsScope) -> Result<(Facts, BTreeMap<Identifier, DirtyNumber>), FactsError> {
        tracing::debug!(identifiers = scope.identifiers.len(), "load facts");
        let reading = self.purgatory.read(&scope.identifiers).await?;
        let mut awaited = scope.pull_request_ids.clone();
        awaited.extend(reading.placeholders.iter().map(|placeholder| placeholder.event_id));
        // Held again after a loss, or come into the relay by another way: such an entry is settled, not awaited.
        let held = reading.entries.iter().map(|entry| &entry.event);
        let is_pull_request =
            |event: &&Event| matches!(event.kind.as_u16(), nip34::PULL_REQUEST | nip34::PULL_REQUEST_UPDATE);
        awaited.extend(held.clone().filter(is_pull_request).map(|event| event.id));
        let is_releasing = |event: &&Event| {
            let mut entries = reading.entries.iter();
            entries.any(|entry| entry.event.id == event.id && entry.status.counts_as_served())
        };
        let (filters, unserved): (Vec<Filter>, Vec<&Event>) = match scope.arriving.as_ref().filter(is_releasing) {
            // It has its pass, unless its author has deleted it: nothing else is asked (docs/ARCHITECTURE.md rule 3).
            Some(releasing) => (Vec::new(), vec![releasing]),
            None => {
                let git_events = [git_events(&scope.identifiers)].into_iter();
                let filters = git_events.chain(pull_requests(&awaited)).collect();
                (filters, held.chain(&scope.arriving).collect())
            }
        };
        let authors: BTreeSet<PublicKey> = unserved.iter().map(|event| event.pubkey).collect();
        let requests = deletions(&unserved).into_iter().chain(vanished(&authors)).collect();
        let served = async {
            match self.relay.query_up_to(filters.clone(), WHOLE_EVENTS_MAX).await {
                Err(error @ (RelayError::Stalled { .. } | RelayError::TooMany { .. })) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "read outwards from the repositories"
                    );
                    let about_pull_requests = filters.iter().skip(1).cloned().collect();
                    let mut served = self.relay.query(about_pull_requests).await?;
                    served.extend(outwards::read(&self.relay, start_of(scope, &reading)).await?);
                    Ok((served, true))
                }
                whole => Ok((whole?, false)),
            }
        };
        let ((mut served, is_cut), requested) = tokio::try_join!(served, self.relay.newest(requests))?;
        let others = served.iter().map(|event| event.pubkey);
        let others: BTreeSet<PublicKey> = others.filter(|author| !authors.contains(author)).collect();
        let vanished_others = self.relay.newest(vanished(&others).collect()).await?;
        served.extend(requested.into_iter().chain(vanished_others));
        let dirty = reading.dirty.clone();
        let (service, access) = (self.service.clone(), self.access.current());
        let mut facts = Facts::assemble(service, self.mode, access, scope.identifiers.clone(), reading, served);
        facts.is_cut = is_cut;
        Ok((facts, dirty))
    }

    /// Loads the facts about the identifier of one repository.
    pub async fn load_about(&self, coordinate: &Coordinate) -> Result<Facts, FactsError> {
        let scope = FactsScope {
            identifiers: [coordinate.identifier.clone()].into(),
            owners: [coordinate.owner].into(),
            reach: Reach::Owners,
            ..FactsScope::default()
        };
        Ok(self.load(&scope).await?.0)
    }

    /// Whether the relay serves an event that `event` refers to, or one that refers to it.
    pub async fn is_related(&self, event: &Event, references: &References) -> Result<bool, FactsError> {
        Ok(self.relay.any(related(event, references)).await?)
    }
}

/// Returns with whom reading outwards begins.
fn start_of<'r>(scope: &FactsScope, reading: &'r Reading) -> outwards::Start<'r> {
    let mut owners = scope.owners.clone();
    let arriving = outwards::authors_of(&scope.arriving);
    owners.extend(outwards::listing(&arriving, reading));
    owners.extend(arriving);
    if scope.reach == Reach::Held {
        owners.extend(outwards::authors_of(reading.entries.iter().map(|entry| &entry.event)));
        owners.extend(
            reading
                .placeholders
                .iter()
                .map(|placeholder| placeholder.coordinate.owner),
        );
    }
    outwards::Start {
        filter: git_events(&scope.identifiers),
        identifiers: scope.identifiers.len(),
        owners,
        reading,
    }
}

/// Returns filters for every event that `event` refers to, or that refers to it.
fn related(event: &Event, references: &References) -> Vec<Filter> {
    let mut filters = Vec::new();
    if !references.ids.is_empty() {
        filters.push(Filter::new().ids(references.ids.iter().copied()));
    }
    filters.extend(references.addresses.iter().map(|address| {
        let filter = Filter::new().kind(Kind::from_u16(address.kind)).author(address.author);
        // Kinds that are merely replaceable have no `d`, and an address with one names no event.
        if address.d.is_empty() {
            filter
        } else {
            filter.identifier(&address.d)
        }
    }));
    let own_id = references.id.to_hex();
    let own_address = references.address.as_ref().map(Address::to_string).unwrap_or_default();
    for (tag, own) in [
        (SingleLetterTag::LOWERCASE_E, &own_id),
        (SingleLetterTag::UPPERCASE_E, &own_id),
        (SingleLetterTag::LOWERCASE_Q, &own_id),
        (SingleLetterTag::LOWERCASE_A, &own_address),
        (SingleLetterTag::UPPERCASE_A, &own_address),
        (SingleLetterTag::LOWERCASE_Q, &own_address),
    ] {
        if (1..=FILTER_VALUE_BYTES_MAX).contains(&own.len()) {
            filters.push(Filter::new().custom_tag(tag, own));
        }
    }
    // Participants in a served thread may publish their profile and relay list.
    if matches!(event.kind, Kind::Metadata | Kind::RelayList) {
        filters.push(Filter::new().author(event.pubkey));
    }
    filters
}

fn git_events(identifiers: &BTreeSet<Identifier>) -> Filter {
    Filter::new()
        .kinds([nip34::ANNOUNCEMENT, nip34::STATE].map(Kind::from_u16))
        .identifiers(identifiers.iter().map(Identifier::as_str))
}

fn pull_requests(ids: &BTreeSet<EventId>) -> Vec<Filter> {
    let ids: Vec<EventId> = ids.iter().copied().collect();
    ids.chunks(FILTER_VALUES_MAX)
        .map(|chunk| Filter::new().ids(chunk.iter().copied()))
        .collect()
}

/// Returns filters for the requests to vanish (NIP-62) of these authors, the newest few of each: a request that names
/// other relays only must not hide an earlier one.
fn vanished(authors: &BTreeSet<PublicKey>) -> impl Iterator<Item = Filter> {
    let requests = |author: &PublicKey| Filter::new().kind(Kind::from_u16(nip34::VANISH)).author(*author);
    authors
        .iter()
        .map(move |author| requests(author).limit(VANISH_REQUESTS_MAX))
}

/// Returns filters whose every match is a deletion request that covers one of these events, so that one match each is
/// enough. Events of others, or of the author about other events, cannot fill the page.
fn deletions(events: &[&Event]) -> Vec<Filter> {
    let mut filters = Vec::with_capacity(2 * events.len());
    for event in events {
        let own = Filter::new().kind(Kind::from_u16(nip34::DELETION)).author(event.pubkey);
        filters.push(
            own.clone()
                .custom_tag(SingleLetterTag::LOWERCASE_E, event.id.to_hex())
                .limit(1),
        );
        let Some([address, upper]) = Address::of(event).map(|address| address.spellings()) else {
            continue;
        };
        let own = own.since(event.created_at);
        // strfry neither indexes a longer value nor accepts a filter with it: read the author's newest deletions.
        filters.push(if address.len() <= FILTER_VALUE_BYTES_MAX {
            own.custom_tags(SingleLetterTag::LOWERCASE_A, [address, upper]).limit(1)
        } else {
            own.limit(DELETIONS_READ_MAX)
        });
    }
    filters
}

/// Most announcements and states of some identifiers that are read whole. Whoever stores more of them, honest or not,
/// makes facts be read outwards from the repositories that they are about.
const WHOLE_EVENTS_MAX: usize = 5000;

/// Requests to vanish read of one author.
const VANISH_REQUESTS_MAX: usize = 20;

/// Deletion requests read of one author where a filter cannot name the address.
const DELETIONS_READ_MAX: usize = 500;

/// Values in one filter: a request with as many event ids stays well below strfry's frame limit of 128 KiB.
const FILTER_VALUES_MAX: usize = 500;

/// Longest tag value that strfry accepts in a filter (strfry `filters.h`).
const FILTER_VALUE_BYTES_MAX: usize = 255;
