//! Answers at `/`: the relay's information document, or the list of hosted repositories.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use warp::http::HeaderMap;
use warp::http::HeaderValue;
use warp::http::StatusCode;
use warp::http::header;
use warp::reply::Reply;
use warp::reply::Response;

use crate::fetch::reader::Reader;
use crate::http::pages::landing::Search;
use crate::http::pages::landing::landing;
use crate::http::relay_info::RelayInfo;
use crate::http::reply;
use crate::http::tagged::TaggedBody;
use crate::repositories::Repositories;

pub(crate) struct Root {
    reader: Arc<Reader>,
    repositories: Repositories,
    relay_info: RelayInfo,
    /// The landing page as most see it, without a search, and which version of the names it shows.
    landing: Mutex<Option<(u64, TaggedBody)>>,
}

impl Root {
    pub(crate) fn new(reader: Arc<Reader>, repositories: Repositories) -> Self {
        Self {
            reader,
            repositories,
            relay_info: RelayInfo::default(),
            landing: Mutex::default(),
        }
    }

    /// Answers `GET /`: the information document for those that accept it (NIP-11), a page for all others.
    pub(super) async fn answer(&self, query: &str, headers: &HeaderMap) -> Response {
        let loader = &self.reader.loader;
        let mut answer = match reply::accepts(headers, RELAY_INFO_TYPE) {
            true => {
                let document = self.relay_info.document(&loader.relay, &loader.access.current()).await;
                reply::with_type(StatusCode::OK, RELAY_INFO_TYPE, document.into_response())
            }
            false => reply::html_tagged(&self.landing(&Search::parse(query)).await, headers),
        };
        answer
            .headers_mut()
            .insert(header::VARY, HeaderValue::from_static("Accept"));
        answer
    }

    async fn landing(&self, search: &Search) -> TaggedBody {
        let (hosted, access) = (self.repositories.hosted(), self.reader.loader.access.current());
        self.repositories.list_permitted(&access).await;
        // Before the page: later changes make it old.
        let version = hosted.version();
        let render = || {
            let page = hosted.page(&search.name, search.page);
            TaggedBody::new(Bytes::from(landing(&self.reader.loader.service, search, &page)))
        };
        if *search != Search::default() {
            return render();
        }
        let mut kept = self.landing.lock();
        if let Some((_, page)) = kept.as_ref().filter(|(shown, _)| *shown == version) {
            return page.clone();
        }
        let page = render();
        *kept = Some((version, page.clone()));
        page
    }
}

/// NIP-11.
const RELAY_INFO_TYPE: &str = "application/nostr+json";
