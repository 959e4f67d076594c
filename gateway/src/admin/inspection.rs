//! The problems of a repository: compares what is on disk with the events that declare what should be there. Pure.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use bytesize::ByteSize;
use nostr::event::EventId;
use nostr::key::PublicKey;
use serde_json::Value;
use serde_json::json;
use shared::git::Oid;
use shared::git::RefName;
use shared::nip34::Coordinate;
use shared::rules::Facts;
use shared::rules::Hosting;
use wire::path::npub;

use crate::admin::needs::repository;
use crate::admin::table::plain;
use crate::admin::table::span;

/// What is on disk for a repository. Times are unix seconds.
#[derive(Debug, Clone, Default)]
pub(super) struct FoundOnDisk {
    pub(super) bytes: u64,
    pub(super) refs: BTreeMap<RefName, Oid>,
    /// Since when the gateway keeps it without an announcement.
    pub(super) unhosted_since: Option<u64>,
    pub(super) indexed_at: Option<u64>,
    /// Objects that are missing or unreadable.
    pub(super) broken: Vec<String>,
}

/// The result of inspecting a repository.
#[derive(Debug)]
pub(super) struct Inspection {
    coordinate: Coordinate,
    now: u64,
    status: RepositoryStatus,
    /// The governing state, and its author.
    governing: Option<(EventId, PublicKey)>,
    /// Branches and tags that are as declared.
    as_declared: usize,
    differing: Vec<DifferingRef>,
    on_disk: FoundOnDisk,
}

/// Whether it should be here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RepositoryStatus {
    Served,
    Waiting,
    /// One of the operator's lists takes it down.
    Denied,
    NotAnnounced,
}

/// A branch or tag that is not as its repository's governing state declares it.
#[derive(Debug, PartialEq, Eq)]
struct DifferingRef {
    name: RefName,
    here: Option<Oid>,
    declared: Option<Oid>,
}

impl Inspection {
    /// Compares a repository on disk with the facts about it.
    pub(super) fn of(coordinate: &Coordinate, on_disk: FoundOnDisk, facts: &Facts) -> Self {
        let status = match facts.hosting(coordinate) {
            _ if !facts.access.permits(coordinate) => RepositoryStatus::Denied,
            Hosting::Announced => RepositoryStatus::Served,
            Hosting::Waiting => RepositoryStatus::Waiting,
            Hosting::Absent => RepositoryStatus::NotAnnounced,
        };
        let governing = facts.governing_state(coordinate);
        let declared = facts.declared(coordinate).map(|declared| declared.refs.clone());
        let declared = declared.unwrap_or_default();
        let here = on_disk.refs.keys().filter(|name| name.is_branch_or_tag());
        let names: BTreeSet<&RefName> = here.chain(declared.keys()).collect();
        let compared = names.iter().map(|name| DifferingRef {
            name: (*name).clone(),
            here: on_disk.refs.get(name).copied(),
            declared: declared.get(name).copied(),
        });
        let differing: Vec<DifferingRef> = compared.filter(|found| found.here != found.declared).collect();
        Self {
            coordinate: coordinate.clone(),
            now: facts.now,
            status,
            governing: governing.map(|state| (state.revision.event_id, state.author)),
            as_declared: names.len() - differing.len(),
            differing,
            on_disk,
        }
    }

    /// Returns the problems, a sentence each; none: the repository is in order.
    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        match self.status {
            RepositoryStatus::NotAnnounced => faults.push(self.status_text()),
            RepositoryStatus::Served | RepositoryStatus::Waiting => faults.extend(self.ref_faults()),
            // It is not served, and stays as it is.
            RepositoryStatus::Denied => {}
        }
        faults.extend(self.on_disk.broken.iter().map(|line| plain(line)));
        faults
    }

    fn ref_faults(&self) -> Vec<String> {
        let Some((state_id, author)) = &self.governing else {
            let count = self.differing.len();
            let text = format!("no state of a maintainer declares its {count} branches and tags: they are not served");
            return (count > 0).then_some(text).into_iter().collect();
        };
        let of_state = format!("state {state_id} by {}", npub(author));
        let shown = self.differing.iter().take(REFS_MAX).map(|found| {
            let name = &found.name;
            match (found.here, found.declared) {
                (Some(here), Some(declared)) => format!("{name} is at {here}, and {of_state} declares {declared}"),
                (None, Some(declared)) => format!("{name} does not exist, and {of_state} declares {declared}"),
                (Some(here), None) => format!("{name} is at {here}, and {of_state} does not declare it"),
                (None, None) => format!("{name} neither exists nor is declared"),
            }
        });
        let mut faults: Vec<String> = shown.collect();
        if let Some(more @ 1..) = self.differing.len().checked_sub(REFS_MAX) {
            faults.push(format!("{more} more refs differ"));
        }
        faults
    }

    fn status_text(&self) -> String {
        match self.status {
            RepositoryStatus::Served => "its announcement is served".to_owned(),
            RepositoryStatus::Waiting => "its announcement waits in the purgatory".to_owned(),
            RepositoryStatus::Denied => "the operator's lists exclude it".to_owned(),
            RepositoryStatus::NotAnnounced => match self.on_disk.unhosted_since {
                Some(since) => format!(
                    "no announcement that names this server, for {}: removed after --deleted-retention-days",
                    self.age(since)
                ),
                None => "no announcement that names this server".to_owned(),
            },
        }
    }

    fn age(&self, since: u64) -> String {
        span(self.now.saturating_sub(since))
    }

    /// Writes it for a person.
    pub(super) fn text(&self) -> String {
        let state = match &self.governing {
            Some((state_id, author)) => format!("{state_id} by {}", npub(author)),
            None => "none".to_owned(),
        };
        let indexed = match self.on_disk.indexed_at {
            Some(at) => format!("indexed {} ago", self.age(at)),
            None => "never indexed".to_owned(),
        };
        let mut text = format!(
            "repository  {}\nstatus      {}\nsize        {}, {indexed}\nstate       {state}\nrefs        {} as declared, \
             {} not\n",
            repository(&self.coordinate),
            self.status_text(),
            ByteSize(self.on_disk.bytes),
            self.as_declared,
            self.differing.len(),
        );
        for fault in self.faults() {
            text.push_str(&format!("wrong       {fault}\n"));
        }
        text
    }

    /// Returns it for scripts.
    pub(super) fn to_json(&self) -> Value {
        let oid = |oid: &Option<Oid>| oid.map(|oid| oid.to_string());
        let differing = self.differing.iter().map(
            |found| json!({"ref": found.name.to_string(), "here": oid(&found.here), "declared": oid(&found.declared)}),
        );
        json!({
            "repository": self.coordinate.to_string(),
            "status": match self.status {
                RepositoryStatus::Served => "served",
                RepositoryStatus::Waiting => "waiting",
                RepositoryStatus::Denied => "denied",
                RepositoryStatus::NotAnnounced => "not-announced",
            },
            "bytes": self.on_disk.bytes,
            "indexed_at": self.on_disk.indexed_at,
            "unhosted_since": self.on_disk.unhosted_since,
            "state": self.governing.map(|(state_id, _)| state_id.to_hex()),
            "state_author": self.governing.map(|(_, author)| npub(&author)),
            "refs_as_declared": self.as_declared,
            "refs_that_differ": differing.collect::<Vec<_>>(),
            "broken": self.on_disk.broken,
            "faults": self.faults(),
        })
    }
}

