//! Refusals have a status and a line of text, which git shows to its user. A browser gets the same line on a page with
//! advice, which is made here, for every answer.

use http_body_util::BodyExt;
use http_body_util::Limited;
use warp::http::HeaderMap;
use warp::http::HeaderValue;
use warp::http::header;
use warp::reply::Response;

use crate::http::pages;
use crate::http::reply;

pub(super) fn shows_pages(headers: &HeaderMap) -> bool {
    reply::accepts(headers, "text/html")
}

/// Returns an answer as the client gets it: a failure as a page, if it shows pages.
pub(super) async fn presented(mut answer: Response, shows_pages: bool) -> Response {
    let status = answer.status();
    if !status.is_client_error() && !status.is_server_error() {
        return answer;
    }
    answer
        .headers_mut()
        .append(header::VARY, HeaderValue::from_static("Accept"));
    let content_type = answer.headers().get(header::CONTENT_TYPE);
    let is_text = content_type.is_some_and(|value| value.as_bytes().starts_with(b"text/plain"));
    if !shows_pages || !is_text {
        return answer;
    }
    let (head, body) = answer.into_parts();
    let text = Limited::new(body, TEXT_BYTES_MAX).collect().await;
    let text = text.map(|text| String::from_utf8_lossy(&text.to_bytes()).into_owned());
    let retry_after = head.headers.get(header::RETRY_AFTER);
    let retry_after_secs = retry_after.and_then(|value| value.to_str().ok()?.parse().ok());
    let page = pages::failure(status, text.unwrap_or_default().trim_end(), retry_after_secs);
    let mut page = reply::html(status, page);
    let own = page.headers().clone();
    for (name, value) in &head.headers {
        if !own.contains_key(name) && name != header::CONTENT_LENGTH {
            page.headers_mut().append(name, value.clone());
        }
    }
    page
}

/// Of a line for a person.
const TEXT_BYTES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use warp::http::StatusCode;

    use super::*;

    /// A cache that knew one of them only would give git the page, or one version of git's protocol the other's.
    #[tokio::test]
    async fn a_page_has_every_value_of_every_header_of_the_text() {
        let mut answer = reply::text(StatusCode::SERVICE_UNAVAILABLE, "busy\n");
        for value in ["Git-Protocol", "Origin"] {
            let value = HeaderValue::from_static(value);
            answer.headers_mut().append(header::VARY, value);
        }
        answer
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from_static("7"));

        let page = presented(answer, true).await;

        let varies: Vec<&HeaderValue> = page.headers().get_all(header::VARY).iter().collect();
        assert_eq!(varies, ["Git-Protocol", "Origin", "Accept"]);
        let of = |name| page.headers().get_all(name).iter().collect::<Vec<_>>();
        assert_eq!(of(header::CONTENT_TYPE), ["text/html; charset=utf-8"]);
        assert_eq!(of(header::RETRY_AFTER), ["7"]);
    }
}
