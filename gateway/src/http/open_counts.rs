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

/// Counts what the relay has, a bounded number of bytes of each payer: what one of them has published hides nothing of
/// another but an issue that is older than the newest.
async fn count(
    relay: &RelayClient,
    coordinate: &Coordinate,
    maintainers: &BTreeSet<PublicKey>,
) -> Result<OpenCount, RelayError> {
    let offered = Filter::new()
        .kinds([nip34::ISSUE, nip34::PATCH, nip34::PULL_REQUEST].map(Kind::from_u16))
        .custom_tag(SingleLetterTag::LOWERCASE_A, coordinate.to_string())
        .limit(OFFERED_MAX);
    let (offered, are_all) = relay.newest_cut(OFFERED_BYTES_MAX, offered).await?;
    let is_partial = !are_all || offered.len() >= OFFERED_MAX;
    let offered: Vec<Offered> = offered.iter().map(Offered::of).collect();
    if offered.is_empty() {
        return Ok(OpenCount::default());
    }
    let mut newest = NewestStatuses::default();
    // A stranger's status on an issue of somebody else does not count.
    let of_all = statuses(maintainers.iter().copied(), &offered).limit(STATUSES_MAX);
    let (found, _) = relay.newest_cut(MAINTAINERS_BYTES_MAX, of_all).await?;
    newest.note(&found, |_| true);
    let mut own: BTreeMap<PublicKey, Vec<Offered>> = BTreeMap::new();
    for offered in offered.iter().filter(|offered| !maintainers.contains(&offered.author)) {
        own.entry(offered.author).or_default().push(*offered);
    }
    let all_are_noted = match tokio::time::timeout(OWN_TIME_MAX, note_own(relay, &own, &mut newest)).await {
        Ok(noted) => noted.map(|()| true)?,
        // They are the strangers' own, and large.
        Err(_) => false,
    };
    Ok(newest.open(&offered, is_partial || !all_are_noted))
}

/// Notes the newest statuses of authors on what they have offered themselves: together where all are few and small, and
/// otherwise each by itself, the newest of them.
async fn note_own(
    relay: &RelayClient,
    own: &BTreeMap<PublicKey, Vec<Offered>>,
    newest: &mut NewestStatuses,
) -> Result<(), RelayError> {
    let of_author = |(author, offered): (&PublicKey, &Vec<Offered>)| {
        statuses([*author].into_iter(), offered).limit(STATUSES_EACH_MAX * offered.len())
    };
    let authors: Vec<(&PublicKey, &Vec<Offered>)> = own.iter().collect();
    for some in authors.chunks(AUTHORS_TOGETHER_MAX) {
        let together = some.iter().copied().map(of_author).collect();
        let mut found = match relay.newest(TOGETHER_BYTES_MAX, together).await {
            Err(error) if error.is_too_much() => Vec::new(),
            found => vec![found?],
        };
        if found.is_empty() {
            for one in some.iter().copied() {
                found.push(relay.newest_cut(AUTHOR_BYTES_MAX, of_author(one)).await?.0);
            }
        }
        for found in found {
            newest.note(&found, |(author, event_id)| {
                let offered = own.get(author).into_iter().flatten();
                offered.clone().any(|offered| offered.event_id == *event_id)
            });
        }
    }
    Ok(())
}

/// Returns a filter for the statuses of some authors.
fn statuses(authors: impl Iterator<Item = PublicKey>, offered: &[Offered]) -> Filter {
    Filter::new()
        .kinds((nip34::STATUS_FIRST..=nip34::STATUS_LAST).map(Kind::from_u16))
        .authors(authors)
        .events(offered.iter().map(|offered| offered.event_id))
}

/// What is counted of an issue or a PR.
#[derive(Debug, Clone, Copy)]
struct Offered {
    event_id: EventId,
    author: PublicKey,
    is_issue: bool,
}

impl Offered {
    fn of(event: &Event) -> Self {
        Self {
            event_id: event.id,
            author: event.pubkey,
            is_issue: event.kind.as_u16() == nip34::ISSUE,
        }
    }
}

/// The time and the kind of the newest status of each.
#[derive(Debug, Default)]
struct NewestStatuses(BTreeMap<EventId, (u64, u16)>);

impl NewestStatuses {
    /// Notes statuses, each for the events for which it counts by its author.
    fn note(&mut self, statuses: &[Event], counts: impl Fn((&PublicKey, &EventId)) -> bool) {
        for status in statuses {
            let newest = (status.created_at.as_secs(), status.kind.as_u16());
            for event_id in status.tags.event_ids() {
                let known = self.0.get(&event_id);
                if counts((&status.pubkey, &event_id)) && known.is_none_or(|known| known.0 < newest.0) {
                    self.0.insert(event_id, newest);
                }
            }
        }
    }

    /// Counts those whose newest status does not end them.
    fn open(&self, offered: &[Offered], is_partial: bool) -> OpenCount {
        let is_open = |offered: &&Offered| {
            let status = self.0.get(&offered.event_id);
            // The first one of the kinds is "open".
            status.is_none_or(|(_, kind)| *kind == nip34::STATUS_FIRST)
        };
        let (issues, pull_requests): (Vec<&Offered>, Vec<&Offered>) =
            (offered.iter().filter(is_open)).partition(|offered| offered.is_issue);
        OpenCount {
            issues: issues.len(),
            pull_requests: pull_requests.len(),
            is_partial,
        }
    }
}

