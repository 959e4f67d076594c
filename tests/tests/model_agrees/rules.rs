//! The decisions: each is made twice, by the model and by the program.

use protocol_model::Bug;
use protocol_model::Configuration;
use protocol_model::disk::Disk;
use protocol_model::disk::DiskErrors;
use protocol_model::event::Event;
use protocol_model::event::Events;
use protocol_model::event::Identifiers;
use protocol_model::event::Push;
use protocol_model::redis::EntryStatus;
use protocol_model::redis::Reading;
use protocol_model::rules as model_rules;
use shared::rules::Admission;
use shared::rules::Atomicity;
use shared::rules::GitEvent;
use shared::rules::Hosting;
use shared::rules::PlanSettings;
use shared::rules::PullRequestLimits;
use shared::rules::PushTarget;
use shared::rules::Refusal;
use shared::rules::decide_admission;
use shared::rules::decide_push;
use shared::rules::plan;

use crate::Draws;
use crate::configuration;
use crate::translation::World;

/// What there may be, once.
#[derive(Debug, Clone)]
struct Case {
    model: Configuration,
    identifiers: Identifiers,
    facts: model_rules::Facts,
    disk: Disk,
    errors: DiskErrors,
}

/// The entries of an event: status, and whether it is past its deadline.
const ENTRIES: [(EntryStatus, bool); 6] = [
    (EntryStatus::Absent, false),
    (EntryStatus::Held, false),
    (EntryStatus::Held, true),
    (EntryStatus::Releasing, false),
    // Announcements only.
    (EntryStatus::Asleep, false),
    (EntryStatus::Asleep, true),
];

const PLACES: [Identifiers; 4] = [Identifiers::NONE, Identifiers::X, Identifiers::Y, Identifiers::BOTH];

/// Which states have their objects here, and which of them the refs equal.
fn repositories() -> Vec<(Events, Option<Event>)> {
    let states = [Event::Older, Event::Newer];
    let mut all = Vec::new();
    for objects in [&[][..], &states[..1], &states[1..], &states] {
        let refs = objects.iter().map(|state| Some(*state));
        let objects: Events = objects.iter().copied().collect();
        all.extend([None].into_iter().chain(refs).map(|refs| (objects, refs)));
    }
    all
}

fn facts(entries: [(EntryStatus, bool); 4], served: impl Fn(Event) -> bool) -> model_rules::Facts {
    let events = || Event::ALL.into_iter();
    let reading = Reading {
        statuses: entries.map(|(status, _)| status),
        overdue: events().filter(|event| entries[event.index()].1).collect(),
        ..Reading::default()
    };
    let served = events().filter(|event| served(*event)).collect();
    model_rules::Facts::assemble(reading, served, false)
}

/// Every case of one repository without a PR.
fn cases_of_one_repository(bug: Option<Bug>) -> impl Iterator<Item = Case> {
    let entries = ENTRIES.into_iter().flat_map(|announcement| {
        let of_states = || ENTRIES.into_iter().take(4);
        of_states().flat_map(move |older| of_states().map(move |newer| [announcement, older, newer, ENTRIES[0]]))
    });
    let known =
        entries.flat_map(|entries| (0..8).map(move |bits| facts(entries, |event| bits >> event.index() & 1 == 1)));
    known.flat_map(move |facts| {
        repositories().into_iter().flat_map(move |(objects, refs)| {
            let disk = Disk {
                objects,
                refs,
                ..Disk::default()
            };
            [true, false].into_iter().map(move |is_one_author| Case {
                model: configuration(is_one_author, None, bug),
                identifiers: Identifiers::X,
                facts,
                disk,
                errors: DiskErrors::NONE,
            })
        })
    })
}

