//! One state of everything: Redis, relay, plugin, gateways, disk and clients, each with what it remembers between two
//! of its steps.
//!
//! Kept small, and normalised after each step: states that no program can tell apart are one.

use crate::Configuration;
use crate::configuration::Beginning;
use crate::configuration::Left;
use crate::disk::Disk;
use crate::event::Coordinates;
use crate::event::Event;
use crate::event::Events;
use crate::event::Message;
use crate::event::Messages;
use crate::event::Parts;
use crate::event::Push;
use crate::redis::Reading;
use crate::redis::Redis;
use crate::redis::Settlement;
use crate::rules::Answered;
use crate::rules::EventStatus;
use crate::rules::Facts;
use crate::rules::Plan;
use crate::rules::Reach;

/// Everything there is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    /// What the master has.
    pub redis: Redis,
    /// What its replica has: some state that the master had before. Used only where a failover may happen.
    pub replica: Redis,
    /// Whether Redis answers.
    pub redis_up: bool,
    /// Redis is another one than before, or empty, and no gateway has made up for that yet (`epoch.lua`).
    pub is_new_master: bool,
    /// The events of which a failover has lost or brought back what was written about them, until the next rest.
    pub unsettled: Events,
    /// strfry.
    pub relay: Relay,
    /// Its write policy, which answers one request at a time.
    pub plugin: Plugin,
    /// The gateways: each does one thing at a time. What one gateway does at the same time is done by two here.
    pub gateways: [Task; 2],
    /// What each gateway knows to be complete and not to have left. Used only where Redis may come back empty.
    pub in_flight: [InFlight; 2],
    /// The data directory, which the gateways share.
    pub disk: Disk,
    /// The repositories that cannot be read now.
    pub failing: Coordinates,
    /// What may still happen.
    pub left: Left,
    /// The events that a client was told OK about, as long as they must be somewhere.
    pub promised: Events,
    /// What a pusher was told `ok` about of the newer state at X, as long as that is held.
    pub promised_parts: Parts,
}

/// What a gateway remembers in case Redis loses it (`InFlight`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct InFlight {
    /// The events.
    pub events: Events,
    /// Redis has come back empty, and the gateway has not written them again yet.
    pub is_lost: bool,
}

/// Who sent a message to the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// Its author.
    Client,
    /// A gateway, to publish it.
    Gateway,
}

impl Origin {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Client, Self::Gateway];

    /// Returns the place in arrays by origin.
    pub fn index(self) -> usize {
        self as usize
    }
}

/// One message on its way through the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Request {
    /// What.
    pub message: Message,
    /// From whom.
    pub origin: Origin,
}

/// What the relay has. Messages have no order: each may overtake each.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Relay {
    /// Whether it runs.
    pub is_up: bool,
    /// Sent, and not yet shown to the plugin, by origin.
    pub pending: [Messages; 2],
    /// Accepted by the plugin, and not yet committed, by origin.
    pub batch: [Messages; 2],
    /// What it answers queries with.
    pub served: Events,
    /// The deletion is committed.
    pub has_deletion: bool,
    /// Of these it committed something that gateways have to mark, and none has yet: not what a gateway has a lease of
    /// and sees committed itself.
    pub news: Coordinates,
}

/// Between two steps of the plugin.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Plugin {
    /// It waits for a line.
    Idle,
    /// It has read the purgatory, and not yet the relay.
    Read {
        /// The event in question.
        request: Request,
        /// What it read.
        reading: Reading,
    },
    /// It has decided to hold.
    Holding {
        /// The event in question.
        request: Request,
        /// Entries to hold as long as this one.
        extend: Events,
    },
    /// It has held an announcement, and not yet noted whom that lists.
    Following {
        /// The event in question.
        request: Request,
    },
    /// It has held, and not yet said so.
    Answering {
        /// The event in question.
        request: Request,
    },
}

/// Between two steps of a gateway. From [`Task::Deciding`] to [`Task::Acting`] it has the lock.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Task {
    /// It does not run.
    Down,
    /// It runs, and has nothing in hand.
    Idle,
    /// It takes in a pack.
    Uploading(Push),
    /// The pack is here; under the lock, its coordinate was marked and the purgatory read for the second decision.
    Deciding {
        /// What was pushed.
        push: Push,
        /// What it read.
        reading: Reading,
    },
    /// The push was decided; nothing has moved.
    Moving {
        /// What was pushed.
        push: Push,
        /// What it was decided on, and is reconciled on.
        facts: Facts,
    },
    /// The placeholder of a PR commit is written; the commit has not moved.
    Staging {
        /// What was pushed.
        push: Push,
        /// What it was decided on, and is reconciled on.
        facts: Facts,
    },
    /// It wants the locks for a reconcile of several.
    Locking(Coordinates),
    /// It has the locks, and has read nothing since.
    Locked(Scope),
    /// It has read one of the two, purgatory and relay.
    Reading {
        /// What it is about.
        scope: Scope,
        /// What it knows.
        first: FirstRead,
    },
    /// It does what it has planned, step by step.
    Acting(Acting),
    /// It publishes, outside the lock.
    Publishing(Publishing),
}

