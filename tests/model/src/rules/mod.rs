//! What is decided, given facts: `shared/src/rules/` for these few events.
//!
//! One repository at X with one owner, or with a second maintainer who signs the newer state; one at Y, which is
//! announced throughout. The functions have the names of those that they stand for.

use crate::Bug;
use crate::Configuration;
use crate::disk::Disk;
use crate::disk::DiskErrors;
use crate::event::Event;
use crate::event::Events;
use crate::event::Identifiers;
use crate::event::Push;
use crate::redis::EntryStatus;
use crate::redis::Reading;

/// Where an event stands between its author and its readers (`EventStatus`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventStatus {
    /// Nowhere.
    Unknown,
    /// It waits for its data.
    Held,
    /// An expired announcement.
    Asleep,
    /// Complete, on its way into the relay: counts as served.
    Releasing,
    /// The relay has it.
    Served,
}

impl EventStatus {
    /// Tells whether the event is served, or as good as served.
    pub fn counts_as_served(self) -> bool {
        matches!(self, Self::Served | Self::Releasing)
    }
}

/// Everything known at one moment (`Facts`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Facts {
    /// What the purgatory has.
    pub reading: Reading,
    /// What the relay serves.
    pub served: Events,
    /// The relay has the deletion.
    pub has_deletion: bool,
}

impl Facts {
    /// Puts together what was read.
    pub fn assemble(reading: Reading, served: Events, has_deletion: bool) -> Self {
        Self {
            reading,
            served,
            has_deletion,
        }
    }

    /// Returns the facts of a reconcile: whether a PR is served is asked only where something waits for it.
    pub fn of_reconcile(mut self, identifiers: Identifiers, disk: &Disk) -> Self {
        if !self.reading.placeholders.with(disk.staged).meets(identifiers) {
            self.served.remove(Event::PullRequest);
        }
        self
    }

    /// Tells whether a served deletion rules an event out.
    pub fn is_deleted(&self, model: &Configuration, event: Event) -> bool {
        self.has_deletion && model.deletes == Some(event)
    }

    /// Returns where an event stands.
    pub fn event_status(&self, model: &Configuration, event: Event) -> EventStatus {
        if self.served.has(event) {
            return EventStatus::Served;
        }
        if self.is_deleted(model, event) {
            return EventStatus::Unknown;
        }
        match self.reading.statuses[event.index()] {
            EntryStatus::Absent => EventStatus::Unknown,
            EntryStatus::Held => EventStatus::Held,
            EntryStatus::Asleep => EventStatus::Asleep,
            EntryStatus::Releasing => EventStatus::Releasing,
        }
    }

    /// Tells whether X is hosted: its announcement counts, held or counting as served.
    pub fn is_hosted(&self, model: &Configuration) -> bool {
        let event_status = self.event_status(model, Event::Announcement);
        event_status.counts_as_served() || event_status == EventStatus::Held
    }

    /// Returns where the repositories are that are hosted.
    fn hosted(&self, model: &Configuration) -> Identifiers {
        match self.is_hosted(model) {
            true => Identifiers::BOTH,
            false => Identifiers::Y,
        }
    }

    /// Returns the state that governs X (`governing_state`).
    pub fn governing_state(&self, model: &Configuration) -> Option<Event> {
        let governs = |state: &Event| match model.bug {
            Some(Bug::GoverningWithoutReleasing) => self.event_status(model, *state) == EventStatus::Served,
            _ => self.event_status(model, *state).counts_as_served(),
        };
        let hosted = self.is_hosted(model);
        [Event::Newer, Event::Older]
            .into_iter()
            .find(|state| hosted && governs(state))
    }

    /// Returns the held states that could govern X next, newest first (`candidate_states`).
    pub fn candidate_states(&self, model: &Configuration) -> impl Iterator<Item = Event> {
        let governing = self.governing_state(model);
        let hosted = self.is_hosted(model);
        let candidate = move |state: &Event| {
            hosted && self.event_status(model, *state) == EventStatus::Held && Some(*state) > governing
        };
        [Event::Newer, Event::Older].into_iter().filter(candidate)
    }
}

/// What to do with an event that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// The relay may store it.
    Accept,
    /// It waits for its git data.
    Hold {
        /// Entries that are held as long as this one from now on.
        extend: Events,
    },
    /// It is refused as deleted or replaced: for ever, so that whoever publishes it is done.
    RuleOut,
    /// It is refused.
    Refuse,
}

