//! `GET info/refs`: the refs of a repository, advertised (`gitprotocol-http(5)`, "Smart Server Response").

use shared::nip34::Coordinate;
use warp::reply::Response;
use wire::path::GitService;
use wire::protocol::ProtocolVersion;

use crate::fetch::advertise;
use crate::fetch::reader::Found;
use crate::fetch::reader::Reader;
use crate::http::reply;
use crate::repositories::refs::RefSnapshot;

/// Answers with what the repository offers for a service.
pub(crate) async fn info_refs(
    reader: &Reader,
    coordinate: &Coordinate,
    service: GitService,
    version: ProtocolVersion,
) -> Response {
    let advertised = |refs: &RefSnapshot| match service {
        GitService::UploadPack => advertise::upload_pack(version, refs),
        GitService::ReceivePack => advertise::receive_pack(version, refs),
    };
    let body = match (reader.find(coordinate).await, service) {
        // Whoever has missing data can push it again, on top of what is here.
        (Found::Readable { refs, .. }, _) | (Found::DataMissing(refs), GitService::ReceivePack) => advertised(&refs),
        (Found::NoState, GitService::ReceivePack) => advertised(&RefSnapshot::empty()),
        (unreadable, _) => return unreadable.refusal(),
    };
    reply::git(&format!("application/x-{}-advertisement", service.as_str()), body)
}
