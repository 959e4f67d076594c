//! How many events were accepted, held and refused, by kind: counted in the purgatory, for all who decide about them.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::nip34;
use crate::purgatory::Purgatory;
use crate::purgatory::PurgatoryError;

/// Counts decisions. Clones count together.
#[derive(Clone)]
pub struct DecisionCounts {
    counts: Arc<[AtomicU64; KINDS.len() * DECISIONS.len()]>,
}

impl DecisionCounts {
    /// Counts from now on, and adds the counts to the purgatory every few seconds. Must be called inside a tokio
    /// runtime.
    pub fn begin(purgatory: Purgatory) -> Self {
        let counts = Arc::new(std::array::from_fn(|_| AtomicU64::default()));
        let own = Self { counts };
        let counting = own.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(PAUSE).await;
                counting.hand_over(&purgatory).await;
            }
        });
        own
    }

    /// Counts the answer to an event of this kind.
    pub fn add(&self, kind: u16, decision: Decision) {
        let kind = match kind {
            nip34::ANNOUNCEMENT => 0,
            nip34::STATE => 1,
            nip34::PULL_REQUEST | nip34::PULL_REQUEST_UPDATE => 2,
            nip34::DELETION | nip34::VANISH => 3,
            _ => 4,
        };
        self.counts[kind * DECISIONS.len() + decision as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Adds the counts to the purgatory. Counts that it does not accept are added the next time.
    async fn hand_over(&self, purgatory: &Purgatory) {
        let counts = self.counts.iter().map(|count| count.swap(0, Ordering::Relaxed));
        let counts: Vec<u64> = counts.collect();
        if counts.iter().all(|count| *count == 0) {
            return;
        }
        let named = names().into_iter().zip(&counts).filter(|(_, count)| **count > 0);
        let named: Vec<(String, u64)> = named.map(|(name, count)| (name, *count)).collect();
        if purgatory.add_decisions(&named).await.is_err() {
            for (count, more) in self.counts.iter().zip(counts) {
                count.fetch_add(more, Ordering::Relaxed);
            }
        }
    }
}

/// How many events of a kind were decided about in one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecisionCount {
    /// `state`.
    pub kind: &'static str,
    /// `held`.
    pub decision: &'static str,
    /// How many.
    pub count: u64,
}

/// Returns how many decisions there were, of each kind.
///
/// # Errors
/// The purgatory does not answer.
pub async fn decisions(purgatory: &Purgatory) -> Result<Vec<DecisionCount>, PurgatoryError> {
    let counts = purgatory.decisions(&names()).await?;
    let kinds = KINDS
        .iter()
        .flat_map(|kind| DECISIONS.map(|decision| (*kind, decision)));
    let counted = kinds
        .zip(counts)
        .map(|((kind, decision), count)| DecisionCount { kind, decision, count });
    Ok(counted.collect())
}

/// Returns their names in the purgatory.
fn names() -> Vec<String> {
    let kinds = KINDS
        .iter()
        .flat_map(|kind| DECISIONS.map(|decision| format!("{kind}:{decision}")));
    kinds.collect()
}

/// The decision about an event.
#[derive(Debug, Clone, Copy)]
pub enum Decision {
    /// The relay stores it.
    Accepted,
    /// It is in the purgatory.
    Held,
    /// It is neither held nor stored.
    Refused,
}

/// In the order of [`Decision`].
const DECISIONS: [&str; 3] = ["accepted", "held", "refused"];

const KINDS: [&str; 5] = ["announcement", "state", "pull-request", "deletion", "other"];

/// Between two calls of the purgatory.
const PAUSE: Duration = Duration::from_secs(2);