/// Decides about an event that arrived (`decide_admission`).
pub fn decide_admission(model: &Configuration, event: Event, facts: &Facts) -> Admission {
    if facts.is_deleted(model, event) {
        return Admission::RuleOut;
    }
    if facts.reading.statuses[event.index()] == EntryStatus::Releasing {
        return Admission::Accept;
    }
    let event_status = |event| facts.event_status(model, event);
    match event {
        Event::Announcement => {
            // Whose states are waiting for it only an announcement that is known already can say.
            let is_known = event_status(Event::Announcement) != EventStatus::Unknown;
            let waits = |state: &Event| is_known && event_status(*state) == EventStatus::Held;
            let extend = [Event::Older, Event::Newer].into_iter().filter(waits).collect();
            Admission::Hold { extend }
        }
        Event::Older if model.is_one_author && event_status(Event::Newer).counts_as_served() => Admission::RuleOut,
        Event::Older | Event::Newer => match event_status(Event::Announcement) {
            EventStatus::Unknown => Admission::Refuse,
            EventStatus::Held | EventStatus::Asleep => Admission::Hold {
                extend: [Event::Announcement].into_iter().collect(),
            },
            EventStatus::Releasing | EventStatus::Served => Admission::Hold { extend: Events::NONE },
        },
        Event::PullRequest => Admission::Hold { extend: Events::NONE },
    }
}

/// What to do with a push (`decide_push`): whose deadlines are extended meanwhile; `None`: it has no effect.
///
/// The old oid that the client names is always the current one: staleness only refuses.
pub fn decide_push(model: &Configuration, push: Push, facts: &Facts, disk: &Disk) -> Option<Events> {
    if push.identifier() == Identifiers::X && !facts.is_hosted(model) {
        return None;
    }
    let Some(state) = push.state() else {
        let in_place = push.identifier().meets(disk.installed);
        return (!in_place).then_some(Events::NONE);
    };
    if disk.refs == Some(state) {
        return None;
    }
    let governing = facts.governing_state(model);
    let is_candidate = governing == Some(state) || facts.candidate_states(model).any(|candidate| candidate == state);
    let held = |event: &Event| facts.event_status(model, *event) == EventStatus::Held;
    is_candidate.then(|| [Event::Announcement, state].into_iter().filter(held).collect())
}

/// What a reconcile is to do, in this order (`Plan`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Plan {
    /// The state to bring the repository at X to.
    pub align: Option<Event>,
    /// Where to set the ref of the PR.
    pub install: Identifiers,
    /// What is complete.
    pub releases: Events,
    /// What of it must wait until the announcement has left.
    pub after_announcement: Events,
    /// Entries that are superseded or deleted.
    pub ended: Events,
    /// Entries whose time is over.
    pub expired: Events,
    /// Entries that wait for what cannot be read or changed: they neither expire nor are superseded.
    pub undecided: Events,
    /// Placeholders whose event is here.
    pub placeholders_ended: Identifiers,
    /// Staged commits that nothing names any more.
    pub unstage: Identifiers,
    /// Identifiers that must be reconciled together with these before a PR can expire.
    pub widen: Identifiers,
    /// The dirty numbers that were read: what of it is cleared at the end.
    pub dirty: [u8; 2],
}

impl Plan {
    /// Tells whether it changes nothing but a mark.
    pub fn is_void(&self) -> bool {
        let rest = Self { dirty: [0; 2], ..*self };
        rest == Self::default()
    }
}

/// Decides what to do about some identifiers (`plan`), where something of the disk may fail: nothing is decided about
/// that, and the marks stay.
pub fn plan(model: &Configuration, identifiers: Identifiers, facts: &Facts, disk: &Disk, errors: DiskErrors) -> Plan {
    let facts = &facts.of_reconcile(identifiers, disk);
    let disk = &disk.as_read(errors);
    let is_whole = !errors.broken().with(errors.uninstallable).meets(identifiers);
    let mut plan = Plan {
        dirty: if is_whole { facts.reading.dirty } else { [0; 2] },
        ..Plan::default()
    };
    let indexed = Event::ALL
        .into_iter()
        .filter(|event| event.identifiers().meets(identifiers));
    for event in indexed.filter(|event| facts.reading.statuses[event.index()] != EntryStatus::Absent) {
        if facts.is_deleted(model, event) {
            plan.ended.add(event);
        } else if facts.served.has(event) && facts.reading.statuses[event.index()].is_waiting() {
            // It came into the relay by another way; publishing it once more is answered `duplicate`.
            plan.releases.add(event);
        }
    }
    let mut part = Part {
        identifiers,
        errors,
        is_data_missing: false,
        undecided: Events::NONE,
    };
    if Identifiers::X.meets(identifiers) {
        plan_states(model, facts, disk, &mut part, &mut plan);
    }
    plan_pull_request(model, facts, disk, &mut part, &mut plan);
    if model.bug == Some(Bug::ExpireWithoutReading) {
        part.undecided = Events::NONE;
    }
    plan.undecided = part.undecided.without(plan.releases);
    plan_expiry(model, facts, &part, &mut plan);
    plan_unstaging(model, identifiers, facts, disk, &mut plan);
    plan
}

/// What is reconciled, and what cannot be decided of it.
#[derive(Debug, Clone, Copy)]
struct Part {
    identifiers: Identifiers,
    errors: DiskErrors,
    /// The objects of the state that X is at, or shall be, are not here.
    is_data_missing: bool,
    /// Entries one of whose repositories could not be read or changed: they neither expire nor are superseded.
    undecided: Events,
}

