//! The decisions: each is made twice, by the model and by the program.

use protocol_model::Bug;
use protocol_model::Configuration;
use protocol_model::disk::Disk;
use protocol_model::disk::DiskErrors;
use protocol_model::event::Coordinates;
use protocol_model::event::Event;
use protocol_model::event::Events;
use protocol_model::event::Parts;
use protocol_model::event::Push;
use protocol_model::redis::EntryStatus;
use protocol_model::redis::Reading;
use protocol_model::rules as model_rules;
use protocol_model::rules::Answered;
use protocol_model::rules::Reach;
use protocol_model::scene::Scene;
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
    /// What is asked about, and how far facts reach from there.
    scope: (Coordinates, Reach),
    reading: Reading,
    relay: Answered,
    disk: Disk,
    errors: DiskErrors,
}

impl Case {
    fn facts(&self, scope: (Coordinates, Reach)) -> model_rules::Facts {
        model_rules::Facts::assemble(&self.model, scope, self.reading, self.relay)
    }
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

const PLACES: [Coordinates; 4] = [Coordinates::NONE, Coordinates::X, Coordinates::Y, Coordinates::BOTH];

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

fn reading(entries: [(EntryStatus, bool); 4]) -> Reading {
    let is_overdue = |event: &Event| entries[event.index()].1;
    Reading {
        statuses: entries.map(|(status, _)| status),
        overdue: Event::ALL.into_iter().filter(is_overdue).collect(),
        ..Reading::default()
    }
}

fn served(is_served: impl Fn(Event) -> bool) -> Answered {
    Answered {
        served: Event::ALL.into_iter().filter(|event| is_served(*event)).collect(),
        has_deletion: false,
    }
}

/// Every case of one repository without a PR.
fn cases_of_one_repository(bug: Option<Bug>) -> impl Iterator<Item = Case> {
    let entries = ENTRIES.into_iter().flat_map(|announcement| {
        let of_states = || ENTRIES.into_iter().take(4);
        of_states().flat_map(move |older| of_states().map(move |newer| [announcement, older, newer, ENTRIES[0]]))
    });
    let known = entries
        .flat_map(|entries| (0..8).map(move |bits| (reading(entries), served(|event| bits >> event.index() & 1 == 1))));
    known.flat_map(move |(reading, relay)| {
        repositories().into_iter().flat_map(move |(objects, refs)| {
            let disk = Disk {
                objects: [objects, Events::NONE],
                refs: [refs, None],
                ..Disk::default()
            };
            [Scene::Apart, Scene::Maintainer].into_iter().map(move |scene| Case {
                model: configuration(scene, None, bug),
                scope: (Coordinates::X, Reach::Members),
                reading,
                relay,
                disk,
                errors: DiskErrors::NONE,
            })
        })
    })
}

/// Any case at all.
fn drawn(draws: &mut Draws, bug: Option<Bug>) -> Case {
    let scene = draws.one([Scene::Apart, Scene::Maintainer, Scene::Set, Scene::Listing]);
    // PRs are offered to two repositories that have nothing else in common.
    let has_pull_request = scene == Scene::Apart;
    let is_there = |event: Event| match event {
        Event::Announcement => !scene.announced().is_empty(),
        Event::Older | Event::Newer => true,
        Event::PullRequest => has_pull_request,
    };
    let deletes = draws.one([None, None, None, None, Some(0), Some(1), Some(2), Some(3)]);
    let deletes = deletes.map(|at: usize| Event::ALL[at]).filter(|event| is_there(*event));
    let mut entries = [ENTRIES[0]; 4];
    for event in Event::ALL.into_iter().filter(|event| is_there(*event)) {
        let choices = if event == Event::Announcement { 6 } else { 4 };
        entries[event.index()] = ENTRIES[draws.below(choices) as usize];
    }
    let bits = draws.below(16);
    // The relay has removed what was deleted.
    let is_served = |event: Event| bits >> event.index() & 1 == 1 && deletes != Some(event) && is_there(event);
    let relay = Answered {
        has_deletion: deletes.is_some(),
        ..served(is_served)
    };
    let [x, y, none] = [Coordinates::X, Coordinates::Y, Coordinates::NONE];
    let mut place = || draws.one(PLACES);
    let (noted, placeholders, staged, installed) = (place(), place(), place(), place());
    let of_pull_request = |places| if has_pull_request { places } else { none };
    let reading = Reading {
        noted: noted.within(scene.listing(Coordinates::BOTH)),
        placeholders: of_pull_request(placeholders),
        ..reading(entries)
    };
    let mut repository = |one: Coordinates| match Coordinates::X.meets(one) || scene.authorises(one, Event::Older) {
        true => draws.one([0, 1, 2, 3, 4, 5, 6, 7].map(|at: usize| repositories()[at])),
        false => (Events::NONE, None),
    };
    let [of_x, of_y] = [x, y].map(&mut repository);
    let errors = DiskErrors {
        unreadable: draws.one([none, none, none, none, none, x, y]),
        unchangeable: draws.one([none, none, none, none, none, x, y]),
        uninstallable: of_pull_request(draws.one([none, none, none, none, none, x, y])),
    };
    Case {
        model: configuration(scene, deletes, bug),
        scope: (
            draws.one([x, y, Coordinates::BOTH]),
            draws.one([Reach::Members, Reach::Full]),
        ),
        reading,
        relay,
        disk: Disk {
            objects: [of_x.0, of_y.0],
            refs: [of_x.1, of_y.1],
            staged: of_pull_request(staged),
            installed: of_pull_request(installed),
            parts: draws.one([Parts::NONE, Parts::NONE, Parts::FIRST, Parts::SECOND, Parts::BOTH]),
        },
        errors,
    }
}

fn drawn_cases(count: usize, bug: Option<Bug>) -> impl Iterator<Item = Case> {
    let mut draws = Draws(8);
    std::iter::repeat_with(move || drawn(&mut draws, bug)).take(count)
}

/// The world of each scene, signed once.
struct Worlds(Vec<(Scene, World)>);

impl Worlds {
    fn new() -> Self {
        let scenes = [Scene::Apart, Scene::Maintainer, Scene::Set, Scene::Listing];
        Self(scenes.map(|scene| (scene, World::new(scene))).into())
    }

