//! `grasp-gateway purgatory`: shows the purgatory, and acts on single events in it. `rows` and `needs` decide what is
//! shown.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use nostr::event::EventId;
use progress::CommandProgress;
use serde_json::Value;
use serde_json::json;
use shared::nip34;
use shared::purgatory::Entry;
use shared::purgatory::EntryStatus;
use shared::purgatory::InventoryIndex;
use shared::purgatory::Limits;
use shared::purgatory::Purgatory;
use shared::purgatory::PurgatoryError;
use tokio::time::Instant;
use wire::path::npub;

use crate::admin::needs::Need;
use crate::admin::needs::needs;
use crate::admin::needs::repository;
use crate::admin::needs::surroundings;
use crate::admin::redis_mends::mend_of;
use crate::admin::refusals::none_remembered;
use crate::admin::refusals::refusals;
use crate::admin::rows::Row;
use crate::admin::rows::Tally;
use crate::admin::rows::kind_name;
use crate::admin::rows::list;
use crate::admin::rows::status_name;
use crate::admin::survey::each_row;
use crate::admin::survey::rows_about;
use crate::admin::table::plain;
use crate::admin::table::span;
use crate::admin::watch::watch;
use crate::command_error::CommandError;
use crate::command_error::causes;
use crate::options::purgatory::ListOptions;
use crate::options::purgatory::NamedEvent;
use crate::options::purgatory::PurgatoryAction;
use crate::options::purgatory::PurgatoryOptions;
use crate::options::purgatory::RefusalsOptions;
use crate::options::purgatory::ReleaseOptions;

/// The answer of a command and its exit status: a failure if the question is answered with no.
pub(crate) struct CommandAnswer {
    pub(crate) text: String,
    pub(crate) code: ExitCode,
}

