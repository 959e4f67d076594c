//! What to do with an event that a relay was sent: load facts, decide, apply, answer. The same function serves
//! strfry through the plugin and the built-in relay in-process.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use nostr::event::Event;
use tokio::time::Instant;

use crate::decision_counts::Decision;
use crate::decision_counts::DecisionCounts;
use crate::load_facts::FactLoader;
use crate::load_facts::FactsError;
use crate::load_facts::FactsScope;
use crate::load_facts::Reach;
use crate::nip01::Deletion;
use crate::nip01::expiration;
use crate::nip01::first_value;
use crate::nip01::tag_values;
use crate::nip34;
use crate::purgatory::Hold;
use crate::purgatory::HoldOutcome;
use crate::purgatory::NotedRefusal;
use crate::purgatory::PurgatoryError;
use crate::purgatory::Room;
use crate::refusal_log::RefusalLog;
use crate::refusal_log::excerpt;
use crate::rules::Admission;
use crate::rules::GitEvent;
use crate::rules::OtherKinds;
use crate::rules::References;
use crate::rules::Refusal;
use crate::rules::decide_admission;
use crate::rules::must_belong;

/// The answer to an event, in the words of strfry's write policy (strfry `docs/plugins.md`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The relay stores the event.
    Accept,
    /// The relay answers OK *true* with this message, and does not store the event: it is in the purgatory.
    Hold(Cow<'static, str>),
    /// The relay answers OK *false* with this message.
    Refuse(String),
}

impl Answer {
    fn decision(&self) -> Decision {
        match self {
            Self::Accept => Decision::Accepted,
            Self::Hold(_) => Decision::Held,
            Self::Refuse(_) => Decision::Refused,
        }
    }
}

/// The answer to a client whose event is held (GRASP-01, "Purgatory").
pub const HELD_MESSAGE: &str = "purgatory: won't be served until git data arrives";

/// The write policy.
#[derive(Clone)]
pub struct WritePolicy {
    /// Loads the facts.
    pub loader: FactLoader,
    /// How long an event is held, in seconds.
    pub hold_secs: u64,
    /// What to do with events that have nothing to do with git.
    pub other_kinds: OtherKinds,
    /// How long one answer may take: a relay's only writer waits for it.
    pub answer_timeout: Duration,
    /// The events that were accepted a moment ago.
    pub recently_accepted: RecentlyAccepted,
    /// Which refusals are logged.
    pub refusals: RefusalLog,
    /// How many events were accepted, held and refused.
    pub decisions: DecisionCounts,
}

/// The events that were accepted a moment ago. A relay asks about a whole batch before it stores any of it, so an issue
/// and the comment on it, sent together, would not find each other in the relay.
///
/// An accepted event is not stored yet, and may never be. So it is remembered for some seconds only, and only to accept
/// events that belong to it.
#[derive(Debug, Clone, Default)]
pub struct RecentlyAccepted(Arc<Mutex<VecDeque<(Instant, References)>>>);

impl RecentlyAccepted {
    fn connect(&self, references: &References) -> bool {
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        recent.retain(|(since, _)| since.elapsed() <= REMEMBERED_FOR);
        recent.iter().any(|(_, other)| other.connect(references))
    }

    fn remember(&self, references: References) {
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() >= REMEMBERED_MAX {
            recent.pop_front();
        }
        recent.push_back((Instant::now(), references));
    }
}

/// Longer than a relay takes for a batch.
const REMEMBERED_FOR: Duration = Duration::from_secs(10);

const REMEMBERED_MAX: usize = 512;

impl WritePolicy {
    /// Answers for an event whose id and signature were verified.
    ///
    /// `source` is where it came from (`IP4 203.0.113.7`), for people who read the purgatory.
    pub async fn answer(&self, event: &Event, source: &str) -> Answer {
        let answer = self.answer_in_time(event, source).await;
        self.decisions.add(event.kind.as_u16(), answer.decision());
        if let Answer::Refuse(reason) = &answer {
            self.log_refusal(event, source, reason);
        }
        answer
    }

    /// Logs that an event was refused, unless its source has many refused.
    pub fn log_refusal(&self, event: &Event, source: &str, reason: &str) {
        if self.refusals.permits(source) {
            let repositories = named_repositories(event);
            tracing::info!(
                event.id = %event.id,
                event.kind = event.kind.as_u16(),
                event.author = %event.pubkey,
                repositories = excerpt(&repositories),
                source = excerpt(source),
                reason = excerpt(reason),
                "event refused"
            );
            self.refusals.note(NotedRefusal {
                request: event.id.to_hex(),
                what: format!("event of kind {}", event.kind),
                source: source.to_owned(),
                author: event.pubkey.to_hex(),
                repositories,
                reason: reason.to_owned(),
            });
        }
    }

    async fn answer_in_time(&self, event: &Event, source: &str) -> Answer {
        match tokio::time::timeout(self.answer_timeout, self.decide(event, source)).await {
            Ok(answer) => answer,
            // The relay keeps it, and each later decision reads it there.
            Err(_) if matches!(event.kind.as_u16(), nip34::DELETION | nip34::VANISH) => Answer::Accept,
            Err(_) => {
                tracing::warn!(event.id = %event.id, timeout_ms = self.answer_timeout.as_millis(), "no answer in time");
                Answer::Refuse(Refusal::Unavailable("the purgatory").to_string())
            }
        }
    }

