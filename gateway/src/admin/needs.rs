//! The needs of an event in the purgatory, in terms of what somebody can do about them. Pure.

use std::collections::BTreeSet;
use std::fmt;

use nostr::event::EventId;
use nostr::key::PublicKey;
use serde_json::Value;
use serde_json::json;
use shared::git::Oid;
use shared::git::RefName;
use shared::nip34;
use shared::nip34::Announcement;
use shared::nip34::Coordinate;
use shared::nip34::PullRequest;
use shared::nip34::State;
use shared::purgatory::Entry;
use shared::purgatory::EntryStatus;
use shared::purgatory::Reading;
use shared::rules::AUTHOR_UNCONFIRMED;
use wire::path::npub;

use crate::admin::table::plain;

/// Something that an event waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Need {
    /// A push of this object, which a state declares for this ref.
    Object {
        state_id: EventId,
        ref_name: RefName,
        oid: Oid,
    },
    /// A push of a PR's commit to `refs/nostr/<event id>` of one of these repositories.
    Commit {
        event_id: EventId,
        oid: Oid,
        repositories: BTreeSet<Coordinate>,
    },
    /// A state by one of these.
    State { authors: BTreeSet<PublicKey> },
    /// That a repository hosted here confirms the author as maintainer; these list them.
    Maintainer {
        author: PublicKey,
        listed_by: BTreeSet<PublicKey>,
    },
    /// That the relay takes it.
    Relay { answer: String },
    /// That these events leave before.
    Events { event_ids: BTreeSet<EventId> },
    /// In the words of the gateway that reconciled last.
    Noted(String),
}

/// Returns the coordinates whose events tell what an entry waits for.
pub(super) fn surroundings(entry: &Entry) -> BTreeSet<Coordinate> {
    let mut coordinates = entry.coordinates.clone();
    if let Some(announcement) = announcement(entry) {
        let at = &announcement.coordinate;
        let listed = announcement.roles.listed.iter().take(LISTED_MAX);
        coordinates.extend(listed.map(|key| at.of(*key)));
    }
    coordinates
}

/// Returns what an entry waits for. `around` has the rest of its [`surroundings`].
pub(super) fn needs(entry: &Entry, around: &Reading) -> Vec<Need> {
    match entry.status {
        EntryStatus::Releasing | EntryStatus::Stuck => needs_of_releasing(entry),
        // A related event.
        EntryStatus::Held | EntryStatus::Asleep if entry.coordinates.is_empty() => vec![Need::Events {
            event_ids: entry.after.clone(),
        }],
        EntryStatus::Held | EntryStatus::Asleep => match entry.event.kind.as_u16() {
            nip34::STATE => needs_of_state(entry, around),
            nip34::ANNOUNCEMENT => needs_of_announcement(entry, around),
            _ => needs_of_pull_request(entry),
        },
    }
}

fn needs_of_releasing(entry: &Entry) -> Vec<Need> {
    if !entry.release_error.is_empty() {
        let answer = entry.release_error.clone();
        return vec![Need::Relay { answer }];
    }
    if entry.after.is_empty() {
        return vec![Need::Noted("a gateway that publishes it: it is complete".to_owned())];
    }
    vec![Need::Events {
        event_ids: entry.after.clone(),
    }]
}

fn needs_of_state(entry: &Entry, around: &Reading) -> Vec<Need> {
    let Ok(state) = State::parse(&entry.event) else {
        return noted(entry);
    };
    if entry.waiting_for == AUTHOR_UNCONFIRMED {
        let listed_by = around.listed_by.get(&state.home()).cloned().unwrap_or_default();
        return vec![Need::Maintainer {
            author: state.author,
            listed_by,
        }];
    }
    // The gateway names the objects that it has not found, and the state which refs want them.
    let refs = state.declared.into_iter().flat_map(|declared| declared.refs);
    let missing = refs.filter(|(_, oid)| entry.waiting_for.contains(&oid.to_string()));
    let missing = missing.map(|(ref_name, oid)| Need::Object {
        state_id: entry.event.id,
        ref_name,
        oid,
    });
    let missing: Vec<Need> = missing.take(REFS_MAX).collect();
    if missing.is_empty() { noted(entry) } else { missing }
}

fn needs_of_announcement(entry: &Entry, around: &Reading) -> Vec<Need> {
    let Some(announcement) = announcement(entry) else {
        return noted(entry);
    };
    let mut authors = announcement.roles.listed;
    authors.insert(announcement.coordinate.owner);
    let is_of_it = |other: &&Entry| {
        let event = &other.event;
        event.kind.as_u16() == nip34::STATE && authors.contains(&event.pubkey)
    };
    let needs: Vec<Need> = around
        .entries
        .iter()
        .filter(is_of_it)
        .flat_map(|state| needs_of_state(state, around))
        .take(REFS_MAX)
        .collect();
    match needs.is_empty() {
        true => vec![Need::State { authors }],
        false => needs,
    }
}

