//! Somebody who uses the server: sends, pushes and deletes, tries again when a server dies, and writes down what the
//! answers were. `load.rs` says what such people do.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use nostr::event::Event;
use nostr::event::EventId;
use nostr::key::Keys;
use serde_json::json;
use shared::nip34;

use super::ledger::Ledger;
use super::ledger::Project;
use super::ledger::Promise;
use super::options::Options;
use super::options::PATIENCE;
use super::random::Random;
use super::server::Places;
use crate::clients::git::GitClient;
use crate::clients::git::Said;
use crate::clients::nostr::NoAnswer;
use crate::clients::nostr::NostrClient;
use crate::clients::nostr::now;

/// Somebody with a working directory.
pub(super) struct Worker {
    pub(super) number: usize,
    pub(super) random: Random,
    pub(super) places: Places,
    pub(super) ledger: Arc<Ledger>,
    pub(super) hold_secs: u64,
    pub(super) git: GitClient,
    pub(super) keys: Keys,
    pub(super) project: Option<Arc<Project>>,
    /// Tips of the commits made, the newest last.
    pub(super) commits: Vec<String>,
    pub(super) tree: String,
    /// The last time stamp used: each event is later than the one before.
    pub(super) stamp: u64,
    pub(super) projects_made: usize,
}

impl Worker {
    /// Somebody new.
    pub(super) async fn new(number: usize, options: Options, places: Places, ledger: Arc<Ledger>) -> Self {
        let git = GitClient::init(&places.folder.join(format!("work{number}"))).await;
        let first = git.commit(&format!("of {number}")).await;
        let tree = git.rev_parse("HEAD^{tree}").await;
        let mut random = Random::new(options.seed, 1000 + number as u64);
        Self {
            number,
            keys: random.keys(),
            random,
            places,
            ledger,
            hold_secs: options.hold_secs,
            git,
            project: None,
            commits: vec![first],
            tree,
            stamp: now() - 600,
            projects_made: 0,
        }
    }

    /// A time that is later than every one before.
    pub(super) fn next_stamp(&mut self) -> u64 {
        self.stamp = (self.stamp + 1).max(now() - 300);
        self.stamp
    }

    pub(super) async fn commit(&mut self) -> String {
        let parent = self.commits.last().cloned().unwrap_or_default();
        let message = format!("{} of {}", self.commits.len(), self.number);
        let arguments = ["commit-tree", &self.tree, "-p", &parent, "-m", &message];
        let commit = self.git.run(&arguments).await.expect_ok().trim().to_owned();
        self.commits.push(commit.clone());
        commit
    }

    /// Sends an event until it is answered. Returns whether it was taken.
    pub(super) async fn send(&mut self, event: &Event, project: &Arc<Project>) -> bool {
        self.ledger.sending(event, project);
        let answer = self.send_until_answered(event).await;
        self.ledger.note(&event.id, format!("answered {answer}"), |sent| {
            sent.answered_ok = answer.is_ok()
        });
        answer.is_ok()
    }

    async fn send_until_answered(&mut self, event: &Event) -> Answer {
        for _ in 0..ATTEMPTS {
            let gateway = self.random.pick(&self.places.gateways.each_ref());
            let url = format!("ws://{gateway}");
            let answer = async { NostrClient::try_connect(&url, PATIENCE).await?.try_send(event).await };
            match answer.await {
                Ok(answer) if answer.taken => return Answer::Ok(answer.message),
                Ok(answer) if !answer.message.starts_with("error:") => return Answer::Refused(answer.message),
                Ok(_) | Err(_) => pause().await,
            }
        }
        Answer::None
    }

    pub(super) fn url(&mut self, project: &Project) -> String {
        let gateway = self.random.pick(&self.places.gateways.each_ref());
        format!("http://{gateway}{}", project.path)
    }

    /// Pushes what an event declares, writes down the result, and, where the push promises it, expects the event to be
    /// served. Returns whether git is content.
    pub(super) async fn push(&self, url: &str, refspecs: &[String], event: &Event) -> bool {
        let refspecs: Vec<&str> = refspecs.iter().map(String::as_str).collect();
        let said = self.git.push(url, &refspecs).await;
        let ok = said.ok && has_pushed(&said);
        {
            let mut books = self.ledger.books();
            let counter = if ok {
                &mut books.pushes_ok
            } else {
                &mut books.pushes_failed
            };
            *counter += 1;
        }
        let first_line = |text: &str| text.replace('\n', "; ");
        let what = format!(
            "push to {url}: {}: {}",
            if ok { "ok" } else { "not ok" },
            first_line(&said.stderr)
        );
        self.ledger.note(&event.id, what, |sent| {
            // A commit may come when its PR event has expired already.
            sent.pushed |= ok && now() < sent.first_sent + self.hold_secs;
        });
        if ok && event.kind.as_u16() == nip34::STATE && !said.stderr.contains("stored;") {
            self.expect_served(event).await;
        }
        said.ok
    }

    /// A push's success means that its event can be queried.
    async fn expect_served(&self, event: &Event) {
        let deadline = Instant::now() + QUERY_MAX;
        while Instant::now() < deadline {
            match self.is_served_or_overtaken(event).await {
                Ok(true) => return,
                Ok(false) => {
                    let text = "the push was ok, and the event cannot be queried".to_owned();
                    return self.ledger.broken(Promise::NothingLost, Some(event.id), text);
                }
                Err(_) => pause().await,
            }
        }
    }

    async fn is_served_or_overtaken(&self, event: &Event) -> Result<bool, NoAnswer> {
        let mut relay = NostrClient::try_connect(&self.places.relay_url, PATIENCE).await?;
        if !relay.try_query(&json!({"ids": [event.id.to_hex()]})).await?.is_empty() {
            return Ok(true);
        }
        let address = json!({"kinds": [event.kind.as_u16()], "authors": [event.pubkey.to_hex()],
                             "#d": [event.tags.identifier().unwrap_or_default()]});
        let current = relay.try_query(&address).await?;
        Ok(current.iter().any(|other| other.created_at >= event.created_at))
    }

    pub(super) async fn delete(&mut self, event_ids: &[EventId], request: &Event) {
        for id in event_ids {
            self.ledger.note(id, format!("deletion {} sent", request.id), |sent| {
                sent.deletion_sent = true
            });
        }
        let answer = self.send_until_answered(request).await;
        for id in event_ids {
            self.ledger.note(id, format!("deletion answered {answer}"), |sent| {
                sent.deletion_ok = answer.is_ok();
            });
        }
    }
}

/// What became of sending an event.
enum Answer {
    /// `OK true` with this message.
    Ok(String),
    /// `OK false` with this message, and trying again would not help.
    Refused(String),
    /// Nothing else than errors.
    None,
}

impl Answer {
    fn is_ok(&self) -> bool {
        matches!(self, Self::Ok(_))
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok(message) => write!(formatter, "OK true {message:?}"),
            Self::Refused(message) => write!(formatter, "OK false {message:?}"),
            Self::None => write!(formatter, "not at all"),
        }
    }
}

/// Tells whether a ref was sent, not only found in place.
fn has_pushed(said: &Said) -> bool {
    let is_sent = |line: &str| [" \t", "+\t", "*\t", "-\t"].iter().any(|mark| line.starts_with(mark));
    said.stdout.lines().any(is_sent)
}

pub(super) async fn pause() {
    tokio::time::sleep(PAUSE).await;
}

/// How often a person tries.
pub(super) const ATTEMPTS: usize = 12;
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(250);
/// For how long a relay that is down is asked again.
const QUERY_MAX: Duration = Duration::from_secs(15);
