//! Facts that are too many to be read at once, because hundreds of authors list each other and have published large
//! events: they are read of a few authors at a time, and little is kept of those who were not asked about.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;

use nostr::event::Event;
use nostr::event::EventId;
use nostr::event::Kind;
use nostr::event::Tag;
use nostr::event::Tags;
use nostr::filter::Filter;

use crate::facts_scope::FactsScope;
use crate::load_facts::FactLoader;
use crate::load_facts::FactsError;
use crate::load_outwards::LeftOut;
use crate::nip01::memory_bytes;
use crate::nip01::tag_memory_bytes;
use crate::nip34;
use crate::nip34::Coordinate;
use crate::nip34::Identifier;
use crate::purgatory::DirtyNumber;
use crate::purgatory::Reading;
use crate::rules::Facts;

impl FactLoader {
    /// Loads the same, however much it is: a few authors at a time, and of the served events of those who were not
    /// asked about only what decides about the others. It takes many requests, and little memory.
    ///
    /// # Errors
    /// See [`FactsError`]; there are no partial facts.
    pub async fn load_in_parts(
        &self,
        scope: &FactsScope,
    ) -> Result<(Facts, BTreeMap<Coordinate, DirtyNumber>), FactsError> {
        let (mut facts, dirty, _) = self.load_outwards(None, scope).await?;
        let unread: Vec<EventId> = facts.unread_states(&scope.coordinates).into_iter().collect();
        for page in unread.chunks(PART_STATES) {
            let ids: BTreeSet<EventId> = page.iter().copied().collect();
            let held = self.purgatory.entries(&ids).await?;
            let filter = Filter::new().kind(Kind::from_u16(nip34::STATE)).ids(ids);
            let served = self.relay.query(vec![filter]).await?;
            facts.complete_states(held.iter().map(|entry| entry.event.as_ref()).chain(&served));
        }
        match facts.unread_states(&scope.coordinates).is_empty() {
            true => Ok((facts, dirty)),
            false => Err(FactsError::Replaced),
        }
    }

    /// Reads some coordinates after the other: those asked about first, and with them the PRs. Of others, what cannot
    /// be read is left out: nobody who lists an owner makes the owner's own repository unreadable.
    pub(crate) async fn read_in_parts(
        &self,
        of_round: &FactsScope,
        scope: &FactsScope,
        coordinates: &BTreeSet<Coordinate>,
        left_out: &mut LeftOut,
    ) -> Result<(Reading, Vec<Event>), FactsError> {
        let is_asked = |at: &&Coordinate| scope.coordinates.contains(at);
        let (asked, others): (Vec<_>, Vec<_>) = coordinates.iter().partition(is_asked);
        // There may be hundreds of held states, of which one is aligned; other events there is one of each.
        let is_kept = |at: &Coordinate, event: &Event, is_held: bool| {
            scope.coordinates.contains(at) && !(is_held && event.kind.as_u16() == nip34::STATE)
        };
        let cut = &mut left_out.cut;
        let mut trim_unless_kept = |event: &mut Event, is_held| {
            if let Some(at) = coordinate_of(event).filter(|at| !is_kept(at, event, is_held))
                && trim(event)
            {
                cut.insert(event.id, at);
            }
        };
        let (mut reading, mut served) = (Reading::default(), Vec::new());
        let parts = asked.chunks(PART_OWNERS).chain(others.chunks(PART_OWNERS));
        let mut parts: VecDeque<&[&Coordinate]> = parts.collect();
        let mut of_part = of_round;
        let nothing = FactsScope::default();
        while let Some(part) = parts.pop_front() {
            match self.read_part(of_part, part, &mut trim_unless_kept).await {
                Ok((held, of_relay)) => {
                    reading.extend(held);
                    served.extend(of_relay);
                }
                Err(error) if error.is_of_a_neighbour() || part.iter().any(is_asked) => return Err(error),
                Err(error) => match part {
                    [at] => {
                        tracing::warn!(coordinate = %at, %error, "left out: its events cannot be read");
                        left_out.unread.insert((*at).clone());
                    }
                    _ => part.chunks(1).rev().for_each(|one| parts.push_front(one)),
                },
            }
            of_part = &nothing;
        }
        Ok((reading, served))
    }

    async fn read_part(
        &self,
        scope: &FactsScope,
        part: &[&Coordinate],
        trim: &mut impl FnMut(&mut Event, bool),
    ) -> Result<(Reading, Vec<Event>), FactsError> {
        let (part, ids) = (part.iter().copied().cloned().collect(), &scope.pull_request_ids);
        let trim_held = |event: &mut Event| trim(event, true);
        let held = self.purgatory.read_trimmed(usize::MAX, &part, ids, trim_held).await?;
        let held = held.unwrap_or_default();
        let mut served = self.served(usize::MAX, scope, &part, &held).await?;
        served.iter_mut().for_each(|event| trim(event, false));
        Ok((held, served))
    }
}

/// Returns the coordinate of an announcement or a state.
fn coordinate_of(event: &Event) -> Option<Coordinate> {
    let is_one = matches!(event.kind.as_u16(), nip34::ANNOUNCEMENT | nip34::STATE);
    let identifier = Identifier::of(event).ok().filter(|_| is_one)?;
    Some(Coordinate {
        owner: event.pubkey,
        identifier,
    })
}

/// Leaves of a large announcement or state only what decides about the repositories of others; returns whether that is
/// less.
fn trim(event: &mut Event) -> bool {
    if memory_bytes(event) <= SMALL_BYTES {
        return false;
    }
    let is_state = event.kind.as_u16() == nip34::STATE;
    let deciding = if is_state { &DECIDING_TAGS[..2] } else { &DECIDING_TAGS };
    let mut left = TRIMMED_BYTES_MAX;
    let kept = event.tags.iter().filter(|tag| {
        let tag = tag.as_slice();
        let is_deciding = tag.first().is_some_and(|name| deciding.contains(&name.as_str()));
        let rest = left.checked_sub(tag_memory_bytes(tag)).filter(|_| is_deciding);
        left = rest.unwrap_or(left);
        rest.is_some()
    });
    let kept: Vec<Tag> = kept.cloned().collect();
    let is_less = kept.len() < event.tags.len() || !event.content.is_empty();
    event.tags = Tags::from_list(kept);
    event.content = String::new();
    is_less
}

/// The tags by which an event decides about others: those of all, and those of announcements.
const DECIDING_TAGS: [&str; 10] = [
    "d",
    "expiration",
    "clone",
    "relays",
    "maintainers",
    "M",
    "m",
    "o",
    "private",
    "public-read",
];

/// Nothing is left out of what takes no more: an announcement with some URLs, or a state with thirty refs.
const SMALL_BYTES: usize = 8 << 10;

/// What is kept of others: an announcement that lists 200 keys fits.
const TRIMMED_BYTES_MAX: usize = 32 << 10;

/// Owners whose events are read at the same time: the largest announcements and states take 10 MB.
const PART_OWNERS: usize = 4;

/// States of which the refs are read at the same time.
const PART_STATES: usize = 8;