    fn of(&self, case: &Case) -> &World {
        let found = self.0.iter().find(|(scene, _)| *scene == case.model.scene);
        &found.expect("it is one of them").1
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
        let known = case.facts(case.scope).of_reconcile(&case.disk);
        let facts = world.facts(&case.model, &known);
        let disk = world.disk(&facts, &case.disk, case.errors);

        let of_model = model_rules::plan(&case.model, &known, &case.disk, case.errors);
        let of_program = world.model_plan(&facts, &plan(&facts, &disk, &SETTINGS), &disk);

        let has_effect = of_program != model_rules::Plan::default();
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
        let scene = case.model.scene;
        let is_there = |event: &Event| match event {
            Event::Announcement => !scene.announced().is_empty(),
            Event::Older | Event::Newer => true,
            Event::PullRequest => scene == Scene::Apart,
        };
        for event in Event::ALL.into_iter().filter(is_there) {
            let known = case.facts((scene.coordinates(event), Reach::Full));
            let facts = world.facts(&case.model, &known);
            let arriving = world.event(event);
            let git_event = GitEvent::parse(arriving).unwrap().unwrap();

            let of_model = model_rules::decide_admission(&case.model, event, &known);
            let of_program = model_admission(world, &decide_admission(arriving, &git_event, &facts));

            let has_effect = of_program != model_rules::Admission::Refuse;
            comparison.note(&case, has_effect, (of_model, of_program));
        }
    }
    comparison
}

/// What the model distinguishes of a decision about a push: whose deadlines it extends; `None`: it has no effect.
fn program_push(world: &World, case: &Case, known: &model_rules::Facts, push: Push) -> Option<Events> {
    let facts = world.facts(&case.model, known);
    let coordinate = world.coordinate(push.coordinate());
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
        let is_there = |push: &Push| push.state().is_some() || case.model.scene == Scene::Apart;
        for push in Push::ALL.into_iter().filter(is_there) {
            let known = case.facts((push.coordinate(), Reach::Members));
            let of_model = model_rules::decide_push(&case.model, push, &known, &case.disk);
            let of_program = program_push(worlds.of(&case), &case, &known, push);

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
    compare_admissions(drawn_cases(5_000, None)).assert_none_differs(12_000, 6_000);
}

#[test]
fn the_model_lets_in_the_pushes_that_the_program_lets_in() {
    compare_pushes(drawn_cases(6_000, None)).assert_none_differs(20_000, 5_000);
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
