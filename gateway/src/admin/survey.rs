//! What the purgatory contains at one time, and what has become of events lately.

use std::time::Duration;

use shared::decision_counts::DecisionCount;
use shared::decision_counts::decisions;
use shared::purgatory::InventoryCounts;
use shared::purgatory::NotedRefusal;
use shared::purgatory::Purgatory;
use shared::purgatory::PurgatoryError;
use tokio::sync::watch;
use tokio::time::Instant;

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
}

impl Survey {
    /// Reads at most [`ROWS_MAX`] rows, and the latest refusals.
    pub(super) async fn take(purgatory: &Purgatory) -> Result<Self, PurgatoryError> {
        let mut rows = Vec::new();
        each_row(purgatory, |row| {
            rows.push(row);
            rows.len() < ROWS_MAX
        })
        .await?;
        Ok(Self {
            counts: purgatory.counts().await?,
            rows: in_order(rows),
            refusals: purgatory.refusals(REFUSALS_MAX).await?,
            decisions: decisions(purgatory).await?,
        })
    }

    /// How many events and early commits there are that were not read.
    pub(super) fn unread(&self) -> u64 {
        let counts = &self.counts;
        let all = counts.waiting + counts.releasing + counts.placeholders;
        all.saturating_sub(self.rows.len() as u64)
    }
}

/// The last survey, or why there is none; `None`: none was taken yet.
pub(crate) type LastSurvey = Option<Result<Survey, PurgatoryError>>;

/// Takes surveys at intervals, so that requests for one do not keep Redis busy.
pub(crate) fn keep_surveying(purgatory: Purgatory) -> watch::Receiver<LastSurvey> {
    let (sender, receiver) = watch::channel(None);
    tokio::spawn(async move {
        loop {
            let start = Instant::now();
            if sender.send(Some(Survey::take(&purgatory).await)).is_err() {
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

/// Refusals of one survey.
const REFUSALS_MAX: usize = 50;

/// Between two surveys, while they are short.
const SURVEY_PAUSE: Duration = Duration::from_secs(2);

/// Surveys take at most this fraction of the time.
const WORK_SHARE: u32 = 20;
