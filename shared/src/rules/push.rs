//! Whether a push is allowed: if and only if it makes the repository equal to one signed state, or pushes a part of
//! that (GRASP-01, "Git Smart HTTP Service"; docs/ARCHITECTURE.md rules 5 and 6; docs/facts/grasp.md 1.6 and 1.8).
//!
//! Every rule about the commands of a push together is here: which succeed or fail together, and how the received
//! objects and the resulting refs change the verdicts. The verdict about a single command is in `verdict.rs`, and the
//! differences from the states are in `state_match.rs`.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use nostr::event::EventId;

use super::EventStatus;
use super::Facts;
use super::PushedState;
use super::Staged;
use super::state_match::Match;
use super::state_match::is_in_place;
use super::state_match::match_state;
use super::verdict::Commanded;
use super::verdict::PushTarget;
use super::verdict::Verdict;
use super::verdict::decide_update;
use super::verdict::refuse;
use crate::git::ObjectKind;
use crate::git::Oid;
use crate::git::PushCommand;
use crate::git::RefName;
use crate::git::RefUpdate;
use crate::nip34::Coordinate;

/// What to do with a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushDecision {
    /// Every command with its verdict, in the order sent.
    pub commands: Vec<Commanded>,
    /// Events whose deadlines the push extends while it runs: the state that it fulfils, if that is held, and the
    /// announcement of its repository, if that is held.
    pub extend: BTreeSet<EventId>,
    /// Releasing events that declare refs which already have their values: the push succeeds when they are served.
    pub awaited: BTreeSet<EventId>,
    /// Sentences for the pusher (`remote:` lines).
    pub notes: Vec<String>,
    /// Of the PR commits to keep aside, those whose events are not here: each needs a placeholder.
    pub before_event: Vec<(EventId, Oid)>,
    /// Whether a PR commit is staged for a non-maintainer: its event is not signed yet, or by a stranger.
    pub is_staged_by_stranger: bool,
    /// The state that the branches and tags fulfil, or a part of it; `None`: they change nothing, or are refused.
    pub state: Option<PushedState>,
    /// Whether one refusal refuses all.
    atomicity: Atomicity,
}

/// Whether a client wants all of its commands or none (git's `atomic` capability).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Atomicity {
    /// Each command is independent.
    PerRef,
    /// One refusal refuses all.
    AllOrNothing,
}

/// Decides about a push. A malformed command is refused; the others are decided without it.
pub fn decide_push(
    facts: &Facts,
    target: PushTarget<'_>,
    commands: &[PushCommand],
    atomicity: Atomicity,
) -> PushDecision {
    let coordinate = target.coordinate;
    let updates: Vec<&RefUpdate> = commands
        .iter()
        .filter_map(|command| command.update.as_ref().ok())
        .collect();
    let governed: Vec<&RefUpdate> = updates
        .iter()
        .copied()
        .filter(|update| update.name.is_branch_or_tag())
        .collect();
    let mut matched = match_state(facts, coordinate, target.refs, &governed);
    if let Match::Part(state) = matched
        && updates.iter().any(|update| update.name.pull_request_id().is_some())
    {
        // The kept parts of one do not exist for the other.
        matched = Match::None {
            newest: Some(state),
            explanation: PULL_REQUESTS_APART.to_owned(),
        };
    }
    let verdict = |command: &PushCommand| match &command.update {
        Ok(update) => decide_update(facts, target, update, &matched),
        Err(defect) => refuse(defect.to_string()),
    };
    let mut decision = PushDecision {
        commands: commands
            .iter()
            .map(|command| Commanded {
                name: command.name.clone(),
                verdict: verdict(command),
            })
            .collect(),
        extend: BTreeSet::new(),
        awaited: releasing_already(facts, coordinate, &updates),
        notes: Vec::new(),
        before_event: Vec::new(),
        is_staged_by_stranger: false,
        state: matched.state().and_then(PushedState::of),
        atomicity,
    };
    if let Some(state) = matched.state()
        && let Some(replaced) = facts.governing_state(coordinate)
        && replaced.revision != state.revision
    {
        // The push replaces that state, and need not wait for it.
        decision.awaited.remove(&replaced.revision.event_id);
    }
    if decision.is_refused()
        && let Match::None { explanation, .. } = &matched
    {
        decision.notes.push(explanation.clone());
    }
    decision.refuse_together();
    let staged = decision.to_stage(coordinate);
    decision.is_staged_by_stranger = staged.iter().any(|staged| is_a_strangers(facts, staged));
    let commits = staged.iter().map(|staged| (staged.event_id, staged.commit_oid));
    decision.before_event = commits.filter(|(id, _)| facts.pull_request(id).is_none()).collect();
    if decision.has_effect() {
        decision.extend = to_extend(facts, coordinate, &matched);
    }
    decision
}

