//! What git-lfs gets: LFS is not here, in its own terms (its batch API, "Response Errors", and its locking API).

use std::time::Duration;

use futures_util::Stream;
use warp::Buf;
use warp::http::HeaderMap;
use warp::http::StatusCode;
use warp::reply::Reply;
use warp::reply::Response;

use crate::http::body;
use crate::http::body::BodyLimits;
use crate::http::reply;

/// Answers every request of git-lfs. With this status a push continues after its request for locks, and ends with the
/// message if it has files to send.
pub(super) async fn refuse(
    headers: &HeaderMap,
    body: impl Stream<Item = Result<impl Buf, warp::Error>> + Send + Sync + 'static,
) -> Response {
    // An answer is read only by a client that has sent everything.
    if let Ok(mut body) = body::open(headers, body) {
        body.drain(DRAIN).await;
    }
    let message = serde_json::json!({ "message": MESSAGE }).to_string();
    reply::with_type(StatusCode::NOT_IMPLEMENTED, LFS_TYPE, message.into_response())
}

/// Of what git-lfs sends and reads.
const LFS_TYPE: &str = "application/vnd.git-lfs+json";

/// git-lfs prints it.
const MESSAGE: &str = "this server has no Git LFS: push the files as ordinary git files (git lfs migrate export \
                       --everything --include=<pattern>), or keep them on a server with LFS (git config -f .lfsconfig \
                       lfs.url <URL>)";

/// Read and forgotten of a request: git-lfs names 100 files in one, in about 200 bytes each.
const DRAIN: BodyLimits = BodyLimits {
    bytes_max: 1 << 20,
    stall_max: Duration::from_secs(10),
    duration_max: Duration::from_secs(30),
};
