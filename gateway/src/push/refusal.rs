//! What a pusher is answered whose push ends before anything is decided about its refs.

use shared::rules::Commanded;
use warp::http::StatusCode;
use warp::reply::Response;

use crate::fairness::shares::Shares;
use crate::http::body::Body;
use crate::http::body::BodyError;
use crate::logged::logged;
use crate::push::answer::PushAnswer;
use crate::push::answer::PushResult;
use crate::push::audit::Audit;
use crate::push::error::PushError;
use crate::push::list_memory::ListMemory;
use crate::push::outcome::PushOutcome;
use crate::push::receive::ReceiveError;
use crate::push::request::PushRequest;
use crate::push::request::UnreadCommands;

/// Answers a push whose commands could not be read.
pub(super) async fn refuse_unread(audit: &Audit, error: UnreadCommands, lists: &Shares, body: &mut Body) -> Response {
    let (capabilities, result) = match error {
        UnreadCommands::Malformed(capabilities, error) => {
            let result = PushResult::failed(Vec::new(), error.to_string(), PushOutcome::Malformed);
            (capabilities, result)
        }
        UnreadCommands::GaveWay(capabilities) => (capabilities, PushResult::gave_way()),
        UnreadCommands::Body(BodyError::Broken(error)) => {
            return audit.refuse_http(StatusCode::BAD_REQUEST, &format!("cannot read the push: {error}"));
        }
        UnreadCommands::Body(BodyError::Stalled { .. } | BodyError::Deadline { .. } | BodyError::TooLong { .. }) => {
            let text = "the commands of the push did not arrive in time";
            return audit.refuse_http(StatusCode::REQUEST_TIMEOUT, text);
        }
    };
    let memory = ListMemory::new(lists, audit.address());
    PushAnswer::new(&capabilities, memory, audit.end(result))
        .after(body)
        .await
}

/// Refuses every command because of the pack that came, or did not.
pub(super) fn pack_refused(request: &PushRequest, error: &ReceiveError) -> PushResult {
    if error.is_ours() {
        tracing::error!(repo.coordinate = %request.coordinate, error = logged(error), "cannot receive a pack");
    } else {
        tracing::debug!(repo.coordinate = %request.coordinate, error = logged(error), "pack refused");
    }
    failed(request, error.to_string(), error.outcome())
}

/// Refuses every command of a push that was received and not carried out.
pub(super) fn uncommitted(request: &PushRequest, error: &PushError) -> PushResult {
    if error.outcome() != PushOutcome::Limit {
        tracing::warn!(repo.coordinate = %request.coordinate, error = logged(error), "push failed");
    }
    let mut result = failed(request, error.to_pusher(), error.outcome());
    // Its pack is in order.
    result.report.unpack_error = None;
    result
}

pub(super) fn failed(request: &PushRequest, reason: String, outcome: PushOutcome) -> PushResult {
    PushResult::failed(Commanded::refuse_all(&request.list.commands, &reason), reason, outcome)
}
