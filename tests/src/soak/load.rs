//! The load: people who announce, declare, push, offer and delete, through both gateways.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use nostr::event::Event;
use nostr::key::Keys;
use nostr::key::PublicKey;
use shared::nip34;
use tokio::sync::watch;

use super::ledger::Project;
use super::worker::ATTEMPTS;
use super::worker::Worker;
use super::worker::pause;
use crate::clients::nostr::now;
use crate::clients::nostr::sign;
use crate::clients::nostr::tag;
use crate::harness::repository::Repository;

impl Worker {
    /// Announces a project in which `other` is a maintainer, which stays its only one.
    pub(super) async fn announce_with(&mut self, other: &Keys) -> Arc<Project> {
        let project = self.new_project("shared", vec![other.public_key()]);
        self.announce(&project).await;
        project
    }

    /// Lets it work on somebody else's project, as one of its maintainers.
    pub(super) fn join(&mut self, project: Arc<Project>) {
        self.project = Some(project);
    }

    /// Works until `stop` says so.
    pub(super) async fn work(&mut self, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow_and_update() {
            let project = match self.project.clone() {
                Some(project) if !project.others.is_empty() || !self.random.chance(8) => project,
                Some(_) | None => self.begin_a_project().await,
            };
            let is_joint = !project.others.is_empty();
            match self.random.below(100) {
                0..43 => self.declare_and_push(&project, false).await,
                43..58 => self.declare_and_push(&project, true).await,
                58..66 => self.declare_in_vain(&project).await,
                66..78 => self.offer(&project, true).await,
                78..90 => self.offer(&project, false).await,
                90..94 if !is_joint => self.announce(&project).await,
                94..97 if !is_joint => self.retract(&project).await,
                _ => self.announce_in_vain().await,
            }
        }
    }

    async fn begin_a_project(&mut self) -> Arc<Project> {
        if self.random.chance(30) {
            self.keys = self.random.keys();
        }
        let project = self.new_project("p", Vec::new());
        self.announce(&project).await;
        project
    }

    fn new_project(&mut self, name: &str, others: Vec<PublicKey>) -> Arc<Project> {
        self.projects_made += 1;
        let repository = Repository {
            owner: self.keys.clone(),
            identifier: format!("{name}{}-{}", self.number, self.projects_made),
        };
        let project = Project::new(repository, others);
        self.project = Some(Arc::clone(&project));
        project
    }

    /// Announces a project, or announces it again.
    async fn announce(&mut self, project: &Arc<Project>) {
        let origin = &self.places.gateways[0];
        let mut tags = vec![
            tag(&["d", &project.repository.identifier]),
            tag(&["clone", &format!("http://{origin}{}", project.path)]),
            tag(&["relays", &format!("ws://{origin}")]),
        ];
        if let [other, ..] = project.others.as_slice() {
            tags.push(tag(&["maintainers", &other.to_hex()]));
        }
        let stamp = self.next_stamp();
        let announcement = sign(&project.repository.owner, nip34::ANNOUNCEMENT, stamp, &tags);
        self.send(&announcement, project).await;
    }

    /// A repository to which nobody ever pushes.
    async fn announce_in_vain(&mut self) {
        let own = self.project.clone();
        let project = self.new_project("v", Vec::new());
        self.announce(&project).await;
        self.project = own;
    }

    /// A state with a new commit on its main branch.
    async fn declare(&mut self, project: &Project) -> (Event, BTreeMap<String, String>) {
        let mut refs = BTreeMap::from([("refs/heads/main".to_owned(), self.commit().await)]);
        for name in ["refs/heads/next", "refs/heads/a/b", "refs/tags/v1", "refs/tags/v2"] {
            if self.random.chance(35) {
                let back = usize::try_from(self.random.below(4)).unwrap_or_default();
                let index = self.commits.len().saturating_sub(1 + back);
                refs.insert(name.to_owned(), self.commits[index].clone());
            }
        }
        let declared: Vec<(&str, &str)> = refs.iter().map(|(name, oid)| (name.as_str(), oid.as_str())).collect();
        let stamp = self.next_stamp();
        let state = project.repository.state_by(&self.keys, stamp, &declared);
        (state, refs)
    }

    /// A state and its push; sometimes another one before, which this one overtakes.
    async fn declare_and_push(&mut self, project: &Arc<Project>, with_overtaken: bool) {
        if with_overtaken {
            let (overtaken, _) = self.declare(project).await;
            self.send(&overtaken, project).await;
        }
        let (state, refs) = self.declare(project).await;
        if self.send(&state, project).await {
            self.push_state(project, &state, &refs).await;
        }
    }

    /// A state whose commit never comes.
    async fn declare_in_vain(&mut self, project: &Arc<Project>) {
        let (oid, stamp) = (self.random.oid(), self.next_stamp());
        let state = project
            .repository
            .state_by(&self.keys, stamp, &[("refs/heads/main", &oid)]);
        self.send(&state, project).await;
    }

    async fn push_state(&mut self, project: &Project, state: &Event, refs: &BTreeMap<String, String>) {
        for _ in 0..ATTEMPTS {
            let url = self.url(project);
            let listed = self.git.run(&["ls-remote", &url, "refs/heads/*", "refs/tags/*"]).await;
            if !listed.ok {
                pause().await;
                continue;
            }
            let names = listed.stdout.lines().filter_map(|line| line.split('\t').nth(1));
            let gone: BTreeSet<&str> = names.filter(|name| !refs.contains_key(*name)).collect();
            let set = refs.iter().map(|(name, oid)| format!("+{oid}:{name}"));
            let refspecs: Vec<String> = set.chain(gone.iter().map(|name| format!(":{name}"))).collect();
            if self.push(&url, &refspecs, state).await {
                return;
            }
            pause().await;
        }
    }

    /// A PR, its event before its commit or after it, sometimes deleted again.
    async fn offer(&mut self, project: &Arc<Project>, event_first: bool) {
        let author = self.random.keys();
        let commit = self.commit().await;
        let event = project.repository.pull_request(&author, &commit);
        self.ledger.sending(&event, project);
        if event_first && !self.send(&event, project).await {
            return;
        }
        let refspecs = [format!("{commit}:refs/nostr/{}", event.id.to_hex())];
        let pushed_at = now();
        for _ in 0..ATTEMPTS {
            let url = self.url(project);
            if self.push(&url, &refspecs, &event).await {
                break;
            }
            pause().await;
        }
        if !event_first {
            self.send(&event, project).await;
            if now() >= pushed_at + self.hold_secs {
                // The commit waited for its event no longer than that.
                self.ledger
                    .note(&event.id, "sent too late for its commit", |sent| sent.pushed = false);
            }
        }
        if self.random.chance(25) {
            let tags = [tag(&["e", &event.id.to_hex()])];
            self.delete(&[event.id], &sign(&author, nip34::DELETION, now(), &tags))
                .await;
        }
    }

    /// The project is given up: its owner asks to delete announcement and states.
    async fn retract(&mut self, project: &Arc<Project>) {
        let until = self.next_stamp();
        let owner = project.repository.owner.public_key();
        let own = self
            .ledger
            .ids(|sent| sent.project.path == project.path && sent.event.pubkey == owner);
        let address = |kind: u16| format!("{kind}:{}:{}", owner.to_hex(), project.repository.identifier);
        let tags = [nip34::ANNOUNCEMENT, nip34::STATE].map(|kind| tag(&["a", &address(kind)]));
        let request = sign(&project.repository.owner, nip34::DELETION, until, &tags);
        self.delete(&own, &request).await;
        self.project = None;
    }
}
