//! `grasp-gateway purgatory watch`: changes of the waiting events.

use std::io;
use std::io::IsTerminal;
use std::io::Write;
use std::time::Duration;
use std::time::UNIX_EPOCH;

use httpdate::fmt_http_date;
use serde_json::Value;
use serde_json::json;
use shared::purgatory::Purgatory;
use tokio::time::Instant;

use crate::admin::refusals;
use crate::admin::rows::Row;
use crate::admin::rows::list;
use crate::admin::survey::Survey;
use crate::admin::survey::pause_after;
use crate::admin::table::plain;
use crate::command_error::CommandError;

/// Shows the waiting events until the output is closed. It waits for a Redis that fails.
pub(super) async fn watch(purgatory: &Purgatory, is_json: bool) -> Result<(), CommandError> {
    let is_terminal = io::stdout().is_terminal() && !is_json;
    let mut start = Instant::now();
    let first = Survey::take(purgatory).await;
    let mut last = first.map_err(CommandError::because("cannot use the purgatory"))?;
    let mut text = match is_terminal {
        true => screen(&last),
        false => lines(&between(&before(&last), &last), last.counts.now, is_json),
    };
    loop {
        if !write(&text).map_err(CommandError::because("cannot write"))? {
            return Ok(());
        }
        tokio::time::sleep(pause_after(start.elapsed())).await;
        start = Instant::now();
        text = match Survey::take(purgatory).await {
            Ok(next) => {
                let text = match is_terminal {
                    true => screen(&next),
                    false => lines(&between(&last, &next), next.counts.now, is_json),
                };
                last = next;
                text
            }
            Err(error) => match is_json {
                true => format!("{}\n", json!({"change": "error", "error": error.to_string()})),
                false => format!("cannot use the purgatory: {error}\n"),
            },
        };
    }
}

/// Returns the survey that the first one is compared with: all waiting events are new to the reader, and earlier
/// refusals are not shown.
fn before(first: &Survey) -> Survey {
    Survey {
        refusals: first.refusals.clone(),
        ..Survey::default()
    }
}

/// Writes it, and returns whether the output is still open.
fn write(text: &str) -> io::Result<bool> {
    let mut output = io::stdout();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        written => written.map(|()| true),
    }
}

/// One thing that has changed between two surveys.
#[derive(Debug, PartialEq)]
struct Change {
    /// `new`, `changed`, `gone`, or `refused`.
    name: &'static str,
    /// For a person.
    line: String,
    /// For scripts.
    json: Value,
}

/// Returns the changes: new events, events with another status or need, events that are gone, and refusals. It reports
/// nothing about events beyond those that were read.
fn between(before: &Survey, after: &Survey) -> Vec<Change> {
    let find = |rows: &[Row], wanted: &Row| {
        let found = rows.binary_search_by_key(&wanted.order(), Row::order);
        found.ok().map(|place| rows[place].clone())
    };
    let change = |name, row: &Row| Change {
        name,
        line: line(row),
        json: row.to_json(),
    };
    let mut changes = Vec::new();
    for row in &after.rows {
        match find(&before.rows, row) {
            None => changes.push(change("new", row)),
            Some(old) if (old.status, &old.waits_for) != (row.status, &row.waits_for) => {
                changes.push(change("changed", row));
            }
            Some(_) => {}
        }
    }
    let is_whole = after.unread() == 0;
    let gone = before
        .rows
        .iter()
        .filter(|row| is_whole && find(&after.rows, row).is_none());
    changes.extend(gone.map(|row| change("gone", row)));
    let new = after
        .refusals
        .iter()
        .filter(|refusal| !before.refusals.contains(refusal));
    changes.extend(new.rev().map(|(at, refusal)| Change {
        name: "refused",
        line: refusals::line(refusal),
        json: refusals::to_json(*at, refusal),
    }));
    changes
}

