//! Which part answers which request: the one place that answers every URL that `wire::path` knows.

use std::convert::Infallible;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::sync::Arc;

use futures_util::Stream;
use hyper::upgrade::OnUpgrade;
use shared::nip34::Coordinate;
use warp::Buf;
use warp::Filter;
use warp::http::HeaderMap;
use warp::http::Method;
use warp::http::StatusCode;
use warp::http::header;
use warp::reply::Response;

use crate::fetch::info_refs::InfoRefsRequest;
use crate::fetch::info_refs::info_refs;
use crate::fetch::reader::Reader;
use crate::fetch::server::UploadPack;
use crate::fetch::upload_pack;
use crate::http::body;
use crate::http::body::has_body;
use crate::http::client_address::TrustedProxies;
use crate::http::connections::ConnectionPermit;
use crate::http::connections::Connections;
use crate::http::large_files;
use crate::http::own_requests::OwnRequests;
use crate::http::reply;
use crate::http::repository_pages::RepositoryPages;
use crate::http::root::Root;
use crate::http::server::Peer;
use crate::http::websocket::WebSockets;
use crate::http::websocket::wants_websocket;
use crate::push;
use crate::push::Pusher;
use wire::path::Endpoint;
use wire::path::GitService;
use wire::path::Target;
use wire::protocol::GitProtocol;
use wire::protocol::ProtocolVersion;

pub(crate) struct Gateway {
    pub(crate) reader: Arc<Reader>,
    pub(crate) upload_pack: UploadPack,
    pub(crate) pusher: Arc<Pusher>,
    pub(crate) websockets: WebSockets,
    pub(crate) connections: Connections,
    pub(crate) root: Root,
    pub(crate) pages: RepositoryPages,
    /// Proxies whose headers about the client's address are believed.
    pub(crate) trusted_proxies: TrustedProxies,
    /// What refuses requests to the relay that come back.
    pub(crate) own_requests: OwnRequests,
}

struct RequestHead {
    method: Method,
    target: Target,
    query: String,
    headers: HeaderMap,
    client: IpAddr,
    /// The share of the connection's address, also once it is a WebSocket.
    connection_permit: Option<Arc<ConnectionPermit>>,
}

/// Returns the server's routes: one filter that takes everything and is sorted by hand, because chains of warp's
/// filters answer a wrong method of one route with the error of another.
pub(crate) fn routes(
    gateway: Arc<Gateway>,
) -> impl Filter<Extract = (Response,), Error = Infallible> + Clone + Send + Sync + 'static {
    let query = warp::query::raw().or(warp::any().map(String::new)).unify();
    warp::method()
        .and(warp::path::full())
        .and(query)
        .and(warp::header::headers_cloned())
        .and(warp::ext::optional::<Peer>())
        .and(warp::ext::optional::<OnUpgrade>())
        .and(warp::body::stream())
        .then(
            move |method, path: warp::path::FullPath, query: String, headers, peer: Option<Peer>, upgrade, body| {
                let gateway = Arc::clone(&gateway);
                let address = peer.as_ref().map(|peer| peer.address.ip());
                let address = address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
                let head = RequestHead {
                    method,
                    target: Target::parse(path.as_str(), &query),
                    query,
                    client: gateway.trusted_proxies.client(address, &headers),
                    headers,
                    connection_permit: peer.and_then(|peer| peer.permit),
                };
                async move {
                    let mut response = answer(gateway, head, upgrade, body).await;
                    reply::allow_all_origins(response.headers_mut());
                    response
                }
            },
        )
        .or_else(|rejection: warp::Rejection| async move { Err(rejection) })
        .recover(|_| async { Ok::<_, Infallible>(reply::text(StatusCode::BAD_REQUEST, "malformed request\n")) })
        .unify()
}