impl PushDecision {
    /// Whether the push leaves work to do. It does even if everything is in place: the events that put it there
    /// may not be released yet, and facts and refs are of one moment only under the lock.
    pub fn acts(&self) -> bool {
        self.has_effect() || !self.is_refused()
    }

    /// Whether any command changes anything.
    pub fn has_effect(&self) -> bool {
        self.commands
            .iter()
            .any(|commanded| commanded.is_allowed() || commanded.is_staged())
    }

    /// Whether any command is refused.
    pub fn is_refused(&self) -> bool {
        self.commands.iter().any(Commanded::is_refused)
    }

    /// Returns how many commands are refused.
    pub fn refused(&self) -> usize {
        self.commands.iter().filter(|commanded| commanded.is_refused()).count()
    }

    /// Returns the objects that the push names: each must have come with it or be here already.
    pub fn tips(&self) -> BTreeSet<Oid> {
        self.commands.iter().filter_map(Commanded::tip).collect()
    }

    /// Whether the branches and tags are a part of a state.
    pub fn is_part(&self) -> bool {
        self.commands.iter().any(Commanded::is_part)
    }

    /// Returns the state whose parts make the objects of the push complete. A push with PR commits cannot use them:
    /// other objects cannot refer to kept parts.
    pub fn parts_of(&self) -> Option<&PushedState> {
        self.state
            .as_ref()
            .filter(|_| !self.commands.iter().any(Commanded::is_staged))
    }

    /// Whether it brings what a maintainer has signed: branches and tags that a state declares, or commits of a
    /// maintainer's PR. Anything else anybody may push as often as they like: a value that a ref has, and a part of a
    /// state that just deletes. A part with a pack they may push again too, until the rest is here.
    pub fn brings_signed(&self) -> bool {
        let is_signed = |of: &Commanded| of.sets_declared() || of.is_staged() && !self.is_staged_by_stranger;
        self.commands.iter().any(is_signed)
    }

    /// Returns the objects that branches and tags shall name.
    pub fn allowed_tips(&self) -> BTreeSet<Oid> {
        let allowed = self.commands.iter().filter(|commanded| commanded.is_allowed());
        allowed.filter_map(Commanded::tip).collect()
    }

    /// Returns the PR commits to keep aside for the repository at `coordinate`.
    pub fn to_stage(&self, coordinate: &Coordinate) -> Vec<Staged> {
        let staged = |commanded: &Commanded| match &commanded.verdict {
            Verdict::Stage { event_id, commit_oid } => Some(Staged {
                coordinate: coordinate.clone(),
                event_id: *event_id,
                commit_oid: *commit_oid,
            }),
            Verdict::InPlace | Verdict::Allow(_) | Verdict::Part(_) | Verdict::Refuse { .. } => None,
        };
        self.commands.iter().filter_map(staged).collect()
    }

    /// Refuses commands that name a missing object, or one of the wrong kind. `kinds` has those of [`Self::tips`] that
    /// exist.
    pub fn judge_tips(&mut self, kinds: &BTreeMap<Oid, ObjectKind>) {
        for commanded in &mut self.commands {
            let Some(tip) = commanded.tip() else { continue };
            let must_be_commit = commanded.must_be_commit();
            match kinds.get(&tip) {
                None => commanded.verdict = refuse(format!("object {} is missing from the push", tip.short())),
                Some(kind) if must_be_commit && *kind != ObjectKind::Commit => {
                    commanded.verdict = refuse(format!("object {} is not a commit", tip.short()));
                }
                Some(_) => {}
            }
        }
        self.refuse_together();
    }

    /// Refuses commands whose refs do not have the requested values in the end. `refs` is what is on disk now;
    /// `is_done`: everything planned for the repository was done.
    pub fn judge_result(&mut self, refs: &BTreeMap<RefName, Oid>, is_done: bool) {
        let reason = if is_done { OVERTAKEN } else { NOT_SET_YET };
        for commanded in &mut self.commands {
            if let Verdict::Allow(update) = &commanded.verdict
                && refs.get(&update.name).copied() != update.new
            {
                commanded.verdict = refuse(reason);
            }
        }
    }

