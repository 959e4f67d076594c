//! The entries of the purgatory as rows, with counts. Pure.

use std::collections::BTreeMap;

use nostr::event::EventId;
use nostr::key::PublicKey;
use serde_json::Value;
use serde_json::json;
use shared::nip34;
use shared::nip34::Coordinate;
use shared::purgatory::Entry;
use shared::purgatory::EntryStatus;
use shared::purgatory::InventoryCounts;
use shared::purgatory::Placeholder;
use wire::path::npub;

use crate::admin::needs::repository;
use crate::admin::table::plain;
use crate::admin::table::span;
use crate::admin::table::table;
use crate::http::pages::excerpt;

/// The row of one entry or placeholder in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) event_id: EventId,
    pub(super) kind: &'static str,
    /// `None`: a commit whose event is not here.
    pub(super) status: Option<EntryStatus>,
    pub(super) author: Option<PublicKey>,
    pub(super) repositories: Vec<Coordinate>,
    /// Unix seconds; `None`: not recorded.
    pub(super) held_since: Option<u64>,
    /// Unix seconds; `None`: it is not releasing, or that is not recorded.
    pub(super) releasing_since: Option<u64>,
    /// `None`: it has none.
    deadline: Option<u64>,
    pub(super) waits_for: String,
}

impl Row {
    /// Shows an entry.
    pub(super) fn of(entry: &Entry) -> Self {
        let waits_for = match entry.release_error.as_str() {
            "" => &entry.waiting_for,
            answer => answer,
        };
        Self {
            event_id: entry.event.id,
            kind: kind_name(entry.event.kind.as_u16()),
            status: Some(entry.status),
            author: Some(entry.event.pubkey),
            repositories: entry.coordinates.iter().cloned().collect(),
            held_since: Some(entry.held_since),
            releasing_since: entry.releasing_since,
            deadline: (!entry.status.counts_as_served()).then_some(entry.deadline),
            waits_for: excerpt(waits_for, WAITS_FOR_CHARS),
        }
    }

    /// Shows a commit that waits for its event.
    pub(super) fn awaiting(placeholder: &Placeholder) -> Self {
        Self {
            event_id: placeholder.event_id,
            kind: "commit",
            status: None,
            author: None,
            repositories: vec![placeholder.coordinate.clone()],
            held_since: None,
            releasing_since: None,
            deadline: Some(placeholder.deadline),
            waits_for: format!("its event; commit {}", placeholder.commit_oid),
        }
    }

    /// Returns the key that orders and distinguishes rows.
    pub(super) fn order(&self) -> (u64, EventId, Vec<Coordinate>) {
        let since = self.held_since.unwrap_or(u64::MAX);
        (since, self.event_id, self.repositories.clone())
    }

    /// Returns the beginning of its id.
    pub(super) fn short_id(&self) -> String {
        self.event_id.to_hex()[..ID_DIGITS].to_owned()
    }

    /// Returns its status in a word.
    pub(super) fn status_name(&self) -> &'static str {
        self.status.map_or("early", EntryStatus::name)
    }

    /// Returns its status, and for how long it is releasing, if it is and that is recorded.
    pub(super) fn status_for(&self, now: u64) -> String {
        match self.releasing_since {
            Some(since) => format!("{} {}", self.status_name(), span(now.saturating_sub(since))),
            None => self.status_name().to_owned(),
        }
    }

    /// Returns its repository, or the first of them.
    pub(super) fn short_repository(&self) -> String {
        match &self.repositories[..] {
            [] => String::new(),
            [only] => short_repository(only),
            [first, rest @ ..] => format!("{} and {} more", short_repository(first), rest.len()),
        }
    }

    /// Returns since when it waits; empty: that is not recorded.
    pub(super) fn age(&self, now: u64) -> String {
        let age = self.held_since.map(|since| span(now.saturating_sub(since)));
        age.unwrap_or_default()
    }

    /// Returns how much time it has; empty: it has no deadline.
    pub(super) fn left(&self, now: u64) -> String {
        let left = self.deadline.map(|deadline| match deadline.checked_sub(now) {
            Some(secs) => span(secs),
            None => "over".to_owned(),
        });
        left.unwrap_or_default()
    }

    fn cells(&self, now: u64) -> Vec<String> {
        vec![
            self.short_id(),
            self.kind.to_owned(),
            self.status_for(now),
            self.short_repository(),
            self.age(now),
            self.left(now),
            plain(&self.waits_for),
        ]
    }

    /// Returns it for scripts.
    pub(super) fn to_json(&self) -> Value {
        json!({
            "event": self.event_id.to_hex(),
            "kind": self.kind,
            "status": self.status_name(),
            "author": self.author.as_ref().map(npub),
            "repositories": self.repositories.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "held_since": self.held_since,
            "releasing_since": self.releasing_since,
            "deadline": self.deadline,
            "waits_for": self.waits_for,
        })
    }
}