    async fn decide(&self, event: &Event, source: &str) -> Answer {
        if matches!(event.kind.as_u16(), nip34::DELETION | nip34::VANISH) {
            // It always passes: the relay keeps it, and each later decision reads it there.
            if let Err(error) = self.forget(event).await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(event.id = %event.id, error, "deletion not yet applied to the purgatory");
            }
            return Answer::Accept;
        }
        let git_event = match GitEvent::parse(event) {
            Ok(Some(git_event)) => Some(git_event),
            Ok(None) if must_belong(event, self.other_kinds) => None,
            Ok(None) => return Answer::Accept,
            Err(refusal) => return Answer::Refuse(refusal.to_string()),
        };
        let answer = match &git_event {
            Some(git_event) => self.hold(event, git_event, source).await,
            None => self.relate(event).await,
        };
        match answer {
            Ok(answer) => answer,
            Err(error) => {
                tracing::warn!(event.id = %event.id, error = &error as &dyn std::error::Error, "cannot decide");
                let what = match error {
                    FactsError::Purgatory(_) => "the purgatory",
                    FactsError::Relay(_) => "the relay's database",
                };
                Answer::Refuse(Refusal::Unavailable(what).to_string())
            }
        }
    }

    async fn hold(&self, event: &Event, git_event: &GitEvent, source: &str) -> Result<Answer, FactsError> {
        let is_pull_request = matches!(git_event, GitEvent::PullRequest(_));
        let mut scope = FactsScope {
            coordinates: git_event.coordinates(),
            pull_request_ids: is_pull_request.then_some(event.id).into_iter().collect(),
            arriving: Some(event.clone()),
            ..FactsScope::default()
        };
        let (mut facts, mut admission);
        loop {
            (facts, _) = self.loader.load(&scope).await?;
            admission = decide_admission(event, git_event, &facts);
            let is_settled = scope.coordinates.iter().all(|at| facts.is_settled(at));
            scope.reach = match scope.reach {
                _ if is_settled => break,
                // A state that is held wakes the announcements of others that list its author, too.
                Reach::Members => Reach::NEAR,
                Reach::NEAR if admission.is_for_want_of_listing() => Reach::FULL,
                Reach::Listing { .. } => break,
            };
        }
        match admission {
            Admission::Accept => Ok(Answer::Accept),
            Admission::Refuse { refusal, ends } => {
                if !ends.is_empty() {
                    self.loader.purgatory.end(&ends).await?;
                }
                Ok(Answer::Refuse(refusal.to_string()))
            }
            Admission::Hold { coordinates, extend } => {
                let hold = Hold {
                    event: event.clone(),
                    coordinates,
                    source: source.to_owned(),
                    hold_secs: hold_secs(event, facts.now, self.hold_secs),
                    extend,
                    room: Room::WithinLimits,
                };
                Ok(answer_to(self.loader.purgatory.hold(&hold).await?))
            }
        }
    }

    /// Accepts an event that belongs to a served one.
    async fn relate(&self, event: &Event) -> Result<Answer, FactsError> {
        if self.loader.access.current().denies_author(&event.pubkey) {
            return Ok(Answer::Refuse(Refusal::Blocked.to_string()));
        }
        let references = References::of(event);
        if self.recently_accepted.connect(&references) || self.loader.is_related(event, &references).await? {
            self.recently_accepted.remember(references);
            return Ok(Answer::Accept);
        }
        Ok(Answer::Refuse(Refusal::Unrelated.to_string()))
    }

    /// Ends what a request to delete or to vanish covers.
    async fn forget(&self, request: &Event) -> Result<(), PurgatoryError> {
        let purgatory = &self.loader.purgatory;
        if self.loader.service.is_asked_to_forget(request) {
            purgatory.vanish(&request.pubkey, request.created_at.as_secs()).await?;
        } else if let Some(deletion) = Deletion::requested_by(request) {
            purgatory.delete(&deletion).await?;
        }
        Ok(())
    }
}

/// Returns the repositories that an event names, as they stand in it.
fn named_repositories(event: &Event) -> String {
    if matches!(event.kind.as_u16(), nip34::ANNOUNCEMENT | nip34::STATE) {
        return format!("{}:{}:{}", nip34::ANNOUNCEMENT, event.pubkey, first_value(event, "d"));
    }
    let named: Vec<&str> = tag_values(event, "a").take(NAMED_MAX).collect();
    named.join(" ")
}

/// Repositories of an event that a line of the log names: as many as a PR can be offered to.
const NAMED_MAX: usize = 16;

/// An event that ends by its own tag (NIP-40) is held no longer.
fn hold_secs(event: &Event, now: u64, hold_secs: u64) -> u64 {
    match expiration(event) {
        Ok(Some(expiration)) => hold_secs.min(expiration.saturating_sub(now).max(1)),
        Ok(None) | Err(_) => hold_secs,
    }
}

fn answer_to(outcome: HoldOutcome) -> Answer {
    match outcome {
        HoldOutcome::Held => Answer::Hold(HELD_MESSAGE.into()),
        // It was marked as releasing between loading the facts and the hold: the mark is the pass.
        HoldOutcome::AlreadyHeld(status) if status.counts_as_served() => Answer::Accept,
        HoldOutcome::AlreadyHeld(_) => Answer::Hold(HELD_MESSAGE.into()),
        HoldOutcome::Deleted => Answer::Refuse(Refusal::Deleted.to_string()),
        HoldOutcome::Replaced => Answer::Refuse(Refusal::Replaced.to_string()),
        HoldOutcome::Full(limit) => Answer::Refuse(Refusal::Full(limit).to_string()),
    }
}
