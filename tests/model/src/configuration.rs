//! One configuration: how it begins, and its supply of events, pushes and faults. They are listed in
//! [`crate::configurations()`].

use crate::Bug;
use crate::event::Event;
use crate::event::Message;
use crate::event::Push;
use crate::scene::Scene;

/// How it begins, and what may happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    /// What it is about.
    pub name: &'static str,
    /// What is there at the beginning.
    pub beginning: Beginning,
    /// Whose repositories there are.
    pub scene: Scene,
    /// What the deletion names.
    pub deletes: Option<Event>,
    /// Gateways that run.
    pub gateways: u8,
    /// What may happen.
    pub supply: Left,
    /// A mistake to be found.
    pub bug: Option<Bug>,
}

/// What is there at the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// The announcement is not there yet, nor what needs it.
    Empty,
    /// Announcement and older state are served, and the refs are the older state's wherever it governs.
    Announced,
}

/// What may still happen, so that the space is finite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Left {
    /// How often the client may send each message.
    pub sends: [u8; 5],
    /// How often the client may push.
    pub pushes: [u8; 7],
    /// Crashes of gateways and plugin.
    pub crashes: u8,
    /// Crashes of the relay.
    pub relay_crashes: u8,
    /// Outages of Redis.
    pub redis_outages: u8,
    /// Failovers of Redis.
    pub failovers: u8,
    /// Times that Redis comes back empty.
    pub losses: u8,
    /// Publications whose answer does not come.
    pub lost_answers: u8,
    /// Queries that come back short.
    pub short_reads: u8,
    /// Times that something of the disk fails once.
    pub disk_errors: u8,
    /// Times that a repository begins to fail.
    pub disk_failures: u8,
    /// Deadlines that pass.
    pub deadlines: u8,
}

/// Nothing may happen.
const NOTHING: Left = Left {
    sends: [0; 5],
    pushes: [0; 7],
    crashes: 0,
    relay_crashes: 0,
    redis_outages: 0,
    failovers: 0,
    losses: 0,
    lost_answers: 0,
    short_reads: 0,
    disk_errors: 0,
    disk_failures: 0,
    deadlines: 0,
};

impl Configuration {
    /// Nothing may happen, at one gateway.
    pub fn new(name: &'static str, beginning: Beginning) -> Self {
        Self {
            name,
            beginning,
            scene: Scene::Apart,
            deletes: None,
            gateways: 1,
            supply: NOTHING,
            bug: None,
        }
    }

    /// The client may send these too, a message as often as it is in it.
    pub(crate) fn sends<const N: usize>(mut self, messages: [Message; N]) -> Self {
        for message in messages {
            self.supply.sends[message.index()] += 1;
        }
        self
    }

    /// The client may push these too.
    pub(crate) fn pushes<const N: usize>(mut self, pushes: [Push; N]) -> Self {
        for push in pushes {
            self.supply.pushes[push.index()] += 1;
        }
        self
    }

    /// The author of this event may delete it.
    pub(crate) fn deletes(mut self, event: Event) -> Self {
        self.deletes = Some(event);
        self.sends([Message::Deletion])
    }

    /// Faults may happen.
    pub(crate) fn with(mut self, faults: impl FnOnce(&mut Left)) -> Self {
        faults(&mut self.supply);
        self
    }

    /// Other repositories than two of one owner.
    pub(crate) fn scene(self, scene: Scene) -> Self {
        Self { scene, ..self }
    }

    /// So many gateways run.
    pub(crate) fn gateways(mut self, gateways: u8) -> Self {
        self.gateways = gateways;
        self
    }

    /// The same with a mistake in it.
    pub fn with_bug(self, bug: Bug) -> Self {
        Self { bug: Some(bug), ..self }
    }

    /// Tells whether one author signs both states.
    pub fn is_one_author(&self) -> bool {
        self.scene.is_one_author()
    }

    /// Tells whether a replica matters.
    pub fn has_replica(&self) -> bool {
        self.supply.failovers > 0
    }

    /// Tells whether it matters what gateways remember of what they release.
    pub fn has_losses(&self) -> bool {
        self.supply.losses > 0
    }
}
