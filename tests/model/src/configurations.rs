//! What is explored: small configurations, each about one thing that may go wrong, so that all of them together take
//! less than a minute. A message that may be sent twice is one whose first answer was lost, or a duplicate.

use crate::configuration::Beginning::Announced;
use crate::configuration::Beginning::Empty;
use crate::configuration::Configuration;
use crate::event::Event;
use crate::event::Message;
use crate::event::Push;
use crate::scene::Scene;

/// Returns all of them.
pub fn configurations() -> Vec<Configuration> {
    let mut all = Vec::new();
    all.extend(programs_die());
    all.extend(neighbours_go_away());
    all.extend(authors_delete());
    all.extend(deadlines_pass());
    all.extend(states_come_in_parts());
    all.extend(redis_fails_over());
    all.extend(disk_fails());
    all.extend(one_lists_the_other());
    all.extend(both_list_each_other());
    all
}

fn programs_die() -> [Configuration; 5] {
    [
        Configuration::new("a repository begins", Empty)
            .sends([ANNOUNCEMENT, OLDER])
            .pushes([Push::Older])
            .gateways(2)
            .with(|left| left.crashes = 2),
        Configuration::new("a repository begins with two states", Empty)
            .sends([ANNOUNCEMENT, OLDER, NEWER])
            .pushes([Push::Older, Push::Newer])
            .with(|left| left.crashes = 1),
        Configuration::new("two states of one author", Announced)
            .sends([NEWER, NEWER, OLDER])
            .pushes([Push::Newer])
            .gateways(2)
            .with(|left| left.crashes = 1),
        Configuration::new("two maintainers", Announced)
            .scene(Scene::Maintainer)
            .sends([NEWER, NEWER])
            .pushes([Push::Newer])
            .gateways(2)
            .with(|left| left.crashes = 1)
            .with(|left| left.short_reads = 1),
        Configuration::new("a PR to two repositories and a program dies", Announced)
            .sends([PULL_REQUEST])
            .pushes([Push::CommitToX, Push::CommitToY])
            .with(|left| left.deadlines = 1)
            .with(|left| left.crashes = 1),
    ]
}

fn neighbours_go_away() -> [Configuration; 2] {
    [
        Configuration::new("the relay goes away", Announced)
            .sends([NEWER, NEWER])
            .pushes([Push::Newer])
            .gateways(2)
            .with(|left| left.relay_crashes = 1)
            .with(|left| left.lost_answers = 1)
            .with(|left| left.crashes = 1),
        Configuration::new("Redis goes away", Announced)
            .sends([NEWER, NEWER])
            .pushes([Push::Newer])
            .gateways(2)
            .with(|left| left.redis_outages = 2)
            .with(|left| left.crashes = 1),
    ]
}

fn authors_delete() -> [Configuration; 4] {
    [
        Configuration::new("the newer state is deleted", Announced)
            .sends([NEWER, NEWER])
            .deletes(Event::Newer)
            .pushes([Push::Newer])
            .gateways(2)
            .with(|left| left.redis_outages = 1),
        Configuration::new("the newer state is deleted and the relay goes away", Announced)
            .sends([NEWER, Message::Deletion])
            .deletes(Event::Newer)
            .pushes([Push::Newer])
            .gateways(2)
            .with(|left| left.relay_crashes = 1),
        Configuration::new("the older state is deleted", Announced)
            .scene(Scene::Maintainer)
            .sends([NEWER, OLDER])
            .deletes(Event::Older)
            .pushes([Push::Newer])
            .with(|left| left.redis_outages = 1),
        Configuration::new("the announcement is deleted", Empty)
            .sends([ANNOUNCEMENT, OLDER])
            .deletes(Event::Announcement)
            .pushes([Push::Older])
            .with(|left| left.redis_outages = 1)
            .with(|left| left.crashes = 1),
    ]
}

fn deadlines_pass() -> [Configuration; 3] {
    [
        Configuration::new("deadlines pass", Empty)
            .sends([ANNOUNCEMENT, OLDER, OLDER])
            .pushes([Push::Older])
            .gateways(2)
            .with(|left| left.deadlines = 2),
        Configuration::new("deadlines pass and a program dies", Empty)
            .sends([ANNOUNCEMENT, OLDER, OLDER])
            .pushes([Push::Older])
            .with(|left| left.deadlines = 3)
            .with(|left| left.crashes = 1),
        Configuration::new("a PR to two repositories", Announced)
            .sends([PULL_REQUEST])
            .pushes([Push::CommitToX, Push::CommitToY])
            .gateways(2)
            .with(|left| left.deadlines = 2),
    ]
}

fn states_come_in_parts() -> [Configuration; 3] {
    [
        Configuration::new("a state comes in two parts", Announced)
            .sends([NEWER])
            .pushes([Push::FirstPart, Push::SecondPart])
            .gateways(2)
            .with(|left| left.crashes = 2),
        Configuration::new("a deadline passes between two parts", Announced)
            .sends([NEWER, NEWER])
            .pushes([Push::FirstPart, Push::SecondPart])
            .gateways(2)
            .with(|left| left.deadlines = 2),
        Configuration::new("a state comes in parts and whole, and is deleted", Announced)
            .sends([NEWER])
            .deletes(Event::Newer)
            .pushes([Push::FirstPart, Push::Newer])
            .with(|left| left.disk_errors = 1)
            .with(|left| left.crashes = 1),
    ]
}

