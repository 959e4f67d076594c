//! When what is killed: drawn from the seed, between any two steps of a program or at any time.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::random::Random;
use super::server::Program;
use super::server::Server;
use super::server::Talker;
use crate::faults::git_wrapper::GitMoment;
use crate::faults::tcp_proxy::Moment;
use crate::faults::tcp_proxy::Then;
use crate::harness::process::signal;

/// What can be killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    /// A program that is started again by us.
    Program(Program),
    /// The relay's plugin, which the relay starts again.
    Plugin,
    /// A git that a gateway runs.
    Git,
}

/// One kill.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kill {
    /// Who dies.
    target: Target,
    /// Who dies with it, now and then.
    also: Option<Target>,
    /// At which step.
    step: Step,
    /// What becomes of a connection that was stopped there.
    then: Then,
    /// For how long a git runs that was stopped before it began, until it is killed.
    git_runs: Duration,
    /// For how long the target is away.
    away: Duration,
    /// How long the others have until the next kill.
    pause: Duration,
}

/// A step.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// A script that a program calls in Redis, behind so many others.
    Script(Talker, u64, Moment),
    /// An event that comes to the relay by a gateway, behind so many others.
    Event(usize, u64, Moment),
    /// A run of git by a gateway, behind so many others.
    Git(usize, u64, GitMoment),
    /// No step: after some time.
    Any(Duration),
}

/// Kinds of steps, for counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StepKind {
    /// A script in Redis.
    Script,
    /// An event on its way into the relay.
    Event,
    /// A run of git.
    Git,
    /// None, or it did not come in time.
    Any,
}

impl StepKind {
    /// All of them, as they are called.
    pub(super) const ALL: [(Self, &'static str); 4] = [
        (Self::Script, "script"),
        (Self::Event, "EVENT"),
        (Self::Git, "git child"),
        (Self::Any, "any time"),
    ];
}

/// What was killed how often, at which kind of step.
pub(super) type Tally = BTreeMap<(&'static str, StepKind), u64>;

impl Target {
    /// What it is called; the gateways are one.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Program(Program::Gateway(_)) => "gateway",
            Self::Program(Program::Redis) => "Redis",
            Self::Program(Program::Relay) => "relay",
            Self::Plugin => "plugin",
            Self::Git => "git",
        }
    }
}

impl Kill {
    /// Draws one. The first ones of a schedule go through all targets and kinds of steps in turn.
    pub(super) fn draw(random: &mut Random, number: u64) -> Self {
        let turn = usize::try_from(number).unwrap_or(usize::MAX);
        let target = TARGETS.get(turn).copied().unwrap_or_else(|| random.pick(&WEIGHTED));
        let kind = match turn < 2 * TARGETS.len() {
            true => StepKind::ALL[turn % 4].0,
            false => random.pick(&[
                StepKind::Script,
                StepKind::Script,
                StepKind::Event,
                StepKind::Git,
                StepKind::Any,
            ]),
        };
        let short = Duration::from_millis(random.below(250));
        let long = Duration::from_millis(random.below(2500));
        Self {
            target,
            also: random
                .chance(15)
                .then(|| random.pick(&WEIGHTED))
                .filter(|also| *also != target),
            step: draw_step(random, target, kind),
            then: random.pick(&[Then::GoOn, Then::Cut]),
            git_runs: Duration::from_millis(random.pick(&[0, 0, 4, 8, 16])),
            away: if random.chance(8) { long } else { short },
            pause: Duration::from_millis(random.below(250)),
        }
    }

    fn targets(&self) -> impl Iterator<Item = Target> {
        std::iter::once(self.target).chain(self.also)
    }
}

impl fmt::Display for Kill {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.targets().map(Target::name).collect();
        write!(formatter, "kill of {} at {:?}", names.join(" and "), self.step)
    }
}