fn needs_of_pull_request(entry: &Entry) -> Vec<Need> {
    match PullRequest::parse(&entry.event) {
        Ok(pull_request) if entry.waiting_for.contains(&pull_request.commit_oid.to_string()) => vec![Need::Commit {
            event_id: pull_request.event_id,
            oid: pull_request.commit_oid,
            repositories: pull_request.coordinates,
        }],
        Ok(_) | Err(_) => noted(entry),
    }
}

fn noted(entry: &Entry) -> Vec<Need> {
    let text = match entry.waiting_for.as_str() {
        "" => "a gateway that reconciles its repository: none has done so yet",
        text => text,
    };
    vec![Need::Noted(text.to_owned())]
}

fn announcement(entry: &Entry) -> Option<Announcement> {
    let is_one = entry.event.kind.as_u16() == nip34::ANNOUNCEMENT;
    is_one.then(|| Announcement::parse(&entry.event).ok())?
}

impl Need {
    /// Returns it for scripts.
    pub(super) fn to_json(&self) -> Value {
        match self {
            Self::Object {
                state_id,
                ref_name,
                oid,
            } => {
                json!({"need": "object", "state": state_id.to_hex(), "ref": ref_name.to_string(), "oid": oid.to_string()})
            }
            Self::Commit {
                event_id,
                oid,
                repositories,
            } => {
                let repositories: Vec<String> = repositories.iter().map(ToString::to_string).collect();
                let name = format!("refs/nostr/{event_id}");
                json!({"need": "commit", "ref": name, "oid": oid.to_string(), "repositories": repositories})
            }
            Self::State { authors } => json!({"need": "state", "authors": npubs(authors)}),
            Self::Maintainer { author, listed_by } => {
                json!({"need": "maintainer", "author": npub(author), "listed_by": npubs(listed_by)})
            }
            Self::Relay { answer } => json!({"need": "relay", "answer": answer}),
            Self::Events { event_ids } => {
                json!({"need": "events", "events": event_ids.iter().map(EventId::to_hex).collect::<Vec<_>>()})
            }
            Self::Noted(text) => json!({"need": "other", "text": text}),
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object {
                state_id,
                ref_name,
                oid,
            } => write!(f, "a push of {ref_name} at {oid}, which state {state_id} declares"),
            Self::Commit {
                event_id,
                oid,
                repositories,
            } => {
                let names: Vec<String> = repositories.iter().map(repository).collect();
                write!(
                    f,
                    "a push of commit {oid} to refs/nostr/{event_id} of {}",
                    names.join(" or ")
                )
            }
            Self::State { authors } => {
                write!(
                    f,
                    "a state (kind 30618) by {}, and a push of what it declares",
                    npubs(authors).join(" or ")
                )
            }
            Self::Maintainer { author, listed_by } if listed_by.is_empty() => {
                write!(
                    f,
                    "an announcement (kind 30617) by {0}, or one that lists {0} as maintainer",
                    npub(author)
                )
            }
            Self::Maintainer { author, listed_by } => {
                let owners = npubs(listed_by).join(" or ");
                write!(
                    f,
                    "{} to become a maintainer of the repository of {owners}, who lists them",
                    npub(author)
                )
            }
            Self::Relay { answer } => write!(f, "the relay, which answered: {}", plain(answer)),
            Self::Events { event_ids } => {
                let ids: Vec<String> = event_ids.iter().map(EventId::to_hex).collect();
                write!(f, "events that are served before it: {}", ids.join(" "))
            }
            Self::Noted(text) => f.write_str(&plain(text)),
        }
    }
}

/// Returns a repository as people name it.
pub(super) fn repository(coordinate: &Coordinate) -> String {
    format!("{}/{}", npub(&coordinate.owner), plain(coordinate.identifier.as_str()))
}

fn npubs(keys: &BTreeSet<PublicKey>) -> Vec<String> {
    keys.iter().map(npub).collect()
}

/// Refs that are named of one entry.
const REFS_MAX: usize = 16;

/// Listed maintainers whose states are read.
const LISTED_MAX: usize = 16;

#[cfg(test)]
pub(crate) mod tests {
    use nostr::event::Event;
    use nostr::event::EventBuilder;
    use nostr::event::FinalizeEvent;
    use nostr::event::Kind;
    use nostr::event::Tag;
    use nostr::key::Keys;

