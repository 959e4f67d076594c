//! Whether the services that the server needs answer: Redis, the relay, the disk. Checked on demand, once for all who
//! ask at the same time.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use nostr::event::EventId;
use nostr::filter::Filter;
use rustix::fs::StatVfsMountFlags;
use shared::live::Live;
use shared::purgatory::InventoryCounts;
use shared::purgatory::Purgatory;
use shared::relay_client::RelayClient;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio::time::timeout;

use crate::command_error::causes;
use crate::repositories::disk_use::DiskLimits;

/// Checks the services that the server needs.
pub(crate) struct Health {
    pub(crate) purgatory: Purgatory,
    pub(crate) relay: RelayClient,
    /// Where the repositories are.
    pub(crate) data_dir: PathBuf,
    /// Among them the bytes that must be free there.
    pub(crate) disk_limits: Live<DiskLimits>,
    /// Whether the purgatory is in Redis, and not in memory.
    pub(crate) has_redis: bool,
    pub(crate) state: Mutex<HealthState>,
}

/// The last result, and the checks that have not returned yet.
#[derive(Default)]
pub(crate) struct HealthState {
    last: Option<(Instant, HealthReport)>,
    disk_check: Option<JoinHandle<Result<DiskRoom, HealthFault>>>,
}

/// The result of a check for each service.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct HealthReport {
    /// The counts of waiting events.
    pub(super) redis: PartAnswer<InventoryCounts>,
    /// `false`: the purgatory is in memory.
    pub(super) has_redis: bool,
    /// That it answers a query.
    pub(super) relay: PartAnswer<()>,
    /// The free space.
    pub(super) disk: PartAnswer<DiskRoom>,
}

/// The answer of one service, and its duration.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PartAnswer<T> {
    /// The answer, or the problem.
    pub(super) answer: Result<T, HealthFault>,
    /// How long it took.
    pub(super) took: Duration,
}

/// A problem of a service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum HealthFault {
    #[error("no answer in {} s", ANSWER_MAX.as_secs())]
    Silent,
    /// It has answered with an error.
    #[error("{0}")]
    Failed(String),
    #[error("the file system of the data directory is read-only")]
    ReadOnly,
    #[error("{bytes_free} bytes are free, less than --disk-free-min ({free_min}): pushes are refused")]
    NoRoom { bytes_free: u64, free_min: u64 },
}

impl HealthFault {
    /// An error with its causes, for one line.
    fn of(error: impl std::error::Error) -> Self {
        Self::Failed(causes(&error))
    }
}

/// How much room there is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DiskRoom {
    /// Bytes that are free for this user.
    pub(super) bytes_free: u64,
}

impl Health {
    /// Checks, unless there is a recent result.
    pub(super) async fn check(&self) -> HealthReport {
        let mut state = self.state.lock().await;
        if let Some((at, report)) = &state.last
            && at.elapsed() < BELIEVED_FOR
        {
            return report.clone();
        }
        let (redis, relay, disk) = tokio::join!(
            within(async { self.purgatory.counts().await.map_err(HealthFault::of) }),
            within(self.ask_relay()),
            within(self.ask_disk(&mut state.disk_check)),
        );
        let report = HealthReport {
            redis,
            has_redis: self.has_redis,
            relay,
            disk,
        };
        state.last = Some((Instant::now(), report.clone()));
        report
    }

    /// Asks for an event that is not there.
    async fn ask_relay(&self) -> Result<(), HealthFault> {
        let nothing = Filter::new().id(EventId::from_byte_array([0; 32]));
        self.relay.any(vec![nothing]).await.map(drop).map_err(HealthFault::of)
    }

    /// Asks the file system, which may hang: then it is not asked again until it has answered.
    async fn ask_disk(
        &self,
        check: &mut Option<JoinHandle<Result<DiskRoom, HealthFault>>>,
    ) -> Result<DiskRoom, HealthFault> {
        let running = check.get_or_insert_with(|| {
            let (data_dir, free_min) = (self.data_dir.clone(), self.disk_limits.get().free_min);
            tokio::task::spawn_blocking(move || {
                let found = rustix::fs::statvfs(&data_dir);
                let found = found.map_err(HealthFault::of)?;
                let is_read_only = found.f_flag.contains(StatVfsMountFlags::RDONLY);
                judge_disk(found.f_bavail.saturating_mul(found.f_frsize), free_min, is_read_only)
            })
        });
        let found = running.await;
        *check = None;
        found.unwrap_or_else(|error| Err(HealthFault::of(error)))
    }
}

/// Interprets the file system's numbers.
fn judge_disk(bytes_free: u64, free_min: u64, is_read_only: bool) -> Result<DiskRoom, HealthFault> {
    match is_read_only {
        true => Err(HealthFault::ReadOnly),
        false if bytes_free < free_min => Err(HealthFault::NoRoom { bytes_free, free_min }),
        false => Ok(DiskRoom { bytes_free }),
    }
}

async fn within<T>(ask: impl Future<Output = Result<T, HealthFault>>) -> PartAnswer<T> {
    let start = Instant::now();
    let answer = timeout(ANSWER_MAX, ask).await;
    let answer = answer.unwrap_or(Err(HealthFault::Silent));
    PartAnswer {
        answer,
        took: start.elapsed(),
    }
}

/// How long a service may take: together with the time that a result is reused, a dead service is reported within 2 s.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// How long a result is reused, however often somebody asks.
const BELIEVED_FOR: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_well_while_it_can_be_written_and_has_room() {
        assert_eq!(judge_disk(10, 10, false), Ok(DiskRoom { bytes_free: 10 }));
        assert!(
            judge_disk(9, 10, false)
                .unwrap_err()
                .to_string()
                .contains("--disk-free-min")
        );
        assert_eq!(judge_disk(10, 10, true), Err(HealthFault::ReadOnly));
    }
}