    /// Refuses the parts of a state that were not kept in the end, and adds a note with the refs that are still
    /// missing. Refs that are set are not parts any more. `refs` is what is on disk now; `here`: the objects of the
    /// state that are present, in the repository or aside.
    pub fn judge_parts(&mut self, refs: &BTreeMap<RefName, Oid>, here: &BTreeSet<Oid>) {
        let mut is_kept = false;
        for commanded in &mut self.commands {
            let Verdict::Part(update) = &commanded.verdict else {
                continue;
            };
            match update.new.is_none_or(|new| here.contains(&new)) {
                _ if is_in_place(update, refs) => commanded.verdict = Verdict::InPlace,
                true => is_kept = true,
                false => commanded.verdict = refuse(OVERTAKEN),
            }
        }
        if let Some(state) = self.state.as_ref().filter(|_| is_kept) {
            self.notes.push(state.still_missing(here));
        }
    }

    /// Refuses what stands or falls with a refused command: branches and tags fulfil a state together or not at all,
    /// and an atomic push is all or nothing.
    fn refuse_together(&mut self) {
        let governed_is_refused = self.commands.iter().any(|commanded| {
            commanded.is_refused()
                && commanded
                    .name
                    .parse()
                    .is_ok_and(|name: RefName| name.is_branch_or_tag())
        });
        let is_atomic = self.atomicity == Atomicity::AllOrNothing && self.is_refused();
        for commanded in &mut self.commands {
            match &commanded.verdict {
                Verdict::Refuse { .. } => {}
                _ if is_atomic => commanded.verdict = refuse("atomic push failure: another ref was refused"),
                Verdict::Allow(_) | Verdict::Part(_) if governed_is_refused => {
                    commanded.verdict = refuse("another branch or tag of this push was refused");
                }
                Verdict::InPlace | Verdict::Allow(_) | Verdict::Part(_) | Verdict::Stage { .. } => {}
            }
        }
    }
}

/// Whether no maintainer has signed the PR of a commit.
fn is_a_strangers(facts: &Facts, staged: &Staged) -> bool {
    let known = facts.pull_request(&staged.event_id);
    known.is_none_or(|known| !facts.confirms(&staged.coordinate, &known.item.author))
}

/// Returns the events that count as served, are not served yet, and concern the push.
fn releasing_already(facts: &Facts, coordinate: &Coordinate, updates: &[&RefUpdate]) -> BTreeSet<EventId> {
    let announcement = facts
        .served_announcement(coordinate)
        .map(|known| known.item.revision.event_id);
    let state = facts.governing_state(coordinate).map(|state| state.revision.event_id);
    let pull_requests = updates.iter().filter_map(|update| update.name.pull_request_id());
    announcement
        .into_iter()
        .chain(state)
        .chain(pull_requests)
        .filter(|event_id| facts.is_releasing(event_id))
        .collect()
}

fn to_extend(facts: &Facts, coordinate: &Coordinate, matched: &Match<'_>) -> BTreeSet<EventId> {
    let Some(state) = matched.state() else {
        return BTreeSet::new();
    };
    let announcement = facts.announcement(coordinate).map(|known| known.item.revision.event_id);
    let is_held = |event_id: &EventId| facts.status(event_id) == Some(EventStatus::Held);
    announcement
        .into_iter()
        .chain([state.revision.event_id])
        .filter(is_held)
        .collect()
}

/// Why a push with PR commits brings no part of a state.
const PULL_REQUESTS_APART: &str = "push the PR commits separately: the branches and tags are only a part of what the \
                                   state event declares";

/// Why a ref does not have the value of the push.
const OVERTAKEN: &str = "not set: another state event has overtaken this push; fetch, then push again";

/// The same where the repository could not be changed. It stays dirty, so this is tried again.
const NOT_SET_YET: &str = "not set yet: the repository cannot be changed right now; the pushed objects are stored, and this server will set the refs by itself";

#[cfg(test)]
mod tests {
    use nostr::event::Event;

    use super::*;
    use crate::rules::facts::tests::Scene;
    use crate::rules::facts::tests::announcement_event;
    use crate::rules::facts::tests::coordinate;
    use crate::rules::facts::tests::oid;
    use crate::rules::facts::tests::pubkey;
    use crate::rules::facts::tests::pull_request_event;
    use crate::rules::facts::tests::state_event;

    fn name(short: &str) -> RefName {
        format!("refs/{short}").parse().unwrap()
    }

