//! What the log has of a push: who, what, and why not. A refused push is one line, and a number that its pusher reads
//! too joins it with every other line about it.

use std::hash::BuildHasher;
use std::hash::RandomState;
use std::net::IpAddr;
use std::sync::Arc;

use relay::source_type;
use shared::nip34::Coordinate;
use shared::purgatory::NotedRefusal;
use shared::purgatory::Purgatory;
use shared::refusal_log::RefusalLog;
use shared::refusal_log::excerpt;
use shared::rules::Commanded;
use shared::rules::Verdict;
use tracing::Span;
use warp::http::StatusCode;
use warp::reply::Response;

use crate::http::reply;
use crate::meter::Meter;
use crate::push::answer::PushResult;
use crate::push::outcome::PUSH_OUTCOMES;
use crate::push::outcome::PushOutcome;

pub(crate) struct PushLog {
    refusals: RefusalLog,
    outcomes: Meter<{ PUSH_OUTCOMES.len() }>,
}

impl PushLog {
    /// Makes the log of a server that has this purgatory.
    pub(crate) fn new(purgatory: Purgatory) -> Self {
        Self {
            refusals: RefusalLog::new(purgatory),
            outcomes: Meter::default(),
        }
    }

    pub(crate) fn counts(&self) -> [u64; PUSH_OUTCOMES.len()] {
        self.outcomes.counts()
    }
}

pub(super) struct Audit {
    request_id: String,
    coordinate: Coordinate,
    address: IpAddr,
    log: Arc<PushLog>,
}

impl Audit {
    /// Gives the push of a client at `address` a number of its own.
    pub(super) fn new(coordinate: &Coordinate, address: IpAddr, log: Arc<PushLog>) -> Self {
        Self {
            // The hash of nothing under keys that no two of them have in common.
            request_id: format!("{:012x}", RandomState::new().hash_one(()) >> 16),
            coordinate: coordinate.clone(),
            address,
            log,
        }
    }

    pub(super) fn address(&self) -> IpAddr {
        self.address
    }

    /// Returns what begins each line of the log that is written for the push.
    pub(super) fn span(&self) -> Span {
        tracing::error_span!("push", request.id = self.request_id, client = %self.address)
    }

    /// Ends the push: one with refused commands is logged, and its pusher reads the number of the line, unless
    /// so many are refused that the log leaves some out.
    pub(super) fn end(&self, mut result: PushResult) -> PushResult {
        let report = &result.report;
        let refused = refusals(&report.commands);
        if report.unpack_error.is_none() && refused.is_empty() {
            let is_part = |command: &Commanded| matches!(command.verdict, Verdict::Part(_));
            let outcome = match report.commands.iter().any(is_part) {
                true => PushOutcome::Kept,
                false => PushOutcome::Taken,
            };
            self.log.outcomes.add(outcome as usize, 1);
            return result;
        }
        if self.is_refusal_logged(result.refusal) {
            let reason = match report.unpack_error.as_deref() {
                Some(error) => error.to_owned(),
                None => result.notes.join("; "),
            };
            let refs = shown(&refused);
            tracing::info!(
                repo.coordinate = %self.coordinate,
                commands = report.commands.len(),
                refused = refused.len(),
                refs = excerpt(&refs),
                reason = excerpt(&reason),
                "push refused"
            );
            self.note([reason, refs].join("; ").trim_matches([';', ' ']));
            result.notes.push(format!(
                "request {}: the server's log has details under this number",
                self.request_id
            ));
        }
        result
    }

    /// Refuses the push before git understands more than a status and a text.
    pub(super) fn refuse_http(&self, status: StatusCode, text: &str) -> Response {
        let outcome = match status {
            StatusCode::NOT_FOUND => PushOutcome::Absent,
            StatusCode::BAD_REQUEST | StatusCode::REQUEST_TIMEOUT => PushOutcome::Malformed,
            _ => PushOutcome::Unavailable,
        };
        self.log_http(status, outcome, text);
        reply::text(status, format!("{text} (request {})\n", self.request_id))
    }

    /// Logs that the push has ended before it began, with this answer instead of the refs.
    pub(super) fn log_unadvertised(&self, answer: &Response) {
        let (outcome, reason) = match answer.status() {
            StatusCode::NOT_FOUND => {
                let reason = "no announcement of this repository names this server, or a list denies it";
                (PushOutcome::Absent, reason)
            }
            _ if reply::is_busy(answer) => (PushOutcome::Limit, "there is no room for the list of its refs now"),
            _ => (PushOutcome::Unavailable, "the repository cannot be read now"),
        };
        self.log_http(answer.status(), outcome, reason);
    }

    fn log_http(&self, status: StatusCode, outcome: PushOutcome, reason: &str) {
        if self.is_refusal_logged(outcome) {
            tracing::info!(
                repo.coordinate = %self.coordinate,
                status = status.as_u16(),
                reason = excerpt(reason),
                "push refused"
            );
            self.note(reason);
        }
    }

    /// Notes the refusal where an operator finds it later.
    fn note(&self, reason: &str) {
        self.log.refusals.note(NotedRefusal {
            request: self.request_id.clone(),
            what: "push".to_owned(),
            source: self.source(),
            repositories: self.coordinate.to_string(),
            reason: reason.to_owned(),
            ..NotedRefusal::default()
        });
    }

    /// Returns where the push comes from, as a relay names it.
    fn source(&self) -> String {
        format!("{} {}", source_type(self.address), self.address)
    }

    /// Counts a refusal, and returns whether to log it.
    fn is_refusal_logged(&self, outcome: PushOutcome) -> bool {
        self.log.outcomes.add(outcome as usize, 1);
        self.log.refusals.permits(&self.source())
    }
}

fn refusals(commands: &[Commanded]) -> Vec<(&str, &str)> {
    let refused = commands.iter().filter_map(|command| match &command.verdict {
        Verdict::Refuse { reason } => Some((command.name.as_str(), reason.as_str())),
        Verdict::InPlace | Verdict::Allow(_) | Verdict::Part(_) | Verdict::Stage { .. } => None,
    });
    refused.collect()
}

/// Writes the first refs with their reasons, each reason once behind the refs in a row that have it.
fn shown(refused: &[(&str, &str)]) -> String {
    let first = &refused[..refused.len().min(REFS_MAX)];
    let of_reason = first.chunk_by(|(_, reason), (_, next)| reason == next);
    let shown: Vec<String> = of_reason
        .map(|refs| {
            let names: Vec<&str> = refs.iter().map(|(name, _)| *name).collect();
            format!("{}: {}", names.join(", "), refs[0].1)
        })
        .collect();
    shown.join("; ")
}

const REFS_MAX: usize = 8;
