//! What the purgatory contains at one time, and what has become of events lately.

use std::collections::BTreeMap;
use std::time::Duration;

use nostr::event::EventId;
use shared::decision_counts::DecisionCount;
use shared::decision_counts::decisions;
use shared::purgatory::EntryStatus;
use shared::purgatory::InventoryCounts;
use shared::purgatory::InventoryIndex;
use shared::purgatory::NotedRefusal;
use shared::purgatory::Purgatory;
use shared::purgatory::PurgatoryError;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::admin::entries::Pages;
use crate::admin::entries::each_row;
use crate::admin::rows::Row;
use crate::admin::rows::in_order;

/// What there is at one time.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Survey {
    pub(super) counts: InventoryCounts,
    /// The oldest first.
    pub(super) rows: Vec<Row>,
    /// Refusals with their times, the latest first.
    pub(super) refusals: Vec<(u64, NotedRefusal)>,
    /// How many events were accepted, held and refused.
    pub(super) decisions: Vec<DecisionCount>,
    /// By status: for how many seconds the longest release has lasted.
    pub(super) unreleased_secs: BTreeMap<&'static str, u64>,
}

impl Survey {
    /// Reads at most [`ROWS_MAX`] rows of events that wait, [`RELEASING_ROWS_MAX`] of others, and the latest refusals.
    pub(super) async fn take(purgatory: &Purgatory) -> Result<Self, PurgatoryError> {
        Ok(Self {
            rows: rows(purgatory, ROWS_MAX, RELEASING_ROWS_MAX).await?,
            counts: purgatory.counts().await?,
            refusals: purgatory.refusals(REFUSALS_MAX).await?,
            decisions: decisions(purgatory).await?,
            unreleased_secs: BTreeMap::new(),
        })
    }

    /// How many events and early commits there are that were not read.
    pub(super) fn unread(&self) -> u64 {
        let counts = &self.counts;
        let all = counts.waiting + counts.releasing + counts.placeholders;
        all.saturating_sub(self.rows.len() as u64)
    }
}

/// Reads rows, so many of those that wait and of those that are releasing: however many wait, it is seen what is not
/// released.
async fn rows(purgatory: &Purgatory, waiting_max: usize, releasing_max: usize) -> Result<Vec<Row>, PurgatoryError> {
    let mut rows = Vec::new();
    // In the order in which events move.
    for (index, count_max) in [
        (InventoryIndex::Waiting, waiting_max),
        (InventoryIndex::Releasing, releasing_max),
    ] {
        let rows_max = rows.len() + count_max;
        let reading = each_row(Pages::of(purgatory, index), |row| {
            rows.push(row);
            rows.len() < rows_max
        });
        reading.await?;
    }
    Ok(in_order(rows))
}

/// Since when events are releasing or stuck, as far as this program has seen: an earlier version beside it does not
/// record that.
#[derive(Debug, Default)]
struct ReleasingSince(BTreeMap<EventId, Instant>);

impl ReleasingSince {
    /// Notes the rows of a survey at `now`, which the purgatory's clock shows as `unix_secs`. Returns by status for how
    /// many seconds the longest release has lasted.
    fn note(&mut self, rows: &[Row], now: Instant, unix_secs: u64) -> BTreeMap<&'static str, u64> {
        let before = std::mem::take(&mut self.0);
        let mut longest = BTreeMap::<_, u64>::new();
        for row in rows
            .iter()
            .filter(|row| row.status.is_some_and(EntryStatus::counts_as_served))
        {
            let since = before.get(&row.event_id).copied().unwrap_or(now);
            self.0.insert(row.event_id, since);
            let recorded = row.releasing_since.map(|since| unix_secs.saturating_sub(since));
            let lasts = recorded.unwrap_or_else(|| now.duration_since(since).as_secs());
            let secs = longest.entry(row.status_name()).or_default();
            *secs = lasts.max(*secs);
        }
        longest
    }
}

/// The last survey, or why there is none; `None`: none was taken yet.
pub(crate) type LastSurvey = Option<Result<Survey, PurgatoryError>>;

