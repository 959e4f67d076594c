//! What visitors get: the landing page or the relay's information document at `/`, and the page of a repository.

use shared::nip34::Coordinate;
use warp::http::HeaderMap;
use warp::http::StatusCode;
use warp::http::header;
use warp::reply::Reply;
use warp::reply::Response;

use crate::fetch::finding::Found;
use crate::fetch::reader::Reader;
use crate::http::pages;
use crate::http::relay_info::RelayInfo;
use crate::http::reply;

/// Answers `GET /`: the information document for those that accept it (NIP-11), a page for all others.
pub(super) async fn root(reader: &Reader, relay_info: &RelayInfo, headers: &HeaderMap) -> Response {
    let loader = &reader.loader;
    let mut accepts = headers
        .get_all(header::ACCEPT)
        .into_iter()
        .filter_map(|value| value.to_str().ok());
    if accepts.any(|accept| accept.contains(RELAY_INFO_TYPE)) {
        let document = relay_info.document(&loader.relay, &loader.access.current()).await;
        return reply::with_type(StatusCode::OK, RELAY_INFO_TYPE, document.into_response());
    }
    reply::html(StatusCode::OK, pages::landing(&loader.service))
}

/// Answers with the page of a repository, or that the client that sent `headers` has it.
pub(super) async fn page(reader: &Reader, coordinate: &Coordinate, headers: &HeaderMap) -> Response {
    let finding = reader.find(coordinate).await;
    let service = &reader.loader.service;
    if let Found::DataMissing(_) | Found::NoState = finding.found {
        let (status, text) = finding.found.refusal_text();
        return reply::html(status, pages::unavailable(service, text));
    }
    let Some(facts) = &finding.facts else {
        let text = "the relay or Redis does not answer: try again later";
        return reply::html(StatusCode::SERVICE_UNAVAILABLE, pages::unavailable(service, text));
    };
    match finding.page(facts, |facts| pages::repository::repository(coordinate, facts)) {
        Some(page) => reply::html_tagged(page, headers),
        None => reply::html(StatusCode::NOT_FOUND, pages::not_found(service)),
    }
}

/// NIP-11.
const RELAY_INFO_TYPE: &str = "application/nostr+json";
