//! What to do with an event that a relay was sent: load facts, decide, apply, answer. The same function serves
//! strfry through the plugin and the built-in relay in-process.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use nostr::event::Event;
use nostr::event::EventId;
use parking_lot::Mutex;
use parking_lot::MutexGuard;
use tokio::time::Instant;
use tokio::time::timeout_at;

use crate::decision_counts::Decision;
use crate::decision_counts::DecisionCounts;
use crate::load_facts::FactLoader;
use crate::load_facts::FactsError;
use crate::load_facts::FactsScope;
use crate::load_facts::Reach;
use crate::load_facts::WHOLE_BYTES_MAX;
use crate::nip01::Deletion;
use crate::nip01::check_request;
use crate::nip01::expiration;
use crate::nip01::first_value;
use crate::nip01::tag_values;
use crate::nip34;
use crate::nip34::Defect;
use crate::purgatory::Behind;
use crate::purgatory::EntryStatus;
use crate::purgatory::Hold;
use crate::purgatory::HoldOutcome;
use crate::purgatory::NotedRefusal;
use crate::purgatory::PurgatoryError;
use crate::purgatory::RelatedReading;
use crate::purgatory::Room;
use crate::refusal_log::RefusalLog;
use crate::refusal_log::excerpt;
use crate::rules::Admission;
use crate::rules::Facts;
use crate::rules::GitEvent;
use crate::rules::OtherKinds;
use crate::rules::References;
use crate::rules::Refusal;
use crate::rules::announces_new_repository;
use crate::rules::decide_admission;
use crate::rules::may_precede_its_pull_request;
use crate::rules::must_belong;
use crate::too_large::TooLarge;

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

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        Self::Refuse(refusal.to_string())
    }
}

/// The answer to a client whose event is held (GRASP-01, "Purgatory").
pub const HELD_MESSAGE: &str = "purgatory: won't be served until git data arrives";

/// The write policy.
#[derive(Clone)]
pub struct WritePolicy {
    /// Loads the facts.
    pub loader: FactLoader,
    /// What to do with events that have nothing to do with git.
    pub other_kinds: OtherKinds,
    /// How long one answer may take: a relay's only writer waits for it.
    pub answer_timeout: Duration,
    /// The events that were accepted a moment ago.
    pub recently_accepted: RecentlyAccepted,
    /// What took too long a moment ago.
    pub too_large: TooLarge,
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
    /// Returns those of these events that were not accepted a moment ago.
    fn others(&self, ids: &BTreeSet<EventId>) -> BTreeSet<EventId> {
        let recent = self.recent();
        let is_recent = |id: &&EventId| recent.iter().any(|(_, other)| other.id == **id);
        ids.iter().filter(|id| !is_recent(id)).copied().collect()
    }

    fn connect(&self, references: &References) -> bool {
        self.recent().iter().any(|(_, other)| other.connect(references))
    }

    fn recent(&self) -> MutexGuard<'_, VecDeque<(Instant, References)>> {
        let mut recent = self.0.lock();
        recent.retain(|(since, _)| since.elapsed() <= REMEMBERED_FOR);
        recent
    }

    fn remember(&self, references: References) {
        let mut recent = self.recent();
        if recent.len() >= REMEMBERED_MAX {
            recent.pop_front();
        }
        recent.push_back((Instant::now(), references));
    }
}

/// Longer than a relay takes for a batch.
const REMEMBERED_FOR: Duration = Duration::from_secs(10);

const REMEMBERED_MAX: usize = 512;

/// The decision of the rules about an event, before it takes effect: the caller may ask others in between.
#[derive(Debug)]
#[must_use = "an event passes only by `WritePolicy::complete`"]
pub enum Considered {
    /// The answer is given: the event is refused, or waits already.
    Answered(Answer),
    /// It is being released.
    Releasing,
    /// No rule here speaks of it.
    NotOurs,
    /// A request to delete or to vanish.
    Deletes,
    /// It belongs to something served.
    Belongs,
    /// It may wait: for its git data, or behind an event that waits for its own.
    Waits(Box<Hold>),
}

impl From<Refusal> for Considered {
    fn from(refusal: Refusal) -> Self {
        Self::Answered(refusal.into())
    }
}