/// What a reconcile is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope {
    /// What its facts are asked about (`FactsScope`), and whose marks it clears.
    pub asked: Coordinates,
    /// How far they reach.
    pub reach: Reach,
    /// What is locked: that, and what its plan changes too, if nobody else had that.
    pub locked: Coordinates,
    /// Whether it has tried to lock more.
    pub has_tried: bool,
}

impl Scope {
    /// Begins with the locks of these.
    pub fn begin(asked: Coordinates, reach: Reach) -> Self {
        Self {
            asked,
            reach,
            locked: asked,
            has_tried: false,
        }
    }
}

/// A reconcile that acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Acting {
    /// What it is about.
    pub scope: Scope,
    /// What is left to do.
    pub plan: Plan,
    /// What is left to others: it is marked dirty.
    pub others: Coordinates,
    /// What it has the lease of.
    pub leased: Events,
    /// The dirty numbers that were read, by coordinate, as far as they are cleared at the end.
    pub dirty: [u8; 2],
}

/// Leased events on their way into the relay, all at once: its plugin lets each in after what it is ordered after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Publishing {
    /// Those that are left.
    pub leased: Events,
    /// How far it is with each of them, by event.
    pub attempts: [Attempt; 4],
    /// Those that are ordered after the announcement, as long as that is among them.
    pub after_announcement: Events,
    /// Those that are given back unless they have got in: the announcement has not.
    pub give_back: Events,
}

/// What is read first. It is the purgatory, unless a seeded bug turns it round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FirstRead {
    /// As it should be.
    Purgatory(Reading),
    /// The bug.
    Relay(Answered),
}

/// One attempt to publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Attempt {
    /// Not sent.
    #[default]
    Ready,
    /// Sent, and not answered.
    Sent,
    /// Answered, or given up.
    Ended(Settlement),
}

impl Relay {
    /// Returns what it answers a query of everything.
    pub fn answer(&self) -> Answered {
        Answered {
            served: self.served,
            has_deletion: self.has_deletion,
        }
    }

    /// Whether the plugin has accepted an event that is not committed yet.
    pub fn is_in_batch(&self, event: Event) -> bool {
        let message = Message::Event(event);
        self.batch
            .iter()
            .any(|batch| batch.iter().any(|other| other == message))
    }
}

impl Publishing {
    /// Returns what is not sent yet.
    pub fn ready(&self) -> Events {
        self.in_attempt(|attempt| attempt == Attempt::Ready)
    }

    /// Returns what is sent and not answered.
    pub fn sent(&self) -> Events {
        self.in_attempt(|attempt| attempt == Attempt::Sent)
    }

    /// Returns what can be settled: what is ordered after the announcement only behind that.
    pub fn ended(&self) -> Events {
        let waits = if self.leased.has(Event::Announcement) {
            self.after_announcement
        } else {
            Events::NONE
        };
        let ended = self.in_attempt(|attempt| matches!(attempt, Attempt::Ended(_)));
        ended.without(waits)
    }

    fn in_attempt(&self, is_wanted: impl Fn(Attempt) -> bool) -> Events {
        let wanted = |event: &Event| is_wanted(self.attempts[event.index()]);
        self.leased.iter().filter(wanted).collect()
    }

    /// Ends the attempts to publish these events.
    pub fn end(&mut self, events: Events, settlement: Settlement) {
        for event in events.iter() {
            self.attempts[event.index()] = Attempt::Ended(settlement);
        }
    }
}

impl Task {
    /// Returns what it has locked.
    pub fn locked(&self) -> Coordinates {
        match self {
            Self::Deciding { push, .. } | Self::Moving { push, .. } | Self::Staging { push, .. } => push.coordinate(),
            Self::Locked(scope) | Self::Reading { scope, .. } => scope.locked,
            Self::Acting(acting) => acting.scope.locked,
            Self::Down | Self::Idle | Self::Uploading(_) | Self::Locking(_) | Self::Publishing(_) => Coordinates::NONE,
        }
    }

    /// Returns what it has the lease of. What it sees the relay commit of that it does not mark: it settles it.
    pub fn leased(&self) -> Events {
        match self {
            Self::Acting(acting) => acting.leased,
            Self::Publishing(publishing) => publishing.leased,
            Self::Down
            | Self::Idle
            | Self::Uploading(_)
            | Self::Deciding { .. }
            | Self::Moving { .. }
            | Self::Staging { .. }
            | Self::Locking(_)
            | Self::Locked(_)
            | Self::Reading { .. } => Events::NONE,
        }
    }

