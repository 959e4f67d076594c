//! `GET info/refs`: what a repository offers to clients that fetch or push (`gitprotocol-http(5)`, "Discovering
//! References").

use std::net::IpAddr;
use std::sync::Arc;

use shared::nip34::Coordinate;
use warp::http::HeaderMap;
use warp::reply::Response;

use crate::fetch::advertised::Offer;
use crate::fetch::error::UploadPackError;
use crate::fetch::finding::Found;
use crate::fetch::outcome::FetchOutcome;
use crate::fetch::reader::Reader;
use crate::fetch::ref_answer::RefAnswer;
use crate::fetch::sending::FetchAnswer;
use crate::fetch::server::UploadPack;
use crate::fetch::upload_pack::outcome;
use crate::fetch::upload_pack::refusal;
use crate::http::reply;
use wire::path::GitService;
use wire::protocol::ProtocolVersion;

pub(crate) struct InfoRefsRequest<'a> {
    pub(crate) coordinate: &'a Coordinate,
    pub(crate) service: GitService,
    pub(crate) version: ProtocolVersion,
    pub(crate) address: IpAddr,
    /// What the client may have already (`If-None-Match`).
    pub(crate) headers: &'a HeaderMap,
}

/// Answers with what the repository offers for a service, or that the client has it already.
pub(crate) async fn info_refs(reader: &Arc<Reader>, process: &UploadPack, request: &InfoRefsRequest<'_>) -> Response {
    let InfoRefsRequest {
        coordinate,
        service,
        version,
        address,
        headers,
    } = *request;
    let finding = match service {
        GitService::UploadPack => reader.find(coordinate, address).await,
        GitService::ReceivePack => reader.find_to_push(coordinate, address).await,
    };
    let advertised = match (&finding.found, service) {
        // Missing data can be pushed again, on top of the data that is left.
        (Found::Readable { advertised, .. }, _) | (Found::DataMissing(advertised), GitService::ReceivePack) => {
            Arc::clone(advertised)
        }
        (Found::NoState, GitService::ReceivePack) => Arc::clone(reader.nothing()),
        (unreadable, service) => {
            // A path that a client made up is no fetch that fails.
            if service == GitService::UploadPack && !matches!(unreadable, Found::NotHosted) {
                process.outcomes.add(FetchOutcome::Unreadable as usize, 1);
            }
            return unreadable.refusal();
        }
    };
    let haves = match service {
        GitService::UploadPack => Vec::new(),
        GitService::ReceivePack => reader.haves(coordinate, &finding).await,
    };
    let offer = match haves.is_empty() {
        true => advertised.info_refs(service, version),
        false => advertised.to_push(version, haves),
    };
    reader.weigh(coordinate, &finding);
    // It may wait for a slot, and needs no facts any more.
    drop(finding);
    let content_type = match service {
        GitService::UploadPack => "application/x-git-upload-pack-advertisement",
        GitService::ReceivePack => "application/x-git-receive-pack-advertisement",
    };
    let (answer, tag) = match offer {
        Offer::Kept(body) if body.is_known_by(headers) => return reply::git_offer_known(content_type, body.tag),
        Offer::Kept(body) => (RefAnswer::from(body.bytes), Some(body.tag)),
        Offer::Made(answer) => (answer, None),
    };
    let sent = match process.send_refs(address, answer).await {
        // A push depends on no room for fetches: all who push have this one in common.
        Err(UploadPackError::Busy | UploadPackError::GaveWay) if service == GitService::ReceivePack => {
            match advertised.info_refs(service, version) {
                Offer::Kept(body) => Ok(FetchAnswer::Whole(body.bytes)),
                Offer::Made(_) => Err(UploadPackError::Busy),
            }
        }
        sent => sent,
    };
    match sent {
        Ok(FetchAnswer::Whole(bytes)) => reply::git_offer(reply::git(content_type, bytes), tag),
        Ok(FetchAnswer::Streamed { chunks, len }) => {
            reply::git_offer(reply::git_stream(content_type, chunks, len), tag)
        }
        Err(error) => {
            let refused = refusal(&error);
            if service == GitService::UploadPack {
                // The client asks no further.
                process.outcomes.add(outcome(&Err(error)) as usize, 1);
            }
            refused
        }
    }
}