    fn refs(refs: &[(&str, char)]) -> BTreeMap<RefName, Oid> {
        refs.iter().map(|(short, digit)| (name(short), oid(*digit))).collect()
    }

    /// A command; `-` is no object.
    fn command(short: &str, old: char, new: char) -> RefUpdate {
        let value = |digit| (digit != '-').then(|| oid(digit));
        RefUpdate {
            name: name(short),
            old: value(old),
            new: value(new),
        }
    }

    fn sent(update: &RefUpdate) -> PushCommand {
        PushCommand {
            name: update.name.to_string(),
            update: Ok(update.clone()),
        }
    }

    fn push(scene: Scene, local: &[(&str, char)], updates: &[RefUpdate]) -> PushDecision {
        let commands: Vec<PushCommand> = updates.iter().map(sent).collect();
        push_atomically(scene, local, &commands, Atomicity::PerRef)
    }

    fn push_atomically(
        scene: Scene,
        local: &[(&str, char)],
        commands: &[PushCommand],
        atomicity: Atomicity,
    ) -> PushDecision {
        let (coordinate, local) = (coordinate(1, "r"), refs(local));
        let target = PushTarget {
            coordinate: &coordinate,
            refs: &local,
        };
        decide_push(&scene.facts(), target, commands, atomicity)
    }

    /// One letter per verdict: in place, allow, part, stage, refuse.
    fn letters(decision: &PushDecision) -> String {
        decision
            .commands
            .iter()
            .map(|commanded| match &commanded.verdict {
                Verdict::InPlace => 'i',
                Verdict::Allow(_) => 'a',
                Verdict::Part(_) => 'p',
                Verdict::Stage { .. } => 's',
                Verdict::Refuse { .. } => 'r',
            })
            .collect()
    }

    fn held(states: &[Event]) -> Scene {
        Scene::default()
            .held([announcement_event(1, "r", 1, &[])])
            .held(states.iter().cloned())
    }

    const MAIN_A: &[(&str, char)] = &[("heads/main", 'a')];
    const MAIN_B: &[(&str, char)] = &[("heads/main", 'b')];

    #[test]
    fn a_pr_commit_that_finds_no_room_waits_for_it_or_is_refused() {
        let (at, announced) = (coordinate(1, "r"), announcement_event(1, "r", 1, &[]));
        let request = pull_request_event(3, &at, 'c');
        let pushed = || {
            let scene = Scene::default().served([announced.clone(), request.clone()]);
            push(scene, &[], &[command(&format!("nostr/{}", request.id), '-', 'c')])
        };
        let lacking = BTreeMap::from([((at.clone(), request.id), "room".to_owned())]);
        let staged: BTreeSet<Staged> = pushed().to_stage(&at).into_iter().collect();
        for (lacking, staged, letter, notes) in [
            (&BTreeMap::new(), &staged, "s", 0),
            (&lacking, &staged, "s", 1),
            (&lacking, &BTreeSet::new(), "r", 0),
        ] {
            let mut decision = pushed();

            decision.judge_room(&at, lacking, staged);

            assert_eq!((letters(&decision).as_str(), decision.notes.len()), (letter, notes));
        }
    }