impl From<String> for CommandAnswer {
    fn from(text: String) -> Self {
        Self {
            text,
            code: ExitCode::SUCCESS,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// Redis does not answer, or there is no such event.
pub(crate) async fn run(options: &PurgatoryOptions) -> Result<CommandAnswer, CommandError> {
    let reach = options.reach();
    let settings = reach
        .redis()
        .ok_or_else(|| CommandError::new("--redis-url must be given"))?;
    let purgatory = Purgatory::connect(&settings, Limits::DEFAULT).await.map_err(failed)?;
    match &options.action {
        PurgatoryAction::List(options) => list_rows(&purgatory, options).await,
        PurgatoryAction::Stats(reach) => count_rows(&purgatory, reach.json).await,
        PurgatoryAction::Show(options) => {
            let entry = find(&purgatory, &options.event).await?;
            show(&purgatory, &entry, options.reach.json).await
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
    let status = options.status.map(EntryStatus::from);
    let is_wanted = |row: &Row| {
        options.author.is_none_or(|author| row.author == Some(author))
            && status.is_none_or(|status| row.status == Some(status))
    };
    let now = purgatory.counts().await.map_err(failed)?.now;
    let (rows, left_out) = match &options.repository {
        Some(named) => {
            let mut rows = rows_about(purgatory, &named.0).await.map_err(failed)?;
            rows.retain(is_wanted);
            let left_out = rows.len() > options.count;
            rows.truncate(options.count);
            (rows, left_out)
        }
        None => {
            let mut rows = Vec::new();
            let is_whole = each_row(purgatory, |row| {
                if is_wanted(&row) {
                    rows.push(row);
                }
                rows.len() < options.count
            });
            let is_whole = is_whole.await.map_err(failed)?;
            (rows, !is_whole)
        }
    };
    Ok(list(rows, now, options.reach.json, left_out).into())
}

async fn count_rows(purgatory: &Purgatory, is_json: bool) -> Result<CommandAnswer, CommandError> {
    let counts = purgatory.counts().await.map_err(failed)?;
    let mut tally = Tally::default();
    let counting = each_row(purgatory, |row| {
        tally.add(&row);
        tally.read() < COUNTED_MAX
    });
    counting.await.map_err(failed)?;
    Ok(tally.show(&counts, is_json).into())
}

/// Finds the entry of an event.
async fn find(purgatory: &Purgatory, named: &NamedEvent) -> Result<Entry, CommandError> {
    let event_id = match named {
        NamedEvent::Whole(event_id) => *event_id,
        NamedEvent::Beginning(beginning) => find_by_beginning(purgatory, beginning).await?,
    };
    let found = purgatory.entries(&BTreeSet::from([event_id])).await.map_err(failed)?;
    found.into_iter().next().ok_or_else(|| absent(named))
}

async fn find_by_beginning(purgatory: &Purgatory, beginning: &str) -> Result<EventId, CommandError> {
    let mut found = BTreeSet::new();
    for index in [InventoryIndex::Waiting, InventoryIndex::Releasing] {
        let mut cursor = Some("0".to_owned());
        while let Some(from) = cursor {
            let page = purgatory.list_page(index, &from).await.map_err(failed)?;
            found.extend(
                page.event_ids
                    .into_iter()
                    .filter(|id| id.to_hex().starts_with(beginning)),
            );
            cursor = page.next;
        }
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
    let now = purgatory.counts().await.map_err(failed)?.now;
    let Some(request) = options.request.as_deref().map(str::to_ascii_lowercase) else {
        let mut latest = purgatory.refusals(options.count).await.map_err(failed)?;
        latest.truncate(options.count);
        return Ok(refusals(&latest, now, is_json).into());
    };
    let mut found = purgatory.refusals(usize::MAX).await.map_err(failed)?;
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

async fn needs_of(purgatory: &Purgatory, entry: &Entry) -> Result<Vec<Need>, PurgatoryError> {
    let around = purgatory.read(&surroundings(entry)).await?;
    Ok(needs(entry, &around))
}

/// Describes an event and what it waits for; `None`: it is not there.
///
/// # Errors
/// The purgatory does not answer.
pub(super) async fn description(purgatory: &Purgatory, event_id: &EventId) -> Result<Option<String>, PurgatoryError> {
    let found = purgatory.entries(&BTreeSet::from([*event_id])).await?;
    let Some(entry) = found.into_iter().next() else {
        return Ok(None);
    };
    let needs = needs_of(purgatory, &entry).await?;
    let now = purgatory.counts().await?.now;
    Ok(Some(describe(&entry, &needs, now)))
}

async fn show(purgatory: &Purgatory, entry: &Entry, is_json: bool) -> Result<CommandAnswer, CommandError> {
    let needs = needs_of(purgatory, entry).await.map_err(failed)?;
    let now = purgatory.counts().await.map_err(failed)?.now;
    Ok(match is_json {
        true => format!("{:#}\n", to_json(entry, &needs)),
        false => describe(entry, &needs, now),
    }
    .into())
}

/// Writes an entry for a person.
fn describe(entry: &Entry, needs: &[Need], now: u64) -> String {
    let event = &entry.event;
    let repositories: Vec<String> = entry.coordinates.iter().map(repository).collect();
    let ends = match (entry.status.counts_as_served(), entry.deadline.checked_sub(now)) {
        (true, _) => "it does not expire".to_owned(),
        (false, Some(secs)) => format!("{} left", span(secs)),
        (false, None) => "its deadline has passed".to_owned(),
    };
    let mut text = format!(
        "event       {}\nkind        {} ({})\nauthor      {}\nrepository  {}\nstatus      {} for {}, {ends}\n\
         source      {}\n",
        event.id,
        kind_name(event.kind.as_u16()),
        event.kind.as_u16(),
        npub(&event.pubkey),
        repositories.join("\n            "),
        status_name(entry.status),
        span(now.saturating_sub(entry.held_since)),
        plain(&entry.source),
    );
    for (place, need) in needs.iter().enumerate() {
        let label = if place == 0 { "waits for   " } else { "            " };
        text.push_str(&format!("{label}{need}\n"));
    }
    text
}

/// Returns an entry for scripts.
fn to_json(entry: &Entry, needs: &[Need]) -> Value {
    json!({
        "event": entry.event.id.to_hex(),
        "kind": kind_name(entry.event.kind.as_u16()),
        "status": status_name(entry.status),
        "author": npub(&entry.event.pubkey),
        "repositories": entry.coordinates.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "held_since": entry.held_since,
        "deadline": (!entry.status.counts_as_served()).then_some(entry.deadline),
        "source": entry.source,
        "waiting_for": entry.waiting_for,
        "release_error": entry.release_error,
        "needs": needs.iter().map(Need::to_json).collect::<Vec<_>>(),
        "signed": entry.event,
    })
}

async fn drop_entry(purgatory: &Purgatory, entry: &Entry, is_json: bool) -> Result<CommandAnswer, CommandError> {
    let event_id = entry.event.id;
    let status = purgatory.drop_entry(&event_id).await.map_err(failed)?;
    let status = status.ok_or_else(|| absent(&NamedEvent::Whole(event_id)))?;
    Ok(match is_json {
        true => format!(
            "{:#}\n",
            json!({"dropped": event_id.to_hex(), "status": status_name(status), "signed": entry.event})
        ),
        false => dropped(&event_id, status),
    }
    .into())
}

fn dropped(event_id: &EventId, status: EntryStatus) -> String {
    format!(
        "dropped {event_id}, which was {}; its author can send it again\n",
        status_name(status)
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

/// How an attempt to release an event ended.
#[derive(Debug, PartialEq, Eq)]
enum Released {
    /// It has left the purgatory.
    Left,
    /// It is complete and counts as served.
    Releasing,
    /// It is complete, and the relay has refused it.
    Refused,
    /// It still waits.
    Waits,
    /// No gateway has reconciled its repositories.
    NobodyCame,
}

/// Returns the outcome of an attempt, from the entry afterwards.
fn outcome(after: Option<&Entry>, is_dirty: bool) -> Released {
    match after {
        None => Released::Left,
        Some(_) if is_dirty => Released::NobodyCame,
        Some(entry) => match entry.status {
            EntryStatus::Held | EntryStatus::Asleep => Released::Waits,
            EntryStatus::Releasing => Released::Releasing,
            EntryStatus::Stuck => Released::Refused,
        },
    }
}

/// Waits until a gateway has reconciled an entry's repositories, and has published the entry if it is complete. Returns
/// what there is of it then, and whether its repositories are still to be reconciled.
async fn wait_for_gateway(
    purgatory: &Purgatory,
    entry: &Entry,
    wait: Duration,
    progress: &CommandProgress,
) -> Result<(Option<Entry>, bool), PurgatoryError> {
    let begun = Instant::now();
    let (end, event_ids) = (begun + wait, BTreeSet::from([entry.event.id]));
    progress.begin("seconds until a gateway has to have reconciled it");
    loop {
        tokio::time::sleep(LOOK_AGAIN).await;
        progress.set(begun.elapsed().as_secs());
        let is_dirty = is_to_be_reconciled(purgatory, entry).await?;
        let after = purgatory.entries(&event_ids).await?.into_iter().next();
        let is_complete = after.as_ref().is_some_and(|entry| entry.status.counts_as_served());
        if Instant::now() >= end || !is_dirty && !is_complete {
            return Ok((after, is_dirty));
        }
    }
}

/// The outcome of an attempt to release an event.
struct Attempt {
    event_id: EventId,
    released: Released,
    needs: Vec<Need>,
}

impl Attempt {
    /// Returns a word for scripts, and a text for people.
    fn told(&self) -> (&'static str, &'static str) {
        match self.released {
            Released::Left => (
                "left",
                "it has left the purgatory: the relay has it, or it was dropped or has expired",
            ),
            Released::Releasing => ("releasing", "it is complete: a gateway publishes it"),
            Released::Refused => ("refused", "it is complete, and the relay refuses it"),
            Released::Waits => ("waits", "its repository was reconciled, and it still waits"),
            Released::NobodyCame => (
                "nobody-came",
                "no gateway has reconciled its repository: does one run, and does the relay answer?",
            ),
        }
    }

    fn text(&self) -> String {
        let needs = self.needs.iter().map(|need| format!("waits for   {need}\n"));
        format!("{}: {}\n{}", self.event_id, self.told().1, needs.collect::<String>())
    }
}

async fn attempt(
    purgatory: &Purgatory,
    entry: &Entry,
    wait: Duration,
    progress: &CommandProgress,
) -> Result<Attempt, PurgatoryError> {
    if entry.status.counts_as_served() {
        purgatory.make_due(&entry.event.id).await?;
    }
    have_reconciled(purgatory, entry).await?;
    let (after, is_dirty) = wait_for_gateway(purgatory, entry, wait, progress).await?;
    let needs = match &after {
        Some(entry) => needs_of(purgatory, entry).await?,
        None => Vec::new(),
    };
    Ok(Attempt {
        event_id: entry.event.id,
        released: outcome(after.as_ref(), is_dirty),
        needs,
    })
}

/// Tries to release an event as `purgatory release` does, and returns the outcome; `None`: there is no such event.
///
/// # Errors
/// The purgatory does not answer.
pub(super) async fn release_now(purgatory: &Purgatory, event_id: &EventId) -> Result<Option<String>, PurgatoryError> {
    let found = purgatory.entries(&BTreeSet::from([*event_id])).await?;
    let Some(entry) = found.into_iter().next() else {
        return Ok(None);
    };
    Ok(Some(
        attempt(purgatory, &entry, PAGE_WAIT, &CommandProgress::quiet())
            .await?
            .text(),
    ))
}

async fn release(purgatory: &Purgatory, options: &ReleaseOptions) -> Result<CommandAnswer, CommandError> {
    let entry = find(purgatory, &options.event).await?;
    let progress = CommandProgress::new(options.wait.as_secs(), options.reach.json);
    let attempt = attempt(purgatory, &entry, *options.wait, &progress).await;
    drop(progress);
    let attempt = attempt.map_err(failed)?;
    let code = match attempt.released {
        Released::Left | Released::Releasing => ExitCode::SUCCESS,
        Released::Waits | Released::Refused | Released::NobodyCame => ExitCode::FAILURE,
    };
    let text = match options.reach.json {
        true => {
            let needs: Vec<Value> = attempt.needs.iter().map(Need::to_json).collect();
            let (name, _) = attempt.told();
            format!(
                "{:#}\n",
                json!({"event": attempt.event_id.to_hex(), "outcome": name, "needs": needs})
            )
        }
        false => attempt.text(),
    };
    Ok(CommandAnswer { text, code })
}

/// Has a gateway reconcile an entry's repositories; of a PR only with this one.
async fn have_reconciled(purgatory: &Purgatory, entry: &Entry) -> Result<(), PurgatoryError> {
    if !is_pull_request(entry) {
        return purgatory.mark_dirty(&entry.coordinates).await;
    }
    let event_ids = BTreeSet::from([entry.event.id]);
    for coordinate in &entry.coordinates {
        purgatory.ask_for_looks(coordinate, &event_ids).await?;
    }
    Ok(())
}

/// Whether no gateway has reconciled it yet.
async fn is_to_be_reconciled(purgatory: &Purgatory, entry: &Entry) -> Result<bool, PurgatoryError> {
    for coordinate in &entry.coordinates {
        let is_left = match is_pull_request(entry) {
            true => purgatory
                .looks_page(coordinate)
                .await?
                .event_ids()
                .contains(&entry.event.id),
            false => purgatory.dirty_number(coordinate).await?.is_some(),
        };
        if is_left {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_pull_request(entry: &Entry) -> bool {
    matches!(
        entry.event.kind.as_u16(),
        nip34::PULL_REQUEST | nip34::PULL_REQUEST_UPDATE
    )
}

fn absent(event: &NamedEvent) -> CommandError {
    CommandError::new(format!(
        "event {event} is not in the purgatory: it was never held, or has been served, or has expired; if it \
         was refused: grasp-gateway purgatory refusals --request {event}"
    ))
}

/// Adds the correction.
pub(super) fn failed(error: PurgatoryError) -> CommandError {
    let mend = mend_of(&causes(&error));
    CommandError::because(format!("cannot use the purgatory: {mend}"))(error)
}

/// Between two looks whether a gateway has reconciled.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How long a page waits for a gateway while an operator watches.
const PAGE_WAIT: Duration = Duration::from_secs(5);

/// Rows that `stats` reads: about a minute of Redis' time.
const COUNTED_MAX: u64 = 100_000;