/// Takes surveys at intervals, so that requests for one do not keep Redis busy.
pub(crate) fn keep_surveying(purgatory: Purgatory) -> watch::Receiver<LastSurvey> {
    let (sender, receiver) = watch::channel(None);
    tokio::spawn(async move {
        let mut releasing = ReleasingSince::default();
        loop {
            let start = Instant::now();
            let survey = Survey::take(&purgatory).await.map(|survey| Survey {
                unreleased_secs: releasing.note(&survey.rows, start, survey.counts.now),
                ..survey
            });
            if sender.send(Some(survey)).is_err() {
                return;
            }
            tokio::time::sleep(pause_after(start.elapsed())).await;
        }
    });
    receiver
}

/// Returns how long to wait after a survey that took this long.
pub(super) fn pause_after(took: Duration) -> Duration {
    SURVEY_PAUSE.max(took * WORK_SHARE)
}

/// Rows of one survey: some seconds of Redis' time, 10 MB here.
const ROWS_MAX: usize = 10_000;

/// As a rule there is none.
const RELEASING_ROWS_MAX: usize = 1_000;

/// Refusals of one survey.
const REFUSALS_MAX: usize = 50;

/// Between two surveys, while they are short.
const SURVEY_PAUSE: Duration = Duration::from_secs(2);

/// Surveys take at most this fraction of the time.
const WORK_SHARE: u32 = 20;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use nostr::key::Keys;
    use shared::nip34;
    use shared::purgatory::Hold;
    use shared::purgatory::Limits;
    use shared::purgatory::Release;
    use shared::purgatory::Room;

    use super::*;
    use crate::admin::needs::tests::event;
    use crate::admin::rows::tests::row;
    use crate::repositories::testing::coordinate;

    /// An event that was held for a week, and became complete now, was an alert at once.
    #[test]
    fn a_release_lasts_from_when_it_was_seen_first() {
        let (mut releasing, start) = (ReleasingSince::default(), Instant::now());
        let mut seen = |secs, rows: &[Row]| releasing.note(rows, start + Duration::from_secs(secs), 1000 + secs);
        let (held, now) = (row('a', 0, EntryStatus::Held), row('a', 0, EntryStatus::Releasing));
        let stuck = row('b', 0, EntryStatus::Stuck);

        assert_eq!(seen(0, &[held, stuck.clone()]), BTreeMap::from([("stuck", 0)]));
        assert_eq!(seen(10, std::slice::from_ref(&now)), BTreeMap::from([("releasing", 0)]));
        let both = seen(70, &[now.clone(), stuck]);
        assert_eq!(both, BTreeMap::from([("releasing", 60), ("stuck", 0)]));
        assert_eq!(seen(80, &[]), BTreeMap::new());
        assert_eq!(seen(90, std::slice::from_ref(&now)), BTreeMap::from([("releasing", 0)]));
        let mut recorded = now;
        recorded.releasing_since = Some(1010);
        assert_eq!(
            seen(95, &[recorded]),
            BTreeMap::from([("releasing", 85)]),
            "whoever saw it first"
        );
    }

    /// Where more events waited than one survey reads, it read none that was releasing.
    #[tokio::test]
    async fn what_is_releasing_is_seen_however_many_wait() {
        let purgatory = Purgatory::in_memory(Limits::DEFAULT, Arc::new(|| 1));
        let keys = Keys::generate();
        for identifier in ["a", "b", "c"] {
            let hold = Hold {
                event: event(&keys, nip34::STATE, &[&["d", identifier]]),
                coordinates: [coordinate(identifier)].into(),
                source: String::new(),
                hold_secs: 100,
                extend: BTreeSet::new(),
                room: Room::Always,
                is_new_repository: false,
                behind: None,
            };
            purgatory.hold(&hold).await.unwrap();
        }
        let release = Release {
            event: event(&keys, nip34::STATE, &[&["d", "d"]]).into(),
            coordinates: [coordinate("d")].into(),
            after: BTreeSet::new(),
        };
        let releasing = release.event.id;
        drop(purgatory.mark_releasing(&[release], 10).await.unwrap());

        let seen = rows(&purgatory, 2, 2).await.unwrap();

        assert_eq!(seen.len(), 3);
        let last = seen.iter().find(|row| row.event_id == releasing).unwrap();
        assert_eq!(last.status, Some(EntryStatus::Releasing));
    }
}