    #[test]
    fn branches_and_tags() {
        let state = |refs: &[(&str, char)]| held(&[state_event(1, "r", 5, refs)]);
        let two = &[("heads/main", 'a'), ("tags/v1", 'b')][..];
        for (story, scene, local, commands, verdicts) in [
            (
                "without a state",
                held(&[]),
                &[][..],
                vec![command("heads/main", '-', 'a')],
                "r",
            ),
            (
                "exactly what is declared",
                state(MAIN_A),
                &[],
                vec![command("heads/main", '-', 'a')],
                "a",
            ),
            (
                "another commit",
                state(MAIN_A),
                &[],
                vec![command("heads/main", '-', 'b')],
                "r",
            ),
            (
                "an extra branch",
                state(MAIN_A),
                &[],
                vec![command("heads/main", '-', 'a'), command("heads/x", '-', 'a')],
                "rr",
            ),
            (
                "an extra tag",
                state(MAIN_A),
                &[],
                vec![command("heads/main", '-', 'a'), command("tags/v1", '-', 'a')],
                "rr",
            ),
            (
                "a tag moved that is not declared",
                state(MAIN_A),
                &[("tags/v1", 'b')],
                vec![command("heads/main", '-', 'a'), command("tags/v1", 'b', 'a')],
                "rr",
            ),
            (
                "a tag that is not declared is deleted",
                state(MAIN_A),
                &[("heads/main", 'a'), ("tags/v1", 'b')],
                vec![command("tags/v1", 'b', '-')],
                "a",
            ),
            (
                "a part of what is declared",
                state(two),
                &[],
                vec![command("heads/main", '-', 'a')],
                "p",
            ),
            (
                "a part beside what another state has there",
                state(two),
                &[("heads/main", 'c'), ("heads/old", 'c')],
                vec![command("heads/main", 'c', 'a')],
                "p",
            ),
            (
                "a part that deletes what is not declared",
                state(two),
                &[("heads/old", 'c')],
                vec![command("tags/v1", '-', 'b'), command("heads/old", 'c', '-')],
                "pp",
            ),
            (
                "a part that deletes what is declared",
                state(two),
                &[("tags/v1", 'c')],
                vec![command("heads/main", '-', 'a'), command("tags/v1", 'c', '-')],
                "rr",
            ),
            (
                "a part with a ref that is not declared",
                state(two),
                &[],
                vec![command("heads/main", '-', 'a'), command("heads/x", '-', 'a')],
                "rr",
            ),
            (
                "a part with another commit for a ref that is in place",
                state(two),
                &[("tags/v1", 'c')],
                vec![command("heads/main", '-', 'a'), command("tags/v1", 'c', 'c')],
                "ri",
            ),
            (
                "all of what is declared",
                state(two),
                &[],
                vec![command("heads/main", '-', 'a'), command("tags/v1", '-', 'b')],
                "aa",
            ),
            (
                "the rest of what is declared",
                state(two),
                MAIN_A,
                vec![command("tags/v1", '-', 'b')],
                "a",
            ),
            (
                "a branch that is not declared is left",
                state(MAIN_A),
                &[("heads/old", 'c')],
                vec![command("heads/main", '-', 'a')],
                "p",
            ),
            (
                "a branch that is not declared is deleted",
                state(MAIN_A),
                &[("heads/old", 'c')],
                vec![command("heads/main", '-', 'a'), command("heads/old", 'c', '-')],
                "aa",
            ),
            (
                "a declared branch is deleted",
                state(MAIN_A),
                MAIN_A,
                vec![command("heads/main", 'a', '-')],
                "r",
            ),
            (
                "refs of another namespace do not count",
                state(MAIN_A),
                &[("pull/1", 'c')],
                vec![command("heads/main", '-', 'a')],
                "a",
            ),
            (
                "and cannot be pushed",
                state(MAIN_A),
                &[],
                vec![command("heads/main", '-', 'a'), command("pull/1", '-', 'a')],
                "ar",
            ),
            (
                "a stranger's state",
                held(&[state_event(2, "r", 5, MAIN_A)]),
                &[],
                vec![command("heads/main", '-', 'a')],
                "r",
            ),
            (
                "a stale old value",
                state(MAIN_B),
                MAIN_A,
                vec![command("heads/main", 'c', 'b')],
                "r",
            ),
            (
                "a stale old value, target in place",
                state(MAIN_B),
                MAIN_B,
                vec![command("heads/main", 'c', 'b')],
                "i",
            ),
            (
                "a stale old value beside another command of the same state",
                state(two),
                &[("heads/main", 'c')],
                vec![command("heads/main", 'b', 'a'), command("tags/v1", '-', 'b')],
                "rr",
            ),
            (
                "deleting what is absent",
                held(&[]),
                &[],
                vec![command("heads/x", 'c', '-')],
                "i",
            ),
            (
                "deleting what is absent, knowing it",
                held(&[]),
                &[],
                vec![command("heads/x", '-', '-')],
                "i",
            ),
            (
                "a null command for what exists",
                held(&[]),
                MAIN_A,
                vec![command("heads/main", '-', '-')],
                "r",
            ),
            (
                "nothing new needs no state",
                held(&[]),
                MAIN_A,
                vec![command("heads/main", 'a', 'a')],
                "i",
            ),
        ] {
            let decision = push(scene, local, &commands);

            assert_eq!(letters(&decision), verdicts, "{story}: {decision:?}");
            assert_eq!(decision.brings_signed(), verdicts.contains(['a', 'p']), "{story}");
        }
    }

