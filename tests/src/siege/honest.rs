//! An honest user who publishes, pushes, clones, opens the page of his repository and follows what is written about it,
//! round after round, whatever else goes on. Nothing that fails ends him: it is written down.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use nostr::event::Event;
use nostr::key::Keys;
use serde_json::json;
use wire::path::repository_path;

use crate::clients::git::GitClient;
use crate::clients::git::Said;
use crate::clients::http::KeepAlive;
use crate::clients::nostr::NoAnswer;
use crate::clients::nostr::NostrClient;
use crate::clients::nostr::now;
use crate::clients::nostr::sign;
use crate::clients::nostr::tag;
use crate::harness::repository::Repository;
use crate::harness::world::World;
use crate::load::noise::noise;
use crate::siege::times::Operation;
use crate::siege::times::Times;

/// An honest user of a server.
pub(super) struct HonestUser {
    authority: String,
    url: String,
    pub(super) repository: Repository,
    /// The commit that his repository is at.
    pub(super) tip: String,
    folder: PathBuf,
    writer: GitClient,
    publisher: Option<NostrClient>,
    subscriber: Option<NostrClient>,
    rounds: u64,
}

/// Why something that he did failed.
#[derive(Debug, thiserror::Error)]
enum OperationError {
    #[error("{0}")]
    Relay(#[from] NoAnswer),
    #[error("answered {0:?}")]
    Refused(String),
    #[error("git failed: {0}")]
    Git(String),
    #[error("HTTP failed: {0}")]
    Http(#[from] std::io::Error),
    #[error("status {0}")]
    Status(u16),
    #[error("the state is not served after the push")]
    NotServed,
    #[error("the clone is at {0}")]
    Stale(String),
}

impl HonestUser {
    /// Somebody whose repository is announced and served.
    ///
    /// # Panics
    /// He is refused when nobody attacks.
    pub(super) async fn new(world: &World) -> Self {
        let repository = Repository::new(IDENTIFIER);
        let writer = world.git("honest").await;
        // A little weight, for those who copy it.
        let tip = writer.commit_file("blob", &noise(1, BLOB_BYTES)).await;
        let mut user = Self {
            authority: world.authority(),
            url: world.url(&repository),
            tip,
            folder: world.folder().to_owned(),
            writer,
            publisher: None,
            subscriber: None,
            rounds: 0,
            repository,
        };
        let announcement = world.announcement(&user.repository, now() - AGE_SECS, &[]);
        let answer = user.publisher().await.unwrap().send(&announcement).await;
        assert!(answer.taken, "{answer:?}");
        let mut times = Times::default();
        user.round(&mut times).await;
        assert!(times.failures.is_empty(), "{:?}", times.failures);
        user
    }

    /// Connects anew and does everything once, untimed: a connection that was not used for long may have ended.
    pub(super) async fn come_back(&mut self) {
        (self.publisher, self.subscriber) = (None, None);
        self.round(&mut Times::default()).await;
    }

    /// Does everything once, and again until so many rounds are over.
    pub(super) async fn rounds(&mut self, count: usize) -> Times {
        self.rounds_until(count, std::future::ready(())).await.0
    }

    /// Goes on until `end` is done, and for so many rounds at least unless something fails. Returns what `end` does.
    ///
    /// # Panics
    /// Never.
    pub(super) async fn rounds_until<T>(&mut self, rounds_min: usize, end: impl Future<Output = T>) -> (Times, T) {
        tokio::pin!(end);
        let mut times = Times::default();
        let mut ended = None;
        let mut rounds = 0;
        while ended.is_none() || (rounds < rounds_min && times.failures.is_empty()) {
            let round = self.round(&mut times);
            tokio::pin!(round);
            loop {
                tokio::select! {
                    () = &mut round => break,
                    with = &mut end, if ended.is_none() => ended = Some(with),
                }
            }
            rounds += 1;
        }
        (times, ended.expect("the loop waits for it"))
    }

    async fn round(&mut self, times: &mut Times) {
        self.rounds += 1;
        // As programs do that publish once; the subscription stays.
        self.publisher = None;
        let commit = self.writer.commit(&format!("file{}", self.rounds)).await;
        // In the past by seconds, and each newer than the one before.
        let created_at = now() - AGE_SECS + self.rounds;
        let state = self.repository.state(created_at, &[("refs/heads/main", &commit)]);
        if timed(times, Operation::Publish, self.publish(&state)).await
            && timed(times, Operation::Push, self.push()).await
        {
            self.tip.clone_from(&commit);
            timed(times, Operation::Clone, self.clone_at(&commit)).await;
            // Not timed: whether what he was told holds.
            if let Err(error) = within(self.is_served(&state)).await {
                times.failures.push((Operation::Push, error));
            }
        }
        timed(times, Operation::Page, self.page()).await;
        if let Err(error) = within(self.follow()).await {
            times.failures.push((Operation::Live, error));
            return;
        }
        timed(times, Operation::Live, self.hear_of_an_issue()).await;
    }

    async fn publish(&mut self, event: &Event) -> Result<(), OperationError> {
        let answer = match self.publisher().await?.try_send(event).await {
            Ok(answer) => answer,
            Err(error) => {
                self.publisher = None;
                return Err(error.into());
            }
        };
        match answer.taken {
            true => Ok(()),
            false => Err(OperationError::Refused(answer.message)),
        }
    }

    async fn push(&self) -> Result<(), OperationError> {
        succeeded(self.writer.push(&self.url, &["main"]).await).map(drop)
    }

    async fn clone_at(&self, commit: &str) -> Result<(), OperationError> {
        let directory = self.folder.join("honest-clone");
        if directory.exists() {
            std::fs::remove_dir_all(&directory)?;
        }
        let to = directory.display().to_string();
        succeeded(self.writer.run(&["clone", "--quiet", &self.url, &to]).await)?;
        let head = succeeded(self.writer.run(&["-C", &to, "rev-parse", "HEAD"]).await)?.stdout;
        match head.trim() == commit {
            true => Ok(()),
            false => Err(OperationError::Stale(head.trim().to_owned())),
        }
    }

    async fn is_served(&mut self, state: &Event) -> Result<(), OperationError> {
        let filter = json!({"ids": [state.id.to_hex()]});
        match self.publisher().await?.try_query(&filter).await {
            Ok(events) if events.is_empty() => Err(OperationError::NotServed),
            Ok(_) => Ok(()),
            Err(error) => {
                self.publisher = None;
                Err(error.into())
            }
        }
    }

    async fn page(&self) -> Result<(), OperationError> {
        let path = repository_path(&self.repository.coordinate());
        match KeepAlive::new(self.authority.clone()).get(&path).await? {
            200 => Ok(()),
            status => Err(OperationError::Status(status)),
        }
    }

    /// Opens the subscription, where it is not open.
    async fn follow(&mut self) -> Result<(), OperationError> {
        if self.subscriber.is_none() {
            let mut subscriber = self.connect().await?;
            let coordinate = self.repository.coordinate().to_string();
            let filter = json!({"kinds": [ISSUE], "#a": [coordinate], "since": now() - 10});
            subscriber.try_subscribe(&filter).await?;
            self.subscriber = Some(subscriber);
        }
        Ok(())
    }

    /// Somebody opens an issue; he hears of it by the subscription.
    async fn hear_of_an_issue(&mut self) -> Result<(), OperationError> {
        let tags = [tag(&["a", &self.repository.coordinate().to_string()])];
        let issue = sign(&Keys::generate(), ISSUE, now(), &tags);
        self.publish(&issue).await?;
        // Given up if this does not come to its end.
        let mut subscriber = self.subscriber.take().ok_or(NoAnswer::Ended)?;
        while subscriber.try_next_live().await?.id != issue.id {}
        self.subscriber = Some(subscriber);
        Ok(())
    }

    async fn publisher(&mut self) -> Result<&mut NostrClient, NoAnswer> {
        if self.publisher.is_none() {
            self.publisher = Some(self.connect().await?);
        }
        Ok(self.publisher.as_mut().expect("it was just opened"))
    }

    async fn connect(&self) -> Result<NostrClient, NoAnswer> {
        NostrClient::try_connect(&format!("ws://{}", self.authority), OPERATION_MAX).await
    }
}

/// Does something within its deadline, and writes down how long it took, or why it failed.
async fn timed(
    times: &mut Times,
    operation: Operation,
    done: impl Future<Output = Result<(), OperationError>>,
) -> bool {
    let started = Instant::now();
    match within(done).await {
        Ok(()) => times.took(operation, started.elapsed()),
        Err(error) => times.failures.push((operation, error)),
    }
    times.failures.last().is_none_or(|(failed, _)| *failed != operation)
}

async fn within<T>(done: impl Future<Output = Result<T, OperationError>>) -> Result<T, String> {
    match tokio::time::timeout(OPERATION_MAX, done).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("not done in {} s", OPERATION_MAX.as_secs())),
    }
}

fn succeeded(said: Said) -> Result<Said, OperationError> {
    match said.ok {
        true => Ok(said),
        false => Err(OperationError::Git(said.stderr.trim().replace('\n', " / "))),
    }
}

/// A name that strangers use too.
pub(super) const IDENTIFIER: &str = "dotfiles";

/// The size of his largest file.
const BLOB_BYTES: usize = 3 << 20;

/// How long ago his events are dated, so that each can be newer than the one before.
const AGE_SECS: u64 = 3600;

/// For each operation. A person who waits longer has gone away.
const OPERATION_MAX: Duration = Duration::from_secs(20);

/// An issue (NIP-34).
const ISSUE: u16 = 1621;