fn line(row: &Row) -> String {
    format!(
        "{} {} {} {} waits for {}",
        row.short_id(),
        row.kind,
        row.status_name(),
        row.short_repository(),
        plain(&row.waits_for)
    )
}

fn lines(changes: &[Change], now: u64, is_json: bool) -> String {
    let time = fmt_http_date(UNIX_EPOCH + Duration::from_secs(now));
    let lines = changes.iter().map(|change| match is_json {
        true => format!("{}\n", json!({"change": change.name, "what": change.json})),
        false => format!("{time} {:<8}{}\n", change.name, change.line),
    });
    lines.collect()
}

/// Writes the screen of a terminal: from its first line on, without remains of the previous content.
fn screen(survey: &Survey) -> String {
    let counts = &survey.counts;
    let shown: Vec<Row> = survey.rows.iter().take(ROWS_SHOWN).cloned().collect();
    let left_out = survey.rows.len() > shown.len() || survey.unread() > 0;
    let refused: String = survey
        .refusals
        .iter()
        .take(REFUSALS_SHOWN)
        .map(|(at, refusal)| refusals::refusals(&[(*at, refusal.clone())], counts.now, false))
        .collect();
    format!(
        "\u{1b}[H\u{1b}[2J{} waiting ({} bytes), {} releasing, {} early commits, {} repositories to reconcile\n\n{}\n{refused}",
        counts.waiting,
        counts.waiting_bytes,
        counts.releasing,
        counts.placeholders,
        counts.dirty,
        list(shown, counts.now, false, left_out)
    )
}

/// The oldest, which matter most.
const ROWS_SHOWN: usize = 20;

/// Below them.
const REFUSALS_SHOWN: usize = 5;

#[cfg(test)]
mod tests {
    use shared::purgatory::InventoryCounts;
    use shared::purgatory::NotedRefusal;

    use super::*;
    use crate::admin::rows::in_order;
    use crate::admin::rows::tests::row;
    use shared::purgatory::EntryStatus;

    #[test]
    fn only_what_changes_is_shown() {
        let survey = |rows: Vec<Row>, refusals: Vec<(u64, NotedRefusal)>| Survey {
            counts: InventoryCounts {
                waiting: rows.len() as u64,
                ..InventoryCounts::default()
            },
            rows: in_order(rows),
            refusals,
            ..Survey::default()
        };
        let refusal = |request: &str| NotedRefusal {
            request: request.to_owned(),
            ..NotedRefusal::default()
        };
        let [stays, goes, moves] = ['a', 'b', 'c'].map(|id| row(id, 10, EntryStatus::Held));
        let comes = row('d', 5, EntryStatus::Held);
        let moved = row('c', 10, EntryStatus::Stuck);
        let before = survey(vec![stays.clone(), goes, moves], vec![(1, refusal("old"))]);
        let refused = vec![(3, refusal("later")), (2, refusal("new")), (1, refusal("old"))];
        let after = survey(vec![stays, moved, comes], refused);

        let names = |changes: Vec<Change>| -> Vec<String> {
            let short = |change: Change| format!("{} {}", change.name, &change.line[..1]);
            changes.into_iter().map(short).collect()
        };

        let changes = between(&before, &after);
        assert!(
            changes[3].line.contains("new") && changes[4].line.contains("later"),
            "{changes:?}"
        );
        assert!(lines(&changes, 0, false).starts_with("Thu, 01 Jan 1970 00:00:00 GMT new "));
        assert_eq!(names(changes)[..3], ["new d", "changed c", "gone b"]);
        assert_eq!(between(&after, &after), []);
        let first = names(between(&super::before(&after), &after));
        assert_eq!(first, ["new d", "new a", "new c"], "old refusals are not shown");
        // An event that was not read may still exist.
        let cut = Survey {
            counts: InventoryCounts {
                waiting: 9,
                ..after.counts
            },
            ..after
        };
        assert!(!names(between(&before, &cut)).contains(&"gone b".to_owned()));
    }
}