/// Returns the rows with the oldest first, and each once.
pub(super) fn in_order(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_by_cached_key(Row::order);
    rows.dedup_by_key(|row| row.order());
    rows
}

/// Writes rows, the oldest first. `left_out`: whether there are more.
pub(super) fn list(rows: Vec<Row>, now: u64, is_json: bool, left_out: bool) -> String {
    let rows = in_order(rows);
    if is_json {
        let rows: Vec<Value> = rows.iter().map(Row::to_json).collect();
        return format!("{:#}\n", json!({"now": now, "left_out": left_out, "entries": rows}));
    }
    if rows.is_empty() {
        return "nothing waits\n".to_owned();
    }
    let head = ["EVENT", "KIND", "STATUS", "REPOSITORY", "SINCE", "LEFT", "WAITS FOR"];
    let mut text = table(&head, rows.iter().map(|row| row.cells(now)));
    if left_out {
        text.push_str("There are more: filter by --repository or --author, or raise --count.\n");
    }
    text
}

/// Counts of the rows that were read.
#[derive(Debug, Default)]
pub(super) struct Tally {
    by_kind_and_status: BTreeMap<(&'static str, &'static str), u64>,
    /// By status: when the oldest was held, and which it is.
    oldest: BTreeMap<&'static str, (u64, EventId)>,
    read: u64,
}

impl Tally {
    pub(super) fn add(&mut self, row: &Row) {
        let status = row.status_name();
        *self.by_kind_and_status.entry((row.kind, status)).or_default() += 1;
        self.read += 1;
        if let Some(since) = row.held_since {
            let this = (since, row.event_id);
            let oldest = self.oldest.entry(status).or_insert(this);
            *oldest = this.min(*oldest);
        }
    }

    /// How many rows were added.
    pub(super) fn read(&self) -> u64 {
        self.read
    }

    /// Writes the counts of these rows and those of the purgatory itself.
    pub(super) fn show(&self, counts: &InventoryCounts, is_json: bool) -> String {
        let all = counts.waiting + counts.releasing + counts.placeholders;
        if is_json {
            let by = self.by_kind_and_status.iter();
            let by: Vec<Value> = by
                .map(|((kind, status), count)| json!({"kind": kind, "status": status, "count": count}))
                .collect();
            let oldest = self.oldest.iter().map(|(status, (since, event_id))| {
                let oldest = json!({"event": event_id.to_hex(), "held_since": since});
                ((*status).to_owned(), oldest)
            });
            let counted = json!({
                "now": counts.now, "waiting": counts.waiting, "waiting_bytes": counts.waiting_bytes,
                "releasing": counts.releasing, "early_commits": counts.placeholders, "dirty": counts.dirty,
                "read": self.read, "by_kind_and_status": by,
                "oldest": oldest.collect::<serde_json::Map<_, _>>(),
            });
            return format!("{counted:#}\n");
        }
        let rows = self.by_kind_and_status.iter();
        let rows =
            rows.map(|((kind, status), count)| vec![(*kind).to_owned(), (*status).to_owned(), count.to_string()]);
        let mut text = table(&["KIND", "STATUS", "COUNT"], rows);
        for (status, (since, event_id)) in &self.oldest {
            let age = span(counts.now.saturating_sub(*since));
            text.push_str(&format!(
                "oldest {status}: {age}, {}\n",
                &event_id.to_hex()[..ID_DIGITS]
            ));
        }
        if self.read < all {
            text.push_str(&format!("counted: {} of {all}\n", self.read));
        }
        let (bytes, dirty) = (counts.waiting_bytes, counts.dirty);
        text.push_str(&format!(
            "bytes of waiting events: {bytes}\nrepositories to reconcile: {dirty}\n"
        ));
        text
    }
}

