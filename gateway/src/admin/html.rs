//! The pages of the admin address: the content of the purgatory, for a browser. They need neither scripts nor anything
//! else, and reload by themselves. Pure.

use nostr::event::EventId;

use crate::admin::refusals::refusals;
use crate::admin::rows::Row;
use crate::admin::rows::Tally;
use crate::admin::survey::LastSurvey;
use crate::admin::survey::Survey;
use crate::http::pages::PageHead;
use crate::http::pages::and_more;
use crate::http::pages::document;
use crate::http::pages::escape;

/// The page of everything. `readiness` is the text of `/readyz`.
pub(super) fn everything(last: &LastSurvey, readiness: &str, is_live: bool) -> String {
    let found = match last {
        Some(Ok(survey)) => purgatory(survey),
        Some(Err(error)) => notice(&format!("The purgatory cannot be read: {error}.")),
        None => notice("The purgatory has not been read yet."),
    };
    let body = format!(
        "<h1>The purgatory</h1>{}{found}<h2>Health</h2><pre>{}</pre>",
        reload_link(is_live),
        escape(readiness),
    );
    page("The purgatory", is_live, &body)
}

/// The page of one event, as `purgatory show` describes it, with the actions that a client which was shown `token` may
/// take.
pub(super) fn event(event_id: &EventId, description: &str, token: &str) -> String {
    let form = |action: &str, button: &str| {
        format!(
            "<form method=\"post\" action=\"/events/{event_id}/{action}\">\
             <input type=\"hidden\" name=\"token\" value=\"{token}\"><button>{button}</button></form>"
        )
    };
    let body = format!(
        "<h1>A held event</h1><pre>{}</pre>\
         <h2>Reconcile it now</h2><p>It is released if it is complete.</p>{}\
         <h2>Drop it</h2><details><summary>It is removed; its author can send it again</summary>{}</details>\
         <p>The same on the command line, with the gateway's Redis:</p>\
         <pre>grasp-gateway purgatory release {event_id}\ngrasp-gateway purgatory drop {event_id}</pre>",
        escape(description),
        form("release", "Release"),
        form("drop", "Drop"),
    );
    page("A held event", false, &body)
}

/// The page with the result of an action on an event.
pub(super) fn done(event_id: &EventId, text: &str) -> String {
    let body = format!(
        "<h1>A held event</h1><pre role=\"status\">{}</pre>\
         <p><a href=\"/events/{event_id}\">The event</a>, <a href=\"/\">the purgatory</a></p>",
        escape(text),
    );
    page("A held event", false, &body)
}

/// The page of an event that is not there.
pub(super) fn no_event() -> String {
    page(
        "Not found",
        false,
        "<h1>Not found</h1><p>It is not in the purgatory: it was never held, or has been served, or has expired.</p>",
    )
}

fn notice(text: &str) -> String {
    format!("<p class=\"notice\" role=\"status\">{}</p>", escape(text))
}

fn purgatory(survey: &Survey) -> String {
    let now = survey.counts.now;
    let shown = &survey.rows[..survey.rows.len().min(ROWS_SHOWN)];
    let items: String = shown.iter().map(|row| item(row, now)).collect();
    let items = match shown.is_empty() {
        true => "<p>No events are waiting.</p>".to_owned(),
        false => format!("<ul>{items}</ul>"),
    };
    let more = and_more(survey.rows.len() - shown.len() + survey.unread() as usize);
    let mut tally = Tally::default();
    survey.rows.iter().for_each(|row| tally.add(row));
    format!(
        "<h2>Waiting events</h2>{items}{more}<h2>Totals</h2><pre>{}</pre><h2>Latest refusals</h2><pre>{}</pre>",
        escape(&tally.show(&survey.counts, false)),
        escape(&refusals(&survey.refusals, now, false)),
    )
}

fn item(row: &Row, now: u64) -> String {
    let (age, left) = (row.age(now), row.left(now));
    let mut times = vec![row.short_id()];
    times.extend((!age.is_empty()).then(|| format!("since {age}")));
    times.extend((!left.is_empty()).then(|| format!("{left} left")));
    let id = row.event_id;
    // A commit without its event has no entry to show.
    let name = match row.status {
        Some(_) => format!("<a href=\"/events/{id}\">{}</a>", row.kind),
        None => row.kind.to_owned(),
    };
    format!(
        "<li>{name} <span class=\"mark\">{}</span> <bdi>{}</bdi><br>waits for <bdi>{}</bdi>\
         <br><span class=\"quiet\">{}</span></li>",
        row.status_for(now),
        escape(&row.short_repository()),
        escape(&row.waits_for),
        escape(&times.join(", ")),
    )
}

fn reload_link(is_live: bool) -> String {
    match is_live {
        true => {
            format!("<p class=\"quiet\">Reloads every {RELOAD_SECS} s. <a href=\"?still\">Stop reloading</a></p>")
        }
        false => "<p class=\"quiet\">Does not reload. <a href=\"?\">Reload automatically</a></p>".to_owned(),
    }
}

fn page(title: &str, is_live: bool, body: &str) -> String {
    let head = PageHead {
        site: "grasp-gateway",
        title,
        reload_secs: is_live.then_some(RELOAD_SECS),
        ..PageHead::default()
    };
    document(&head, body)
}

/// The oldest, which matter most.
const ROWS_SHOWN: usize = 200;

/// How often a browser asks again.
const RELOAD_SECS: u32 = 5;

#[cfg(test)]
mod tests {
    use shared::purgatory::EntryStatus;
    use shared::purgatory::NotedRefusal;
    use shared::purgatory::PurgatoryError;

    use super::*;
    use crate::admin::rows::tests::row;

    #[test]
    fn nothing_that_clients_write_is_markup() {
        let mut hostile = row('a', 5, EntryStatus::Held);
        hostile.waits_for = "</li><script>alert(1)</script>".to_owned();
        let refusal = NotedRefusal {
            repositories: "<img src=x>".to_owned(),
            reason: "</pre><script>".to_owned(),
            ..NotedRefusal::default()
        };
        let survey = Survey {
            rows: vec![hostile],
            refusals: vec![(1, refusal)],
            ..Survey::default()
        };

        let page = everything(&Some(Ok(survey)), "not ready\nrelay: <b>\n", true);

        for markup in ["<script", "<img", "<b>"] {
            assert!(!page.contains(markup), "{markup} in {page}");
        }
        assert!(
            page.contains("http-equiv=\"refresh\"") && page.contains("since"),
            "{page}"
        );
        let failed = PurgatoryError::TooOld {
            version: "<i>".to_owned(),
        };
        assert!(!everything(&Some(Err(failed)), "", false).contains("<i>"));
    }

    #[test]
    fn a_long_list_is_cut_and_counted() {
        let rows = (0..300).map(|since| row('a', since, EntryStatus::Held)).collect();
        let survey = Survey {
            rows,
            ..Survey::default()
        };

        let page = everything(&Some(Ok(survey)), "", true);

        assert_eq!(page.matches("<li>").count(), ROWS_SHOWN);
        assert!(page.contains("and 100 more"), "{page}");
    }
}