const AGE_MAX: Duration = Duration::from_secs(60);

/// For how long others are not counted because of one repository.
const COUNTING_TIME_MAX: Duration = Duration::from_secs(5);

/// Repositories whose count is kept, some 300 bytes each.
const COUNTED_MAX: usize = 10_000;

/// Counts at the same time: each may take as much memory as one request of it.
const COUNTING_MAX: usize = 2;

const OFFERED_MAX: usize = 100;

/// Memory of these: a hundred of 40 KB.
const OFFERED_BYTES_MAX: usize = 4 << 20;

/// Statuses of the maintainers: few issues have more than two.
const STATUSES_MAX: usize = 400;

/// Memory of these.
const MAINTAINERS_BYTES_MAX: usize = 4 << 20;

/// Statuses of an author on each of those that the author has offered.
const STATUSES_EACH_MAX: usize = 4;

/// Authors whose statuses are asked for together.
const AUTHORS_TOGETHER_MAX: usize = 50;

/// Memory of the statuses of so many authors, where none of them is large.
const TOGETHER_BYTES_MAX: usize = 1 << 20;

/// Memory of the statuses of one author where some are: the newest two of those of 256 KiB.
const AUTHOR_BYTES_MAX: usize = 256 << 10;

/// For how long the statuses of others than maintainers are read.
const OWN_TIME_MAX: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use nostr::event::EventBuilder;
    use nostr::event::FinalizeEvent;
    use nostr::event::Tag;
    use nostr::key::Keys;
    use nostr::types::Timestamp;
    use relay::EventPolicy;
    use relay::RelayLimits;
    use relay::RelayServer;
    use shared::purgatory::Reading;
    use shared::relay_client::PublishOutcome;
    use shared::rules::Covered;
    use shared::rules::MaintainerMode;
    use shared::write_policy::Answer;

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

        let offered = [issue, closed, reopened, patch];
        let mut newest = NewestStatuses::default();
        newest.note(&statuses[2..3], |_| true);
        newest.note(&statuses[4..], |_| true);
        newest.note(
            &[statuses[0].clone(), statuses[1].clone(), statuses[3].clone()],
            |(author, event_id)| {
                offered
                    .iter()
                    .any(|offered| offered.id == *event_id && offered.pubkey == *author)
            },
        );
        let offered: Vec<Offered> = offered.iter().map(Offered::of).collect();
        let count = newest.open(&offered, false);

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

    struct Open;

    impl EventPolicy for Open {
        async fn judge(&mut self, _: &Event, _: IpAddr) -> Answer {
            Answer::Accept
        }
    }

    fn about(keys: &Keys, kind: u16, tags: [[&str; 2]; 1], (secs, bytes): (u64, usize)) -> Event {
        EventBuilder::new(Kind::from_u16(kind), "x".repeat(bytes))
            .tags(tags.iter().map(|tag| Tag::parse(*tag).unwrap()))
            .custom_created_at(Timestamp::from_secs(NOW + secs))
            .finalize(keys)
            .unwrap()
    }

    #[tokio::test]
    async fn large_statuses_and_issues_of_a_stranger_hide_nobody_elses() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        let database = tempfile::tempdir().unwrap();
        let limits = RelayLimits::default();
        let server = RelayServer::start(listener, database.path(), Open, limits)
            .await
            .unwrap();
        let relay = RelayClient::new(url.parse().unwrap(), Duration::from_secs(60));
        let repository = coordinate("r");
        let at = repository.to_string();
        let [maintainer, author, stranger] = [(); 3].map(|()| Keys::generate());
        let publish = async |event: &Event| {
            assert_eq!(relay.publish(event).await, PublishOutcome::Stored);
        };
        let issue = |keys, size| about(keys, nip34::ISSUE, [["a", &at]], size);
        let status = |keys, of: &Event, size| about(keys, 1632, [["e", &of.id.to_hex()]], size);
        let [open, closed, ended, strange] =
            [(&author, 1), (&author, 2), (&author, 3), (&stranger, 4)].map(|(keys, secs)| issue(keys, (secs, 10)));
        for event in [&open, &closed, &ended, &strange] {
            publish(event).await;
        }
        publish(&status(&author, &closed, (10, 10))).await;
        publish(&status(&maintainer, &ended, (10, 10))).await;
        // More than is read of them all.
        for secs in 20..90 {
            publish(&status(&stranger, &strange, (secs, LARGE))).await;
        }
        let maintainers = [maintainer.public_key()].into();

        let among_statuses = count(&relay, &repository, &maintainers).await.unwrap();
        for secs in 100..120 {
            publish(&issue(&stranger, (secs, LARGE))).await;
        }
        let among_issues = count(&relay, &repository, &maintainers).await.unwrap();

        let expected = OpenCount {
            issues: 1,
            ..OpenCount::default()
        };
        assert_eq!(among_statuses, expected);
        assert!(among_issues.is_partial && among_issues.issues > 10, "{among_issues:?}");
        drop(server);
    }

    /// The relay takes no events of the first years of Unix.
    const NOW: u64 = 1_700_000_000;

    /// Of one event.
    const LARGE: usize = 250_000;
}
