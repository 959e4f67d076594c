//! What a pusher is answered whose push ends before anything is decided about its refs.

use std::time::Duration;

use shared::rules::Commanded;
use warp::http::StatusCode;
use warp::reply::Response;

use crate::http::body::Body;
use crate::http::body::BodyError;
use crate::http::body::BodyLimits;
use crate::http::body::drain;
use crate::logged::logged;
use crate::push::answer;
use crate::push::answer::PushResult;
use crate::push::audit::Audit;
use crate::push::outcome::PushOutcome;
use crate::push::receive::ReceiveError;
use crate::push::request::PushRequest;
use crate::push::request::UnreadCommands;

/// Answers a push whose commands could not be read.
pub(super) async fn refuse_unread(audit: &Audit, error: UnreadCommands, body: &mut Body) -> Response {
    match error {
        UnreadCommands::Malformed(capabilities, error) => {
            drain(body, DRAIN).await;
            let result = PushResult::failed(Vec::new(), error.to_string(), PushOutcome::Malformed);
            answer::whole(&capabilities, &audit.end(result))
        }
        UnreadCommands::Body(BodyError::Broken(error)) => {
            audit.refuse_http(StatusCode::BAD_REQUEST, &format!("cannot read the push: {error}"))
        }
        UnreadCommands::Body(BodyError::Stalled { .. } | BodyError::Deadline { .. } | BodyError::TooLong { .. }) => {
            let text = "the commands of the push did not arrive in time";
            audit.refuse_http(StatusCode::REQUEST_TIMEOUT, text)
        }
    }
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

pub(super) fn failed(request: &PushRequest, reason: String, outcome: PushOutcome) -> PushResult {
    PushResult::failed(Commanded::refuse_all(&request.list.commands, &reason), reason, outcome)
}

/// Read and forgotten of a push that is refused, before the answer.
pub(super) const DRAIN: BodyLimits = BodyLimits {
    bytes_max: 1 << 30,
    stall_max: Duration::from_secs(10),
    duration_max: Duration::from_secs(600),
};