/// Any case at all.
fn drawn(draws: &mut Draws, bug: Option<Bug>) -> Case {
    let deletes = draws.one([None, None, None, None, Some(0), Some(1), Some(2), Some(3)]);
    let deletes: Option<Event> = deletes.map(|at: usize| Event::ALL[at]);
    let mut entries = [ENTRIES[0]; 4];
    for event in Event::ALL {
        let choices = if event == Event::Announcement { 6 } else { 4 };
        entries[event.index()] = ENTRIES[draws.below(choices) as usize];
    }
    let bits = draws.below(16);
    // The relay has removed what was deleted.
    let mut facts = facts(entries, |event| {
        bits >> event.index() & 1 == 1 && deletes != Some(event)
    });
    facts.has_deletion = deletes.is_some();
    facts.reading.placeholders = draws.one(PLACES);
    let (objects, refs) = draws.one([0, 1, 2, 3, 4, 5, 6, 7].map(|at: usize| repositories()[at]));
    let [x, y, none] = [Identifiers::X, Identifiers::Y, Identifiers::NONE];
    let errors = DiskErrors {
        unreadable: draws.one([none, none, none, none, none, x, y]),
        unchangeable: draws.one([none, none, none, none, none, x, y]),
        uninstallable: draws.one([none, none, none, none, none, x, y]),
    };
    Case {
        model: configuration(draws.one([true, false]), deletes, bug),
        identifiers: draws.one([x, y, Identifiers::BOTH]),
        facts,
        disk: Disk {
            objects,
            refs,
            staged: draws.one(PLACES),
            installed: draws.one(PLACES),
        },
        errors,
    }
}

fn drawn_cases(count: usize, bug: Option<Bug>) -> impl Iterator<Item = Case> {
    let mut draws = Draws(8);
    std::iter::repeat_with(move || drawn(&mut draws, bug)).take(count)
}

/// Both worlds, signed once.
struct Worlds([World; 2]);

impl Worlds {
    fn new() -> Self {
        Self([World::new(false), World::new(true)])
    }

    fn of(&self, case: &Case) -> &World {
        &self.0[usize::from(case.model.is_one_author)]
    }
}

/// How many cases ran, in how many of them something was to be done, and the first in which the two differed.
#[derive(Debug, Default)]
struct Comparison {
    cases: usize,
    with_effect: usize,
    different: usize,
    first: Option<String>,
}

impl Comparison {
    fn note<T: PartialEq + std::fmt::Debug>(&mut self, case: &Case, has_effect: bool, (model, program): (T, T)) {
        self.cases += 1;
        self.with_effect += usize::from(has_effect);
        if model != program {
            self.different += 1;
            self.first
                .get_or_insert_with(|| format!("model: {model:?}\nprogram: {program:?}\n{case:?}"));
        }
    }

    fn assert_none_differs(&self, cases_min: usize, with_effect_min: usize) {
        let first = self.first.as_deref().unwrap_or_default();
        assert_eq!(self.different, 0, "of {} cases\n{first}", self.cases);
        assert!(self.cases >= cases_min, "only {} cases", self.cases);
        assert!(
            self.with_effect >= with_effect_min,
            "only {} with an effect",
            self.with_effect
        );
    }
}

fn compare_plans(cases: impl Iterator<Item = Case>) -> Comparison {
    let (worlds, mut comparison) = (Worlds::new(), Comparison::default());
    for case in cases {
        let world = worlds.of(&case);
        let known = case.facts.of_reconcile(case.identifiers, &case.disk);
        let facts = world.facts(&case.model, case.identifiers, &known);
        let disk = world.disk(&facts, &case.disk, case.errors);

        let of_model = model_rules::plan(&case.model, case.identifiers, &case.facts, &case.disk, case.errors);
        let of_program = world.model_plan(&plan(&facts, &disk, &SETTINGS), &disk);

        let has_effect = of_program != model_rules::Plan::default();
        let of_model = model_rules::Plan {
            dirty: [0; 2],
            ..of_model
        };
        comparison.note(&case, has_effect, (of_model, of_program));
    }
    comparison
}