/// The repository at X: which state it is brought to, and which events that completes.
fn plan_states(model: &Configuration, facts: &Facts, disk: &Disk, part: &mut Part, plan: &mut Plan) {
    let event_status = |event| facts.event_status(model, event);
    let has_objects = |state: &Event| disk.objects.has(*state);
    let is_broken = part.errors.broken().meets(Identifiers::X);
    let next = facts.candidate_states(model).find(has_objects);
    let next = next.or(facts.governing_state(model)).filter(|_| !is_broken);
    let target = next.filter(has_objects);
    part.is_data_missing = target != next;
    plan.align = target.filter(|_| target != disk.refs);
    let is_held = |event: &Event| event_status(*event) == EventStatus::Held;
    if is_broken && facts.is_hosted(model) {
        let of_repository = [Event::Announcement, Event::Older, Event::Newer];
        part.undecided = of_repository.into_iter().filter(is_held).collect();
    }
    if is_held(&Event::Announcement) && target.is_some() {
        plan.releases.add(Event::Announcement);
    }
    let announcement = event_status(Event::Announcement);
    for state in [Event::Older, Event::Newer] {
        if !is_held(&state) || part.undecided.has(state) {
            continue;
        }
        let by_same_author = |other: Event| other == state || model.is_one_author;
        let newer_counts =
            Event::Newer > state && by_same_author(Event::Newer) && event_status(Event::Newer).counts_as_served();
        let newer_next = target.is_some_and(|target| target > state && by_same_author(target));
        if newer_counts || newer_next {
            plan.ended.add(state);
        } else if target == Some(state) || next > Some(state) && has_objects(&state) {
            plan.releases.add(state);
            if announcement == EventStatus::Releasing || plan.releases.has(Event::Announcement) {
                plan.after_announcement.add(state);
            }
        }
    }
    if announcement == EventStatus::Served {
        plan.after_announcement = Events::NONE;
    }
}

/// The PR, whose commit may be at X or at Y.
fn plan_pull_request(model: &Configuration, facts: &Facts, disk: &Disk, part: &mut Part, plan: &mut Plan) {
    let status = facts.event_status(model, Event::PullRequest);
    if status == EventStatus::Unknown {
        return;
    }
    let Part {
        identifiers,
        errors,
        is_data_missing,
        ..
    } = *part;
    plan.placeholders_ended = facts.reading.placeholders.within(identifiers);
    let repositories = facts.hosted(model).within(identifiers);
    let failing = errors.broken().with(errors.uninstallable).within(repositories);
    let announcement = facts.event_status(model, Event::Announcement);
    let is_announced = announcement.counts_as_served() || plan.releases.has(Event::Announcement);
    let announced = match is_announced {
        true => repositories,
        false => repositories.without(Identifiers::X),
    };
    let mut open = announced.without(failing);
    if is_data_missing {
        open = open.without(Identifiers::X);
    }
    let found = disk
        .staged
        .within(identifiers)
        .with(disk.installed.within(repositories));
    if !found.is_empty() {
        plan.install = open.without(disk.installed);
    }
    if status != EventStatus::Held {
        return;
    }
    let is_here = !found.is_empty();
    if errors.broken().meets(repositories) || is_here && open.is_empty() && !announced.is_empty() {
        part.undecided.add(Event::PullRequest);
    }
    if is_here && !open.is_empty() {
        plan.releases.add(Event::PullRequest);
        if open == Identifiers::X && announcement != EventStatus::Served {
            plan.after_announcement.add(Event::PullRequest);
        }
    }
}

fn plan_expiry(model: &Configuration, facts: &Facts, part: &Part, plan: &mut Plan) {
    let indexed = facts
        .reading
        .overdue
        .iter()
        .filter(|event| event.identifiers().meets(part.identifiers));
    for event in indexed.filter(|event| facts.reading.statuses[event.index()].is_waiting()) {
        if plan.releases.has(event) || plan.ended.has(event) || part.undecided.has(event) {
            continue;
        }
        let unseen = event.identifiers().without(part.identifiers);
        if unseen.is_empty() || model.bug == Some(Bug::ExpireWithoutWidening) {
            plan.expired.add(event);
        } else {
            plan.widen = plan.widen.with(unseen);
        }
    }
}

/// Staged commits live as long as the event that names them, or the placeholder that awaits one.
fn plan_unstaging(model: &Configuration, identifiers: Identifiers, facts: &Facts, disk: &Disk, plan: &mut Plan) {
    let is_known = facts.event_status(model, Event::PullRequest) != EventStatus::Unknown;
    let mut named = Identifiers::NONE;
    if is_known && !plan.expired.has(Event::PullRequest) {
        named = facts.hosted(model);
    }
    let awaited = facts.reading.placeholders.without(plan.placeholders_ended);
    let staged = disk.staged.within(identifiers).without(plan.install).without(awaited);
    plan.unstage = staged.within(disk.installed).with(staged.without(named));
}
