//! How many small gits run at the same time: they set refs, make repositories and move or check single objects, under
//! the lock of an identifier, so each is brief, and there is at most one for each push that is finished and each look.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::git::command::GitError;

/// The places that small gits take.
#[derive(Debug, Clone)]
pub(crate) struct CommandPermits(Arc<Semaphore>);

/// A place; dropping it gives it to the next one.
#[must_use = "a turn that is dropped is over"]
#[derive(Debug)]
pub(crate) struct CommandPermit(#[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit);

impl CommandPermits {
    pub(crate) fn new(count: usize) -> Self {
        Self(Arc::new(Semaphore::new(count)))
    }

    /// Waits for a place, in the order of asking.
    ///
    /// # Errors
    /// [`GitError::Busy`] after `deadline`.
    pub(crate) async fn wait(&self, subcommand: &str, deadline: Duration) -> Result<CommandPermit, GitError> {
        match timeout(deadline, Arc::clone(&self.0).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(CommandPermit(permit)),
            Ok(Err(_)) | Err(_) => Err(GitError::Busy {
                command: subcommand.to_owned(),
                waited: deadline,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::command::Git;

    #[tokio::test]
    async fn a_small_git_waits_for_its_turn_and_no_longer_than_its_time() {
        let dir = tempfile::tempdir().unwrap();
        let git = Git::discover(dir.path()).await.unwrap().with_git_commands_max(1);
        let brief = Duration::from_millis(50);
        let turn = git.turn("version", brief).await.unwrap();

        let waited = git.invoke("version").output(b"", brief).await;
        let waits = git.invoke("version").output(b"", Duration::from_secs(60));
        let (others, ()) = tokio::join!(waits, async { drop(turn) });

        assert!(matches!(waited, Err(GitError::Busy { .. })), "{waited:?}");
        assert!(others.unwrap().starts_with(b"git version"));
    }
}