fn redis_fails_over() -> [Configuration; 4] {
    [
        Configuration::new("Redis fails over", Announced)
            .sends([NEWER])
            .pushes([Push::Newer])
            .gateways(2)
            .with(|left| left.failovers = 1),
        Configuration::new("Redis fails over and a program dies", Announced)
            .sends([NEWER])
            .pushes([Push::Newer])
            .with(|left| left.failovers = 1)
            .with(|left| left.crashes = 1),
        Configuration::new("Redis fails over at a deletion", Announced)
            .sends([NEWER])
            .deletes(Event::Newer)
            .pushes([Push::Newer])
            .with(|left| left.failovers = 1),
        Configuration::new("Redis comes back empty", Announced)
            .sends([NEWER])
            .pushes([Push::Newer])
            .gateways(2)
            .with(|left| left.losses = 1)
            .with(|left| left.relay_crashes = 1),
    ]
}

fn disk_fails() -> [Configuration; 3] {
    [
        Configuration::new("the disk fails where a repository begins", Empty)
            .sends([ANNOUNCEMENT, OLDER])
            .pushes([Push::Older])
            .with(|left| left.disk_errors = 2)
            .with(|left| left.deadlines = 2)
            .with(|left| left.crashes = 1),
        Configuration::new("the disk fails under two maintainers", Announced)
            .scene(Scene::Maintainer)
            .sends([NEWER])
            .pushes([Push::Newer])
            .gateways(2)
            .with(|left| left.disk_errors = 2)
            .with(|left| left.deadlines = 1),
        Configuration::new("the disk fails under a PR to two repositories", Announced)
            .sends([PULL_REQUEST])
            .pushes([Push::CommitToX, Push::CommitToY])
            .with(|left| left.disk_errors = 2)
            .with(|left| left.deadlines = 1),
    ]
}

fn one_lists_the_other() -> [Configuration; 7] {
    [
        Configuration::new("a repository that lists another's owner begins", Empty)
            .scene(Scene::Listing)
            .sends([ANNOUNCEMENT, NEWER])
            .pushes([Push::Newer])
            .gateways(2),
        Configuration::new("the plugin dies before it has noted whom an announcement lists", Empty)
            .scene(Scene::Listing)
            .sends([ANNOUNCEMENT, NEWER])
            .pushes([Push::Newer])
            .with(|left| left.crashes = 1),
        Configuration::new("a repository that lists another's owner is brought along", Announced)
            .scene(Scene::Listing)
            .sends([NEWER])
            .pushes([Push::Newer])
            .gateways(2)
            .with(|left| left.crashes = 1),
        Configuration::new("a push to a repository that lists another's owner", Announced)
            .scene(Scene::Listing)
            .sends([NEWER])
            .pushes([Push::NewerToY])
            .gateways(2)
            .with(|left| left.crashes = 1),
        Configuration::new(
            "Redis comes back empty under a repository that lists another's owner",
            Announced,
        )
        .scene(Scene::Listing)
        .sends([NEWER])
        .pushes([Push::Newer])
        .with(|left| left.losses = 1)
        .with(|left| left.crashes = 1),
        Configuration::new(
            "Redis fails over under a repository that lists another's owner",
            Announced,
        )
        .scene(Scene::Listing)
        .sends([NEWER])
        .pushes([Push::Newer])
        .with(|left| left.failovers = 1)
        .with(|left| left.crashes = 1),
        Configuration::new("a repository that lists another's owner fails", Announced)
            .scene(Scene::Listing)
            .sends([NEWER])
            .pushes([Push::Newer, Push::NewerToY])
            .with(|left| left.disk_failures = 1)
            .with(|left| left.crashes = 1)
            .with(|left| left.deadlines = 1),
    ]
}

fn both_list_each_other() -> [Configuration; 3] {
    [
        Configuration::new("a push to one of two repositories of a maintainer set", Announced)
            .scene(Scene::Set)
            .sends([NEWER])
            .pushes([Push::Newer])
            .gateways(2)
            .with(|left| left.crashes = 1),
        Configuration::new("pushes to both repositories of a maintainer set", Announced)
            .scene(Scene::Set)
            .sends([NEWER])
            .pushes([Push::Newer, Push::NewerToY])
            .gateways(2),
        Configuration::new("one repository of a maintainer set fails", Announced)
            .scene(Scene::Set)
            .sends([NEWER])
            .pushes([Push::Newer, Push::NewerToY])
            .with(|left| left.disk_failures = 1)
            .with(|left| left.crashes = 1)
            .with(|left| left.deadlines = 1),
    ]
}

const ANNOUNCEMENT: Message = Message::Event(Event::Announcement);
const OLDER: Message = Message::Event(Event::Older);
const NEWER: Message = Message::Event(Event::Newer);
const PULL_REQUEST: Message = Message::Event(Event::PullRequest);
