//! `POST git-upload-pack`: fetches and clones (`gitprotocol-http(5)`, "Smart Service git-upload-pack").

use shared::nip34::Coordinate;
use warp::http::HeaderValue;
use warp::http::StatusCode;
use warp::http::header;
use warp::reply::Response;

use crate::fetch::process::Target;
use crate::fetch::process::UploadPackError;
use crate::http::body::Body;
use crate::http::reply;
use crate::site::Readable;
use crate::site::Site;
use wire::protocol::GitProtocol;

/// Answers a fetch.
pub(crate) async fn upload_pack(
    site: &Site,
    coordinate: &Coordinate,
    protocol: Option<GitProtocol>,
    body: Body,
) -> Response {
    let target = match site.readable(coordinate).await {
        Readable::OnDisk(_) => Target::Repository(site.storage.at(coordinate)),
        Readable::Virtual => Target::Empty,
        unreadable @ (Readable::Lost
        | Readable::Behind(_)
        | Readable::Undeclared
        | Readable::Absent
        | Readable::Unknown) => {
            return unreadable.refusal();
        }
    };
    match site.upload_pack.fetch(target, protocol, body).await {
        Ok(answer) => reply::git_stream("application/x-git-upload-pack-result", answer),
        Err(error) => refusal(&error),
    }
}

fn refusal(error: &UploadPackError) -> Response {
    tracing::info!(error = error as &dyn std::error::Error, "fetch refused");
    match error {
        UploadPackError::Busy => {
            let text = "too many fetches at the same time, try again later\n";
            let mut response = reply::text(StatusCode::SERVICE_UNAVAILABLE, text);
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
            response
        }
        UploadPackError::PktLine(_)
        | UploadPackError::LsRefs(_)
        | UploadPackError::Truncated
        | UploadPackError::Body(_) => reply::text(StatusCode::BAD_REQUEST, format!("{error}\n")),
        UploadPackError::NoRepository
        | UploadPackError::Refs(_)
        | UploadPackError::Git(_)
        | UploadPackError::Failed(_) => reply::text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the fetch failed here; the operator finds the reason in the log\n",
        ),
    }
}
