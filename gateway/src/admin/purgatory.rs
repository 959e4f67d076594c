//! `grasp-gateway purgatory`: shows the purgatory, and acts on single events in it. `rows` and `description` write
//! what is shown, `release` attempts a release.

use std::collections::BTreeSet;
use std::process::ExitCode;

use nostr::event::EventId;
use progress::CommandProgress;
use serde_json::json;
use shared::purgatory::Entry;
use shared::purgatory::EntryStatus;
use shared::purgatory::Limits;
use shared::purgatory::Purgatory;
use shared::purgatory::PurgatoryError;

use crate::admin::command_answer::CommandAnswer;
use crate::admin::description::Description;
use crate::admin::entries::Pages;
use crate::admin::entries::each_row;
use crate::admin::entries::entry_of;
use crate::admin::entries::rows_about;
use crate::admin::refusals::none_remembered;
use crate::admin::refusals::refusals;
use crate::admin::release::Attempt;
use crate::admin::rows::Row;
use crate::admin::rows::Tally;
use crate::admin::rows::list;
use crate::admin::watch::watch;
use crate::command_error::CommandError;
use crate::options::purgatory::ListOptions;
use crate::options::purgatory::NamedEvent;
use crate::options::purgatory::PurgatoryAction;
use crate::options::purgatory::PurgatoryOptions;
use crate::options::purgatory::RefusalsOptions;
use crate::options::purgatory::ReleaseOptions;

/// Runs the command.
///
/// # Errors
/// Redis does not answer, or there is no such event.
pub(crate) async fn run(options: &PurgatoryOptions) -> Result<CommandAnswer, CommandError> {
    let reach = options.reach();
    let settings = reach
        .redis()
        .ok_or_else(|| CommandError::new("--redis-url must be given"))?;
    let purgatory = Purgatory::connect(&settings, Limits::DEFAULT).await?;
    match &options.action {
        PurgatoryAction::List(options) => list_rows(&purgatory, options).await,
        PurgatoryAction::Stats(reach) => count_rows(&purgatory, reach.json).await,
        PurgatoryAction::Show(options) => {
            let entry = find(&purgatory, &options.event).await?;
            let shown = Description::of(&purgatory, entry).await?;
            Ok(match options.reach.json {
                true => format!("{:#}\n", shown.to_json()),
                false => shown.text(),
            }
            .into())
        }
        PurgatoryAction::Drop(options) => {
            let entry = find(&purgatory, &options.event).await?;
            drop_entry(&purgatory, &entry, options.reach.json).await
        }
        PurgatoryAction::Release(options) => release(&purgatory, options).await,
        PurgatoryAction::Refusals(options) => list_refusals(&purgatory, options).await,
        PurgatoryAction::Watch(reach) => watch(&purgatory, reach.json).await.map(|()| String::new().into()),
    }
}

async fn list_rows(purgatory: &Purgatory, options: &ListOptions) -> Result<CommandAnswer, CommandError> {
    let is_wanted = |row: &Row| {
        options.author.is_none_or(|author| row.author == Some(author))
            && options.status.is_none_or(|status| row.status == Some(status))
    };
    let now = purgatory.counts().await?.now;
    let (rows, left_out) = match &options.repository {
        Some(named) => {
            let mut rows = rows_about(purgatory, &named.0).await?;
            rows.retain(is_wanted);
            let left_out = rows.len() > options.count;
            rows.truncate(options.count);
            (rows, left_out)
        }
        None => {
            let mut rows = Vec::new();
            let is_whole = each_row(Pages::new(purgatory), |row| {
                if is_wanted(&row) {
                    rows.push(row);
                }
                rows.len() < options.count
            });
            let is_whole = is_whole.await?;
            (rows, !is_whole)
        }
    };
    Ok(list(rows, now, options.reach.json, left_out).into())
}

async fn count_rows(purgatory: &Purgatory, is_json: bool) -> Result<CommandAnswer, CommandError> {
    let counts = purgatory.counts().await?;
    let mut tally = Tally::default();
    let counting = each_row(Pages::new(purgatory), |row| {
        tally.add(&row);
        tally.read() < COUNTED_MAX
    });
    counting.await?;
    Ok(tally.show(&counts, is_json).into())
}