async fn answer(
    gateway: Arc<Gateway>,
    head: RequestHead,
    upgrade: Option<OnUpgrade>,
    body: impl Stream<Item = Result<impl Buf, warp::Error>> + Send + Sync + 'static,
) -> Response {
    // A preflight request of a browser; the answer does not depend on what exists.
    if head.method == Method::OPTIONS {
        return reply::empty(StatusCode::NO_CONTENT);
    }
    if let Some(refused) = gateway.own_requests.refuse(&head.headers) {
        return refused;
    }
    // hyper leaves out the body of an answer to HEAD.
    let reads = matches!(head.method, Method::GET | Method::HEAD);
    match &head.target {
        Target::Root if wants_websocket(&head.headers) => match upgrade {
            // RFC 6455, 4.1: GET, and what follows are frames, no body.
            _ if head.method != Method::GET => method_not_allowed(),
            _ if has_body(&head.headers) => reply::text(
                StatusCode::BAD_REQUEST,
                "a request for a WebSocket must not have a body\n",
            ),
            Some(upgrade) => {
                let permit = head.connection_permit;
                gateway
                    .websockets
                    .pass(&head.headers, head.client, upgrade, permit)
                    .await
            }
            None => reply::text(StatusCode::BAD_REQUEST, "this connection cannot become a WebSocket\n"),
        },
        Target::Root if reads => gateway.root.answer(&head.query, &head.headers).await,
        Target::Repository { coordinate, endpoint } => match endpoint {
            Endpoint::Page if reads => gateway.pages.page(coordinate, head.client, &head.headers).await,
            Endpoint::Releases if reads => gateway.pages.releases(coordinate, head.client, &head.headers).await,
            Endpoint::InfoRefs(service) if reads => {
                let version = protocol(&head.headers).map_or(ProtocolVersion::V0, |protocol| protocol.version());
                let request = InfoRefsRequest {
                    coordinate,
                    service: *service,
                    version,
                    address: head.client,
                    headers: &head.headers,
                };
                let answer = info_refs(&gateway.reader, &gateway.upload_pack, &request).await;
                if *service == GitService::ReceivePack {
                    gateway.pusher.advertised(coordinate, head.client, &answer);
                }
                answer
            }
            // The status of `git http-backend`.
            Endpoint::UnknownService if reads => reply::text(
                StatusCode::FORBIDDEN,
                "unsupported service: this server has git-upload-pack and git-receive-pack, by the smart protocol only\n",
            ),
            Endpoint::Service(service) if head.method == Method::POST => {
                service_request(&gateway, coordinate.clone(), *service, &head, body).await
            }
            Endpoint::LargeFiles => large_files::refuse(&head.headers, body).await,
            Endpoint::Page
            | Endpoint::Releases
            | Endpoint::InfoRefs(_)
            | Endpoint::UnknownService
            | Endpoint::Service(_) => method_not_allowed(),
        },
        Target::Elsewhere { location } if reads => reply::moved(location),
        Target::Root | Target::Elsewhere { .. } => method_not_allowed(),
        Target::Nothing => reply::text(
            StatusCode::NOT_FOUND,
            "there is no such page or repository on this server\n",
        ),
    }
}

async fn service_request(
    gateway: &Gateway,
    coordinate: Coordinate,
    service: GitService,
    head: &RequestHead,
    body: impl Stream<Item = Result<impl Buf, warp::Error>> + Send + Sync + 'static,
) -> Response {
    let (headers, client) = (&head.headers, head.client);
    let expected = format!("application/x-{}-request", service.as_str());
    // This also keeps forms on other sites' pages from being taken for pushes.
    if headers
        .get(header::CONTENT_TYPE)
        .is_none_or(|value| value.as_bytes() != expected.as_bytes())
    {
        return reply::text(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!("Content-Type must be {expected}\n"),
        );
    }
    let body = match body::open(headers, body) {
        Ok(body) => body,
        Err(error) => return reply::text(StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("{error}\n")),
    };
    match service {
        GitService::UploadPack => {
            let (reader, process) = (&gateway.reader, &gateway.upload_pack);
            upload_pack::upload_pack(reader, process, &coordinate, client, protocol(headers), body).await
        }
        GitService::ReceivePack => push::receive_pack(Arc::clone(&gateway.pusher), coordinate, client, body).await,
    }
}

fn protocol(headers: &HeaderMap) -> Option<GitProtocol> {
    GitProtocol::parse(headers.get("git-protocol")?.to_str().ok()?)
}

fn method_not_allowed() -> Response {
    reply::text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n")
}
