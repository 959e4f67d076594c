//! `GET info/refs`: the refs of a repository, advertised (`gitprotocol-http(5)`, "Smart Server Response").

use shared::nip34::Coordinate;
use warp::reply::Response;

use crate::http::reply;
use crate::repositories::refs::RefSnapshot;
use crate::site::Readable;
use crate::site::Site;
use wire::path::GitService;
use wire::protocol::ProtocolVersion;

/// Answers with what the repository offers for a service.
pub(crate) async fn info_refs(
    site: &Site,
    coordinate: &Coordinate,
    service: GitService,
    version: ProtocolVersion,
) -> Response {
    let advertise = |refs: &RefSnapshot| match service {
        GitService::UploadPack => site.advertisements.upload_pack(version, refs),
        GitService::ReceivePack => site.advertisements.receive_pack(version, refs),
    };
    let body = match (site.readable(coordinate).await, service) {
        (Readable::OnDisk(refs), _) => advertise(&refs),
        (Readable::Virtual, _) => advertise(&RefSnapshot::empty()),
        // Whoever has the data can push it again, on top of what is here.
        (Readable::Behind(refs), GitService::ReceivePack) => advertise(&refs),
        (Readable::Lost | Readable::Undeclared, GitService::ReceivePack) => advertise(&RefSnapshot::empty()),
        (unreadable, _) => return unreadable.refusal(),
    };
    reply::git(&format!("application/x-{}-advertisement", service.as_str()), body)
}