/// Returns the name of a kind.
pub(super) fn kind_name(kind: u16) -> &'static str {
    match kind {
        nip34::ANNOUNCEMENT => "announcement",
        nip34::STATE => "state",
        nip34::PULL_REQUEST => "PR",
        nip34::PULL_REQUEST_UPDATE => "PR update",
        _ => "other",
    }
}

fn short_repository(coordinate: &Coordinate) -> String {
    let whole = repository(coordinate);
    let (key, identifier) = whole.split_once('/').unwrap_or((&whole, ""));
    format!(
        "{}…/{}",
        &key[..key.len().min(KEY_CHARS)],
        excerpt(identifier, IDENTIFIER_CHARS)
    )
}

/// Digits of an event id in a table: few share them, and `show` takes them.
const ID_DIGITS: usize = 12;

/// Of an npub.
const KEY_CHARS: usize = 12;

const IDENTIFIER_CHARS: usize = 30;

const WAITS_FOR_CHARS: usize = 120;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(in crate::admin) fn row(id: char, since: u64, status: EntryStatus) -> Row {
        Row {
            event_id: EventId::from_hex(&id.to_string().repeat(64)).unwrap(),
            kind: "state",
            status: Some(status),
            author: None,
            repositories: Vec::new(),
            held_since: Some(since),
            releasing_since: None,
            deadline: Some(100),
            waits_for: "a push\n".to_owned(),
        }
    }

    #[test]
    fn the_oldest_comes_first_and_nothing_twice() {
        let rows = vec![
            row('b', 20, EntryStatus::Held),
            row('a', 10, EntryStatus::Held),
            row('b', 20, EntryStatus::Held),
        ];

        let text = list(rows.clone(), 70, false, true);

        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(
            lines[1].contains("aaaaaaaaaaaa") && lines[1].contains("1m") && lines[1].contains("30s"),
            "{text}"
        );
        assert!(
            lines[2].contains("bbbbbbbbbbbb") && lines[2].ends_with("a push\\n"),
            "{text}"
        );
        assert!(lines[3].starts_with("There are more"));
        let json: Value = serde_json::from_str(&list(rows, 70, true, false)).unwrap();
        assert_eq!(json["entries"].as_array().unwrap().len(), 2);
        let released = Row {
            releasing_since: Some(60),
            ..row('c', 5, EntryStatus::Releasing)
        };
        assert!(list(vec![released.clone()], 70, false, false).contains("releasing 10s"));
        assert_eq!(released.to_json()["releasing_since"], 60);
        assert_eq!(json["entries"][0]["held_since"], 10);
    }

    #[test]
    fn what_is_read_is_counted_and_the_rest_is_admitted() {
        let mut tally = Tally::default();
        let rows = [
            row('b', 20, EntryStatus::Held),
            row('a', 10, EntryStatus::Held),
            row('c', 5, EntryStatus::Stuck),
        ];
        rows.iter().for_each(|row| tally.add(row));
        let counts = InventoryCounts {
            now: 70,
            waiting: 9,
            releasing: 1,
            ..InventoryCounts::default()
        };

        let text = tally.show(&counts, false);
        let json: Value = serde_json::from_str(&tally.show(&counts, true)).unwrap();

        assert!(
            text.contains("oldest held: 1m, aaaaaaaaaaaa") && text.contains("oldest stuck: 1m 5s"),
            "{text}"
        );
        assert!(text.contains("counted: 3 of 10"), "{text}");
        assert_eq!(json["oldest"]["held"]["held_since"], 10);
        assert_eq!(json["by_kind_and_status"][0]["count"], 2);
    }
}
