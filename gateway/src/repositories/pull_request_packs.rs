//! What the commit of a PR needs, told from what came with it: outside of the repository's lock, with a bound on the
//! CPU time. Under the lock it only moves.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Instant;

use shared::git::Oid;

use crate::git::error::GitError;
use crate::repositories::error::RepositoryError;
use crate::repositories::layout::bytes_below;
use crate::repositories::layout::in_background;
use crate::repositories::objects::object_kinds;
use crate::repositories::pack::IngestError;
use crate::repositories::pack::IngestLimits;
use crate::repositories::quarantine::Quarantine;
use crate::repositories::surplus::NewPacks;

/// For each commit the objects that it needs; `None`: all that came.
pub(super) type NeededByCommit = BTreeMap<Oid, Option<Quarantine>>;

/// Sorts a push for each of these commits by itself, as far as they came or are here. Together that costs no more than
/// one may.
///
/// # Errors
/// [`RepositoryError`], with the reason for the pusher if it costs too much.
pub(super) async fn sort_for_each(
    whole: &Quarantine,
    commits: BTreeSet<Oid>,
    limits: &IngestLimits,
) -> Result<NeededByCommit, RepositoryError> {
    let mut needed = NeededByCommit::new();
    if commits.is_empty() {
        return Ok(needed);
    }
    let (began, repository) = (Instant::now(), whole.repository());
    let packs = NewPacks::new(whole.object_dir(), repository, None);
    let mut copied_bytes = 0;
    let copied_bytes_max = 2 * bytes_of(whole).await? + COPIED_BYTES_FREE;
    // Others did not come, which is for the decision under the lock to tell.
    let here = object_kinds(whole.readable(), commits.into_iter().collect()).await?;
    for commit_oid in here.into_keys() {
        let limits = limits.of_pull_request(began.elapsed());
        let sorted = async {
            // What it builds on may be kept aside with parts of a state, and go with them.
            if whole.kept().is_none() && !packs.have_surplus(&[commit_oid].into(), &limits).await? {
                return Ok(None);
            }
            let copied = Quarantine::copy(&whole.readable(), &[commit_oid], repository, None, &limits).await?;
            Ok(Some(copied))
        };
        let sorted = sorted.await.map_err(|error| too_dear(error, &limits))?;
        if let Some(copied) = &sorted {
            copied_bytes += bytes_of(copied).await?;
        }
        if copied_bytes > copied_bytes_max {
            return Err(IngestError::CommitsApart.into());
        }
        needed.insert(commit_oid, sorted);
    }
    Ok(needed)
}

async fn bytes_of(quarantine: &Quarantine) -> Result<u64, RepositoryError> {
    let path = quarantine.object_dir().join("pack");
    Ok(in_background(move || bytes_below(&path, &mut BTreeSet::new())).await?)
}

/// Names the reason if it is what a PR may cost.
pub(super) fn too_dear(error: RepositoryError, limits: &IngestLimits) -> RepositoryError {
    let is_limit = matches!(
        error,
        RepositoryError::Ingest(IngestError::TooExpensive | IngestError::Deadline { .. })
            | RepositoryError::Git(GitError::Deadline { .. })
    );
    let cpu_secs = limits.pull_request_cpu_secs_max;
    match is_limit {
        true => IngestError::PullRequestTooDear { cpu_secs }.into(),
        false => error,
    }
}

/// What the copies of one push may take on the disk in addition to twice what came: commits that share little.
const COPIED_BYTES_FREE: u64 = 16 << 20;