    /// Pushes that delete a branch that is not there waited among the owners, however many there were.
    #[test]
    fn what_nobody_has_signed_waits_among_strangers() {
        let [owners, strangers] = [1, 2].map(|author| pull_request_event(author, &coordinate(1, "r"), 'c'));
        let scene = || {
            let announced = announcement_event(1, "r", 1, &[]);
            let state = state_event(1, "r", 5, MAIN_A);
            Scene::default()
                .served([announced, state])
                .held([owners.clone(), strangers.clone()])
        };
        let commit_for = |event: &Event| command(&format!("nostr/{}", event.id), '-', 'c');
        let [in_place, absent] = [command("heads/main", 'a', 'a'), command("heads/x", '-', '-')];
        for (story, commands, is_signed) in [
            ("an owner's PR", vec![commit_for(&owners)], true),
            ("a stranger's PR", vec![commit_for(&strangers)], false),
            ("both", vec![commit_for(&owners), commit_for(&strangers)], false),
            ("what is there", vec![in_place, absent.clone()], false),
            (
                "that, beside a stranger's PR",
                vec![absent, commit_for(&strangers)],
                false,
            ),
        ] {
            let decision = push(scene(), MAIN_A, &commands);

            assert!(decision.acts(), "{story}: {decision:?}");
            assert_eq!(decision.brings_signed(), is_signed, "{story}: {decision:?}");
        }

        let declared = &[("heads/main", 'a'), ("tags/v1", 'b'), ("tags/v2", 'b')];
        let part = |pushed| {
            let scene = held(&[state_event(1, "r", 6, declared)]);
            push(scene, &[("heads/main", 'a'), ("heads/old", 'c')], &[pushed])
        };
        for (pushed, is_signed) in [
            (command("tags/v1", '-', 'b'), true),
            (command("heads/old", 'c', '-'), false),
        ] {
            let decision = part(pushed);

            assert_eq!(letters(&decision), "p", "{decision:?}");
            assert_eq!(decision.brings_signed(), is_signed, "{decision:?}");
        }
    }

    #[test]
    fn a_part_is_of_the_newest_state_that_declares_it_and_none_is_fulfilled_by_it() {
        let (one, two) = (
            state_event(1, "r", 5, &[("heads/main", 'a'), ("tags/v1", 'b')]),
            state_event(1, "r", 6, &[("heads/main", 'a'), ("tags/v2", 'b')]),
        );
        let whole = state_event(1, "r", 4, MAIN_A);
        let main = command("heads/main", '-', 'a');
        for (story, states, pushed, verdict, meant) in [
            ("of the newest", vec![&one, &two], main.clone(), "p", Some(&two)),
            (
                "of the one that declares it",
                vec![&one, &two],
                command("tags/v1", '-', 'b'),
                "p",
                Some(&one),
            ),
            (
                "an older one is fulfilled",
                vec![&one, &two, &whole],
                main.clone(),
                "a",
                Some(&whole),
            ),
            ("of none", vec![&one, &two], command("tags/v3", '-', 'b'), "r", None),
        ] {
            let states: Vec<Event> = states.into_iter().cloned().collect();

            let decision = push(held(&states), &[], &[pushed]);

            assert_eq!(letters(&decision), verdict, "{story}: {decision:?}");
            assert_eq!(
                decision.state.map(|state| state.event_id),
                meant.map(|state| state.id),
                "{story}"
            );
            assert_eq!(!decision.extend.is_empty(), meant.is_some(), "{story}");
        }
    }

    #[test]
    fn a_part_comes_without_pull_requests() {
        let scene = held(&[state_event(1, "r", 5, &[("heads/main", 'a'), ("tags/v1", 'b')])]);
        let commands = [
            command("heads/main", '-', 'a'),
            command(&format!("nostr/{}", "1".repeat(64)), '-', 'c'),
        ];

        let decision = push(scene, &[], &commands);

        assert_eq!(letters(&decision), "rs", "{decision:?}");
        assert!(
            decision.notes[0].contains("push the PR commits separately"),
            "{decision:?}"
        );
        assert_eq!(decision.parts_of(), None);
    }

    #[test]
    fn the_pusher_of_a_part_reads_what_is_missing() {
        let declared = &[("heads/main", 'a'), ("heads/next", 'b'), ("tags/v1", 'c')][..];
        let part = || {
            let state = state_event(1, "r", 5, declared);
            push(held(&[state]), &[], &[command("heads/main", '-', 'a')])
        };
        for (story, local, here, verdict, note) in [
            (
                "kept",
                &[][..],
                "a",
                "p",
                Some("still missing: refs/heads/next, refs/tags/v1"),
            ),
            ("kept, and all is here", &[], "abc", "p", Some("as soon as possible")),
            ("all is set", declared, "abc", "i", None),
            ("lost", MAIN_B, "", "r", None),
        ] {
            let mut decision = part();

            decision.judge_parts(&refs(local), &here.chars().map(oid).collect());

            assert_eq!(letters(&decision), verdict, "{story}");
            let notes = &decision.notes;
            assert_eq!(!notes.is_empty(), note.is_some(), "{story}: {notes:?}");
            assert!(note.is_none_or(|note| notes[0].contains(note)), "{story}: {notes:?}");
        }
    }

