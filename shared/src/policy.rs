//! What to do with an event that a relay was sent: load facts, decide, apply, answer. The same function serves
//! strfry through the plugin and the built-in relay in-process.

use std::time::Duration;

use nostr::event::Event;

use crate::lookup::Lookup;
use crate::lookup::LookupError;
use crate::lookup::Subject;
use crate::nip34;
use crate::purgatory::Deletion;
use crate::purgatory::Hold;
use crate::purgatory::HoldOutcome;
use crate::purgatory::PurgatoryError;
use crate::rules::Admission;
use crate::rules::GitEvent;
use crate::rules::Refusal;
use crate::rules::decide_admission;

/// The answer to an event, in the words of strfry's write policy (strfry `docs/plugins.md`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The relay stores the event.
    Accept,
    /// The relay answers OK *true* with this message, and does not store the event: it is in the purgatory.
    Hold(&'static str),
    /// The relay answers OK *false* with this message.
    Refuse(String),
}

/// What a client hears when its event is held (GRASP-01, "Purgatory").
pub const HELD_MESSAGE: &str = "purgatory: won't be served until git data arrives";

/// The write policy.
#[derive(Clone)]
pub struct Policy {
    /// Where facts come from.
    pub lookup: Lookup,
    /// For how long an event is held, in seconds.
    pub hold_secs: u64,
    /// How long one answer may take in all: a relay's only writer waits for it.
    pub answer_timeout: Duration,
}

impl Policy {
    /// Answers for an event whose id and signature were verified.
    ///
    /// `source` says where it came from (`IP4 203.0.113.7`), for whoever reads the purgatory.
    pub async fn answer(&self, event: &Event, source: &str) -> Answer {
        match tokio::time::timeout(self.answer_timeout, self.decide(event, source)).await {
            Ok(answer) => answer,
            Err(_) => {
                tracing::warn!(event.id = %event.id, timeout_ms = self.answer_timeout.as_millis(), "no answer in time");
                Answer::Refuse(Refusal::Unavailable { what: "the purgatory" }.to_string())
            }
        }
    }

    async fn decide(&self, event: &Event, source: &str) -> Answer {
        if event.kind.as_u16() == nip34::DELETION {
            return self.delete(event).await;
        }
        let git_event = match GitEvent::parse(event) {
            Ok(Some(git_event)) => git_event,
            Ok(None) => return Answer::Accept,
            Err(refusal) => return Answer::Refuse(refusal.to_string()),
        };
        match self.hold(event, &git_event, source).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::warn!(event.id = %event.id, error = &error as &dyn std::error::Error, "cannot decide");
                let what = match error {
                    LookupError::Purgatory(_) => "the purgatory",
                    LookupError::Relay(_) => "the relay's database",
                };
                Answer::Refuse(Refusal::Unavailable { what }.to_string())
            }
        }
    }

    async fn hold(&self, event: &Event, git_event: &GitEvent, source: &str) -> Result<Answer, LookupError> {
        let subject = Subject {
            identifiers: git_event.identifiers(),
            arriving: Some(event.clone()),
            ..Subject::default()
        };
        let (facts, _) = self.lookup.facts(&subject).await?;
        match decide_admission(event, git_event, &facts) {
            Admission::Accept => Ok(Answer::Accept),
            Admission::Refuse { refusal, ends } => {
                if !ends.is_empty() {
                    self.lookup.purgatory.end(&ends).await?;
                }
                Ok(Answer::Refuse(refusal.to_string()))
            }
            Admission::Hold { identifiers, extend } => {
                let hold = Hold {
                    event: event.clone(),
                    identifiers,
                    source: source.to_owned(),
                    hold_secs: self.hold_secs,
                    extend,
                };
                Ok(answer_to(self.lookup.purgatory.hold(&hold).await?))
            }
        }
    }

    /// A deletion request passes in any case: the relay keeps it, and it is asked about there later.
    async fn delete(&self, request: &Event) -> Answer {
        if let Some(deletion) = Deletion::requested_by(request)
            && let Err(error) = self.lookup.purgatory.delete(&deletion).await
        {
            log_undeleted(request, &error);
        }
        Answer::Accept
    }
}

fn answer_to(outcome: HoldOutcome) -> Answer {
    match outcome {
        HoldOutcome::Held => Answer::Hold(HELD_MESSAGE),
        // It was marked for release between the look-up and the hold: the mark is the pass.
        HoldOutcome::AlreadyHeld(status) if status.is_leaving() => Answer::Accept,
        HoldOutcome::AlreadyHeld(_) => Answer::Hold(HELD_MESSAGE),
        HoldOutcome::Deleted => Answer::Refuse(Refusal::Deleted.to_string()),
        HoldOutcome::Replaced => Answer::Refuse(Refusal::Replaced.to_string()),
        HoldOutcome::Full(limit) => Answer::Refuse(Refusal::Full(limit).to_string()),
    }
}

fn log_undeleted(request: &Event, error: &PurgatoryError) {
    let error = error as &dyn std::error::Error;
    tracing::warn!(event.id = %request.id, error, "deletion not yet applied to the purgatory");
}
