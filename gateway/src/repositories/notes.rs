//! Notes that the gateway keeps in a repository about why it is not served. Each is a small file beside HEAD.

use crate::repositories::error::RepositoryError;
use crate::repositories::layout::FileError;
use crate::repositories::layout::failed;
use crate::repositories::layout::if_found;
use crate::repositories::repository::Repository;

/// Since when nobody announces the repository here, unix seconds.
const UNHOSTED_SINCE: &str = "grasp-unhosted-since";
/// There: the events that declared its refs were lost.
const STATELESS: &str = "grasp-undeclared";

impl Repository {
    /// Returns since when the repository is kept although nobody announces it here, unix seconds.
    pub(crate) async fn unhosted_since(&self) -> Result<Option<u64>, RepositoryError> {
        let path = self.path().join(UNHOSTED_SINCE);
        let text = if_found(tokio::fs::read_to_string(&path).await).map_err(failed("read", &path))?;
        Ok(text.and_then(|text| text.trim().parse().ok()))
    }

    /// Whether the repository is kept although the events that declared its refs were lost.
    pub(crate) async fn is_stateless(&self) -> Result<bool, RepositoryError> {
        let path = self.path().join(STATELESS);
        let noted = tokio::fs::try_exists(&path).await;
        Ok(noted.map_err(failed("look for", &path))?)
    }

    /// Whether one of these notes is there, or may be. Blocks.
    pub(super) fn is_kept_unserved(&self) -> bool {
        let may_be_here = |name: &&str| !matches!(self.path().join(name).try_exists(), Ok(false));
        [UNHOSTED_SINCE, STATELESS].iter().any(may_be_here)
    }

    pub(super) async fn write_unhosted(&self, since: Option<u64>) -> Result<(), FileError> {
        self.write_note(UNHOSTED_SINCE, since.map(|since| format!("{since}\n")))
            .await
    }

    pub(super) async fn write_stateless(&self, is_stateless: bool) -> Result<(), FileError> {
        self.write_note(STATELESS, is_stateless.then(String::new)).await
    }

    async fn write_note(&self, name: &'static str, text: Option<String>) -> Result<(), FileError> {
        let path = self.path().join(name);
        let written = match text {
            Some(text) => tokio::fs::write(&path, text).await,
            None => tokio::fs::remove_file(&path).await,
        };
        written.map_err(failed("change", &path))
    }
}