fn draw_step(random: &mut Random, target: Target, kind: StepKind) -> Step {
    let gateway = match target {
        Target::Program(Program::Gateway(number)) => number,
        Target::Program(Program::Redis | Program::Relay) | Target::Plugin | Target::Git => {
            usize::from(random.chance(50))
        }
    };
    let talker = match target {
        Target::Plugin => Talker::Plugin,
        Target::Program(Program::Redis | Program::Relay) if random.chance(25) => Talker::Plugin,
        Target::Program(_) | Target::Git => Talker::Gateway(gateway),
    };
    let moment = random.pick(&Moment::ALL);
    let git_moment = random.pick(&[GitMoment::Before, GitMoment::After]);
    match kind {
        _ if target == Target::Git => Step::Git(gateway, random.below(8), git_moment),
        StepKind::Script => Step::Script(talker, random.below(14), moment),
        StepKind::Event => Step::Event(gateway, random.below(5), moment),
        StepKind::Git => Step::Git(gateway, random.below(8), git_moment),
        StepKind::Any => Step::Any(Duration::from_millis(random.below(700))),
    }
}

impl Server {
    /// Waits for the step, kills, and starts again what is not running. Returns how many died.
    pub(super) async fn carry_out(&mut self, kill: &Kill, tally: &mut Tally) -> u64 {
        let reached = self.kill_at(kill).await;
        let mut died = 0;
        for target in kill.targets() {
            // Of git only the run that was stopped can be found.
            if target != Target::Git || reached == StepKind::Git {
                *tally.entry((target.name(), reached)).or_default() += 1;
                died += 1;
            }
        }
        // Nobody could tell by what is to be seen how long something should be away.
        tokio::time::sleep(kill.away).await;
        self.start_missing().await;
        tokio::time::sleep(kill.pause).await;
        died
    }

    async fn kill_at(&mut self, kill: &Kill) -> StepKind {
        match kill.step {
            Step::Script(talker, skip, moment) => {
                let stopped = self.redis_proxy(talker).stop_at(skip, moment);
                let stopped = tokio::time::timeout(STEP_MAX, stopped).await;
                self.redis_proxy(talker).disarm();
                self.kill_all(kill).await;
                if let Ok(Ok(stopped)) = stopped {
                    stopped.then(kill.then);
                    return StepKind::Script;
                }
            }
            Step::Event(gateway, skip, moment) => {
                let talker = Talker::Gateway(gateway);
                let stopped = self.relay_proxy(talker).stop_at(skip, moment);
                let stopped = tokio::time::timeout(STEP_MAX, stopped).await;
                self.relay_proxy(talker).disarm();
                self.kill_all(kill).await;
                if let Ok(Ok(stopped)) = stopped {
                    stopped.then(kill.then);
                    return StepKind::Event;
                }
            }
            Step::Git(gateway, skip, moment) => {
                let stopped = self.git_of(gateway).stop_at(skip, moment);
                let stopped = tokio::time::timeout(STEP_MAX, stopped).await;
                self.git_of(gateway).disarm();
                self.kill_all(kill).await;
                if let Ok(Ok(stopped)) = stopped {
                    if kill.targets().any(|target| target == Target::Git) && stopped.pid > 1 {
                        let group = format!("-{}", stopped.pid);
                        if moment == GitMoment::Before && !kill.git_runs.is_zero() {
                            drop(stopped);
                            tokio::time::sleep(kill.git_runs).await;
                        }
                        signal("KILL", &group);
                    }
                    return StepKind::Git;
                }
            }
            Step::Any(time) => {
                tokio::time::sleep(time).await;
                self.kill_all(kill).await;
            }
        }
        StepKind::Any
    }

    async fn kill_all(&mut self, kill: &Kill) {
        for target in kill.targets() {
            match target {
                Target::Program(program) => self.kill(program).await,
                Target::Plugin => self.kill_plugin(),
                // Which one it is, the wrapper tells.
                Target::Git => {}
            }
        }
    }
}

/// All targets, in the order in which a schedule begins with them.
const TARGETS: [Target; 6] = [
    Target::Program(Program::Gateway(0)),
    Target::Program(Program::Redis),
    Target::Program(Program::Gateway(1)),
    Target::Program(Program::Relay),
    Target::Plugin,
    Target::Git,
];

/// Gateways do most of the work between two steps.
const WEIGHTED: [Target; 12] = [
    TARGETS[0], TARGETS[0], TARGETS[0], TARGETS[2], TARGETS[2], TARGETS[2], TARGETS[1], TARGETS[1], TARGETS[3],
    TARGETS[3], TARGETS[4], TARGETS[5],
];

/// For how long a step is waited for.
const STEP_MAX: Duration = Duration::from_secs(3);