impl WritePolicy {
    /// Answers for an event whose id and signature were verified.
    ///
    /// `source` is where it came from (`IP4 203.0.113.7`), for people who read the purgatory.
    pub async fn answer(&self, event: &Event, source: &str) -> Answer {
        let deadline = self.deadline();
        let considered = self.consider(event, source, deadline).await;
        let answer = self.complete(event, considered, deadline).await;
        self.note(event, source, &answer);
        answer
    }

    /// Counts an answer, and logs a refusal unless its source has many refused.
    pub fn note(&self, event: &Event, source: &str, answer: &Answer) {
        self.decisions.add(event.kind.as_u16(), answer.decision());
        let Answer::Refuse(reason) = answer else { return };
        if !self.refusals.permits(source) {
            return;
        }
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

    /// Returns when an event that arrives now has to be answered.
    pub fn deadline(&self) -> Instant {
        Instant::now() + self.answer_timeout
    }

    /// Loads facts about an event, and decides.
    pub async fn consider(&self, event: &Event, source: &str, deadline: Instant) -> Considered {
        match event.kind.as_u16() {
            nip34::DELETION | nip34::VANISH => {
                return match check_request(event) {
                    Ok(()) => Considered::Deletes,
                    Err(defect) => Refusal::from(defect).into(),
                };
            }
            _ => {}
        }
        let git_event = match GitEvent::parse(event) {
            Ok(Some(git_event)) => Some(git_event),
            Ok(None) if must_belong(event, self.other_kinds) => None,
            Ok(None) => return Considered::NotOurs,
            Err(refusal) => return refusal.into(),
        };
        let work = async {
            match &git_event {
                Some(git_event) => self.consider_git(event, git_event, source).await,
                None => self.consider_related(event, source).await,
            }
        };
        in_time(event, deadline, work).await.unwrap_or_else(Considered::from)
    }

    /// Accepts or holds an event that was considered before, unless something has changed meanwhile.
    pub async fn complete(&self, event: &Event, considered: Considered, deadline: Instant) -> Answer {
        match considered {
            Considered::Answered(answer) => answer,
            Considered::Releasing | Considered::Belongs => {
                self.recently_accepted.remember(References::of(event));
                Answer::Accept
            }
            Considered::NotOurs => Answer::Accept,
            Considered::Deletes => {
                let work = async { Ok(self.forget(event).await?) };
                if in_time(event, deadline, work).await.is_err() {
                    tracing::warn!(event.id = %event.id, "deletion not yet applied to the purgatory");
                }
                // It always passes: the relay keeps it, and each later decision reads it there. If its author vanishes,
                // the gateway tries until Redis has done it.
                Answer::Accept
            }
            Considered::Waits(hold) => in_time(event, deadline, self.hold(event, *hold))
                .await
                .unwrap_or_else(Answer::from),
        }
    }

    async fn consider_git(&self, event: &Event, git_event: &GitEvent, source: &str) -> Result<Considered, FactsError> {
        let is_pull_request = matches!(git_event, GitEvent::PullRequest(_));
        let mut scope = FactsScope {
            coordinates: git_event.coordinates(),
            pull_request_ids: is_pull_request.then_some(event.id).into_iter().collect(),
            arriving: Some(event.clone()),
            ..FactsScope::default()
        };
        let Some(mut facts) = self.load_own(&scope).await? else {
            let facts = self.loader.load_arriving(&scope, event).await?;
            return match decide_admission(event, git_event, &facts) {
                Admission::Accept => self.consider_releasing(&ordered_after(event, &facts)).await,
                Admission::Hold { .. } | Admission::Refuse { .. } => Ok(Refusal::from(Defect::from(TOO_LARGE)).into()),
            };
        };
        let mut admission = decide_admission(event, git_event, &facts);
        while !scope.coordinates.iter().all(|at| facts.is_settled(at)) {
            scope.reach = match scope.reach {
                // A state that is held wakes the announcements of others that list its author, too.
                Reach::Members => Reach::NEAR,
                Reach::NEAR if admission.is_for_want_of_listing() => Reach::FULL,
                Reach::Listing { .. } => break,
            };
            (facts, _) = match self.loader.load_within(WHOLE_BYTES_MAX, &scope).await {
                // Those who list the owner make nobody's own repository unreadable.
                Err(error) if error.is_too_large() => {
                    admission = admission.unless_listed(git_event, &facts);
                    break;
                }
                loaded => loaded?,
            };
            admission = decide_admission(event, git_event, &facts);
        }
        match admission {
            Admission::Accept => self.consider_releasing(&ordered_after(event, &facts)).await,
            Admission::Refuse { refusal, ends } => {
                if !ends.is_empty() {
                    self.loader.purgatory.end(&ends).await?;
                }
                Ok(refusal.into())
            }
            Admission::Hold { coordinates, extend } => Ok(Considered::Waits(Box::new(Hold {
                event: event.clone(),
                coordinates,
                source: source.to_owned(),
                hold_secs: hold_secs(event, facts.now, self.loader.purgatory.hold_secs()),
                extend,
                room: Room::WithinLimits,
                is_new_repository: announces_new_repository(git_event, &facts),
                behind: None,
            }))),
        }
    }

    /// Loads the facts about the repositories of an event by themselves; `None`: there is more than is read for an
    /// answer.
    async fn load_own(&self, scope: &FactsScope) -> Result<Option<Facts>, FactsError> {
        if self.too_large.bytes_of(&scope.coordinates) > DECISION_BYTES_MAX {
            return Ok(None);
        }
        let began = Instant::now();
        match self.loader.load_within(DECISION_BYTES_MAX, scope).await {
            Err(error) if error.is_too_large() => {
                self.too_large
                    .find(&self.loader, scope, DECISION_BYTES_MAX, began)
                    .await?;
                Ok(None)
            }
            loaded => Ok(Some(loaded?.0)),
        }
    }

    /// Lets an event that is being released pass, but not before those that it is ordered after: each of them must have
    /// left the purgatory, or have been accepted a moment ago.
    async fn consider_releasing(&self, after: &BTreeSet<EventId>) -> Result<Considered, FactsError> {
        let before = self.recently_accepted.others(after);
        Ok(match self.loader.purgatory.entries(&before).await?.is_empty() {
            true => Considered::Releasing,
            false => Considered::Answered(Answer::Hold(HELD_MESSAGE.into())),
        })
    }

    async fn consider_related(&self, event: &Event, source: &str) -> Result<Considered, FactsError> {
        if self.loader.access.current().denies_author(&event.pubkey) {
            return Ok(Refusal::Blocked.into());
        }
        let references = References::of(event);
        let is_related = async {
            match self.recently_accepted.connect(&references) {
                true => Ok(true),
                false => self.loader.is_related(event, &references).await,
            }
        };
        let (reading, is_related, has_vanished) = tokio::join!(
            self.loader.purgatory.read_related(&event.id, &references.ids),
            is_related,
            self.loader.has_vanished(event)
        );
        // Before the pass of a releasing event, as of those that need git data.
        if has_vanished? {
            return Ok(Refusal::Deleted.into());
        }
        let is_releasing = |reading: &RelatedReading| reading.own.is_some_and(EntryStatus::counts_as_served);
        if reading.as_ref().is_ok_and(is_releasing) {
            let entries = self.loader.purgatory.entries(&[event.id].into()).await?;
            let after = entries.into_iter().flat_map(|entry| entry.after).collect();
            return self.consider_releasing(&after).await;
        }
        // A served event needs no purgatory.
        if is_related? {
            return Ok(Considered::Belongs);
        }
        let reading = reading?;
        let may_be_early = may_precede_its_pull_request(event) && !references.ids.is_empty();
        // An event that was in neither may have moved from the purgatory to the relay meanwhile.
        if !reading.is_any_here {
            if self.loader.is_related(event, &references).await? {
                return Ok(Considered::Belongs);
            }
            if !may_be_early {
                return Ok(Refusal::Unrelated.into());
            }
        }
        Ok(Considered::Waits(Box::new(Hold {
            event: event.clone(),
            coordinates: BTreeSet::new(),
            source: source.to_owned(),
            hold_secs: EARLY_SECS,
            extend: BTreeSet::new(),
            room: Room::WithinLimits,
            is_new_repository: false,
            behind: Some(Behind {
                refers_to: references.ids,
                last_lease: reading.last_lease,
                may_be_early,
            }),
        })))
    }

    async fn hold(&self, event: &Event, mut hold: Hold) -> Result<Answer, FactsError> {
        for _ in 0..ATTEMPTS_MAX {
            return Ok(match self.loader.purgatory.hold(&hold).await? {
                // Perhaps it was marked as releasing meanwhile: the gateway that marked it publishes it.
                HoldOutcome::Held | HoldOutcome::AlreadyHeld(_) => Answer::Hold(HELD_MESSAGE.into()),
                HoldOutcome::Deleted => Refusal::Deleted.into(),
                HoldOutcome::Replaced => Refusal::Replaced.into(),
                HoldOutcome::Full(limit) => Refusal::Full(limit).into(),
                // The event that it refers to may be served by now.
                HoldOutcome::Absent => match self.consider_related(event, &hold.source).await? {
                    Considered::Waits(again) => {
                        hold = *again;
                        continue;
                    }
                    Considered::Answered(answer) => answer,
                    Considered::Belongs | Considered::Releasing => {
                        self.recently_accepted.remember(References::of(event));
                        Answer::Accept
                    }
                    Considered::NotOurs | Considered::Deletes => Answer::Accept,
                },
            });
        }
        Ok(Refusal::Unavailable("what the event refers to").into())
    }

    /// Ends the events that a request to delete or to vanish covers.
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

/// Lets `work` take until `deadline`.
///
/// # Errors
/// The refusal of an event that cannot be decided about now.
async fn in_time<T>(
    event: &Event,
    deadline: Instant,
    work: impl Future<Output = Result<T, FactsError>>,
) -> Result<T, Refusal> {
    let error = match timeout_at(deadline, work).await {
        Ok(Ok(done)) => return Ok(done),
        Ok(Err(error)) => error,
        Err(_) => {
            tracing::warn!(event.id = %event.id, "no answer in time");
            return Err(Refusal::Unavailable("the purgatory"));
        }
    };
    tracing::warn!(event.id = %event.id, error = &error as &dyn std::error::Error, "cannot decide");
    Err(Refusal::Unavailable(match matches!(error, FactsError::Purgatory(_)) {
        true => "the purgatory",
        false => "the relay's database",
    }))
}

/// Returns what a held event is ordered after.
fn ordered_after(event: &Event, facts: &Facts) -> BTreeSet<EventId> {
    let entry = facts.entries.get(&event.id);
    entry.map(|entry| entry.after.clone()).unwrap_or_default()
}

/// Returns the repositories that an event names, as they are in it.
fn named_repositories(event: &Event) -> String {
    if matches!(event.kind.as_u16(), nip34::ANNOUNCEMENT | nip34::STATE) {
        return format!("{}:{}:{}", nip34::ANNOUNCEMENT, event.pubkey, first_value(event, "d"));
    }
    let named: Vec<&str> = tag_values(event, "a").take(NAMED_MAX).collect();
    named.join(" ")
}

/// Repositories of an event that a log line names: as many as a PR can be offered to.
const NAMED_MAX: usize = 16;

/// Most memory of the facts about the owner's own repository for a decision, for which a relay waits: twelve of the
/// largest events. Of the repositories that list the owner there is less.
const DECISION_BYTES_MAX: usize = 8 << 20;

/// Why nothing is decided about a repository on more.
const TOO_LARGE: &str = "the announcements and states of the repository's maintainers take more than 8 MiB of memory";

/// How long an event waits for the one that it refers to, if it has arrived first: longer than a client takes to send
/// both.
const EARLY_SECS: u64 = 60;

/// How often it is tried to hold a related event while others are published.
const ATTEMPTS_MAX: usize = 3;

/// An event that ends by its own tag (NIP-40) is held no longer.
fn hold_secs(event: &Event, now: u64, hold_secs: u64) -> u64 {
    match expiration(event) {
        Ok(Some(expiration)) => hold_secs.min(expiration.saturating_sub(now).max(1)),
        Ok(None) | Err(_) => hold_secs,
    }
}
