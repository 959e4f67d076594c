//! `POST git-upload-pack`: fetches and clones (`gitprotocol-http(5)`, "Smart Service git-upload-pack").

use std::net::IpAddr;
use std::sync::Arc;

use futures_util::TryStreamExt;
use shared::nip34::Coordinate;
use warp::http::StatusCode;
use warp::reply::Response;

use crate::fetch::error::UploadPackError;
use crate::fetch::finding::Found;
use crate::fetch::outcome::FetchOutcome;
use crate::fetch::reader::Reader;
use crate::fetch::receive::ReadableRepository;
use crate::fetch::sending::FetchAnswer;
use crate::fetch::server::UploadPack;
use crate::http::body::Body;
use crate::http::reply;
use wire::protocol::GitProtocol;

pub(crate) async fn upload_pack(
    reader: &Reader,
    process: &UploadPack,
    coordinate: &Coordinate,
    address: IpAddr,
    protocol: Option<GitProtocol>,
    body: Body,
) -> Response {
    let unreadable = |found: &Found| {
        process.outcomes.add(FetchOutcome::Unreadable as usize, 1);
        found.refusal()
    };
    let finding = reader.find(coordinate, address).await;
    if !matches!(finding.found, Found::Readable { .. }) {
        return unreadable(&finding.found);
    }
    // A client may take minutes to ask, and many may: what was found is large.
    drop(finding);
    let answer = match process.receiver.receive(address, protocol, body).await {
        Ok(request) => {
            let finding = reader.find(coordinate, address).await;
            let Found::Readable { path, advertised } = &finding.found else {
                return unreadable(&finding.found);
            };
            let (path, advertised) = (&path.clone(), &Arc::clone(advertised));
            let weighed = Arc::downgrade(&finding);
            // It waits for a slot.
            drop(finding);
            let answer = process.answer(ReadableRepository { path, advertised }, request).await;
            if let Some(finding) = weighed.upgrade() {
                reader.weigh(coordinate, &finding);
            }
            if let Ok(FetchAnswer::Streamed { .. }) = &answer {
                // It may have waited for a slot, and the repository may have been taken down meanwhile, or have lost
                // its state: then it reads as empty, from another place.
                let now = reader.find(coordinate, address).await;
                if !matches!(&now.found, Found::Readable { path: place, .. } if place == path) {
                    return unreadable(&now.found);
                }
            }
            answer
        }
        Err(error) => Err(error),
    };
    process.outcomes.add(outcome(&answer) as usize, 1);
    let sent = process.sent_bytes.clone();
    match answer {
        Ok(FetchAnswer::Whole(answer)) => {
            sent.add(0, answer.len() as u64);
            reply::git(RESULT_TYPE, answer)
        }
        Ok(FetchAnswer::Streamed { chunks, len }) => {
            let counted = chunks.inspect_ok(move |bytes| sent.add(0, bytes.len() as u64));
            reply::git_stream(RESULT_TYPE, counted, len)
        }
        Err(error) => refusal(&error),
    }
}

/// Returns how a fetch is counted that had this answer.
pub(super) fn outcome(answer: &Result<FetchAnswer, UploadPackError>) -> FetchOutcome {
    match answer {
        Ok(_) => FetchOutcome::Answered,
        Err(UploadPackError::Busy | UploadPackError::GaveWay) => FetchOutcome::Busy,
        Err(UploadPackError::Git(_) | UploadPackError::Failed(_)) => FetchOutcome::Failed,
        Err(
            UploadPackError::PktLine(_)
            | UploadPackError::Malformed(_)
            | UploadPackError::Body(_)
            | UploadPackError::TooSlow(_),
        ) => FetchOutcome::Malformed,
    }
}

pub(super) fn refusal(error: &UploadPackError) -> Response {
    tracing::info!(error = error as &dyn std::error::Error, "fetch refused");
    match error {
        UploadPackError::Busy => {
            let text = "too many fetches at the same time, try again later\n";
            reply::busy(StatusCode::SERVICE_UNAVAILABLE, BUSY_SECS, text)
        }
        UploadPackError::GaveWay => {
            let text = "your network has the largest share of all fetches, and another needed room: fetch again, \
                        fewer at the same time\n";
            reply::busy(StatusCode::TOO_MANY_REQUESTS, BUSY_SECS, text)
        }
        UploadPackError::PktLine(_)
        | UploadPackError::Malformed(_)
        | UploadPackError::Body(_)
        | UploadPackError::TooSlow(_) => reply::text(StatusCode::BAD_REQUEST, format!("{error}\n")),
        UploadPackError::Git(_) | UploadPackError::Failed(_) => reply::text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the fetch failed on this server; its log has the reason\n",
        ),
    }
}

/// After how many seconds a client may try again.
const BUSY_SECS: u32 = 5;

const RESULT_TYPE: &str = "application/x-git-upload-pack-result";
