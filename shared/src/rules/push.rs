//! Whether a push is allowed: exactly when it makes the repository equal to what one signed state declares
//! (GRASP-01, "Git Smart HTTP Service"; design 2, rules 5 and 6; facts/grasp 1.6 and 1.8).

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use nostr::event::EventId;

use super::EventStatus;
use super::Facts;
use crate::git::Namespace;
use crate::git::Oid;
use crate::git::RefName;
use crate::git::RefUpdate;
use crate::nip34::Coordinate;
use crate::nip34::Declared;
use crate::nip34::State;

/// What to do with one command of a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefVerdict {
    /// The ref has the wanted value already: reported ok, nothing to do.
    InPlace,
    /// A branch or tag that the matching state declares so.
    Allow,
    /// A PR commit: its objects are kept aside until its event is here and its repository served, which may be at once.
    Stage {
        /// The event that names the commit.
        event_id: EventId,
        /// The commit.
        commit_oid: Oid,
    },
    /// Refused; git prints the reason after the ref.
    Refuse {
        /// Why, for the pusher.
        reason: String,
    },
}

/// What to do with a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushDecision {
    /// One verdict per command, in their order.
    pub verdicts: Vec<RefVerdict>,
    /// What to hold on to while the push runs: the state that it fulfils, if that is held, and the announcement of
    /// its repository, if that is held.
    pub extend: BTreeSet<EventId>,
    /// Events on their way into the relay that stand for what is in place already: the push succeeds when they are
    /// served.
    pub awaited: BTreeSet<EventId>,
    /// Sentences for the pusher (`remote:` lines).
    pub remarks: Vec<String>,
}

impl PushDecision {
    /// Tells whether any command changes anything.
    pub fn has_effect(&self) -> bool {
        self.verdicts.iter().any(|verdict| match verdict {
            RefVerdict::Allow | RefVerdict::Stage { .. } => true,
            RefVerdict::InPlace | RefVerdict::Refuse { .. } => false,
        })
    }

    /// Tells whether any command is refused.
    pub fn is_refused(&self) -> bool {
        self.verdicts
            .iter()
            .any(|verdict| matches!(verdict, RefVerdict::Refuse { .. }))
    }

    /// Tells whether any command's objects are kept aside.
    pub fn stages(&self) -> bool {
        self.verdicts
            .iter()
            .any(|verdict| matches!(verdict, RefVerdict::Stage { .. }))
    }

    /// Refuses every command, because one of an atomic push is refused.
    fn refuse_as_one(&mut self) {
        for verdict in &mut self.verdicts {
            if !matches!(verdict, RefVerdict::Refuse { .. }) {
                *verdict = RefVerdict::Refuse {
                    reason: "atomic push failure: another ref was refused".to_owned(),
                };
            }
        }
        self.extend.clear();
    }
}

/// Whether a client wants all of its commands or none (git's `atomic` capability).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Atomicity {
    /// Each command stands for itself.
    PerRef,
    /// One refusal refuses all.
    AllOrNothing,
}

/// The repository that a push goes to.
#[derive(Debug, Clone, Copy)]
pub struct PushTarget<'a> {
    /// Its coordinate.
    pub coordinate: &'a Coordinate,
    /// Its refs; `None`: there is nothing on disk (not yet, or not any more).
    pub refs: Option<&'a BTreeMap<RefName, Oid>>,
}

/// Decides about a push.
///
/// Commands that are not even well-formed are refused by the caller and not among `commands`.
pub fn decide_push(
    facts: &Facts,
    target: PushTarget<'_>,
    commands: &[RefUpdate],
    atomicity: Atomicity,
) -> PushDecision {
    let coordinate = target.coordinate;
    let no_refs = BTreeMap::new();
    let local = target.refs.unwrap_or(&no_refs);
    let mut decision = PushDecision {
        verdicts: Vec::with_capacity(commands.len()),
        extend: BTreeSet::new(),
        awaited: on_their_way(facts, coordinate, commands),
        remarks: Vec::new(),
    };
    let governed: Vec<&RefUpdate> = commands.iter().filter(|command| is_governed(command)).collect();
    let fulfilled = match_state(facts, coordinate, local, &governed);
    if let Match::State(state) = &fulfilled
        && let Some(replaced) = facts.governing_state(coordinate)
        && replaced.revision != state.revision
    {
        // What the push takes the place of is nothing that it has to wait for.
        decision.awaited.remove(&replaced.revision.event_id);
    }
    for command in commands {
        let verdict = match command.name.namespace() {
            Namespace::Branch | Namespace::Tag => decide_governed(command, local, &fulfilled),
            Namespace::PullRequest(event_id) => decide_pull_request(facts, target, command, event_id),
            Namespace::MalformedPullRequest => refuse("not an event id: refs/nostr/<64 lower-case hex digits>"),
            Namespace::Other => refuse("only refs/heads/, refs/tags/ and refs/nostr/<event-id> can be pushed"),
        };
        decision.verdicts.push(verdict);
    }
    refuse_beyond_limit(&mut decision.verdicts);
    let refused = decision.is_refused();
    if refused && let Match::None { explanation, .. } = &fulfilled {
        decision.remarks.push(explanation.clone());
    }
    if refused && atomicity == Atomicity::AllOrNothing {
        decision.refuse_as_one();
    }
    if decision.has_effect() {
        decision.extend = to_extend(facts, coordinate, &fulfilled);
    }
    decision
}

