//! Which hosted repositories readers know of once a plan is carried out, and what is published before their events.

use std::collections::BTreeSet;

use nostr::event::EventId;

use super::plan::Plan;
use crate::nip34::Announcement;
use crate::nip34::Coordinate;
use crate::purgatory::EntryStatus;
use crate::rules::EventStatus;
use crate::rules::Facts;
use crate::rules::Hosting;
use crate::rules::Known;
use crate::rules::namesakes::RepositoryIndex;

/// How far the announcements are, by the places of the hosted repositories: hundreds of events ask about hundreds of
/// them.
pub(super) struct Announced {
    is_announced: Vec<bool>,
    first: Vec<First>,
}

/// What the events of a repository wait for on their way into the relay.
enum First {
    /// The relay has an announcement.
    Nothing,
    /// One is on its way.
    Announcement { event_id: EventId, is_stuck: bool },
    /// None is.
    Unknown,
}

impl Announced {
    /// Finds it out by a plan that has decided about all announcements that name this server. No other decides whether
    /// a hosted repository is announced.
    pub(super) fn by(facts: &Facts, plan: &Plan) -> Self {
        let hosted = facts.hosted().iter().enumerate();
        let (is_announced, first) = hosted.map(|(at, coordinate)| find(facts, plan, at, coordinate)).unzip();
        Self { is_announced, first }
    }

    /// Whether the repository's announcement counts as served, or will by this plan.
    pub(super) fn has(&self, at: RepositoryIndex) -> bool {
        self.is_announced[at]
    }

    /// Returns the announcement after which events of one of these repositories are published: none if one of them is
    /// served already, otherwise one that is being released. Not all of them, or a stranger's that the relay refuses
    /// could delay everyone's.
    pub(super) fn before(&self, repositories: impl IntoIterator<Item = RepositoryIndex>) -> BTreeSet<EventId> {
        let mut releasing = None;
        for at in repositories {
            match &self.first[at] {
                First::Nothing => return BTreeSet::new(),
                First::Announcement { event_id, is_stuck } if releasing.is_none() || !is_stuck => {
                    releasing = Some(*event_id);
                }
                First::Announcement { .. } | First::Unknown => {}
            }
        }
        releasing.into_iter().collect()
    }
}

/// Returns whether a repository is announced, and what comes before its events.
fn find(facts: &Facts, plan: &Plan, at: RepositoryIndex, coordinate: &Coordinate) -> (bool, First) {
    let current = facts.announcement(coordinate);
    let is_releasing =
        |known: &&Known<Announcement>| known.status.counts_as_served() || plan.releases(&known.item.revision.event_id);
    let releasing = current.filter(is_releasing).map(|known| known.item.revision.event_id);
    let served = facts.served_announcement(coordinate);
    let first = match releasing {
        _ if served.is_some_and(|known| known.status == EventStatus::Served) => First::Nothing,
        Some(event_id) => {
            let entry = facts.entries.get(&event_id);
            First::Announcement {
                event_id,
                is_stuck: entry.is_some_and(|entry| entry.status == EntryStatus::Stuck),
            }
        }
        None => First::Unknown,
    };
    (facts.hosting_at(at) == Hosting::Announced || releasing.is_some(), first)
}
