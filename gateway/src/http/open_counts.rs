//! How many issues and PRs of a repository are open (NIP-34, "Status"), according to the relay. Anyone may send them,
//! so only the newest are counted, from time to time, and no page waits for it.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
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

use crate::logged::logged;

pub(super) struct OpenCounts {
    /// The last count, and when it began; `None`: it failed.
    counted: Cache<Coordinate, (Instant, Option<OpenCount>)>,
    counting: Arc<Semaphore>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct OpenCount {
    pub(crate) issues: usize,
    pub(crate) pull_requests: usize,
    /// Whether there may be more.
    pub(crate) is_partial: bool,
}

impl OpenCounts {
    pub(super) fn new() -> Self {
        Self {
            counted: Cache::new(COUNTED_MAX),
            counting: Arc::new(Semaphore::new(COUNTING_MAX)),
        }
    }

    /// Returns how many were open at the last count; `None`: unknown. If that was more than a minute ago, they are
    /// counted for later requests, unless others are being counted.
    pub(super) fn of(
        self: &Arc<Self>,
        relay: &RelayClient,
        coordinate: &Coordinate,
        facts: &Facts,
    ) -> Option<OpenCount> {
        let counted = self.counted.get(coordinate);
        let last = counted.and_then(|(_, count)| count);
        if counted.is_some_and(|(when, _)| when.elapsed() < AGE_MAX) {
            return last;
        }
        let Ok(permit) = Arc::clone(&self.counting).try_acquire_owned() else {
            return last;
        };
        // No other task counts them meanwhile.
        let began = Instant::now();
        self.counted.insert(coordinate.clone(), (began, last));
        let (this, relay, coordinate) = (Arc::clone(self), relay.clone(), coordinate.clone());
        let maintainers = facts.membership(&coordinate).confirmed.into_iter().collect();
        tokio::spawn(async move {
            let _permit = permit;
            match tokio::time::timeout(COUNTING_TIME_MAX, count(&relay, &coordinate, &maintainers)).await {
                Ok(Ok(count)) => this.counted.insert(coordinate, (began, Some(count))),
                Ok(Err(error)) => {
                    tracing::debug!(repo.coordinate = %coordinate, error = logged(&error), "cannot count open issues and PRs");
                }
                Err(_) => tracing::debug!(repo.coordinate = %coordinate, "counting open issues and PRs takes too long"),
            }
        });
        last
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
    // Statuses by strangers on others' issues do not count, and would fill the answer.
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

const AGE_MAX: Duration = Duration::from_secs(60);

/// For how long others are not counted because of one repository.
const COUNTING_TIME_MAX: Duration = Duration::from_secs(5);

/// Repositories whose count is kept, some 300 bytes each.
const COUNTED_MAX: usize = 10_000;

/// Counts at the same time: each may load as many events as are counted.
const COUNTING_MAX: usize = 2;

const OFFERED_MAX: usize = 100;

/// Their authors, and the maintainers, at most 200.
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
    use shared::purgatory::Reading;
    use shared::rules::Covered;
    use shared::rules::MaintainerMode;

    use super::*;
    use crate::repositories::testing::coordinate;

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

    /// Others' repositories are being counted, and the relay does not answer.
    #[tokio::test]
    async fn no_page_waits_and_what_is_not_counted_now_is_counted_later() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}", silent.local_addr().unwrap());
        let relay = RelayClient::new(url.parse().unwrap(), Duration::from_secs(60));
        let counts = Arc::new(OpenCounts::new());
        let facts = Facts::assemble(
            "git.example.com".parse().unwrap(),
            MaintainerMode::default(),
            Arc::default(),
            Covered::default(),
            Reading::default(),
            Vec::new(),
        );
        let [one, two, three] = ["one", "two", "three"].map(coordinate);
        let known = OpenCount {
            issues: 3,
            ..OpenCount::default()
        };
        let long_ago = Instant::now() - 2 * AGE_MAX;
        counts.counted.insert(two.clone(), (long_ago, Some(known)));

        for _ in 0..2 {
            assert_eq!(counts.of(&relay, &one, &facts), None);
        }
        assert_eq!(counts.counting.available_permits(), COUNTING_MAX - 1);
        assert_eq!(counts.of(&relay, &two, &facts), Some(known));
        assert_eq!(counts.counting.available_permits(), COUNTING_MAX - 2);
        assert_eq!(counts.of(&relay, &three, &facts), None);

        assert!(counts.counted.get(&three).is_none());
    }
}