/// Refs of one repository that are named.
const REFS_MAX: usize = 50;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use nostr::event::Event;
    use nostr::key::Keys;
    use shared::nip34;
    use shared::purgatory::Reading;
    use shared::rules::Access;
    use shared::rules::Covered;
    use shared::rules::MaintainerMode;

    use super::*;
    use crate::admin::needs::tests::event;

    fn inspection(coordinate: &Coordinate, on_disk: FoundOnDisk, served: Vec<Event>) -> Inspection {
        let covered = Covered {
            coordinates: [coordinate.clone()].into(),
            ..Covered::default()
        };
        let reading = Reading {
            now: 1_000,
            ..Reading::default()
        };
        let (service, access) = ("git.example".parse().unwrap(), Arc::new(Access::default()));
        let facts = Facts::assemble(service, MaintainerMode::default(), access, covered, reading, served);
        Inspection::of(coordinate, on_disk, &facts)
    }

    #[test]
    fn each_way_to_differ_from_the_governing_state_is_named() {
        let keys = Keys::generate();
        let coordinate = Coordinate {
            owner: keys.public_key(),
            identifier: "r".parse().unwrap(),
        };
        let clone = format!("https://git.example/{}/r.git", npub(&keys.public_key()));
        let announcement = event(
            &keys,
            nip34::ANNOUNCEMENT,
            &[&["d", "r"], &["clone", &clone], &["relays", "wss://git.example"]],
        );
        let [a, b] = ["a", "b"].map(|digit| digit.repeat(40));
        let refs: [&[&str]; 3] = [&["d", "r"], &["refs/heads/same", &a], &["refs/heads/other", &a]];
        let state = event(&keys, nip34::STATE, &[&refs[..], &[&["refs/tags/gone", &a]]].concat());
        let on_disk = FoundOnDisk {
            refs: [
                ("refs/heads/same", &a),
                ("refs/heads/other", &b),
                ("refs/heads/surplus", &b),
                ("refs/nostr/pr", &b),
            ]
            .map(|(name, oid)| (name.parse().unwrap(), oid.parse().unwrap()))
            .into(),
            unhosted_since: Some(940),
            broken: vec!["missing blob x".to_owned()],
            ..FoundOnDisk::default()
        };
        let faults = |served: &[&Event]| {
            let served = served.iter().map(|event| (*event).clone()).collect();
            inspection(&coordinate, on_disk.clone(), served).faults()
        };

        let differing = faults(&[&announcement, &state]);
        for (place, parts) in [
            (0, ["refs/heads/other is at bbbb", "declares aaaa"]),
            (1, ["refs/heads/surplus is at bbbb", "does not declare it"]),
            (2, ["refs/tags/gone does not exist", "declares aaaa"]),
            (3, ["missing blob x", ""]),
        ] {
            assert!(
                parts.iter().all(|part| differing[place].contains(part)),
                "{differing:?}"
            );
        }
        assert_eq!(differing.len(), 4, "{differing:?}");
        assert!(differing[0].contains(&npub(&keys.public_key())), "{differing:?}");
        assert!(faults(&[&announcement])[0].starts_with("no state of a maintainer declares its 3 branches"));
        let orphan = faults(&[&state]);
        assert!(
            orphan[0].starts_with("no announcement that names this server, for 1m"),
            "{orphan:?}"
        );
        let whole = inspection(&coordinate, on_disk.clone(), vec![announcement, state]);
        assert!(
            whole.text().contains("refs        1 as declared, 3 not\n"),
            "{}",
            whole.text()
        );
        assert_eq!(whole.to_json()["refs_that_differ"][2]["here"], Value::Null);
    }
}