    #[test]
    fn late_binding() {
        let (old, new) = (state_event(1, "r", 5, MAIN_A), state_event(1, "r", 6, MAIN_B));
        let waiting = || held(&[old.clone(), new.clone()]);
        for (story, scene, local, pushed, verdicts) in [
            (
                "the older first",
                waiting(),
                &[][..],
                command("heads/main", '-', 'a'),
                "a",
            ),
            ("the newer first", waiting(), &[], command("heads/main", '-', 'b'), "a"),
            (
                "the older after the newer",
                Scene::default()
                    .served([announcement_event(1, "r", 1, &[]), new.clone()])
                    .held([old.clone()]),
                MAIN_B,
                command("heads/main", 'b', 'a'),
                "r",
            ),
            (
                "what is served, again, after the data was lost",
                Scene::default().served([announcement_event(1, "r", 1, &[]), new.clone()]),
                &[],
                command("heads/main", '-', 'b'),
                "a",
            ),
        ] {
            let decision = push(scene, local, &[pushed]);

            assert_eq!(letters(&decision), verdicts, "{story}: {decision:?}");
        }
    }

    #[test]
    fn a_push_extends_its_state_and_announcement() {
        let announced = announcement_event(1, "r", 1, &[]);
        let state = state_event(1, "r", 5, MAIN_A);
        let scene = Scene::default().held([announced.clone(), state.clone()]);

        let decision = push(scene, &[], &[command("heads/main", '-', 'a')]);

        assert_eq!(decision.extend, BTreeSet::from([announced.id, state.id]));
    }

    #[test]
    fn a_refusal_says_what_the_state_declares() {
        let decision = push(
            held(&[state_event(1, "r", 5, MAIN_A)]),
            &[],
            &[command("heads/main", '-', 'b')],
        );

        let Verdict::Refuse { reason } = &decision.commands[0].verdict else {
            panic!("{decision:?}")
        };
        assert_eq!(reason, "the state event declares aaaaaaaa here");
        assert!(
            decision.notes[0].contains("refs/heads/main would be bbbbbbbb"),
            "{:?}",
            decision.notes
        );
    }

    #[test]
    fn one_refusal_refuses_an_atomic_push_whole() {
        let commands = [command("heads/main", '-', 'a'), command("pull/1", '-', 'a')].map(|update| sent(&update));
        let scene = held(&[state_event(1, "r", 5, MAIN_A)]);

        let decision = push_atomically(scene, &[], &commands, Atomicity::AllOrNothing);

        assert_eq!(letters(&decision), "rr");
        assert!(!decision.has_effect() && decision.extend.is_empty());
    }

    /// A push that names an unchanged branch beside a PR was refused for want of a state (ngit-grasp before 3.0.5).
    #[test]
    fn an_unchanged_branch_beside_a_pull_request_needs_no_state() {
        let request = pull_request_event(3, &coordinate(1, "r"), 'c');
        let commands = [
            command("heads/main", 'a', 'a'),
            command(&format!("nostr/{}", request.id), '-', 'c'),
        ];

        let decision = push(held(&[]), MAIN_A, &commands);

        assert_eq!(letters(&decision), "is", "{decision:?}");
        assert!(decision.extend.is_empty());
    }

    /// The well-formed commands of such a push were left undone and reported ok.
    #[test]
    fn a_malformed_command_is_refused_and_refuses_an_atomic_push_whole() {
        let malformed = PushCommand {
            name: "refs/heads/..".to_owned(),
            update: Err(crate::git::CommandDefect::DirectoryConflict),
        };
        let tag = sent(&command(&format!("nostr/{}", "1".repeat(64)), '-', 'c'));
        for (atomicity, verdicts) in [(Atomicity::PerRef, "rs"), (Atomicity::AllOrNothing, "rr")] {
            let decision = push_atomically(held(&[]), &[], &[malformed.clone(), tag.clone()], atomicity);

            assert_eq!(letters(&decision), verdicts, "{decision:?}");
        }
    }

