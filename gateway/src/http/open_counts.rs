//! How many issues and PRs of a repository are open (NIP-34, "Status"), by what the relay has. Whoever wants may send
//! them, so that only the newest are counted, from time to time, and the page does not wait long for it.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use nostr::event::Event;
use nostr::event::EventId;
use nostr::event::Kind;
use nostr::filter::Filter;
use nostr::filter::SingleLetterTag;
use nostr::key::PublicKey;
use quick_cache::sync::Cache;
use shared::nip34;
use shared::nip34::Coordinate;
use shared::relay_client::RelayClient;
use shared::relay_client::RelayError;
use shared::rules::Facts;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// Counts what is open.
pub(super) struct OpenCounts {
    counted: Cache<Coordinate, (Instant, Option<OpenCount>)>,
    counting: Semaphore,
}

/// How many are open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct OpenCount {
    pub(crate) issues: usize,
    pub(crate) pull_requests: usize,
    /// Whether there may be more.
    pub(crate) is_partial: bool,
}

impl OpenCounts {
    /// Has counted nothing yet.
    pub(super) fn new() -> Self {
        Self {
            counted: Cache::new(COUNTED_MAX),
            counting: Semaphore::new(COUNTING_MAX),
        }
    }

    /// Returns how many are open, as it was at most a minute ago; `None`: it cannot be told now.
    pub(super) async fn of(&self, relay: &RelayClient, coordinate: &Coordinate, facts: &Facts) -> Option<OpenCount> {
        if let Some((when, count)) = self.counted.get(coordinate)
            && when.elapsed() < AGE_MAX
        {
            return count;
        }
        let maintainers = facts.membership(coordinate).confirmed;
        let counting = async {
            let _permit = self.counting.acquire().await.ok()?;
            match count(relay, coordinate, &maintainers.into_iter().collect()).await {
                Ok(count) => Some(count),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(repo.coordinate = %coordinate, error, "cannot count what is open");
                    None
                }
            }
        };
        let count = tokio::time::timeout(WAIT_MAX, counting).await.ok().flatten();
        self.counted.insert(coordinate.clone(), (Instant::now(), count));
        count
    }
}

async fn count(
    relay: &RelayClient,
    coordinate: &Coordinate,
    maintainers: &BTreeSet<PublicKey>,
) -> Result<OpenCount, RelayError> {
    let offered = Filter::new()
        .kinds([nip34::ISSUE, nip34::PATCH, nip34::PULL_REQUEST].map(Kind::from_u16))
        .custom_tag(SingleLetterTag::LOWERCASE_A, coordinate.to_string())
        .limit(OFFERED_MAX);
    let offered = relay.newest(vec![offered]).await?;
    if offered.is_empty() {
        return Ok(OpenCount::default());
    }
    // What strangers say about the status of others' does not count, and would fill the answer.
    let authors = offered
        .iter()
        .map(|event| event.pubkey)
        .chain(maintainers.iter().copied());
    let statuses = Filter::new()
        .kinds((nip34::STATUS_FIRST..=nip34::STATUS_LAST).map(Kind::from_u16))
        .authors(authors.take(AUTHORS_MAX))
        .events(offered.iter().map(|event| event.id))
        .limit(STATUSES_MAX);
    let statuses = relay.newest(vec![statuses]).await?;
    Ok(open(&offered, &statuses, maintainers))
}

/// Counts those whose newest status, by their author or a maintainer, does not end them.
fn open(offered: &[Event], statuses: &[Event], maintainers: &BTreeSet<PublicKey>) -> OpenCount {
    let authors: BTreeMap<EventId, PublicKey> = offered.iter().map(|event| (event.id, event.pubkey)).collect();
    let mut newest: BTreeMap<EventId, &Event> = BTreeMap::new();
    for status in statuses {
        for event_id in status.tags.event_ids() {
            let author = authors.get(&event_id);
            let counts = author.is_some_and(|author| *author == status.pubkey || maintainers.contains(&status.pubkey));
            let is_newer = |other: &&Event| other.created_at < status.created_at;
            if counts && newest.get(&event_id).is_none_or(is_newer) {
                newest.insert(event_id, status);
            }
        }
    }
    let is_open = |event: &&Event| {
        let status = newest.get(&event.id).map(|status| status.kind.as_u16());
        // The first one of the kinds is "open".
        status.is_none_or(|kind| kind == nip34::STATUS_FIRST)
    };
    let (issues, pull_requests): (Vec<&Event>, Vec<&Event>) = offered
        .iter()
        .filter(is_open)
        .partition(|event| event.kind.as_u16() == nip34::ISSUE);
    OpenCount {
        issues: issues.len(),
        pull_requests: pull_requests.len(),
        is_partial: offered.len() >= OFFERED_MAX,
    }
}

/// For how long a count is shown.
const AGE_MAX: Duration = Duration::from_secs(60);

/// For how long a page waits for it.
const WAIT_MAX: Duration = Duration::from_millis(500);

/// Repositories whose count is kept, some 300 bytes each.
const COUNTED_MAX: usize = 10_000;

/// Counts at the same time: each may bring as many events as are counted.
const COUNTING_MAX: usize = 2;

/// Issues and PRs that are counted.
const OFFERED_MAX: usize = 100;

/// Their authors, and the maintainers, of whom there are 200 at most.
const AUTHORS_MAX: usize = 300;

/// Statuses of those: few have more than two.
const STATUSES_MAX: usize = 400;

#[cfg(test)]
mod tests {
    use nostr::event::EventBuilder;
    use nostr::event::FinalizeEvent;
    use nostr::event::Tag;
    use nostr::key::Keys;
    use nostr::types::Timestamp;

    use super::*;

    fn event(keys: &Keys, kind: u16, about: Option<&Event>, secs: u64) -> Event {
        EventBuilder::new(Kind::from_u16(kind), "")
            .tags(about.map(|event| Tag::event(event.id)))
            .custom_created_at(Timestamp::from_secs(secs))
            .finalize(keys)
            .unwrap()
    }

    #[test]
    fn what_its_author_or_a_maintainer_has_closed_last_is_not_open() {
        let [maintainer, author, stranger] = [(); 3].map(|()| Keys::generate());
        let issue = event(&author, nip34::ISSUE, None, 1);
        let closed = event(&author, nip34::ISSUE, None, 2);
        let reopened = event(&author, nip34::PULL_REQUEST, None, 3);
        let patch = event(&author, nip34::PATCH, None, 4);
        let statuses = [
            event(&stranger, 1632, Some(&issue), 9),
            event(&author, 1632, Some(&closed), 5),
            event(&maintainer, 1632, Some(&reopened), 6),
            event(&author, nip34::STATUS_FIRST, Some(&reopened), 7),
            event(&maintainer, 1631, Some(&patch), 8),
        ];

        let count = open(
            &[issue, closed, reopened, patch],
            &statuses,
            &[maintainer.public_key()].into(),
        );

        let expected = OpenCount {
            issues: 1,
            pull_requests: 1,
            is_partial: false,
        };
        assert_eq!(count, expected);
    }
}
