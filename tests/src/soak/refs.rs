//! Compares the repositories with what the relay serves, and searches for what dead programs have left.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;
use std::time::Instant;

use nostr::event::EventId;
use serde_json::json;
use shared::nip34;

use super::check::CheckError;
use super::check::Checker;
use super::check::QUIET_MAX;
use super::declared::declared;
use super::ledger::Project;
use super::ledger::Promise;
use super::server::GATEWAYS;

impl Checker {
    /// Compares the refs of every project, while nobody works.
    ///
    /// # Errors
    /// See [`CheckError`].
    pub(super) async fn compare_all_refs(&self) -> Result<(), CheckError> {
        for project in self.ledger.projects() {
            self.compare_refs(&project).await?;
        }
        Ok(())
    }

    /// The refs that each gateway gives are those of the newest state that the relay serves, and those of the PRs.
    async fn compare_refs(&self, project: &Project) -> Result<(), CheckError> {
        let Some(wanted) = self.wanted_refs(project).await? else {
            return Ok(());
        };
        for gateway in &self.places.gateways {
            let url = format!("http://{gateway}{}", project.path);
            let said = self.git.run(&["ls-remote", &url]).await;
            let lines = said.stdout.lines().filter_map(|line| line.split_once('\t'));
            let refs: BTreeMap<String, String> = lines.map(|(oid, name)| (name.to_owned(), oid.to_owned())).collect();
            let only_in = |these: &BTreeMap<String, String>, those: &BTreeMap<String, String>| {
                let differ = these.iter().filter(|(name, oid)| those.get(*name) != Some(*oid));
                let differ = differ.filter(|(name, _)| !self.is_of_a_deleted_offer(name));
                differ.map(|(name, oid)| format!("{oid} {name}")).collect::<Vec<_>>()
            };
            let (more, less) = (only_in(&refs, &wanted), only_in(&wanted, &refs));
            if !said.ok || !more.is_empty() || !less.is_empty() {
                let text = format!("{url} has {more:?}, lacks {less:?}, says {:?}", said.stderr);
                self.ledger.broken(Promise::RightRefs, None, text);
            }
        }
        Ok(())
    }

    /// Returns the refs that a project must have; `None` if nobody announces it.
    async fn wanted_refs(&self, project: &Project) -> Result<Option<BTreeMap<String, String>>, CheckError> {
        let identifier = &project.repository.identifier;
        let owner = project.repository.owner.public_key().to_hex();
        let announced = json!({"kinds": [nip34::ANNOUNCEMENT], "authors": [owner], "#d": [identifier]});
        if self.query(announced).await?.is_empty() {
            return Ok(None);
        }
        let states = json!({"kinds": [nip34::STATE], "authors": project.authors(), "#d": [identifier]});
        let states = self.query(states).await?;
        let governing = states.iter().max_by_key(|state| (state.created_at, Reverse(state.id)));
        let mut wanted = governing.map(declared).unwrap_or_default();
        if let Some(main) = wanted.get("refs/heads/main").cloned() {
            wanted.insert("HEAD".to_owned(), main);
        }
        let address = project.repository.coordinate().to_string();
        let offers = json!({"kinds": [nip34::PULL_REQUEST], "#a": [address]});
        for offer in self.query(offers).await? {
            wanted.extend(declared(&offer));
        }
        Ok(Some(wanted))
    }

    /// The commit of a PR that was served stays when its author deletes the event.
    fn is_of_a_deleted_offer(&self, name: &str) -> bool {
        let id = name.strip_prefix("refs/nostr/").map(EventId::from_hex);
        let sent = id.and_then(Result::ok).and_then(|id| self.ledger.find(&id));
        sent.is_some_and(|sent| sent.deletion_sent)
    }

    /// Clones every project whose refs are served. Returns how many.
    ///
    /// # Errors
    /// See [`CheckError`].
    pub(super) async fn clone_all(&self) -> Result<usize, CheckError> {
        let mut cloned = 0;
        for (number, project) in self.ledger.projects().iter().enumerate() {
            if self.wanted_refs(project).await?.is_none_or(|refs| refs.is_empty()) {
                continue;
            }
            let url = format!("http://{}{}", self.places.gateways[number % GATEWAYS], project.path);
            let target = self.places.folder.join(format!("clone{number}")).display().to_string();
            let said = self.git.run(&["clone", "--quiet", "--mirror", &url, &target]).await;
            cloned += 1;
            if !said.ok {
                let text = format!("{url} cannot be cloned: {}", said.stderr);
                self.ledger.broken(Promise::RightRefs, None, text);
            }
        }
        Ok(cloned)
    }

    /// Nothing that was half done is left once all have started again.
    pub(super) async fn compare_leftovers(&self) {
        let deadline = Instant::now() + QUIET_MAX;
        loop {
            let left = self.leftovers().await;
            if left.as_ref().is_ok_and(Vec::is_empty) {
                return;
            }
            if Instant::now() > deadline {
                return self.ledger.broken(Promise::NothingLeft, None, format!("{left:?}"));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn leftovers(&self) -> Result<Vec<String>, CheckError> {
        let mut redis = self.redis().await?;
        let mut left = self.disk.left_over();
        for staged in self.disk.staged() {
            let entry: bool = redis::cmd("EXISTS")
                .arg(format!("{{purgatory}}:entry:{}", staged.event_id))
                .query_async(&mut redis)
                .await?;
            let repository = format!("{}:{}", staged.owner, staged.identifier);
            let placeholders: u64 = redis::cmd("ZLEXCOUNT")
                .arg(format!("{{purgatory}}:placeholders:{repository}"))
                .arg(format!("[{}:", staged.event_id))
                .arg(format!("({};", staged.event_id))
                .query_async(&mut redis)
                .await?;
            if !entry && placeholders == 0 {
                left.push(format!("a commit is staged for {}:{repository}", staged.event_id));
            }
        }
        Ok(left)
    }
}
