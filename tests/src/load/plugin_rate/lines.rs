//! Lines as strfry writes them about events of its clients. Nobody has signed these: a plugin does not check what
//! strfry has checked.

use nostr::key::Keys;
use serde_json::Value;
use serde_json::json;
use shared::nip34;
use shared::nip34::Coordinate;
use wire::path::repository_path;

use crate::clients::nostr::now;

/// A line, and what is answered to it.
#[derive(Debug, Clone)]
pub(super) struct PluginLine {
    /// With its line feed.
    pub(super) text: String,
    /// The event's id.
    pub(super) event_id: String,
    /// Bytes of the event.
    pub(super) event_bytes: usize,
    /// `None`: any.
    pub(super) action: Option<&'static str>,
}

/// The lines about some repositories, one of each kind about each: in this order each is answered as expected.
pub(super) struct GitLines {
    pub(super) announcements: Vec<PluginLine>,
    pub(super) states: Vec<PluginLine>,
    pub(super) pull_requests: Vec<PluginLine>,
    /// About what is served.
    pub(super) comments: Vec<PluginLine>,
    /// Which wait behind the PRs.
    pub(super) held_comments: Vec<PluginLine>,
}

/// Makes lines of which no two are about the same event.
pub(super) struct LineMaker {
    number: usize,
    /// The domain that announcements name.
    domain: &'static str,
}

impl LineMaker {
    pub(super) fn new(domain: &'static str) -> Self {
        Self { number: 0, domain }
    }

    /// Makes notes, which are none of git's business.
    pub(super) fn notes(&mut self, count: usize) -> Vec<PluginLine> {
        let author = Keys::generate();
        let tags = json!([["p", "a".repeat(64)], ["t", "introductions"]]);
        (0..count)
            .map(|_| self.line(&author, 1, &tags, Some("accept")))
            .collect()
    }

    /// Makes lines about so many new repositories, some of them about this served event.
    pub(super) fn about_repositories(&mut self, count: usize, served_id: &str) -> GitLines {
        let mut lines = GitLines {
            announcements: Vec::new(),
            states: Vec::new(),
            pull_requests: Vec::new(),
            comments: Vec::new(),
            held_comments: Vec::new(),
        };
        let (mut owner, mut somebody) = (Keys::generate(), Keys::generate());
        for number in 0..count {
            if number % PER_AUTHOR == PER_AUTHOR - 1 {
                (owner, somebody) = (Keys::generate(), Keys::generate());
            }
            let identifier = format!("repository-{}", self.number);
            let coordinate = Coordinate {
                owner: owner.public_key(),
                identifier: identifier.parse().unwrap(),
            };
            let (domain, path) = (self.domain, repository_path(&coordinate));
            let announcement = json!([
                ["d", identifier],
                ["name", identifier],
                ["clone", format!("https://{domain}{path}")],
                ["relays", format!("wss://{domain}")]
            ]);
            let state = json!([
                ["d", identifier],
                ["HEAD", "ref: refs/heads/main"],
                ["refs/heads/main", "a".repeat(40)]
            ]);
            let pull_request = json!([
                ["a", coordinate.to_string()],
                ["c", "b".repeat(40)],
                ["clone", "https://example.com/fork.git"],
                ["subject", "a change"]
            ]);
            let comment = json!([["E", served_id], ["K", "1621"]]);
            let held = Some("shadowReject");
            lines
                .announcements
                .push(self.line(&owner, nip34::ANNOUNCEMENT, &announcement, held));
            lines.states.push(self.line(&owner, nip34::STATE, &state, held));
            lines
                .pull_requests
                .push(self.line(&somebody, nip34::PULL_REQUEST, &pull_request, held));
            lines
                .comments
                .push(self.line(&somebody, nip34::COMMENT, &comment, Some("accept")));
            let pull_request_id = &lines.pull_requests[number].event_id;
            let comment = json!([["E", pull_request_id], ["K", "1618"]]);
            lines
                .held_comments
                .push(self.line(&somebody, nip34::COMMENT, &comment, held));
        }
        lines
    }

    fn line(&mut self, author: &Keys, kind: u16, tags: &Value, action: Option<&'static str>) -> PluginLine {
        self.number += 1;
        // What `scale::held` holds has the numbers below.
        let event_id = format!("{:064x}", (1_u64 << 40) + self.number as u64);
        let event = json!({"id": event_id, "pubkey": author.public_key().to_hex(), "created_at": now(), "kind": kind,
            "tags": tags, "content": "Whoever reads this reads about as much as people write.", "sig": "c".repeat(128)});
        let event_bytes = event.to_string().len();
        let client = format!("192.0.{}.{}", self.number / 250 % 250, self.number % 250);
        let line =
            json!({"event": event, "receivedAt": now(), "sourceInfo": client, "sourceType": "IP4", "type": "new"});
        PluginLine {
            text: format!("{line}\n"),
            event_id,
            event_bytes,
            action,
        }
    }
}

/// Repositories of one author: fewer events than one may have held.
const PER_AUTHOR: usize = 200;