/// What the model distinguishes of an admission.
fn model_admission(world: &World, admission: &Admission) -> model_rules::Admission {
    match admission {
        Admission::Accept => model_rules::Admission::Accept,
        Admission::Hold { extend, .. } => model_rules::Admission::Hold {
            extend: world.model_events(extend),
        },
        Admission::Refuse {
            refusal: Refusal::Deleted | Refusal::Replaced,
            ..
        } => model_rules::Admission::RuleOut,
        Admission::Refuse { ends, .. } => {
            assert!(ends.is_empty());
            model_rules::Admission::Refuse
        }
    }
}

fn compare_admissions(cases: impl Iterator<Item = Case>) -> Comparison {
    let (worlds, mut comparison) = (Worlds::new(), Comparison::default());
    for case in cases {
        let world = worlds.of(&case);
        for event in Event::ALL {
            let facts = world.facts(&case.model, event.identifiers(), &case.facts);
            let arriving = world.event(event);
            let git_event = GitEvent::parse(arriving).unwrap().unwrap();

            let of_model = model_rules::decide_admission(&case.model, event, &case.facts);
            let of_program = model_admission(world, &decide_admission(arriving, &git_event, &facts));

            let has_effect = of_program != model_rules::Admission::Refuse;
            comparison.note(&case, has_effect, (of_model, of_program));
        }
    }
    comparison
}

/// What the model distinguishes of a decision about a push: whose deadlines it extends; `None`: it has no effect.
fn program_push(world: &World, case: &Case, push: Push) -> Option<Events> {
    let facts = world.facts(&case.model, push.identifier(), &case.facts);
    let coordinate = world.coordinate(push.identifier());
    // Whoever pushes to what is not hosted gets a 404.
    if facts.hosting(coordinate) == Hosting::Absent {
        return None;
    }
    let (refs, commands) = world.push(push, &case.disk);
    let target = PushTarget {
        coordinate,
        refs: &refs.unwrap_or_default(),
    };
    let decision = decide_push(&facts, target, &commands, Atomicity::PerRef);
    decision.has_effect().then(|| world.model_events(&decision.extend))
}

fn compare_pushes(cases: impl Iterator<Item = Case>) -> Comparison {
    let (worlds, mut comparison) = (Worlds::new(), Comparison::default());
    for case in cases {
        for push in Push::ALL {
            let of_model = model_rules::decide_push(&case.model, push, &case.facts, &case.disk);
            let of_program = program_push(worlds.of(&case), &case, push);

            comparison.note(&case, of_program.is_some(), (of_model, of_program));
        }
    }
    comparison
}

#[test]
fn the_model_plans_what_the_program_plans() {
    compare_plans(cases_of_one_repository(None)).assert_none_differs(10_000, 5_000);
    compare_plans(drawn_cases(10_000, None)).assert_none_differs(10_000, 5_000);
}

#[test]
fn the_model_admits_what_the_program_admits() {
    compare_admissions(drawn_cases(3_000, None)).assert_none_differs(12_000, 6_000);
}

#[test]
fn the_model_lets_in_the_pushes_that_the_program_lets_in() {
    compare_pushes(drawn_cases(5_000, None)).assert_none_differs(20_000, 5_000);
}

/// The mistakes that can be made in the functions that are compared.
#[test]
fn mistakes_in_the_model_are_found_by_comparing() {
    for bug in [
        Bug::GoverningWithoutReleasing,
        Bug::ExpireWithoutWidening,
        Bug::ExpireWithoutReading,
    ] {
        assert!(compare_plans(drawn_cases(2_000, Some(bug))).different > 0, "{bug:?}");
    }
    let bug = Bug::GoverningWithoutReleasing;
    assert!(compare_pushes(drawn_cases(2_000, Some(bug))).different > 0, "{bug:?}");
}

const SLEEP_SECS: u64 = 77;

const SETTINGS: PlanSettings = PlanSettings {
    sleep_secs: SLEEP_SECS,
    pull_requests: PullRequestLimits::DEFAULT,
};