/// Most PR commits that one push may bring.
const STAGED_MAX: usize = 32;

fn refuse_beyond_limit(verdicts: &mut [RefVerdict]) {
    let staged = verdicts
        .iter_mut()
        .filter(|verdict| matches!(verdict, RefVerdict::Stage { .. }));
    for verdict in staged.skip(STAGED_MAX) {
        *verdict = refuse(format!(
            "one push may bring {STAGED_MAX} PR commits, push the others separately"
        ));
    }
}

/// Returns what is public but not served yet of what a push asks for.
fn on_their_way(facts: &Facts, coordinate: &Coordinate, commands: &[RefUpdate]) -> BTreeSet<EventId> {
    let leaving = |event_id: &EventId| {
        facts
            .entries
            .get(event_id)
            .is_some_and(|entry| entry.status.counts_as_served())
    };
    let announcement = facts
        .served_announcement(coordinate)
        .map(|known| known.item.revision.event_id);
    let state = facts.governing_state(coordinate).map(|state| state.revision.event_id);
    let pull_requests = commands.iter().filter_map(|command| match command.name.namespace() {
        Namespace::PullRequest(event_id) => Some(event_id),
        Namespace::Branch | Namespace::Tag | Namespace::MalformedPullRequest | Namespace::Other => None,
    });
    announcement
        .into_iter()
        .chain(state)
        .chain(pull_requests)
        .filter(leaving)
        .collect()
}

fn is_governed(command: &RefUpdate) -> bool {
    match command.name.namespace() {
        Namespace::Branch | Namespace::Tag => true,
        Namespace::PullRequest(_) | Namespace::MalformedPullRequest | Namespace::Other => false,
    }
}

fn refuse(reason: impl Into<String>) -> RefVerdict {
    RefVerdict::Refuse { reason: reason.into() }
}

/// Which state the branches and tags of a push fulfil.
enum Match<'f> {
    /// They change nothing.
    NotNeeded,
    /// They make the repository equal to what this state declares.
    State(&'f State),
    /// No candidate; with the newest one that could have been meant.
    None {
        newest: Option<&'f Declared>,
        explanation: String,
    },
}

/// Finds the newest candidate that the repository equals with the push applied: the governing state, so that a
/// repository that lost data is healed by pushing again, or a held one newer than it.
fn match_state<'f>(
    facts: &'f Facts,
    coordinate: &Coordinate,
    local: &BTreeMap<RefName, Oid>,
    governed: &[&RefUpdate],
) -> Match<'f> {
    if governed.iter().all(|command| is_in_place(command, local)) {
        return Match::NotNeeded;
    }
    let mut candidates = facts.candidate_states(coordinate);
    candidates.extend(facts.governing_state(coordinate));
    let resulting = apply(local, governed);
    let fulfils = |state: &&&State| state.declared.as_ref().is_ok_and(|declared| declared.refs == resulting);
    if let Some(state) = candidates.iter().find(fulfils) {
        return Match::State(state);
    }
    let newest = candidates.iter().find_map(|state| state.declared.as_ref().ok());
    let explanation = match (newest, candidates.len()) {
        (None, 0) => "no state event for this repository waits for a push: publish a signed state (kind 30618) \
                      that declares what you push, then push again"
            .to_owned(),
        (None, _) => "the state event for this repository declares refs that no push can bring about: publish a \
                      corrected one"
            .to_owned(),
        (Some(declared), _) => format!(
            "no state event declares what this push makes: {}",
            differences(&resulting, declared)
        ),
    };
    Match::None { newest, explanation }
}

fn is_in_place(command: &RefUpdate, local: &BTreeMap<RefName, Oid>) -> bool {
    local.get(&command.name).copied() == command.new
}

fn is_stale(command: &RefUpdate, local: &BTreeMap<RefName, Oid>) -> bool {
    local.get(&command.name).copied() != command.old
}

/// Returns the branches and tags as they are with the push applied.
fn apply(local: &BTreeMap<RefName, Oid>, governed: &[&RefUpdate]) -> BTreeMap<RefName, Oid> {
    let is_local = |name: &RefName| matches!(name.namespace(), Namespace::Branch | Namespace::Tag);
    let mut resulting: BTreeMap<RefName, Oid> = local
        .iter()
        .filter(|(name, _)| is_local(name))
        .map(|(name, oid)| (name.clone(), *oid))
        .collect();
    for command in governed {
        match command.new {
            Some(oid) => resulting.insert(command.name.clone(), oid),
            None => resulting.remove(&command.name),
        };
    }
    resulting
}

