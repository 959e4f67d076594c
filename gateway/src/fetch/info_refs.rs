//! `GET info/refs`: what a repository offers to clients that fetch or push (`gitprotocol-http(5)`, "Discovering
//! References").

use shared::nip34::Coordinate;
use warp::http::HeaderMap;
use warp::reply::Response;

use crate::fetch::finding::Found;
use crate::fetch::reader::Reader;
use crate::http::reply;
use wire::path::GitService;
use wire::protocol::ProtocolVersion;

/// Answers with what the repository offers for a service, or that the client that sent `headers` has it already.
pub(crate) async fn info_refs(
    reader: &Reader,
    coordinate: &Coordinate,
    service: GitService,
    version: ProtocolVersion,
    headers: &HeaderMap,
) -> Response {
    let finding = match service {
        GitService::UploadPack => reader.find(coordinate).await,
        GitService::ReceivePack => reader.find_to_push(coordinate).await,
    };
    let advertised = match (&finding.found, service) {
        // Missing data can be pushed again, on top of the data that is left.
        (Found::Readable { advertised, .. }, _) | (Found::DataMissing(advertised), GitService::ReceivePack) => {
            advertised
        }
        (Found::NoState, GitService::ReceivePack) => reader.nothing(),
        (unreadable, _) => return unreadable.refusal(),
    };
    let haves = match service {
        GitService::UploadPack => Vec::new(),
        GitService::ReceivePack => reader.haves(coordinate, &finding).await,
    };
    let advertised = match haves.is_empty() {
        true => advertised.info_refs(service, version),
        false => advertised.to_push(version, &haves),
    };
    let content_type = match service {
        GitService::UploadPack => "application/x-git-upload-pack-advertisement",
        GitService::ReceivePack => "application/x-git-receive-pack-advertisement",
    };
    reply::git_tagged(content_type, &advertised, headers)
}