    use super::*;

    pub(in crate::admin) fn event(keys: &Keys, kind: u16, tags: &[&[&str]]) -> Event {
        let tags = tags.iter().map(|tag| Tag::parse(tag.iter().copied()).unwrap());
        EventBuilder::new(Kind::from_u16(kind), "")
            .tags(tags)
            .finalize(keys)
            .unwrap()
    }

    fn entry(event: &Event, coordinate: &Coordinate, waiting_for: &str) -> Entry {
        Entry {
            event: event.clone().into(),
            coordinates: [coordinate.clone()].into(),
            status: EntryStatus::Held,
            source: String::new(),
            held_since: 1,
            deadline: 9,
            waiting_for: waiting_for.to_owned(),
            release_error: String::new(),
            releasing_since: None,
            after: BTreeSet::new(),
        }
    }

    #[test]
    fn what_is_missing_is_named_with_its_ref_and_its_maintainer() {
        let (owner, other) = (Keys::generate(), Keys::generate());
        let coordinate = Coordinate {
            owner: owner.public_key(),
            identifier: "r".parse().unwrap(),
        };
        let (here, missing) = ("a".repeat(40), "b".repeat(40));
        let refs: [&[&str]; 3] = [&["d", "r"], &["refs/heads/main", &here], &["refs/tags/v1", &missing]];
        let state = entry(
            &event(&owner, nip34::STATE, &refs),
            &coordinate,
            &format!("1 missing object: {missing}"),
        );
        let invited = event(&other, nip34::STATE, &refs);
        let invited = entry(&invited, &coordinate.of(other.public_key()), AUTHOR_UNCONFIRMED);
        let other_hex = other.public_key().to_hex();
        let announced = event(
            &owner,
            nip34::ANNOUNCEMENT,
            &[&["d", "r"], &["maintainers", &other_hex]],
        );
        let announced = entry(&announced, &coordinate, "a push");
        let around = |entries: &[&Entry]| Reading {
            entries: entries.iter().map(|entry| (*entry).clone()).collect(),
            listed_by: [(coordinate.of(other.public_key()), [owner.public_key()].into())].into(),
            ..Reading::default()
        };
        let object = Need::Object {
            state_id: state.event.id,
            ref_name: "refs/tags/v1".parse().unwrap(),
            oid: missing.parse().unwrap(),
        };

        assert_eq!(needs(&state, &around(&[])), std::slice::from_ref(&object));
        let listed = Need::Maintainer {
            author: other.public_key(),
            listed_by: [owner.public_key()].into(),
        };
        assert_eq!(needs(&invited, &around(&[])), std::slice::from_ref(&listed));
        assert_eq!(needs(&announced, &around(&[&state])), [object]);
        assert_eq!(needs(&announced, &around(&[&invited])), [listed]);
        let authors = BTreeSet::from([owner.public_key(), other.public_key()]);
        assert_eq!(needs(&announced, &around(&[])), [Need::State { authors }]);
        assert_eq!(surroundings(&announced).len(), 2);
    }

    #[test]
    fn each_status_waits_for_something_else() {
        let keys = Keys::generate();
        let coordinate = Coordinate {
            owner: keys.public_key(),
            identifier: "r".parse().unwrap(),
        };
        let (commit, address) = ("c".repeat(40), coordinate.to_string());
        let pull_request = event(&keys, nip34::PULL_REQUEST, &[&["a", &address], &["c", &commit]]);
        let entry = |waiting_for: &str| entry(&pull_request, &coordinate, waiting_for);
        let needs = |entry: Entry| needs(&entry, &Reading::default()).remove(0).to_string();

        let name = format!("refs/nostr/{}", pull_request.id);
        let pushed = needs(entry(&format!("commit {commit}")));
        assert!(pushed.contains(&commit) && pushed.contains(&name), "{pushed}");
        assert_eq!(needs(entry("announcement not served")), "announcement not served");
        assert!(needs(entry("")).contains("none has done so yet"));
        let refused = Entry {
            status: EntryStatus::Stuck,
            release_error: "invalid: too many tags\u{1b}[31m".to_owned(),
            ..entry("")
        };
        assert_eq!(
            needs(refused),
            "the relay, which answered: invalid: too many tags\\u{1b}[31m"
        );
        let ordered = Entry {
            status: EntryStatus::Releasing,
            after: [pull_request.id].into(),
            ..entry("")
        };
        assert!(needs(ordered).contains(&pull_request.id.to_hex()));
    }
}