/// Says where the result of a push and a state differ, the first three refs by name.
fn differences(resulting: &BTreeMap<RefName, Oid>, declared: &Declared) -> String {
    let names: BTreeSet<&RefName> = resulting.keys().chain(declared.refs.keys()).collect();
    let differing: Vec<&RefName> = names
        .into_iter()
        .filter(|name| resulting.get(*name) != declared.refs.get(*name))
        .collect();
    let value = |oid: Option<&Oid>| oid.map_or("absent".to_owned(), Oid::short);
    let mut texts: Vec<String> = differing
        .iter()
        .take(3)
        .map(|name| {
            let (pushed, wanted) = (value(resulting.get(*name)), value(declared.refs.get(*name)));
            format!("{name} would be {pushed}, the newest state says {wanted}")
        })
        .collect();
    if differing.len() > 3 {
        texts.push(format!("and {} more", differing.len() - 3));
    }
    texts.join("; ")
}

fn decide_governed(command: &RefUpdate, local: &BTreeMap<RefName, Oid>, fulfilled: &Match<'_>) -> RefVerdict {
    if is_in_place(command, local) {
        return RefVerdict::InPlace;
    }
    if is_stale(command, local) {
        return refuse("stale: the ref has changed since you fetched; fetch first");
    }
    match fulfilled {
        Match::NotNeeded | Match::State(_) => RefVerdict::Allow,
        Match::None { newest: None, .. } => refuse("no state event declares this"),
        Match::None {
            newest: Some(declared), ..
        } => match (declared.refs.get(&command.name), command.new) {
            (Some(wanted), Some(new)) if *wanted == new => {
                refuse("the state event declares other refs too that this push does not bring about")
            }
            (Some(wanted), _) => refuse(format!("the state event declares {} here", wanted.short())),
            (None, Some(_)) => refuse("the state event does not declare this ref"),
            (None, None) => refuse("the state event declares other refs too that this push does not bring about"),
        },
    }
}

fn decide_pull_request(facts: &Facts, target: PushTarget<'_>, command: &RefUpdate, event_id: EventId) -> RefVerdict {
    let coordinate = target.coordinate;
    if target.refs.and_then(|refs| refs.get(&command.name)).copied() == command.new {
        return RefVerdict::InPlace;
    }
    let known = facts.pull_request(&event_id);
    match (command.new, known) {
        (None, Some(_)) => refuse("this is the commit of a PR event; it stays as long as the event"),
        (None, None) => refuse("a commit that waits for its PR event ends by itself; push another to replace it"),
        (Some(new), Some(known)) if known.item.commit_oid != new => refuse(format!(
            "the PR event names commit {}, not {}",
            known.item.commit_oid.short(),
            new.short()
        )),
        (Some(_), Some(known)) if !facts.is_offered_to(&known.item, coordinate) => {
            refuse("the PR event is not offered to this repository")
        }
        // Kept aside in any case: what moves in, and where, is for a look to decide, which finds what is staged even
        // after a crash.
        (Some(commit_oid), Some(_) | None) => RefVerdict::Stage { event_id, commit_oid },
    }
}

fn to_extend(facts: &Facts, coordinate: &Coordinate, fulfilled: &Match<'_>) -> BTreeSet<EventId> {
    let Match::State(state) = fulfilled else {
        return BTreeSet::new();
    };
    let announcement = facts.announcement(coordinate).filter(|known| known.status.is_held());
    let held = |event_id: &EventId| {
        facts
            .states
            .iter()
            .any(|known| known.item.revision.event_id == *event_id && matches!(known.status, EventStatus::Held { .. }))
    };
    let mut extend: BTreeSet<EventId> = announcement
        .map(|known| known.item.revision.event_id)
        .into_iter()
        .collect();
    extend.extend(Some(state.revision.event_id).filter(held));
    extend
}

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

    fn push(scene: Scene, local: &[(&str, char)], commands: &[RefUpdate]) -> PushDecision {
        push_atomically(scene, local, commands, Atomicity::PerRef)
    }

    fn push_atomically(
        scene: Scene,
        local: &[(&str, char)],
        commands: &[RefUpdate],
        atomicity: Atomicity,
    ) -> PushDecision {
        let (coordinate, local) = (coordinate(1, "r"), refs(local));
        let target = PushTarget {
            coordinate: &coordinate,
            refs: Some(&local),
        };
        decide_push(&scene.facts(), target, commands, atomicity)
    }

    /// One letter per verdict: in place, allow, stage, refuse.
    fn letters(decision: &PushDecision) -> String {
        decision
            .verdicts
            .iter()
            .map(|verdict| match verdict {
                RefVerdict::InPlace => 'i',
                RefVerdict::Allow => 'a',
                RefVerdict::Stage { .. } => 's',
                RefVerdict::Refuse { .. } => 'r',
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
                "r",
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
                "r",
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
    fn a_push_holds_on_to_its_state_and_announcement() {
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

        let RefVerdict::Refuse { reason } = &decision.verdicts[0] else {
            panic!("{decision:?}")
        };
        assert_eq!(reason, "the state event declares aaaaaaaa here");
        assert!(
            decision.remarks[0].contains("refs/heads/main would be bbbbbbbb"),
            "{:?}",
            decision.remarks
        );
    }

    #[test]
    fn one_refusal_refuses_an_atomic_push_whole() {
        let commands = [command("heads/main", '-', 'a'), command("pull/1", '-', 'a')];
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