    /// Tells whether it is in the middle of something.
    pub fn is_busy(&self) -> bool {
        !matches!(self, Self::Down | Self::Idle)
    }

    /// Returns the dirty numbers that it has read and may clear.
    fn dirty_mut(&mut self) -> Option<&mut [u8; 2]> {
        match self {
            Self::Acting(acting) => Some(&mut acting.dirty),
            Self::Reading {
                first: FirstRead::Purgatory(reading),
                ..
            }
            | Self::Deciding { reading, .. } => Some(&mut reading.dirty),
            Self::Moving { facts, .. } | Self::Staging { facts, .. } => Some(&mut facts.reading.dirty),
            Self::Reading {
                first: FirstRead::Relay(_),
                ..
            }
            | Self::Down
            | Self::Idle
            | Self::Uploading(_)
            | Self::Locking(_)
            | Self::Locked(_)
            | Self::Publishing(_) => None,
        }
    }
}

impl State {
    /// Returns the state that a configuration begins with.
    pub fn initial(model: &Configuration) -> Self {
        let scene = model.scene;
        let is_announced = model.beginning == Beginning::Announced;
        let announced = if is_announced {
            scene.announced()
        } else {
            Coordinates::NONE
        };
        let governed = announced.with(scene.announced_throughout()).iter();
        let governed = governed.filter(|one| scene.authorises(*one, Event::Older));
        let mut disk = Disk::default();
        governed.clone().for_each(|one| disk.align(one, Event::Older));
        let older = governed.map(|_| Event::Older);
        let announcement = announced.iter().map(|_| Event::Announcement);
        let redis = Redis {
            noted: scene
                .listing(Coordinates::BOTH)
                .within(announced.with(scene.announced_throughout())),
            ..Redis::default()
        };
        let second = if model.gateways > 1 { Task::Idle } else { Task::Down };
        let mut state = Self {
            redis,
            replica: redis,
            redis_up: true,
            is_new_master: false,
            unsettled: Events::NONE,
            relay: Relay {
                is_up: true,
                pending: Default::default(),
                batch: Default::default(),
                served: older.chain(announcement).collect(),
                has_deletion: false,
                news: Coordinates::NONE,
            },
            plugin: Plugin::Idle,
            gateways: [Task::Idle, second],
            in_flight: Default::default(),
            disk,
            failing: Coordinates::NONE,
            left: model.supply,
            promised: Events::NONE,
            promised_parts: Parts::NONE,
        };
        state.normalise();
        state
    }

    /// Returns what is locked, by whomever.
    pub fn locked(&self) -> Coordinates {
        self.gateways
            .iter()
            .map(Task::locked)
            .fold(Coordinates::NONE, Coordinates::with)
    }

    /// Returns what queries of both stores at this very moment would tell: nobody else knows so much.
    pub fn facts(&self, model: &Configuration, scope: (Coordinates, Reach)) -> Facts {
        Facts::assemble(model, scope, self.redis.read(), self.relay.answer())
    }

    /// The same of what is related to some coordinates, whether that is noted or not.
    pub fn all_facts(&self, model: &Configuration, asked: Coordinates) -> Facts {
        let known = self.facts(model, (Coordinates::BOTH, Reach::Full));
        let is_known = |one: &Coordinates| known.announcement_status(model, *one) != EventStatus::Unknown;
        let listing = model.scene.listing(Coordinates::BOTH).iter().filter(is_known);
        let reading = known
            .reading
            .with_notes(listing.fold(Coordinates::NONE, Coordinates::with));
        Facts::assemble(model, (asked, Reach::Full), reading, known.relay)
    }

    /// Makes states equal that no program can tell apart.
    ///
    /// - Of dirty numbers only equality matters, and only with what could still be cleared: each gets its rank, and one
    ///   that was read and is neither the master's nor the replica's gets 0, which clears nothing.
    /// - The two gateways are alike: the one that comes first in the order of tasks is the first.
    pub fn normalise(&mut self) {
        for at in 0..2 {
            let (ours, replica) = (self.redis.dirty[at], self.replica.dirty[at]);
            let rank = |number: u8| match number {
                0 => 0,
                _ if number == ours => 1,
                _ if number == replica => 2,
                _ => 0,
            };
            for task in &mut self.gateways {
                if let Some(dirty) = task.dirty_mut() {
                    dirty[at] = rank(dirty[at]);
                }
            }
            self.redis.dirty[at] = rank(ours);
            self.replica.dirty[at] = rank(replica);
        }
        if (&self.gateways[1], self.in_flight[1]) < (&self.gateways[0], self.in_flight[0]) {
            self.gateways.swap(0, 1);
            self.in_flight.swap(0, 1);
            for entry in self.redis.entries.iter_mut().chain(&mut self.replica.entries) {
                entry.lease = entry.lease.map(|gateway| 1 - gateway);
            }
        }
    }
}