    #[test]
    fn what_did_not_come_or_is_no_commit_refuses_all_branches_and_tags() {
        let two = &[("heads/main", 'a'), ("tags/v1", 'b')][..];
        let pushed = [
            command("heads/main", '-', 'a'),
            command("tags/v1", '-', 'b'),
            command(&format!("nostr/{}", "1".repeat(64)), '-', 'c'),
        ];
        let (commit, tag) = (ObjectKind::Commit, ObjectKind::Tag);
        for (story, kinds, verdicts) in [
            ("all is here", vec![('a', commit), ('b', tag), ('c', commit)], "aas"),
            (
                "a tag may name a commit",
                vec![('a', commit), ('b', commit), ('c', commit)],
                "aas",
            ),
            ("a missing tag", vec![('a', commit), ('c', commit)], "rrs"),
            (
                "a branch that is a tag",
                vec![('a', tag), ('b', tag), ('c', commit)],
                "rrs",
            ),
            ("a PR that is a tag", vec![('a', commit), ('b', tag), ('c', tag)], "aar"),
        ] {
            let mut decision = push(held(&[state_event(1, "r", 5, two)]), &[], &pushed);

            decision.judge_tips(&kinds.into_iter().map(|(digit, kind)| (oid(digit), kind)).collect());

            assert_eq!(letters(&decision), verdicts, "{story}: {decision:?}");
        }
    }

    #[test]
    fn a_ref_that_is_not_set_in_the_end_is_not_reported_as_set() {
        for (local, is_done, expected) in [
            (MAIN_A, true, None),
            (MAIN_B, true, Some(OVERTAKEN)),
            (&[][..], false, Some(NOT_SET_YET)),
        ] {
            let mut decision = push(
                held(&[state_event(1, "r", 5, MAIN_A)]),
                &[],
                &[command("heads/main", '-', 'a')],
            );

            decision.judge_result(&refs(local), is_done);

            let reason = match &decision.commands[0].verdict {
                Verdict::Refuse { reason } => Some(reason.as_str()),
                Verdict::InPlace | Verdict::Allow(_) | Verdict::Part(_) | Verdict::Stage { .. } => None,
            };
            assert_eq!(reason, expected);
        }
    }

    #[test]
    fn pull_requests() {
        let ours = coordinate(1, "r");
        let request = pull_request_event(3, &ours, 'c');
        let short = format!("nostr/{}", request.id);
        let own = announcement_event(1, "r", 1, &[]);
        let for_other = pull_request_event(3, &coordinate(2, "r"), 'c');
        let other_short = format!("nostr/{}", for_other.id);
        let listing = announcement_event(1, "r", 1, &[&["maintainers", &pubkey(2).to_hex()]]);
        for (story, scene, local, pushed, verdict) in [
            (
                "before its event",
                Scene::default().served([own.clone()]),
                &[][..],
                command(&short, '-', 'c'),
                "s",
            ),
            (
                "after it",
                Scene::default().served([own.clone()]).held([request.clone()]),
                &[],
                command(&short, '-', 'c'),
                "s",
            ),
            (
                "repository not served yet",
                Scene::default().held([own.clone(), request.clone()]),
                &[],
                command(&short, '-', 'c'),
                "s",
            ),
            (
                "another commit",
                Scene::default().served([own.clone()]).held([request.clone()]),
                &[],
                command(&short, '-', 'd'),
                "r",
            ),
            (
                "deleting a known one",
                Scene::default().served([own.clone(), request.clone()]),
                &[],
                command(&short, 'c', '-'),
                "i",
            ),
            (
                "deleting the ref of a served one",
                Scene::default().served([own.clone(), request.clone()]),
                &[(short.as_str(), 'c')],
                command(&short, 'c', '-'),
                "r",
            ),
            (
                "offered to somebody else",
                Scene::default().served([own.clone()]).held([for_other.clone()]),
                &[],
                command(&other_short, '-', 'c'),
                "r",
            ),
            (
                "offered to a maintainer",
                Scene::default().served([listing]).held([for_other]),
                &[],
                command(&other_short, '-', 'c'),
                "s",
            ),
            (
                "no event id",
                Scene::default().served([own]),
                &[],
                command("nostr/123", '-', 'c'),
                "r",
            ),
        ] {
            let decision = push(scene, local, &[pushed]);

            assert_eq!(letters(&decision), verdict, "{story}: {decision:?}");
        }
    }
}