/// Finds the entry of an event.
async fn find(purgatory: &Purgatory, named: &NamedEvent) -> Result<Entry, CommandError> {
    let event_id = match named {
        NamedEvent::Whole(event_id) => *event_id,
        NamedEvent::Beginning(beginning) => find_by_beginning(purgatory, beginning).await?,
    };
    entry_of(purgatory, &event_id).await?.ok_or_else(|| absent(named))
}

async fn find_by_beginning(purgatory: &Purgatory, beginning: &str) -> Result<EventId, CommandError> {
    let (mut pages, mut found) = (Pages::new(purgatory), BTreeSet::new());
    while let Some(page) = pages.next().await? {
        let event_ids = page.event_ids.into_iter();
        found.extend(event_ids.filter(|event_id| event_id.to_hex().starts_with(beginning)));
    }
    let mut found = found.into_iter();
    match (found.next(), found.next()) {
        (Some(event_id), None) => Ok(event_id),
        (Some(_), Some(_)) => Err(CommandError::new(format!(
            "several ids begin with {beginning}: give more digits"
        ))),
        (None, _) => Err(absent(&NamedEvent::Beginning(beginning.to_owned()))),
    }
}

async fn list_refusals(purgatory: &Purgatory, options: &RefusalsOptions) -> Result<CommandAnswer, CommandError> {
    let is_json = options.reach.json;
    let now = purgatory.counts().await?.now;
    let Some(request) = options.request.as_deref().map(str::to_ascii_lowercase) else {
        let mut latest = purgatory.refusals(options.count).await?;
        latest.truncate(options.count);
        return Ok(refusals(&latest, now, is_json).into());
    };
    let mut found = purgatory.refusals(usize::MAX).await?;
    found.retain(|(_, refusal)| refusal.request.starts_with(&request));
    if found.is_empty() && !is_json {
        return Ok(CommandAnswer {
            text: none_remembered(&request),
            code: ExitCode::FAILURE,
        });
    }
    let code = match found.is_empty() {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    };
    let text = refusals(&found, now, is_json);
    Ok(CommandAnswer { text, code })
}

async fn drop_entry(purgatory: &Purgatory, entry: &Entry, is_json: bool) -> Result<CommandAnswer, CommandError> {
    let event_id = entry.event.id;
    let status = purgatory.drop_entry(&event_id).await?;
    let status = status.ok_or_else(|| absent(&NamedEvent::Whole(event_id)))?;
    Ok(match is_json {
        true => format!(
            "{:#}\n",
            json!({"dropped": event_id.to_hex(), "status": status.name(), "signed": *entry.event})
        ),
        false => dropped(&event_id, status),
    }
    .into())
}

fn dropped(event_id: &EventId, status: EntryStatus) -> String {
    format!(
        "dropped {event_id}, which was {}; its author can send it again\n",
        status.name()
    )
}

/// Removes an event as `purgatory drop` does, and returns what an operator reads; `None`: it is not there.
///
/// # Errors
/// The purgatory does not answer.
pub(super) async fn drop_now(purgatory: &Purgatory, event_id: &EventId) -> Result<Option<String>, PurgatoryError> {
    let status = purgatory.drop_entry(event_id).await?;
    Ok(status.map(|status| dropped(event_id, status)))
}

async fn release(purgatory: &Purgatory, options: &ReleaseOptions) -> Result<CommandAnswer, CommandError> {
    let entry = find(purgatory, &options.event).await?;
    let progress = CommandProgress::new(options.wait.as_secs(), options.reach.json);
    let attempt = Attempt::make(purgatory, &entry, *options.wait, &progress).await;
    drop(progress);
    let attempt = attempt?;
    let code = match attempt.succeeded() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    };
    let text = match options.reach.json {
        true => format!("{:#}\n", attempt.to_json()),
        false => attempt.text(),
    };
    Ok(CommandAnswer { text, code })
}

fn absent(event: &NamedEvent) -> CommandError {
    CommandError::new(format!(
        "event {event} is not in the purgatory: it was never held, or has been served, or has expired; if it \
         was refused: grasp-gateway purgatory refusals --request {event}"
    ))
}

/// Rows that `stats` reads: about a minute of Redis' time.
const COUNTED_MAX: u64 = 100_000;
