//! HTTP answers, each with the headers that every answer of a GRASP server has (GRASP-01, "CORS support").

use bytes::Bytes;
use futures_util::Stream;
use warp::http::HeaderMap;
use warp::http::HeaderValue;
use warp::http::StatusCode;
use warp::http::header;
use warp::reply::Reply;
use warp::reply::Response;

use crate::http::tagged::TaggedBody;

/// Whether the client that sent `headers` asks for this content type. git and scripts accept any.
pub(crate) fn accepts(headers: &HeaderMap, content_type: &str) -> bool {
    let mut accepted = headers.get_all(header::ACCEPT).into_iter();
    accepted.any(|value| value.to_str().is_ok_and(|value| value.contains(content_type)))
}

pub(crate) fn text(status: StatusCode, text: impl Into<String>) -> Response {
    let body: String = text.into();
    with_type(status, "text/plain; charset=utf-8", body.into_response())
}

/// Answers that there is no room now, and after how many seconds to try again.
pub(crate) fn busy(status: StatusCode, retry_after_secs: u32, text: &'static str) -> Response {
    let mut response = self::text(status, text);
    let headers = response.headers_mut();
    headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_after_secs));
    response
}

/// Whether an answer is that there is no room now.
pub(crate) fn is_busy(answer: &Response) -> bool {
    answer.headers().contains_key(header::RETRY_AFTER)
}

/// Answers with a page that is not kept.
pub(crate) fn html(status: StatusCode, page: String) -> Response {
    page_of(status, page.into_response())
}

/// Answers with a page, or that the client that sent `headers` has it.
pub(crate) fn html_tagged(page: &TaggedBody, headers: &HeaderMap) -> Response {
    tagged(page, headers, |body| page_of(StatusCode::OK, body))
}

fn page_of(status: StatusCode, page: Response) -> Response {
    let mut response = with_type(status, "text/html; charset=utf-8", page);
    // Pages have neither scripts nor foreign content, cannot be framed, and send forms only to this server.
    let policy = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; \
                  base-uri 'none'";
    response
        .headers_mut()
        .insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    response
}

/// Answers with a feed (RFC 4287), or that the client that sent `headers` has it.
pub(crate) fn feed_tagged(feed: &TaggedBody, headers: &HeaderMap) -> Response {
    let complete = |body| with_type(StatusCode::OK, "application/atom+xml; charset=utf-8", body);
    tagged(feed, headers, complete)
}

pub(crate) fn git(content_type: &'static str, bytes: Bytes) -> Response {
    uncached(content_type, Response::new(bytes.into()))
}

/// Returns an answer with what a repository offers, with the tag of its body.
pub(crate) fn git_offer(mut answer: Response, tag: Option<HeaderValue>) -> Response {
    let headers = answer.headers_mut();
    // The advertisement depends on the version.
    headers.insert(header::VARY, HeaderValue::from_static("Git-Protocol"));
    if let Some(tag) = tag {
        headers.insert(header::ETAG, tag);
    }
    answer
}

/// Answers that the client has what a repository offers.
pub(crate) fn git_offer_known(content_type: &'static str, tag: HeaderValue) -> Response {
    git_offer(not_modified(git(content_type, Bytes::new())), Some(tag))
}

/// Answers with a body as `complete` does, but without the body if the client that sent `headers` has it.
fn tagged(body: &TaggedBody, headers: &HeaderMap, complete: impl FnOnce(Response) -> Response) -> Response {
    let mut response = match body.is_known_by(headers) {
        true => not_modified(complete(Response::new(Bytes::new().into()))),
        false => complete(Response::new(body.bytes.clone().into())),
    };
    response.headers_mut().insert(header::ETAG, body.tag.clone());
    response
}

/// Makes an answer without a body one that the client has it (RFC 9110, 15.4.5).
fn not_modified(mut answer: Response) -> Response {
    *answer.status_mut() = StatusCode::NOT_MODIFIED;
    answer.headers_mut().remove(header::CONTENT_TYPE);
    answer
}

/// Answers with bytes of git's smart protocol as they are produced, `len` of them if that is known. An error truncates
/// the answer, which git notices.
pub(crate) fn git_stream<E>(
    content_type: &'static str,
    chunks: impl Stream<Item = Result<Bytes, E>> + Send + Sync + 'static,
    len: Option<usize>,
) -> Response
where
    E: Into<Box<dyn std::error::Error + Send + Sync>> + Send + Sync + 'static,
{
    let mut response = warp::reply::stream(chunks).into_response();
    if let Some(len) = len {
        response.headers_mut().insert(header::CONTENT_LENGTH, len.into());
    }
    uncached(content_type, response)
}

/// Keeps caches from the answer, as git's smart protocol demands (`gitprotocol-http(5)`).
fn uncached(content_type: &'static str, response: Response) -> Response {
    let mut response = with_type(StatusCode::OK, content_type, response);
    let headers = response.headers_mut();
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, max-age=0, must-revalidate"),
    );
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert(
        header::EXPIRES,
        HeaderValue::from_static("Fri, 01 Jan 1980 00:00:00 GMT"),
    );
    response
}

/// Answers that the requested page is at `location`, a path of this server, permanently.
pub(crate) fn moved(location: &str) -> Response {
    let mut response = text(StatusCode::PERMANENT_REDIRECT, format!("moved to {location}\n"));
    // A path that `wire::path` wrote is ASCII without control characters.
    if let Ok(location) = HeaderValue::from_str(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

pub(crate) fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Bytes::new().into());
    *response.status_mut() = status;
    response
}

/// Answers with another content type than the body's own.
pub(crate) fn with_type(status: StatusCode, content_type: &'static str, mut response: Response) -> Response {
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
        .headers_mut()
        .insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Lets browser clients of any origin read the answer; part of every answer, errors included.
pub(crate) fn allow_all_origins(headers: &mut HeaderMap) {
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST"),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "Content-Type, Authorization, Git-Protocol",
        ),
        (header::ACCESS_CONTROL_EXPOSE_HEADERS, "WWW-Authenticate"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}
